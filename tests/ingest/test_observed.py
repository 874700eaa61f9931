"""What is told of a host, and how seldom."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from common.syntax import tid_time_s
from common.verdict import Level
from ingest.account import Feed
from ingest.hosts import HostRow
from ingest.judge import Source
from ingest.lifecycle import Delays, Lifecycle, Signal
from ingest.observed import (
    SELDOM_S,
    Observed,
    Seen,
    newest_rev_of,
    observe,
    standing_of,
)

NOW_S, LOOP_S, WALL_S = 1_000.0, 50.0, 1_700_000_000.0


@dataclass
class Played:
    """A host, without its connection."""

    number: int = 1
    last_error: str | None = None
    connected: bool = False
    seen: Seen = field(default_factory=lambda: Seen(0))
    life: Lifecycle = field(default_factory=lambda: Lifecycle(Delays(), Random(1)))

    def __post_init__(self) -> None:
        self.feed = Feed(Source(self.number, f"h{self.number}.example", Level.ENFORCE), 1, 0, 7)


def changed(told: Observed, hosts: list[Played], after_s: float) -> list[int]:
    now_s = NOW_S + after_s, LOOP_S + after_s, WALL_S + after_s
    return [seen.host for seen in told.changed(hosts, *now_s)]


def test_numbers_are_told_seldom_and_news_at_once() -> None:
    hosts, told = [Played(number) for number in range(1, 2001)], Observed()
    assert len(changed(told, hosts, 0.0)) == 2000
    sent = 0
    for second in range(1, 31):
        for host in hosts:
            host.seen.read(3, WALL_S + second)
        sent += len(changed(told, hosts, float(second)))
    assert sent == 2000 * 3, "each in ten seconds"
    hosts[7].connected = True
    assert changed(told, hosts, 30.5) == [8]
    hosts[9].last_error = "gone"
    assert changed(told, hosts, 30.6) == [10]
    assert changed(told, hosts, 30.7) == []


def test_with_few_hosts_numbers_are_told_each_second() -> None:
    host, told = Played(), Observed()
    assert changed(told, [host], 0.0) == [1]
    host.seen.read(1, WALL_S + 0.5)
    assert changed(told, [host], 0.5) == []
    assert changed(told, [host], 1.0) == [1]
    assert changed(told, [host], 1.0 + SELDOM_S) == [], "nothing new"


def test_a_host_that_waits_tells_when_it_is_dialled_next_and_does_not_waver() -> None:
    host, told = Played(last_error="TCP: timed out"), Observed()
    for _ in range(12):
        host.life.on(Signal.DUE, LOOP_S)
        host.life.on(Signal.ALLOWED, LOOP_S)
        host.life.on(Signal.FAILED, LOOP_S)
    seen = told.changed([host], NOW_S, LOOP_S, WALL_S)[0]
    assert (seen.status, seen.error, seen.failures) == ("offline", "TCP: timed out", 12)
    wait_s = host.life.next_dial_s - LOOP_S
    assert abs(seen.next_dial_us / 1e6 - (WALL_S + wait_s)) < 0.01
    # The clocks drift by microseconds, and are read one after the other.
    assert told.changed([host], NOW_S + 5, LOOP_S + 5.0001, WALL_S + 5.0003) == []
    host.life.on(Signal.DUE, LOOP_S)
    assert told.changed([host], NOW_S + 6, LOOP_S + 6, WALL_S + 6)[0].next_dial_us == 0


def test_a_host_over_its_quota_for_longer_is_throttled_and_a_moment_is_not() -> None:
    for why, left_s, status in (
        ("hour", 60.0, "throttled"), ("second", 0.5, "active"), ("catch_up", 60.0, "active"),
    ):  # fmt: skip
        host = Played(connected=True)
        for signal in (Signal.ALLOWED, Signal.OPENED, Signal.PROGRESS):
            host.life.on(signal, LOOP_S)
        host.feed.limited_by, host.feed.limited_until_s = why, NOW_S + left_s
        seen = observe(host, NOW_S, WALL_S - LOOP_S, WALL_S - NOW_S)
        assert (seen.status, seen.limited_by) == (status, why)
        assert abs(seen.limited_until_us / 1e6 - WALL_S - left_s) < 0.01


def test_what_the_row_says_of_a_host_is_where_it_begins() -> None:
    row = HostRow(1, "a.example", True, 1, 5, accounts=3, events=9, restarts=2,
                  last_event_us=int((WALL_S - 100) * 1e6))  # fmt: skip
    standing = standing_of(row, LOOP_S, WALL_S)
    assert standing.alive_s == LOOP_S - 100
    assert standing.restarts == 2
    assert standing.size > standing_of(row._replace(accounts=2, events=10**12), 0.0, 0.0).size
    assert standing.size > standing_of(row._replace(events=8), 0.0, 0.0).size
    assert WALL_S - 100 < tid_time_s(newest_rev_of(row)) < WALL_S
    for was, now in (
        ("active", "active"), ("throttled", "active"), ("offline", "offline"), ("banned", "idle"),
    ):  # fmt: skip
        assert standing_of(row._replace(observed=was), LOOP_S, WALL_S).state == now
    never = row._replace(last_event_us=0)
    assert standing_of(never, LOOP_S, WALL_S).alive_s is None
    assert newest_rev_of(never) == ""


def test_how_much_of_what_a_host_says_is_of_others_is_told() -> None:
    host = Played()
    for number in range(400):
        if number % 4:
            host.feed.foreign.dropped()
        host.feed.foreign.ended()
    assert observe(host, NOW_S, WALL_S, WALL_S).foreign_percent == 75
