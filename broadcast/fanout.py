"""Who gets which bytes next?

    chunk ─▶ ring ─tick─▶ the same bytes object to every consumer at the head
                  └─pull─▶ a slice to each consumer that has a place of its own
    log ──playback─pull─▶ the same, for a place that has left the ring

A tick joins what arrived in one turn of the loop; the inlet lets it gather for some milliseconds.
Consumers at the head have no place of their
own, so a tick is one write each and nothing else. One whose socket is full keeps its place and
pulls from there once the socket has drained.

What is hidden (broadcast.curtain) is left out of both. What was read from the log before somebody was taken
down, and is not yet delivered, is read again.

A hole stands in the ring like a chunk, and what is told of it lies between the frames: it goes the
same way, and costs nothing where there is none.

Order: the head moves before the writes, so that whoever blocks during its write goes on behind it.

This module does not know WebSockets or where the log lies; it owns no socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from broadcast import metrics
from broadcast.config import Limits
from broadcast.consumer import Consumer, Departure, Signal, State
from broadcast.cursor import is_outdated
from broadcast.hole import Hole
from broadcast.playback import Playback
from broadcast.ring import Ring, Slice
from common.chunk import Chunk
from common.log import Damaged, Outdated

_SLICES_A_TURN: Final = 4
"""Slices that one consumer gets before the others have their turn."""
_log = logging.getLogger("standpipe")


class Outlet(Protocol):
    """One consumer's end, as far as the fan-out knows it."""

    consumer: Consumer
    blocked: bool
    """Its socket is over its high-water mark."""
    reading: bool
    """A read from the log is under way for it."""

    @property
    def write(self) -> Callable[[bytes], None]:
        """Hands whole frames to the socket. May set `blocked` and call `fell_behind` within."""

    def tell_outdated(self) -> None:
        """Tell the consumer that it missed something."""

    def depart(self, why: Departure) -> None:
        """Say farewell and close; the outlet calls `leave` itself."""

    def sweep(self, now_s: float) -> None:
        """Look after deadlines, about each second. now_s: of the loop's clock."""


