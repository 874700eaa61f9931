"""Does any ingest process believe our clock wrong?

Each says so with every batch; its latest word counts, until it has been silent for too long, or a
newer process has taken its number. One is enough: it has hosts that agree on it, and what it holds
back for that is missing from the stream.

It has no clock; all times are handed in.
"""

from __future__ import annotations

from typing import Final

SILENT_S: Final = 5.0
"""After so long without a batch a process's word is forgotten, in seconds; each beats every second."""


class Suspicions:
    """The ingest processes that doubt our clock, and when each last said so."""

    def __init__(self) -> None:
        self._said_s: dict[int, float] = {}

    def hear(self, member: int, now_s: float, *, suspect: bool) -> None:
        """An ingest process that is not outlived has said what it thinks. now_s: steady."""
        if suspect:
            self._said_s[member] = now_s
        elif self._said_s:
            self._said_s.pop(member, None)

    def any(self, now_s: float) -> bool:
        """Whether any doubts it now."""
        if not self._said_s:
            return False
        for member in [
            member for member, said_s in self._said_s.items() if now_s - said_s > SILENT_S
        ]:
            del self._said_s[member]
        return bool(self._said_s)
