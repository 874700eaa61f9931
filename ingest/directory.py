"""Does the directory fail as a whole, or is it this one DID?

One DID that cannot be resolved costs its own oldest events in the end. When those that are known to
exist cannot be, or most of the newest cannot be (some of those known may lie in a cache on the way), the
fault is the directory's, or our network's, and nothing may be dropped for it. "Not found" is such a
fault too, unless a DID that is known to exist is still found.

No I/O and no clock; outcomes and `now_s` are handed in.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import Final

WINDOW_S: Final = 60.0
"""How far back outcomes count, in seconds."""
WINDOW_DIDS: Final = 64
"""How many of the newest outcomes count, one for each DID."""
SUSPICIOUS_DIDS: Final = 4
"""So many different DIDs must have failed before the directory is suspected."""
KNOWN_DIDS: Final = 3
"""How many of the DIDs last found are remembered."""


class Answer(Enum):
    """What the directory made of one question."""

    FOUND = "found"
    NOT_FOUND = "not found"
    FAILED = "failed"


class Directory:
    """The newest answers of one directory."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, tuple[Answer, float]] = OrderedDict()
        self.known_dids: tuple[str, ...] = ()
        """The DIDs last found, newest first: if not one of them is found any more, the directory
        has lost its mind. One alone may have been deleted since."""
        self._failed_s: float | None = None
        """When it failed as a whole the last time."""
        self._lost = False
        """Whether it did not find whom it had found before, and has found nobody since."""

    def note(self, did: str, answer: Answer, now_s: float) -> None:
        """One question was answered."""
        self._answers.pop(did, None)
        self._answers[did] = (answer, now_s)
        if len(self._answers) > WINDOW_DIDS:
            self._answers.popitem(last=False)
        if answer is Answer.FOUND:
            self._lost = False
            self.knows(did)
        if self.fails(now_s):
            self._failed_s = now_s

    def knows(self, did: str) -> None:
        """It found a DID now, or before this process began."""
        others = (known for known in self.known_dids if known != did)
        self.known_dids = (did, *others)[:KNOWN_DIDS]

    def refused(self, now_s: float) -> None:
        """It wants to be asked later, whoever is asked for."""
        self._failed_s = now_s

    def lost(self, now_s: float) -> None:
        """It no longer finds whom it found before: so it is not about the DID that was asked for."""
        self._lost = True
        self._failed_s = now_s

    def fails(self, now_s: float) -> bool:
        """Whether whoever is asked for is not found: those known before, or most of the newest."""
        return self._lost or self._most(now_s, (Answer.FAILED,))

    def has_failed_within(self, seconds: float, now_s: float) -> bool:
        """Whether it fails now or did so lately.

        When it comes back, some DIDs are found at once and others only when they are asked for
        the next time: until then these are not alone, they are late.
        """
        lately = self._failed_s is not None and now_s - self._failed_s <= seconds
        return lately or self.fails(now_s)

    def is_suspect(self, now_s: float) -> bool:
        """Whether most of them got no document: "not found" is then no verdict by itself."""
        return self._most(now_s, (Answer.FAILED, Answer.NOT_FOUND))

    def _most(self, now_s: float, bad: tuple[Answer, ...]) -> bool:
        recent = [answer for answer, at_s in self._answers.values() if now_s - at_s <= WINDOW_S]
        count = sum(answer in bad for answer in recent)
        return count >= SUSPICIOUS_DIDS and count * 2 > len(recent)
