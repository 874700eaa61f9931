"""What is told of the hosts, and how often?

What an operator acts on is told at once: state, error, connection, next dial. What changes with every
event is told every few seconds, the less often the more hosts there are: persist writes a row for each.

Source: the columns of the table `host`; S-HST-01.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import Final, NamedTuple, Protocol

from common.envelope import HostObservation
from common.syntax import tid_text
from ingest.account import Feed
from ingest.hosts import HostRow
from ingest.lifecycle import Lifecycle, Phase, State

OFTEN_S: Final = 1.0
SELDOM_S: Final = 10.0
"""How often the numbers of one host are told, in seconds: the first with few hosts."""
TOLD_A_SECOND: Final = 70.0
"""The numbers of so many hosts in a process, until SELDOM_S is reached."""
THROTTLED_S: Final = 5.0
"""A host that is over a quota for so much longer counts as throttled, in seconds; short pauses are none."""
CLOCKS_S: Final = 60.0
"""How far a host's clock may be ahead of ours, in seconds, for what was read before us."""
QUOTAS: Final = ("second", "hour", "day")
"""What in `limited_by` is a quota of the host."""
LONG_QUOTAS: Final = QUOTAS[1:]
"""Who has used up one of these is throttled, though some of what he says is read every few minutes."""


class Standing(NamedTuple):
    """What was known of a host when it began to be read.

    size: who is larger is dialled first. alive_s: when it was last heard, by the loop's clock; None:
    never. restarts: how often its numbers have begun anew. state: it was seen in last.
    """

    size: int = 0
    alive_s: float | None = None
    restarts: int = 0
    state: State = State.IDLE


STRANGER: Final = Standing()


def standing_of(row: HostRow, loop_s: float, wall_s: float) -> Standing:
    """What the row of a host says. loop_s, wall_s: of one moment."""
    alive_s = loop_s - (wall_s - row.last_event_us / 1e6) if row.last_event_us else None
    # By its accounts, then by what it sent.
    size = row.accounts << 40 | min(row.events, (1 << 40) - 1)
    return Standing(size, alive_s, row.restarts, _STATES.get(row.observed, State.IDLE))


_STATES: Final = {
    "active": State.ACTIVE, "throttled": State.ACTIVE, "offline": State.OFFLINE,
}  # fmt: skip
"""What a host is taken for until it is seen: a restart of ours is no news of it."""


def newest_rev_of(row: HostRow) -> str:
    """No rev that was read of a host is newer, but for its clock; empty where none is known."""
    return tid_text(int(row.last_event_us + CLOCKS_S * 1e6) << 10) if row.last_event_us else ""


class Seen:
    """Numbers of one host since it began to be read. Times are Unix microseconds, 0 for never."""

    __slots__ = ("changed_us", "events", "last_event_us", "restarts")

    def __init__(self, restarts: int) -> None:
        self.changed_us = 0
        self.events = 0
        self.last_event_us = 0
        self.restarts = restarts

    def change(self, wall_s: float) -> None:
        """It was connected, or disconnected."""
        self.changed_us = int(wall_s * 1e6)

    def read(self, messages: int, wall_s: float) -> None:
        """Messages of it have come."""
        self.events += messages
        self.last_event_us = int(wall_s * 1e6)


class Host(Protocol):
    """A host as this module sees it; see ingest.subscription."""

    feed: Feed
    life: Lifecycle
    seen: Seen
    last_error: str | None

    @property
    def connected(self) -> bool:
        """Whether its connection stands."""


class _Told(NamedTuple):
    """What was told of a host last, and when."""

    seen: HostObservation
    at_s: float


class Observed:
    """What has been told of the hosts of one process."""

    def __init__(self) -> None:
        """Nothing was told."""
        self._told: dict[int, _Told] = {}

    def forget(self, host: int) -> None:
        """A host is read no longer, or anew."""
        self._told.pop(host, None)

    def changed(
        self, hosts: Iterable[Host], now_s: float, loop_s: float, wall_s: float
    ) -> list[HostObservation]:
        """What is to be told now.

        Args: now_s: steady. loop_s: the clock of `next_dial_s`. wall_s: Unix seconds. All of one moment.
        """
        wait_s = min(SELDOM_S, max(OFTEN_S, len(self._told) / TOLD_A_SECOND))
        found = []
        for host in hosts:
            told = self._told.get(host.feed.source.host)
            seen = observe(host, now_s, wall_s - loop_s, wall_s - now_s, told and told.seen)
            if told is None or (
                told.seen != seen and (now_s - told.at_s >= wait_s or _is_news(told.seen, seen))
            ):
                self._told[seen.host] = _Told(seen, now_s)
                found.append(seen)
        return found


def observe(
    host: Host,
    now_s: float,
    loop_epoch_s: float,
    steady_epoch_s: float,
    before: HostObservation | None = None,
) -> HostObservation:
    """What is to be told of one host. before: its last; times that are the same but for rounding stay."""
    life, feed = host.life, host.feed
    limited_by: str | None = getattr(feed, "limited_by", None)
    until_s: float = getattr(feed, "limited_until_s", 0.0) if limited_by is not None else 0.0
    life.limited = limited_by in LONG_QUOTAS or (
        limited_by in QUOTAS and until_s - now_s >= THROTTLED_S
    )
    next_us = 0
    if life.phase is Phase.WAITING and isfinite(life.next_dial_s):
        next_us = int((loop_epoch_s + life.next_dial_s) * 1e6)
        if before is not None and abs(before.next_dial_us - next_us) < 1_000_000:
            next_us = before.next_dial_us
    return HostObservation(
        feed.source.host,
        life.observed.value,
        host.last_error,
        connected=host.connected,
        changed_us=host.seen.changed_us,
        failures=life.failures,
        next_dial_us=next_us,
        last_event_us=host.seen.last_event_us,
        last_seq=feed.upstream.last_seq,
        events=host.seen.events,
        limited_by=limited_by,
        limited_until_us=int((steady_epoch_s + until_s) * 1e6) if until_s else 0,
        restarts=host.seen.restarts,
        slowed=len(feed.slowed),
        foreign_percent=feed.foreign.percent,
    )


def _is_news(told: HostObservation, seen: HostObservation) -> bool:
    """Whether more has changed than numbers that rise with every event."""
    return told[:7] != seen[:7] or told.restarts != seen.restarts
