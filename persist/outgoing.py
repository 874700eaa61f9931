"""Which bytes do consumers get for an event? Made once, here; they lie in the log as they leave.

    82 length │ frame up to its seq │ our seq │ the rest of the frame

A finished WebSocket frame from server to client: binary, whole, not masked. Of the host's message
only the integer `seq` is replaced: whoever gets it can check all that was signed (S-VAL-22), and a `handle` passes as it
came (S-IDE-05).

Source: RFC 6455 §5.2; RFC 8949 §3 for the shortest integer.
"""

from __future__ import annotations

import struct
from typing import Final

_U8: Final = struct.Struct(">BB").pack
_U16: Final = struct.Struct(">BH").pack
_U32: Final = struct.Struct(">BI").pack
_U64: Final = struct.Struct(">BQ").pack
_LENGTH_7: Final = struct.Struct(">BB").pack
_LENGTH_16: Final = struct.Struct(">BBH").pack
_LENGTH_64: Final = struct.Struct(">BBQ").pack

BINARY_FIN: Final = 0x82
"""The first byte of a binary message that comes in one frame."""


def encode_uint(value: int) -> bytes:
    """The shortest CBOR encoding of a number that is not negative."""
    if value > 0xFFFF:
        return _U32(0x1A, value) if value <= 0xFFFFFFFF else _U64(0x1B, value)
    if value > 0xFF:
        return _U16(0x19, value)
    return _U8(0x18, value) if value > 23 else bytes((value,))


def websocket_head(length: int) -> bytes:
    """What precedes a message of `length` bytes on a WebSocket, from server to client."""
    if length < 126:
        return _LENGTH_7(BINARY_FIN, length)
    if length <= 0xFFFF:
        return _LENGTH_16(BINARY_FIN, 126, length)
    return _LENGTH_64(BINARY_FIN, 127, length)


def outgoing_head(frame: bytes, seq_start: int, seq_end: int, seq: int) -> tuple[bytes, int]:
    """What replaces the first `seq_end` bytes of a host's message, and how long the whole gets.

    The rest of the message follows as it came (S-VAL-22, S-IDE-05); it is most of it, and is not
    copied here.

    Args:
        frame: as it came. seq_start, seq_end: where its CBOR integer `seq` stands.
        seq: ours.
    """
    number = encode_uint(seq)
    length = len(frame) + len(number) - seq_end + seq_start
    head = websocket_head(length)
    return head + frame[:seq_start] + number, len(head) + length


def payload_start(frame: bytes | memoryview) -> int:
    """Where the message begins in a WebSocket frame made here."""
    length = frame[1]
    return 2 if length < 126 else 4 if length == 126 else 10
