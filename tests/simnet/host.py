"""How does one PDS host speak? Its stream with cursors and backlog, its few HTTP answers, its faults.

A host numbers what it is given and keeps it; each connection is a place in that log. It does
not know what the events mean.

Source: event-stream specification; how the reference PDS answers cursors.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from bisect import bisect_right
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.fix_net import free_port
from tests.simnet.events import Event, error_frame, info_frame
from tests.simnet.faults import HostFaults
from tests.simnet.listening import accept_no_more

STREAM_PATH: Final = "/xrpc/com.atproto.sync.subscribeRepos"
BATCH_BYTES: Final = 1 << 16
"""How much one write to a connection joins, so that thousands of frames a second cost little."""

Message = bytes | str
Lookup = Callable[[str], dict[str, Any] | None]


class Bell(Protocol):
    """What is rung when there may be something to write."""

    def set(self) -> None:
        """Ring it."""


class Line(Protocol):
    """What a stream goes over."""

    @property
    def transport(self) -> asyncio.Transport:
        """The connection itself."""


class Host:
    """One PDS on a port of its own.

    status_of: DID → the answer of `getRepoStatus`, None for an account that is not here.
    faults: read at each step; change it at any time, then call `wake`.
    connections: how many streams are open now. accepted: how many ever were.
    sent: frames written to all connections together. messages: the backlog, oldest first.
    requests: path and query of each request for the stream. did_requests: how often did.json was read.
    """

    def __init__(
        self,
        index: int,
        status_of: Lookup,
        *,
        tls: ssl.SSLContext | None = None,
        backlog_bytes: int = 64_000_000,
    ) -> None:
        self.index = index
        self.faults = HostFaults()
        self.accepted = 0
        self.sent = 0
        self.port = 0
        self.did_document: dict[str, Any] | None = None
        self.did_requests = 0
        self.requests: list[str] = []
        self._status_of = status_of
        self._tls = tls
        self._backlog_bytes = backlog_bytes
        self._kept_bytes = 0
        self._seqs: list[int] = []
        self.messages: list[Message] = []
        self._dropped = 0
        self._next_seq = 1
        self._server: Server | None = None
        self.streams: dict[Line, Stream] = {}

    # Where it is

    @property
    def name(self) -> str:
        """Host name with port, as a relay would list it."""
        return f"localhost:{self.port}"

    @property
    def url(self) -> str:
        """The service endpoint that DID documents name."""
        return f"{'https' if self._tls else 'http'}://{self.name}"

    @property
    def stream_url(self) -> str:
        """Where the stream is, without a cursor."""
        return f"{'wss' if self._tls else 'ws'}://{self.name}{STREAM_PATH}"

    @property
    def connections(self) -> int:
        """How many streams are open."""
        return len(self.streams)

    @property
    def head_seq(self) -> int:
        """The newest number given; 0 before the first."""
        return self._next_seq - 1

    def caught_up(self) -> bool:
        """Whether every open stream has been given everything, and one is open."""
        end = self._end()
        return bool(self.streams) and all(s.position == end for s in self.streams.values())

    async def start(self) -> None:
        """Listen on a free port, the same again after `close`."""
        self.port = self.port or free_port()
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            ssl=self._tls,
            compression=None,
            process_request=self._request,
            ping_interval=None,
            server_header=None,
            open_timeout=None,
            close_timeout=0.5,
            max_size=1 << 16,
        )
        if self._tls is not None:
            expect_refusals(asyncio.get_running_loop())

    async def close(self) -> None:
        """Cut every connection and refuse new ones."""
        if self._server is not None:
            server, self._server = self._server, None
            self.cut()
            await accept_no_more(server.sockets)
            server.close()
            await server.wait_closed()

    async def end(self) -> None:
        """Close for good."""
        await self.close()

    # What it says

    def emit(self, event: Event) -> int:
        """Say an event to all; the number it got."""
        seq = self._next_seq
        self.append(event.frame(seq))
        return seq

    def append(self, message: Message) -> int:
        """Say any message, good or bad, and keep it: it is met again by each reconnect."""
        seq = self._next_seq
        self._next_seq += 1
        self._seqs.append(seq)
        self.messages.append(message)
        self._kept_bytes += len(message)
        if self._kept_bytes > self._backlog_bytes:
            self._trim()
        self.wake()
        return seq

    def say_once(self, message: Message) -> None:
        """Say a message to the connections of this moment only."""
        for stream in self.streams.values():
            stream.urgent.append(wire(message))
        self.wake()

    def write_raw(self, data: bytes) -> None:
        """Put bytes on the connections of this moment, past the WebSocket framing."""
        for stream in self.streams.values():
            stream.urgent.append(data)
        self.wake()

    def repeat(self, count: int) -> None:
        """Send the newest `count` messages once more, with the numbers they had."""
        for message in self.messages[-count:] if count else []:
            self.say_once(message)

    def restart_seq(self) -> None:
        """Forget everything said and count from 1 again; connections stay as they are."""
        self.messages.clear()
        self._seqs.clear()
        self._kept_bytes = self._dropped = 0
        self._next_seq = 1
        for stream in self.streams.values():
            stream.position = 0

    def cut(self) -> None:
        """Break every stream without a close frame."""
        for connection in list(self.streams):
            connection.transport.abort()

    def wake(self) -> None:
        """Let every stream look again at the log and at the faults."""
        for stream in self.streams.values():
            stream.news.set()

    def _trim(self) -> None:
        """Forget the oldest tenth of the backlog."""
        count = max(1, len(self.messages) // 10)
        self._kept_bytes -= sum(len(message) for message in self.messages[:count])
        del self.messages[:count], self._seqs[:count]
        self._dropped += count

    def place_of(self, cursor: int | None) -> int:
        """Where a stream with this cursor begins; None: with what comes next."""
        if cursor is None:
            return self._end()
        return self._dropped + bisect_right(self._seqs, cursor)

    def _end(self) -> int:
        return self._dropped + len(self.messages)

    # HTTP

    async def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        target = urlsplit(request.path)
        if target.path == STREAM_PATH:
            self.accepted += 1
            self.requests.append(request.path)
            if self.faults.close_on_accept:
                connection.transport.abort()
            while self.faults.silent_handshake and self._server is not None:
                await asyncio.sleep(0.02)
            return None
        query = parse_qs(target.query)
        status, body = self.answer(target.path, query.get("did", [""])[0])
        headers = Headers({"Content-Type": "application/json", "Connection": "close"})
        data = json.dumps(body).encode()
        headers["Content-Length"] = str(len(data))
        return Response(status, HTTPStatus(status).phrase, headers, data)

    def answer(self, path: str, did: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON of the few HTTP paths."""
        if path == "/xrpc/_health":
            return 200, {"version": "simnet"}
        if path == "/xrpc/com.atproto.server.describeServer":
            own = f"did:web:localhost%3A{self.port}"
            return 200, {"did": own, "availableUserDomains": [".test"], "inviteCodeRequired": False}
        if path == "/.well-known/did.json" and self.did_document is not None:
            self.did_requests += 1
            return 200, self.did_document
        if path == "/xrpc/com.atproto.sync.getRepoStatus":
            found = self._status_of(did)
            if found is None:
                return 400, {"error": "RepoNotFound", "message": f"Could not find {did}"}
            return 200, found
        return 404, {"error": "NotFound", "message": "simnet does not serve this"}

    # The stream

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        query = parse_qs(urlsplit(connection.request.path).query)
        text = query.get("cursor", [""])[0]
        stream = Stream(self.place_of(None), news := asyncio.Event())
        if text:
            try:
                cursor = int(text)
            except ValueError:
                await _refuse(connection, "InvalidRequest", "cursor is not an integer")
                return
            if cursor > self.head_seq:
                await _refuse(connection, "FutureCursor", "Cursor in the future.")
                return
            if self._dropped and cursor < self._seqs[0] - 1:
                stream.urgent.append(wire(info_frame("OutdatedCursor", "Events are missing.")))
            stream.position = self.place_of(cursor)
        self.streams[connection] = stream
        reader = asyncio.create_task(_read_until_closed(connection))
        reset: asyncio.TimerHandle | None = None
        if self.faults.reset_every_s is not None:
            loop = asyncio.get_running_loop()
            reset = loop.call_later(self.faults.reset_every_s, connection.transport.abort)
        writer = asyncio.create_task(self._write(connection, stream, news))
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self.streams[connection]
            if reset is not None:
                reset.cancel()
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _write(
        self, connection: ServerConnection, stream: Stream, news: asyncio.Event
    ) -> None:
        """Write the log from the stream's place on, until the connection ends."""
        written = 0
        while True:
            faults = self.faults
            data: list[bytes] = [] if faults.silent_stream else self.take(stream)
            if not data:
                news.clear()
                await news.wait()
                continue
            limit = faults.disconnect_after
            if limit is not None and written + len(data) >= limit:
                connection.transport.write(b"".join(data[: limit - written]))
                await asyncio.sleep(0)
                if faults.disconnect_once:
                    faults.disconnect_after = None
                connection.transport.close()
                return
            if faults.bytes_per_s is None:
                connection.transport.write(b"".join(data))
                await connection.drain()
            else:
                await _trickle(connection, b"".join(data), faults)
            written += len(data)
            self.sent += len(data)

    def take(self, stream: Stream) -> list[bytes]:
        """The next messages for one connection, as they go over the wire."""
        if stream.urgent:
            urgent, stream.urgent = stream.urgent, []
            return urgent
        i = stream.position - self._dropped
        if i < 0:
            i = 0
            stream.position = self._dropped
        taken: list[bytes] = []
        size = 0
        while i < len(self.messages) and size < BATCH_BYTES:
            taken.append(wire(self.messages[i]))
            size += len(taken[-1])
            i += 1
        stream.position = self._dropped + i
        return taken


