"""What of a host's stream is finished, and up to where may its cursor be saved?

Events finish in any order: one waits for a DID document while the next ones are on disk. The
cursor is the end of the finished prefix: below it everything is on disk, or was dropped with a
counted reason. This module does not know what an event is.

Source: S-CUR-10, S-CUR-11, S-CUR-12, S-SEQ-01.
"""

from __future__ import annotations

from collections import OrderedDict


class Entry:
    """One number of a host's stream whose event is not finished yet.

    before: the number up to which all was begun before it; of a stream read live, from its first on,
    that is the one below: nothing earlier was asked for. None where there is none below. number: as the how
    manieth it was begun.
    """

    __slots__ = ("before", "number", "seq")

    def __init__(self, seq: int, before: int | None, number: int) -> None:
        self.seq = seq
        self.number = number
        self.before = before


class Upstream:
    """The numbers of one host's stream.

    Only what is not finished is remembered, however long the first of it stays so.
    last_seq: the highest that was begun, None before any. finished_seq: everything up to it is
    finished; None when nothing is known. anew: events in a row whose number does not rise, but whose rev
    is newer than any before: what is sent again has an old one, so the numbers may have begun anew.
    newest_rev: see there; empty where none is known. last_rev: the one that came last, for whom
    it concerns, who takes it.
    """

    __slots__ = ("_begun", "_open", "anew", "last_rev", "last_seq", "newest_rev")

    def __init__(self, cursor: int | None, newest_rev: str = "") -> None:
        """Args: cursor: everything up to it was finished in an earlier life; None: start live."""
        self.last_seq = cursor
        self.anew = 0
        self.newest_rev = newest_rev
        self.last_rev = ""
        self._open: OrderedDict[Entry, None] = OrderedDict()
        self._begun = 0

    @property
    def unfinished(self) -> int:
        """How many numbers have begun and are not finished."""
        return len(self._open)

    @property
    def ahead(self) -> int:
        """How many are finished that came after the oldest that is not."""
        for entry in self._open:
            return self._begun - entry.number - len(self._open)
        return 0

    @property
    def finished_seq(self) -> int | None:
        """See the class. What was begun before the first that is not finished, is finished."""
        for entry in self._open:
            return entry.before
        return self.last_seq

    def begin(self, seq: int, rev: str | None = None) -> Entry | None:
        """A message with this number has come; None when the numbers do not rise."""
        last, newest = self.last_seq, self.newest_rev
        if last is not None and seq <= last:
            # TIDs sort as text in time order.
            if rev is not None and newest and rev > newest:
                self.anew += 1
            elif rev is not None:
                self.anew = 0
            return None
        self.anew = 0
        if rev is not None:
            self.last_rev = rev
            if rev > newest:
                self.newest_rev = rev
        self.last_seq = seq
        entry = Entry(seq, last if last is not None or seq < 1 else seq - 1, self._begun)
        self._begun += 1
        self._open[entry] = None
        return entry

    def finish(self, entry: Entry) -> None:
        """The event of this number is on disk, or dropped and counted."""
        del self._open[entry]
