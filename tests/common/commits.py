"""Commit messages made by hand, for tests of what reads them. Slow, obvious, by cbor2."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import cbor2
from coincurve import PrivateKey

from common.frame import COMMIT_HEADER

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
REV = "3mptbypluud2a"
SINCE = "3mptbwv4pn32u"
TIME = "2026-07-04T14:38:07.517Z"
KEY = PrivateKey(b"\x07" * 32)


def encode(value: Any) -> bytes:
    """Canonical CBOR by another library than the one under test."""
    return cbor2.dumps(value, canonical=True)


def cid(data: bytes) -> bytes:
    """The CID of a block."""
    return b"\x01\x71\x12\x20" + sha256(data).digest()


def link(raw_cid: bytes) -> cbor2.CBORTag:
    """A link in CBOR."""
    return cbor2.CBORTag(42, b"\0" + raw_cid)


def varint(number: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def car(roots: list[bytes], blocks: list[bytes], names: list[bytes] | None = None) -> bytes:
    """A CAR of these blocks; `names` gives them other CIDs than their own."""
    header = encode({"roots": [link(root) for root in roots], "version": 1})
    out = varint(len(header)) + header
    for block, name in zip(blocks, names or [cid(block) for block in blocks], strict=True):
        out += varint(len(name) + len(block)) + name + block
    return out


PATH = "app.example.note/3k"
RECORD = encode({"$type": "app.example.note", "text": "hello"})
EMPTY = encode({"e": [], "l": None})
"""The tree before the commit."""
NODE = encode({"e": [{"k": PATH.encode(), "p": 0, "t": None, "v": link(cid(RECORD))}], "l": None})
"""The tree after it."""


def commit_block(*, key: PrivateKey = KEY, **changed: Any) -> bytes:
    """A signed commit; a field set to None is left out, `prev` excepted."""
    fields: dict[str, Any] = {
        "did": DID, "rev": REV, "data": link(cid(NODE)), "prev": None, "version": 3,
    }  # fmt: skip
    fields.update(changed)
    fields = {k: v for k, v in fields.items() if v is not None or k == "prev"}
    if "sig" not in fields:
        fields["sig"] = compact_signature(key, encode(fields))
    return encode(fields)


def compact_signature(key: PrivateKey, message: bytes) -> bytes:
    """64 bytes, low-S."""
    return key.sign_recoverable(message)[:64]


def payload(**changed: Any) -> dict[str, Any]:
    """The payload of a #commit that creates a repo's only record; a field `...` is left out."""
    block = commit_block()
    fields: dict[str, Any] = {
        "ops": [{"action": "create", "path": PATH, "cid": link(cid(RECORD))}],
        "rev": REV,
        "seq": 31527015322,
        "repo": DID,
        "time": TIME,
        "blobs": [],
        "since": SINCE,
        "blocks": car([cid(block)], [block, NODE, RECORD]),
        "commit": link(cid(block)),
        "rebase": False,
        "tooBig": False,
        "prevData": link(cid(EMPTY)),
    }
    fields.update(changed)
    return {name: value for name, value in fields.items() if value is not ...}


def frame(**changed: Any) -> bytes:
    """A whole #commit message."""
    return COMMIT_HEADER + encode(payload(**changed))
