"""Which blocks does a CAR hold, and does each one's hash say what its name says?

Everything is checked: a block whose bytes do not hash to its CID spoils the whole CAR. Order is
free, a block may occur twice, blocks nobody needs are let be. This module does not know what the
blocks mean.

Source: the repository spec, "CAR File Serialization"; CAR v1; S-MST-11 to 13, S-VAL-19.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final, NamedTuple

from common.cid import CID_LENGTH, DAG_CBOR_PREFIX, RAW_PREFIX
from common.dagcbor import SMALL_ITEMS, MalformedCbor, decode
from common.verdict import DropReason

MAX_BLOCKS: Final = 3072
"""Blocks in one CAR. 200 operations on a repository of 300,000 records take about 1,000, and 200
more for every four times the records, 2,000 with ten million and the records themselves; so this is
half as much again. Without a limit, two megabytes of tiny blocks cost more than any honest commit. [own]"""

_PLAIN_HEAD: Final = b"\x3a\xa2eroots\x81\xd8\x2a\x58\x25\x00"
_PLAIN_TAIL: Final = b"gversion\x01"
_PLAIN_TAIL_AT: Final = len(_PLAIN_HEAD) + CID_LENGTH
_PLAIN_LENGTH: Final = _PLAIN_TAIL_AT + len(_PLAIN_TAIL)
"""The header of nearly every CAR: one root, a dag-cbor or raw CID; 59 bytes with its length."""


class Car(NamedTuple):
    """root: the first root's CID. blocks: every block's bytes by its CID, all hashes checked."""

    root: bytes
    blocks: dict[bytes, bytes]


class BadCar(NamedTuple):
    """Why these bytes are no CAR to trust."""

    reason: DropReason
    detail: str


class _Truncated(ValueError):
    """The bytes end within a length, or a length is longer than it needs to be."""


def walk(car: bytes) -> Car | BadCar:
    """Read a whole CAR and check every block against its CID.

    In whatever order they come, and however often (S-MST-13, S-VAL-19).
    """
    try:
        root, at = _header(car)
    except (_Truncated, MalformedCbor) as error:
        return BadCar(DropReason.CAR_MALFORMED, f"header: {error}")
    if root is None:
        return BadCar(DropReason.CAR_NO_ROOT, "no roots")
    cids: list[bytes] = []
    datas: list[bytes] = []
    end_of_car = len(car)
    for _ in range(MAX_BLOCKS):
        if at >= end_of_car:
            break
        start = at
        length = car[at]
        at += 1
        if length > 0x7F:
            # Two bytes reach to 16 kB, which nearly every block stays below.
            if at < end_of_car and 0 < car[at] <= 0x7F:
                length = length & 0x7F | car[at] << 7
                at += 1
            else:
                try:
                    length, at = _varint(car, start)
                except _Truncated as error:
                    return BadCar(DropReason.CAR_MALFORMED, f"at {start}: {error}")
        end = at + length
        if length < CID_LENGTH or end > end_of_car:
            return BadCar(DropReason.CAR_MALFORMED, f"block of {length} bytes at {start}")
        at += CID_LENGTH
        cids.append(car[at - CID_LENGTH : at])
        datas.append(car[at:end])
        at = end
    if at < end_of_car:
        return BadCar(DropReason.CAR_TOO_MANY_BLOCKS, f"more than {MAX_BLOCKS}")
    # S-MST-12.
    named = [DAG_CBOR_PREFIX + sha256(data).digest() for data in datas]
    if named != cids:
        for i, cid in enumerate(cids):
            if cid != named[i] and cid != RAW_PREFIX + named[i][4:]:
                return BadCar(DropReason.CAR_BLOCK_MISMATCH, f"block {i} of {len(cids)}")
    return Car(root, dict(zip(cids, datas, strict=True)))


def _header(car: bytes) -> tuple[bytes | None, int]:
    """Read the header (S-MST-11) → the first root, None if there is none; and where the blocks begin.

    Raises:
        _Truncated, MalformedCbor: there is no header.
    """
    if car.startswith(_PLAIN_HEAD) and car[_PLAIN_TAIL_AT:_PLAIN_LENGTH] == _PLAIN_TAIL:
        root = car[len(_PLAIN_HEAD) : _PLAIN_TAIL_AT]
        if root[:4] == DAG_CBOR_PREFIX:
            return root, _PLAIN_LENGTH
    length, at = _varint(car, 0)
    end = at + length
    if end > len(car):
        raise _Truncated("the bytes end within it")
    header = decode(car[at:end], SMALL_ITEMS)
    if type(header) is not dict or header.get("version") != 1 or header["version"] is True:
        raise MalformedCbor("not of version 1")
    roots = header.get("roots")
    if type(roots) is not list or not all(type(root) is bytes for root in roots):
        raise MalformedCbor("roots are no list of links")
    return (roots[0] if roots else None), end


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """Read an unsigned LEB128 number of at most 32 bits → the number, and what follows it.

    Raises:
        _Truncated: the bytes end within it, or it is longer than needed.
    """
    number = shift = 0
    while True:
        if at >= len(raw) or shift > 28:
            raise _Truncated("truncated or endless varint")
        byte = raw[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte <= 0x7F:
            if byte == 0 and shift:
                raise _Truncated("varint longer than needed")
            return number, at
        shift += 7
