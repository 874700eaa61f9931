"""How does an event become durable? The one writer of the log's segment files.

    append: compare the epoch → roll if the segment is full → write the chunk
    wait:   fdatasync → compare the epoch → announce the durable seq in the head file
    claim:  lock → cut or rewrite the tail → sync → raise the epoch → claim chunk → sync

It knows files and the order in which they become durable. It does not know events.

Source: the contract in common/log.py.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from common.chunk import HEAD, Chain, Chunk, ChunkError, ChunkKind, join_chunk, peek_head
from common.log import Damaged, Fenced
from common.segment_files import (
    HEAD_NAME,
    LOCK_NAME,
    HeadFile,
    HeadMissing,
    list_segments,
    segment_path,
)
from persist.disk import Disk
from persist.recovery import Tail, find_tail
from persist.retention import Sealed, leaving

log: Final = logging.getLogger(__name__)

SEGMENT_BYTES: Final = 64 * 1024 * 1024
"""A segment is rolled before it would grow beyond this, in bytes: the grain of retention."""
SEGMENT_CHUNKS: Final = 32_768
"""… or hold more chunks: what a reader or a restart walks through, about 40 ms."""
SKIPPED_AFTER_LOSS: Final = 1_000_000
"""Numbers left out when announced events are gone: they were seen, and are never given again.

