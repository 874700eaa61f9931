"""Which chunk comes next from persist, and what was missed?

    SUB socket ─▶ chain ─▶ publish          gap ─▶ the log, read up to it ─▶ publish

Chunks that arrive while a gap is filled wait, up to a bound; beyond it they are let go, and the
next one shows the gap again. Persist silent, or its message lost at the end of a burst: the log is
looked at each second, so that what is durable goes out without a bell too.

What the log lacks is published as a hole, and the stream goes on behind it. So is a damaged range
whose end the log does not know: persist's next chunk tells where the stream goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from broadcast import metrics
from broadcast.chain import Broken, Chain, Link
from broadcast.health import Pulse
from broadcast.hole import Cause, Hole, Stretch
from broadcast.playback import Playback
from common.chunk import (
    CLOCK_SUSPECT,
    DATABASE_AWAY,
    DISK_LOW,
    EVENTS_HELD,
    Chunk,
    ChunkError,
    decode_chunk,
)
from common.conservation import Balance
from common.log import Damaged

FILL_BYTES: Final = 512 * 1024
"""One read from the log while a gap is filled, in bytes."""
PENDING_BYTES: Final = 16 * 2**20
"""Chunks that may wait for a gap to be filled, in bytes."""
_LOOK_AFTER_S: Final = 1.5
"""Silence after which the log is looked at, in seconds; persist beats each second."""
_ASK_AGAIN: Final = 4
_ASK_AGAIN_S: Final = 0.25
"""How often, and after how long, a log is asked again whose damage has no end, before the stream
goes on without that range: the writer may be about to mend its tail. In seconds."""
_OTHER_LOG_S: Final = 5.0
"""How long persist may publish what the log does not have before this process ends, in seconds."""
_log = logging.getLogger("standpipe")


@dataclass(slots=True)
class Tally:
    """What became of each event that came in; a message that is no chunk counts as one event.

    received: from persist and from the log. seen: had before. let_go: what found no room while a gap
    was filled, or came too early; the log has it.
    """

    received: int = 0
    seen: int = 0
    unreadable: int = 0
    let_go: int = 0


class Inlet:
    """Chunks from persist, in order and without a gap."""

    def __init__(
        self,
        playback: Playback,
        first_seq: int,
        pulse: Pulse,
        publish: Callable[[Chunk | Hole], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Call within the loop.

        Args:
            first_seq: what is published first. publish: takes each chunk with events, each hole.
            failed: told of what this process must not survive: Broken, Outdated.
        """
        self.tally = Tally()
        self._playback = playback
        self._chain = Chain(first_seq)
        self._pulse = pulse
        self._publish = publish
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._pending: deque[Chunk] = deque()
        self._pending_bytes = 0
        self._carried: Chunk | None = None
        """What showed the gap, and goes out behind it."""
        self._durable_seq = playback.durable_seq
        self._told_seq = 0
        self._short_since_s: float | None = None
        self._filling: asyncio.Task[None] | None = None

    @property
    def next_seq(self) -> int:
        """The seq that is published next."""
        return self._chain.next_seq

    def balance(self, published: int) -> Balance:
        """Where every event is that has come in.

        Args: published: how many of them the ring has taken.
        """
        tally, carried = self.tally, self._carried
        return Balance(
            received={"event": tally.received},
            forwarded={"event": published},
            dropped={"seen": tally.seen, "unreadable": tally.unreadable, "let_go": tally.let_go},
            held=sum(chunk.count for chunk in self._pending),
            in_flight=0 if carried is None else carried.count,
        )

    def on_message(self, parts: list[bytes]) -> None:
        """One message of persist's."""
        try:
            # From memory, not from a disk: the chain tells what the CRC would.
            chunk = decode_chunk(b"".join(parts), check_crc=False)
        except ChunkError as error:
            # What it held shows as a gap in the next one.
            self.tally.received += 1
            self.tally.unreadable += 1
            metrics.UNREADABLE.inc()
            _log.error("a message from persist is no chunk", exc_info=error)
            return
        self.tally.received += chunk.count
        if chunk.epoch >= self._chain.epoch:
            self._pulse.heard_s = self._loop.time()
            self._pulse.clock_suspect = bool(chunk.flags & CLOCK_SUSPECT)
            self._pulse.database_away = bool(chunk.flags & DATABASE_AWAY)
            self._pulse.events_held = bool(chunk.flags & EVENTS_HELD)
            self._pulse.disk_low = bool(chunk.flags & DISK_LOW)
            self._told_seq = chunk.next_seq - 1
        if self._filling is None:
            self._try(chunk)
            return
        self._pending.append(chunk)
        self._pending_bytes += len(chunk.raw)
        if self._pending_bytes > PENDING_BYTES:
            self.tally.let_go += sum(waiting.count for waiting in self._pending)
            self._pending.clear()
            self._pending_bytes = 0
        metrics.PENDING.note(len(self._pending))

    def look(self) -> None:
        """Look at the log's head; call about each second."""
        now_s = self._loop.time()
        # Level with what was durable a look ago: at any instant something is on its way.
        if self._chain.next_seq > self._durable_seq:
            self._pulse.level_s = now_s
        self._durable_seq = durable_seq = self._playback.durable_seq
        self._compare(durable_seq, now_s)
        if self._chain.next_seq > durable_seq:
            return
        heard_s = self._pulse.heard_s
        if self._filling is None and (heard_s is None or now_s - heard_s > _LOOK_AFTER_S):
            self._fill(durable_seq + 1, None)

    def _compare(self, durable_seq: int, now_s: float) -> None:
        """Does this process read the log that persist writes? It announces before it publishes."""
        if self._told_seq <= durable_seq:
            self._short_since_s = None
        elif self._short_since_s is None:
            self._short_since_s = now_s
        elif now_s - self._short_since_s >= _OTHER_LOG_S:
            self._failed(
                Broken(
                    f"persist has published seq {self._told_seq}, but the log that is read here "
                    f"ends at {durable_seq}: it was replaced under this process"
                )
            )

    async def close(self) -> None:
        """Stop filling."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait([self._filling])

    def _take(self, chunk: Chunk) -> None:
        link = self._chain.judge(chunk)
        if link is Link.NEXT:
            self._chain.advance(chunk)
            if chunk.count:
                self._publish(chunk)
        elif link is Link.SEEN:
            self.tally.seen += chunk.count
        else:
            # Where the chain does not fit, the log's own version of this chunk counts.
            misfit = chunk.first_seq == self._chain.next_seq
            self._fill(chunk.next_seq if misfit else chunk.first_seq, chunk)

    def _fill(self, until_seq: int, chunk: Chunk | None) -> None:
        metrics.GAP_FILLS.inc()
        fields = {"from_seq": self._chain.next_seq, "until_seq": until_seq}
        _log.info("reading from the log what persist did not bring", extra={"fields": fields})
        self._carried = chunk
        self._filling = self._loop.create_task(self._fill_up(until_seq, chunk), name="gap fill")
        self._filling.add_done_callback(self._on_filled)

    async def _fill_up(self, until_seq: int, chunk: Chunk | None) -> None:
        chain = self._chain
        while chain.next_seq < until_seq:
            stretch = await self._read(until_seq, know_end=chunk is not None)
            for part in stretch:
                self._take_part(part)
            if not stretch:
                # The next chunk or the next look asks again.
                break
        if chunk is None:
            return
        self._carried = None
        if chain.next_seq < until_seq:
            self.tally.let_go += chunk.count
        else:
            self._take(chunk)

    async def _read(self, until_seq: int, *, know_end: bool) -> Stretch:
        """What the log has at the next seq; nothing when it has no more, or does not know yet.

        Args: know_end: the stream goes on at `until_seq`, whatever the log says.
        """
        from_seq = self._chain.next_seq
        for attempt in range(_ASK_AGAIN):
            if attempt:
                await asyncio.sleep(_ASK_AGAIN_S)
            try:
                return await self._playback.read_stretch(from_seq, FILL_BYTES, until_seq)
            except Damaged:
                if not know_end:
                    break
        return [Hole(from_seq, until_seq, Cause.DAMAGED)] if know_end else []

    def _take_part(self, part: Chunk | Hole) -> None:
        if isinstance(part, Hole):
            fields = {"from_seq": part.first_seq, "until_seq": part.next_seq}
            _log.warning(part.words_from(part.first_seq), extra={"fields": fields})
            self._chain.skip(part.next_seq)
        else:
            count = part.next_seq - self._chain.next_seq
            self._chain.advance_by_log(part)
            self.tally.received += count
        self._publish(part)

    def _on_filled(self, done: asyncio.Task[None]) -> None:
        self._filling = None
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            self._failed(error)
            return
        while self._pending and self._filling is None:
            chunk = self._pending.popleft()
            self._pending_bytes -= len(chunk.raw)
            self._try(chunk)

    def _try(self, chunk: Chunk) -> None:
        try:
            self._take(chunk)
        except Exception as error:  # noqa: BLE001 - told to the worker, which ends the process
            self._failed(error)
