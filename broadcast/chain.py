"""Is this chunk the next one of the log, as seen by a member that must not skip any?

    chunk ──▶ NEXT (send it) | SEEN (had it) | GAP (read the log first) — or Broken, loud

The hop from persist may drop messages, so what arrives is checked against the log's own chain:
first_seq, the CRC of the chunk before, and the epoch of the writer. Where the chain does not fit,
the log decides, never the message.

This module does not read anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from common.chunk import Chunk


class Broken(Exception):
    """What arrived contradicts what was already sent; the process must not go on."""


class Link(Enum):
    """How a chunk follows what this member has."""

    NEXT = "next"
    SEEN = "seen"
    GAP = "gap"


@dataclass(slots=True)
class Chain:
    """What this member has of the log.

    next_seq: the seq it needs next. crc: of the last chunk, None when that is not known, as after
    a start or after reading the log, which leaves chunks without events out. epoch: of the writer
    that was last heard; 0 before any.
    """

    next_seq: int
    crc: int | None = None
    epoch: int = 0

    def judge(self, chunk: Chunk) -> Link:
        """How a chunk from persist follows. Nothing changes; see `advance`.

        Raises:
            Broken: a newer writer gives numbers that were given before, or chunks overlap.
        """
        if chunk.epoch < self.epoch:
            # An outlived writer: whatever it says, the log has it or will never have it.
            return Link.SEEN
        if chunk.first_seq > self.next_seq:
            return Link.GAP
        if chunk.first_seq < self.next_seq:
            if self.epoch and chunk.epoch > self.epoch:
                raise Broken(
                    f"epoch {chunk.epoch} goes on at seq {chunk.first_seq}, "
                    f"but {self.next_seq - 1} was published in epoch {self.epoch}"
                )
            if chunk.next_seq > self.next_seq:
                raise Broken(
                    f"chunk {chunk.first_seq} overlaps what was sent up to {self.next_seq}"
                )
            return Link.SEEN
        if self.crc is not None and chunk.prev_crc != self.crc and chunk.count:
            # A beat was missed, or this is not the log's chunk: the log tells.
            return Link.GAP
        return Link.NEXT

    def advance(self, chunk: Chunk) -> None:
        """Take a chunk that `judge` called NEXT."""
        self.next_seq = chunk.next_seq
        self.crc = chunk.crc
        self.epoch = chunk.epoch

    def advance_by_log(self, chunk: Chunk) -> None:
        """Take a chunk with events that was read from the log at `next_seq`.

        It may begin before that.

        Raises:
            Broken: it does not hold `next_seq`, or its writer was outlived long ago.
        """
        if not chunk.first_seq <= self.next_seq < chunk.next_seq:
            raise Broken(f"the log has chunk {chunk.first_seq} where seq {self.next_seq} should be")
        if chunk.epoch < self.epoch:
            raise Broken(f"the log has epoch {chunk.epoch} after epoch {self.epoch}")
        self.next_seq = chunk.next_seq
        self.crc = None
        self.epoch = chunk.epoch

    def skip(self, next_seq: int) -> None:
        """Step over a hole: numbers that the log does not have, or cannot give."""
        self.next_seq = next_seq
        self.crc = None