Source: event-stream spec: after lost state, restart clearly above any number ever used.
"""


class SegmentLog:
    """Writes the log's segment files; fulfils common.log.LogWriter. Owned by one thread."""

    def __init__(
        self,
        log_dir: Path,
        *,
        disk: Disk | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        segment_chunks: int = SEGMENT_CHUNKS,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is touched before `claim`."""
        self._dir = log_dir
        self._disk = disk or Disk()
        self._segment_bytes = segment_bytes
        self._segment_chunks = segment_chunks
        self._now = now
        self._lock_fd: int | None = None
        self._fd: int | None = None
        self._head: HeadFile | None = None
        self._chain = Chain(1, None, 0)
        self._epoch = 0
        self._base = 0
        self._size = 0
        self._chunks = 0
        self._last_event_us = 0
        self._durable_seq = 0
        self._unsynced = False
        self._failed = False
        self._sealed: list[Sealed] = []

    @property
    def next_seq(self) -> int:
        """The seq that the next event gets."""
        return self._chain.next_seq

    @property
    def durable_seq(self) -> int:
        """The last seq that is on disk; monotone."""
        return self._durable_seq

    @property
    def oldest_seq(self) -> int:
        """The first seq that is kept."""
        return self._sealed[0].base if self._sealed else self._base

    @property
    def epoch(self) -> int:
        """Of this writer's claim."""
        return self._epoch

    @property
    def size_bytes(self) -> int:
        """Of all segments."""
        return sum(segment.size_bytes for segment in self._sealed) + self._size

    def claim(self, info: str, floor_seq: int = 1, reached_seq: int = 0) -> int:
        """Take over the log, as common.log.LogWriter says.

        Raises:
            Fenced: another writer holds the log.
            Damaged: the log is broken before its tail.
            OSError: the disk refuses.
        """
        self._lock()
        head = self._open_head()
        announced = max(head.durable_seq, reached_seq)
        lost = self._recover(announced)
        if lost:
            floor_seq = max(floor_seq, announced + SKIPPED_AFTER_LOSS)
            log.error(
                "the log lost what had been announced: it ends before seq %d, %d had been reached; "
                "it goes on at %d", self._chain.next_seq, announced, floor_seq,
            )  # fmt: skip
        first_seq = max(self._chain.next_seq, floor_seq)
        self._epoch = max(head.epoch, self._chain.epoch) + 1
        # From here on an earlier writer that still runs sees that it has been outlived.
        head.epoch = self._epoch
        if self._fd is None:
            self._begin_segment(first_seq)
        crc = self._chain.crc or 0
        info_bytes = info.encode()
        self._write(
            join_chunk(
                ChunkKind.CLAIM, self._epoch, first_seq, crc, self._now_us(), 0, [], [info_bytes]
            )
        )
        head.oldest_seq = self.oldest_seq
        self.wait(first_seq - 1)
        return first_seq

    def append(
        self,
        rows: Sequence[bytes],
        frames: Sequence[bytes | memoryview],
        time_us: int,
        flags: int = 0,
    ) -> Chunk:
        """Write one chunk, as common.log.LogWriter says.

        Raises:
            Fenced: another writer has claimed the log.
            OSError: nothing of this chunk will become durable; the process must end.
        """
        self._check_fence()
        chain = self._chain
        chunk = join_chunk(
            ChunkKind.GROUP, self._epoch, chain.next_seq, chain.crc or 0, time_us, len(rows),
            rows, frames, flags,
        )  # fmt: skip
        # A segment without events would have the same name as the next one.
        if chain.next_seq > self._base and (
            self._chunks >= self._segment_chunks
            or self._size + len(chunk.raw) > self._segment_bytes
        ):
            self._roll()
        self._write(chunk)
        if chunk.count:
            self._last_event_us = time_us
        return chunk

    def wait(self, seq: int) -> None:
        """Flush, as common.log.LogWriter says.

        Raises:
            Fenced: another writer has claimed the log.
            OSError: the flush failed; the process must end.
        """
        if self._unsynced:
            self._sync()
        # An outlived writer may have flushed, but announces nothing.
        head = self._check_fence()
        # Order: flushed above, announced here; whoever publishes does so after this returns.
        self._durable_seq = self._chain.next_seq - 1
        head.durable_seq = self._durable_seq
        if seq > self._durable_seq:
            raise ValueError(f"seq {seq} was never appended")

    def retain(self, max_bytes: int, max_age_s: float, now_s: float) -> int:
        """Drop whole segments from the front, as common.log.LogWriter says."""
        count = leaving(
            self._sealed,
            self._size,
            max_bytes=max_bytes,
            oldest_us=int((now_s - max_age_s) * 1e6),
            measure=lambda segment: _last_event_us(segment_path(self._dir, segment.base)),
        )
        if not count:
            return 0
        gone, self._sealed = self._sealed[:count], self._sealed[count:]
        # Order: readers are told first, so that a file that is missing is never taken for damage.
        self._check_fence().oldest_seq = self.oldest_seq
        for segment in gone:
            self._disk.remove(segment_path(self._dir, segment.base))
        return count

    def close(self) -> None:
        """Flush what was appended and let go of the log; twice does no harm."""
        try:
            if self._unsynced and not self._failed:
                self.wait(self._chain.next_seq - 1)
        finally:
            self._release()

    def _release(self) -> None:
        if self._fd is not None:
            self._disk.close(self._fd)
            self._fd = None
        if self._head is not None:
            self._head.close()
            self._head = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _now_us(self) -> int:
        return int(self._now() * 1e6)

    def _lock(self) -> None:
        self._dir.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise Fenced(f"another process writes the log in {self._dir}") from None
        self._lock_fd = fd

    def _open_head(self) -> HeadFile:
        try:
            self._head = HeadFile(self._dir / HEAD_NAME, writable=True)
        except HeadMissing:
            self._head = HeadFile.create(self._dir / HEAD_NAME)
            self._disk.sync_folder(self._dir)
        return self._head

    def _check_fence(self) -> HeadFile:
        if self._failed or self._head is None:
            raise Fenced("this writer has failed or was closed; only a new claim goes on")
        if self._head.epoch != self._epoch:
            raise Fenced(f"epoch {self._head.epoch} has claimed the log of epoch {self._epoch}")
        return self._head

    def _recover(self, announced: int) -> bool:
        """Find the end of the log and make it sound; True when announced events are gone."""
        bases = list_segments(self._dir)
        # A crash between roll and first chunk leaves an empty segment, or a torn first chunk:
        # then the segment before it, which was sealed and must be whole, has the chain.
        for base in reversed(bases):
            tail = self._inspect(base, announced)
            if tail.chunks:
                break
            if tail.why is not None and base != bases[-1]:
                raise Damaged(f"{segment_path(self._dir, base).name}, byte 0: {tail.why}")
        else:
            return self._recover_nothing(bases, announced)
        chain = tail.chain
        if base != bases[-1]:
            if tail.why is None and chain.next_seq != bases[-1]:
                tail.why = f"ends before seq {chain.next_seq}, the next begins at {bases[-1]}"
            if tail.why is not None:
                raise Damaged(f"{segment_path(self._dir, base).name}, byte {tail.end}: {tail.why}")
            tail = self._inspect(bases[-1], announced, chain)
        self._open_last(bases[-1], tail)
        self._sealed = [self._measure(older) for older in bases[:-1]]
        return chain.next_seq <= announced

    def _recover_nothing(self, bases: list[int], announced: int) -> bool:
        """No segment holds a whole chunk: a first start that was cut short, or all is lost."""
        if len(bases) > 1:
            raise Damaged(f"no segment in {self._dir} holds a chunk")
        if bases:
            self._chain = Chain(bases[0], None, 0)
            self._open_last(bases[0], Tail(self._chain))
        return announced > 0

    def _inspect(self, base: int, announced: int, chain: Chain | None = None) -> Tail:
        path = segment_path(self._dir, base)
        chain = chain or Chain(base, None, 0)
        if path.stat().st_size == 0:
            return Tail(chain)
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            memoryview(data) as view,
        ):
            tail = find_tail(view, chain, announced)
        if tail.behind:
            raise Damaged(f"{path.name}, byte {tail.end}: {tail.why}, with whole chunks behind it")
        return tail

    def _open_last(self, base: int, tail: Tail) -> None:
        """Make the last segment end where its last whole chunk does, on disk, and go on there."""
        path = segment_path(self._dir, base)
        fd = self._fd = self._disk.open(path, create=False)
        size = path.stat().st_size
        if size > tail.end:
            log.warning(
                "cut a torn tail of %d bytes from %s: %s", size - tail.end, path.name, tail.why
            )
            self._disk.truncate(fd, tail.end)
        # After a failed flush the page cache may hold what the disk does not, and would say
        # that it is clean: so what had not been announced is written again, not trusted.
        if tail.end > tail.rewrite_from:
            data = os.pread(fd, tail.end - tail.rewrite_from, tail.rewrite_from)
            self._disk.write(fd, data, tail.rewrite_from)
        self._disk.sync(fd)
        self._disk.sync_folder(self._dir)
        self._chain = tail.chain
        self._base = base
        self._size = tail.end
        self._chunks = tail.chunks
        self._last_event_us = tail.last_event_us

    def _measure(self, base: int) -> Sealed:
        path = segment_path(self._dir, base)
        try:
            with path.open("rb") as file:
                first = peek_head(file.read(HEAD.size))
        except ChunkError as error:
            raise Damaged(f"{path.name}, byte 0: {error}") from None
        return Sealed(base, path.stat().st_size, first.time_us, None)

    def _begin_segment(self, first_seq: int) -> None:
        path = segment_path(self._dir, first_seq)
        self._fd = self._disk.open(path, create=True)
        # The name must be on disk before anything in the file can be called durable.
        self._disk.sync_folder(self._dir)
        self._base = first_seq
        self._size = 0
        self._chunks = 0
        self._last_event_us = 0

    def _roll(self) -> None:
        assert self._fd is not None
        if self._unsynced:
            self._sync()
        sealed = Sealed(self._base, self._size, 0, self._last_event_us)
        try:
            old, self._fd = self._fd, None
            self._disk.close(old)
            self._begin_segment(self._chain.next_seq)
        except OSError:
            self._failed = True
            raise
        self._sealed.append(sealed)

    def _write(self, chunk: Chunk) -> None:
        assert self._fd is not None
        self._unsynced = True
        try:
            self._disk.write(self._fd, chunk.raw, self._size)
        except OSError:
            self._failed = True
            raise
        self._size += len(chunk.raw)
        self._chunks += 1
        self._chain.next_seq = chunk.first_seq + chunk.count
        self._chain.crc = chunk.crc
        self._chain.epoch = chunk.epoch

    def _sync(self) -> None:
        assert self._fd is not None
        try:
            self._disk.sync(self._fd)
        except OSError:
            self._failed = True
            raise
        self._unsynced = False


def _last_event_us(path: Path) -> int:
    """When the last events in the segment at `path` were written; 0 when it has none."""
    last_us = 0
    offset = 0
    with path.open("rb") as file:
        while head_bytes := file.read(HEAD.size):
            try:
                head = peek_head(head_bytes)
            except ChunkError as error:
                log.error("%s, byte %d: %s; its age is taken from the file", path, offset, error)
                return int(path.stat().st_mtime * 1e6)
            if head.events:
                last_us = head.time_us
            offset += head.length
            file.seek(offset)
    return last_us
