"""A chunk: the group of events that became durable together, as bytes.

    magic ver kind flags epoch first_seq count prev_crc time_us rows_len frames_len | rows | frames | crc32

The same bytes lie in a segment file, cross the ZeroMQ hop to the broadcasters, and, from `frames`,
go to consumers: finished server-to-client WebSocket frames back to back.

This module knows the format. It does not know files, and it does not give numbers.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from typing import Final, NamedTuple

FORMAT_VERSION: Final = 1
MAGIC: Final = b"SPLC"
HEAD: Final = struct.Struct("<4sBBHQQIIQII")
"""magic, version, kind, flags, epoch, first_seq, count, prev_crc, time_us, rows_len, frames_len."""
ROW: Final = struct.Struct("<IIBBHIIQQQQQ16s4x")
"""One row of 80 bytes, in the order of `Row`'s fields."""
CRC: Final = struct.Struct("<I")
SEQ_MAX: Final = 2**53 - 1
"""The largest seq that may be given. Source: event-stream spec, "Sequence Numbers"."""
CLOCK_SUSPECT: Final = 0x01
"""Flag of a chunk: when it was written an ingest process believed our clock wrong."""
DISK_LOW: Final = 0x02
"""Flag of a chunk: when it was written the disk had less room than the reserve, so that the oldest
segments go before their time. Events flow; a health answer may say `degraded` for it."""
DATABASE_AWAY: Final = 0x04
"""Flag of a chunk: PostgreSQL does not answer persist; accounts in memory go on."""
EVENTS_HELD: Final = 0x08
"""Flag of a chunk: events wait for what PostgreSQL alone knows, and it does not answer."""
FLAGS_MAY_BE_IGNORED: Final = 0x0F
"""Flags of a chunk that a reader which does not know them may leave aside; it refuses any other."""
CHUNK_MAX_BYTES: Final = 64 * 1024 * 1024
"""No chunk is larger, in bytes: what a damaged length could make a reader load at most."""

_KINDS: Final = frozenset({1, 2})
_EVENT_KINDS: Final = frozenset({1, 2, 3, 4})
_TILE: Final = struct.Struct("<IIB71x")
"""Of a row only offset, length, kind."""


class ChunkKind(IntEnum):
    """What a chunk is for."""

    GROUP = 1
    CLAIM = 2


