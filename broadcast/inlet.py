"""Which chunk comes next from persist, and what was missed?

    SUB socket ─▶ chain ─▶ publish          gap ─▶ the log, read up to it ─▶ publish

Chunks that arrive while a gap is filled wait, up to a bound; beyond it they are let go, and the
next one shows the gap again. Persist silent, or its message lost at the end of a burst: the log is
looked at each second, so that what is durable goes out without a bell too.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from broadcast import metrics
from broadcast.chain import Chain, Link
from broadcast.health import Pulse
from broadcast.playback import Playback
from common.chunk import CLOCK_SUSPECT, Chunk, ChunkError, ChunkKind, decode_chunk

FILL_BYTES: Final = 512 * 1024
"""One read from the log while a gap is filled, in bytes."""
PENDING_BYTES: Final = 16 * 2**20
"""Chunks that may wait for a gap to be filled, in bytes."""
_LOOK_AFTER_S: Final = 1.5
"""Silence after which the log is looked at, in seconds; persist beats each second."""
_log = logging.getLogger("standpipe")


class Inlet:
    """Chunks from persist, in order and without a gap."""

    def __init__(
        self,
        playback: Playback,
        first_seq: int,
        pulse: Pulse,
        publish: Callable[[Chunk], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Call within the loop.

        Args:
            first_seq: what is published first. publish: takes each chunk with events.
            failed: told of what this process must not survive: Broken, Damaged, Outdated.
        """
        self._playback = playback
        self._chain = Chain(first_seq)
        self._pulse = pulse
        self._publish = publish
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._pending: deque[Chunk] = deque()
        self._pending_bytes = 0
        self._durable_seq = playback.durable_seq
        self._filling: asyncio.Task[None] | None = None

    @property
    def next_seq(self) -> int:
        """The seq that is published next."""
        return self._chain.next_seq

    def on_message(self, parts: list[bytes]) -> None:
        """One message of persist's."""
        try:
            # From memory, not from a disk: the chain tells what the CRC would.
            chunk = decode_chunk(b"".join(parts), check_crc=False)
        except ChunkError as error:
            # What it held shows as a gap in the next one.
            metrics.UNREADABLE.inc()
            _log.error("a message from persist is no chunk", exc_info=error)
            return
        if chunk.epoch >= self._chain.epoch:
            self._pulse.heard_s = self._loop.time()
            self._pulse.clock_suspect = bool(chunk.flags & CLOCK_SUSPECT)
        if self._filling is None:
            self._try(chunk)
            return
        self._pending.append(chunk)
        self._pending_bytes += len(chunk.raw)
        if self._pending_bytes > PENDING_BYTES:
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
        if self._chain.next_seq > durable_seq:
            return
        heard_s = self._pulse.heard_s
        if self._filling is None and (heard_s is None or now_s - heard_s > _LOOK_AFTER_S):
            self._fill(durable_seq + 1, None)

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
        elif link is Link.GAP:
            # Where the chain does not fit, the log's own version of this chunk counts.
            misfit = chunk.first_seq == self._chain.next_seq
            self._fill(chunk.next_seq if misfit else chunk.first_seq, chunk)

    def _fill(self, until_seq: int, chunk: Chunk | None) -> None:
        metrics.GAP_FILLS.inc()
        fields = {"from_seq": self._chain.next_seq, "until_seq": until_seq}
        _log.info("reading from the log what persist did not bring", extra={"fields": fields})
        self._filling = self._loop.create_task(self._fill_up(until_seq, chunk), name="gap fill")
        self._filling.add_done_callback(self._on_filled)

    async def _fill_up(self, until_seq: int, chunk: Chunk | None) -> None:
        chain = self._chain
        while chain.next_seq < until_seq:
            found = await self._playback.read_chunks(chain.next_seq, FILL_BYTES)
            for each in found:
                chain.advance_by_log(each)
                self._publish(each)
            if not found:
                if chunk is not None and chunk.kind is ChunkKind.CLAIM:
                    # A claim may leave numbers out; nothing is durable between.
                    chain.advance(chunk)
                # Else the next chunk or the next look asks again.
                return
        if chunk is not None and chain.judge(chunk) is Link.NEXT:
            chain.advance(chunk)
            if chunk.count:
                self._publish(chunk)

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
