"""Which files make up the log on one machine, and what does the small `head` file tell?

    <20-digit first seq>.seg   chunks back to back; the number is the seq the file begins at
    <20-digit first seq>.idx   where its chunks lie (common/segment_index.py): only a cache
    head                       epoch, durable_seq, oldest_seq: mapped into every reader's memory
    lock                       held by the writer
    restored                   put there by hand: the segments are a backup's, and may lack what the
                               lost log had given numbers to; gone with the next claim

Names and the head's layout only; chunks are common/chunk.py's, reading is common/segments.py's.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import Final

from common.chunk import UnknownFormat

SUFFIX: Final = ".seg"
INDEX_SUFFIX: Final = ".idx"
HEAD_NAME: Final = "head"
CHECKPOINT_NAME: Final = "checkpoint"
LOCK_NAME: Final = "lock"
RESTORED_NAME: Final = "restored"

_HEAD_NAME: Final = b"SPHEAD"
_HEAD_MAGIC: Final = int.from_bytes(_HEAD_NAME + b"01", "little")
_HEAD_BYTES: Final = 64
_EPOCH: Final = 1
_DURABLE: Final = 2
_OLDEST: Final = 3
_DURABLE_CRC: Final = 4
_BLOCK_BYTES: Final = 4096
"""The grain at which a disk fails to read, in bytes."""


class HeadMissing(Exception):
    """There is no head file (yet), or it is none of ours."""


def segment_path(log_dir: Path, first_seq: int) -> Path:
    """Where the segment that begins at `first_seq` lies."""
    return log_dir / f"{first_seq:020d}{SUFFIX}"


def list_segments(log_dir: Path) -> list[int]:
    """The seqs that the segments begin at, in order; none when there is no folder."""
    try:
        names = os.listdir(log_dir)
    except FileNotFoundError:
        return []
    return _bases(names, SUFFIX)


def has_lost_head(log_dir: Path) -> bool:
    """Whether there are segments without a head file: a part of a log, put there by hand."""
    return bool(list_segments(log_dir)) and not (log_dir / HEAD_NAME).exists()


def index_path(log_dir: Path, first_seq: int) -> Path:
    """Where the index of the segment that begins at `first_seq` lies, if there is one."""
    return log_dir / f"{first_seq:020d}{INDEX_SUFFIX}"


def list_indexes(log_dir: Path) -> list[int]:
    """The seqs that the segments begin at, or began, of which there is an index."""
    return _bases(os.listdir(log_dir), INDEX_SUFFIX)


def _bases(names: list[str], suffix: str) -> list[int]:
    stems = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
    return sorted(int(stem) for stem in stems if len(stem) == 20 and stem.isdecimal())


def read_at(fd: int, length: int, offset: int) -> bytes:
    """What a file has at `offset`: at most `length` bytes, fewer where it ends.

    Blocks that the disk cannot read any more come as zeros: no CRC fits them, so they are damage
    like any other, and what lies behind them is read.

    Raises:
        OSError: anything else.
    """
    try:
        return os.pread(fd, length, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    found = bytearray()
    end = min(offset + length, os.fstat(fd).st_size)
    while offset < end:
        size = min(_BLOCK_BYTES - offset % _BLOCK_BYTES, end - offset)
        try:
            block = os.pread(fd, size, offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            block = bytes(size)
        found += block.ljust(size, b"\0")
        offset += size
    return bytes(found)


class HeadFile:
    """The head file, mapped. One writer stores, any number of readers load, without a lock.

    Each cell is eight aligned bytes, stored and loaded in one piece. It is a signal between
    processes, not a record: after a power cut it may be behind the log, never ahead of it.
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        """Map the file at `path`.

        Raises:
            HeadMissing: see there.
            UnknownFormat: a later release wrote it.
        """
        try:
            fd = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        except FileNotFoundError:
            raise HeadMissing(f"{path} does not exist") from None
        try:
            magic = os.pread(fd, 8, 0)
            number = magic.removeprefix(_HEAD_NAME)
            if magic.startswith(_HEAD_NAME) and number.isdigit() and number > b"01":
                raise UnknownFormat(f"{path} has format {int(number)}, this release reads 1")
            if os.fstat(fd).st_size != _HEAD_BYTES:
                raise HeadMissing(f"{path} is not a head file")
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            self._map = mmap.mmap(fd, _HEAD_BYTES, access=access)
        finally:
            os.close(fd)
        self._bytes = memoryview(self._map)
        self._cells = self._bytes.cast("Q")
        if self._cells[0] != _HEAD_MAGIC:
            self.close()
            raise HeadMissing(f"{path} is not a head file")

    @classmethod
    def create(cls, path: Path) -> HeadFile:
        """Put a new head at `path`, whole or not at all, and map it for writing."""
        new = path.with_name(path.name + ".new")
        new.write_bytes(_HEAD_MAGIC.to_bytes(8, "little").ljust(_HEAD_BYTES, b"\0"))
        new.replace(path)
        return cls(path, writable=True)

    @property
    def epoch(self) -> int:
        """Of the newest claim."""
        return self._cells[_EPOCH]

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._cells[_EPOCH] = value

    @property
    def durable_seq(self) -> int:
        """The last seq that is on disk; 0 before any."""
        return self._cells[_DURABLE]

    @durable_seq.setter
    def durable_seq(self, value: int) -> None:
        self._cells[_DURABLE] = value

    @property
    def oldest_seq(self) -> int:
        """The seq that the first segment begins at; 0 before any."""
        return self._cells[_OLDEST]

    @oldest_seq.setter
    def oldest_seq(self, value: int) -> None:
        self._cells[_OLDEST] = value

    @property
    def durable_crc(self) -> int:
        """Of the last chunk that is on disk; 0 when that was never said.

        Stored beside `durable_seq`, not together with it: it may be one chunk older or newer.
        """
        return self._cells[_DURABLE_CRC]

    @durable_crc.setter
    def durable_crc(self, value: int) -> None:
        self._cells[_DURABLE_CRC] = value

    def close(self) -> None:
        """Unmap; twice does no harm."""
        self._cells.release()
        self._bytes.release()
        self._map.close()
