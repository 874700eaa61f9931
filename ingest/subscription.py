"""How is one host read, for as long as it is wanted?

    dial ─▶ handshake ─▶ messages ─▶ inbox ─▶ (worker's turn) ─▶ pipeline
      ▲                                          │ no room: stop reading the socket
      └── ingest.lifecycle: when, and in which state ◀── lost, bad frame, error frame

This object owns the host's connection and its inbox. It does not judge; and it does not know
other hosts but through the worker that gives it its turns.

Source: S-CON-10, S-CON-21, S-FRM-09, S-FRM-11, S-CUR-09 to 14.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections import deque
from collections.abc import Callable
from hashlib import sha256
from math import inf
from random import Random
from typing import Final

from common.event import Info, StreamError
from common.names import Names
from common.target import Target
from common.verdict import Drop, DropReason
from ingest.account import Feed
from ingest.config import MESSAGE_BYTES, Limits
from ingest.connection import Connection, ConnectionFailed, HostIsRelay
from ingest.dialer import Dialer
from ingest.dials import Urgency
from ingest.lifecycle import FAILURES, LINKED, Delays, Lifecycle, Phase, Signal
from ingest.load import work_of
from ingest.observed import STRANGER, Seen, Standing
from ingest.pipeline import Pipeline
from ingest.reach import reach
from ingest.splitter import Message, Oversize, TextMessage

_BAD_FRAMES_REMEMBERED: Final = 64
FUTURE_CURSOR: Final = "FutureCursor"
CONSUMER_TOO_SLOW: Final = "ConsumerTooSlow"
"""Error frames that say more than no. Source: com.atproto.sync.subscribeRepos."""
ANEW_EVENTS: Final = 5
"""So many events in a row with lower numbers and newer revs: a host has begun to count anew."""
LOOKS: Final = 3
"""So often that must be seen before it is believed."""
_log = logging.getLogger("standpipe")


class Subscription:
    """One host's stream, and the state it is seen in.

    life: its state; see ingest.lifecycle. last_error: why it was last not reached, or lost, in words.
    seen: what else is told of it.
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
        dialer: Dialer,
        began_anew: Callable[[Subscription], None],
        behind: Callable[[Subscription, float], None],
        random: Random,
        standing: Standing = STRANGER,
        moved: bool = False,
    ) -> None:
        """Nothing happens until `run`.

        Args:
            names: where addresses come from. tls: one context for all hosts.
            has_messages: called when the inbox is no longer empty.
            holds_too_much: called when this host should not be read for now.
            dialer: whose line all hosts stand in. standing: what is known of this one. moved: it was
                another process's until a moment ago.
            began_anew: called when the host's numbers have, and it is to be read under another generation.
            behind: called with each event, which may be one of long ago.
        """
        self.target = target
        self.feed = feed
        self.last_error: str | None = None
        self.seen = Seen(standing.restarts)
        self.inbox: deque[Message] = deque()
        self.inbox_bytes = 0
        self._pipeline = pipeline
        self._limits = limits
        self._names = names
        self._tls = tls
        self._allow_insecure = allow_insecure
        self._has_messages = has_messages
        self._holds_too_much = holds_too_much
        self._dialer = dialer
        self._began_anew = began_anew
        self._behind = behind
        self._size = standing.size
        self._first = Urgency.MOVED if moved else Urgency.FIRST
        self._alive_s = standing.alive_s
        self.life = Lifecycle(_delays(limits, standing.restarts), random, state=standing.state)
        feed.backoff = self.life
        self._connection: Connection | None = None
        self._dialled = False
        self._opened_s = 0.0
        self._has_informed = False
        self._bad_frames: set[bytes] = set()
        self._bad_at: int | None = None
        """Frames that ended a connection at this place of the stream: next time, past them."""
        self._emptied = asyncio.Event()
        self._stirred = asyncio.Event()

    @property
    def observed(self) -> str:
        """A word of com.atproto.sync.defs#hostStatus."""
        return self.life.observed.value

    @property
    def connected(self) -> bool:
        """Whether a handshake was done and the connection stands."""
        connection = self._connection
        return self.life.connected and connection is not None and not connection.ended.done()

    async def run(self) -> None:
        """Read the host until cancelled."""
        host = self.feed.source.host
        self._dialer.join(host, self.stir, self._alive_s)
        try:
            while True:
                await self._wait()
                why = await self._once()
                # What has been read is judged before we ask for what follows it.
                while self.inbox:
                    self._emptied.clear()
                    await self._emptied.wait()
                self._lost(*why)
        finally:
            self._dialer.part(host, self.stir)
            self.close()

    def close(self) -> None:
        """Let go of the connection and of what it brought; twice does no harm."""
        if self._connection is not None:
            self._connection.close()
        self._empty()

    def stir(self, signal: Signal) -> None:
        """Something concerns this host that did not come from it."""
        self._take_in(signal)
        self._stirred.set()
        if self.life.phase is Phase.QUEUED:
            self._dialer.hasten(self.feed.source.host)

    def _take_in(self, signal: Signal, why: str = "") -> None:
        """One signal into the state of the host; what it orders is done."""
        slowest_s = self._dialer.lost(self.feed.source.host) if signal in FAILURES else inf
        orders = self.life.on(signal, self._dialer.now_s(), slowest_s)
        if orders.cut:
            self._empty()
            if self._connection is not None:
                self._connection.fail(why or signal.name)
        if orders.restart:
            self._began_anew(self)

    async def _wait(self) -> None:
        """Until it is time to get in line."""
        life = self.life
        while life.phase is Phase.WAITING:
            self._stirred.clear()
            left_s = life.next_dial_s - self._dialer.now_s()
            if left_s <= 0:
                self._take_in(Signal.DUE)
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._stirred.wait()

    async def _once(self) -> tuple[Signal, str]:
        """One connection from its turn to its end → how it ended."""
        life, host = self.life, self.feed.source.host
        urgency = Urgency.AGAIN if self._dialled else self._first
        async with self._dialer.turn(host, Urgency.ASKED if life.urgent else urgency, self._size):
            self._dialled, self._has_informed = True, False
            self._take_in(Signal.ALLOWED)
            cursor = self.feed.upstream.last_seq
            self.feed.resumed_at = cursor
            connection = self._connection = Connection(
                self.target.stream_uri(cursor), self._received, ping_s=self._limits.ping_s
            )
            try:
                await reach(
                    connection,
                    self.target,
                    self._limits,
                    names=self._names,
                    tls=self._tls,
                    internal=self._allow_insecure or self.target.is_local,
                )
            except HostIsRelay as error:
                return Signal.IS_RELAY, str(error)
            except ConnectionFailed as error:
                return Signal.FAILED, str(error)
            finally:
                if not self._is_open():
                    connection.fail("given up")
        try:
            why = await connection.ended
        finally:
            connection.fail("given up")
        return (Signal.SILENT if connection.silent else Signal.LOST), why

    def _is_open(self) -> bool:
        """Take note of it once that the handshake is done; a message may be here before its waiter."""
        connection = self._connection
        if connection is None or not connection.opened.done() or connection.opened.exception():
            return False
        if self.life.phase is Phase.DIALLING:
            self._take_in(Signal.OPENED)
            self._opened_s = self._dialer.now_s()
            self.seen.change(time.time())
            self._dialer.back(self.feed.source.host)
            _log.info(
                "host connected",
                extra={"fields": {
                    "host": self.target.hostname, "cursor": self.feed.resumed_at,
                }},
            )  # fmt: skip
        return True

    def _lost(self, signal: Signal, why: str) -> None:
        """The way to the host's events has ended, wherever it was, and all that came of it is in hand."""
        life = self.life
        was_connected = life.connected
        if was_connected and self._dialer.now_s() - self._opened_s >= self._limits.stood_s:
            life.progress()
        if life.phase in LINKED:
            # Otherwise what it said last has told why.
            self.last_error = why
        self._take_in(signal, why)
        if self._opened_s:
            self._opened_s = 0.0
            self.seen.change(time.time())
        _log.info(
            "host disconnected",
            extra={"fields": {
                "host": self.target.hostname, "error": self.last_error,
                "retry_s": round(max(0.0, life.next_dial_s - self._dialer.now_s()), 1)
                if life.phase is Phase.WAITING else 0.0,
                "failures": life.failures,
            }},
        )  # fmt: skip

    # --- messages ---

    def _received(self, messages: list[Message]) -> None:
        self._is_open()
        self.seen.read(len(messages), time.time())
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
        """What has been read from this host and is not finished; what is slowed has bounds of its own."""
        feed = self.feed
        return self.inbox_bytes + feed.unfinished_bytes - feed.deferred_bytes

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
            elif self.feed.upstream.anew >= ANEW_EVENTS:
                self._numbers_anew("events with lower numbers and newer revs")
            else:
                self._behind(self, now_s)
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
            why = f"error frame {said.error}: {said.message or ''}"[:300]
            if said.error == FUTURE_CURSOR and self.feed.resumed_at:
                self._numbers_anew(why)
            else:
                self.last_error = why
                slow = said.error == CONSUMER_TOO_SLOW
                self._take_in(Signal.TOO_SLOW if slow else Signal.ERROR_FRAME, why)
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
        self.last_error = f"bad frame: {drop.reason.value}: {drop.detail}"[:300]
        self._take_in(Signal.BAD_FRAME, self.last_error)

    def _numbers_anew(self, why: str) -> None:
        """The host's numbers seem to have begun anew, as after a restored backup."""
        self.feed.upstream.anew = 0
        life = self.life
        self.last_error = f"its numbers seem to have begun anew: {why}"[:300]
        _log.warning(
            "host's numbers seem to have begun anew",
            extra={"fields": {
                "host": self.target.hostname, "cursor": self.feed.upstream.last_seq, "why": why,
                "looks": life.looks + 1, "of": _delays(self._limits, self.seen.restarts).looks,
            }},
        )  # fmt: skip
        self._take_in(Signal.NUMBERS, self.last_error)

    def _empty(self) -> None:
        """Let go of what nobody has taken in hand: it comes again."""
        self._pipeline.counts.unread += len(self.inbox)
        self.inbox.clear()
        self.inbox_bytes = 0
        self._emptied.set()


def _delays(limits: Limits, restarts: int) -> Delays:
    """Args: restarts: who did so before is believed later each time; a host may be unable to count."""
    return Delays(
        limits.retry_first_s,
        limits.retry_longest_s,
        limits.retry_slow_s,
        limits.retry_refused_s,
        limits.restart_look_s,
        offline_failures=limits.offline_failures,
        looks=LOOKS * (1 + restarts),
    )
