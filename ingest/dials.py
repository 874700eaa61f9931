"""Whose turn is it to be dialled?

    asked for ─┐
    first time ┼─▶ one line ─▶ so many a second, so many under way ─▶ allowed
    again     ─┘

Who is asked for (an operator, requestCrawl) comes first; then who was connected to another process until a
moment ago, and faster, as he waits for us alone and comes with few; then who was never dialled, the largest first, so
that a cold start has most of the events back soonest; then the others, in the order of their coming.
The rate is that of all processes together, each has its part of it.

Values and `now_s` in, values out: no loop, no clock. Source: lessons 16 and 43.
"""

from __future__ import annotations

from enum import IntEnum
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Final

MOVED_FASTER: Final = 4.0
"""Hosts that move are dialled so many times as fast, and by each process: 200 a second of them, so that
eight shards of the whole network have moved within two seconds."""
AT_ONCE: Final = 200
"""Dials under way in one process: as many as 50 a second make that all take four seconds."""
JITTER: Final = 0.2
"""A pause between two dials is up to so much longer than the rate says."""
BEHIND_S: Final = 0.1
"""A caller that comes late makes up for so much, in seconds; for the rest the rate is as good as lost."""


class Urgency(IntEnum):
    """Who comes first."""

    ASKED = 0
    MOVED = 1
    FIRST = 2
    AGAIN = 3


_BY_SIZE: Final = (Urgency.MOVED, Urgency.FIRST)


class Dials:
    """The line of one process. Hosts are named by their numbers."""

    def __init__(self, a_second: float, random: Random, at_once: int = AT_ONCE) -> None:
        """Args: a_second: in all processes together. at_once: in this one."""
        self._pause_s = 1.0 / a_second
        self._random = random
        self._at_once = at_once
        self._numbers = count()
        self._line: list[tuple[int, int, int, int]] = []
        self._places: dict[int, int] = {}
        """Who waits → the entry that counts; others of his are passed over."""
        self._under_way: set[int] = set()
        self._next_s = 0.0

    @property
    def waiting(self) -> int:
        """Hosts in the line."""
        return len(self._places)

    @property
    def under_way(self) -> int:
        """Hosts that are being dialled."""
        return len(self._under_way)

    def ask(self, host: int, urgency: Urgency, size: int = 0) -> None:
        """Get in line, or to another place of it. size: of those dialled first, the largest come first."""
        number = self._places[host] = next(self._numbers)
        heappush(self._line, (urgency, -size if urgency in _BY_SIZE else 0, number, host))

    def leave(self, host: int) -> None:
        """Wait no longer, and be dialled no longer."""
        self._places.pop(host, None)
        self._under_way.discard(host)

    def due_s(self) -> float | None:
        """When `take` gives somebody, as things stand; None: nobody waits, or too many are under way."""
        if not self._places or len(self._under_way) >= self._at_once:
            return None
        return self._next_s

    def take(self, now_s: float, members: int = 1) -> int | None:
        """The next one that may be dialled, who must `leave` when he is connected or not.

        Args: members: processes that dial.
        """
        due_s = self.due_s()
        if due_s is None or now_s < due_s:
            return None
        while True:
            urgency, _size, number, host = heappop(self._line)
            if self._places.get(host) == number:
                break
        del self._places[host]
        self._under_way.add(host)
        share = 1 / MOVED_FASTER if urgency == Urgency.MOVED else max(1, members)
        pause_s = self._pause_s * share * (1.0 + JITTER * self._random.random())
        self._next_s = max(due_s, now_s - BEHIND_S) + pause_s
        return host
