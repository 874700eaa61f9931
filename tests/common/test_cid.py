"""A CID as bytes and as text."""

from __future__ import annotations

import base64
import hashlib

import pytest

from common.cid import DAG_CBOR_PREFIX, RAW_PREFIX, cid_of, cid_text, is_dag_cbor_cid, parse_cid
from common.dagcbor import ByteString

EMPTY_TREE = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"


def test_the_empty_tree_has_its_known_name() -> None:
    cid = cid_of(bytes.fromhex("a2616580616cf6"))
    assert cid_text(cid) == EMPTY_TREE
    assert parse_cid(EMPTY_TREE) == cid


def test_the_fast_way_and_the_slow_one_give_the_same_text() -> None:
    for number in range(200):
        digest = hashlib.sha256(bytes([number])).digest()
        for prefix in (DAG_CBOR_PREFIX, RAW_PREFIX, b"\x01\x55\x12\x1f"):
            cid = prefix + digest
            slow = "b" + base64.b32encode(cid).decode().rstrip("=").lower()
            assert cid_text(cid) == slow


@pytest.mark.parametrize(
    "text",
    ["", "b", EMPTY_TREE.upper(), EMPTY_TREE[1:], EMPTY_TREE[:-1], EMPTY_TREE + "a",
     EMPTY_TREE[:-1] + "n", "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR", "b!!!"],
)  # fmt: skip
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_cid(text)


def test_only_a_link_of_the_blessed_form_names_data() -> None:
    cid = cid_of(b"x")
    assert is_dag_cbor_cid(cid)
    assert not is_dag_cbor_cid(ByteString(cid))
    assert not is_dag_cbor_cid(b"\x01\x55" + cid[2:])
    assert not is_dag_cbor_cid(cid + b"\0")
    assert not is_dag_cbor_cid(None)