class Fanout:
    """All consumers of one process, and the one ring they share."""

    def __init__(self, playback: Playback, limits: Limits) -> None:
        """Starts at the log's durable head. Call within the loop."""
        self.limits = limits
        self.playback = playback
        self.live_seq = playback.durable_seq + 1
        """What the consumers at the head get next."""
        self.published = 0
        """Events that the ring has taken, ever; whatever is read from the log for a consumer is not
        among them."""
        self.live_events = 0
        """Events, and `live_bytes`, that went to every consumer that was at the head."""
        self.live_bytes = 0
        self._ring = Ring(self.live_seq, limits.ring_bytes, playback.curtain)
        self._loop = asyncio.get_running_loop()
        self._live: dict[Outlet, Callable[[bytes], None]] = {}
        self._ahead: set[Outlet] = set()
        self._outlets: set[Outlet] = set()
        self._tick: asyncio.Handle | None = None
        metrics.HEAD_SEQ.set(self.live_seq - 1)

    @property
    def streams(self) -> int:
        """Open streams."""
        return len(self._outlets)

    # --- chunks in ---

    def publish(self, chunk: Chunk | Hole) -> None:
        """Take the next chunk with events, or a hole; it goes out with the next tick."""
        before_seq = self._ring.next_seq
        if not isinstance(chunk, Hole):
            # Order: whom to hide is known before anybody gets the event that tells of it.
            self.playback.curtain.passes(chunk)
        self._ring.append(chunk)
        if chunk.count:
            self.published += self._ring.next_seq - before_seq
        metrics.UNSENT.note(self._ring.next_seq - self.live_seq)
        if self._tick is None:
            self._tick = self._loop.call_soon(self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        ring = self._ring
        if self.live_seq < ring.oldest_seq:
            self._outrun()
        else:
            part = ring.take(self.live_seq, ring.next_seq, self.limits.slice_bytes)
            self.live_seq = part.next_seq
            self.live_events += part.events
            self.live_bytes += len(part.data)
            writes = tuple(self._live.values())
            if part.data:
                for write in writes:
                    write(part.data)
                _count(part, len(writes))
        metrics.UNSENT.note(ring.next_seq - self.live_seq)
        metrics.HEAD_SEQ.set(self.live_seq - 1)
        if self._ahead:
            for outlet in [o for o in self._ahead if o.consumer.next_seq <= self.live_seq]:
                self._ahead.discard(outlet)
                self.pull(outlet)
        if self.live_seq < ring.next_seq:
            self._tick = self._loop.call_soon(self._on_tick)

    def _outrun(self) -> None:
        """More arrived since the last tick than the ring holds: everybody reads the log."""
        behind = list(self._live)
        for outlet in behind:
            self.fell_behind(outlet)
        self.live_seq = self._ring.next_seq
        for outlet in behind:
            self.pull(outlet)

    # --- consumers ---

    def join(self, outlet: Outlet) -> None:
        """Begin to serve a consumer from its place."""
        self._outlets.add(outlet)
        metrics.CONSUMERS.set(len(self._outlets))
        self.pull(outlet)

    def leave(self, outlet: Outlet) -> None:
        """Nothing more is written to this consumer; twice does no harm."""
        if outlet in self._outlets:
            if outlet.consumer.state is State.LIVE:
                self._leave_head(outlet.consumer)
            outlet.consumer.move(Signal.LEFT)
            self._outlets.discard(outlet)
            self._live.pop(outlet, None)
            self._ahead.discard(outlet)
            metrics.CONSUMERS.set(len(self._outlets))
            metrics.BEHIND.set(len(self._outlets) - len(self._live))

    def fell_behind(self, outlet: Outlet) -> None:
        """Its socket is full: from here on it has a place of its own."""
        if outlet.consumer.state is State.LIVE:
            outlet.consumer.move(Signal.FELL_BEHIND)
            self._leave_head(outlet.consumer)
            del self._live[outlet]
            metrics.BEHIND.set(len(self._outlets) - len(self._live))

    def _leave_head(self, consumer: Consumer) -> None:
        consumer.next_seq = self.live_seq
        consumer.events += self.live_events
        consumer.sent_bytes += self.live_bytes

    def place_of(self, consumer: Consumer) -> tuple[int, int, int]:
        """What a consumer gets next, and the events and bytes that it was handed."""
        if consumer.state is State.LIVE:
            return (
                self.live_seq,
                consumer.events + self.live_events,
                consumer.sent_bytes + self.live_bytes,
            )
        return consumer.next_seq, consumer.events, consumer.sent_bytes

    def pull(self, outlet: Outlet) -> None:
        """Serve a consumer from its own place, as far as its socket takes it."""
        consumer = outlet.consumer
        for _ in range(_SLICES_A_TURN):
            if consumer.state is not State.PLAYBACK or outlet.blocked or outlet.reading:
                return
            if consumer.next_seq == self.live_seq:
                consumer.move(Signal.CAUGHT_UP)
                consumer.events -= self.live_events
                consumer.sent_bytes -= self.live_bytes
                self._live[outlet] = outlet.write
                metrics.BEHIND.set(len(self._outlets) - len(self._live))
                return
            if consumer.next_seq > self.live_seq:
                # The log is ahead of what has reached this member: it waits for us.
                self._ahead.add(outlet)
                return
            if consumer.next_seq < self._ring.oldest_seq:
                self._read(outlet)
                return
            part = self._ring.take(consumer.next_seq, self.live_seq, self.limits.slice_bytes)
            self._serve(outlet, part)
        self._loop.call_soon(self.pull, outlet)

    def _serve(self, outlet: Outlet, part: Slice) -> None:
        consumer = outlet.consumer
        consumer.fresh = False
        consumer.next_seq = part.next_seq
        consumer.events += part.events
        consumer.sent_bytes += len(part.data)
        if part.data:
            outlet.write(part.data)
            _count(part, 1)

    def _read(self, outlet: Outlet) -> None:
        outlet.reading = True
        reading = self.playback.read(
            outlet.consumer.next_seq, self.limits.read_bytes, self._ring.oldest_seq
        )
        turn = self.playback.curtain.turn
        reading.add_done_callback(lambda done: self._on_read(outlet, done, turn))

    def _on_read(self, outlet: Outlet, done: asyncio.Future[Slice], turn: int) -> None:
        outlet.reading = False
        if done.cancelled():
            return
        consumer = outlet.consumer
        error = done.exception()
        if consumer.state is not State.PLAYBACK:
            return
        if turn != self.playback.curtain.turn:
            self._read(outlet)
            return
        fields = {"from_seq": consumer.next_seq}
        if error is None:
            part = done.result()
            if part.next_seq > consumer.next_seq:
                self._serve(outlet, part)
                self.pull(outlet)
            else:
                # The ring has what lies behind, so this is not the log that persist writes.
                _log.error("the log ends before what was published", extra={"fields": fields})
                outlet.depart(Departure.DAMAGED)
        elif isinstance(error, Outdated):
            if consumer.fresh:
                # Retention was quicker than its first read: the window begins later now.
                consumer.next_seq = error.oldest_seq
                if is_outdated(consumer.cursor, error.oldest_seq):
                    outlet.tell_outdated()
                self.pull(outlet)
            else:
                outlet.depart(Departure.OUTDATED)
        else:
            # Only who asks for what cannot be read is let go; the others are not to suffer for it.
            if not isinstance(error, Damaged):  # which was told once for all who meet it
                _log.error("the log cannot be read", exc_info=error, extra={"fields": fields})
            outlet.depart(Departure.DAMAGED)

    def sweep(self, now_s: float) -> None:
        """Have each consumer looked after; about each second. now_s: of the loop's clock."""
        # Before anybody is served, and then so that a takedown is heeded though its chunk is late.
        self.playback.curtain.look()
        for outlet in list(self._outlets):
            outlet.sweep(now_s)

    def outlets(self) -> list[Outlet]:
        """The open streams."""
        return list(self._outlets)


def _count(part: Slice, consumers: int) -> None:
    if consumers:
        metrics.DELIVERED.inc(part.events * consumers)
        metrics.DELIVERED_BYTES.inc(len(part.data) * consumers)
