"""A host's buckets: never more than they hold and get back, and never less when there is demand."""

from __future__ import annotations

from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.limits import TRUSTED, EventLimits, event_limits
from common.rates import Buckets, Rate
from ingest.limiter import LONGEST_S, Limiter

NOW_S = 1_784_000_000.0
WINDOWS_S = (1.0, 3600.0, 86_400.0)

limits = st.builds(EventLimits, st.integers(1, 200), st.integers(1, 5_000), st.integers(1, 50_000))
steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.001, 0.02, 0.3, 1.0, 7.0, 600.0, 100_000.0]), st.integers(0, 400)
    ),
    min_size=1,
    max_size=60,
)


class Plain:
    """The buckets as one would write them first: all of them filled up at each look."""

    def __init__(self, of: EventLimits) -> None:
        self.limits = of
        self.tokens = [float(limit) for limit in of]

    def pass_s(self, seconds: float) -> None:
        for at, (limit, window_s) in enumerate(zip(self.limits, WINDOWS_S, strict=True)):
            self.tokens[at] = min(limit, self.tokens[at] + seconds * limit / window_s)

    def take(self, messages: int) -> int:
        taken = min(messages, max(0, floor(min(self.tokens) + 1e-3)))
        self.tokens = [tokens - taken for tokens in self.tokens]
        return taken


def most(of: EventLimits, seconds: float) -> float:
    """What may be taken within so many seconds."""
    return min(limit + seconds * limit / w for limit, w in zip(of, WINDOWS_S, strict=True))


@given(limits, steps)
def test_no_stretch_of_time_has_more_than_the_limit_and_its_share_of_it(
    of: EventLimits, demands: list[tuple[float, int]]
) -> None:
    limiter, now_s = Limiter(of), NOW_S
    taken: list[tuple[float, int]] = []
    for seconds, wanted in demands:
        now_s += seconds
        taken.append((now_s, limiter.take(wanted, now_s)))
    for first in range(len(taken)):
        total = 0
        for at_s, count in taken[first:]:
            total += count
            assert total <= most(of, at_s - taken[first][0]) + 0.01


@given(limits, steps)
def test_with_demand_no_token_is_lost(of: EventLimits, demands: list[tuple[float, int]]) -> None:
    limiter, plain, now_s = Limiter(of), Plain(of), NOW_S
    limiter.take(0, now_s)
    ours = theirs = 0
    for seconds, wanted in demands:
        now_s += seconds
        plain.pass_s(seconds)
        ours += limiter.take(wanted, now_s)
        theirs += plain.take(wanted)
    # The long windows are looked at once a second: what a full one gets back until then is not there.
    _, hour, day = of
    assert ours >= theirs - 2 - len(demands) * max(hour / 3600, day / 86_400)
    assert ours <= theirs + 2 + len(demands) * max(hour / 3600, day / 86_400)


@given(limits, st.integers(1, 20))
def test_who_waits_as_long_as_told_can_go_on_and_gets_all_that_has_come_back(
    of: EventLimits, rounds: int
) -> None:
    limiter, now_s, total = Limiter(of), NOW_S, 0
    for _ in range(rounds):
        total += limiter.take(10**9, now_s)
        wait = limiter.wait(now_s)
        assert wait.until_s > now_s
        now_s = wait.until_s
        assert limiter.take(1, now_s) == 1
        limiter.give_back(1)
    total += limiter.take(10**9, now_s)
    # With demand all the time it has had all that there was, but for parts of tokens.
    assert total >= most(of, now_s - NOW_S) - 3
    assert limiter.wait(now_s).why in {"second", "hour", "day"}


@given(limits)
def test_where_time_stands_still_there_is_one_bucketful_and_after_a_leap_one_more(
    of: EventLimits,
) -> None:
    limiter = Limiter(of)
    assert sum(limiter.take(7, NOW_S) for _ in range(1_000)) == min(of)
    # A clock that goes back, which none should, gives nothing either.
    assert limiter.take(7, NOW_S - 1000) == 0
    leap_s = NOW_S + 10 * 365 * 86_400.0
    assert sum(limiter.take(7, leap_s) for _ in range(1_000)) == min(of)


@given(limits, limits, st.integers(0, 60_000))
def test_what_was_used_stays_used_when_the_limits_change(
    before: EventLimits, after: EventLimits, wanted: int
) -> None:
    limiter = Limiter(before)
    used = limiter.take(wanted, NOW_S)
    assert limiter.set(after, NOW_S) is (before != after)
    more = limiter.take(10**9, NOW_S)
    assert more == min(max(0, limit - used) for limit in after)
    # Who had used more than now there is does not pay for it: one bucketful is the most to wait for.
    wait_s = limiter.wait(NOW_S).until_s - NOW_S
    part_s = max(60.0, 300.0)
    assert (
        wait_s
        <= max(part_s, *(w / limit for limit, w in zip(after, WINDOWS_S, strict=True))) + 0.01
    )


