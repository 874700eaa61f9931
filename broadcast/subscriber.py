"""How does one consumer's WebSocket open, live and end?

    request bytes ─▶ ServerProtocol ─▶ 101 or a refusal ─▶ fan-out ─▶ farewell ─▶ cut

websockets' Sans-I/O protocol does the handshake and the control frames; events are finished frames
and go straight to the transport. A consumer has nothing to say: its messages are stepped over, its
pings answered, and a flood is read no faster than a fixed rate.

Only this object closes its socket. Others ask it to `depart`.

Source: RFC 6455; event-stream spec, Connection and Framing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import struct
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, ClassVar, Final, cast

import orjson
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import OPEN, SEND_EOF
from websockets.server import ServerProtocol

from broadcast import metrics
from broadcast.client import Clients
from broadcast.config import STREAM_PATH, Limits
from broadcast.consumer import Consumer, Departure, Patience, State
from broadcast.crowd import Crowd
from broadcast.cursor import BadCursor, Future, Live, decide_start, parse_cursor
from broadcast.fanout import Fanout
from broadcast.notice import (
    OUTDATED_CURSOR,
    StreamError,
    encode_error,
    encode_info,
    websocket_frame,
)
from broadcast.version import SERVER
from common.settings import MAX_BROADCAST_PROCESSES

_BYTES_ACKED: Final = struct.Struct("=120xQ")
"""tcpi_bytes_acked of struct tcp_info. Source: linux/tcp.h."""
_NOT_NOW: Final = HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable"
_TOO_MANY: Final = HTTPStatus.TOO_MANY_REQUESTS, "RateLimitExceeded"
_LATER: Final = {"Retry-After": "5"}
_AT_A_SIBLING: Final = {"Retry-After": "1"}
_AGENT_CHARS: Final = 200
"""Of a User-Agent, as an operator is shown it."""
_quiet: Final = logging.getLogger("standpipe.websocket")
_quiet.setLevel(logging.ERROR)

_FAREWELLS: Final[dict[Departure, tuple[int, StreamError | None, str]]] = {
    Departure.TOO_SLOW: (
        CloseCode.POLICY_VIOLATION, StreamError.CONSUMER_TOO_SLOW, "no progress for too long",
    ),
    Departure.OUTDATED: (
        CloseCode.POLICY_VIOLATION, StreamError.CONSUMER_TOO_SLOW, "its place has left the log",
    ),
    Departure.GONE: (CloseCode.INTERNAL_ERROR, None, "no answer to a ping"),
    Departure.DAMAGED: (CloseCode.INTERNAL_ERROR, None, "the log cannot be read here"),
    Departure.SHUTDOWN: (CloseCode.SERVICE_RESTART, None, "restarting"),
    Departure.DISCONNECTED: (CloseCode.POLICY_VIOLATION, None, "disconnected by the operator"),
}  # fmt: skip
"""Close code, error frame and words for each end that we decide on."""


class Service:
    """What all streams of a process share. fanout: None until the log can be read."""

    def __init__(self, limits: Limits, clients: Clients | None = None, member: int = 0) -> None:
        """Args: clients: tells addresses; by default it trusts no proxy. member: of this process."""
        self.limits = limits
        self.clients = clients or Clients(())
        self.streams = Crowd(limits.address_consumers)
        self.sockets = Crowd(limits.address_connections)
        self.member = member
        # Streams are fewer than milliseconds, so that no number comes twice, not in a later life either.
        self._numbers = itertools.count(int(time.time() * 1000))
        self.fanout: Fanout | None = None
        self.draining = False

    def new_number(self) -> int:
        """A stream's number, of which there is one in all broadcasters of a relay."""
        return next(self._numbers) * MAX_BROADCAST_PROCESSES + self.member


def member_of(number: int) -> int:
    """Which broadcaster has given a stream its number."""
    return number % MAX_BROADCAST_PROCESSES


