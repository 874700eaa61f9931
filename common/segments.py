"""What does the log hold from a seq on? Asked in any process, of the segment files.

The writer (persist/segment_log.py) tells through the mapped `head` file how far the log is
durable and where it begins. A reader looks at nothing behind the durable seq, follows the chain
of CRCs, and copes with a file that retention removes under it.

It does not know who asks. Each call reads about `max_bytes` at most, so that a loop can afford it.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path
from typing import Final

from common.chunk import HEAD, Chain, Chunk, ChunkError, ChunkKind, Head, decode_chunk, peek_head
from common.log import Damaged, Outdated
from common.segment_files import (
    HEAD_NAME,
    HeadFile,
    HeadMissing,
    list_segments,
    segment_path,
)

INDEX_GRAIN_BYTES: Final = 256 * 1024
"""A segment's index in memory has one entry about each so many bytes."""
OPEN_SEGMENTS: Final = 16
"""Segments a reader keeps open at once, with their indexes."""
POSITIONS: Final = 1024
"""Ends of earlier reads that are remembered, so that the next read goes straight on."""
READ_MIN_BYTES: Final = 64 * 1024
"""The least that one read asks of the disk, in bytes."""


class _Segment:
    """One open segment file and what is known of where its chunks lie."""

    __slots__ = ("base", "end_offset", "end_seq", "fd", "name", "offsets", "seqs", "times_us")

    def __init__(self, log_dir: Path, base: int) -> None:
        path = segment_path(log_dir, base)
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.name = path.name
        self.base = base
        # One entry for the chunk at each grain: its first seq, its place, its time.
        self.seqs: list[int] = []
        self.offsets: list[int] = []
        self.times_us: list[int] = []
        # How far the index reaches: the next chunk's place, and the seq it begins at.
        self.end_offset = 0
        self.end_seq = base

    def head_at(self, offset: int) -> Head | None:
        """The head of the chunk at `offset`; None at the end of the file."""
        data = os.pread(self.fd, HEAD.size, offset)
        if not data:
            return None
        try:
            return peek_head(data)
        except ChunkError as error:
            raise self.damaged(offset, error) from None

    def damaged(self, offset: int, why: object) -> Damaged:
        """The error that names this file and the byte in it."""
        return Damaged(f"{self.name}, byte {offset}: {why}")

    def index_to(self, durable_seq: int) -> None:
        """Extend the index over what has become durable since."""
        while self.end_seq <= durable_seq:
            head = self.head_at(self.end_offset)
            if head is None:
                return
            if head.first_seq != self.end_seq and head.kind != ChunkKind.CLAIM:
                raise self.damaged(self.end_offset, f"seq {head.first_seq}, not {self.end_seq}")
            if not self.offsets or self.end_offset >= self.offsets[-1] + INDEX_GRAIN_BYTES:
                self.seqs.append(head.first_seq)
                self.offsets.append(self.end_offset)
                self.times_us.append(head.time_us)
            self.end_offset += head.length
            self.end_seq = head.first_seq + head.events

    def close(self) -> None:
        os.close(self.fd)


