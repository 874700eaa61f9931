"""A disk under a page cache, of which a power cut leaves what was synced, and whatever else it likes.

The files are real, so that the log and its readers find them. Beside them is kept what would be on
the disk: of each file what was there at its last sync, and what was asked of it since; of the folder
the names at its last sync, and what became of them since. A `Snapshot` is all of that at one moment;
it gives the folders that a power cut at that moment may leave.

Of what was not synced may stay: nothing, all, some pages in any order, a length without data, data
without its name, a name without its data.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from common.segment_files import HEAD_NAME, LOCK_NAME
from persist.disk import Disk

PAGE_BYTES: Final = 4096


class Killed(BaseException):
    """The process ends here, as by SIGKILL."""


class Write(NamedTuple):
    offset: int
    data: bytes


class Truncate(NamedTuple):
    length: int


@dataclass(slots=True, eq=False)
class Inode:
    """One file: what is on disk, and what was asked since."""

    synced: bytes = b""
    since: list[Write | Truncate] = field(default_factory=list)


class NameOp(NamedTuple):
    """A name that was given (`inode`) or taken (None) since the folder was synced."""

    name: str
    inode: Inode | None


class Snapshot(NamedTuple):
    """What is on disk, and what may be, at one moment.

    heads: what the head file has been so far, oldest first; None while there was none. It is
    written through memory, and never synced: the disk may have any of it.
    """

    names: dict[str, Inode]
    since: list[NameOp]
    inodes: dict[Inode, tuple[bytes, tuple[Write | Truncate, ...]]]
    heads: list[bytes | None]

    def leave(self, place: Path, pattern: Pattern, rng: random.Random) -> None:
        """Make in `place` the folder that a power cut would leave by this pattern."""
        place.mkdir()
        names = dict(self.names)
        for op in self.since:
            if pattern.names == "all" or (pattern.names == "some" and rng.random() < 0.5):
                if op.inode is None:
                    names.pop(op.name, None)
                else:
                    names[op.name] = op.inode
        for name, inode in names.items():
            synced, since = self.inodes[inode]
            (place / name).write_bytes(pattern.data(synced, since, rng))
        head = {"oldest": self.heads[0], "newest": self.heads[-1]}.get(
            pattern.head, rng.choice(self.heads)
        )
        if head is not None:
            (place / HEAD_NAME).write_bytes(head)


Data = Callable[[bytes, tuple[Write | Truncate, ...], random.Random], bytes]


class Pattern(NamedTuple):
    """What a power cut leaves of what was not synced. names: none, some, all. head: of its states."""

    names: str
    data: Data
    head: str


def applied(data: bytes, since: tuple[Write | Truncate, ...]) -> bytes:
    content = bytearray(data)
    for op in since:
        if isinstance(op, Truncate):
            del content[op.length :]
            content.extend(bytes(op.length - len(content)))
        else:
            content.extend(bytes(max(0, op.offset - len(content))))
            content[op.offset : op.offset + len(op.data)] = op.data
    return bytes(content)


def nothing(synced: bytes, since: tuple[Write | Truncate, ...], rng: random.Random) -> bytes:
    return synced


def everything(synced: bytes, since: tuple[Write | Truncate, ...], rng: random.Random) -> bytes:
    return applied(synced, since)


def length_alone(synced: bytes, since: tuple[Write | Truncate, ...], rng: random.Random) -> bytes:
    """The file has its new length, and zeros where data was to come."""
    length = len(applied(synced, since))
    return synced[:length].ljust(length, b"\0")


def some_pages(synced: bytes, since: tuple[Write | Truncate, ...], rng: random.Random) -> bytes:
    """Each page for itself, old or new, whatever was written first; of the length any it has had."""
    page = rng.choice((PAGE_BYTES, PAGE_BYTES, 512))
    lengths = [len(applied(synced, since[:count])) for count in range(len(since) + 1)]
    length = rng.choice(lengths)
    new = applied(synced, since).ljust(length, b"\0")
    old = synced.ljust(length, b"\0")
    return b"".join(
        (new if rng.random() < 0.5 else old)[at : min(at + page, length)]
        for at in range(0, length, page)
    )


def cut_short(synced: bytes, since: tuple[Write | Truncate, ...], rng: random.Random) -> bytes:
    """In order, and the last write not as a whole."""
    if not since:
        return synced
    count = rng.randrange(len(since))
    last = since[count]
    if isinstance(last, Write):
        last = Write(last.offset, last.data[: rng.randrange(len(last.data) + 1)])
    return applied(synced, (*since[:count], last))


PATTERNS: Final = (
    Pattern("none", nothing, "newest"),
    Pattern("none", nothing, "oldest"),
    Pattern("all", nothing, "newest"),
    Pattern("none", everything, "any"),
    Pattern("all", everything, "oldest"),
    Pattern("all", length_alone, "newest"),
    Pattern("some", some_pages, "any"),
    Pattern("all", some_pages, "newest"),
    Pattern("some", cut_short, "any"),
)


class PowerDisk(Disk):
    """Fulfils persist.disk.Disk in one folder, and tells before each call, and within each write.

    point: called with the name of the call, as "wait/_sync/sync". broken: calls that do nothing,
    by that name: the bug that the bench is to see. kill_in: after so many calls it raises Killed.
    """

    def __init__(self, place: Path, point: Callable[[str], None] | None = None) -> None:
        self.place = place
        self.point = point or (lambda _site: None)
        self.broken: set[str] = set()
        self.kill_in: int | None = None
        self._names = {
            path.name: Inode(path.read_bytes())
            for path in place.iterdir()
            if path.name not in {HEAD_NAME, LOCK_NAME}
        }
        self._now = dict(self._names)
        self._since: list[NameOp] = []
        self._fds: dict[int, Inode] = {}
        self._heads: list[bytes | None] = [self._head()]

    def snapshot(self) -> Snapshot:
        head = self._head()
        if head != self._heads[-1]:
            self._heads.append(head)
        inodes = {*self._names.values(), *(op.inode for op in self._since if op.inode)}
        return Snapshot(
            dict(self._names),
            list(self._since),
            {inode: (inode.synced, tuple(inode.since)) for inode in inodes},
            list(self._heads),
        )

    def rot(self, path: Path, at: int) -> None:
        """A bit of a file flips, on the disk and in the cache."""
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)
        inode = self._now[path.name]
        inode.synced = _flipped(inode.synced, at)
        for number, op in enumerate(inode.since):
            if isinstance(op, Write):
                inode.since[number] = Write(op.offset, _flipped(op.data, at - op.offset))

    def open(self, path: Path, *, create: bool) -> int:
        self._ask("create" if create else "open")
        fd = super().open(path, create=create)
        if create:
            self._name(path.name, Inode())
        self._fds[fd] = self._now[path.name]
        return fd

    def write(self, fd: int, data: bytes, offset: int) -> None:
        self._ask("write")
        inode = self._fds[fd]
        # A part of it, as it may be found when the process dies within.
        part = bytes(data[: len(data) // 2])
        super().write(fd, part, offset)
        inode.since.append(Write(offset, part))
        self._ask("write")
        inode.since[-1] = Write(offset, bytes(data))
        super().write(fd, data, offset)

    def sync(self, fd: int) -> None:
        if self._ask("sync"):
            inode = self._fds[fd]
            inode.synced, inode.since = applied(inode.synced, tuple(inode.since)), []

    def truncate(self, fd: int, length: int) -> None:
        self._ask("truncate")
        self._fds[fd].since.append(Truncate(length))
        super().truncate(fd, length)

    def sync_folder(self, folder: Path) -> None:
        if self._ask("sync_folder"):
            self._names, self._since = dict(self._now), []

    def rename(self, path: Path, target: Path) -> None:
        self._ask("rename")
        inode = self._now[path.name]
        super().rename(path, target)
        self._name(target.name, inode)
        self._name(path.name, None)

    def remove(self, path: Path) -> None:
        self._ask("remove")
        super().remove(path)
        if path.name in self._now:
            self._name(path.name, None)

    def close(self, fd: int) -> None:
        self._fds.pop(fd, None)
        super().close(fd)

    def _name(self, name: str, inode: Inode | None) -> None:
        self._since.append(NameOp(name, inode))
        if inode is None:
            del self._now[name]
        else:
            self._now[name] = inode

    def _head(self) -> bytes | None:
        path = self.place / HEAD_NAME
        return path.read_bytes() if path.exists() else None

    def _ask(self, call: str) -> bool:
        """Tell who asks for what; False where a broken build leaves it out."""
        frame = sys._getframe(2)
        site = f"{frame.f_code.co_name}/{call}"
        if frame.f_back is not None:
            site = f"{frame.f_back.f_code.co_name}/{site}"
        if self.kill_in is not None:
            self.kill_in -= 1
            if self.kill_in < 0:
                self.kill_in = None
                raise Killed(site)
        left_out = site in self.broken
        self.point(f"not {site}" if left_out else site)
        return not left_out


def _flipped(data: bytes, at: int) -> bytes:
    if not 0 <= at < len(data):
        return data
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


class QuickDisk(Disk):
    """The real disk, without its waits: for a run that no power cut follows."""

    def sync(self, fd: int) -> None:
        """Take it for done."""

    def sync_folder(self, folder: Path) -> None:
        """Take it for done."""


def copy(source: Path, target: Path) -> None:
    """A folder of small files, copied."""
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())


def remove(place: Path) -> None:
    """A folder of small files, removed."""
    for name in os.listdir(place):
        (place / name).unlink()
    place.rmdir()