class Subscriber(asyncio.Protocol):
    """One consumer; uvicorn makes it when a request asks for the upgrade."""

    service: ClassVar[Service]

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], **_more: object
    ) -> None:
        """uvicorn's own call; only the set of connections is of use here."""
        del config, app_state
        self._connections: set[Any] = server_state.connections
        limits = self.service.limits
        # No limit on a message, as its frames are not kept; one on a frame, as it is.
        self._conn = ServerProtocol(max_size=(None, limits.heard_frame_bytes), logger=_quiet)
        self._limits = limits
        self._grace_s = limits.grace_s
        self._fanout: Fanout | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self.write: Callable[[bytes], None]
        self.consumer = Consumer(0)
        self.number = 0
        """As all that describes it: of who asked for a stream and may have it."""
        self.address = self.user_agent = ""
        self.connected_at_s = 0.0
        self._counted_as: str | None = None
        self.blocked = False
        self.reading = False
        self._inbox = bytearray()
        self._allowance = limits.heard_bytes
        self._owed_pong = b""
        self._heard_s = self._loop.time()
        self._patience: Patience | None = None
        self._cut: asyncio.TimerHandle | None = None

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the socket from the HTTP protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self.write = self._transport.write
        self._transport.set_write_buffer_limits(
            high=self._limits.high_water_bytes, low=self._limits.low_water_bytes
        )
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """The handshake, and whatever the consumer says later."""
        if self._fanout is None:
            # What follows a refusal is nobody's.
            if self._cut is None:
                self._handshake(data)
        elif self._inbox:
            self._inbox += data
        else:
            self._heard_s = self._loop.time()
            self._hear(data)

    def eof_received(self) -> None:
        """The consumer has closed its half: the transport flushes and closes."""
        self._let_go(Departure.GONE)
        self._start_cut()

    def pause_writing(self) -> None:
        """The socket is full: stay at this place."""
        self.blocked = True
        self._patience = Patience(self._acknowledged(), self._loop.time())
        if self._fanout is not None:
            self._fanout.fell_behind(self)

    def resume_writing(self) -> None:
        """The socket has drained: go on from this place."""
        self.blocked = False
        self._patience = None
        if self._owed_pong:
            self.write(self._owed_pong)
            self._owed_pong = b""
        if self._fanout is not None:
            self._fanout.pull(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone, whoever ended it."""
        del exc
        self._connections.discard(self)
        self.service.streams.leave(self._counted_as)
        self._let_go(Departure.GONE)
        if self._cut is not None:
            self._cut.cancel()

    def shutdown(self) -> None:
        """uvicorn asks every connection to end."""
        self._grace_s = self._limits.drain_s
        self.depart(Departure.SHUTDOWN)

    # --- the handshake ---

    def _handshake(self, data: bytes) -> None:
        self._conn.receive_data(data)
        for event in self._conn.events_received():
            if isinstance(event, Request):
                self._answer(event)
                return
        if self._conn.handshake_exc is not None:
            self._refuse(HTTPStatus.BAD_REQUEST, "InvalidRequest", str(self._conn.handshake_exc))

    def _answer(self, request: Request) -> None:
        service = self.service
        fanout = service.fanout
        path, _, query_string = request.path.partition("?")
        if path != STREAM_PATH:
            self._refuse(HTTPStatus.NOT_FOUND, "XRPCNotSupported", "no stream is served here")
            return
        try:
            cursor = parse_cursor(query_string)
        except BadCursor as error:
            self._refuse(HTTPStatus.BAD_REQUEST, "InvalidRequest", str(error))
            return
        if fanout is None or service.draining:
            words = "this member ends" if service.draining else "the log is not there yet"
            again = _AT_A_SIBLING if service.draining else _LATER
            self._refuse(*_NOT_NOW, words, again)
            return
        if fanout.streams >= service.limits.consumers:
            self._refuse(*_NOT_NOW, "too many streams", _LATER)
            return
        response = self._conn.accept(request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self._refuse_handshake(request, response)
            return
        self._describe(request)
        who = service.clients.counted_as(self.address)
        if not service.streams.enter(who):
            self._refuse(*_TOO_MANY, "too many streams of this address", _LATER)
            return
        self._counted_as = who
        response.headers["Server"] = SERVER
        self._conn.send_response(response)
        self._transport.write(b"".join(self._conn.data_to_send()))
        self._open(fanout, cursor)

    def _describe(self, request: Request) -> None:
        """Note whom an operator will see."""
        service = self.service
        peer = self._transport.get_extra_info("peername")
        forwarded = request.headers.get_all("X-Forwarded-For")
        self.address = service.clients.address(peer[0] if peer else None, forwarded)
        agent = " ".join(request.headers.get_all("User-Agent"))[:_AGENT_CHARS]
        # Whatever bytes it was, as a text that JSON can hold.
        self.user_agent = agent.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        self.connected_at_s = time.time()
        self.number = service.new_number()

    def _open(self, fanout: Fanout, cursor: int | None) -> None:
        log = fanout.playback
        start = decide_start(cursor, oldest_seq=log.oldest_seq, durable_seq=log.durable_seq)
        self._fanout = fanout
        if isinstance(start, Future):
            words = f"the newest seq is {start.durable_seq}"
            self._end(CloseCode.POLICY_VIOLATION, StreamError.FUTURE_CURSOR, words)
            self.consumer.state = State.CLOSING
            metrics.REFUSED.labels("future_cursor").inc()
            return
        if isinstance(start, Live):
            self.consumer.next_seq = fanout.live_seq
        else:
            self.consumer.next_seq = start.from_seq
            self.consumer.cursor = cursor or 0
            if start.outdated:
                self.tell_outdated()
        fanout.join(self)

    def _refuse_handshake(self, request: Request, response: Response) -> None:
        status = HTTPStatus(response.status_code)
        more = {"Upgrade": "websocket"} if status == HTTPStatus.UPGRADE_REQUIRED else {}
        if request.headers.get_all("Sec-WebSocket-Version") not in ([], ["13"]):
            status, more = HTTPStatus.UPGRADE_REQUIRED, {"Sec-WebSocket-Version": "13"}
        self._refuse(status, "InvalidRequest", str(self._conn.handshake_exc), more)

    def _refuse(
        self, status: HTTPStatus, error: str, message: str, more: dict[str, str] | None = None
    ) -> None:
        body = orjson.dumps({"error": error, "message": message})
        headers = Headers(
            {
                "Server": SERVER,
                "Content-Type": "application/json",
                "Content-Length": str(len(body)),
                "Access-Control-Allow-Origin": "*",
                "Connection": "close",
                **(more or {}),
            }
        )
        metrics.REFUSED.labels(str(status.value)).inc()
        self._transport.write(Response(status.value, status.phrase, headers, body).serialize())
        self._close()

    # --- what the consumer says ---

    def _hear(self, data: bytes | bytearray) -> None:
        now, later = data[: self._allowance], data[self._allowance :]
        self._allowance -= len(now)
        if later:
            # A flood: the rest waits for the next sweep, and so does the socket.
            self._inbox = bytearray(later)
            self._transport.pause_reading()
        if now:
            self._conn.receive_data(now)
            self._conn.events_received()
            self._reply()

    def _reply(self) -> None:
        """Send what the protocol wants to say: pongs, or its part of a closing handshake."""
        replies = self._conn.data_to_send()
        if not replies:
            return
        if SEND_EOF not in replies:
            if self.blocked:
                # Only the latest ping needs an answer (RFC 6455 §5.5.3), so nothing piles up.
                self._owed_pong = replies[-1]
            else:
                self.write(b"".join(replies))
            return
        broken = self._conn.parser_exc is not None
        self._let_go(Departure.BAD_FRAME if broken else Departure.GONE)
        if farewell := b"".join(replies):
            self.write(farewell)
        self._close()

    # --- what we say ---

    def tell_outdated(self) -> None:
        """Tell the consumer, once, that what it asked for is gone."""
        self.consumer.cursor = 0
        message = "the cursor lies before the retained window"
        self.write(websocket_frame(encode_info(OUTDATED_CURSOR, message)))

    def depart(self, why: Departure) -> None:
        """End this stream: error frame, close frame, a short grace, then the cut."""
        if self._cut is None:
            self._let_go(why)
            code, error, words = _FAREWELLS[why]
            self._end(code, error, words)

    def _end(self, code: int, error: StreamError | None, words: str) -> None:
        if error is not None:
            self.write(websocket_frame(encode_error(error, words)))
            words = error.value
        if self.consumer.next_seq:
            words = f"{words}; last seq {self.consumer.next_seq - 1}"
        if self._conn.state is OPEN:
            self._conn.send_close(code, words)
            self.write(b"".join(self._conn.data_to_send()))
        self._start_cut()

    def _let_go(self, why: Departure) -> None:
        if self._fanout is not None and self.consumer.state is not State.CLOSING:
            self._fanout.leave(self)
            metrics.DROPPED.labels(why.value).inc()

    def _close(self) -> None:
        """Close once what was written has left, or when the grace is over."""
        self._transport.close()
        self._start_cut()

    def _start_cut(self) -> None:
        if self._cut is None:
            self._cut = self._loop.call_later(self._grace_s, self._transport.abort)

    # --- deadlines ---

    def sweep(self, now_s: float) -> None:
        """Each second: read on after a flood, ask whether the consumer is there, lose patience."""
        self._allowance = self._limits.heard_bytes
        if self._inbox:
            inbox, self._inbox = self._inbox, bytearray()
            self._hear(inbox)
            if not self._inbox:
                self._transport.resume_reading()
        if self.consumer.state is State.CLOSING:
            return
        if self._patience is None:
            if now_s - self._heard_s >= self._limits.ping_s:
                self._conn.send_ping(os.urandom(4))
                self.write(b"".join(self._conn.data_to_send()))
                self._patience = Patience(self._acknowledged(), now_s)
        elif not self.blocked and self._heard_s > self._patience.since_s:
            self._patience = None
        elif self._patience.stalled_s(self._acknowledged(), now_s) >= self._limits.stall_s:
            self.depart(Departure.TOO_SLOW if self.blocked else Departure.GONE)

    def _acknowledged(self) -> int:
        """Bytes that the other side's kernel has acknowledged: progress that cannot be feigned."""
        sock = self._transport.get_extra_info("socket")
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
            return int(_BYTES_ACKED.unpack(info)[0])
        except (OSError, struct.error):
            # Not TCP, or gone: what has left our own buffer is the next best.
            return -self._transport.get_write_buffer_size()
