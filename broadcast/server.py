"""How do bytes on the public port become an answer, and how long may they take to come?

    socket ─▶ Http (h11, deadlines) ─▶ Views            or, for the stream, ─▶ Subscriber

uvicorn parses and answers HTTP. It has no deadline for a request that comes slowly, gives away what
arrives together with a handshake, and answers broken requests in plain text; Http adds what is
missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import socket
import struct
from collections.abc import Iterator
from typing import Any, ClassVar, Final, cast

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from broadcast.config import STREAM_PATH, HttpLimits
from broadcast.subscriber import Service, Subscriber
from broadcast.version import SERVER
from broadcast.xrpc import XrpcError

_BACKLOG: Final = 1024
_SO_ATTACH_FILTER: Final = 26
_FILTER_STEP: Final = struct.Struct("=HBBI")
_NO_SYN: Final = b"".join(
    _FILTER_STEP.pack(*step)
    for step in (
        (0x30, 0, 0, 13),  # load the byte of the TCP header that has the flags
        (0x45, 0, 1, 0x02),  # SYN?
        (0x06, 0, 0, 0),  # then drop it,
        (0x06, 0, 0, 0xFFFFFFFF),  # else take the whole packet
    )
)
"""A socket filter that drops every SYN and lets handshakes under way go on.

Source: linux/filter.h, linux/bpf_common.h; RFC 9293 §3.1.
"""
_log = logging.getLogger("standpipe")
_PHRASES: Final = {400: "Bad Request", 408: "Request Timeout"}


class Http(H11Protocol):
    """One HTTP connection. Deadlines run for the head and the body of each request."""

    limits: ClassVar[HttpLimits]
    connections_max: ClassVar[int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._phase = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected; its first head is due."""
        super().connection_made(cast(asyncio.Transport, transport))
        if len(self.connections) > self.connections_max:
            self.transport.abort()
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request, in any segmentation."""
        # In small pieces: h11 only bounds a head that is not yet complete.
        size = self.limits.head_bytes // 4
        for at in range(0, len(data), size):
            heir = self.transport.get_protocol()
            if heir is not self:
                cast(asyncio.Protocol, heir).data_received(data[at:])
                return
            if self.transport.is_closing():
                return
            super().data_received(data[at : at + size])
        self._watch()

    def on_response_complete(self) -> None:
        """The next request may begin."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._forget()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the socket over, with what came behind the handshake."""
        self._forget()
        rest, _closed = self.conn.trailing_data
        super().handle_websocket_upgrade(event)
        if rest:
            cast(asyncio.Protocol, self.transport.get_protocol()).data_received(rest)

    def _should_upgrade(self) -> bool:
        """Only a GET of the stream's path; the rest is told why by the views."""
        return (
            self.scope["method"] == "GET"
            and self.scope["path"] == STREAM_PATH
            and b"upgrade" in self._tokens(b"connection")
            and b"websocket" in self._tokens(b"upgrade")
        )

    def _tokens(self, header: bytes) -> set[bytes]:
        values = [value for name, value in self.headers if name == header]
        return {token.strip().lower() for value in values for token in value.split(b",")}

    def send_400_response(self, msg: str) -> None:
        """A request that is not HTTP, or too large."""
        self._refuse(400, msg)

    def _watch(self) -> None:
        phase = self._due()
        if phase == self._phase:
            return
        self._forget()
        self._phase = phase
        if phase:
            due_s = self.limits.head_s if phase == "head" else self.limits.body_s
            self._deadline = self.loop.call_later(due_s, self._too_late)

    def _due(self) -> str:
        """What the client owes: "head", "body" or nothing."""
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return ""
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            return "body"
        if state is h11.IDLE and (self.cycle is None or self.conn.trailing_data[0]):
            return "head"
        return ""

    def _too_late(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is not None and self.cycle.response_started and self._phase == "body":
            self.transport.abort()
            return
        self._refuse(408, f"the request's {self._phase} took too long")

    def _refuse(self, status: int, message: str) -> None:
        body = XrpcError(status, "InvalidRequest", message).body()
        lines = (
            f"HTTP/1.1 {status} {_PHRASES[status]}",
            f"Server: {SERVER}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Access-Control-Allow-Origin: *",
            "Connection: close",
        )
        self._forget()
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        # Not through h11: it may be in a state in which it says nothing more.
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write("\r\n".join((*lines, "", "")).encode() + body)
        self.transport.close()

    def _forget(self) -> None:
        self._phase = ""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: our process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class Listener:
    """The open ports of one broadcast process."""

    def __init__(self, app: ASGIApp, service: Service, limits: HttpLimits) -> None:
        class BoundHttp(Http):
            pass

        class BoundSubscriber(Subscriber):
            pass

        BoundHttp.limits = limits
        BoundHttp.connections_max = service.limits.connections
        BoundSubscriber.service = service
        config = uvicorn.Config(
            app,
            http=BoundHttp,
            ws=BoundSubscriber,
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            headers=[("Server", SERVER)],
            h11_max_incomplete_event_size=limits.head_bytes,
            timeout_keep_alive=limits.idle_s,
            timeout_graceful_shutdown=limits.drain_s,
            backlog=_BACKLOG,
        )
        self._server = Server(config)
        self._sockets: list[socket.socket] = []
        self._retire_s = limits.retire_s
        self._serving: asyncio.Task[None] | None = None

    async def open(self, sockets: list[socket.socket]) -> None:
        """Serve bound sockets, which are closed by `close`; returns once they accept."""
        self._sockets = sockets
        self._serving = asyncio.create_task(self._server.serve(sockets), name="http")
        # uvicorn sets a flag, and nothing that could be waited for.
        while not self._server.started and not self._serving.done():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        if self._serving.done():
            self._serving.result()

    async def retire(self) -> None:
        """Leave new connections to the siblings; call before `close`, while all else still goes on.

        What lies in a listening socket's queue when it is closed is reset, and so are handshakes
        under way, though a sibling listens on the same port. So new ones are not let in first: a
        dropped SYN is said again after a second, and finds a sibling then.
        """
        shared = [sock for sock in self._sockets if _is_shared(sock)]
        if self._retire_s and shared:
            for sock in shared:
                _let_nobody_in(sock)
            await asyncio.sleep(self._retire_s)

    async def close(self) -> None:
        """Accept nothing more, have every connection end, and wait for them for a while."""
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving


def bind(host: str, port: int, *, shared: bool) -> socket.socket:
    """A listening address. An empty host is every address, of both families where there are two.

    Args:
        port: 0 for any free one. shared: with the siblings of this process, by SO_REUSEPORT.

    Raises:
        OSError: it cannot be had.
    """
    if not host and socket.has_dualstack_ipv6():
        family, address, dual = socket.AF_INET6, "::", True
    else:
        address, dual = host or "0.0.0.0", False
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        if not host or not _is_address(family, address):
            family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
    # The protocol is named because asyncio turns Nagle's algorithm off only where it is.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        found.bind((address, port))
        found.setblocking(False)
    except OSError:
        found.close()
        raise
    return found


def _is_shared(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def _let_nobody_in(sock: socket.socket) -> None:
    program = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
    steps = len(_NO_SYN) // _FILTER_STEP.size
    # struct sock_fprog: how many steps, and where they lie.
    option = struct.pack("@HP", steps, ctypes.addressof(program))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)
    except OSError as error:
        # Then a few who come at the wrong moment are reset, and have to try again.
        _log.warning("new connections cannot be left to the siblings", exc_info=error)


def _is_address(family: int, text: str) -> bool:
    with contextlib.suppress(OSError):
        socket.inet_pton(family, text)
        return True
    return False
