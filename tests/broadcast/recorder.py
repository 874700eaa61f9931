"""Another relay, as far as our side of the wire sees it: notes each request, and answers as it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass
class Noted:
    """One request, byte for byte but for its headers' case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        return orjson.loads(self.body)


class Recorder:
    """A server on loopback. status: of its answers. silent: it answers nothing."""

    def __init__(self) -> None:
        self.status = 200
        self.silent = False
        self.url = ""
        self.noted: asyncio.Queue[Noted] = asyncio.Queue()

    async def next(self) -> Noted:
        async with asyncio.timeout(15):
            return await self.noted.get()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                    method, target, _ = head[0].split(" ")
                    pairs = [line.split(": ", 1) for line in head[1:] if line]
                    headers = {name.lower(): value for name, value in pairs}
                    body = await reader.readexactly(int(headers.get("content-length", "0")))
                    self.noted.put_nowait(Noted(method, target, headers, body))
                    if self.silent:
                        await asyncio.Event().wait()
                    answer = b'{"success":"true"}'
                    writer.write(
                        f"HTTP/1.1 {self.status} X\r\nContent-Type: application/json\r\n"
                        f"Content-Length: {len(answer)}\r\n\r\n".encode()
                        + answer
                    )
                    await writer.drain()
        finally:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def recorder() -> AsyncIterator[Recorder]:
    """A recorder that listens."""
    found = Recorder()
    serving: set[asyncio.Task[None]] = set()

    def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.ensure_future(found.serve(reader, writer)))

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await asyncio.sleep(0)  # what was aborted is closed in the next turn
