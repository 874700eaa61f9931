"""How long to wait before the next attempt?

Doubling, with jitter, so that many that failed together do not come back together. It begins anew
only after real progress, which the caller names; a connection that opens is none.
"""

from __future__ import annotations

from random import Random


class Backoff:
    """Delays of one series of attempts, in seconds."""

    __slots__ = ("_failures", "_first_s", "_longest_s", "_random")

    def __init__(self, first_s: float, longest_s: float, random: Random) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._random = random
        self._failures = 0

    @property
    def failures(self) -> int:
        """Attempts that failed since the last progress."""
        return self._failures

    def next_s(self) -> float:
        """An attempt failed → how long to wait: between half and all of the doubled delay."""
        delay_s = min(self._longest_s, self._first_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return delay_s * (0.5 + 0.5 * self._random.random())

    def progress(self) -> None:
        """Something was achieved; the next delay is the first one again."""
        self._failures = 0
