"""What lies in the log's folder, chunk by chunk, damaged or not? For those who inspect it.

    oldest segment ─▶ chunk ─▶ chunk ─▶ Broken (file, byte, why, which seqs) ─▶ chunk ─▶ … durable seq

Unlike common/segments.py, which serves consumers, this one gives out claims and beats too, says where
each chunk lies, and needs no head file: a copy of the segments is enough. It writes nothing, takes
no lock, and copes with a writer and with retention at work.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from common.chunk import (
    HEAD,
    MAGIC,
    SEQ_MAX,
    Chain,
    Chunk,
    ChunkError,
    ChunkKind,
    Head,
    check_chunk,
    decode_chunk,
    peek_head,
)
from common.salvage import Proof, find_behind
from common.segment_files import (
    HEAD_NAME,
    HeadFile,
    HeadMissing,
    list_segments,
    read_at,
    segment_path,
)


class Told(NamedTuple):
    """What the head file says; all 0 where there is none."""

    epoch: int
    durable_seq: int
    oldest_seq: int
    durable_crc: int = 0


class Step(NamedTuple):
    """A chunk's place in its file, in bytes, and its head. info: what a claim says of its writer."""

    offset: int
    head: Head
    info: bytes


class Found(NamedTuple):
    """A whole chunk that follows from the one before. file: its name. offset: in bytes."""

    file: str
    offset: int
    chunk: Chunk


class Broken(NamedTuple):
    """Here the log cannot be read.

    until_seq: where it can be read again; None: nothing behind it can be read.
    retired: retention took it away meanwhile, so that it is no damage.
    """

    file: str
    offset: int
    why: str
    from_seq: int
    until_seq: int | None
    retired: bool = False

    def text(self) -> str:
        """Where and why, and what that costs."""
        place = f"{self.file}, byte {self.offset}: " if self.file else ""
        if self.until_seq is None:
            lost = f"nothing can be read from seq {self.from_seq} on"
        elif self.until_seq == self.from_seq:
            lost = "no event is lost"
        else:
            lost = f"seqs {self.from_seq} to {self.until_seq - 1} are lost"
        return f"{place}{self.why}; {lost}"


def read_told(log_dir: Path) -> Told:
    """What the writer has announced."""
    try:
        head = HeadFile(log_dir / HEAD_NAME)
    except HeadMissing:
        return Told(0, 0, 0)
    try:
        return Told(head.epoch, head.durable_seq, head.oldest_seq, head.durable_crc)
    finally:
        head.close()


def heads(log_dir: Path, base: int) -> Iterator[Step | Broken]:
    """The chunks of one segment by their heads alone; ends where one is broken.

    Raises:
        FileNotFoundError: retention removed it.
    """
    path = segment_path(log_dir, base)
    offset, next_seq = 0, base
    with _Segment(path) as segment:
        while True:
            data = segment.read(offset, HEAD.size)
            if not data:
                return
            try:
                head = peek_head(data)
            except ChunkError as error:
                yield Broken(path.name, offset, str(error), next_seq, None)
                return
            info = b""
            if head.kind == ChunkKind.CLAIM:
                info = segment.read(offset + HEAD.size, head.frames_len)
            yield Step(offset, head, info)
            offset += head.length
            next_seq = head.first_seq + head.events


def walk(
    log_dir: Path, from_seq: int = 1, durable_seq: int | None = None
) -> Iterator[Found | Broken]:
    """Every chunk that holds something from `from_seq` on, in order, and every place between that
    is broken.

    Args:
        durable_seq: nothing with events behind it is looked at: a writer may be at work there.
            None: everything there is.

    A segment that retention removes under the walk is told as Broken with `retired`.
    """
    walker = _Walker(log_dir, durable_seq)
    for found in walker.walk(from_seq):
        if isinstance(found, Found):
            if found.chunk.next_seq > from_seq or found.chunk.first_seq >= from_seq:
                yield found
        elif found.until_seq is None or found.until_seq > from_seq:
            yield found