@given(steps, st.lists(limits, min_size=1, max_size=5))
def test_changing_limits_gives_nobody_more_than_the_highest_of_them(
    demands: list[tuple[float, int]], changes: list[EventLimits]
) -> None:
    highest = EventLimits(*(max(column) for column in zip(*changes, strict=True)))
    limiter, now_s, total, forgiven = Limiter(changes[0]), NOW_S, 0, 0
    before = changes[0]
    for number, (seconds, wanted) in enumerate(demands):
        now_s += seconds
        after = changes[number % len(changes)]
        limiter.set(after, now_s)
        # With limits that are lowered, nobody pays for what they were.
        forgiven += max(0, *(was - now for was, now in zip(before, after, strict=True)))
        before = after
        total += limiter.take(wanted, now_s)
    assert total <= most(highest, now_s - NOW_S) + forgiven + 0.01


def test_who_has_used_up_the_day_goes_on_at_a_days_pace() -> None:
    limiter = Limiter(event_limits(100, trusted=False))
    now_s, total = NOW_S, 0
    while now_s < NOW_S + 86_400.0:
        total += limiter.take(10_000, now_s)
        wait = limiter.wait(now_s)
        now_s = wait.until_s
    assert wait.why == "day"
    assert 41_800 <= total <= 42_000
    # From here on it is the limit of a day in each day, and no stretch of it stands still.
    waits, rest = 0, 0
    while now_s < NOW_S + 2 * 86_400.0:
        rest += limiter.take(10_000, now_s)
        until_s, why = limiter.wait(now_s)
        assert until_s - now_s <= 300.001
        now_s, waits = until_s, waits + (why == "day")
    assert 20_900 <= rest <= 21_100
    assert waits <= 86_400 / 300 + 1


@pytest.mark.parametrize("window", [0, 1, 2])
def test_a_limit_of_nothing_lets_nothing_pass_and_has_an_end_to_show(window: int) -> None:
    limiter = Limiter(TRUSTED._replace(**{TRUSTED._fields[window]: 0}))
    assert limiter.take(5, NOW_S) == 0
    assert limiter.take(5, NOW_S + 90_000) == 0
    assert limiter.wait(NOW_S + 90_000).until_s == NOW_S + 90_000 + LONGEST_S


def test_more_than_there_was_room_for_is_waited_for_by_the_next() -> None:
    limiter = Limiter(EventLimits(10, 1_000, 10_000))
    limiter.take(10, NOW_S)
    limiter.spend(10)
    assert limiter.take(1, NOW_S + 1.0) == 0
    assert limiter.take(10, NOW_S + 2.0) == 10
    limiter.give_back(4)
    assert limiter.take(10, NOW_S + 2.0) == 4
    # Nothing comes of giving back what nobody took.
    limiter.give_back(1_000)
    assert limiter.take(100, NOW_S + 2.0) == 10


def test_half_of_each_window_is_kept_for_others() -> None:
    limiter = Limiter(EventLimits(10, 100, 1_000))
    limiter.take(5, NOW_S)
    assert limiter.spare_s(NOW_S, long=True) == 0
    limiter.take(1, NOW_S)
    assert limiter.spare_s(NOW_S, long=False) == pytest.approx(0.1)
    now_s = NOW_S
    while limiter.spare_s(now_s, long=True) < 2:
        now_s += 1.0
        limiter.take(5, now_s)
    # The hour's half is used up, the second's is not.
    assert limiter.spare_s(now_s + 1.0, long=False) == 0
    assert limiter.spare_s(now_s + 1.0, long=True) > 1


# --- buckets of other things ---

rates = st.builds(Rate, st.integers(1, 20), st.sampled_from([0.01, 0.5, 10.0]))
pauses = st.lists(st.sampled_from([0.0, 0.001, 0.2, 3.0, 50.0]), min_size=1, max_size=60)


@given(rates, pauses)
def test_a_bucket_gives_no_more_than_its_burst_and_its_rate_and_loses_no_token(
    rate: Rate, seconds: list[float]
) -> None:
    buckets, now_s = Buckets(rate), NOW_S
    given_s: list[float] = []
    for passed_s in seconds:
        now_s += passed_s
        given_s.append(buckets.take("one", now_s))
        assert given_s[-1] >= now_s
        # Those that wait are served in the order in which they came.
        assert given_s == sorted(given_s)
    for earlier, later in zip(given_s, given_s[rate.burst :], strict=False):
        assert later - earlier >= rate.every_s * (1 - 1e-4) - 1e-6
    # No token is lost: who waits does so because the last `burst` before were all taken in time.
    for at, (given_at_s, came_s) in enumerate(zip(given_s, _times(seconds), strict=True)):
        if given_at_s > came_s:
            assert at >= rate.burst


def _times(seconds: list[float]) -> list[float]:
    now_s, times = NOW_S, []
    for passed_s in seconds:
        now_s += passed_s
        times.append(now_s)
    return times
