"""Buckets: when is a token there, and what do they cost?"""

from __future__ import annotations

from random import Random

from common.envelope import Kind
from common.rates import Buckets, EventRates, Rate
from ingest.config import ACCOUNT_RATES, HOST_RATES

NOW_S = 1_784_000_000.0


def test_a_full_bucket_gives_its_burst_at_once_and_then_one_each_time() -> None:
    buckets = Buckets(Rate(burst=3, every_s=10.0))
    assert [buckets.take("a", NOW_S) - NOW_S for _ in range(6)] == [0, 0, 0, 10, 20, 30]


def test_a_token_comes_back_with_time_and_never_more_than_the_burst() -> None:
    buckets = Buckets(Rate(burst=3, every_s=10.0))
    for _ in range(3):
        buckets.take("a", NOW_S)
    assert buckets.take("a", NOW_S + 10) == NOW_S + 10
    assert buckets.take("a", NOW_S + 10) == NOW_S + 20
    later_s = NOW_S + 10_000
    assert [buckets.take("a", later_s) - later_s for _ in range(4)] == [0, 0, 0, 10]


def test_one_bucket_costs_the_others_nothing() -> None:
    buckets = Buckets(Rate(burst=1, every_s=10.0))
    for _ in range(100):
        buckets.take("a", NOW_S)
    assert buckets.take("b", NOW_S) == NOW_S


def test_a_token_that_is_given_back_is_there_for_the_next() -> None:
    buckets = Buckets(Rate(burst=1, every_s=10.0))
    buckets.take("a", NOW_S)
    for _ in range(50):
        assert buckets.take("a", NOW_S) == NOW_S + 10
        buckets.give_back("a")
    assert buckets.take("a", NOW_S) == NOW_S + 10
    buckets.give_back("nobody")
    assert len(buckets) == 1


def test_full_buckets_are_forgotten_and_others_only_at_the_bound() -> None:
    buckets = Buckets(Rate(burst=2, every_s=10.0), limit=100)
    for number in range(1_000):
        # Each is full again before the next comes.
        assert buckets.take(number, NOW_S + 11 * number) == NOW_S + 11 * number
        assert len(buckets) <= 3
    for number in range(1_000):
        buckets.take(("flood", number), NOW_S + 20_000)
        assert len(buckets) <= 101


def test_in_any_order_no_bucket_gives_more_than_its_rate() -> None:
    rng = Random(5)
    rate = Rate(burst=4, every_s=2.0)
    buckets, given, now_s = Buckets(rate), list[float](), NOW_S
    for _ in range(2_000):
        now_s += rng.choice([0.0, 0.0, 0.1, 1.0, 30.0])
        given.append(buckets.take("a", now_s))
        if rng.random() < 0.1:
            given.pop()
            buckets.give_back("a")
    given.sort()
    for earlier, later in zip(given, given[rate.burst :], strict=False):
        assert later - earlier >= rate.every_s - 1e-6


def test_an_event_needs_a_token_of_its_account_and_one_of_its_host() -> None:
    one, host = Rate(burst=2, every_s=10.0), Rate(burst=3, every_s=1.0)
    rates = EventRates({Kind.SYNC: one}, {Kind.SYNC: host})
    waits = [rates.take(Kind.SYNC, "did:a", 1, NOW_S) - NOW_S for _ in range(3)]
    assert waits == [0, 0, 10]
    assert rates.take(Kind.SYNC, "did:b", 1, NOW_S) == NOW_S + 1
    assert rates.take(Kind.SYNC, "did:a", 2, NOW_S) == NOW_S
    rates.give_back(Kind.SYNC, "did:b", 1)
    assert rates.take(Kind.SYNC, "did:c", 1, NOW_S) == NOW_S + 1


def test_the_rates_bear_what_honest_accounts_say_many_times_over() -> None:
    """A migration, the wordiest change: 2 #identity, 1 #account, 1 #sync; ten of them at once."""
    rates = EventRates(ACCOUNT_RATES, HOST_RATES)
    for _ in range(10):
        for kind in (Kind.IDENTITY, Kind.ACCOUNT, Kind.IDENTITY, Kind.SYNC):
            assert rates.take(kind, "did:a", 1, NOW_S) == NOW_S
    for number in range(1_500):
        for kind in (Kind.IDENTITY, Kind.ACCOUNT, Kind.SYNC):
            assert rates.take(kind, f"did:{number}", 1, NOW_S) == NOW_S
