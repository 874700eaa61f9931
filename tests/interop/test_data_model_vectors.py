"""The published objects of the data model: their CBOR is read, and names itself."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any, Final

import pytest

from common.cid import cid_of, cid_text, parse_cid
from common.dagcbor import ByteString, decode
from common.event import Op
from common.verdict import DropReason
from ingest.records import check_records
from tests.interop.vectors import vectors
from tests.simnet.drisl import encode, link

OBJECTS: list[dict[str, Any]] = vectors("data-model/data-model-fixtures.json")


def test_there_are_objects() -> None:
    assert len(OBJECTS) == 3


@pytest.mark.parametrize("vector", OBJECTS, ids=lambda v: v["cid"])
def test_a_published_object_is_read_and_has_its_cid(vector: dict[str, Any]) -> None:
    raw = b64decode(vector["cbor_base64"] + "==")
    assert cid_text(cid_of(raw)) == vector["cid"]
    assert as_json(decode(raw)) == vector["json"]


def as_json(value: Any) -> Any:
    if isinstance(value, ByteString):
        return {"$bytes": b64encode(value).decode().rstrip("=")}
    if isinstance(value, bytes):
        return {"$link": cid_text(value)}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return value


def as_cbor(value: Any) -> Any:
    """What the JSON form stands for; a number without a fraction is an integer."""
    if isinstance(value, dict):
        if isinstance(value.get("$link"), str) and value["$link"].startswith("b"):
            return link(parse_cid(value["$link"]))
        return {key: as_cbor(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_cbor(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def fate_as_record(value: Any) -> DropReason | None:
    """What becomes of a commit that creates it."""
    block = encode(as_cbor(value))
    op = Op("create", "com.example.blah/x", cid_of(block), None)
    found = check_records({cid_of(block): block}, [op])
    return None if found is None else found.reason


@pytest.mark.parametrize(
    "vector", vectors("data-model/data-model-valid.json"), ids=lambda v: v["note"]
)
def test_a_valid_object_is_a_record(vector: dict[str, Any]) -> None:
    assert fate_as_record(vector["json"]) is None


IN_ANY_FORM: Final = {"top-level not an object", "float"}
"""What is wrong with an object's CBOR too. All others are wrong as JSON (`$link` and `$bytes` are none
of CBOR's), or by a rule on `$type` and blobs that is no relay's business: S-VAL-13, S-VAL-14."""


@pytest.mark.parametrize(
    "vector", vectors("data-model/data-model-invalid.json"), ids=lambda v: v["note"]
)
def test_an_invalid_object_is_no_record_where_that_shows_in_cbor(vector: dict[str, Any]) -> None:
    wrong = vector["note"] in IN_ANY_FORM
    assert fate_as_record(vector["json"]) is (DropReason.RECORD_MALFORMED if wrong else None)
