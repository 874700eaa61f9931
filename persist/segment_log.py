"""How does an event become durable? The one writer of the log's segment files.

    append: compare the epoch → roll if the segment is full → write the chunk
    wait:   fdatasync → compare the epoch → announce the durable seq in the head file
    roll:   fdatasync → index of the full segment → new file → sync the folder
    claim:  lock → cut or rewrite the tail → raise the epoch → claim chunk → fdatasync

It knows files and the order in which they become durable. It does not know events.

Source: the contract in common/log.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from common.chunk import (
    HEAD,
    SEQ_MAX,
    Chain,
    Chunk,
    ChunkError,
    ChunkKind,
    UnknownFormat,
    join_chunk,
    peek_head,
)
from common.log import Damaged, Fenced
from common.segment_files import (
    HEAD_NAME,
    LOCK_NAME,
    RESTORED_NAME,
    HeadFile,
    HeadMissing,
    index_path,
    list_indexes,
    list_segments,
    read_at,
    segment_path,
)
from common.segment_index import Mark, SegmentIndex, add_mark, encode_index
from common.segments import read_index
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
DROPPED_AT_ONCE: Final = 32
"""Segments that one look at retention drops at most: each is a millisecond or more of the disk's."""


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
        strict: bool = False,
    ) -> None:
        """Nothing is touched before `claim`.

        Args:
            strict: refuse a log of which something that had been announced is damaged or gone,
                instead of going on behind it.
        """
        self._dir = log_dir
        self._strict = strict
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
        self._marks: list[Mark] = []
        self._last_us = 0
        self._found_us = 0
        self._last_event_us = 0
        self._durable_seq = 0
        self._unsynced = False
        self._failed = False
        self._sealed: list[Sealed] = []
        self._sealed_bytes = 0

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
    def last_time_us(self) -> int:
        """When the last chunk was written, Unix microseconds; 0 where no claim has seen one."""
        return self._last_us

    @property
    def found_times_us(self) -> list[int]:
        """When the sealed segments begin, and when the writer before this one wrote last, where known."""
        found = [*(segment.first_us for segment in self._sealed), self._found_us]
        return [time_us for time_us in found if time_us]

    @property
    def size_bytes(self) -> int:
        """Of all segments."""
        return self._sealed_bytes + self._size

    def lock(self) -> None:
        """Shut other writers out, and touch nothing yet. `claim` does so by itself.

        Raises:
            Fenced: another writer holds the log.
            OSError: the disk refuses.
        """
        if self._lock_fd is None:
            self._lock()

    def make_room(self, must_free_bytes: int) -> tuple[int, int] | None:
        """Drop the oldest segments until so many bytes are free; between `lock` and `claim`.

        A full disk lets nothing be written, not even a claim. Never the newest segment. Returns the
        first seq that went, and the first one that is left; None when nothing went.

        Raises:
            OSError: the disk refuses.
        """
        bases = list_segments(self._dir)
        count = 0
        while must_free_bytes > 0 and count < len(bases) - 1:
            must_free_bytes -= segment_path(self._dir, bases[count]).stat().st_size
            count += 1
        if not count:
            return None
        with contextlib.suppress(HeadMissing):
            head = HeadFile(self._dir / HEAD_NAME, writable=True)
            # Order: as in `_remove`.
            head.oldest_seq = bases[count]
            head.close()
        self._remove(bases[:count])
        return bases[0], bases[count]

    def claim(
        self,
        info: str,
        floor_seq: int = 1,
        reached_seq: int = 0,
        skipped: int = SKIPPED_AFTER_LOSS,
    ) -> int:
        """Take over the log, as common.log.LogWriter says.

        Args:
            skipped: numbers that are left out when what had been announced is gone.

        Raises:
            Fenced: another writer holds the log.
            Damaged: the writer is strict, and what had been announced is damaged or gone.
            UnknownFormat: a later release wrote the log; nothing was changed.
            OSError: the disk refuses.
        """
        self.lock()
        # Until it is done, and whatever ends it: nothing can be appended.
        self._failed = True
        head = self._open_head()
        announced = max(head.durable_seq, reached_seq)
        if self._recover(announced, head.durable_crc):
            floor_seq = max(floor_seq, announced + max(skipped, SKIPPED_AFTER_LOSS))
            log.error(
                "the log lost what had been announced: it ends before seq %d, %d had been reached; "
                "it goes on at %d", self._chain.next_seq, announced, floor_seq,
            )  # fmt: skip
        restored = self._dir / RESTORED_NAME
        is_restored = restored.exists()
        if is_restored:
            reached = max(announced, self._chain.next_seq - 1)
            floor_seq = max(floor_seq, reached + max(skipped, SKIPPED_AFTER_LOSS))
            log.warning(
                "the log is a backup's, and ends with seq %d: the one that was lost had gone on; it "
                "goes on at %d", self._chain.next_seq - 1, floor_seq,
            )  # fmt: skip
        first_seq = max(self._chain.next_seq, floor_seq)
        self._epoch = max(head.epoch, self._chain.epoch) + 1
        # From here on an earlier writer that still runs sees that it has been outlived.
        head.epoch = self._epoch
        if self._fd is None:
            self._begin_segment(first_seq)
        crc = self._chain.crc or 0
        time_us = max(int(self._now() * 1e6), self._last_us)
        self._write(
            join_chunk(
                ChunkKind.CLAIM, self._epoch, first_seq, crc, time_us, 0, [], [info.encode()]
            )
        )
        head.oldest_seq = self.oldest_seq
        self._failed = False
        # This flush makes the repaired tail durable too; nothing of it was announced before.
        self.wait(first_seq - 1)
        if is_restored:
            # Order: the claim that leaves the numbers out is on disk.
            self._disk.remove(restored)
        self._remove_orphans()
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
        if (
            self._chunks >= self._segment_chunks
            or self._size + len(chunk.raw) > self._segment_bytes
        ):
            if chain.next_seq > self._base:
                self._roll()
            elif not rows:
                # A segment without events would have the same name as the next one. It is full
                # of beats: this one is heard, and not kept.
                return chunk
        self._write(chunk)
        return chunk

    def wait(self, seq: int) -> None:
        """Flush, as common.log.LogWriter says.

        Raises:
            Fenced: another writer has claimed the log.
            OSError: the flush failed; the process must end.
        """
        if self._unsynced and self._fd is not None:
            self._sync()
        # An outlived writer may have flushed, but announces nothing.
        head = self._check_fence()
        # Order: flushed above, announced here; whoever publishes does so after this returns.
        self._durable_seq = self._chain.next_seq - 1
        head.durable_crc = self._chain.crc or 0
        head.durable_seq = self._durable_seq
        if seq > self._durable_seq:
            raise ValueError(f"seq {seq} was never appended")

    def retain(
        self,
        max_bytes: int,
        max_age_s: float,
        now_s: float,
        keep_from: int = SEQ_MAX,
        must_free_bytes: int = 0,
    ) -> int:
        """Drop whole segments from the front, as common.log.LogWriter says."""
        count = leaving(
            self._sealed,
            self._base,
            self._size,
            max_bytes=max_bytes,
            oldest_us=int((now_s - max_age_s) * 1e6),
            keep_from=keep_from,
            must_free_bytes=must_free_bytes,
            measure=lambda segment: _last_event_us(self._dir, segment.base),
        )
        count = min(count, DROPPED_AT_ONCE)
        if not count:
            return 0
        if self._unsynced:
            # What stays has to tell the epoch and the next seq, were the head file lost.
            self._sync()
        gone, self._sealed = self._sealed[:count], self._sealed[count:]
        self._sealed_bytes -= sum(segment.size_bytes for segment in gone)
        # Order: readers are told first, so that a file that is missing is never taken for damage.
        self._check_fence().oldest_seq = self.oldest_seq
        self._remove([segment.base for segment in gone])
        return count

    def _remove(self, bases: Sequence[int]) -> None:
        for base in bases:
            self._disk.remove(index_path(self._dir, base))
            self._disk.remove(segment_path(self._dir, base))
            # One after the other: were a later one gone on disk and not this one, it would be
            # missed after a power cut.
            self._disk.sync_folder(self._dir)

    def close(self) -> None:
        """Flush what was appended and let go of the log; twice does no harm."""
        try:
            if self._unsynced and not self._failed and self._fd is not None:
                self.wait(self._chain.next_seq - 1)
        finally:
            self._release()

    def _release(self) -> None:
        fd, self._fd = self._fd, None
        try:
            if fd is not None:
                self._disk.close(fd)
        finally:
            if self._head is not None:
                self._head.close()
                self._head = None
            if self._lock_fd is not None:
                os.close(self._lock_fd)
                self._lock_fd = None

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
        return self._head

    def _check_fence(self) -> HeadFile:
        if self._failed or self._head is None:
            raise Fenced("this writer has failed or was closed; only a new claim goes on")
        if self._head.epoch != self._epoch:
            raise Fenced(f"epoch {self._head.epoch} has claimed the log of epoch {self._epoch}")
        return self._head

    # --- recovery ---

    def _recover(self, announced: int, announced_crc: int) -> bool:
        """Find the end of the log and make it sound; True when announced events are gone.

        Raises:
            Damaged: that, or damage before the end, and the writer is strict.
        """
        bases = list_segments(self._dir)
        if not bases:
            self._refuse_if_strict(f"the log in {self._dir} is empty", 1, lost=announced > 0)
            return announced > 0
        last = bases[-1]
        path = segment_path(self._dir, last)
        tail = self._inspect(last, announced, announced_crc)
        if not tail.chunks:
            # A crash between roll and first chunk, or within that: the chain is found before it.
            self._find_chain(bases, tail, announced_crc)
        lost = tail.chain.next_seq <= announced
        size = path.stat().st_size
        for hole in tail.holes:
            self._tell_damage(path, hole.offset, hole.why, hole.before.next_seq, hole.until_seq)
        self._refuse_if_strict(
            f"{path.name} ends at byte {tail.end}: {tail.why or 'the rest is gone'}",
            tail.chain.next_seq, lost=lost,
        )  # fmt: skip
        if tail.holes and tail.chain.next_seq == last:
            # There is no event in it, and none is missing: nothing is worth a file of its own.
            hole = tail.holes[0]
            tail = Tail(hole.before, hole.offset, why=hole.why)
        self._sealed = [self._measure(base) for base in bases[:-1]]
        self._sealed_bytes = sum(segment.size_bytes for segment in self._sealed)
        self._chain = tail.chain
        self._last_us = self._found_us = tail.last_us
        if tail.holes or (lost and size > tail.end):
            self._leave(last, tail, size)
        else:
            self._open_last(last, tail, size)
        return lost

    def _inspect(self, base: int, announced: int, announced_crc: int) -> Tail:
        path = segment_path(self._dir, base)
        fd = self._disk.open(path, create=False)
        try:
            data = read_at(fd, path.stat().st_size, 0)
        finally:
            self._disk.close(fd)
        try:
            return find_tail(data, Chain(base, None, 0), announced, announced_crc)
        except UnknownFormat as newer:
            raise UnknownFormat(f"{path.name}: {newer}") from None

    def _find_chain(self, bases: list[int], tail: Tail, announced_crc: int) -> None:
        """The chain before a last segment that has no whole chunk; its name tells the next seq."""
        for base, behind in zip(bases[-2::-1], bases[:0:-1], strict=True):
            # Sealed, so all that it had was durable.
            before = self._inspect(base, behind - 1, announced_crc)
            if before.chain.next_seq != behind or before.why:
                why = before.why or "a part is missing"
                path = segment_path(self._dir, base)
                self._tell_damage(path, before.end, why, before.chain.next_seq, behind)
            if before.chunks:
                tail.chain.crc, tail.chain.epoch = before.chain.crc, before.chain.epoch
                tail.last_us = before.last_us
                return

    def _tell_damage(self, path: Path, at: int, why: str, from_seq: int, until_seq: int) -> None:
        lost = "no event" if from_seq == until_seq else f"seqs {from_seq} to {until_seq - 1}"
        told = f"{path.name}, byte {at}: {why}; {lost} cannot be read"
        if self._strict:
            raise Damaged(told, from_seq, until_seq)
        log.error("%s; the file stays as it is", told)

    def _refuse_if_strict(self, why: str, from_seq: int, *, lost: bool) -> None:
        if lost and self._strict:
            raise Damaged(
                f"{why}; from seq {from_seq} on what had been announced is gone", from_seq
            )

    def _leave(self, base: int, tail: Tail, size: int) -> None:
        """Seal a damaged segment as it is; the log goes on in a new one."""
        path = segment_path(self._dir, base)
        fd = self._disk.open(path, create=False)
        try:
            self._rewrite(fd, tail)
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)
        self._sealed.append(Sealed(base, size, 0, tail.last_event_us))
        self._sealed_bytes += size

    def _open_last(self, base: int, tail: Tail, size: int) -> None:
        """Make the last segment end where its last whole chunk does, and go on there."""
        path = segment_path(self._dir, base)
        fd = self._fd = self._disk.open(path, create=False)
        if size > tail.end:
            log.warning(
                "cut a torn tail of %d bytes from %s: %s", size - tail.end, path.name, tail.why
            )
            self._disk.truncate(fd, tail.end)
            # Before anything is written there: were the cut lost and the claim not, what a host had
            # put into the torn chunk could lie where a chunk is looked for.
            self._disk.sync(fd)
        self._rewrite(fd, tail)
        # The name may be in the page cache alone, when its writer was killed before it synced it.
        self._disk.sync_folder(self._dir)
        self._base = base
        self._size = tail.end
        self._chunks = tail.chunks
        self._marks = tail.marks
        self._last_event_us = tail.last_event_us

    def _rewrite(self, fd: int, tail: Tail) -> None:
        """Write what had not been announced again: after a failed flush the page cache may hold
        what the disk does not, and would say that it is clean.
        """
        if tail.end > tail.rewrite_from:
            data = read_at(fd, tail.end - tail.rewrite_from, tail.rewrite_from)
            self._disk.write(fd, data, tail.rewrite_from)

    def _measure(self, base: int) -> Sealed:
        path = segment_path(self._dir, base)
        with path.open("rb") as file:
            data = file.read(HEAD.size)
            size = os.fstat(file.fileno()).st_size
        try:
            first_us = peek_head(data).time_us
        except ChunkError as error:
            log.error("%s, byte 0: %s", path.name, error)
            first_us = 0
        return Sealed(base, size, first_us, None)

    def _remove_orphans(self) -> None:
        """Indexes whose segments are gone, as a power cut may leave them."""
        known = {segment.base for segment in self._sealed}
        try:
            for base in list_indexes(self._dir):
                if base not in known:
                    self._disk.remove(index_path(self._dir, base))
        except OSError as error:
            log.warning("an index without a segment stays: %s", error)

    # --- segments ---

    def _begin_segment(self, first_seq: int) -> None:
        path = segment_path(self._dir, first_seq)
        self._fd = self._disk.open(path, create=True)
        # The name must be on disk before anything in the file can be called durable.
        self._disk.sync_folder(self._dir)
        self._base = first_seq
        self._size = 0
        self._chunks = 0
        self._marks = []
        self._last_event_us = 0

    def _roll(self) -> None:
        assert self._fd is not None
        if self._unsynced:
            self._sync()
        sealed = Sealed(self._base, self._size, 0, self._last_event_us)
        self._write_index()
        try:
            old, self._fd = self._fd, None
            self._disk.close(old)
            self._begin_segment(self._chain.next_seq)
        except OSError:
            self._failed = True
            raise
        self._sealed.append(sealed)
        self._sealed_bytes += sealed.size_bytes

    def _write_index(self) -> None:
        """Say where the chunks of a segment that is full lie. It is a cache, and never synced."""
        path = index_path(self._dir, self._base)
        index = SegmentIndex(
            self._base, self._size, self._chain.next_seq, self._chain.crc or 0,
            self._last_event_us, self._marks,
        )  # fmt: skip
        try:
            self._disk.remove(path)
            fd = self._disk.open(path, create=True)
            try:
                self._disk.write(fd, encode_index(index), 0)
            finally:
                self._disk.close(fd)
        except OSError as error:
            log.warning("%s was not written: %s; readers walk through its segment", path, error)

    def _write(self, chunk: Chunk) -> None:
        assert self._fd is not None
        self._unsynced = True
        try:
            self._disk.write(self._fd, chunk.raw, self._size)
        except OSError:
            self._failed = True
            raise
        add_mark(self._marks, self._size, chunk.first_seq, chunk.time_us)
        self._size += len(chunk.raw)
        self._chunks += 1
        self._last_us = max(self._last_us, chunk.time_us)
        if chunk.count:
            self._last_event_us = chunk.time_us
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


def _last_event_us(log_dir: Path, base: int) -> int:
    """When the last events in a sealed segment were written; 0 when it has none."""
    path = segment_path(log_dir, base)
    last_us = 0
    offset = 0
    with path.open("rb") as file:
        index = read_index(log_dir, base, file.fileno())
        if index is not None:
            return index.last_event_us
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
