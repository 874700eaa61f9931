"""Which messages do these bytes of an open WebSocket hold?

The handshake and control frames are the library's; this takes whole binary messages straight from
the buffer, at the cost of one slice. Any segmentation will do, down to one byte at a time.
A message over the limit is passed over without being kept.

No sockets, no clock: bytes in, messages out. Source: RFC 6455, section 5.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_FIN: Final = 0x80
_RESERVED: Final = 0x70
_CONTINUATION: Final = 0
_TEXT: Final = 1
_BINARY: Final = 2

FRAMES_AT_ONCE: Final = 4096
"""A quarter of a megabyte, which is what one read of a socket brings at most, holds fewer frames of
64 bytes, and no event is as short: whoever sends more only wants to keep us busy."""
UNUSUAL_AT_ONCE: Final = 1024
"""The same for control frames, texts and fragments, which cost several times as much."""


class TextMessage(NamedTuple):
    """A text message; its content is of no interest."""

    size: int


class Oversize(NamedTuple):
    """A message of more bytes than the limit, passed over. size: what was seen of it so far."""

    size: int


class Control(NamedTuple):
    """One whole control frame as it came, for the library to answer."""

    frame: bytes


Message = bytes | TextMessage | Oversize | Control


class ProtocolViolation(ValueError):
    """These bytes are no WebSocket frames that a server may send; the connection is lost."""


class Splitter:
    """Cuts the bytes of one connection into messages."""

    def __init__(self, max_message_bytes: int) -> None:
        self._limit = max_message_bytes
        self._pending = bytearray()
        self._need = 0
        """Bytes that must be pending before it is worth looking again."""
        self._skip = 0
        """Bytes of the current frame's payload that are thrown away as they come."""
        self._opcode = 0
        """Of the message whose fragments are being collected; 0 when none is."""
        self._message = bytearray()
        """Its fragments so far: joined, as empty ones without end must take no room."""
        self._size = 0
        self._over = False
        """The message being collected is over the limit."""
        self._unusual_frames = 0
        """Of the present call."""

    @property
    def buffered_bytes(self) -> int:
        """What is kept of messages that are not whole yet."""
        return len(self._pending) + len(self._message)

    def feed(self, data: bytes) -> list[Message]:
        """Take what came from the socket → the messages that became whole.

        Raises:
            ProtocolViolation: see there; messages before it are lost with the connection.
        """
        frames = 0
        self._unusual_frames = 0
        if self._pending:
            self._pending += data
            if len(self._pending) < self._need:
                return []
            data = bytes(self._pending)
            self._pending.clear()
        messages: list[Message] = []
        at, end = 0, len(data)
        while at < end:
            frames += 1
            if frames > FRAMES_AT_ONCE:
                raise ProtocolViolation("frames too small for any event, and too many")
            if self._skip:
                passed = min(self._skip, end - at)
                self._skip -= passed
                at += passed
                if not self._skip:
                    self._frame_passed(messages)
                continue
            if end - at < 2:
                self._keep(data, at, 2)
                break
            first, length = data[at], data[at + 1]
            start = at + 2
            if length > 125:
                if length > 127:
                    raise ProtocolViolation("a masked frame from a server")
                wide = 2 if length == 126 else 8
                if end < start + wide:
                    self._keep(data, at, 2 + wide)
                    break
                length = int.from_bytes(data[start : start + wide], "big")
                start += wide
            # An ordinary message, whole and in one frame.
            if first == _FIN | _BINARY and not self._opcode and length <= self._limit:
                stop = start + length
                if stop > end:
                    self._keep(data, at, stop - at)
                    break
                messages.append(data[start:stop])
                at = stop
                continue
            at = self._unusual(data, at, start, length, messages)
            if at < 0:
                break
        return messages

    def _unusual(
        self, data: bytes, at: int, start: int, length: int, messages: list[Message]
    ) -> int:
        """Anything but a whole binary message of good size → where to go on, -1 to wait."""
        self._unusual_frames += 1
        if self._unusual_frames > UNUSUAL_AT_ONCE:
            raise ProtocolViolation("a flood of control frames, texts or fragments")
        first = data[at]
        opcode, fin = first & 0x0F, bool(first & _FIN)
        if first & _RESERVED:
            raise ProtocolViolation("reserved bits are set")
        stop = start + length
        if opcode >= 8:
            if not fin or length > 125:
                raise ProtocolViolation("a control frame in fragments, or too long")
            if stop > len(data):
                self._keep(data, at, stop - at)
                return -1
            messages.append(Control(data[at:stop]))
            return stop
        if opcode > _BINARY:
            raise ProtocolViolation(f"unknown opcode {opcode}")
        if (opcode == _CONTINUATION) == (self._opcode == 0):
            raise ProtocolViolation("a fragment out of place")
        if not self._over and self._size + length <= self._limit:
            if stop > len(data):
                self._keep(data, at, stop - at)
                return -1
            self._opcode = self._opcode or opcode
            self._size += length
            self._message += data[start:stop]
            if fin:
                self._whole(messages)
            return stop
        # Over the limit: nothing of it is kept, and its payload is passed over as it comes.
        self._opcode = self._opcode or opcode
        self._over = True
        self._size += length
        self._message.clear()
        self._fin_follows = fin
        self._skip = length
        if not length:
            self._frame_passed(messages)
        return start

    _fin_follows = False
    """The frame being passed over is its message's last one."""

    def _frame_passed(self, messages: list[Message]) -> None:
        if self._fin_follows:
            messages.append(Oversize(self._size))
            self._reset()

    def _whole(self, messages: list[Message]) -> None:
        if self._opcode == _TEXT:
            messages.append(TextMessage(self._size))
        else:
            messages.append(bytes(self._message))
        self._reset()

    def _reset(self) -> None:
        self._opcode = 0
        self._size = 0
        self._over = False
        self._message = bytearray()

    def _keep(self, data: bytes, at: int, need: int) -> None:
        self._pending += data[at:] if at else data
        self._need = need
