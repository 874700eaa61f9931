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
from collections.abc import Coroutine, Iterator
from math import ceil
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
_SO_ATTACH_REUSEPORT_CBPF: Final = 51
_SO_DETACH_REUSEPORT_BPF: Final = 68
_RETURN: Final = struct.Struct("=HBBI")
"""One instruction of a classic BPF program. Source: linux/filter.h, socket(7)."""
_STEER_AGAIN_S: Final = 0.05
_PROBE_S: Final = 0.1
"""How long a connection of our own may take to be seen here, if it came here, in seconds."""
_PROBE_TURNS: Final = 4
"""In so many waits: a loop that was held up during one looks at what came meanwhile in the next."""
_log = logging.getLogger("standpipe")
_PHRASES: Final = {400: "Bad Request", 408: "Request Timeout"}


class Http(H11Protocol):
    """One HTTP connection. Deadlines run for the head and the body of each request."""

    limits: ClassVar[HttpLimits]
    probes: ClassVar[dict[int, asyncio.Event]]
    """Connections of our own, by their port, that wait to see whether they come here."""
    service: ClassVar[Service]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._phase = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._counted_as: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected; its first head is due."""
        super().connection_made(cast(asyncio.Transport, transport))
        if self.probes and self._is_probe():
            self.transport.abort()
            return
        service, peer = self.service, self.transport.get_extra_info("peername")
        who = service.clients.counted_as(peer[0]) if peer else None
        if len(self.connections) > service.limits.connections or not service.sockets.enter(who):
            self.transport.abort()
            return
        self._counted_as = who
        self._watch()

    def _is_probe(self) -> bool:
        peer = self.transport.get_extra_info("peername")
        probe = self.probes.get(peer[1]) if peer else None
        if probe is not None:
            probe.set()
        return probe is not None

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
        self._leave()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the socket over, with what came behind the handshake."""
        self._forget()
        self._leave()
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

    def _leave(self) -> None:
        self.service.sockets.leave(self._counted_as)
        self._counted_as = None

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

        self._probes: dict[int, asyncio.Event] = {}
        BoundHttp.limits = limits
        BoundHttp.probes = self._probes
        BoundHttp.service = service
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
        under way, though a sibling listens on the same port. So the kernel is told first to give
        new ones to a sibling, and what had begun before is accepted and answered.
        """
        shared = [sock for sock in self._sockets if _is_shared(sock)]
        if not self._retire_s or not shared:
            return
        siblings = [(sock, await self._sibling_of(sock)) for sock in shared]
        # Not by the clock: a loop that was held up still answers what came meanwhile.
        for _ in range(ceil(self._retire_s / _STEER_AGAIN_S)):
            for sock, sibling in siblings:
                if sibling is not None:
                    _steer(sock, sibling)  # again and again, as a sibling may have let go
            await asyncio.sleep(_STEER_AGAIN_S)

    def share(self) -> None:
        """Let every member have its part again, after one that ended had steered its own away."""
        for sock in self._sockets:
            if _is_shared(sock):
                with contextlib.suppress(OSError):  # most often there is nothing to be let go
                    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_REUSEPORT_BPF, 0)

    async def _sibling_of(self, sock: socket.socket) -> int | None:
        """The place of a sibling among those who listen on this port; None when there is none.

        Nobody tells which place is whose. But of the first two only one can be ours.
        """
        for place in (0, 1):
            if not _steer(sock, place):
                return None
            if not await self._comes_here(sock):
                return place
        self.share()
        return None

    async def _comes_here(self, sock: socket.socket) -> bool:
        """Whether a new connection to our port comes to this very process, or to nobody."""
        loop = asyncio.get_running_loop()
        seen = asyncio.Event()
        family, address = _own_address(sock)
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.bind((address, 0))
                self._probes[probe.getsockname()[1]] = seen
                connecting = loop.sock_connect(probe, (address, sock.getsockname()[1]))
                try:
                    await _probed(connecting)
                except OSError:
                    return True  # it came nowhere: nobody is to be sent there
                with contextlib.suppress(TimeoutError):
                    await _probed(seen.wait())
            finally:
                self._probes.clear()
        return seen.is_set()

    async def close(self) -> None:
        """Accept nothing more, have every connection end, and wait for them for a while."""
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving


async def _probed(what: Coroutine[Any, Any, object]) -> None:
    """Wait for it, for _PROBE_S.

    Raises:
        TimeoutError: that long, and it has not come.
    """
    task = asyncio.ensure_future(what)
    try:
        for _ in range(_PROBE_TURNS):
            if (await asyncio.wait([task], timeout=_PROBE_S / _PROBE_TURNS))[0]:
                task.result()
                return
        raise TimeoutError
    finally:
        task.cancel()
        await asyncio.wait([task])


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


def _steer(sock: socket.socket, place: int) -> bool:
    """Have the kernel give each new connection to one of those who listen on the same port.

    Needs no privilege. Where the place is nobody's, the kernel chooses as ever.
    """
    program = ctypes.create_string_buffer(_RETURN.pack(0x06, 0, 0, place), _RETURN.size)
    # struct sock_fprog: how many instructions, and where they lie.
    option = struct.pack("@HP", 1, ctypes.addressof(program))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, option)
    except OSError as error:
        # Then a few who come at the wrong moment are reset, and have to try again.
        _log.warning("new connections cannot be left to the siblings", exc_info=error)
        return False
    return True


def _own_address(sock: socket.socket) -> tuple[int, str]:
    """Family and address by which this machine reaches one of its own listening sockets."""
    address = sock.getsockname()[0]
    if address == "0.0.0.0" or (
        address == "::" and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    ):
        return socket.AF_INET, "127.0.0.1"
    return sock.family, "::1" if address == "::" else address


def _is_address(family: int, text: str) -> bool:
    with contextlib.suppress(OSError):
        socket.inet_pton(family, text)
        return True
    return False
