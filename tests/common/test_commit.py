"""Which commit blocks are read, and which bytes their signatures cover."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import cbor2
import pytest

from common.commit import BadCommit, SignedCommit, _open_slowly, open_commit
from common.verdict import DropReason
from tests.common.commits import DID, NODE, REV, SINCE, cid, commit_block, encode, link


def unsigned(block: bytes) -> bytes:
    fields = cbor2.loads(block)
    del fields["sig"]
    return encode(fields)


@pytest.mark.parametrize(
    ("changed", "did"),
    [
        pytest.param({}, DID, id="the ordinary six keys"),
        pytest.param({"prev": link(cid(b"before"))}, DID, id="a prev"),
        pytest.param({"note": "of the future", "a": 1}, DID, id="unknown keys"),
        pytest.param({"did": "did:web:a.example"}, "did:web:a.example", id="a short DID"),
        pytest.param(
            {"did": "did:web:" + "a" * 300}, "did:web:" + "a" * 300, id="a DID of 308 characters"
        ),
        pytest.param({f"key{n}": n for n in range(30)}, DID, id="36 keys"),
    ],
)
def test_the_digest_covers_the_commit_without_its_signature(
    changed: dict[str, Any], did: str
) -> None:
    block = commit_block(**changed)
    found = open_commit(block, did, REV)
    assert isinstance(found, SignedCommit), found
    assert found.digest == sha256(unsigned(block)).digest()
    assert found.sig == cbor2.loads(block)["sig"]
    assert found.data == cid(NODE)
    assert found == _open_slowly(block, did, REV)


LINK_LIKE = b"\x01\x71\x12\x20" + bytes(60)


def test_a_signature_that_looks_like_a_cid_is_a_signature() -> None:
    block = commit_block(sig=LINK_LIKE)
    found = open_commit(block, DID, REV)
    assert isinstance(found, SignedCommit)
    assert found.sig == LINK_LIKE
    assert found.digest == sha256(unsigned(block)).digest()


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        pytest.param(commit_block(did="did:plc:" + "a" * 24), DropReason.COMMIT_MISMATCH, id="did"),
        pytest.param(commit_block(rev=SINCE), DropReason.COMMIT_MISMATCH, id="rev"),
        pytest.param(commit_block(version=2), DropReason.COMMIT_MALFORMED, id="version 2"),
        pytest.param(commit_block(version=None), DropReason.COMMIT_MALFORMED, id="no version"),
        pytest.param(commit_block(version=True), DropReason.COMMIT_MALFORMED, id="version true"),
        pytest.param(commit_block(data=None), DropReason.COMMIT_MALFORMED, id="no data"),
        pytest.param(commit_block(data=cid(NODE)), DropReason.COMMIT_MALFORMED, id="data as bytes"),
        pytest.param(
            commit_block(data=link(b"\x01\x55\x12\x20" + bytes(32))),
            DropReason.COMMIT_MALFORMED,
            id="data as raw CID",
        ),
        pytest.param(commit_block(prev="x"), DropReason.COMMIT_MALFORMED, id="prev as text"),
        pytest.param(commit_block(sig=b"short"), DropReason.COMMIT_MALFORMED, id="a short sig"),
        pytest.param(commit_block(sig=bytes(65)), DropReason.COMMIT_MALFORMED, id="a long sig"),
        pytest.param(commit_block(sig="x" * 64), DropReason.COMMIT_MALFORMED, id="sig as text"),
        pytest.param(
            commit_block(sig=link(cid(b"x"))), DropReason.COMMIT_MALFORMED, id="sig as link"
        ),
        pytest.param(commit_block(did=5), DropReason.COMMIT_MALFORMED, id="did as number"),
        pytest.param(commit_block(rev="x"), DropReason.COMMIT_MALFORMED, id="rev that is no TID"),
        pytest.param(commit_block() + b"\x00", DropReason.COMMIT_MALFORMED, id="a byte more"),
        pytest.param(commit_block()[:-1], DropReason.COMMIT_MALFORMED, id="a byte less"),
        pytest.param(encode([1]), DropReason.COMMIT_MALFORMED, id="an array"),
        pytest.param(b"", DropReason.COMMIT_MALFORMED, id="nothing"),
        pytest.param(
            commit_block().replace(b"gversion\x03", b"gversion\x18\x03"),
            DropReason.COMMIT_MALFORMED,
            id="a longer version",
        ),
        pytest.param(
            commit_block().replace(b"csigX@", b"csigY\x00@"),
            DropReason.COMMIT_MALFORMED,
            id="a longer length of sig",
        ),
        pytest.param(
            b"\xa5" + commit_block()[1:].replace(b"dprev\xf6", b""),
            DropReason.COMMIT_MALFORMED,
            id="no prev",
        ),
    ],
)
def test_another_commit_than_announced_is_told_by_its_fault(
    block: bytes, reason: DropReason
) -> None:
    found = open_commit(block, DID, REV)
    assert isinstance(found, BadCommit)
    assert found.reason is reason


def test_every_flipped_byte_changes_the_outcome() -> None:
    block = commit_block()
    good = open_commit(block, DID, REV)
    for at in range(len(block)):
        flipped = bytearray(block)
        flipped[at] ^= 0x10
        assert open_commit(bytes(flipped), DID, REV) != good
