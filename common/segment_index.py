"""Where do the chunks of a sealed segment lie? The bytes of its index file.

    magic version base size next_seq crc last_event_us count | (offset seq time_us) … | crc32

One entry for about each INDEX_GRAIN_BYTES. It is a cache: whoever finds it missing, cut, broken or
made for other bytes than the segment has, walks through the segment instead.

This module knows the format. It does not know files.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Final, NamedTuple

INDEX_GRAIN_BYTES: Final = 256 * 1024
"""An index has one entry about each so many bytes: what a seek walks through, 0.2 ms."""

_MAGIC: Final = b"SPLI"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<4sB3xQQQIQI")
_ENTRY: Final = struct.Struct("<QQQ")
_CRC: Final = struct.Struct("<I")


class Mark(NamedTuple):
    """One chunk: the byte it begins at, its first seq, when it was written (Unix microseconds)."""

    offset: int
    seq: int
    time_us: int


@dataclass(slots=True)
class SegmentIndex:
    """One segment, as it was when it was sealed.

    base: the seq it begins at. size_bytes: of its file. next_seq: behind its last event.
    crc: of its last chunk. last_event_us: when its last events were written, 0 when it has none.
    """

    base: int
    size_bytes: int
    next_seq: int
    crc: int
    last_event_us: int
    marks: list[Mark] = field(default_factory=list)


def add_mark(marks: list[Mark], offset: int, seq: int, time_us: int) -> None:
    """Mark the chunk at `offset`, when it lies far enough behind the last one marked."""
    if not marks or offset >= marks[-1].offset + INDEX_GRAIN_BYTES:
        marks.append(Mark(offset, seq, time_us))


def encode_index(index: SegmentIndex) -> bytes:
    """An index → the bytes of its file; `decode_index` is the inverse."""
    head = _HEAD.pack(
        _MAGIC, _VERSION, index.base, index.size_bytes, index.next_seq, index.crc,
        index.last_event_us, len(index.marks),
    )  # fmt: skip
    body = head + b"".join([_ENTRY.pack(*mark) for mark in index.marks])
    return body + _CRC.pack(zlib.crc32(body))


def decode_index(data: bytes) -> SegmentIndex | None:
    """The index in the bytes of its file; None when they are none of this release's."""
    body, crc = data[: -_CRC.size], data[-_CRC.size :]
    if len(body) < _HEAD.size or _CRC.pack(zlib.crc32(body)) != crc:
        return None
    magic, version, *fields, count = _HEAD.unpack_from(body)
    if (magic, version) != (_MAGIC, _VERSION) or len(body) != _HEAD.size + count * _ENTRY.size:
        return None
    base, size_bytes, next_seq, last_crc, last_event_us = fields
    marks = [Mark._make(entry) for entry in _ENTRY.iter_unpack(body[_HEAD.size :])]
    return SegmentIndex(base, size_bytes, next_seq, last_crc, last_event_us, marks)
