"""A PDS on loopback, as far as who asks to crawl it looks at it: it says who it is, or misbehaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

Script = Callable[[asyncio.StreamWriter], Awaitable[None]]
DESCRIBE = "/xrpc/com.atproto.server.describeServer"
LIST = "/xrpc/com.atproto.sync.listHosts?limit=1"


def page(status: int, value: Any, more: str = "") -> bytes:
    """An HTTP answer."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n"
    return head.encode() + body


class Pds:
    """answers: by path and query; others get 501. script: instead of all that. asked: the paths."""

    def __init__(self) -> None:
        self.port = 0
        self.answers: dict[str, bytes] = {}
        self.script: Script | None = None
        self.asked: list[str] = []
        self.open = asyncio.Event()
        """Nothing is answered before it is set."""
        self.open.set()

    @property
    def name(self) -> str:
        """Its host name."""
        return f"localhost:{self.port}"

    def calls_itself(self, did: str) -> None:
        """What describeServer says."""
        self.answers[DESCRIBE] = page(200, {"did": did, "availableUserDomains": [".test"]})

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            self.asked.append(path)
            await self.open.wait()
            if self.script is not None:
                await self.script(writer)
            else:
                writer.write(self.answers.get(path, page(501, {"error": "MethodNotImplemented"})))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def pds() -> AsyncIterator[Pds]:
    """One that answers well, until it is told otherwise."""
    found = Pds()
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await found.serve(reader, writer)
        finally:
            serving.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    found.calls_itself(f"did:web:localhost%3A{found.port}")
    try:
        yield found
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()
        await asyncio.sleep(0)
