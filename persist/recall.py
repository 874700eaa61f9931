"""Which events of an account have to come back, once one of them was sent back?

    persist sends an event back            (member, did) → recall + 1 is expected
    later ones with a lower recall         were judged before ingest knew; they go back too
    the first with the expected recall     ingest knows: the account flows again

Without it, an event that happens to name the newest state could overtake one that was sent back.
"""

from __future__ import annotations

from typing import Final

RECALLS_MAX: Final = 100_000
"""Accounts remembered at once; beyond it the longest waiting ones are forgotten. By then what was
in flight has long arrived."""


class Recalls:
    """What is expected of each ingest process for each account that was sent back."""

    def __init__(self, limit: int = RECALLS_MAX) -> None:
        self._limit = limit
        self._expected: dict[tuple[int, str], int] = {}

    def __len__(self) -> int:
        return len(self._expected)

    def passes(self, member: int, did: str, recall: int) -> bool:
        """Whether an event with this recall may be looked at; False: it has to go back."""
        expected = self._expected.get((member, did))
        if expected is None:
            return True
        if recall < expected:
            return False
        del self._expected[member, did]
        return True

    def sent_back(self, member: int, did: str, recall: int) -> None:
        """An event with this recall was sent back because of its state."""
        if len(self._expected) >= self._limit:
            del self._expected[next(iter(self._expected))]
        self._expected[member, did] = recall + 1

    def forget(self, member: int) -> None:
        """The process has begun anew, and so do its recalls."""
        for key in [key for key in self._expected if key[0] == member]:
            del self._expected[key]
