"""What kind of message does a frame hold, and where does its payload begin?

A frame is two DRISL-CBOR objects one after the other: a header and a payload. This module reads
the header and knows its canonical bytes; payloads are common.event's.

Source: the event-stream spec, "Framing".
"""

from __future__ import annotations

from typing import Final, NamedTuple

from common.dagcbor import SMALL_ITEMS, MalformedCbor, decode_map

MAX_FRAME_BYTES: Final = 5_000_000
"""A whole message, in and out. Source: the sync spec, "Repository Event Stream"."""

COMMIT_HEADER: Final = bytes.fromhex("a261746723636f6d6d6974626f7001")
SYNC_HEADER: Final = bytes.fromhex("a26174652373796e63626f7001")
IDENTITY_HEADER: Final = bytes.fromhex("a2617469236964656e74697479626f7001")
ACCOUNT_HEADER: Final = bytes.fromhex("a2617468236163636f756e74626f7001")
INFO_HEADER: Final = bytes.fromhex("a261746523696e666f626f7001")
ERROR_HEADER: Final = bytes.fromhex("a1626f7020")

OP_MESSAGE: Final = 1
OP_ERROR: Final = -1


class Header(NamedTuple):
    """op: what the header says, usually 1 or -1. t: the type, None when there is none.

    payload: where the payload begins, in bytes.
    """

    op: int
    t: str | None
    payload: int


def parse_header(raw: bytes) -> Header:
    """Read the header of a frame.

    Raises:
        MalformedCbor: not a canonical map, or without an integer `op`, or `t` is no text.
    """
    header = decode_map(raw, 0, SMALL_ITEMS)
    op, t = header.value.get("op"), header.value.get("t")
    if type(op) is not int:
        raise MalformedCbor("header without an integer op")
    if t is not None and type(t) is not str:
        raise MalformedCbor("header whose t is no text")
    if op == OP_MESSAGE and t is None:
        raise MalformedCbor("message header without t")
    return Header(op, t, header.end)