class Row(NamedTuple):
    """What a successor needs to know of one event, without opening its frame.

    offset, length: of its WebSocket frame within `frames`, in bytes.
    kind: common.envelope.Kind. flags: of common.envelope.Mark, how it passed; bits without a
    meaning yet are kept and mean nothing. shard, host, generation, upstream_seq, epoch, position:
    see common.envelope.Judged. time_us: when the relay read it, Unix microseconds.
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


class UnknownFormat(ChunkError):
    """A later release wrote this. It is neither damaged nor torn, and must not be changed."""


class Head(NamedTuple):
    """The fixed first part of a chunk: enough to step over it.

    `events` is their count. The fields are in range, but only `decode_chunk` tells whether they are what was written.
    """

    magic: bytes
    version: int
    kind: int
    flags: int
    epoch: int
    first_seq: int
    events: int
    prev_crc: int
    time_us: int
    rows_len: int
    frames_len: int

    @property
    def length(self) -> int:
        """Bytes of the whole chunk."""
        return HEAD.size + self.rows_len + self.frames_len + CRC.size


@dataclass(slots=True)
class Chunk:
    """One chunk and its bytes.

    raw: all of it, as it lies in the log. crc: of `raw` but for its last four bytes.
    flags: CLOCK_SUSPECT, DATABASE_AWAY, EVENTS_HELD, and what later releases may add.
    """

    kind: ChunkKind
    flags: int
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

    @property
    def info(self) -> bytes:
        """What the writer said of itself when it claimed the log; only in a CLAIM."""
        return self.raw[self.frames_start : self.frames_end]

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


@dataclass(slots=True)
class Chain:
    """Where a reader stands in the log, and the one rule for what may come next.

    next_seq: the seq of the next event. crc: of the last chunk, None where it is not known.
    epoch: of the last chunk.
    """

    next_seq: int
    crc: int | None
    epoch: int

    def follow(self, chunk: Chunk) -> None:
        """Step over `chunk`: its CRC is right, it begins at the next seq and names the CRC of
        the chunk before it, and its epoch is no lower. Only a claim may leave numbers out.

        Raises:
            ChunkError: it does not follow; nothing was changed.
        """
        self._check(chunk)
        self.next_seq = chunk.first_seq + chunk.count
        self.crc = chunk.crc
        self.epoch = chunk.epoch

    def step(self, head: Head, crc: int) -> None:
        """The same for a chunk that `check_chunk` has seen."""
        self._check(head)
        self.next_seq = head.first_seq + head.events
        self.crc = crc
        self.epoch = head.epoch

    def _check(self, chunk: Chunk | Head) -> None:
        if chunk.prev_crc != self.crc and self.crc is not None:
            raise ChunkError("a chunk does not name the CRC of the one before it")
        if chunk.first_seq != self.next_seq and (
            chunk.kind != ChunkKind.CLAIM or chunk.first_seq < self.next_seq
        ):
            raise ChunkError(f"a chunk begins at seq {chunk.first_seq}, not {self.next_seq}")
        if chunk.epoch < self.epoch:
            raise ChunkError(f"a chunk of epoch {chunk.epoch} follows one of {self.epoch}")


def account_key(did: str) -> bytes:
    """A DID → the 16 bytes that stand for it in a row; they group, they do not identify."""
    return blake2b(did.encode(), digest_size=16).digest()


def encode_chunk(
    kind: ChunkKind,
    epoch: int,
    first_seq: int,
    prev_crc: int,
    time_us: int,
    rows: Sequence[Row],
    frames: bytes,
    flags: int = 0,
) -> Chunk:
    """Rows and their frames → a chunk; `decode_chunk` is the inverse.

    `frames` holds the finished WebSocket frames of `rows` back to back; in a CLAIM, which has no
    rows, what the claimer says of itself.
    """
    packed = b"".join([ROW.pack(*row) for row in rows])
    return join_chunk(
        kind, epoch, first_seq, prev_crc, time_us, len(rows), [packed], [frames], flags
    )


def join_chunk(
    kind: ChunkKind,
    epoch: int,
    first_seq: int,
    prev_crc: int,
    time_us: int,
    count: int,
    rows: Sequence[bytes],
    frames: Sequence[bytes | memoryview],
    flags: int = 0,
) -> Chunk:
    """The same from rows already packed by `ROW` and from frames in pieces, in one copy.

    Raises:
        ChunkError: it would be larger than a reader accepts.
    """
    rows_len = count * ROW.size
    frames_len = sum(map(len, frames))
    if HEAD.size + rows_len + frames_len + CRC.size > CHUNK_MAX_BYTES:
        raise ChunkError(f"a chunk of {count} events and {frames_len} bytes is too large")
    head = HEAD.pack(
        MAGIC,
        FORMAT_VERSION,
        kind,
        flags,
        epoch,
        first_seq,
        count,
        prev_crc,
        time_us,
        rows_len,
        frames_len,
    )
    body = b"".join((head, *rows, *frames))
    crc = zlib.crc32(body)
    frames_start = HEAD.size + rows_len
    return Chunk(
        kind=kind,
        flags=flags,
        epoch=epoch,
        first_seq=first_seq,
        count=count,
        prev_crc=prev_crc,
        time_us=time_us,
        crc=crc,
        rows_start=HEAD.size,
        frames_start=frames_start,
        frames_end=frames_start + frames_len,
        raw=body + CRC.pack(crc),
    )


def peek_head(buffer: bytes | memoryview, offset: int = 0) -> Head:
    """The head of the chunk at `offset`, for a scan that steps from chunk to chunk.

    Raises:
        ChunkError: too few bytes for a head, or a field out of range.
        UnknownFormat: a later release wrote it, or one byte of it is damaged.
    """
    try:
        head = Head._make(HEAD.unpack_from(buffer, offset))
    except struct.error:
        raise ChunkError("the bytes end within a chunk's head") from None
    if head.magic != MAGIC:
        raise ChunkError("no chunk begins here: wrong magic")
    if head.version != FORMAT_VERSION:
        why = f"chunk format {head.version}, this release reads {FORMAT_VERSION}"
        raise UnknownFormat(why) if head.version > FORMAT_VERSION else ChunkError(why)
    if head.kind not in _KINDS or head.flags & ~FLAGS_MAY_BE_IGNORED:
        raise ChunkError(f"chunk kind {head.kind}, flags {head.flags} are unknown")
    if not head.epoch or not head.first_seq or head.first_seq + head.events - 1 > SEQ_MAX:
        raise ChunkError("epoch or seq of a chunk is out of range")
    if head.rows_len != head.events * ROW.size or head.length > CHUNK_MAX_BYTES:
        raise ChunkError("the lengths of a chunk are out of range")
    if head.events == 0 and head.frames_len and head.kind != ChunkKind.CLAIM:
        raise ChunkError("a chunk has frames but no events")
    if head.events and head.kind == ChunkKind.CLAIM:
        raise ChunkError("a claim has events")
    return head


def check_chunk(buffer: bytes | memoryview, offset: int = 0) -> tuple[Head, int]:
    """The head and the CRC of the chunk that begins at `offset`, when it is whole; no copy is made.

    Raises:
        ChunkError: too few bytes, a wrong CRC, or a field out of range.
        UnknownFormat: a later release wrote it.
    """
    try:
        head = peek_head(buffer, offset)
    except UnknownFormat:
        if _only_version_is_wrong(buffer, offset):
            raise ChunkError("the number of a chunk's format is damaged") from None
        raise
    end = offset + head.length - CRC.size
    with memoryview(buffer) as view:
        if end + CRC.size > len(view):
            raise ChunkError(f"the bytes end within a chunk of {head.length} bytes")
        (crc,) = CRC.unpack_from(view, end)
        if zlib.crc32(view[offset:end]) != crc:
            raise ChunkError("the CRC of a chunk does not match its bytes")
        check_rows(view, offset, head)
    return head, crc


def check_rows(view: memoryview, offset: int, head: Head) -> None:
    """Whether the rows of the chunk at `offset` tile its frames; a CRC is not looked at.

    Raises:
        ChunkError: they do not.
    """
    rows_start = offset + HEAD.size
    _check_rows(view[rows_start : rows_start + head.rows_len], head.frames_len, head.events)


def _only_version_is_wrong(buffer: bytes | memoryview, offset: int) -> bool:
    """Whether a chunk has a right CRC once its format is called ours: one byte of it is damaged."""
    restored = bytearray(buffer[offset : offset + HEAD.size])
    restored[len(MAGIC)] = FORMAT_VERSION
    try:
        length = peek_head(bytes(restored)).length
    except ChunkError:
        return False
    body = bytes(restored) + bytes(buffer[offset + HEAD.size : offset + length])
    return len(body) == length and zlib.crc32(body[: -CRC.size]) == CRC.unpack(body[-4:])[0]


def decode_chunk(buffer: bytes | memoryview, offset: int = 0, *, check_crc: bool = True) -> Chunk:
    """The chunk that begins at `offset`; bytes behind it are left alone.

    Args:
        check_crc: False where the bytes come from memory, not from a disk.

    Raises:
        ChunkError: too few bytes, a wrong CRC, or a field out of range.
    """
    head = peek_head(buffer, offset)
    length = head.length
    raw = bytes(buffer[offset : offset + length])
    if len(raw) < length:
        raise ChunkError(f"the bytes end within a chunk of {length} bytes")
    (crc,) = CRC.unpack_from(raw, length - CRC.size)
    if check_crc and zlib.crc32(memoryview(raw)[: -CRC.size]) != crc:
        raise ChunkError("the CRC of a chunk does not match its bytes")
    frames_start = HEAD.size + head.rows_len
    _check_rows(memoryview(raw)[HEAD.size : frames_start], head.frames_len, head.events)
    return Chunk(
        kind=ChunkKind(head.kind),
        flags=head.flags,
        epoch=head.epoch,
        first_seq=head.first_seq,
        count=head.events,
        prev_crc=head.prev_crc,
        time_us=head.time_us,
        crc=crc,
        rows_start=HEAD.size,
        frames_start=frames_start,
        frames_end=frames_start + head.frames_len,
        raw=raw,
    )


def _check_rows(rows: memoryview, frames_len: int, count: int) -> None:
    """The frames of the rows must tile the frames: no gap, no overlap, none empty."""
    end = 0
    for offset, length, kind in _TILE.iter_unpack(rows):
        if offset != end or not length or kind not in _EVENT_KINDS:
            raise ChunkError("a row of a chunk is out of range")
        end += length
    if count and end != frames_len:
        raise ChunkError("the rows of a chunk do not cover its frames")
