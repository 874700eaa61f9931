"""ZeroMQ sockets, with their high-water marks, in one place.

    ingest DEALER ══▶ ROUTER persist        judged batches out, replies back; between machines over TCP,
                                            encrypted, and each side known by its key (common.curve)
    persist PUB   ══▶ SUB broadcast         chunks, in log order

The DEALER blocks at its mark, which ingest feels as back-pressure; PUB drops at its mark, which a
broadcaster sees as a gap in seq and fills from the log. Nothing here waits, and every socket has
one owner: the thread that made it.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

import zmq

from common.curve import ClientKeys, ServerKeys
from common.owner import Owner

BATCHES_HIGH_WATER: Final = 256
"""Batches that one ingest process may have queued towards persist, in messages."""
REPLIES_HIGH_WATER: Final = 4096
"""Replies that persist may have queued towards one ingest process, in messages."""
CHUNKS_HIGH_WATER: Final = 2048
"""Chunks that may wait between persist and one broadcaster, in messages: about 10 s."""
RECONNECT_MS: Final = 50
"""Pause between two attempts to reach a neighbour that is away, in milliseconds; ZeroMQ adds as much
again at random."""

BEAT_MS: Final = 2_000
"""How often a connection between machines is tried while nothing else is said, in milliseconds."""
SILENT_MS: Final = 6_000
"""One that says nothing for so long is given up, in milliseconds: a pulled cable says nothing."""
REACH_AGAIN_MS: Final = 250
"""As RECONNECT_MS, between machines."""

_MESSAGES_A_TURN: Final = 64
"""Messages taken from a socket before the loop gets its turn again."""


def batch_outlet(
    context: zmq.Context[zmq.Socket[bytes]], member: int, keys: ClientKeys | None = None
) -> zmq.Socket[bytes]:
    """The ingest end of the hop to persist; not yet connected. keys: where that is another machine."""
    socket = context.socket(zmq.DEALER)
    # Of this process and no other: a reply on its way to a predecessor must never be taken for
    # ours, since positions begin anew with each process.
    socket.setsockopt(zmq.IDENTITY, b"ingest-%d-" % member + os.urandom(8))
    _configure(socket, send=BATCHES_HIGH_WATER, receive=REPLIES_HIGH_WATER)
    if keys is not None:
        socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        socket.setsockopt(zmq.RECONNECT_IVL, REACH_AGAIN_MS)
        _watch_the_line(socket)
    return socket


def batch_inlet(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """The persist end of the hop from ingest; not yet bound."""
    socket = context.socket(zmq.ROUTER)
    # A connection that comes back before its end was noticed takes over its own name.
    socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
    # A reply to a process that is gone is an error to be seen, not a silent drop.
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    _configure(socket, send=REPLIES_HIGH_WATER, receive=BATCHES_HIGH_WATER)
    return socket


def lock_inlet(socket: zmq.Socket[bytes], keys: ServerKeys) -> None:
    """Whatever `batch_inlet` is bound to from now on asks for keys."""
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    socket.setsockopt(zmq.ZAP_DOMAIN, b"ingest")
    _watch_the_line(socket)


def chunk_outlet(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """The persist end of the hop to the broadcasters; not yet bound."""
    socket = context.socket(zmq.PUB)
    _configure(socket, send=CHUNKS_HIGH_WATER, receive=1)
    return socket


def chunk_inlet(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    """The broadcast end of the hop from persist; not yet connected."""
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    _configure(socket, send=1, receive=CHUNKS_HIGH_WATER)
    return socket


def _configure(socket: zmq.Socket[bytes], *, send: int, receive: int) -> None:
    socket.setsockopt(zmq.SNDHWM, send)
    socket.setsockopt(zmq.RCVHWM, receive)
    socket.setsockopt(zmq.LINGER, 0)
    # The neighbour is a process that its supervisor starts again within a second or two. The pauses
    # do not grow: at the end of such a wait a doubled one would cost as much as the restart itself.
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)


def _watch_the_line(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.HEARTBEAT_IVL, BEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, SILENT_MS)


class LinkEvent(Enum):
    """What ZeroMQ says of a connection.

    UP: it may be used. REFUSED: persist does not know the key. FAILED: there was none, or it is another
    persist's, or who is there speaks something else.
    """

    UP = "up"
    DOWN = "down"
    REFUSED = "refused"
    FAILED = "failed"


_LINK_EVENTS: Final = {
    int(zmq.EVENT_HANDSHAKE_SUCCEEDED): LinkEvent.UP,
    int(zmq.EVENT_DISCONNECTED): LinkEvent.DOWN,
    int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL): LinkEvent.FAILED,
    int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL): LinkEvent.FAILED,
    int(zmq.EVENT_HANDSHAKE_FAILED_AUTH): LinkEvent.REFUSED,
}


def monitor(socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """A socket that says what becomes of the connections of another one; see `link_event`."""
    told: zmq.Socket[bytes] = socket.get_monitor_socket(sum(_LINK_EVENTS))
    return told


def link_event(parts: Sequence[bytes]) -> LinkEvent:
    """What a monitor's message says."""
    number, _value = _EVENT.unpack(parts[0])
    return _LINK_EVENTS[number]


