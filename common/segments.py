"""What does the log hold from a seq on? Asked in any process, of the segment files.

The writer (persist/segment_log.py) tells through the mapped `head` file how far the log is
durable and where it begins. A reader looks at nothing behind the durable seq, follows the chain
of CRCs, and copes with a file that retention removes under it.

    seek    mark of the index → chunk by chunk, each CRC checked → the chunk that holds the seq
    damage  told by the seqs that are lost; what lies before and behind is given out

It does not know who asks. Each call reads about `max_bytes` at most, so that a loop can afford it.
"""

from __future__ import annotations

import logging
import os
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from common.chunk import (
    CRC,
    HEAD,
    SEQ_MAX,
    Chain,
    Chunk,
    ChunkError,
    Head,
    UnknownFormat,
    check_chunk,
    decode_chunk,
    peek_head,
)
from common.log import Damaged, Outdated
from common.salvage import Proof, find_behind
from common.segment_files import (
    HEAD_NAME,
    HeadFile,
    HeadMissing,
    index_path,
    list_segments,
    read_at,
    segment_path,
)
from common.segment_index import Mark, SegmentIndex, add_mark, decode_index

log: Final = logging.getLogger(__name__)

OPEN_SEGMENTS: Final = 16
"""Segments a reader keeps open at once, with their indexes."""
POSITIONS: Final = 1024
"""Ends of earlier reads that are remembered, so that the next read goes straight on."""
READ_MIN_BYTES: Final = 64 * 1024
"""The least that one read asks of the disk, in bytes."""
_WALK_BYTES: Final = 1024 * 1024
"""What a walk from chunk to chunk asks of the disk at once, in bytes."""


class _Bad(Exception):
    """A chunk that is broken, or does not follow."""

    def __init__(self, offset: int, why: ChunkError) -> None:
        super().__init__(str(why))
        self.offset = offset


class _Place(NamedTuple):
    """A chunk's beginning, and the chain before it."""

    segment: _Segment
    offset: int
    chain: Chain


class _Hole(NamedTuple):
    """Where a segment cannot be read, and where the log goes on.

    until_seq: None where nothing durable follows. base, offset: of the chunk that it begins.
    """

    why: str
    until_seq: int | None
    base: int
    offset: int


