"""The published objects of the data model: their CBOR is read, and names itself."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest

from common.cid import cid_of, cid_text
from common.dagcbor import ByteString, decode
from tests.interop.vectors import needs_interop, vectors

OBJECTS: list[dict[str, Any]] = vectors("data-model/data-model-fixtures.json")


@needs_interop
def test_there_are_objects() -> None:
    assert len(OBJECTS) == 3


@pytest.mark.parametrize("vector", OBJECTS, ids=lambda v: v["cid"])
def test_a_published_object_is_read_and_has_its_cid(vector: dict[str, Any]) -> None:
    raw = b64decode(vector["cbor_base64"] + "==")
    assert cid_text(cid_of(raw)) == vector["cid"]
    assert as_json(decode(raw)) == vector["json"]


def as_json(value: Any) -> Any:
    if isinstance(value, ByteString):
        from base64 import b64encode

        return {"$bytes": b64encode(value).decode().rstrip("=")}
    if isinstance(value, bytes):
        return {"$link": cid_text(value)}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return value
