"""How do thousands of hosts fit into one process? A host whose connections are one small object each.

    bytes ─▶ _Wire ─▶ the request ─▶ the stream from its cursor; answers of the few HTTP paths

It says what `Host` says and keeps what `Host` keeps, with no task and no library for a connection:
2,800 hosts with a reader each take some 30 MB. Of the faults it knows `close_on_accept`,
`silent_handshake`, `silent_stream` and `reset_every_s`.

Source: RFC 6455.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
from http import HTTPStatus
from typing import Final, cast
from urllib.parse import parse_qs, urlsplit

from tests.simnet.events import error_frame
from tests.simnet.host import STREAM_PATH, Host, Stream, expect_refusals, wire

_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEADERS_END: Final = b"\r\n\r\n"
_HEAD_BYTES: Final = 16_384
_LEAST_PARTS: Final = 6
"""A control frame of a client: two bytes and a mask of four, at least."""
_CLOSE: Final = 8
_PING: Final = 9


class LeanHost(Host):
    """A `Host`, cheap enough for thousands of them."""

    _listener: asyncio.Server | None = None
    _holder: socket.socket | None = None
    """Bound to the port for good and never listening: while the host is away nobody else gets it."""

    async def start(self) -> None:
        """Listen on a free port, the same again after `close`."""
        if self._holder is None:
            self._holder = socket.socket()
            self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._holder.bind(("127.0.0.1", 0))
            self.port = self._holder.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: _Wire(self), "127.0.0.1", self.port, ssl=self._tls, reuse_port=True
        )
        if self._tls is not None:
            expect_refusals(loop)

    async def close(self) -> None:
        """Cut every connection and refuse new ones."""
        if self._listener is not None:
            listener, self._listener = self._listener, None
            listener.close()
            self.cut()

    async def end(self) -> None:
        """Close, and let go of the port."""
        await self.close()
        if self._holder is not None:
            self._holder.close()
            self._holder = None


class _Wire(asyncio.Protocol):
    """One connection. transport: what it goes over. It is the bell of its own stream, too."""

    __slots__ = ("_got", "_host", "_paused", "_stream", "transport")

    def __init__(self, host: LeanHost) -> None:
        self.transport: asyncio.Transport
        self._host = host
        self._got = b""
        self._paused = False
        self._stream: Stream | None = None

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._got += data
        if self._stream is not None:
            self._hear()
        elif _HEADERS_END in self._got:
            head, _, self._got = self._got.partition(_HEADERS_END)
            self._asked(head)
        elif len(self._got) > _HEAD_BYTES:
            self.transport.abort()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._host.streams.pop(self, None)

    # --- the request ---

    def _asked(self, head: bytes) -> None:
        request, *lines = head.split(b"\r\n")
        path = request.split(b" ")[1].decode()
        headers = {
            name.lower(): value.strip() for name, _, value in (h.partition(b":") for h in lines)
        }
        target = urlsplit(path)
        query = parse_qs(target.query)
        if target.path == STREAM_PATH and b"sec-websocket-key" in headers:
            self._open(headers[b"sec-websocket-key"], path, query.get("cursor", [""])[0])
            return
        status, body = self._host.answer(target.path, query.get("did", [""])[0])
        data = json.dumps(body).encode()
        self.transport.write(
            b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s"
            % (status, HTTPStatus(status).phrase.encode(), len(data), data)
        )
        self.transport.close()

    def _open(self, key: bytes, path: str, cursor: str) -> None:
        host = self._host
        host.accepted += 1
        if host.faults.close_on_accept:
            self.transport.abort()
            return
        if host.faults.silent_handshake:
            return
        accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest())
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept
        )
        if cursor and int(cursor) > host.head_seq:
            self.transport.write(wire(error_frame("FutureCursor", "Cursor in the future.")))
            self.transport.close()
            return
        self._stream = Stream(host.place_of(int(cursor) if cursor else None), self)
        host.streams[self] = self._stream
        if host.faults.reset_every_s is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(host.faults.reset_every_s, self._reset)
        self.set()

    def _reset(self) -> None:
        """The time of a flapping connection is over, if it still flaps."""
        if self._host.faults.reset_every_s is not None:
            self.transport.abort()

    # --- the stream ---

    def set(self) -> None:
        """There is news: write as much as the other side takes."""
        stream = self._stream
        if stream is None or self.transport.is_closing():
            return
        while not self._paused and not self._host.faults.silent_stream:
            data = self._host.take(stream)
            if not data:
                return
            self._host.sent += len(data)
            self.transport.write(b"".join(data))

    def _hear(self) -> None:
        """Answer pings; leave when the client does."""
        while len(self._got) >= _LEAST_PARTS:
            opcode, length = self._got[0] & 0x0F, self._got[1] & 0x7F
            end = _LEAST_PARTS + length
            if len(self._got) < end:
                return
            mask, masked = self._got[2:_LEAST_PARTS], self._got[_LEAST_PARTS:end]
            self._got = self._got[end:]
            if opcode == _CLOSE:
                self.transport.close()
                return
            if opcode == _PING:
                payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked))
                self.transport.write(bytes((0x8A, length)) + payload)