_EVENT: Final = struct.Struct("=HI")
"""Source: zmq_socket_monitor(3)."""


class LoopSocket:
    """A ZeroMQ socket driven by an asyncio loop, without futures and without a thread.

    ZeroMQ's descriptor only tells that its state may have changed, once; so the state is read
    again after everything that can change it.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        *,
        on_message: Callable[[list[bytes]], None],
        on_writable: Callable[[], None] = lambda: None,
        pace_s: Callable[[], float] | None = None,
    ) -> None:
        """Take over `socket`, which is closed by `close`. Call from within the loop.

        Args:
            on_message: called with the parts of each message.
            on_writable: called once after a refused `send`, when there is room again.
            pace_s: how long to leave the socket alone after messages came, in seconds; what comes
                meanwhile is taken at once then. For a reader that is woken too often otherwise.
        """
        self._socket = socket
        self._on_message = on_message
        self._on_writable = on_writable
        self._pace_s = pace_s
        self._pause: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._owner = Owner("a ZeroMQ socket")
        self._refused = False
        self._scheduled = False
        self._closed = False
        self._listening = True
        self._fd = int(socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self._pump)
        self._schedule()

    def send(self, parts: Sequence[bytes]) -> bool:
        """Queue one message; False when the high-water mark is reached, and nothing was queued.

        Raises:
            WrongThread: the caller does not own the socket.
        """
        self._owner.check()
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            self._refused = True
            self._schedule()
            return False
        self._schedule()
        return True

    def close(self) -> None:
        """Let go of the loop and close the socket; twice does no harm."""
        self._owner.check()
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)
            if self._pause is not None:
                self._pause.cancel()
            self._socket.close()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        if self._closed or self._pause is not None:
            return
        taken = 0
        for taken in range(_MESSAGES_A_TURN):  # noqa: B007 - after a break: how many came
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._on_message(parts)
            if self._closed:
                return
        else:
            self._schedule()
            taken = 0
        if self._pace_s is not None:
            self._take_turns(self._pace_s() if taken else None)
        if self._refused and int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLOUT:
            self._refused = False
            self._on_writable()

    def _take_turns(self, pause_s: float | None) -> None:
        """Leave the socket alone for a while, or, when nothing came, listen to it again."""
        if pause_s is None:
            if not self._listening:
                self._listening = True
                self._loop.add_reader(self._fd, self._pump)
            return
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._fd)
        self._pause = self._loop.call_later(pause_s, self._look_again)

    def _look_again(self) -> None:
        self._pause = None
        self._pump()
