"""A client that says exactly what it is told, in the pieces it is told."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import ClassVar, Final

KEY: Final = b"AAAAAAAAAAAAAAAAAAAAAA=="
PATH: Final = b"/xrpc/com.atproto.sync.subscribeRepos"
UPGRADE: Final = (
    b"Host: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n"
)


def handshake(query: bytes = b"", more: bytes = b"", *, method: bytes = b"GET") -> bytes:
    """The head of a WebSocket request."""
    return method + b" " + PATH + query + b" HTTP/1.1\r\n" + UPGRADE + more + b"\r\n"


def masked(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A client's frame; the mask is zero."""
    size = len(payload)
    head = bytes([(0x80 if fin else 0) | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += struct.pack("!BH", 0x80 | 126, size)
    else:
        head += struct.pack("!BQ", 0x80 | 127, size)
    return head + bytes(4) + payload


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes = b""


class Raw:
    """One TCP connection to a member."""

    opened: ClassVar[list[Raw]] = []
    """All of a test, for whoever cleans up behind one that failed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, port: int, *, receive_bytes: int | None = None) -> Raw:
        """Connect; `receive_bytes` keeps the kernel's buffer small."""
        sock = socket.socket(proto=socket.IPPROTO_TCP)
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        raw = cls(*await asyncio.open_connection(sock=sock, limit=4096))
        cls.opened.append(raw)
        return raw

    async def send(self, data: bytes, piece: int | None = None) -> None:
        """Send in pieces of `piece` bytes, each in a segment of its own."""
        for at in range(0, len(data), piece or len(data)):
            self.writer.write(data[at : at + (piece or len(data))])
            await self.writer.drain()
            if piece is not None:
                await asyncio.sleep(0)

    async def response(self, *, head_only: bool = False) -> Response:
        """The next HTTP response."""
        async with asyncio.timeout(15):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = [line.split(": ", 1) for line in lines[1:] if line]
            headers = {name.lower(): value for name, value in pairs}
            size = 0 if head_only else int(headers.get("content-length", "0"))
            return Response(int(lines[0].split()[1]), headers, await self.reader.readexactly(size))

    async def frame(self) -> tuple[int, bytes]:
        """The next WebSocket frame: opcode and payload. It has to be whole and unmasked."""
        async with asyncio.timeout(15):
            first, second = await self.reader.readexactly(2)
            assert first & 0x80
            assert not second & 0x80
            size = second
            if second == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif second == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return first & 0x0F, await self.reader.readexactly(size)

    async def ended(self) -> bytes:
        """What comes until the other side closes."""
        async with asyncio.timeout(15):
            return await self.reader.read()

    def stop_reading(self) -> None:
        """Take nothing more from the socket."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def read_on(self) -> None:
        """Take from the socket again."""
        self.writer.transport.resume_reading()  # type: ignore[attr-defined]

    def cut(self) -> None:
        """Reset the connection."""
        self.writer.transport.abort()
