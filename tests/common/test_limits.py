"""common.limits: what a host may send follows from its account limit by the reference relay's formulas."""

from __future__ import annotations

import pytest

from common.limits import event_limits, is_trusted


@pytest.mark.parametrize(
    ("account_limit", "limits"),
    [
        pytest.param(0, (50, 2_500, 20_000), id="that may have no accounts"),
        pytest.param(100, (50, 2_600, 21_000), id="as it is added"),
        pytest.param(999, (50, 3_499, 29_990), id="below a thousand"),
        pytest.param(1_000, (51, 3_500, 30_000), id="of a thousand"),
        pytest.param(250_000, (300, 252_500, 2_520_000), id="of a quarter of a million"),
    ],
)
def test_a_hosts_limits_follow_from_its_accounts(
    account_limit: int, limits: tuple[int, int, int]
) -> None:
    """S-RAT-05."""
    assert event_limits(account_limit, trusted=False) == limits
    assert event_limits(account_limit, trusted=True) == (5_000, 50_000_000, 500_000_000)


@pytest.mark.parametrize("trusted", [False, True])
def test_each_may_be_set_by_itself_to_nothing_too(trusted: bool) -> None:
    second, hour, day = event_limits(100, trusted=trusted)
    assert event_limits(100, trusted=trusted, per_second=0) == (0, hour, day)
    assert event_limits(100, trusted=trusted, per_hour=0) == (second, 0, day)
    assert event_limits(100, trusted=trusted, per_day=7) == (second, hour, 7)


@pytest.mark.parametrize(
    ("hostname", "is_one"),
    [
        ("morel.host.example", True), ("a.b.host.example", True), ("host.example", False),
        ("evilhost.example", False), ("one.test", True), ("sub.one.test", False),
        ("host.example.org", False),
    ],
)  # fmt: skip
def test_a_trusted_domain_is_a_name_or_all_below_one(hostname: str, is_one: bool) -> None:
    assert is_trusted(hostname, ["*.Host.example", "one.test"]) is is_one
    assert is_trusted(hostname, ["*"])
    assert not is_trusted(hostname, [])