class _Segment:
    """One open segment file and what is known of where its chunks lie."""

    __slots__ = ("base", "fd", "holes", "index", "marks", "name", "walked")

    def __init__(self, log_dir: Path, base: int) -> None:
        path = segment_path(log_dir, base)
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.name = path.name
        self.base = base
        self.index = read_index(log_dir, base, self.fd)
        self.marks: list[Mark] = self.index.marks if self.index else []
        # How far the marks reach: the end of the last chunk that a walk has seen.
        self.walked = self.index.size_bytes if self.index else 0
        # By the byte at which one begins, and its first lost seq.
        self.holes: dict[tuple[int, int], _Hole] = {}

    def walk(self, place: _Place, durable_seq: int) -> Iterator[tuple[int, Head]]:
        """Go from chunk to chunk; yields where each begins. The place's chain is moved behind it.

        Ends where the file does, or with the last chunk that is durable.

        Raises:
            _Bad: a chunk is broken, or does not follow; the chain stands before it.
        """
        _, offset, chain = place
        data, at = b"", 0
        while chain.next_seq <= durable_seq:
            if not _ends_within(data, at):
                data, at = self.load(offset, _WALK_BYTES), 0
                if not data:
                    return
            try:
                head, crc = check_chunk(data, at)
                chain.step(head, crc)
            except ChunkError as error:
                raise _Bad(offset, error) from None
            if offset >= self.walked:
                add_mark(self.marks, offset, head.first_seq, head.time_us)
                self.walked = offset + head.length
            yield offset, head
            at += head.length
            offset += head.length

    def load(self, offset: int, at_least: int, *, whole: bool = True) -> bytes:
        """What the file has at `offset`, about so many bytes; whole: the chunk there, at least."""
        data = read_at(self.fd, at_least, offset)
        if whole:
            try:
                length = peek_head(data).length
            except ChunkError:
                return data
            if length > len(data):
                return read_at(self.fd, length, offset)
        return data

    def at_mark(self, at: int) -> _Place:
        """Where a mark is, from which a walk may begin; at -1 the segment's beginning."""
        offset, seq, _ = self.marks[at] if at >= 0 else (0, self.base, 0)
        return _Place(self, offset, Chain(seq, None, 0))

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
        """Chunks from the one that holds `from_seq`, as common.log.LogReader says.

        Raises:
            Outdated: `from_seq` has left the log.
            Damaged: the chunk that holds `from_seq` cannot be read.
            UnknownFormat: a later release wrote what lies there.
        """
        durable_seq = self.durable_seq
        if from_seq > durable_seq:
            return []
        self._check_retained(from_seq)
        self._look_for_claim()
        for last_try in (False, True):
            try:
                return self._read(max(from_seq, 1), durable_seq, max_bytes)
            except (FileNotFoundError, Damaged) as error:
                # Retention may have been here since; else a file is missing.
                self._check_retained(from_seq)
                if last_try or self._bases == (bases := list_segments(self._dir)):
                    if isinstance(error, Damaged):
                        raise
                    raise Damaged(f"the segment of seq {from_seq} is missing", from_seq) from None
                self._bases = bases
        raise AssertionError

    def seq_at(self, time_s: float) -> int:
        """The first seq at or after a time (Unix seconds), to the grain of a chunk."""
        time_us = int(time_s * 1e6)
        durable_seq = self.durable_seq
        self._look_for_claim()
        self._bases = list_segments(self._dir)
        # The last segment whose first chunk is older: bisected with one small read each.
        newer = bisect_left(self._bases, True, key=lambda base: not self._older(base, time_us))
        if not newer:
            return max(self.oldest_seq, self._bases[0] if self._bases else 1)
        try:
            segment = self._segment(self._bases[newer - 1])
            place = segment.at_mark(bisect_left(segment.marks, time_us, key=_time_of) - 1)
            next_seq = place.chain.next_seq
            for _, head in self._walk(place, SEQ_MAX, durable_seq):
                if head.time_us >= time_us:
                    # What is missing before it may be what was asked for.
                    return next_seq
                next_seq = head.first_seq + head.events
        except FileNotFoundError:
            return self.oldest_seq
        except Damaged as damaged:
            return damaged.from_seq or self.oldest_seq
        return durable_seq + 1

    def close(self) -> None:
        """Let go of open files; twice does no harm."""
        self._forget()
        if self._head is not None:
            self._head.close()
            self._head = None

    # --- where things are ---

    def _look_for_claim(self) -> None:
        if self.epoch != self._epoch:
            # A new writer may have cut what lay at the end.
            self._forget()

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

    def _base_behind(self, base: int) -> int | None:
        """The base of the segment behind one that was read to its end."""
        at = bisect_right(self._bases, base)
        if at == len(self._bases):
            self._bases = list_segments(self._dir)
            at = bisect_right(self._bases, base)
        return self._bases[at] if at < len(self._bases) else None

    def _holding(self, seq: int) -> _Segment:
        """The segment in which `seq` lies, or lay before numbers were left out."""
        at = bisect_right(self._bases, seq)
        # In the last one known it may just as well be in one that was begun since.
        if at == 0 or at == len(self._bases):
            self._bases = list_segments(self._dir)
            at = bisect_right(self._bases, seq)
        if at == 0:
            until_seq = self._bases[0] if self._bases else None
            raise Damaged(f"the segment that holds seq {seq} is missing", seq, until_seq)
        return self._segment(self._bases[at - 1])

    def _older(self, base: int, time_us: int) -> bool:
        """Whether a segment was begun before a time."""
        try:
            segment = self._segment(base)
        except FileNotFoundError:
            # It has left the log, so it was older than the others.
            return True
        try:
            begun_us = peek_head(read_at(segment.fd, HEAD.size, 0)).time_us
        except ChunkError:
            # Empty or damaged: its index tells, or when it was last written. Whoever asks may get
            # more than he asked for, never less.
            begun_us = os.fstat(segment.fd).st_mtime_ns // 1000
            if segment.marks:
                begun_us = segment.marks[0].time_us
        return begun_us < time_us

    def _seek(self, from_seq: int, durable_seq: int) -> _Place:
        known = self._positions.pop(from_seq, None)
        if known is not None:
            base, offset, chain = known
            return _Place(self._segment(base), offset, chain)
        segment = self._holding(from_seq)
        at = bisect_right(segment.marks, from_seq, key=_seq_of)
        start = segment.at_mark(at - 1)
        for place, head in self._walk(start, from_seq, durable_seq):
            if head.first_seq + head.events > from_seq:
                return place
        raise AssertionError("what is durable is found, or its damage is told")

    def _walk(
        self, place: _Place, from_seq: int, durable_seq: int
    ) -> Iterator[tuple[_Place, Head]]:
        """Every chunk from a place on, with where it begins; past damage that ends before `from_seq`.

        Raises:
            Damaged: as `read` does.
        """
        while place.chain.next_seq <= durable_seq:
            segment, _, chain = place
            try:
                for offset, head in segment.walk(place, durable_seq):
                    yield _Place(segment, offset, Chain(head.first_seq, None, 0)), head
            except _Bad as bad:
                place = self._past(_Place(segment, bad.offset, chain), from_seq, durable_seq, bad)
            else:
                if chain.next_seq <= durable_seq:
                    place = self._next(segment, chain)

    # --- reading ---

    def _read(self, from_seq: int, durable_seq: int, max_bytes: int) -> list[Chunk]:
        place = self._seek(from_seq, durable_seq)
        chunks: list[Chunk] = []
        left = max_bytes
        while place.chain.next_seq <= durable_seq and (left > 0 or not chunks):
            segment, offset, chain = place
            data = segment.load(offset, max(left, READ_MIN_BYTES), whole=not chunks)
            if not data:
                if chunks and segment.base == self._bases[-1]:
                    break
                place = self._next(segment, chain)
                continue
            used, error = _decode(data, chain, durable_seq, chunks)
            left -= used
            place = _Place(segment, offset + used, chain)
            if error is not None or not used:
                # What lies before damage is given out first; the next call tells of it.
                if chunks:
                    break
                error = error or ChunkError("the file ends within a chunk that was durable")
                place = self._past(place, from_seq, durable_seq, error)
        self._remember(place)
        return chunks

    def _next(self, segment: _Segment, chain: Chain) -> _Place:
        """The beginning of the segment behind one that was read to its end, though more is durable."""
        base = self._base_behind(segment.base)
        if base is None:
            raise Damaged(
                f"{segment.name} ends before seq {chain.next_seq}, and no segment follows",
                chain.next_seq,
            )
        return _Place(self._segment(base), 0, chain)

    def _past(self, bad: _Place, from_seq: int, durable_seq: int, why: Exception) -> _Place:
        """Where the log goes on behind damage in which `from_seq` does not lie.

        Raises:
            Damaged: `from_seq` lies in it.
            UnknownFormat: it is no damage.
        """
        segment, offset, chain = bad
        hole = segment.holes.get((offset, chain.next_seq)) or self._measure(bad, durable_seq, why)
        told = f"{segment.name}, byte {offset}: {hole.why}"
        if hole.until_seq is None:
            raise Damaged(
                f"{told}; nothing can be read from seq {chain.next_seq} on", chain.next_seq
            )
        behind = _Place(
            self._segment(hole.base), hole.offset, Chain(hole.until_seq, None, chain.epoch)
        )
        if from_seq < hole.until_seq:
            self._remember(behind)
            lost = f"seqs {chain.next_seq} to {hole.until_seq - 1} are lost"
            raise Damaged(f"{told}; {lost}", chain.next_seq, hole.until_seq)
        return behind

    def _measure(self, bad: _Place, durable_seq: int, why: Exception) -> _Hole:
        """Find the end of damage, and keep it in mind when it is known."""
        segment, offset, chain = bad
        # Named before the file is read: so the chunk is in what is read.
        crcs = {self._head.durable_crc} if self._head is not None else set()
        data = read_at(segment.fd, os.fstat(segment.fd).st_size - offset, offset)
        base = self._base_behind(segment.base)
        named = self._named_by(base) if base is not None else None
        crcs.add(named or 0)
        if segment.index is not None:
            crcs.add(segment.index.crc)
        offsets = frozenset(mark.offset - offset for mark in segment.marks)
        with memoryview(data) as view:
            found = find_behind(view, chain, Proof(frozenset(crcs - {0}), offsets), durable_seq)
        if found is not None:
            if not found.offset:
                why = ChunkError("what lay before it is missing")
            hole = _Hole(str(why), found.head.first_seq, segment.base, offset + found.offset)
        elif named is None and (newer := _newer_format(data)):
            # Nothing of ours comes behind it: this is no damage.
            raise UnknownFormat(f"{segment.name}, byte {offset}: {newer}")
        elif base is not None and base <= durable_seq:
            hole = _Hole(str(why), base, base, 0)
        else:
            return _Hole(str(why), None, 0, 0)
        segment.holes[offset, chain.next_seq] = hole
        if hole.until_seq == chain.next_seq:
            log.error("%s, byte %d: %s; no event is lost", segment.name, offset, why)
        return hole

    def _named_by(self, base: int) -> int | None:
        """The CRC that the first chunk of a segment names; None when that is damaged itself."""
        try:
            return check_chunk(self._segment(base).load(0, READ_MIN_BYTES))[0].prev_crc
        except (ChunkError, FileNotFoundError):
            return None

    def _remember(self, place: _Place) -> None:
        self._positions[place.chain.next_seq] = (place.segment.base, place.offset, place.chain)
        if len(self._positions) > POSITIONS:
            self._positions.popitem(last=False)