class Stream:
    """One open stream: its place in the log, what is to be said first, and a bell."""

    __slots__ = ("news", "position", "urgent")

    def __init__(self, position: int, news: Bell) -> None:
        self.position = position
        self.urgent: list[bytes] = []
        self.news = news


def wire(message: Message) -> bytes:
    """A message as a finished server-to-client WebSocket frame."""
    opcode = b"\x81" if isinstance(message, str) else b"\x82"
    data = message.encode() if isinstance(message, str) else message
    if len(data) < 126:
        return opcode + bytes((len(data),)) + data
    if len(data) < 1 << 16:
        return opcode + b"\x7e" + len(data).to_bytes(2) + data
    return opcode + b"\x7f" + len(data).to_bytes(8) + data


def expect_refusals(loop: asyncio.AbstractEventLoop) -> None:
    """Keep a client's refusal of a certificate from being reported as a fault of the loop."""
    given = loop.get_exception_handler()

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        refused = isinstance(context.get("exception"), (ConnectionResetError, ssl.SSLError))
        if refused and "transport creation" in context["message"]:
            return
        if given is None:
            loop.default_exception_handler(context)
        else:
            given(loop, context)

    loop.set_exception_handler(report)


async def _refuse(connection: ServerConnection, name: str, message: str) -> None:
    await connection.send(error_frame(name, message))
    await connection.close(1008, name)


async def _read_until_closed(connection: ServerConnection) -> None:
    """Ignore what the subscriber says; return when it is gone."""
    try:
        async for _ in connection:
            pass
    except ConnectionClosed:
        pass


async def _trickle(connection: ServerConnection, data: bytes, faults: HostFaults) -> None:
    """Write in small pieces at the asked speed, which may change meanwhile."""
    at = 0
    while at < len(data) and faults.bytes_per_s is not None:
        piece = max(1, int(faults.bytes_per_s / 20))
        connection.transport.write(data[at : at + piece])
        at += piece
        await asyncio.sleep(piece / faults.bytes_per_s)
    connection.transport.write(data[at:])
    await connection.drain()
