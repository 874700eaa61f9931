"""Which files make up the log on one machine, and what does the small `head` file tell?

    <20-digit first seq>.seg   chunks back to back; the number is the seq the file begins at
    head                       epoch, durable_seq, oldest_seq: mapped into every reader's memory
    lock                       held by the writer

Names and the head's layout only; chunks are common/chunk.py's, reading is common/segments.py's.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Final

SUFFIX: Final = ".seg"
HEAD_NAME: Final = "head"
LOCK_NAME: Final = "lock"

_HEAD_MAGIC: Final = int.from_bytes(b"SPHEAD01", "little")
_HEAD_BYTES: Final = 64
_EPOCH: Final = 1
_DURABLE: Final = 2
_OLDEST: Final = 3


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
    stems = (name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))
    return sorted(int(stem) for stem in stems if len(stem) == 20 and stem.isdecimal())


class HeadFile:
    """The head file, mapped. One writer stores, any number of readers load, without a lock.

    Each cell is eight aligned bytes, stored and loaded in one piece. It is a signal between
    processes, not a record: after a power cut it may be behind the log, never ahead of it.
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        """Map the file at `path`.

        Raises:
            HeadMissing: see there.
        """
        try:
            fd = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        except FileNotFoundError:
            raise HeadMissing(f"{path} does not exist") from None
        try:
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

    def close(self) -> None:
        """Unmap; twice does no harm."""
        self._cells.release()
        self._bytes.release()
        self._map.close()
