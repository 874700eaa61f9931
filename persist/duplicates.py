"""Is this event in the log already, or overtaken? Asked by what names it at its source.

    (host, generation, upstream_seq):  at or below the host's cursor, or among those above it
    the same, with its account:        below the newest of that account that is in the log

A host's cursor says that everything up to it is done, so what lies above it is all that has to be
remembered. After a restart it is found again in the rows of the log, from `scan_seq` on.

What one host says of one account comes here in the host's order. So an event that comes behind a
newer one was dropped when it was read first, and is read again after a crash: it is no news, and
would undo what was said since.

What the relay says itself (Mark.OURS) has no number at any host: (host, epoch, position), as its
sender named it, tells a copy that is sent again; another sender asks the host anew.

It does not know the log, and it does not know who asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

from common.envelope import HostCursor

OURS_REMEMBERED: Final = 10_000
"""Events of our own that are remembered: what may be unanswered when persist ends, many times over."""
SPARE_ACCOUNTS: Final = 16
"""Accounts of a stream that are remembered although the cursor has passed them, at least."""


class Lagging(NamedTuple):
    """What is in the log of a stream whose cursor is far behind: its first row is long ago.

    seqs: upstream seq → ours, in order of ours. newest: see `LoggedSeqs`.
    """

    host: int
    generation: int
    seqs: dict[int, int]
    newest: dict[bytes, int]


class LoggedSeqs:
    """What is in the log of one generation of one host's stream.

    cursor: at or below it everything is done; -1 before any. seqs: above it, upstream seq → ours,
    in order of ours. newest: common.chunk.account_key → the highest upstream seq of that account;
    of those whose highest lies above the cursor, and of a few more.
    """

    __slots__ = ("cursor", "newest", "seqs")

    def __init__(self, cursor: int = -1) -> None:
        self.cursor = cursor
        self.seqs: dict[int, int] = {}
        self.newest: dict[bytes, int] = {}

    def has(self, upstream_seq: int, account: bytes) -> bool:
        """Whether it is in the log, or in the group that is being written, or is overtaken."""
        return (
            upstream_seq <= self.cursor
            or upstream_seq <= self.newest.get(account, -1)
            or upstream_seq in self.seqs
        )

    def add(self, upstream_seq: int, account: bytes, seq: int) -> None:
        """The event of that name has been given `seq`."""
        self.seqs[upstream_seq] = seq
        if upstream_seq > self.newest.get(account, -1):
            self.newest[account] = upstream_seq

    def advance(self, upstream_seq: int) -> None:
        """Everything up to `upstream_seq` is done."""
        self.cursor = upstream_seq
        # Hosts' events are logged nearly in the order of their seqs, so this ends early; one
        # that waits behind a later one goes when that goes.
        done = 0
        for each in self.seqs:
            if each > upstream_seq:
                break
            done += 1
        for each in list(islice(self.seqs, done)):
            del self.seqs[each]
        # What the cursor has passed goes once it is the most, so that each is looked at twice at most.
        if len(self.newest) > 2 * len(self.seqs) + SPARE_ACCOUNTS:
            self.newest = {key: seq for key, seq in self.newest.items() if seq > upstream_seq}


class Duplicates:
    """What is in the log of every host."""

    def __init__(self) -> None:
        self._streams: dict[tuple[int, int], LoggedSeqs] = {}
        self._newest: dict[int, int] = {}
        self._ours: dict[tuple[int, int, int], None] = {}

    def stream(self, host: int, generation: int) -> LoggedSeqs:
        """Of one generation of one host; made when it is new."""
        stream = self._streams.get((host, generation))
        if stream is None:
            stream = self._streams[host, generation] = LoggedSeqs()
            self._newest[host] = max(generation, self._newest.get(host, 0))
        return stream

    def add(self, host: int, generation: int, upstream_seq: int, account: bytes, seq: int) -> None:
        """The event of that name has been given `seq`. account: common.chunk.account_key."""
        if generation < self._newest.get(host, 0):
            return
        stream = self.stream(host, generation)
        if upstream_seq > stream.cursor:
            stream.add(upstream_seq, account, seq)

    def add_ours(self, host: int, epoch: int, position: int) -> None:
        """An event of our own, so named, has been given a seq."""
        self._ours[host, epoch, position] = None
        if len(self._ours) > OURS_REMEMBERED:
            del self._ours[next(iter(self._ours))]

    def has_ours(self, host: int, epoch: int, position: int) -> bool:
        """Whether an event of our own is in the log, or in the group that is being written."""
        return (host, epoch, position) in self._ours

    def advance(self, said: HostCursor) -> bool:
        """A host's cursor, as ingest says it; False when it is none that is newer.

        Older generations of the host are forgotten: nobody reads them any more.
        """
        stream = self.stream(said.host, said.generation)
        newest = self._newest[said.host]
        if said.generation < newest or said.seq <= stream.cursor:
            return False
        stream.advance(said.seq)
        for key in [key for key in self._streams if key[0] == said.host and key[1] < newest]:
            del self._streams[key]
        return True

    def scan_seq(self, next_seq: int, known: Iterable[Lagging] = ()) -> int:
        """The seq from which a successor has to read rows to know all this, given the cursors.

        Args:
            known: streams that it knows otherwise.
        """
        names = {(lagging.host, lagging.generation) for lagging in known}
        return min(
            (
                next(iter(stream.seqs.values()))
                for name, stream in self._streams.items()
                if stream.seqs and name not in names
            ),
            default=next_seq,
        )

    def lagging(self, before: int, max_events: int, oldest_seq: int = 0) -> list[Lagging]:
        """The streams whose first row above their cursor lies before a seq: as many as have so many
        events together, the smallest first.

        Args:
            oldest_seq: whose first row lies before it is among them in any case: the row is gone.
        """
        found = [
            (first_seq >= oldest_seq, len(stream.seqs), name)
            for name, stream in self._streams.items()
            if stream.seqs
            and (first_seq := next(iter(stream.seqs.values()))) < max(before, oldest_seq)
        ]
        lagging = []
        for is_there, events, name in sorted(found):
            max_events -= events
            if is_there and max_events < 0:
                break
            stream = self._streams[name]
            lagging.append(Lagging(*name, dict(stream.seqs), dict(stream.newest)))
        return lagging

    def recall(self, lagging: Lagging) -> None:
        """Take in what a predecessor knew of a stream. Before any row that is read again."""
        if lagging.generation >= self._newest.get(lagging.host, 0):
            stream = self.stream(lagging.host, lagging.generation)
            stream.seqs = {seq: ours for seq, ours in lagging.seqs.items() if seq > stream.cursor}
            stream.newest = {key: seq for key, seq in lagging.newest.items() if seq > stream.cursor}

    def cursors(self) -> list[HostCursor]:
        """The cursor of each host's newest generation, where there is one."""
        return [
            HostCursor(host, generation, stream.cursor)
            for (host, generation), stream in self._streams.items()
            if generation == self._newest[host] and stream.cursor >= 0
        ]

    def __len__(self) -> int:
        return sum(len(stream.seqs) for stream in self._streams.values())
