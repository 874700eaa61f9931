"""Whose events are not to be shown, and which of a chunk's frames may consumers have?

    log/hidden    magic version │ control version, counts │ key seq … │ DIDs, banned names │ CRC-32

Persist writes this file beside the log before the event that tells of a takedown is published. So a
broadcaster knows without the database what to hide, and a database that was restored from a backup gets
back what the operator had said since.

Of an account that is taken down with seq N nothing before N is shown, and behind it only what says nothing
of its content: its `#identity` events, and what this relay itself says of it (Mark.LOCAL). What consumers
were never told (Mark.HELD) they are not told later either. Where nothing is hidden a chunk costs
two looks at it, and no row is opened.

Bytes and values; who writes the file is persist/hidden_file.py, who reads it broadcast/curtain.py.
Source: S-ACC-12, S-ACC-14, S-IDE-07; design, invariant 2; lesson 56.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import Final

import cbor2

from common.chunk import ROW, Chunk
from common.envelope import Kind, Mark

HIDDEN_NAME: Final = "hidden"
"""Name of the file in the log's folder."""
MAGIC: Final = b"SPHD"
VERSION: Final = 1
_HEAD: Final = struct.Struct("<4sIQII")
"""magic, version, control version, accounts, bytes of the tail."""
_ENTRY: Final = struct.Struct("<16sQ")
_CRC: Final = struct.Struct("<I")

_FLAGS_AT: Final = 9
"""Where a row has its flags, in bytes."""
_ACCOUNTS: Final = struct.Struct("<60x16s4x")
_LOCAL: Final = int(Mark.LOCAL)
_HELD: Final = int(Mark.HELD)
_IDENTITY: Final = int(Kind.IDENTITY)
_NOT_HELD: Final = bytes(flags for flags in range(256) if not flags & _HELD)
_NOT_LOCAL: Final = bytes(flags for flags in range(256) if not flags & _LOCAL)
NOTHING: Final[Mapping[bytes, int]] = MappingProxyType({})
"""No account is hidden."""


class HiddenError(ValueError):
    """These bytes are no such file that this release can read; the message says why."""


@dataclass(slots=True)
class Hidden:
    """What the operator has said that must outlive the database, as of one version of it.

    version: of common.control, up to which all was said in the log too. taken_down: DID → the seq of
    the event that told of it, and its key (common.chunk.account_key). domains: banned ones.
    hosts: those that are not wanted, by name: 'banned' or 'deleted'.
    """

    version: int = 0
    taken_down: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    domains: list[str] = field(default_factory=list)
    hosts: dict[str, str] = field(default_factory=dict)


def encode_hidden(hidden: Hidden) -> bytes:
    """The bytes of the file; `decode_hidden` is the inverse."""
    tail = cbor2.dumps([list(hidden.taken_down), hidden.domains, hidden.hosts])
    entries = [_ENTRY.pack(key, seq) for seq, key in hidden.taken_down.values()]
    head = _HEAD.pack(MAGIC, VERSION, hidden.version, len(entries), len(tail))
    body = b"".join((head, *entries, tail))
    return body + _CRC.pack(zlib.crc32(body))


def decode_hidden(data: bytes) -> Hidden:
    """The file's bytes → what it says.

    Raises:
        HiddenError: they are torn, damaged, or another release's.
    """
    version, seqs, tail_at = _open(data)
    dids, domains, hosts = cbor2.loads(data[tail_at : -_CRC.size])
    taken_down = {
        did: (seq, key) for did, (key, seq) in zip(dids, seqs.items(), strict=True)
    }  # fmt: skip
    return Hidden(version, taken_down, domains, hosts)


def decode_seqs(data: bytes) -> dict[bytes, int]:
    """Only what a broadcaster needs: account key → the seq that it was taken down with.

    Raises:
        HiddenError: see `decode_hidden`.
    """
    return _open(data)[1]


def _open(data: bytes) -> tuple[int, dict[bytes, int], int]:
    if len(data) < _HEAD.size + _CRC.size:
        raise HiddenError(f"it has {len(data)} bytes")
    magic, form, version, count, tail_bytes = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise HiddenError("it does not begin as such a file does")
    if form != VERSION:
        raise HiddenError(f"it has version {form}, this release reads {VERSION}")
    tail_at = _HEAD.size + count * _ENTRY.size
    if len(data) != tail_at + tail_bytes + _CRC.size:
        raise HiddenError("its length is not what it says")
    if _CRC.unpack(data[-_CRC.size :])[0] != zlib.crc32(memoryview(data)[: -_CRC.size]):
        raise HiddenError("its CRC does not match its bytes")
    return version, dict(_ENTRY.iter_unpack(memoryview(data)[_HEAD.size : tail_at])), tail_at


def has_local(chunk: Chunk) -> bool:
    """Whether this relay says something of an account itself in a chunk."""
    return bool(_flags(chunk).translate(None, _NOT_LOCAL))


def shown(chunk: Chunk, from_seq: int, hidden: Mapping[bytes, int]) -> tuple[list[memoryview], int]:
    """The frames of a chunk from `from_seq` on that consumers may have, in pieces; and how many.

    Args:
        hidden: account key → the seq that it was taken down with.
    """
    from_seq = max(from_seq, chunk.first_seq)
    rows = memoryview(chunk.raw)[chunk.rows_start : chunk.frames_start]
    if not _flags(chunk).translate(None, _NOT_HELD) and (
        not hidden or hidden.keys().isdisjoint(chain.from_iterable(_ACCOUNTS.iter_unpack(rows)))
    ):
        return [chunk.frames_from(from_seq)], chunk.next_seq - from_seq
    frames = memoryview(chunk.raw)[chunk.frames_start : chunk.frames_end]
    pieces: list[memoryview] = []
    start = end = events = 0
    at = (from_seq - chunk.first_seq) * ROW.size
    for seq, row in enumerate(ROW.iter_unpack(rows[at:]), from_seq):
        offset, length, kind, flags, account = row[0], row[1], row[2], row[3], row[12]
        if flags & _HELD:
            continue
        if (
            not flags & _LOCAL
            and (taken_down := hidden.get(account)) is not None
            and (seq < taken_down or kind != _IDENTITY)
        ):
            continue
        if offset != end:
            if end > start:
                pieces.append(frames[start:end])
            start = offset
        end = offset + length
        events += 1
    if end > start:
        pieces.append(frames[start:end])
    return pieces, events


def _flags(chunk: Chunk) -> bytes:
    return chunk.raw[chunk.rows_start + _FLAGS_AT : chunk.frames_start : ROW.size]
