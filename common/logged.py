"""What does one row of the log say, and does its frame say the same?

    row, frame ─▶ message (without its WebSocket head) ─▶ Event, or in words what is wrong

Bytes in, values out: files are common/log_walk.py's, states are persist/replay.py's.
"""

from __future__ import annotations

from common.chunk import Chunk, Row, account_key
from common.envelope import Kind
from common.event import Event, decode
from common.syntax import tid_number


def payload_start(frame: bytes | memoryview) -> int:
    """Where the message begins in a WebSocket frame of the log (RFC 6455 §5.2, not masked)."""
    length = frame[1]
    return 2 if length < 126 else 4 if length == 126 else 10


def message_of(chunk: Chunk, row: Row) -> bytes:
    """The message of one event as consumers get it, without the WebSocket head."""
    start = chunk.frames_start + row.offset
    frame = chunk.raw[start : start + row.length]
    return frame[payload_start(frame) :] if len(frame) > 1 else b""


def open_row(chunk: Chunk, seq: int, row: Row) -> Event | str:
    """The event of a row; or, in words, how row and frame differ."""
    event = decode(message_of(chunk, row))
    if not isinstance(event, Event):
        return f"the frame of seq {seq} does not decode: {event}"
    if event.seq != seq:
        return f"the frame of seq {seq} says seq {event.seq}"
    if event.kind != row.kind:
        return f"the frame of seq {seq} is of kind {event.kind}, its row says {row.kind}"
    if account_key(event.did) != row.account:
        return f"the row of seq {seq} names another account than its frame, {event.did}"
    rev = tid_number(event.rev) if event.rev and event.kind <= Kind.SYNC else 0
    if rev != row.rev:
        return f"the row of seq {seq} has another rev than its frame, {event.rev}"
    return event