def read_index(log_dir: Path, base: int, fd: int) -> SegmentIndex | None:
    """The index of an open segment; None when there is none, or it is not this file's."""
    try:
        index = decode_index(index_path(log_dir, base).read_bytes())
    except OSError:
        return None
    if index is None or index.base != base or index.size_bytes != os.fstat(fd).st_size:
        return None
    ends_with = read_at(fd, CRC.size, index.size_bytes - CRC.size)
    return index if ends_with == CRC.pack(index.crc) else None


def _newer_format(data: bytes) -> UnknownFormat | None:
    """What there is to say of bytes that a later release wrote; None when it did not."""
    try:
        check_chunk(data)
    except UnknownFormat as newer:
        return newer
    except ChunkError:
        pass
    return None


def _seq_of(mark: Mark) -> int:
    return mark.seq


def _time_of(mark: Mark) -> int:
    return mark.time_us


def _ends_within(data: bytes, at: int) -> bool:
    """Whether the chunk at `at` lies in `data` as a whole, as its head says."""
    try:
        return at + peek_head(data, at).length <= len(data)
    except ChunkError:
        return False


def _decode(
    data: bytes, chain: Chain, durable_seq: int, chunks: list[Chunk]
) -> tuple[int, ChunkError | None]:
    """Take the whole chunks in `data`; returns how many bytes they are, and what is wrong there."""
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
        return at, error
    return at, None
