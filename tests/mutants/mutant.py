"""What is a small bug? One place in one file, with other text there.

A mutant is made for the source as it stands. When the text that it replaces is no longer found, or
found more than once, it is stale, and says so loudly instead of doing nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent.parent


class Stale(ValueError):
    """The source has changed so that this mutant no longer fits; the message says which."""


class Bug(NamedTuple):
    """A bug written by hand. says: what is wrong then, in a sentence; it names the mutant."""

    path: str
    old: str
    new: str
    says: str


class Mutant(NamedTuple):
    """A bug at its place.

    name: unique, and the same as long as the code around it is. start: where `old` begins in the
    file, in characters. tool: made by the tool, not by hand.
    """

    name: str
    path: str
    start: int
    old: str
    new: str
    tool: bool

    def applied_to(self, source: str) -> str:
        """The source with the bug in it.

        Raises:
            Stale: the text to be replaced does not stand where it must.
        """
        if not source.startswith(self.old, self.start):
            raise Stale(f"{self.path}: not as it was when this was made: {self.name}")
        return source[: self.start] + self.new + source[self.start + len(self.old) :]


def located(bug: Bug, source: str) -> Mutant:
    """A bug written by hand at its place.

    Raises:
        Stale: its text is not in the source exactly once, or the bug is no change.
    """
    count = source.count(bug.old)
    if count != 1 or bug.old == bug.new:
        raise Stale(f"{bug.path}: found {count} times, for {bug.says!r}:\n{bug.old}")
    return Mutant(bug.says, bug.path, source.index(bug.old), bug.old, bug.new, tool=False)


def source_of(path: str) -> str:
    """A file of the working tree; `path` is relative to its root."""
    return (ROOT / path).read_text()
