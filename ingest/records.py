"""Did the records come that a commit says it made, and is each one a record at all?

A record is one map in canonical DAG-CBOR of at most 1,000,000 bytes. What it means is nobody's
business here: no lexicon is looked at (S-VAL-14, S-VAL-15).

Source: S-COM-08, S-VAL-12, S-VAL-13, S-DAT-01, S-DAT-10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from common.dagcbor import MalformedCbor, decode_map
from common.event import Op
from common.verdict import DropReason
from ingest.node import BadTree

MAX_RECORD_BYTES: Final = 1_000_000
"""Source: the sync spec, "#commit"; decimal, as every megabyte of it."""


def check_records(blocks: Mapping[bytes, bytes], ops: Sequence[Op]) -> BadTree | None:
    """What is wrong with the records that `ops` create or update; None when nothing is.

    To be asked before ingest.inversion takes the nodes out of `blocks`: a record may look like one.
    """
    for op in ops:
        if op.cid is None:
            continue
        record = blocks.get(op.cid)
        if record is None:
            return BadTree(DropReason.RECORD_MISSING, op.path)
        if len(record) > MAX_RECORD_BYTES:
            return BadTree(DropReason.RECORD_TOO_LARGE, f"{len(record)} bytes at {op.path}")
        try:
            found = decode_map(record)
        except MalformedCbor as error:
            return BadTree(DropReason.RECORD_MALFORMED, f"{error} in {op.path}")
        if found.end != len(record):
            return BadTree(DropReason.RECORD_MALFORMED, f"bytes follow the map in {op.path}")
    return None
