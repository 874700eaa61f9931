"""What does a consumer see that comes back with its cursor? Each connection by itself, nothing hidden.

The promise: behind a cursor come all events from the one that it names on, that one again, each with
the next number. So a consumer that keeps its cursor misses nothing, and sees one event twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.simnet.delivered import Delivered
from tests.simnet.events import ERROR_HEADER
from tests.simnet.truth import open_frame

RETRY_S: Final = 0.05
OPEN_S: Final = 5.0
"""How long a handshake may take before the next try, in seconds: a listener may be stopped."""


@dataclass(slots=True)
class Connection:
    """One connection. cursor: what it asked for. frames: (seq, message) as they came.
    others: messages without a number, and error frames."""

    cursor: int
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    others: list[bytes] = field(default_factory=list)


class Reader:
    """A consumer that begins at 0 and goes on at its cursor. An async context manager.

    url: asked before each connection; None: nobody is there to connect to now.
    """

    def __init__(self, name: str, url: Callable[[], Awaitable[str | None]]) -> None:
        self.name = name
        self.connections: list[Connection] = []
        self.delivered = Delivered()
        self._url = url
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._open: ClientConnection | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.leave()

    async def leave(self) -> None:
        """Close the connection, and open no other."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def cut(self) -> None:
        """Break the connection off, as a network does."""
        if self._open is not None:
            self._open.transport.abort()

    @property
    def cursor(self) -> int:
        """The last number received; 0 before any."""
        return next((each.frames[-1][0] for each in reversed(self.connections) if each.frames), 0)

    @property
    def frames(self) -> list[bytes]:
        """All messages in order, each once: what a cursor names again is left out."""
        return self.delivered.frames

    async def wait_for(self, what: str, enough: Callable[[], bool], within_s: float) -> None:
        """Return as soon as `enough()`; it is asked again after every message.

        Raises:
            AssertionError: not within so many seconds, or the reading failed.
        """
        try:
            async with asyncio.timeout(within_s):
                while not enough():
                    if self._task is not None and self._task.done():
                        self._task.result()
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name}: not within {within_s:g} s: {what}") from None

    def broken(self) -> list[str]:
        """Each break of the promise, in words."""
        found = []
        due = 1
        last: tuple[int, bytes] | None = None
        for number, connection in enumerate(self.connections):
            found += [
                f"{self.name}: connection {number} got {other[:80]!r}"
                for other in connection.others
            ]
            for at, (seq, message) in enumerate(connection.frames):
                if at == 0 and last is not None:
                    if (seq, message) != last:
                        found.append(
                            f"{self.name}: connection {number} asked for {connection.cursor}, and "
                            f"did not get that again but {seq}"
                        )
                    continue
                if seq != due:
                    found.append(f"{self.name}: connection {number} got {seq} where {due} is next")
                due, last = seq + 1, (seq, message)
        return found

    async def _run(self) -> None:
        while True:
            try:
                url = await self._url()
                if url is not None:
                    await self._read(f"{url}?cursor={self.cursor}")
            except (OSError, ConnectionClosed, InvalidHandshake, EOFError):
                pass
            finally:
                self._open = None
            self._news.set()
            await asyncio.sleep(RETRY_S)

    async def _read(self, url: str) -> None:
        async with connect(
            url, compression=None, max_size=None, ping_interval=None, open_timeout=OPEN_S,
            close_timeout=0.5,
        ) as opened:  # fmt: skip
            self._open = opened
            connection = Connection(self.cursor)
            self.connections.append(connection)
            async for message in opened:
                assert isinstance(message, bytes)
                self._take(connection, message)

    def _take(self, connection: Connection, message: bytes) -> None:
        self._news.set()
        seq = None
        if not message.startswith(ERROR_HEADER):
            seq = open_frame(message)[1].get("seq")
        if seq is None:
            connection.others.append(message)
            return
        again = connection.cursor and not connection.frames and seq == connection.cursor
        connection.frames.append((seq, message))
        if not again:
            self.delivered.keep(message)
