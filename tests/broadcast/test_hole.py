"""broadcast.hole: what is missing is named where it is missing, once, and nothing else is."""

from __future__ import annotations

import re

import cbor2
from hypothesis import given
from hypothesis import strategies as st

from broadcast.hole import Cause, Hole, shown_of, stretch_of
from common.chunk import Chunk
from tests.broadcast.fakes import FakeLog

_WORDS = re.compile(r"seq (\d+) to (\d+) are missing: (.+)")


def told(frame: bytes) -> tuple[int, int, str]:
    """First and last missing seq and why, by somebody else's decoder."""
    assert frame[0] == 0x82
    header, size = (2, frame[1]) if frame[1] < 126 else (4, int.from_bytes(frame[2:4], "big"))
    assert len(frame) == header + size
    message = frame[header:]
    split = len(cbor2.dumps({"t": "#info", "op": 1}))
    assert cbor2.loads(message[:split]) == {"op": 1, "t": "#info"}
    payload = cbor2.loads(message[split:])
    assert set(payload) == {"name", "message"}
    assert payload["name"] == "Gap"
    found = _WORDS.fullmatch(payload["message"])
    assert found is not None
    return int(found[1]), int(found[2]), found[3]


def test_a_hole_names_first_and_last_missing_seq_and_why() -> None:
    hole = Hole(5, 9, Cause.DAMAGED)
    assert told(bytes(hole.frames_from(5))) == (5, 8, Cause.DAMAGED.value)
    assert told(bytes(hole.frames_from(1))) == (5, 8, Cause.DAMAGED.value)
    assert told(bytes(hole.frames_from(8))) == (8, 8, Cause.DAMAGED.value)
    assert told(bytes(Hole(2, 1_000_003, Cause.LEFT_OUT).frames_from(2)))[:2] == (2, 1_000_002)
    # What consumers get of it counts as no event.
    (frame,), events = shown_of(hole, 5, {})
    assert (bytes(frame), events) == (bytes(hole.frames_from(5)), 0)


@given(
    steps=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), max_size=8),
    start=st.integers(1, 12),
    trailing=st.integers(0, 3),
    until=st.integers(1, 60),
)
def test_a_stretch_has_no_silent_hole(
    steps: list[tuple[int, int]], start: int, trailing: int, until: int
) -> None:
    log = FakeLog()
    chunks: list[Chunk] = []
    for skip, events in steps:
        if skip:
            log.claim(skip)
        chunks.append(log.append(events))
    log.claim(trailing)
    read = [chunk for chunk in chunks if chunk.next_seq > start]
    until_seq = max(until, start + 1)
    stretch = stretch_of(read, start, log.durable_seq, until_seq)
    assert [part for part in stretch if isinstance(part, Chunk)] == read
    next_seq = start
    for part in stretch:
        assert part.first_seq <= next_seq < part.next_seq
        assert isinstance(part, Chunk) or part.first_seq == next_seq
        next_seq = part.next_seq
    if read:
        assert next_seq == read[-1].next_seq
    else:
        assert next_seq == max(start, min(log.durable_seq + 1, until_seq))
