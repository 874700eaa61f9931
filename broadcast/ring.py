"""Which recent chunks does this member hold, and what follows a given seq?

One window for all consumers, bounded in bytes. It is dense: what the log lacks is in it as a hole,
which tells so; what is hidden now (broadcast.curtain) is in it and left out of what is taken. Whoever
needs an older seq reads the log.

This module does not know consumers, and it does not wait.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, NamedTuple

from broadcast.curtain import Curtain
from broadcast.hole import Hole, shown_of
from common.chunk import Chunk

_OVERHEAD_BYTES: Final = 250
"""What Python keeps for one chunk beside its bytes; so that tiny chunks are bounded too."""
_COMPACT_AT: Final = 1024
"""Evicted entries that may lie at the front of the lists before they are cut off."""


class Slice(NamedTuple):
    """Finished frames back to back.

    next_seq: where the stream goes on behind them. events: how many they are, without what is told
    of holes. Where all of it is hidden there is no data, and the stream goes on behind it.
    """

    data: bytes
    next_seq: int
    events: int


class Ring:
    """The recent window of the stream."""

    def __init__(self, next_seq: int, limit_bytes: int, curtain: Curtain | None = None) -> None:
        """An empty window before `next_seq`. The newest chunk is kept whatever its size."""
        self._curtain = curtain or Curtain(None)
        self.next_seq = next_seq
        self.held_bytes = 0
        self._limit_bytes = limit_bytes
        self._chunks: list[Chunk | Hole] = []
        self._first_seqs: list[int] = []
        self._start = 0
        self._last: tuple[int, int, int, int, Slice] | None = None

    @property
    def oldest_seq(self) -> int:
        """The first seq that `take` can answer; `next_seq` when it holds none."""
        if self._start == len(self._chunks):
            return self.next_seq
        return self._first_seqs[self._start]

    def append(self, chunk: Chunk | Hole) -> None:
        """Add the next chunk, which has events, or a hole, and let go of the oldest ones.

        Raises:
            ValueError: it has nothing new, or leaves numbers out in silence.
        """
        if chunk.next_seq <= self.next_seq:
            raise ValueError(f"chunk {chunk.first_seq} lies before seq {self.next_seq}")
        if chunk.first_seq > self.next_seq:
            raise ValueError(f"chunk {chunk.first_seq} leaves out seq {self.next_seq}")
        self._chunks.append(chunk)
        self._first_seqs.append(self.next_seq)
        self.next_seq = chunk.next_seq
        self.held_bytes += len(chunk.raw) + _OVERHEAD_BYTES
        while self.held_bytes > self._limit_bytes and len(self._chunks) - self._start > 1:
            self.held_bytes -= len(self._chunks[self._start].raw) + _OVERHEAD_BYTES
            # The bytes go now; the list is cut when it is worth it.
            self._chunks[self._start] = self._chunks[-1]
            self._start += 1
        if self._start >= _COMPACT_AT:
            del self._chunks[: self._start]
            del self._first_seqs[: self._start]
            self._start = 0

    def take(self, seq: int, until_seq: int, max_bytes: int) -> Slice:
        """The frames from `seq`, in whole chunks up to `until_seq`, about `max_bytes` of them.

        At least one chunk. Asked the same twice in a row, it answers with the same object.

        Args:
            seq: `oldest_seq` or later, and before `until_seq`.
            until_seq: where one of the chunks ends.
        """
        turn, hidden = self._curtain.turn, self._curtain.hidden
        if self._last is not None and self._last[:4] == (seq, until_seq, max_bytes, turn):
            return self._last[4]
        if not self.oldest_seq <= seq < until_seq <= self.next_seq:
            raise ValueError(f"seq {seq} to {until_seq} is not within the ring")
        at = bisect_right(self._first_seqs, seq, lo=self._start) - 1
        pieces: list[memoryview] = []
        size = events = 0
        end_seq = seq
        while end_seq < until_seq and (size < max_bytes or end_seq == seq):
            chunk = self._chunks[at]
            at += 1
            if chunk.next_seq <= end_seq:
                continue
            found, count = shown_of(chunk, end_seq, hidden)
            pieces += found
            size += sum(map(len, found))
            events += count
            end_seq = chunk.next_seq
        part = Slice(b"".join(pieces), end_seq, events)
        self._last = (seq, until_seq, max_bytes, turn, part)
        return part
