"""A TCP port that leads to a PostgreSQL, over a wire that can be slow, narrow, cut or dead.

with Wire(postgres) as wire:
    wire.url                                        what the relay is given as DATABASE_URL
    wire.delay_s = 0.1                              every piece, in either direction, is late
    wire.shut()                                     nobody gets through; wire.open() again
    wire.cut("persist writer", Way.DOWN, 900)       once, so many bytes from now

Its loop runs in a thread of its own, so that a test may block; what it is told holds for the next piece
that it carries.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import parse_qs, urlsplit

from common.paths import POSTGRES_SOCKET_NAME
from tests.fix_net import free_port

_T = TypeVar("_T")
_PIECE_BYTES: Final = 65_536


class Way(Enum):
    """Which way bytes go. UP: to the database. DOWN: from it."""

    UP = "up"
    DOWN = "down"


@dataclass(eq=False, slots=True)
class _Line:
    """One connection of the relay's and its other end. name: as the client calls itself."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    name: str = ""
    carried: dict[Way, bytearray] = field(default_factory=dict)


@dataclass(slots=True)
class _Cut:
    name: str
    way: Way
    left_bytes: int


class Wire:
    """The port, and all that goes over it.

    delay_s: how late each piece comes, in seconds. bytes_per_s: how much goes each way of each
    connection; None: as it comes. cuts: how often a `cut` was carried out.
    """

    def __init__(self, url: str) -> None:
        """Args: url: of the database behind it, on a Unix socket."""
        parts = urlsplit(url)
        (folder,) = parse_qs(parts.query)["host"]
        self._socket_path = f"{folder}/{POSTGRES_SOCKET_NAME}"
        self._port = free_port()
        self.url = (
            f"postgresql://standpipe@127.0.0.1:{self._port}{parts.path}"
            "?sslmode=disable&gssencmode=disable"
        )
        self.delay_s = 0.0
        self.bytes_per_s: float | None = None
        self.cuts = 0
        self._cut: _Cut | None = None
        self._recording = False
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire")

    def __enter__(self) -> Self:
        self._thread.start()
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._do(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self) -> None:
        """Let everybody through."""
        self._do(self._listen())

    def shut(self) -> None:
        """Cut every connection and refuse new ones, as a server that is down does."""
        self._do(self._refuse())

    def cut(self, name: str, way: Way, after_bytes: int) -> None:
        """Cut the connection whose client's name ends so, once it has carried so many more bytes.

        It is cut both ways at once; of the piece that reaches so far, what lies before arrives.
        """
        self._do(self._arm(_Cut(name, way, after_bytes)))

    @property
    def armed(self) -> bool:
        """Whether a cut is still to come."""
        return self._cut is not None

    def record(self) -> None:
        """Keep what every connection carries from now on."""
        self._do(self._record())

    def recorded(self, name: str, way: Way) -> bytes:
        """What the connection whose client's name ends so has carried since `record`."""
        (line,) = (line for line in self._lines if line.name.endswith(name))
        return bytes(line.carried.get(way, b""))

    def names(self) -> set[str]:
        """What the clients that are connected call themselves."""
        return {line.name for line in list(self._lines)}

    # --- the loop's side ---

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)

    async def _refuse(self) -> None:
        if self._server is not None:
            for listening in self._server.sockets:
                self._loop.remove_reader(listening.fileno())
            # asyncio cannot make a connection of a closed server's: what was accepted goes first.
            await asyncio.sleep(0)
            self._server.close()
            self._server = None
        # One that was accepted just before becomes a task of ours yet: only then it can be ended.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(others, timeout=0.01)

    async def _arm(self, cut: _Cut) -> None:
        self._cut = cut

    async def _record(self) -> None:
        self._recording = True
        for line in self._lines:
            line.carried.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line: _Line | None = None
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            try:
                far_reader, far = await asyncio.open_unix_connection(self._socket_path)
                line = _Line(writer, far)
                self._lines.add(line)
                await asyncio.gather(
                    self._carry(line, Way.UP, reader, far),
                    self._carry(line, Way.DOWN, far_reader, writer),
                )
            finally:
                writer.transport.abort()
                ends = [writer]
                if line is not None:
                    _abort(line)
                    self._lines.discard(line)
                    ends.append(line.far)
                # A task that has ended leaves nothing open.
                self._tasks.discard(task)
                for end in ends:
                    with contextlib.suppress(OSError):
                        await end.wait_closed()

    async def _carry(
        self, line: _Line, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            if way is Way.UP and not line.name:
                line.name = _name_in(piece)
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.bytes_per_s:
                await asyncio.sleep(len(piece) / self.bytes_per_s)
            cut = self._cut
            if cut is not None and cut.way is way and line.name.endswith(cut.name):
                if len(piece) > cut.left_bytes:
                    self._cut = None
                    writer.write(piece[: cut.left_bytes])
                    await writer.drain()
                    # What was sent is not taken back by the cut: let it arrive.
                    await asyncio.sleep(0.001)
                    self.cuts += 1
                    _abort(line)
                    return
                cut.left_bytes -= len(piece)
            if self._recording:
                line.carried.setdefault(way, bytearray()).extend(piece)
            writer.write(piece)
            await writer.drain()
        _abort(line)


def _abort(line: _Line) -> None:
    line.near.transport.abort()
    # The database is told in order: a reset would throw away what it has not read yet.
    line.far.close()


def _name_in(startup: bytes) -> str:
    """`application_name` of a startup message; empty where it has none.

    Source: PostgreSQL, "Message Formats", StartupMessage.
    """
    words = startup[8:].split(b"\0")
    pairs = dict(zip(words[::2], words[1::2], strict=False))
    return pairs.get(b"application_name", b"").decode()


def messages(carried: bytes) -> list[int]:
    """Where each message of what went one way begins, and where the last one ends, in bytes.

    Source: PostgreSQL, "Message Formats": a type, then a length that counts itself.
    """
    found = [0]
    while found[-1] < len(carried):
        (length,) = struct.unpack_from(">I", carried, found[-1] + 1)
        found.append(found[-1] + 1 + length)
    return found
