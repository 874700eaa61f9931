"""What is a content identifier: as bytes, as text, and for given data?

Only the blessed form is made here: version 1, dag-cbor, SHA-256. Other links are carried as the
bytes they came as. This module does not fetch and does not decode what a CID points to.

Source: the data-model spec, "Link and CID Formats".
"""

from __future__ import annotations

from base64 import b32decode, b32encode
from binascii import Error as Base32Error
from hashlib import sha256
from typing import Final

import libipld

DAG_CBOR_PREFIX: Final = b"\x01\x71\x12\x20"
"""Version 1, codec dag-cbor, SHA-256, 32 bytes: what commits, nodes and records are named by."""
RAW_PREFIX: Final = b"\x01\x55\x12\x20"
"""The same with codec raw: what blobs are named by."""
CID_LENGTH: Final = 36
"""Bytes of a blessed CID: the prefix and a SHA-256 digest."""


def cid_of(data: bytes) -> bytes:
    """The dag-cbor CID of one encoded object, 36 bytes."""
    return DAG_CBOR_PREFIX + sha256(data).digest()


def is_dag_cbor_cid(value: object) -> bool:
    """Whether a decoded link is a blessed dag-cbor CID.

    A byte string that only looks like one is no link; see common.dagcbor.ByteString.
    """
    return type(value) is bytes and len(value) == CID_LENGTH and value[:4] == DAG_CBOR_PREFIX


def cid_text(cid: bytes) -> str:
    """The text form: base32 in lower case, behind the multibase letter `b`."""
    if len(cid) == CID_LENGTH and cid[:4] in (DAG_CBOR_PREFIX, RAW_PREFIX):
        return libipld.encode_cid(cid)  # 0.2 µs for 22: a page of listRepos has a thousand
    return "b" + b32encode(cid).decode().rstrip("=").lower()


def parse_cid(text: str) -> bytes:
    """The inverse of `cid_text`.

    Raises:
        ValueError: not base32 in lower case behind `b`, or not a blessed CID.
    """
    if text[:1] != "b" or text != text.lower():
        raise ValueError("a CID's text is base32 in lower case behind the letter b")
    body = text[1:].upper()
    try:
        cid = b32decode(body + "=" * (-len(body) % 8))
    except Base32Error as error:
        raise ValueError(f"not base32: {error}") from None
    if len(cid) != CID_LENGTH or cid[:4] not in (DAG_CBOR_PREFIX, RAW_PREFIX):
        raise ValueError("not a version 1 CID with SHA-256")
    if cid_text(cid) != text:
        raise ValueError("spare bits of the last letter are set")
    return cid
