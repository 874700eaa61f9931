"""Is the outgoing frame what came, but for seq, in a WebSocket frame that others can read?"""

from __future__ import annotations

import cbor2
import pytest
from websockets.frames import Frame
from websockets.streams import StreamReader

from persist.outgoing import encode_uint, outgoing_head, payload_start
from tests.persist.events import frame_of

EDGES = [0, 1, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**53 - 1]


@pytest.mark.parametrize("value", EDGES)
def test_integers_are_the_shortest(value: int) -> None:
    assert encode_uint(value) == cbor2.dumps(value)


def parse(frame: bytes) -> bytes:
    """The message in a WebSocket frame, by another implementation."""
    reader = StreamReader()
    reader.feed_data(frame)
    reader.feed_eof()
    parser = Frame.parse(reader.read_exact, mask=False)
    try:
        while True:
            next(parser)
    except StopIteration as stop:
        parsed: Frame = stop.value
    assert (parsed.opcode, parsed.fin, parsed.rsv1) == (2, True, False)
    return bytes(parsed.data)


@pytest.mark.parametrize("length", [0, *range(104, 116), *range(65_508, 65_526)])
@pytest.mark.parametrize("seq", EDGES)
def test_the_whole_message_comes_out_with_our_seq(length: int, seq: int) -> None:
    frame, start, end = frame_of(70_000, length)
    head, whole = outgoing_head(frame, start, end, seq)
    out = head + frame[end:]
    assert len(out) == whole
    message = len(out) - payload_start(out)
    # "the minimal number of bytes MUST be used to encode the length"
    assert payload_start(out) == (2 if message < 126 else 4 if message < 65_536 else 10)
    assert parse(out) == frame[:start] + cbor2.dumps(seq) + frame[end:]
    assert out[payload_start(out) :] == parse(out)
