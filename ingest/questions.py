"""Whose question is asked next?

    put(host, did, need) ─▶ two lines for each host ─▶ next: the line with the fewest being asked

A host that asks for thousands of DIDs, or for some whose documents never come, has the others'
questions wait for one of its own at most, not for all of them. The last quarter of the askers is
kept free from any one host. What only refreshes a document that is still used comes after all that
events wait for, but for one at a time, and never takes more than a quarter of the askers: ten thousand
documents that grow old at once delay nobody. No I/O, no clock.

Source: S-IDN-10; lesson 10.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from enum import IntEnum
from typing import NamedTuple


class Need(IntEnum):
    """What a DID document is needed for; the more urgent, the lower.

    FIRST: nothing is known of the DID, and its events wait; a document kept from before will do.
    NEWER: events wait for a document that was asked for after they came.
    REFRESH: the one at hand is old, and goes on being used meanwhile; nobody waits.
    """

    FIRST = 0
    NEWER = 1
    REFRESH = 2


class Question(NamedTuple):
    """One question of a host. refresh: nobody waits for the answer."""

    host: int
    did: str
    refresh: bool = False


class Questions:
    """The questions that wait for one of so many askers."""

    def __init__(self, askers: int) -> None:
        """Args: askers: how many questions can be asked at a time."""
        self._most = max(1, askers - askers // 4)
        self._urgent = _Lines()
        self._refresh = _Lines()
        self._refresh_most = max(1, askers // 4)
        self._refreshing = 0
        self._asked: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._refresh)

    def put(self, host: int, did: str, need: Need = Need.FIRST) -> None:
        """A question of a host, behind those that the host has already."""
        (self._refresh if need is Need.REFRESH else self._urgent).put(host, did)

    def next(self) -> Question | None:
        """The question to ask now, and whose it is; None when there is none that may be asked.

        Who takes it calls `done`.
        """
        # One refresh at a time goes on even while there is always something urgent.
        first = self._refresh_now() if self._refreshing == 0 else None
        question = first or self._urgent_now() or self._refresh_now()
        if question is not None:
            self._asked[question.host] += 1
            self._refreshing += question.refresh
        return question

    def done(self, question: Question) -> None:
        """A question is being asked no longer."""
        self._refreshing -= question.refresh
        self._asked[question.host] -= 1
        if not self._asked[question.host]:
            del self._asked[question.host]

    def _urgent_now(self) -> Question | None:
        return self._urgent.next(self._asked, self._most, refresh=False)

    def _refresh_now(self) -> Question | None:
        if self._refreshing >= self._refresh_most:
            return None
        return self._refresh.next(self._asked, self._most, refresh=True)


class _Lines:
    """One line for each host that asks."""

    def __init__(self) -> None:
        self._lines: OrderedDict[int, deque[str]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def put(self, host: int, did: str) -> None:
        line = self._lines.get(host)
        if line is None:
            line = self._lines[host] = deque()
        line.append(did)

    def next(self, asked: Counter[int], most: int, *, refresh: bool) -> Question | None:
        """The first of the host that has the fewest being asked, if that is fewer than `most`."""
        host = min(self._lines, key=asked.__getitem__, default=None)
        if host is None or asked[host] >= most:
            return None
        line = self._lines[host]
        did = line.popleft()
        # Among equals the one that has waited longest.
        if line:
            self._lines.move_to_end(host)
        else:
            del self._lines[host]
        return Question(host, did, refresh)
