"""How is a value written down so that all agree on its bytes? DRISL-CBOR, CIDs and CAR files.

Writing only. It does not know what the values mean.

Source: atproto data model; repository specification, "CAR File Serialization".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Final

import cbor2

CID_PREFIX: Final = bytes.fromhex("01711220")
"""CID version 1, codec dag-cbor, hash sha-256 of 32 bytes."""


def encode(value: Any) -> bytes:
    """The canonical bytes of a value; a CID goes in as `link(cid)`."""
    return cbor2.dumps(value, canonical=True)


def link(cid: bytes) -> cbor2.CBORTag:
    """A CID (36 bytes) as a value that `encode` writes as a link (tag 42)."""
    return cbor2.CBORTag(42, b"\x00" + cid)


def optional_link(cid: bytes | None) -> cbor2.CBORTag | None:
    """`link`, or None for none."""
    return None if cid is None else link(cid)


def cid_of(block: bytes) -> bytes:
    """The CID (36 bytes) of a DRISL block."""
    return CID_PREFIX + hashlib.sha256(block).digest()


def uvarint(number: int) -> bytes:
    """LEB128 of a non-negative integer."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def car(roots: Iterable[bytes], blocks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A CAR (version 1) of (CID, block) pairs in the order given."""
    header = encode({"roots": [link(root) for root in roots], "version": 1})
    parts = [uvarint(len(header)), header]
    for cid, block in blocks:
        parts += (uvarint(len(cid) + len(block)), cid, block)
    return b"".join(parts)
