"""How is one host read, for as long as it is wanted?

    dial ─▶ handshake ─▶ messages ─▶ inbox ─▶ (worker's turn) ─▶ pipeline
      ▲                                          │ no room: stop reading the socket
      └── back-off that only progress resets ◀───┴── connection lost, bad frame, error frame

This object owns the host's connection and its inbox. It does not judge; and it does not know
other hosts but through the worker that gives it its turns.

Source: S-CON-10, S-CON-21, S-FRM-09, S-FRM-11, S-CUR-09 to 14.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable
from hashlib import sha256
from random import Random
from typing import Final

from common.event import Info, StreamError
from common.names import Names
from common.target import Target
from common.verdict import Drop, DropReason
from ingest.account import Feed
from ingest.backoff import Backoff
from ingest.config import MESSAGE_BYTES, Limits
from ingest.connection import Connection, ConnectionFailed, HostIsRelay
from ingest.load import work_of
from ingest.pipeline import Pipeline
from ingest.splitter import Message, Oversize, TextMessage

ACTIVE: Final = "active"
IDLE: Final = "idle"
OFFLINE: Final = "offline"
_BAD_FRAMES_REMEMBERED: Final = 64
_log = logging.getLogger("standpipe")


class Subscription:
    """One host's stream, and the state it is seen in.

    observed: a word of com.atproto.sync.defs#hostStatus. last_error: in words, None after
    progress. connected: a handshake was done and the connection stands.
    """

    def __init__(
        self,
        target: Target,
        feed: Feed,
        pipeline: Pipeline,
        limits: Limits,
        *,
        names: Names,
        tls: ssl.SSLContext,
        allow_insecure: bool,
        has_messages: Callable[[Subscription], None],
        holds_too_much: Callable[[Subscription], None],
        random: Random,
    ) -> None:
        """Nothing happens until `run`.

        Args:
            names: where addresses come from. tls: one context for all hosts.
            has_messages: called when the inbox is no longer empty.
            holds_too_much: called when this host should not be read for now.
        """
        self.target = target
        self.feed = feed
        self.observed = IDLE
        self.last_error: str | None = None
        self.connected = False
        self.inbox: deque[Message] = deque()
        self.inbox_bytes = 0
        self._pipeline = pipeline
        self._limits = limits
        self._names = names
        self._tls = tls
        self._allow_insecure = allow_insecure
        self._has_messages = has_messages
        self._holds_too_much = holds_too_much
        self._random = random
        self._backoff = Backoff(limits.retry_first_s, limits.retry_longest_s, random)
        feed.backoff = self._backoff
        self._connection: Connection | None = None
        self._refused = False
        """The host said that it will not serve us as we are: no use in coming back soon."""
        self._has_informed = False
        self._bad_frames: set[bytes] = set()
        self._bad_at: int | None = None
        """Frames that ended a connection at this place of the stream: next time, past them."""
        self._emptied = asyncio.Event()

    async def run(self) -> None:
        """Read the host until cancelled."""
        try:
            while True:
                await self._once()
                self.connected = False
                # What has been read is judged before we ask for what follows it.
                while self.inbox:
                    self._emptied.clear()
                    await self._emptied.wait()
                failures = self._backoff.failures
                delay_s = self._backoff.next_s()
                if self._refused:
                    delay_s = max(delay_s, self._limits.retry_refused_s)
                elif failures + 1 >= self._limits.offline_failures:
                    self.observed = OFFLINE
                _log.info(
                    "host disconnected",
                    extra={"fields": {
                        "host": self.target.hostname, "error": self.last_error,
                        "retry_s": round(delay_s, 1), "failures": failures + 1,
                    }},
                )  # fmt: skip
                await asyncio.sleep(delay_s)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the connection and of what it brought; twice does no harm."""
        self.connected = False
        if self._connection is not None:
            self._connection.close()
        self._empty()

    async def _once(self) -> None:
        """One connection from its dialling to its end."""
        self._refused = self._has_informed = False
        cursor = self.feed.upstream.last_seq
        self.feed.resumed_at = cursor
        connection = Connection(
            self.target.stream_uri(cursor), self._received, ping_s=self._limits.ping_s
        )
        self._connection = connection
        try:
            await self._dial(connection)
            self.connected = True
            if not self._refused:  # its first message may have been read already
                self.observed = ACTIVE
            _log.info(
                "host connected",
                extra={"fields": {"host": self.target.hostname, "cursor": cursor}},
            )
            why = await connection.ended
            self.last_error = why
        except HostIsRelay as error:
            self._refused = True
            self.observed = OFFLINE
            self.last_error = str(error)
        except TimeoutError:
            connection.fail("timed out")
            self.last_error = "timed out before the handshake was done"
        except ssl.SSLCertVerificationError as error:
            self.last_error = f"certificate refused: {error.verify_message}"
        except (ConnectionFailed, OSError, ssl.SSLError) as error:
            self.last_error = f"{type(error).__name__}: {error}"[:300]
        finally:
            connection.fail("given up")

    async def _dial(self, connection: Connection) -> None:
        """DNS, TCP, TLS and the WebSocket handshake, each with a deadline.

        Raises:
            ConnectionFailed, OSError, ssl.SSLError, TimeoutError: it did not come to be.
        """
        name, port = self.target.address
        async with asyncio.timeout(self._limits.connect_s):
            internal = self._allow_insecure or self.target.is_local
            found = await self._names.resolve(name, internal=internal)
            # What was checked is connected to: nobody asks for the name again.
            addresses = [address.host for address in found]
            await self._connect(connection, addresses, port, name)
        async with asyncio.timeout(self._limits.handshake_s):
            await asyncio.shield(connection.opened)

    async def _connect(
        self, connection: Connection, addresses: list[str], port: int, name: str
    ) -> None:
        loop = asyncio.get_running_loop()
        failure: OSError | None = None
        for address in dict.fromkeys(addresses):
            try:
                await loop.create_connection(
                    lambda: connection,
                    address,
                    port,
                    ssl=self._tls if self.target.tls else None,
                    server_hostname=name if self.target.tls else None,
                )
            except ssl.SSLError:
                raise
            except OSError as error:
                failure = error
                continue
            return
        raise failure or ConnectionFailed("no address")

    # --- messages ---

    def _received(self, messages: list[Message]) -> None:
        was_empty = not self.inbox
        self.inbox.extend(messages)
        self._pipeline.counts.read += len(messages)
        size = sum(len(message) for message in messages if type(message) is bytes)
        self.inbox_bytes += MESSAGE_BYTES * len(messages) + size
        self.feed.work += work_of(len(messages), size)
        if self.unfinished_bytes > self._limits.host_high_bytes:
            self._holds_too_much(self)
        if was_empty:
            self._has_messages(self)

    @property
    def unfinished_bytes(self) -> int:
        """What has been read from this host and is not finished."""
        return self.inbox_bytes + self.feed.unfinished_bytes

    def pause(self) -> None:
        """Stop reading the socket."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        if self._connection is not None:
            self._connection.resume()

    def handle_one(self, now_s: float) -> None:
        """Take the oldest message of the inbox in hand."""
        message = self.inbox.popleft()
        self.inbox_bytes -= MESSAGE_BYTES
        if type(message) is bytes:
            self.inbox_bytes -= len(message)
            said = self._pipeline.take(self.feed, message, now_s)
            if said is not None:
                self._concerns_connection(said, message)
        elif type(message) is TextMessage:
            self._pipeline.counts.received["malformed"] += 1
            drop = Drop(DropReason.TEXT_FRAME, f"{message.size} bytes")
            self._pipeline.drop(self.feed, drop)
            self._bad_frame(drop, b"text %d" % message.size)
        elif type(message) is Oversize:
            self._pipeline.counts.received["malformed"] += 1
            drop = Drop(DropReason.FRAME_TOO_LARGE, f"{message.size} bytes")
            self._pipeline.drop(self.feed, drop)
        if not self.inbox:
            self._emptied.set()

    def _concerns_connection(self, said: Info | StreamError | Drop, raw: bytes) -> None:
        heeded = self._pipeline.counts.heeded
        if isinstance(said, Drop):
            self._bad_frame(said, sha256(raw).digest())
        elif isinstance(said, StreamError):
            heeded["error"] += 1
            self._refused = True
            self.observed = IDLE
            self.last_error = f"error frame {said.error}: {said.message or ''}"[:300]
            self._give_up_connection(self.last_error)
        else:
            heeded["info"] += 1
            if not self._has_informed:
                # Once a connection: the log is no place that a host may fill.
                self._has_informed = True
                _log.info(
                    "host says",
                    extra={"fields": {"host": self.target.hostname, "info": said.name[:100]}},
                )

    def _bad_frame(self, drop: Drop, digest: bytes) -> None:
        """A frame that could not be read: the connection ends, once for each such frame.

        Met again at the same place it is passed over, or we would never get any further.
        """
        place = self.feed.upstream.last_seq
        if place != self._bad_at:
            self._bad_at = place
            self._bad_frames.clear()
        if digest in self._bad_frames or len(self._bad_frames) >= _BAD_FRAMES_REMEMBERED:
            return
        self._bad_frames.add(digest)
        self._give_up_connection(f"bad frame: {drop.reason.value}: {drop.detail}"[:300])

    def _give_up_connection(self, why: str) -> None:
        """End the connection; what is still in the inbox will come again."""
        self.last_error = why
        self._empty()
        if self._connection is not None:
            self._connection.fail(why)

    def _empty(self) -> None:
        """Let go of what nobody has taken in hand: it comes again."""
        self._pipeline.counts.unread += len(self.inbox)
        self.inbox.clear()
        self.inbox_bytes = 0