class _Segment:
    """One file, open for reading."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._fd)

    def read(self, offset: int, count: int) -> bytes:
        return read_at(self._fd, count, offset)

    def chunk(self, offset: int) -> Chunk | None:
        """The chunk at `offset`; None at the end of the file. Raises: ChunkError."""
        data = self.read(offset, HEAD.size)
        if not data:
            return None
        return decode_chunk(self.read(offset, peek_head(data).length))

    def find(self, offset: int, chain: Chain, limit: int | None, crc: int) -> int | None:
        """Where behind damage at `offset` the chunks go on; None: nowhere that is sure.

        Args:
            chain: before the damage. limit: the seq that the next segment begins at.
            crc: of this segment's last chunk, as it is named elsewhere; 0 where it is not.
        """
        with memoryview(self.read(offset, os.fstat(self._fd).st_size)) as data:
            crcs = frozenset({crc or _last_crc(data)})
            max_seq = limit - 1 if limit else SEQ_MAX
            found = find_behind(data, chain, Proof(crcs), max_seq)
        return offset + found.offset if found is not None else None


def _last_crc(data: memoryview) -> int:
    """The CRC of the chunk that a file ends with; 0 when it ends within one.

    No host can make up one that ends there: a CRC of ours follows all that hosts say.
    """
    held = bytes(data)
    at = held.rfind(MAGIC)
    while at >= 0:
        try:
            head, crc = check_chunk(data, at)
        except ChunkError:
            pass
        else:
            return crc if at + head.length == len(held) else 0
        at = held.rfind(MAGIC, 0, at)
    return 0


class _Walker:
    """Where a walk stands."""

    def __init__(self, log_dir: Path, durable_seq: int | None) -> None:
        self._dir = log_dir
        self._durable_seq = durable_seq
        self._chain = Chain(1, None, 0)
        self._file = ""
        self._end = 0
        # Broken, and not told yet: where it can be read again has still to be found.
        self._broken: Broken | None = None

    def walk(self, from_seq: int) -> Iterator[Found | Broken]:
        bases = list_segments(self._dir)
        oldest_seq = read_told(self._dir).oldest_seq
        # Those that retention is about to remove.
        bases = bases[max(0, bisect_right(bases, oldest_seq) - 1) :]
        if not bases:
            if self._durable_seq:
                yield Broken("", 0, "there is no segment", 1, None)
            return
        at = max(0, bisect_right(bases, from_seq) - 1)
        if at == 0 and 0 < oldest_seq < bases[0]:
            self._note(f"{oldest_seq:020d}.seg", 0, "the segment is missing", oldest_seq)
        self._chain = Chain(bases[at], None, 0)
        queue = deque(bases[at:])
        while queue and not self._done():
            base = queue.popleft()
            try:
                segment = _Segment(segment_path(self._dir, base))
            except FileNotFoundError:
                self._gone(base)
            else:
                with segment:
                    yield from self._segment(segment, base, queue[0] if queue else None)
            if not queue:
                # Begun since we looked.
                queue.extend(later for later in list_segments(self._dir) if later > base)
        if not self._done() and self._durable_seq is not None:
            self._note(
                self._file, self._end, f"the log ends here, and {self._durable_seq} had been reached",
                self._chain.next_seq,
            )  # fmt: skip
        if self._broken is not None:
            yield self._broken

    def _done(self) -> bool:
        return self._durable_seq is not None and self._chain.next_seq > self._durable_seq

    def _note(self, file: str, offset: int, why: str, from_seq: int) -> None:
        """Something is broken; what follows from that before anything is found is not told."""
        if self._broken is None:
            self._broken = Broken(file, offset, why, from_seq, None)

    def _gone(self, base: int) -> None:
        """A segment was there when we looked, and is not any more."""
        if self._broken is None:
            name = segment_path(self._dir, base).name
            retired = base < read_told(self._dir).oldest_seq
            why = "retention removed it" if retired else "the segment is missing"
            self._broken = Broken(name, 0, why, self._chain.next_seq, None, retired)

    def _segment(self, segment: _Segment, base: int, limit: int | None) -> Iterator[Found | Broken]:
        chain = self._chain
        if chain.next_seq != base and self._broken is None and self._file:
            # A claim may leave numbers out there too, and then begins the file.
            first = _try(segment, 0)
            if first is None or first.kind != ChunkKind.CLAIM or first.prev_crc != chain.crc:
                self._note(
                    self._file, self._end,
                    f"ends before seq {chain.next_seq}, and the next segment begins at {base}",
                    chain.next_seq,
                )  # fmt: skip
        self._file = segment.name
        offset = 0
        while True:
            self._end = offset
            try:
                chunk = segment.chunk(offset)
                if chunk is None:
                    return
                if self._done() and chunk.count:
                    return
                self._follow(chunk, base if offset == 0 else None)
            except ChunkError as error:
                if self._done():
                    # Behind what was announced: a writer is at work, or it was killed there.
                    return
                self._note(segment.name, offset, str(error), chain.next_seq)
                before = Chain(max(chain.next_seq, base), None, chain.epoch)
                at = segment.find(offset, before, limit, self._named_crc(limit))
                chain.crc = None
                if at is None:
                    return
                offset = at
                chunk = segment.chunk(offset)
                assert chunk is not None
                chain.next_seq = chunk.first_seq
                chain.follow(chunk)
            if self._broken is not None:
                yield self._broken._replace(until_seq=chunk.first_seq)
                self._broken = None
            yield Found(segment.name, offset, chunk)
            offset += len(chunk.raw)

    def _named_crc(self, limit: int | None) -> int:
        """The CRC of a segment's last chunk, as the next one, which begins at `limit`, or the head
        file names it; 0 where neither does.
        """
        if limit is None:
            return read_told(self._dir).durable_crc
        try:
            with _Segment(segment_path(self._dir, limit)) as segment:
                return peek_head(segment.read(0, HEAD.size)).prev_crc
        except (ChunkError, FileNotFoundError):
            return 0

    def _follow(self, chunk: Chunk, base: int | None) -> None:
        """Step over a chunk. base: the seq that its file's name has, where it is the first in it."""
        chain = self._chain
        if base is not None and chunk.first_seq != base:
            raise ChunkError(f"the file begins with seq {chunk.first_seq}")
        if self._broken is not None and chain.next_seq <= chunk.first_seq:
            # Whatever is lost lies before it.
            chain.crc, chain.next_seq = None, chunk.first_seq
        chain.follow(chunk)


def _try(segment: _Segment, offset: int) -> Chunk | None:
    try:
        return segment.chunk(offset)
    except ChunkError:
        return None