class SegmentReader:
    """Reads the log's segment files; fulfils common.log.LogReader."""

    def __init__(self, log_dir: Path) -> None:
        """Nothing needs to be there yet: until the writer's first claim the log is empty."""
        self._dir = log_dir
        self._head: HeadFile | None = None
        self._epoch = 0
        self._bases: list[int] = []
        self._segments: OrderedDict[int, _Segment] = OrderedDict()
        # next seq → (segment's base, offset, chain) behind an earlier read.
        self._positions: OrderedDict[int, tuple[int, int, Chain]] = OrderedDict()

    @property
    def durable_seq(self) -> int:
        """The last seq that is on disk, as the writer has announced it; 0 before any."""
        head = self._head or self._open_head()
        return head.durable_seq if head else 0

    @property
    def oldest_seq(self) -> int:
        """The first seq that can be read; durable_seq + 1 when there is none."""
        head = self._head or self._open_head()
        return head.oldest_seq or 1 if head else 1

    @property
    def epoch(self) -> int:
        """Of the writer that claimed the log last; 0 before any."""
        head = self._head or self._open_head()
        return head.epoch if head else 0

    def read(self, from_seq: int, max_bytes: int) -> list[Chunk]:
        """Chunks from the one that holds `from_seq`; at least one, about `max_bytes` at most.

        Empty when `from_seq` lies beyond the durable seq. Chunks without events are left out.
        Where numbers were left out by a claim, the first chunk is the next one there is.

        Raises:
            Outdated: `from_seq` has left the log.
            Damaged: CRC or chain is wrong.
        """
        durable_seq = self.durable_seq
        if from_seq > durable_seq:
            return []
        self._check_retained(from_seq)
        if self.epoch != self._epoch:
            # A new writer may have cut what lay at the end.
            self._forget()
        try:
            return self._read(max(from_seq, 1), durable_seq, max_bytes)
        except FileNotFoundError:
            # Retention was here between two looks at the folder; else a file is missing.
            self._check_retained(from_seq)
            raise Damaged(f"the segment that holds seq {from_seq} is missing") from None

    def seq_at(self, time_s: float) -> int:
        """The first seq at or after a time (Unix seconds), to the grain of a chunk."""
        time_us = int(time_s * 1e6)
        durable_seq = self.durable_seq
        self._bases = list_segments(self._dir)
        # The last segment whose first chunk is older: bisected with one small read each.
        low, high = 0, len(self._bases)
        while low < high:
            middle = (low + high) // 2
            try:
                head = self._segment(self._bases[middle]).head_at(0)
            except FileNotFoundError:
                low = middle + 1
                continue
            if head is not None and head.time_us < time_us:
                low = middle + 1
            else:
                high = middle
        if low == 0:
            return max(self.oldest_seq, self._bases[0] if self._bases else 1)
        segment = self._segment(self._bases[low - 1])
        segment.index_to(durable_seq)
        at = max(0, bisect_right(segment.times_us, time_us - 1) - 1)
        offset = segment.offsets[at] if segment.offsets else 0
        seq = segment.base
        while seq <= durable_seq:
            head = segment.head_at(offset)
            if head is None or head.time_us >= time_us:
                return head.first_seq if head else seq
            offset += head.length
            seq = head.first_seq + head.events
        return durable_seq + 1

    def close(self) -> None:
        """Let go of open files; twice does no harm."""
        self._forget()
        if self._head is not None:
            self._head.close()
            self._head = None

    def _forget(self) -> None:
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()
        self._positions.clear()
        self._bases = []
        self._epoch = self.epoch

    def _open_head(self) -> HeadFile | None:
        try:
            self._head = HeadFile(self._dir / HEAD_NAME)
        except HeadMissing:
            return None
        return self._head

    def _check_retained(self, seq: int) -> None:
        oldest_seq = self.oldest_seq
        if seq < oldest_seq:
            raise Outdated(oldest_seq)

    def _segment(self, base: int) -> _Segment:
        segment = self._segments.get(base)
        if segment is None:
            segment = self._segments[base] = _Segment(self._dir, base)
            if len(self._segments) > OPEN_SEGMENTS:
                self._segments.popitem(last=False)[1].close()
        else:
            self._segments.move_to_end(base)
        return segment

    def _holding(self, seq: int, durable_seq: int) -> _Segment:
        """The segment in which `seq` lies, or lay before numbers were left out."""
        at = bisect_right(self._bases, seq)
        # In the last one known it may just as well be in one that was begun since.
        if at == 0 or at == len(self._bases):
            self._bases = list_segments(self._dir)
            at = bisect_right(self._bases, seq)
        if at == 0:
            raise FileNotFoundError
        segment = self._segment(self._bases[at - 1])
        segment.index_to(durable_seq)
        return segment

    def _seek(self, from_seq: int, durable_seq: int) -> tuple[_Segment, int, Chain]:
        known = self._positions.pop(from_seq, None)
        if known is not None:
            base, offset, chain = known
            return self._segment(base), offset, chain
        segment = self._holding(from_seq, durable_seq)
        at = max(0, bisect_right(segment.seqs, from_seq) - 1)
        offset = segment.offsets[at] if segment.offsets else 0
        while True:
            head = segment.head_at(offset)
            if head is None or head.first_seq + head.events > from_seq:
                break
            offset += head.length
        # A damaged head may claim any seq: only what is checked below moves the chain.
        first_seq = min(head.first_seq, from_seq) if head else from_seq
        return segment, offset, Chain(first_seq, None, 0)

    def _read(self, from_seq: int, durable_seq: int, max_bytes: int) -> list[Chunk]:
        segment, offset, chain = self._seek(from_seq, durable_seq)
        chunks: list[Chunk] = []
        left = max_bytes
        while chain.next_seq <= durable_seq and (left > 0 or not chunks):
            data = os.pread(segment.fd, max(left, READ_MIN_BYTES), offset)
            if not data:
                segment, offset = self._next(segment, chain.next_seq), 0
                continue
            used = self._decode(segment, offset, data, chain, durable_seq, chunks)
            if not used:
                if chunks:
                    break
                # The first chunk is larger than was asked for.
                head = segment.head_at(offset)
                assert head is not None
                data = os.pread(segment.fd, head.length, offset)
                used = self._decode(segment, offset, data, chain, durable_seq, chunks)
                if not used:
                    raise segment.damaged(offset, "the file ends within a chunk that was durable")
            offset += used
            left -= used
        self._positions[chain.next_seq] = (segment.base, offset, chain)
        if len(self._positions) > POSITIONS:
            self._positions.popitem(last=False)
        return chunks

    def _decode(
        self,
        segment: _Segment,
        offset: int,
        data: bytes,
        chain: Chain,
        durable_seq: int,
        chunks: list[Chunk],
    ) -> int:
        """Take the whole chunks in `data`; returns how many bytes they are."""
        at = 0
        try:
            while len(data) - at >= HEAD.size and chain.next_seq <= durable_seq:
                if at + peek_head(data, at).length > len(data):
                    break
                chunk = decode_chunk(data, at)
                chain.follow(chunk)
                if chunk.count:
                    chunks.append(chunk)
                at += len(chunk.raw)
        except ChunkError as error:
            raise segment.damaged(offset + at, error) from None
        return at

    def _next(self, segment: _Segment, next_seq: int) -> _Segment:
        """The segment behind one that was read to its end, though more is durable."""
        at = bisect_right(self._bases, segment.base)
        if at == len(self._bases):
            self._bases = list_segments(self._dir)
            at = bisect_right(self._bases, segment.base)
        if at == len(self._bases):
            raise Damaged(f"{segment.name} ends before seq {next_seq}, and no segment follows")
        return self._segment(self._bases[at])
