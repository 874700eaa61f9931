"""What does the log hold from a seq on? Read off the loop, by a few threads.

Each thread has a reader of its own, and the loop has one for the two numbers that the writer
announces; a reader's handles are never used from two threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from broadcast.ring import Slice
from common.chunk import Chunk
from common.log import LogReader


class Playback:
    """The log, for the consumers and the gaps of one process."""

    def __init__(self, open_reader: Callable[[], LogReader], threads: int) -> None:
        """Call within the loop; `close` ends the threads and the readers.

        Args:
            open_reader: makes one more reader of the same log.
        """
        self._open_reader = open_reader
        self._reader = open_reader()
        self._owner = threading.get_ident()
        self._own = threading.local()
        self._opened: list[LogReader] = []
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

    def read(self, seq: int, max_bytes: int) -> asyncio.Future[Slice]:
        """Frames from `seq`, joined; without events when the log ends before it.

        Raises, in the future:
            Outdated: `seq` has left the log.
            Damaged: the log is broken there.
        """
        return self._loop.run_in_executor(self._pool, self._slice, seq, max_bytes)

    def read_chunks(self, seq: int, max_bytes: int) -> asyncio.Future[list[Chunk]]:
        """The same as chunks."""
        return self._loop.run_in_executor(self._pool, self._chunks, seq, max_bytes)

    def close(self) -> None:
        """Wait for reads under way, then let go of all files."""
        self._check_owner()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for reader in (*self._opened, self._reader):
            reader.close()

    def _chunks(self, seq: int, max_bytes: int) -> list[Chunk]:
        reader: LogReader | None = getattr(self._own, "reader", None)
        if reader is None:
            reader = self._own.reader = self._open_reader()
            self._opened.append(reader)
        return reader.read(seq, max_bytes)

    def _slice(self, seq: int, max_bytes: int) -> Slice:
        chunks = self._chunks(seq, max_bytes)
        if not chunks:
            return Slice(b"", seq, 0)
        events = sum(chunk.count for chunk in chunks) - max(0, seq - chunks[0].first_seq)
        data = b"".join([chunk.frames_from(seq) for chunk in chunks])
        return Slice(data, chunks[-1].next_seq, events)

    def _check_owner(self) -> None:
        if threading.get_ident() != self._owner:
            raise RuntimeError("the loop's log reader was used from another thread")
