"""Whose question is asked next?

    put(host, did) ─▶ one line for each host ─▶ next: the line with the fewest being asked

A host that asks for thousands of DIDs, or for some whose documents never come, has the others'
questions wait for one of its own at most, not for all of them. The last quarter of the askers is
kept free from any one host. No I/O, no clock.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from enum import IntEnum


class Need(IntEnum):
    """What a DID document is needed for; the more urgent, the lower.

    FIRST: nothing is known of the DID, and its events wait; a document kept from before will do.
    NEWER: events wait for a document that was asked for after they came.
    REFRESH: the one at hand is old, and goes on being used meanwhile; nobody waits.
    """

    FIRST = 0
    NEWER = 1
    REFRESH = 2


class Questions:
    """The questions that wait for one of so many askers."""

    def __init__(self, askers: int) -> None:
        """Args: askers: how many questions can be asked at a time."""
        self._most = max(1, askers - askers // 4)
        self._lines: OrderedDict[int, deque[str]] = OrderedDict()
        self._asked: Counter[int] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def put(self, host: int, did: str) -> None:
        """A question of a host, behind those that the host has already."""
        line = self._lines.get(host)
        if line is None:
            line = self._lines[host] = deque()
        line.append(did)

    def next(self) -> tuple[int, str] | None:
        """The question to ask now, and whose it is; None when there is none that may be asked.

        Who takes it calls `done`.
        """
        asked = self._asked
        host = min(self._lines, key=asked.__getitem__, default=None)
        if host is None or asked[host] >= self._most:
            return None
        line = self._lines[host]
        did = line.popleft()
        # Among equals the one that has waited longest.
        if line:
            self._lines.move_to_end(host)
        else:
            del self._lines[host]
        asked[host] += 1
        return host, did

    def done(self, host: int) -> None:
        """A question of this host is being asked no longer."""
        self._asked[host] -= 1
        if not self._asked[host]:
            del self._asked[host]
