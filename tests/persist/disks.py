"""Disks that fail, forget or record, for the tests of the log."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from persist.disk import Disk


class RecordingDisk(Disk):
    """The real disk; keeps the order of what was asked, and fails where it is told to.

    asked: ("write", offset, length), ("sync",), ("truncate", length), ("create", name), …
    fails: name of a call → the error number it raises from now on.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.fails: dict[str, int] = {}

    def _ask(self, name: str, *what: object) -> None:
        if name in self.fails:
            raise OSError(self.fails[name], os.strerror(self.fails[name]))
        self.asked.append((name, *what))

    def open(self, path: Path, *, create: bool) -> int:
        self._ask("create" if create else "open", path.name)
        return super().open(path, create=create)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        self._ask("write", offset, len(data))
        super().write(fd, data, offset)

    def sync(self, fd: int) -> None:
        self._ask("sync")
        super().sync(fd)

    def truncate(self, fd: int, length: int) -> None:
        self._ask("truncate", length)
        super().truncate(fd, length)

    def sync_folder(self, folder: Path) -> None:
        self._ask("sync_folder")
        super().sync_folder(folder)

    def rename(self, path: Path, target: Path) -> None:
        self._ask("rename", path.name)
        super().rename(path, target)

    def remove(self, path: Path) -> None:
        self._ask("remove", path.name)
        super().remove(path)


class FullDisk(RecordingDisk):
    """A disk with room for so many more bytes; a write takes what fits and then fails."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, fd: int, data: bytes, offset: int) -> None:
        fits = data[: self.room]
        super().write(fd, fits, offset)
        self.room -= len(fits)
        if len(fits) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
