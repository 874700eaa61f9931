"""Messages are cut from the stream whatever its segments, and what is too long is not kept."""

from __future__ import annotations

import random
import sys

import pytest

from ingest.splitter import (
    FRAMES_AT_ONCE,
    UNUSUAL_AT_ONCE,
    Control,
    Message,
    Oversize,
    ProtocolViolation,
    Splitter,
    TextMessage,
)

LIMIT = 1000


def ws(payload: bytes, opcode: int = 2, *, fin: bool = True, wide: int | None = None) -> bytes:
    """One frame of a server."""
    head = bytes([(0x80 if fin else 0) | opcode])
    length = len(payload)
    if wide is None:
        wide = 0 if length < 126 else 2 if length < 65536 else 8
    if wide == 0:
        return head + bytes([length]) + payload
    return head + bytes([126 if wide == 2 else 127]) + length.to_bytes(wide, "big") + payload


STREAM = b"".join(
    [
        ws(b"one"),
        ws(b""),
        ws(b"x" * 125),
        ws(b"y" * 126),
        ws(b"ping", 9),
        ws(b"frag", 2, fin=False),
        ws(b"between", 10),
        ws(b"men", 0, fin=False),
        ws(b"ted", 0),
        ws(b"z" * LIMIT),
        ws(b"o" * (LIMIT + 1)),
        ws(b"a" * 600, 2, fin=False),
        ws(b"b" * 600, 0, fin=False),
        ws(b"", 0, fin=False),
        ws(b"c" * 5000, 0),
        ws(b"text", 1),
        ws(b"te", 1, fin=False),
        ws(b"xt", 0),
        ws(b"t" * (LIMIT + 1), 1),
        ws(b"L" * 3, wide=8),
        ws(b"last"),
        ws(b"\x03\xe8", 8),
    ]
)
EXPECTED: list[Message] = [
    b"one", b"", b"x" * 125, b"y" * 126, Control(ws(b"ping", 9)), Control(ws(b"between", 10)),
    b"fragmented", b"z" * LIMIT, Oversize(LIMIT + 1), Oversize(6200), TextMessage(4),
    TextMessage(4), Oversize(LIMIT + 1), b"LLL", b"last", Control(ws(b"\x03\xe8", 8)),
]  # fmt: skip


def fed(pieces: list[bytes]) -> list[Message]:
    splitter = Splitter(LIMIT)
    found: list[Message] = []
    for piece in pieces:
        found += splitter.feed(piece)
        assert splitter.buffered_bytes <= LIMIT + 20 + len(piece)
    return found


def test_all_at_once() -> None:
    assert fed([STREAM]) == EXPECTED


def test_one_byte_at_a_time() -> None:
    assert fed([STREAM[i : i + 1] for i in range(len(STREAM))]) == EXPECTED


def test_split_in_two_at_every_place() -> None:
    for at in range(len(STREAM)):
        assert fed([STREAM[:at], STREAM[at:]]) == EXPECTED


def test_split_at_random() -> None:
    rng = random.Random(3)
    for _ in range(200):
        cuts = sorted(rng.sample(range(len(STREAM)), rng.randrange(1, 40)))
        pieces = [STREAM[a:b] for a, b in zip([0, *cuts], [*cuts, len(STREAM)], strict=True)]
        assert fed(pieces) == EXPECTED


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x82\x81\0\0\0\0x", id="a masked frame"),
        pytest.param(b"\xc2\x01x", id="a reserved bit"),
        pytest.param(b"\x83\x01x", id="an unknown opcode"),
        pytest.param(b"\x09\x01x", id="a ping in fragments"),
        pytest.param(b"\x89\x7e\x00\x80" + bytes(128), id="a ping that is too long"),
        pytest.param(ws(b"x", 0), id="a continuation of nothing"),
        pytest.param(ws(b"x", 2, fin=False) + ws(b"y", 2), id="a message within a message"),
        pytest.param(ws(b"x", 2, fin=False) + ws(b"y", 1), id="a text within a message"),
    ],
)
def test_what_no_server_may_send_ends_the_connection(raw: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        fed([raw])
    with pytest.raises(ProtocolViolation):
        fed([raw[i : i + 1] for i in range(len(raw))])


def test_a_message_of_gigabytes_is_passed_over_without_being_kept() -> None:
    splitter = Splitter(LIMIT)
    assert splitter.feed(b"\x82\x7f" + (1 << 40).to_bytes(8, "big")) == []
    for _ in range(1000):
        assert splitter.feed(bytes(65_536)) == []
        assert splitter.buffered_bytes == 0


def test_a_large_message_in_small_pieces_costs_no_more_than_its_size() -> None:
    splitter = Splitter(5_000_000)
    raw = ws(bytes(4_900_000))
    found: list[Message] = []
    for at in range(0, len(raw), 1000):
        found += splitter.feed(raw[at : at + 1000])
    assert [len(m) for m in found if isinstance(m, bytes)] == [4_900_000]


def test_more_frames_at_once_than_events_could_be_end_the_connection() -> None:
    unit = ws(b"x")
    assert len(Splitter(LIMIT).feed(unit * FRAMES_AT_ONCE)) == FRAMES_AT_ONCE
    with pytest.raises(ProtocolViolation):
        Splitter(LIMIT).feed(unit * (FRAMES_AT_ONCE + 1))


@pytest.mark.parametrize("opcode", [1, 9, 10])
def test_more_unusual_frames_at_once_than_anybody_needs_end_the_connection(opcode: int) -> None:
    unit = ws(b"x", opcode)
    splitter = Splitter(LIMIT)
    for _ in range(3):
        assert len(splitter.feed(unit * UNUSUAL_AT_ONCE)) == UNUSUAL_AT_ONCE
    with pytest.raises(ProtocolViolation):
        splitter.feed(unit * (UNUSUAL_AT_ONCE + 1))


def test_empty_fragments_without_end_take_no_room() -> None:
    splitter = Splitter(LIMIT)
    splitter.feed(ws(b"", 2, fin=False))
    before = sys.getsizeof(splitter._message)
    for _ in range(100):
        assert splitter.feed(ws(b"", 0, fin=False) * UNUSUAL_AT_ONCE) == []
    assert sys.getsizeof(splitter._message) == before
    assert splitter.feed(ws(b"end", 0)) == [b"end"]
