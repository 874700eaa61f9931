"""What does the log hold from a seq on, and what does it lack? Read off the loop, by a few threads.

Each thread has a reader of its own, and the loop has one for the two numbers that the writer
announces; a reader's handles are never used from two threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from broadcast.curtain import Curtain
from broadcast.damage import Damages
from broadcast.hole import Cause, Hole, Stretch, shown_of, stretch_of
from broadcast.ring import Slice
from common.log import Damaged, LogReader


class Playback:
    """The log, for the consumers and the gaps of one process."""

    def __init__(
        self, open_reader: Callable[[], LogReader], threads: int, curtain: Curtain | None = None
    ) -> None:
        """Call within the loop; `close` ends the threads and the readers.

        Args:
            open_reader: makes one more reader of the same log. curtain: knows what is hidden.
        """
        self.curtain = curtain or Curtain(None)
        self._open_reader = open_reader
        self._reader = open_reader()
        self._owner = threading.get_ident()
        self._own = threading.local()
        self._opened: list[LogReader] = []
        self._damages = Damages()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="playback")
        self._loop = asyncio.get_running_loop()

    @property
    def durable_seq(self) -> int:
        """The newest seq of the log, as its writer announced it; 0 before any."""
        self._check_owner()
        return self._reader.durable_seq

    @property
    def oldest_seq(self) -> int:
        """The first seq that can be read; durable_seq + 1 when there is none."""
        self._check_owner()
        return self._reader.oldest_seq

    def read(self, seq: int, max_bytes: int, until_seq: int) -> asyncio.Future[Slice]:
        """What a consumer at `seq` gets, joined, but for what is hidden; nothing, not even a later
        place, when the log ends before it.

        Args:
            until_seq: the caller knows how to go on there, so that a hole that reaches beyond it
                is told up to it; behind `seq`.

        Raises, in the future:
            Outdated: `seq` has left the log.
            Damaged: the log is broken there, and where it goes on is not known.
        """
        return self._loop.run_in_executor(self._pool, self._slice, seq, max_bytes, until_seq)

    def read_stretch(self, seq: int, max_bytes: int, until_seq: int) -> asyncio.Future[Stretch]:
        """The same as chunks and holes."""
        return self._loop.run_in_executor(self._pool, self._stretch, seq, max_bytes, until_seq)

    def close(self) -> None:
        """Wait for reads under way, then let go of all files."""
        self._check_owner()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for reader in (*self._opened, self._reader):
            reader.close()

    def _stretch(self, seq: int, max_bytes: int, until_seq: int) -> Stretch:
        reader: LogReader | None = getattr(self._own, "reader", None)
        if reader is None:
            reader = self._own.reader = self._open_reader()
            self._opened.append(reader)
        durable_seq = reader.durable_seq
        try:
            return stretch_of(reader.read(seq, max_bytes), seq, durable_seq, until_seq)
        except Damaged as damage:
            self._damages.note(damage, seq)
            if damage.until_seq is None or damage.until_seq <= seq:
                raise
            return [Hole(seq, min(damage.until_seq, until_seq), Cause.DAMAGED)]

    def _slice(self, seq: int, max_bytes: int, until_seq: int) -> Slice:
        stretch = self._stretch(seq, max_bytes, until_seq)
        if not stretch:
            return Slice(b"", seq, 0)
        hidden, pieces, events = self.curtain.hidden, [], 0
        for part in stretch:
            found, count = shown_of(part, seq, hidden)
            pieces += found
            events += count
        return Slice(b"".join(pieces), stretch[-1].next_seq, events)

    def _check_owner(self) -> None:
        if threading.get_ident() != self._owner:
            raise RuntimeError("the loop's log reader was used from another thread")
