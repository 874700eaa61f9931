"""Which records does a commit get through with, and what is wrong with the others?"""

from __future__ import annotations

import random
import time
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.dagcbor import MAX_DEPTH, ByteString, MalformedCbor, decode, decode_map
from common.event import Op
from common.verdict import DropReason
from ingest import records
from ingest.records import MAX_RECORD_BYTES, SLOW_ITEMS, check_records
from tests.ingest.tree_model import block_of, cid_of, link

CID = cid_of(b"")


def reason_of(*blocks: bytes) -> DropReason | None:
    """Why a commit of these records is dropped."""
    ops = [Op("create", f"a.b.c/{i}", cid_of(block), None) for i, block in enumerate(blocks)]
    found = check_records({cid_of(block): block for block in blocks}, ops)
    return found and found.reason


def nested(depth: int) -> bytes:
    """A map with `depth` containers within each other, itself included."""
    return b"\xa1\x61a" + b"\x81" * (depth - 2) + b"\x80"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({}, id="an empty map"),
        pytest.param(
            {"$type": "a.b.c", "text": "; \x1b", "n": [1, -1, None, True]}, id="a plain one"
        ),
        pytest.param({"text": "水は古い道の下を流れる" * 40}, id="much that is not ASCII"),
        pytest.param({"link": link(CID)}, id="a link"),
        pytest.param(
            {"link": link(b"\x01\x55\x1b\x20" + b"\xfb" * 32)}, id="a link with any bytes"
        ),
        pytest.param({"bytes": CID}, id="a byte string that looks like a link"),
        pytest.param({"bytes": b"\xf9\xfa\xfb\x1b\xff\x3b\xff"}, id="a byte string like floats"),
        pytest.param({"n": 2**63 - 1, "m": -(2**63)}, id="the largest integers"),
        pytest.param({"list": [{}] * 200}, id="many maps"),
        pytest.param({"text": "x" * (MAX_RECORD_BYTES - 11)}, id="a megabyte"),
        pytest.param({"list": [0] * 200_000}, id="more items than a slow look may cost"),
    ],
)
def test_a_record_passes(value: Any) -> None:
    assert reason_of(block_of(value)) is None


def test_a_record_may_be_as_deep_as_is_allowed() -> None:
    assert reason_of(nested(MAX_DEPTH)) is None
    assert reason_of(nested(MAX_DEPTH + 1)) is DropReason.RECORD_MALFORMED


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x80", id="an array"),
        pytest.param(b"\x60", id="a text"),
        pytest.param(b"\xf6", id="a null"),
        pytest.param(b"\xd8\x2a\x58\x25\0" + CID, id="a link"),
        pytest.param(block_of({"a": 0}) + b"\0", id="bytes behind it"),
        pytest.param(block_of({"a": 0})[:-1], id="cut short"),
        pytest.param(b"\xbf\x61a\x00\xff", id="an indefinite length"),
        pytest.param(b"\xa1\x61a\x18\x01", id="a long head"),
        pytest.param(b"\xa2\x61b\0\x61a\0", id="keys out of order"),
        pytest.param(b"\xa2\x61a\0\x61a\0", id="a key twice"),
        pytest.param(b"\xa1\x00\x00", id="a key that is no text"),
        pytest.param(b"\xa1\x61a\x61\xff", id="broken UTF-8"),
        pytest.param(b"\xa1\x61a\xfb\x3f\xf8" + bytes(6), id="a float"),
        pytest.param(b"\xa1\x61a\xfa\x3f\x80\0\0", id="a short float"),
        pytest.param(b"\xa1\x61a\xf9\x3c\0", id="a half float"),
        pytest.param(b"\xa1\x61a\xf7", id="undefined"),
        pytest.param(b"\xa1\x61a\x1b\x80" + bytes(7), id="2^63"),
        pytest.param(b"\xa1\x61a\x3b\x80" + bytes(7), id="-2^63 - 1"),
        pytest.param(b"\xa1\x61a\xc0\x60", id="a tag"),
        pytest.param(b"\xa1\x61a\xd8\x2a\x41\x01", id="a link without its zero"),
        pytest.param(nested(500), id="deep"),
        pytest.param(nested(900_000), id="deeper than any stack"),
    ],
)
def test_what_is_no_record_is_refused(raw: bytes) -> None:
    assert reason_of(raw) is DropReason.RECORD_MALFORMED
    assert reason_of(block_of({}), raw) is DropReason.RECORD_MALFORMED


