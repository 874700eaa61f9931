"""How does one WebSocket connection to a host carry its messages here?

    transport ─▶ handshake (websockets, Sans-I/O) ─▶ Splitter ─▶ messages
                 control frames ─▶ websockets ─▶ answers

One owner: this object writes and closes; others ask it to. It does not know what messages mean,
when to connect, or whom to.

Source: RFC 6455; S-CON.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from websockets.client import ClientProtocol
from websockets.frames import CloseCode
from websockets.http11 import Response
from websockets.uri import parse_uri

from common.fetch import USER_AGENT
from common.frame import MAX_FRAME_BYTES
from ingest.splitter import Control, Message, ProtocolViolation, Splitter

_HEADERS_END: Final = b"\r\n\r\n"
_RELAY: Final = "atproto-relay"
_MAX_HANDSHAKE_BYTES: Final = 65_536
"""The head of a host's answer to the handshake; what follows it may be any length."""


class ConnectionFailed(Exception):
    """The connection did not come to be, or ended; the message says why, for the operator."""


class HostIsRelay(ConnectionFailed):
    """The host says that it is a relay itself; reading it could go round in circles (S-CAS-05)."""


class Connection(asyncio.Protocol):
    """One connection, from the TCP or TLS connection on."""

    def __init__(
        self, uri: str, on_messages: Callable[[list[Message]], None], *, ping_s: float
    ) -> None:
        """Args: on_messages: told of what came, in order. ping_s: see ingest.config.Limits."""
        self._protocol = ClientProtocol(parse_uri(uri), max_size=None)
        self._on_messages = on_messages
        self._ping_s = ping_s
        self._splitter = Splitter(MAX_FRAME_BYTES)
        self._handshake = bytearray()
        self._open = False
        self._paused = False
        self._loop = asyncio.get_running_loop()
        self._heard_s = self._loop.time()
        self._pinged = False
        self.silent = False
        """It was cut because nothing came of it, not even a pong."""
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self.opened: asyncio.Future[None] = self._loop.create_future()
        """Done when the handshake is; fails with ConnectionFailed."""
        self.ended: asyncio.Future[str] = self._loop.create_future()
        """Done when the connection is gone: why, for the operator."""

    @property
    def is_open(self) -> bool:
        """Whether the handshake was done, whatever has become of the connection since."""
        return self._open

    # --- what others ask for ---

    def pause(self) -> None:
        """Read no further; the host feels it through TCP."""
        if not self._paused and self._transport is not None and not self.ended.done():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused and self._transport is not None and not self.ended.done():
            self._paused = False
            self._heard_s = self._loop.time()
            self._pinged = False
            self._transport.resume_reading()

    def fail(self, why: str) -> None:
        """Cut the connection now; nothing more comes of it."""
        self._end(why)
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Say goodbye and close."""
        if self._open and not self.ended.done():
            self._protocol.send_close(CloseCode.GOING_AWAY)
            self._flush()
        self._end("closed by us")
        if self._transport is not None:
            self._transport.close()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP, or TLS, is there; the handshake begins."""
        self._transport = cast(asyncio.Transport, transport)
        request = self._protocol.connect()
        request.headers["User-Agent"] = USER_AGENT
        self._protocol.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self.ended.done():
            return
        self._heard_s = self._loop.time()
        self._pinged = False
        if not self._open:
            data = self._shake_hands(data)
            if not data:
                return
        try:
            messages = self._splitter.feed(data)
        except ProtocolViolation as error:
            self.fail(f"not WebSocket: {error}")
            return
        if not messages:
            return
        others: list[Message] = [m for m in messages if type(m) is not Control]
        if len(others) != len(messages):
            self._control(b"".join(m.frame for m in messages if type(m) is Control))
        if others:
            self._on_messages(others)

    def pause_writing(self) -> None:
        """All that we write is a request and answers to pings; a host reads them, or goes."""
        self.fail("the host does not read our answers")

    def eof_received(self) -> None:
        """The host will send nothing more; the transport closes itself."""
        self._end("the host closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._end(f"connection lost: {exc}" if exc else "connection closed")

    # --- the rest ---

    def _shake_hands(self, data: bytes) -> bytes:
        """Feed the handshake → the bytes behind it, which belong to the stream."""
        self._handshake += data
        end = self._handshake.find(_HEADERS_END)
        if end < 0:
            if len(self._handshake) > _MAX_HANDSHAKE_BYTES:
                self.fail("an endless answer to the handshake")
            return b""
        end += len(_HEADERS_END)
        self._protocol.receive_data(bytes(self._handshake[:end]))
        behind = bytes(self._handshake[end:])
        failure = self._protocol.handshake_exc
        answers = self._protocol.events_received()
        if failure is not None or not answers:
            # A refusal with a body is not read to its end: its status line says enough.
            line = bytes(self._handshake[:80]).split(b"\r\n")[0].decode("latin-1")
            self._refuse(
                ConnectionFailed(f"handshake: {line}" + (f": {failure}" if failure else ""))
            )
            return b""
        answer = answers[0]
        if isinstance(answer, Response) and _RELAY in answer.headers.get("Server", ""):
            self._refuse(HostIsRelay("the host is a relay"))
            return b""
        self._handshake.clear()
        self._open = True
        self._timer = self._loop.call_later(self._ping_s, self._watch)
        self.opened.set_result(None)
        return behind

    def _refuse(self, failure: ConnectionFailed) -> None:
        if not self.opened.done():
            self.opened.set_exception(failure)
        self.fail(str(failure))

    def _control(self, frames: bytes) -> None:
        """Have the library answer pings and closes."""
        self._protocol.receive_data(frames)
        self._protocol.events_received()
        self._flush()
        if self._protocol.close_expected():
            received = self._protocol.close_rcvd
            said = f"{received.code} {received.reason}" if received else "protocol error"
            self._end(f"the host closed: {said}"[:200])
            if self._transport is not None:
                self._transport.close()

    def _flush(self) -> None:
        assert self._transport is not None
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)

    def _watch(self) -> None:
        """Find out whether a silent connection is still one (S-CON-14)."""
        if self.ended.done():
            return
        silent_s = self._loop.time() - self._heard_s
        wait_s = self._ping_s - silent_s
        if self._paused:
            wait_s = self._ping_s
        elif wait_s <= 0:
            if self._pinged:
                self.silent = True
                self.fail(f"silent for {silent_s:.0f} s, and no pong")
                return
            self._pinged = True
            self._heard_s = self._loop.time()
            self._protocol.send_ping(b"standpipe")
            self._flush()
            wait_s = self._ping_s
        self._timer = self._loop.call_later(wait_s, self._watch)

    def _end(self, why: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.opened.done():
            self.opened.set_exception(ConnectionFailed(why))
            self.opened.exception()
        if not self.ended.done():
            self.ended.set_result(why)
