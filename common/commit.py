"""What does a signed commit say, and which bytes does its signature cover?

The signature covers the commit without its `sig` entry, as canonical CBOR. Nothing is encoded for
that: the entry is cut out of the bytes and the map's head counts one less, so keys that we do not
know stay under the signature. This module verifies no signature.

Source: the repository spec, "Commit Objects"; the cryptography spec; S-MST-01, S-CRY-02, S-CRY-03.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final, NamedTuple

from common.cid import is_dag_cbor_cid
from common.dagcbor import SMALL_ITEMS, ByteString, MalformedCbor, decode_map, map_head
from common.syntax import parse_did, parse_tid
from common.verdict import DropReason

VERSION: Final = 3
"""The only version of the repository format in use."""
SIGNATURE_BYTES: Final = 64
"""Source: S-CRY-03."""
_DATA_HEAD: Final = b"ddata\xd8\x2a\x58\x25\x00\x01\x71\x12\x20"
_TAIL: Final = b"dprev\xf6gversion\x03"
_REV_HEAD: Final = b"crev\x6d"
_SIG_HEAD: Final = b"csigX@"
_DATA_AT: Final = SIGNATURE_BYTES + len(_DATA_HEAD) - 4


class SignedCommit(NamedTuple):
    """data: CID of the tree's root. sig: 64 bytes. digest: SHA-256 of what `sig` covers."""

    did: str
    rev: str
    data: bytes
    sig: bytes
    digest: bytes


class BadCommit(NamedTuple):
    """Why a block is not the commit that its message announced.

    rev: the one that was signed, where nothing but that is another.
    """

    reason: DropReason
    detail: str
    rev: str | None = None


def open_commit(block: bytes, did: str, rev: str) -> SignedCommit | BadCommit:
    """Read a commit block, and hold it against what its message says.

    Args:
        did, rev: what the message says; well-formed.
    """
    # Nearly every commit has these six keys and no `prev`; then its bytes lie where they must.
    head = b"\xa6cdid" + _text_head(did) + did.encode() + _REV_HEAD + rev.encode() + _SIG_HEAD
    at = len(head)
    rest = block[at:]
    if (
        block.startswith(head)
        and rest.startswith(_DATA_HEAD, SIGNATURE_BYTES)
        and rest[_DATA_AT + 36 :] == _TAIL
    ):
        unsigned = b"\xa5" + block[1 : at - len(_SIG_HEAD)] + rest[SIGNATURE_BYTES:]
        return SignedCommit(
            did,
            rev,
            rest[_DATA_AT : _DATA_AT + 36],
            rest[:SIGNATURE_BYTES],
            sha256(unsigned).digest(),
        )
    # S-MST-01: unknown fields are let be, and a `prev` may be a link.
    try:
        return _open_slowly(block, did, rev)
    except MalformedCbor as error:
        return BadCommit(DropReason.COMMIT_MALFORMED, str(error))


def _open_slowly(block: bytes, did: str, rev: str) -> SignedCommit | BadCommit:
    """The same for any canonical map.

    Raises:
        MalformedCbor: not canonical, or a field that must be there is missing or mistyped.
    """
    fields, spans, body, end = decode_map(block, 0, SMALL_ITEMS)
    if end != len(block):
        raise MalformedCbor(f"bytes follow the commit at {end}")
    if type(fields.get("version")) is not int or fields["version"] != VERSION:
        raise MalformedCbor("version is not 3")
    if not is_dag_cbor_cid(fields.get("data")):
        raise MalformedCbor("data is no dag-cbor link")
    if "prev" not in fields or not (fields["prev"] is None or is_dag_cbor_cid(fields["prev"])):
        raise MalformedCbor("prev is neither null nor a dag-cbor link")
    sig = fields.get("sig")
    if type(sig) is not ByteString or len(sig) != SIGNATURE_BYTES:
        raise MalformedCbor("sig is no byte string of 64 bytes")
    if parse_did(fields.get("did")) is None or parse_tid(fields.get("rev")) is None:
        raise MalformedCbor("did or rev is none")
    if len(fields) > 255:
        raise MalformedCbor("more than 255 keys")
    if fields["did"] != did:
        return BadCommit(DropReason.COMMIT_MISMATCH, f"signed for {fields['did']}"[:200])
    if fields["rev"] != rev:
        return BadCommit(DropReason.COMMIT_MISMATCH, f"signed rev {fields['rev']}", fields["rev"])
    # S-CRY-02.
    cut = spans["sig"]
    unsigned = map_head(len(fields) - 1) + block[body : cut.key] + block[cut.end :]
    return SignedCommit(did, rev, fields["data"], bytes(sig), sha256(unsigned).digest())


def _text_head(text: str) -> bytes:
    """The CBOR head of an ASCII text."""
    length = len(text)
    if length < 24:
        return bytes([0x60 | length])
    return bytes([0x78, length]) if length < 256 else b"\x79" + length.to_bytes(2, "big")
