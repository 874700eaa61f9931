"""For each reason that the decoder gives there is a message that one check alone refuses.

The check is then loosened, and the message is read. So each message shows that its check is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from common import event as decoder
from common.dagcbor import decode_map
from common.envelope import Kind
from common.event import MAX_OPS, MAX_SEQ, Event, decode
from common.frame import IDENTITY_HEADER, MAX_FRAME_BYTES, SYNC_HEADER
from common.verdict import Drop, DropReason
from tests.common.commits import DID, PATH, RECORD, REV, TIME, cid, encode, frame, link

IDENTITY: Final = {"seq": 6, "did": DID, "time": TIME}


class Fault(NamedTuple):
    """One wrong message. name: what in common.event has to be another thing for it to be read."""

    reason: DropReason
    raw: bytes
    name: str
    loosened: Any


def always(_value: object) -> bool:
    return True


def unchanged(value: object) -> object:
    return value


def without_end(raw: bytes, start: int) -> tuple[dict[str, Any], int, int]:
    payload = decode_map(raw, start)
    span = payload.spans["seq"]
    return payload.value, span.value, span.end


def op(**changed: Any) -> dict[str, Any]:
    return {"action": "create", "path": PATH, "cid": link(cid(RECORD)), **changed}


def any_op(raw_op: dict[str, Any]) -> decoder.Op:
    return decoder.Op(raw_op["action"], raw_op["path"], raw_op["cid"], raw_op.get("prev"))


def a_type(header: dict[str, Any]) -> bytes:
    return encode(header) + encode(IDENTITY)


def ops(count: int) -> list[dict[str, Any]]:
    return [op(path=f"app.example.note/{n}") for n in range(count)]


READ: Final[dict[str, tuple[Kind, Callable[..., Any]]]] = decoder._READ

FAULTS: Final[dict[str, Fault]] = {
    "a frame of one byte too many": Fault(
        DropReason.FRAME_TOO_LARGE,
        IDENTITY_HEADER + encode({**IDENTITY, "x": "y" * MAX_FRAME_BYTES}),
        "MAX_FRAME_BYTES", 2 * MAX_FRAME_BYTES,
    ),
    "a byte behind the payload": Fault(
        DropReason.MALFORMED_FRAME, IDENTITY_HEADER + encode(IDENTITY) + b"\xf6",
        "_payload", without_end,
    ),
    "an op of 2": Fault(
        DropReason.UNKNOWN_OP, a_type({"op": 2, "t": "#identity"}), "OP_MESSAGE", 2
    ),
    "a type of the past": Fault(
        DropReason.UNKNOWN_TYPE, a_type({"op": 1, "t": "#tombstone"}), "_READ",
        {**READ, "#tombstone": READ["#identity"]},
    ),
    "a seq of 2^53": Fault(
        DropReason.SEQ_INVALID, IDENTITY_HEADER + encode({**IDENTITY, "seq": MAX_SEQ}),
        "MAX_SEQ", 2 * MAX_SEQ,
    ),
    "a time without a zone": Fault(
        DropReason.FIELD_INVALID, frame(time="2026-07-04T14:38:07"), "is_datetime", always
    ),
    "a commit with a raw CID": Fault(
        DropReason.FIELD_INVALID, frame(commit=link(b"\x01\x55\x12\x20" + bytes(32))),
        "is_dag_cbor_cid", always,
    ),
    "a DID in capitals": Fault(
        DropReason.DID_INVALID, frame(repo=DID.upper()), "parse_did", unchanged
    ),
    "a rev of twelve characters": Fault(
        DropReason.REV_INVALID, frame(rev=REV[:-1]), "parse_tid", unchanged
    ),
    "2,000,001 bytes of blocks": Fault(
        DropReason.BLOCKS_TOO_LARGE, frame(blocks=bytes(2_000_001)),
        "MAX_COMMIT_BLOCKS_BYTES", 2_000_001,
    ),
    "10,001 bytes of blocks in a sync": Fault(
        DropReason.BLOCKS_TOO_LARGE,
        SYNC_HEADER + encode({**IDENTITY, "rev": REV, "blocks": bytes(10_001)}),
        "MAX_SYNC_BLOCKS_BYTES", 10_001,
    ),
    "201 operations": Fault(
        DropReason.TOO_MANY_OPS, frame(ops=ops(MAX_OPS + 1)), "MAX_OPS", MAX_OPS + 1
    ),
    "a path of three parts": Fault(
        DropReason.OP_INVALID, frame(ops=[op(path=PATH + "/x")]), "is_path", always
    ),
    "a create with a prev": Fault(
        DropReason.OP_INVALID, frame(ops=[op(prev=link(cid(b"x")))]), "_op", any_op
    ),
    "a create with a prev of null": Fault(
        DropReason.OP_INVALID, frame(ops=[op(prev=None)]), "_op", any_op
    ),
    "an update whose prev is null": Fault(
        DropReason.OP_INVALID, frame(ops=[op(action="update", prev=None)]), "_op", any_op
    ),
    "a delete with a cid": Fault(
        DropReason.OP_INVALID, frame(ops=[op(action="delete")]), "_op", any_op
    ),
    "a create without a cid": Fault(
        DropReason.OP_INVALID, frame(ops=[op(cid=None)]), "_op", any_op
    ),
    "an unknown action": Fault(
        DropReason.OP_INVALID, frame(ops=[op(action="rename")]), "_op", any_op
    ),
}  # fmt: skip

each_fault: Final = pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))


@each_fault
def test_a_wrong_message_is_dropped_for_its_fault(fault: Fault) -> None:
    found = decode(fault.raw)
    assert isinstance(found, Drop), found
    assert found.reason is fault.reason


@each_fault
def test_without_that_check_it_is_read(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, fault.name, fault.loosened)
    assert isinstance(decode(fault.raw), Event)


def test_every_reason_of_the_decoder_has_a_fault() -> None:
    named = Path(decoder.__file__).read_text()
    given = {reason for reason in DropReason if f"DropReason.{reason.name}" in named}
    assert {fault.reason for fault in FAULTS.values()} == given
