"""broadcast.admin_gate: wrong passwords cost, and keep nobody out who knows it."""

from __future__ import annotations

from broadcast.admin_gate import OF_ADDRESS, OF_ALL, Gate
from common.rates import Rate


def attempts(gate: Gate, address: str, now_s: float, tries: int) -> int:
    """How many of some wrong passwords are looked at."""
    looked_at = 0
    for _ in range(tries):
        if gate.may_try(address, now_s) == 0:
            looked_at += 1
            gate.wrong(address, now_s)
    return looked_at


def test_ten_thousand_wrong_passwords_are_looked_at_ten_times() -> None:
    gate = Gate()
    assert attempts(gate, "192.0.2.7", 0.0, 10_000) == OF_ADDRESS.burst
    assert gate.may_try("192.0.2.7", 0.0) == OF_ADDRESS.every_s
    assert gate.may_try("192.0.2.8", 0.0) == 0
    assert attempts(gate, "192.0.2.7", OF_ADDRESS.every_s * 2, 10_000) == 2


def test_an_hour_of_trying_gains_two_a_minute() -> None:
    gate = Gate()
    looked_at = sum(attempts(gate, "192.0.2.7", float(now_s), 10) for now_s in range(3600))
    assert looked_at <= OF_ADDRESS.burst + 3600 / OF_ADDRESS.every_s


def test_a_neighbour_in_one_customers_network_is_the_same() -> None:
    gate = Gate()
    attempts(gate, "2001:db8::1", 0.0, 10_000)
    assert gate.may_try("2001:db8::2", 0.0) > 0
    assert gate.may_try("2001:db8:0:1::2", 0.0) == 0


def test_many_addresses_have_one_try_each_and_a_new_one_is_always_looked_at() -> None:
    gate = Gate(of_all=Rate(burst=100, every_s=1.0))
    for number in range(10_000):
        address = f"10.0.{number >> 8}.{number & 255}"
        looked_at = attempts(gate, address, 0.0, 5)
        assert looked_at == (5 if number < 20 else 1), address
    assert gate.may_try("192.0.2.7", 0.0) == 0


def test_an_attack_that_is_over_is_over() -> None:
    """An operator who was wrong once in the middle of it waits seconds, not days."""
    gate = Gate()
    for number in range(20_000):
        attempts(gate, f"10.0.{number >> 8}.{number & 255}", 0.0, 1)
    gate.wrong("192.0.2.7", 0.0)
    assert 0 < gate.may_try("192.0.2.7", 0.0) <= OF_ALL.every_s
    assert gate.may_try("192.0.2.7", 2.0) == 0


def test_what_is_remembered_is_bounded() -> None:
    gate = Gate()
    for number in range(60_000):
        gate.wrong(f"10.{number >> 16}.{(number >> 8) & 255}.{number & 255}", 0.0)
    assert len(gate._seen) <= 50_000
    gate.wrong("192.0.2.7", 10_000.0)
    assert list(gate._seen) == ["192.0.2.7"]
