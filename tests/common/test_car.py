"""Which CARs are read, and what is wrong with the others."""

from __future__ import annotations

import random

import pytest

from common.car import BadCar, Car, walk
from common.verdict import DropReason
from tests.common.commits import NODE, RECORD, car, cid, encode, link, varint

ROOT = encode({"root": 1})
GOOD = car([cid(ROOT)], [ROOT, NODE, RECORD])
HEADER = encode({"roots": [link(cid(ROOT))], "version": 1})


def test_every_block_is_found_by_its_cid() -> None:
    found = walk(GOOD)
    assert isinstance(found, Car)
    assert found.root == cid(ROOT)
    assert found.blocks == {cid(block): block for block in (ROOT, NODE, RECORD)}


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(car([cid(ROOT)], [RECORD, NODE, ROOT]), id="another order"),
        pytest.param(car([cid(ROOT)], [ROOT, NODE, ROOT, NODE]), id="blocks twice"),
        pytest.param(car([cid(ROOT), cid(NODE)], [ROOT, NODE]), id="two roots"),
        pytest.param(car([cid(ROOT)], [ROOT, b"raw"],
                         [cid(ROOT), b"\x01\x55" + cid(b"raw")[2:]]), id="a raw block"),
        pytest.param(car([cid(ROOT)], [ROOT, b""]), id="an empty block"),
        pytest.param(car([cid(ROOT)], [ROOT, bytes(20_000)]), id="a length of three bytes"),
        pytest.param(varint(len(encode({"roots": [link(cid(ROOT))], "version": 1, "zz": 0})))
                     + encode({"roots": [link(cid(ROOT))], "version": 1, "zz": 0}),
                     id="a field more in the header, and no blocks"),
    ],
)  # fmt: skip
def test_a_legal_car_is_read(raw: bytes) -> None:
    found = walk(raw)
    assert isinstance(found, Car), found
    assert found.root == cid(ROOT)


def header(value: object) -> bytes:
    raw = encode(value)
    return varint(len(raw)) + raw


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"", DropReason.CAR_MALFORMED, id="nothing"),
        pytest.param(b"\x80", DropReason.CAR_MALFORMED, id="a length that ends early"),
        pytest.param(b"\xff" * 9, DropReason.CAR_MALFORMED, id="a length without end"),
        pytest.param(b"\x3a", DropReason.CAR_MALFORMED, id="no header"),
        pytest.param(b"\x00", DropReason.CAR_MALFORMED, id="an empty header"),
        pytest.param(GOOD[:40], DropReason.CAR_MALFORMED, id="a header that ends early"),
        pytest.param(header([1]), DropReason.CAR_MALFORMED, id="a header that is an array"),
        pytest.param(header({"roots": []}), DropReason.CAR_MALFORMED, id="no version"),
        pytest.param(
            header({"roots": [link(cid(ROOT))], "version": 2}),
            DropReason.CAR_MALFORMED,
            id="version 2",
        ),
        pytest.param(header({"version": 1}), DropReason.CAR_MALFORMED, id="no list of roots"),
        pytest.param(
            header({"roots": ["x"], "version": 1}), DropReason.CAR_MALFORMED, id="roots as text"
        ),
        pytest.param(
            header({"roots": [cid(ROOT)], "version": 1}),
            DropReason.CAR_MALFORMED,
            id="roots as byte strings",
        ),
        pytest.param(car([], [ROOT]), DropReason.CAR_NO_ROOT, id="no roots"),
        pytest.param(GOOD[:-1], DropReason.CAR_MALFORMED, id="a block that ends early"),
        pytest.param(GOOD + b"\x05", DropReason.CAR_MALFORMED, id="a length without a block"),
        pytest.param(GOOD + b"\x23" + bytes(35), DropReason.CAR_MALFORMED, id="less than a CID"),
        pytest.param(GOOD + b"\x00", DropReason.CAR_MALFORMED, id="a block of no bytes"),
        pytest.param(GOOD + b"\xa4\x00" + cid(b"") , DropReason.CAR_MALFORMED, id="longer varint"),
        pytest.param(GOOD + b"\xff", DropReason.CAR_MALFORMED, id="a varint that ends early"),
        pytest.param(GOOD[:-1] + b"\x00", DropReason.CAR_BLOCK_MISMATCH, id="a changed block"),
        pytest.param(
            car([cid(ROOT)], [ROOT, NODE], [cid(ROOT), cid(RECORD)]),
            DropReason.CAR_BLOCK_MISMATCH,
            id="another's name",
        ),
        pytest.param(
            car([cid(ROOT)], [ROOT, NODE], [cid(ROOT), b"\x01\x70" + cid(NODE)[2:]]),
            DropReason.CAR_BLOCK_MISMATCH,
            id="another codec",
        ),
        pytest.param(
            car([cid(ROOT)], [NODE, ROOT, b"x"], [cid(NODE), cid(ROOT), cid(ROOT)]),
            DropReason.CAR_BLOCK_MISMATCH,
            id="one name for two blocks",
        ),
    ],
)  # fmt: skip
def test_a_bad_car_is_told_by_its_fault(raw: bytes, reason: DropReason) -> None:
    found = walk(raw)
    assert isinstance(found, BadCar)
    assert found.reason is reason


def test_every_cut_and_every_flipped_byte_is_noticed() -> None:
    rng = random.Random(5)
    for at in range(len(GOOD)):
        cut = walk(GOOD[:at])
        assert isinstance(cut, BadCar) or len(cut.blocks) < 3
        flipped = bytearray(GOOD)
        flipped[at] ^= 1 << rng.randrange(8)
        found = walk(bytes(flipped))
        assert isinstance(found, BadCar) or found.root != cid(ROOT)


def test_the_usual_header_is_read_without_a_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_raw: bytes) -> None:
        raise AssertionError("the slow way was taken")

    monkeypatch.setattr("common.car.decode", refuse)
    found = walk(GOOD)
    assert isinstance(found, Car)
    assert found.root == cid(ROOT)
