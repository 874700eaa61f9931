"""What does the relay itself say on the stream, byte for byte?

    #info OutdatedCursor · #info Gap · error FutureCursor · error ConsumerTooSlow

Each as a finished server-to-client WebSocket frame, like those that the log holds.

Source: event-stream spec, Framing; com.atproto.sync.subscribeRepos.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import Final

import cbor2

_BINARY_FIN: Final = 0x82
"""FIN and opcode 2. Source: RFC 6455 §5.2."""
_ONE_BYTE_MAX: Final = 125
_TWO_BYTES_MAX: Final = 0xFFFF


class StreamError(StrEnum):
    """The stream's declared errors."""

    FUTURE_CURSOR = "FutureCursor"
    CONSUMER_TOO_SLOW = "ConsumerTooSlow"


OUTDATED_CURSOR: Final = "OutdatedCursor"
"""The one name of an #info message that the lexicon knows."""
GAP: Final = "Gap"
"""Ours: numbers are missing at this place of the stream. The lexicon leaves other names open."""


def websocket_frame(message: bytes) -> bytes:
    """One unmasked binary WebSocket message in one frame."""
    size = len(message)
    if size <= _ONE_BYTE_MAX:
        return bytes((_BINARY_FIN, size)) + message
    if size <= _TWO_BYTES_MAX:
        return struct.pack("!BBH", _BINARY_FIN, 126, size) + message
    return struct.pack("!BBQ", _BINARY_FIN, 127, size) + message


def encode_error(error: StreamError, message: str | None = None) -> bytes:
    """An error message: header without `t`, and a payload with the bare name."""
    return _dumps({"op": -1}) + _payload("error", error.value, message)


def encode_info(name: str, message: str | None = None) -> bytes:
    """An #info message; it has no seq."""
    return _dumps({"op": 1, "t": "#info"}) + _payload("name", name, message)


def _payload(key: str, name: str, message: str | None) -> bytes:
    return _dumps({key: name} if message is None else {key: name, "message": message})


def _dumps(value: dict[str, object]) -> bytes:
    # Canonical: map keys by length, then bytewise, as DRISL wants them.
    return cbor2.dumps(value, canonical=True)
