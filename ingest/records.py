"""Did the records come that a commit says it made, and is each one a record at all?

A record is one map in canonical DAG-CBOR of at most 1,000,000 bytes. What it means is nobody's
business here: no lexicon is looked at (S-VAL-14), and no CID in it either (S-DAT-07).

libipld decodes each once and encodes it again: equal bytes prove the canonical form, but for floats,
integers beyond 64 bits and nesting without end. Where bytes occur that could be one of these, or
could be hundreds of maps and arrays, and wherever the two differ, common.dagcbor decides: with one
budget for all records of a commit, so that none can be made to cost much. The library has one too,
in bytes: it takes 6 to 45 ns for each, but the arbiter nothing for those within a long text. Where both
are spent, as an honest bulk of long documents does, a record only has to begin as a map does: what
stands in it is not ours to refuse unread.

Source: S-COM-08, S-VAL-12, S-VAL-13, S-VAL-15, S-DAT-01, S-DAT-08, S-DAT-10, S-DAT-11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import libipld

from common.dagcbor import MAX_DEPTH, MalformedCbor, TooManyItems, check_map
from common.event import Op
from common.verdict import DropReason
from ingest.node import BadTree

MAX_RECORD_BYTES: Final = 1_000_000
"""Source: the sync spec, "#commit"; decimal, as every megabyte of it; S-COM-08."""
PLAIN_BYTES: Final = 262_144
"""Bytes of a commit's records that go to the library: 12 ms at the worst. [own]"""
SLOW_ITEMS: Final = 8192
"""Items of a commit's records that the arbiter looks at: 13 ms when all of them are links. [own]"""

_NO_CONTAINERS: Final = bytes({*range(256)} - {*range(0x80, 0xBC)})
"""Every byte but those that a map or an array can begin with."""
_long_positive: Final = re.compile(rb"\x1b[\x80-\xff]").search
_long_negative: Final = re.compile(rb"\x3b[\x80-\xff]").search


def check_records(blocks: Mapping[bytes, bytes], ops: Sequence[Op]) -> BadTree | None:
    """What is wrong with the records that `ops` create or update; None when nothing is.

    What they say is not looked at (S-VAL-14). To be asked before ingest.inversion takes the nodes out of `blocks`: a record may look like one.
    """
    left, plain_left = SLOW_ITEMS, PLAIN_BYTES
    for op in ops:
        if op.cid is None:
            continue
        record = blocks.get(op.cid)
        if record is None:
            # S-VAL-12.
            return BadTree(DropReason.RECORD_MISSING, op.path)
        if len(record) > MAX_RECORD_BYTES:
            return BadTree(DropReason.RECORD_TOO_LARGE, f"{len(record)} bytes at {op.path}")
        plain_left -= len(record)
        if plain_left < 0 or not _is_plain(record):
            try:
                left -= check_map(record, left)
            except TooManyItems:
                # S-VAL-13, S-VAL-15.
                left = 0
            except MalformedCbor as error:
                return BadTree(DropReason.RECORD_MALFORMED, f"{error} in {op.path}")
    return None


def _is_plain(record: bytes) -> bool:
    """Whether this is a canonical map, seen at once. False says nothing."""
    # A float begins with one of three bytes that no text has; an integer beyond 64 bits with one
    # of these two pairs; and with no more containers than may lie in each other, none is too deep.
    if (
        not b"\xa0" <= record[:1] <= b"\xbb"
        or 0xFB in record
        or 0xFA in record
        or 0xF9 in record
        or len(record.translate(None, _NO_CONTAINERS)) > MAX_DEPTH
        or _long_positive(record)
        or _long_negative(record)
    ):
        return False
    try:
        return bool(libipld.encode_dag_cbor(libipld.decode_dag_cbor(record)) == record)
    except (ValueError, RecursionError):
        return False
