"""What does the log ask of the disk? Each system call it makes, in one place.

Tests put a disk that fails, forgets or records in its place. Nothing here decides anything.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class Disk:
    """The real disk. Every method raises OSError when the system says so."""

    def open(self, path: Path, *, create: bool) -> int:
        """A descriptor for reading and writing; with `create` the file must be new."""
        flags = os.O_RDWR | os.O_CLOEXEC
        return os.open(path, flags | os.O_CREAT | os.O_EXCL if create else flags, 0o644)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of `data` at `offset`; not durable before `sync`."""
        written = os.pwrite(fd, data, offset)
        while written < len(data):
            # A disk that is nearly full takes a part; the next call says why.
            written += os.pwrite(fd, memoryview(data)[written:], offset + written)

    def sync(self, fd: int) -> None:
        """Return once what was written to `fd`, and the file's length, are on disk."""
        os.fdatasync(fd)

    def truncate(self, fd: int, length: int) -> None:
        """Cut the file to `length` bytes."""
        os.ftruncate(fd, length)

    def sync_folder(self, folder: Path) -> None:
        """Return once names that were added or removed are on disk."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, path: Path, target: Path) -> None:
        """Give a file the name of another one, which is gone then, in one step."""
        path.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file; one that is gone already does no harm."""
        with contextlib.suppress(FileNotFoundError):
            path.unlink()

    def close(self, fd: int) -> None:
        """Let go of a descriptor."""
        os.close(fd)