def test_a_record_that_did_not_come_is_missed() -> None:
    record = block_of({"a": 1})
    update = Op("update", "a.b.c/1", cid_of(record), CID)
    found = check_records({CID: record}, [update])
    assert found is not None
    assert found.reason is DropReason.RECORD_MISSING
    assert check_records({cid_of(record): record}, [update]) is None


def test_a_deleted_record_need_not_come() -> None:
    assert check_records({}, [Op("delete", "a.b.c/1", None, CID)]) is None


def test_a_record_beyond_the_limit_is_refused() -> None:
    just = block_of({"text": "x" * (MAX_RECORD_BYTES - 11)})
    assert len(just) == MAX_RECORD_BYTES
    assert reason_of(block_of({"text": "x" * (MAX_RECORD_BYTES - 10)})) is (
        DropReason.RECORD_TOO_LARGE
    )


def test_many_bytes_of_few_items_pass_in_one_commit() -> None:
    assert reason_of(*(block_of({"text": "x" * 190_000, "n": n}) for n in range(10))) is None


def test_all_records_of_a_commit_share_one_budget_of_slow_looks() -> None:
    some = [block_of({"list": [[]] * (SLOW_ITEMS // 4), "n": n}) for n in range(5)]
    late = block_of({"list": [[0.5]] * (SLOW_ITEMS // 4)})
    assert reason_of(*some[:2], late) is DropReason.RECORD_MALFORMED
    # When it is spent, nothing is refused unread, but for what is no map at all.
    assert reason_of(*some, late) is None
    assert reason_of(*some, b"\x80") is DropReason.RECORD_MALFORMED


@pytest.mark.parametrize(
    "head", ["b9ffff", "b97fff", "ba7fffffff", "a1616199ffff", "a161619a7fffffff"]
)
def test_a_count_of_items_that_are_not_there_spends_no_budget(head: str) -> None:
    short = bytes.fromhex(head)
    assert reason_of(short) is DropReason.RECORD_MALFORMED
    assert reason_of(short + b"\xf6" * 9) is DropReason.RECORD_MALFORMED


def test_a_bulk_of_long_structured_records_passes() -> None:
    facet = {"index": {"byteStart": 4, "byteEnd": 9}, "features": [{"$type": "a.b.c#tag"}]}
    some = [block_of({"text": "x" * 300, "n": n, "facets": [facet] * 120}) for n in range(200)]
    assert 1_200_000 < sum(map(len, some)) < 1_900_000
    assert reason_of(*some) is None


@pytest.mark.parametrize("item", [b"\x80", b"\xa0", b"\x00", b"\x40", b"\x60", b"\x37", b"\xf6"])
def test_the_dearest_records_cost_little(item: bytes) -> None:
    blocks = []
    for n in range(2):
        items = item * (990_000 // len(item))
        count = len(items) // len(item)
        blocks.append(b"\xa1\x61" + b"ab"[n : n + 1] + b"\x9a" + count.to_bytes(4, "big") + items)
    began_s = time.process_time()
    reason_of(*blocks)
    assert time.process_time() - began_s < 0.1  # an idle machine needs 0.02


def test_ordinary_records_take_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_raw: bytes, _max: int) -> int:
        raise AssertionError("the slow way was taken")

    monkeypatch.setattr(records, "check_map", refuse)
    like = {"$type": "app.bsky.feed.like", "createdAt": "2026-11-21T16:00:00.000000Z",
            "subject": {"uri": "at://did:plc:x/app.bsky.feed.post/3k", "cid": "bafy" + "a" * 55}}  # fmt: skip
    assert reason_of(block_of(like)) is None


def is_map(raw: bytes) -> bool:
    """What the arbiter says of a record."""
    try:
        return decode_map(raw).end == len(raw)
    except MalformedCbor:
        return False


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text()
    | st.binary() | st.just(CID) | st.sampled_from([link(CID), link(b"\1"), cbor2.CBORTag(1, 1)]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.text(), values), st.randoms(use_true_random=False))
def test_the_fast_way_takes_nothing_that_the_arbiter_refuses(
    value: Any, rng: random.Random
) -> None:
    raw = block_of(value)
    for _ in range(10):
        assert (reason_of(raw) is None) == is_map(raw)
        at = rng.randrange(len(raw))
        raw = raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]


def test_the_arbiter_tells_a_link_from_its_bytes() -> None:
    found = decode(block_of({"a": CID, "b": link(CID)}))
    assert type(found["a"]) is ByteString
    assert type(found["b"]) is bytes
