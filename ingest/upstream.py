"""What of a host's stream is finished, and up to where may its cursor be saved?

Events finish in any order: one waits for a DID document while the next ones are on disk. The
cursor is the end of the finished prefix: below it everything is on disk, or was dropped with a
counted reason. This module does not know what an event is.

Source: S-CUR-10, S-CUR-12, S-SEQ-01.
"""

from __future__ import annotations

from collections import deque


class Entry:
    """One number of a host's stream whose event is not finished yet."""

    __slots__ = ("done", "seq")

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.done = False


class Upstream:
    """The numbers of one host's stream.

    last_seq: the highest that was begun, None before any. finished_seq: everything up to it is
    finished; None when nothing is known.
    """

    __slots__ = ("_open", "finished_seq", "last_seq")

    def __init__(self, cursor: int | None) -> None:
        """Args: cursor: everything up to it was finished in an earlier life; None: start live."""
        self.last_seq = cursor
        self.finished_seq = cursor
        self._open: deque[Entry] = deque()

    @property
    def unfinished(self) -> int:
        """How many numbers have begun, from the first that is not finished on."""
        return len(self._open)

    def begin(self, seq: int) -> Entry | None:
        """A message with this number has come; None when the numbers do not rise."""
        if self.last_seq is not None and seq <= self.last_seq:
            return None
        self.last_seq = seq
        entry = Entry(seq)
        self._open.append(entry)
        return entry

    def finish(self, entry: Entry) -> None:
        """The event of this number is on disk, or dropped and counted."""
        entry.done = True
        open_ = self._open
        while open_ and open_[0].done:
            self.finished_seq = open_.popleft().seq
