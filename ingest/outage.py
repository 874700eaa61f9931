"""Who is asked again when the directory is back, and in which order?

    hold ─▶ (while the directory fails as a whole) ─▶ release: the oldest first, a few for each answer

Each question that waited for its own back-off instead would wait up to a minute after everybody
could be told; all of them at once would bring the directory down again. So each answer lets two more
go, which doubles them as quickly as the directory answers, and stops when it stops.

What was let go and failed again comes after all that has not been tried since: a few DIDs that never
can be told stand in nobody's way. No I/O, no clock.

Source: S-IDN-10; lesson 9.
"""

from __future__ import annotations

import heapq
from typing import Final

FOR_EACH_ANSWER: Final = 2
"""Questions let go for each that was answered: as many again are asked soon after."""


class Outage:
    """The questions that wait for the directory."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, int]] = {}
        self._order: list[tuple[int, int, str]] = []

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, did: object) -> bool:
        return did in self._held

    def hold(self, did: str, tried: int, age: int) -> None:
        """Let a question wait.

        Args:
            tried: how often it was let go in vain. age: number of the question, the lower the older.
        """
        if did not in self._held:
            self._held[did] = (tried, age)
            heapq.heappush(self._order, (tried, age, did))

    def release(self, most: int = FOR_EACH_ANSWER) -> list[str]:
        """The questions to ask now, at most so many, in order."""
        released: list[str] = []
        while self._order and len(released) < most:
            tried, age, did = heapq.heappop(self._order)
            if self._held.get(did) == (tried, age):
                del self._held[did]
                released.append(did)
        return released

    def forget(self, did: str) -> None:
        """A question is withdrawn."""
        self._held.pop(did, None)
        if len(self._order) > 64 + 2 * len(self._held):
            self._order = [
                (tried, age, did)
                for tried, age, did in self._order
                if self._held.get(did) == (tried, age)
            ]
            heapq.heapify(self._order)
