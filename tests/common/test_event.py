"""What becomes of a message by its form alone; and that the fast way never differs from the slow."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common import event as event_module
from common.commit_payload import read_fast
from common.dagcbor import MalformedCbor
from common.envelope import Kind
from common.event import MAX_OPS, Event, Info, Op, StreamError, decode
from common.frame import (
    ACCOUNT_HEADER,
    COMMIT_HEADER,
    IDENTITY_HEADER,
    INFO_HEADER,
    MAX_FRAME_BYTES,
    SYNC_HEADER,
)
from common.verdict import Drop, DropReason
from tests.common.commits import (
    DID,
    EMPTY,
    RECORD,
    REV,
    SINCE,
    TIME,
    car,
    cid,
    commit_block,
    encode,
    frame,
    link,
    payload,
)

PATH = "app.example.note/3k"


def an_op(**changed: Any) -> dict[str, Any]:
    op: dict[str, Any] = {"action": "create", "path": PATH, "cid": link(cid(RECORD))}
    op.update(changed)
    return {name: value for name, value in op.items() if value is not ...}


def slowly(raw: bytes) -> Event | Drop:
    """The same decision without the fast way."""
    try:
        found = event_module._slow(raw, "#commit", len(COMMIT_HEADER))
    except MalformedCbor:
        return Drop(DropReason.MALFORMED_FRAME)
    assert isinstance(found, Event | Drop)
    return found


def same(one: object, other: object) -> bool:
    if isinstance(one, Event) and isinstance(other, Event):
        return all(getattr(one, name) == getattr(other, name) for name in Event.__slots__)
    return isinstance(one, Drop) and isinstance(other, Drop) and one.reason is other.reason


# --- commits ---


def test_an_ordinary_commit_is_read_the_fast_way() -> None:
    raw = frame()
    assert read_fast(raw, len(COMMIT_HEADER)) is not None
    found = decode(raw)
    assert isinstance(found, Event)
    assert (found.kind, found.did, found.seq) == (Kind.COMMIT, DID, 31527015322)
    assert (found.rev, found.since, found.time) == (REV, SINCE, TIME)
    assert found.commit == cid(commit_block())
    assert found.prev_data == cid(EMPTY)
    assert found.blocks == payload()["blocks"]
    assert found.ops == [Op("create", PATH, cid(RECORD), None)]
    assert cbor2.loads(raw[found.seq_start : found.seq_end]) == 31527015322


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"prevData": ...}, id="without prevData"),
        pytest.param({"since": None}, id="a first commit"),
        pytest.param({"ops": []}, id="an empty commit"),
        pytest.param({"seq": 1}, id="seq 1"),
        pytest.param({"seq": 24}, id="a seq of two bytes"),
        pytest.param({"seq": 65536}, id="a seq of five bytes"),
        pytest.param({"seq": 2**53 - 1}, id="the highest seq"),
        pytest.param({"repo": "did:web:example.com"}, id="a did:web"),
        pytest.param({"time": "2026-07-04T14:38:07Z"}, id="a time of less than 24 characters"),
        pytest.param(
            {"ops": [an_op(action="update", prev=link(cid(b"old")))]}, id="an update with prev"
        ),
        pytest.param({"ops": [an_op(action="update")]}, id="an update without prev"),
        pytest.param(
            {"ops": [an_op(action="delete", cid=None, prev=link(cid(b"old")))]}, id="a delete"
        ),
        pytest.param({"tooBig": True, "rebase": True}, id="flags that nobody heeds"),
        pytest.param(
            {"ops": [an_op(path=f"app.example.note/{n}") for n in range(MAX_OPS)]}, id="200 ops"
        ),
        pytest.param({"blocks": b"\0" * 30}, id="blocks of 30 bytes"),
        pytest.param({"blocks": b"\0" * 200}, id="blocks of 200 bytes"),
        pytest.param({"blocks": b"\0" * 70_000}, id="blocks of 70 kB"),
        pytest.param({"blocks": b"\0" * 2_000_000}, id="the largest blocks"),
    ],
)
def test_both_ways_read_the_same(changed: dict[str, Any]) -> None:
    raw = frame(**changed)
    found = decode(raw)
    assert isinstance(found, Event)
    assert read_fast(raw, len(COMMIT_HEADER)) is not None
    assert same(found, slowly(raw))
    assert cbor2.loads(raw[found.seq_start : found.seq_end]) == found.seq


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"rebase": ..., "tooBig": ..., "blobs": ...}, id="deprecated fields gone"),
        pytest.param({"blobs": [link(cid(b"blob"))]}, id="blobs listed"),
        pytest.param({"aNewField": {"deep": [1, b"x", None]}}, id="a field of the future"),
        pytest.param({"ops": [an_op(note="x")]}, id="an op with a field of the future"),
        pytest.param({"unknown": b"\x01\x71\x12\x20" + bytes(32)}, id="bytes that look like a CID"),
        pytest.param(
            {"ops": [an_op(cid=link(b"\x01\x71\x1b\x20" + bytes(32)))]}, id="another hash's CID"
        ),
    ],
)
def test_the_unusual_is_read_the_slow_way(changed: dict[str, Any]) -> None:
    raw = frame(**changed)
    assert read_fast(raw, len(COMMIT_HEADER)) is None
    found = decode(raw)
    assert isinstance(found, Event), found
    assert raw[found.seq_start : found.seq_end] == cbor2.dumps(found.seq)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param({"seq": 0}, DropReason.SEQ_INVALID, id="seq 0"),
        pytest.param({"seq": -5}, DropReason.SEQ_INVALID, id="a negative seq"),
        pytest.param({"seq": 2**53}, DropReason.SEQ_INVALID, id="a seq of 2^53"),
        pytest.param({"seq": ...}, DropReason.SEQ_INVALID, id="no seq"),
        pytest.param({"seq": True}, DropReason.SEQ_INVALID, id="a seq that is true"),
        pytest.param({"seq": "7"}, DropReason.SEQ_INVALID, id="a seq that is text"),
        pytest.param({"repo": ...}, DropReason.DID_INVALID, id="no repo"),
        pytest.param({"repo": "alice.example"}, DropReason.DID_INVALID, id="a handle as repo"),
        pytest.param({"repo": DID.upper()}, DropReason.DID_INVALID, id="a DID in capitals"),
        pytest.param({"repo": "did:plc:short"}, DropReason.DID_INVALID, id="a short did:plc"),
        pytest.param({"rev": ...}, DropReason.REV_INVALID, id="no rev"),
        pytest.param({"rev": "abc"}, DropReason.REV_INVALID, id="a rev that is no TID"),
        pytest.param({"rev": None}, DropReason.REV_INVALID, id="a null rev"),
        pytest.param({"since": ...}, DropReason.FIELD_INVALID, id="no since"),
        pytest.param({"since": "abc"}, DropReason.FIELD_INVALID, id="a since that is no TID"),
        pytest.param({"commit": ...}, DropReason.FIELD_INVALID, id="no commit"),
        pytest.param({"commit": None}, DropReason.FIELD_INVALID, id="a null commit"),
        pytest.param({"commit": cid(b"x")}, DropReason.FIELD_INVALID, id="commit as byte string"),
        pytest.param(
            {"commit": link(b"\x01\x55\x12\x20" + bytes(32))},
            DropReason.FIELD_INVALID,
            id="commit as raw CID",
        ),
        pytest.param({"prevData": None}, DropReason.FIELD_INVALID, id="a null prevData"),
        pytest.param({"prevData": "x"}, DropReason.FIELD_INVALID, id="prevData as text"),
        pytest.param({"blocks": ...}, DropReason.FIELD_INVALID, id="no blocks"),
        pytest.param({"blocks": b""}, DropReason.FIELD_INVALID, id="empty blocks"),
        pytest.param({"blocks": "text"}, DropReason.FIELD_INVALID, id="blocks as text"),
        pytest.param({"blocks": b"\0" * 2_000_001}, DropReason.BLOCKS_TOO_LARGE, id="big blocks"),
        pytest.param({"time": ...}, DropReason.FIELD_INVALID, id="no time"),
        pytest.param({"time": "yesterday"}, DropReason.FIELD_INVALID, id="a time that is none"),
        pytest.param({"ops": ...}, DropReason.FIELD_INVALID, id="no ops"),
        pytest.param({"ops": {}}, DropReason.FIELD_INVALID, id="ops that are a map"),
        pytest.param(
            {"ops": [an_op(path=f"app.example.note/{n}") for n in range(MAX_OPS + 1)]},
            DropReason.TOO_MANY_OPS,
            id="201 ops",
        ),
        pytest.param({"ops": ["x"]}, DropReason.OP_INVALID, id="an op that is text"),
        pytest.param({"ops": [an_op(action="move")]}, DropReason.OP_INVALID, id="another action"),
        pytest.param({"ops": [an_op(action=...)]}, DropReason.OP_INVALID, id="no action"),
        pytest.param({"ops": [an_op(cid=None)]}, DropReason.OP_INVALID, id="create without cid"),
        pytest.param({"ops": [an_op(cid=...)]}, DropReason.OP_INVALID, id="no cid at all"),
        pytest.param(
            {"ops": [an_op(prev=link(cid(b"x")))]}, DropReason.OP_INVALID, id="create with prev"
        ),
        pytest.param({"ops": [an_op(prev=None)]}, DropReason.OP_INVALID, id="create, null prev"),
        pytest.param(
            {"ops": [an_op(action="update", prev=None)]},
            DropReason.OP_INVALID,
            id="update with a null prev",
        ),
        pytest.param({"ops": [an_op(action="delete")]}, DropReason.OP_INVALID, id="delete, cid"),
        pytest.param(
            {"ops": [an_op(action="delete", cid=...)]},
            DropReason.OP_INVALID,
            id="delete without a null cid",
        ),
        pytest.param({"ops": [an_op(cid=cid(b"x"))]}, DropReason.OP_INVALID, id="cid as bytes"),
        pytest.param({"ops": [an_op(), an_op()]}, DropReason.OP_INVALID, id="a path twice"),
        *(
            pytest.param({"ops": [an_op(path=path)]}, DropReason.OP_INVALID, id=f"path {path!r}")
            for path in (
                "", "/", "app.example.note", "app.example.note/", "/3k", "app.example.note/a/b",
                "app.example/3k", "app.example.note/.", "app.example.note/..",
                "app.example.note/a b", "app.example.note/ü", "app.example.note/" + "x" * 513,
                "app.example.note/3k\n", None, 7,
            )
        ),
    ],
)  # fmt: skip
def test_a_commit_of_wrong_form_is_dropped(changed: dict[str, Any], reason: DropReason) -> None:
    found = decode(frame(**changed))
    assert isinstance(found, Drop)
    assert found.reason is reason
    if reason is not DropReason.SEQ_INVALID:
        assert found.seq == 31527015322


# --- what must not be taken for canonical ---


def mangled(old: bytes, new: bytes, **changed: Any) -> bytes:
    raw = frame(**changed)
    assert raw.count(old) == 1
    return raw.replace(old, new)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(mangled(b"\x63seq\x0b", b"\x63seq\x18\x0b", seq=11), id="a longer seq"),
        pytest.param(
            mangled(b"\x63seq\x0b", b"\x63seq\xfb\x40\x26" + bytes(6), seq=11), id="a float seq"
        ),
        pytest.param(mangled(b"\x66rebase\xf4", b"\x66rebase\xf7"), id="an undefined flag"),
        pytest.param(mangled(b"\x66blocks\x5a\x00\x01", b"\x66blocks\x5b\x00\x00\x00\x00\x00\x01",
                             blocks=bytes(65_536)), id="a longer length of blocks"),
        pytest.param(mangled(b"\x66blocks\x44", b"\x66blocks\x58\x04", blocks=b"abcd"),
                     id="a longer length of small blocks"),
        pytest.param(mangled(b"\x66blocks\x44abcd", b"\x66blocks\x5f\x44abcd\xff", blocks=b"abcd"),
                     id="blocks of indefinite length"),
        pytest.param(mangled(b"\x66blocks\x44abcd", b"\x66blocks\x5a\x00\xff\xff\xffabcd",
                             blocks=b"abcd"), id="blocks beyond the end"),
        pytest.param(mangled(b"\x66blocks\x58\x64", b"\x66blocks\x59\x00\x64", blocks=bytes(100)),
                     id="two bytes of length where one would do"),
        pytest.param(mangled(b"\x66blocks\x59\x01\x2c", b"\x66blocks\x5a\x00\x00\x01\x2c",
                             blocks=bytes(300)), id="four bytes of length where two would do"),
        pytest.param(frame(seq=2**64 - 1), id="a seq beyond 64 bits"),
        pytest.param(frame(seq=-(2**64)), id="a negative seq beyond 64 bits"),
        pytest.param(mangled(b"fblocks@\x64prev", b"fblocksDAAAA\x64prev", blocks=b"",
                             ops=[an_op(action="update", path="app.example.note/fblocks@",
                                        prev=link(cid(b"x")))]),
                     id="canonical only once a piece of a path is cut out"),
        pytest.param(mangled(b"fblocks@\x64prev", b"fblocksDAAAA\x64prev", blocks=b"", seq=5,
                             ops=[an_op(action="update", prev=link(cid(b"x")),
                                        path="cseq\x05" + "x" * 97 + "fblocks@")]),
                     id="the same with a seq where one would be"),
        pytest.param(mangled(b"\x65blobs\x80", b"\x65blobs\x98\x00"), id="a longer array head"),
        pytest.param(frame()[:-1], id="a byte missing"),
        pytest.param(frame() + b"\x00", id="a byte too much"),
        pytest.param(frame() + frame()[15:], id="two payloads"),
        pytest.param(COMMIT_HEADER, id="no payload"),
        pytest.param(COMMIT_HEADER + b"\x80", id="a payload that is an array"),
        pytest.param(COMMIT_HEADER[:-1] + b"\x18\x01" + frame()[15:], id="a longer op"),
        pytest.param(b"\xa2\x62op\x01\x61t\x67#commit" + frame()[15:], id="header out of order"),
        pytest.param(b"\x80" + frame()[15:], id="a header that is an array"),
        pytest.param(b"\xa1\x61t\x67#commit" + frame()[15:], id="a header without op"),
        pytest.param(b"\xa1\x62op\x01" + frame()[15:], id="a header without t"),
        pytest.param(b"\xa2\x61t\x05\x62op\x01" + frame()[15:], id="a t that is a number"),
        pytest.param(b"\xa1\x62op\x61x" + frame()[15:], id="an op that is text"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xfe hello", id="no CBOR"),
        pytest.param(frame(extra=1.5), id="a float in a field of the future"),
        pytest.param(frame(extra=2**64 - 1), id="an integer beyond 64 bits"),
        pytest.param(COMMIT_HEADER + b"\x81" * 100_000 + b"\x00", id="nested without end"),
    ],
)  # fmt: skip
def test_what_is_not_canonical_is_malformed(raw: bytes) -> None:
    found = decode(raw)
    assert isinstance(found, Drop)
    assert found.reason is DropReason.MALFORMED_FRAME


def forgeries() -> list[Any]:
    """Frames that hold, inside a value, what the fast way searches for."""
    lure = "fblocksX" + "\x30"
    inner = b"\x66blocks\x58\x20" + bytes(32)
    # A path whose characters read as a byte string's head, which swallows what follows.
    swallowing = "app.example.note/fblocksY"
    forged_seq = b"\x63seq\x05"
    return [
        pytest.param({"ops": [an_op(path=f"app.example.note/{lure}")]}, id="in a path"),
        pytest.param({"ops": [an_op(path=swallowing)]}, id="a head in a path"),
        pytest.param({"ops": [an_op(path="app.example.note/fblocks@")]}, id="an empty one"),
        pytest.param({"blocks": inner + bytes(100)}, id="inside blocks"),
        pytest.param({"blocks": forged_seq * 9}, id="seq inside blocks"),
        pytest.param({"time": "2026-07-04T14:38:07Z\x63seq\x05"}, id="seq in time"),
        pytest.param(
            {"commit": link(b"\x01\x71\x12\x20" + (inner * 2)[:32])}, id="inside the commit's CID"
        ),
        pytest.param(
            {"ops": [an_op(cid=link(b"\x01\x71\x12\x20" + (inner * 2)[:32]))]}, id="in an op's CID"
        ),
        pytest.param(
            {"ops": [an_op(cid=link(b"\x01\x71\x12\x20" + (forged_seq * 9)[:32]))]},
            id="seq in an op's CID",
        ),
        pytest.param({"a": {"blocks": b"x" * 40}}, id="in a map within"),
        pytest.param({"a": {"seq": 5, "blocks": b"x"}}, id="both in a map within"),
    ]


@pytest.mark.parametrize("changed", forgeries())
def test_what_is_searched_for_does_not_deceive_inside_a_value(changed: dict[str, Any]) -> None:
    raw = frame(**changed)
    found, slow = decode(raw), slowly(raw)
    assert same(found, slow)
    if isinstance(found, Event):
        assert found.seq == 31527015322
        assert raw[found.seq_start : found.seq_end] == cbor2.dumps(found.seq)
        assert found.blocks == payload(**changed)["blocks"]


def test_a_cut_at_another_place_than_the_blocks_is_noticed() -> None:
    # The first thing that looks like the key is in a path; the real value is empty.
    raw = frame(ops=[an_op(path="app.example.note/fblocksDAAAA")], blocks=b"")
    assert read_fast(raw, len(COMMIT_HEADER)) is None
    assert decode(raw) == Drop(DropReason.FIELD_INVALID, "blocks is empty", 31527015322)


TEXT = st.sampled_from(
    [
        "fblocks@",
        "fblocksX0",
        "fblocksDAAAA",
        "cseq\x05",
        "fblocks",
        "Y",
        "3k",
        "a" * 24,
        TIME,
        SINCE,
    ]
) | st.text(max_size=30)
BINARY = st.sampled_from(
    [b"\x66blocks\x40", b"\x66blocks\x58\x20", b"\x63seq\x05", b"\x01\x71\x12\x20" + bytes(32)]
) | st.binary(max_size=60)
ANY = st.none() | st.booleans() | st.integers(-5, 2**64) | TEXT | BINARY | st.floats()
CIDS = st.builds(
    lambda head, body: link(head + (body * 32)[:32]),
    st.sampled_from([b"\x01\x71\x12\x20", b"\x01\x55\x12\x20", b"\x12\x20"]),
    BINARY.filter(len),
)
OPS = st.lists(
    st.fixed_dictionaries(
        {"path": st.just(PATH) | TEXT.map(lambda t: f"app.example.note/{t}")},
        optional={
            "action": st.sampled_from(["create", "update", "delete", "x"]),
            "cid": CIDS | ANY, "prev": CIDS | ANY, "other": ANY,
        },
    ),
    max_size=3,
)  # fmt: skip
PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "ops": OPS | ANY, "rev": TEXT, "seq": st.integers(-1, 2**54) | ANY, "repo": TEXT,
        "time": TEXT, "blobs": st.lists(CIDS, max_size=2), "since": TEXT | st.none(),
        "blocks": BINARY, "commit": CIDS | BINARY, "rebase": ANY, "tooBig": ANY,
        "prevData": CIDS | BINARY, "a": ANY, "blocked": BINARY, "zzzzzzzzzzz": ANY,
    },
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(PAYLOADS, st.data())
@example({}, None)
def test_the_fast_way_takes_nothing_that_the_slow_one_refuses(
    changed: dict[str, Any], data: st.DataObject | None
) -> None:
    raw = bytearray(frame(**changed))
    for _ in range(data.draw(st.integers(0, 2)) if data else 0):
        assert data is not None
        at = data.draw(st.integers(15, len(raw) - 1))
        end = data.draw(st.integers(at, min(len(raw), at + 12)))
        raw[at:end] = data.draw(BINARY | st.binary(min_size=1, max_size=2))
    whole = bytes(raw)
    found, slow = decode(whole), slowly(whole)
    assert same(found, slow), (found, slow)


# --- the other kinds ---

SYNC: dict[str, Any] = {
    "seq": 5, "did": DID, "rev": REV, "time": TIME,
    "blocks": car([cid(commit_block())], [commit_block()]),
}  # fmt: skip
IDENTITY: dict[str, Any] = {"seq": 6, "did": DID, "time": TIME, "handle": "alice.example"}
ACCOUNT: dict[str, Any] = {"seq": 7, "did": DID, "time": TIME, "active": True}


def message(header: bytes, fields: dict[str, Any], **changed: Any) -> bytes:
    fields = {**fields, **changed}
    return header + encode({k: v for k, v in fields.items() if v is not ...})


def test_a_sync_is_read() -> None:
    found = decode(message(SYNC_HEADER, SYNC))
    assert isinstance(found, Event)
    assert (found.kind, found.did, found.seq, found.rev) == (Kind.SYNC, DID, 5, REV)
    assert found.blocks == SYNC["blocks"]
    assert found.commit is None


def test_an_identity_is_read_and_its_handle_is_not() -> None:
    found = decode(message(IDENTITY_HEADER, IDENTITY, handle="Not A Handle"))
    assert isinstance(found, Event)
    assert (found.kind, found.did, found.handle) == (Kind.IDENTITY, DID, "Not A Handle")
    bare = decode(message(IDENTITY_HEADER, IDENTITY, handle=...))
    assert isinstance(bare, Event)
    assert bare.handle is None


@pytest.mark.parametrize(
    ("active", "status"),
    [(True, ...), (False, "deleted"), (False, ...), (True, "throttled"), (False, "of-the-future")],
)
def test_an_account_status_is_read_as_it_is(active: bool, status: Any) -> None:
    raw = message(ACCOUNT_HEADER, ACCOUNT, active=active, status=status)
    found = decode(raw)
    assert isinstance(found, Event)
    assert (found.active, found.status) == (active, None if status is ... else status)
    assert cbor2.loads(raw[found.seq_start : found.seq_end]) == 7


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(message(SYNC_HEADER, SYNC, rev="x"), DropReason.REV_INVALID, id="sync: rev"),
        pytest.param(message(SYNC_HEADER, SYNC, did=5), DropReason.DID_INVALID, id="sync: did"),
        pytest.param(
            message(SYNC_HEADER, SYNC, blocks=bytes(10_001)),
            DropReason.BLOCKS_TOO_LARGE,
            id="sync: blocks over 10,000 bytes",
        ),
        pytest.param(
            message(SYNC_HEADER, SYNC, blocks=...), DropReason.FIELD_INVALID, id="sync: no blocks"
        ),
        pytest.param(
            message(SYNC_HEADER, SYNC, seq=...), DropReason.SEQ_INVALID, id="sync: no seq"
        ),
        pytest.param(
            message(IDENTITY_HEADER, IDENTITY, handle=7),
            DropReason.FIELD_INVALID,
            id="identity: handle",
        ),
        pytest.param(
            message(IDENTITY_HEADER, IDENTITY, time="x"),
            DropReason.FIELD_INVALID,
            id="identity: time",
        ),
        pytest.param(
            message(ACCOUNT_HEADER, ACCOUNT, active=...),
            DropReason.FIELD_INVALID,
            id="account: no active",
        ),
        pytest.param(
            message(ACCOUNT_HEADER, ACCOUNT, active=1),
            DropReason.FIELD_INVALID,
            id="account: active is a number",
        ),
        pytest.param(
            message(ACCOUNT_HEADER, ACCOUNT, status="x" * 65),
            DropReason.FIELD_INVALID,
            id="account: an endless status",
        ),
        pytest.param(
            message(ACCOUNT_HEADER, ACCOUNT, status=None),
            DropReason.FIELD_INVALID,
            id="account: a null status",
        ),
        *(
            pytest.param(
                encode({"op": 1, "t": t}) + encode(IDENTITY), DropReason.UNKNOWN_TYPE, id=f"t {t}"
            )
            for t in ("#handle", "#migrate", "#tombstone", "#future", "commit", "")
        ),
        pytest.param(
            encode({"op": 2, "t": "#commit"}) + encode({}), DropReason.UNKNOWN_OP, id="op 2"
        ),
        pytest.param(
            encode({"op": 0}) + encode({}), DropReason.UNKNOWN_OP, id="op 0"
        ),
        pytest.param(
            encode({"op": 2}) + b"\x80", DropReason.MALFORMED_FRAME, id="op 2 with an array"
        ),
    ],
)  # fmt: skip
def test_other_kinds_of_wrong_form_are_dropped(raw: bytes, reason: DropReason) -> None:
    found = decode(raw)
    assert isinstance(found, Drop)
    assert found.reason is reason


def test_a_header_may_have_fields_of_the_future() -> None:
    raw = encode({"op": 1, "t": "#identity", "zz": [1]}) + encode(IDENTITY)
    assert isinstance(decode(raw), Event)


def test_info_and_error_frames_are_read() -> None:
    assert decode(INFO_HEADER + encode({"name": "OutdatedCursor"})) == Info("OutdatedCursor", None)
    raw = bytes.fromhex("a1626f7020a1656572726f726c467574757265437572736f72")
    assert decode(raw) == StreamError("FutureCursor", None)
    odd = encode({"op": -1, "t": "#x"}) + encode({"error": "Odd", "message": "m"})
    assert decode(odd) == StreamError("Odd", "m")
    nameless = decode(b"\xa1\x62op\x20" + encode({}))
    assert isinstance(nameless, Drop)
    assert nameless.reason is DropReason.MALFORMED_FRAME


# --- size ---


def padded(size: int, seq: int) -> bytes:
    bare = len(frame(seq=seq, blocks=b"\0" * 1_900_000, pad=b"\0" * 3_000_000))
    return frame(seq=seq, blocks=b"\0" * 1_900_000, pad=b"\0" * (3_000_000 + size - bare))


@pytest.mark.parametrize(
    ("size", "seq", "passes"),
    [
        pytest.param(MAX_FRAME_BYTES, 2**40, True, id="the largest frame"),
        pytest.param(MAX_FRAME_BYTES + 1, 2**40, False, id="a byte more"),
        pytest.param(MAX_FRAME_BYTES - 8, 5, True, id="room for our longer seq"),
        pytest.param(MAX_FRAME_BYTES - 7, 5, False, id="no room for our longer seq"),
    ],
)
def test_no_frame_over_the_limit_comes_in_or_goes_out(size: int, seq: int, passes: bool) -> None:
    raw = padded(size, seq)
    assert len(raw) == size
    found = decode(raw)
    assert isinstance(found, Event) == passes
    assert passes or (isinstance(found, Drop) and found.reason is DropReason.FRAME_TOO_LARGE)


@pytest.mark.parametrize(
    "field",
    [b"\x61a", b"\x63ops", b"\x65blobs", b"\x66blocks"],
)
def test_a_frame_made_to_explode_is_refused_in_milliseconds(field: bytes) -> None:
    count = 4_900_000
    raw = COMMIT_HEADER + b"\xa1" + field + b"\x9a" + count.to_bytes(4, "big") + b"\x80" * count
    started_s = time.thread_time()
    found = decode(raw)
    assert time.thread_time() - started_s < 0.1
    assert isinstance(found, Drop)
    assert found.reason is DropReason.MALFORMED_FRAME


_LARGE: Any = "\x01" * 4_900_000 + "\N{GRINNING FACE}"
"""Printed, it takes four times its characters, of four bytes each."""


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(IDENTITY_HEADER + encode({"seq": _LARGE, "did": DID, "time": TIME}), id="seq"),
        pytest.param(IDENTITY_HEADER + encode({"seq": 6, "did": _LARGE, "time": TIME}), id="did"),
        pytest.param(IDENTITY_HEADER + encode({"seq": 6, "did": DID, "time": _LARGE}), id="time"),
        pytest.param(
            IDENTITY_HEADER + encode({"seq": [_LARGE], "did": DID, "time": TIME}), id="list"
        ),
        pytest.param(
            SYNC_HEADER + encode({"seq": 6, "did": DID, "time": TIME, "rev": _LARGE}), id="rev"
        ),
        pytest.param(frame(repo=_LARGE), id="repo"),
        pytest.param(frame(rev=_LARGE), id="rev of a commit"),
        pytest.param(frame(since=_LARGE), id="since"),
        pytest.param(frame(ops=[an_op(path=_LARGE)]), id="path"),
        pytest.param(frame(ops=[an_op(cid=[{"x": _LARGE}])]), id="within an op"),
        pytest.param(frame(ops=[_LARGE.encode()]), id="op"),
    ],
)
def test_of_a_value_that_fills_the_frame_only_the_beginning_is_told(raw: bytes) -> None:
    tracemalloc.start()
    found = decode(raw)
    _now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(found, Drop)
    assert len(found.detail) <= 200
    # The text itself, once as bytes and once as characters; not as it is printed.
    assert most < 30_000_000
