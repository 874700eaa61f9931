"""A host on loopback that follows a script, byte by byte, on the socket itself."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from tests.simnet.listening import accept_no_more

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Visit:
    """One connection of a client. request: its head, once `read_request` is done."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.request = b""

    async def read_request(self) -> bytes:
        """The request's head."""
        self.request = await self.reader.readuntil(b"\r\n\r\n")
        return self.request

    def accept(self, *headers: str) -> bytes:
        """The right answer to the request."""
        key = next(
            line.split(b":", 1)[1].strip()
            for line in self.request.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key:")
        )
        token = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
        return "\r\n".join(
            ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
             f"Sec-WebSocket-Accept: {token}", *headers, "", ""]
        ).encode()  # fmt: skip

    async def shake(self, *headers: str) -> None:
        """The whole handshake, done well."""
        await self.read_request()
        self.writer.write(self.accept(*headers))

    def say(self, data: bytes) -> None:
        """Write bytes as they are.

        Raises: ConnectionResetError: the client has gone (uvloop would say RuntimeError).
        """
        if self.writer.transport.is_closing():
            raise ConnectionResetError
        self.writer.write(data)

    async def until_gone(self) -> None:
        """Read until the client closes."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


class RawHost:
    """Listens on a free port and plays `script` for each connection; an async context manager.

    visits: connections so far.
    """

    def __init__(self, script: Callable[[Visit], Awaitable[None]]) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self.visits = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await accept_no_more(self._server.sockets)
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """As an operator would name it."""
        return f"http://localhost:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._script(Visit(reader, writer))
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
