"""A chunk: the group of events that became durable together, as bytes.

    magic ver kind flags epoch first_seq count prev_crc time_us rows_len frames_len | rows | frames | crc32

The same bytes lie in a segment file, cross the ZeroMQ hop to the broadcasters, and, from `frames`,
go to consumers: finished server-to-client WebSocket frames back to back.

This module knows the format. It does not know files, and it does not give numbers.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

FORMAT_VERSION: Final = 1
MAGIC: Final = b"SPLC"
HEAD: Final = struct.Struct("<4sBBHQQIIQII")
"""magic, version, kind, flags, epoch, first_seq, count, prev_crc, time_us, rows_len, frames_len."""
ROW: Final = struct.Struct("<IIBBHIIQQQQQ16s4x")
"""One row of 80 bytes, in the order of `Row`'s fields."""
CRC: Final = struct.Struct("<I")


class ChunkKind(IntEnum):
    """What a chunk is for."""

    GROUP = 1
    CLAIM = 2


class Row(NamedTuple):
    """What a successor needs to know of one event, without opening its frame.

    offset, length: of its WebSocket frame within `frames`, in bytes.
    kind: common.envelope.Kind. flags: reserved, 0. shard, host, generation, upstream_seq, epoch,
    position: see common.envelope.Judged. time_us: when the relay read it, Unix microseconds.
    rev: the TID of a commit or sync as an integer, else 0. account: common.chunk.account_key.
    """

    offset: int
    length: int
    kind: int
    flags: int
    shard: int
    host: int
    generation: int
    upstream_seq: int
    epoch: int
    position: int
    time_us: int
    rev: int
    account: bytes


class ChunkError(ValueError):
    """These bytes are no chunk: too few, a wrong CRC, or a field out of range."""


@dataclass(slots=True)
class Chunk:
    """One chunk and its bytes.

    raw: all of it, as it lies in the log. crc: of `raw` but for its last four bytes.
    """

    kind: ChunkKind
    epoch: int
    first_seq: int
    count: int
    prev_crc: int
    time_us: int
    crc: int
    rows_start: int
    frames_start: int
    frames_end: int
    raw: bytes

    @property
    def next_seq(self) -> int:
        """The seq of the event after the last one of this chunk."""
        return self.first_seq + self.count

    def row(self, seq: int) -> Row:
        """The row of one of this chunk's events."""
        at = self.rows_start + (seq - self.first_seq) * ROW.size
        return Row._make(ROW.unpack_from(self.raw, at))

    def rows(self) -> list[Row]:
        """All rows, in order of seq."""
        view = memoryview(self.raw)[self.rows_start : self.frames_start]
        return [Row._make(fields) for fields in ROW.iter_unpack(view)]

    def frames_from(self, seq: int) -> memoryview:
        """The WebSocket frames from `seq` to the end of the chunk, without a copy."""
        start = self.frames_start
        if seq > self.first_seq:
            start += self.row(seq).offset
        return memoryview(self.raw)[start : self.frames_end]
