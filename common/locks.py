"""Is there another relay on this data folder or on this port?

    persist holds relay.lock in the data folder and port-<n>.lock in the user's temp folder;
    in each stands the pid of its supervisor. ingest and broadcast start only when both are held
    for their own supervisor.

SO_REUSEPORT would let a second relay share the public port in silence, so the port has a lock of
its own. The kernel lets go of a lock when its holder dies, so nothing has to be cleaned up.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.paths import make_private, private_temp_dir

_FLOCK: Final = struct.Struct("hhqqi4x")
"""struct flock of fcntl(2), as 64-bit Linux has it: type, whence, start, len, pid."""
_WRITES_S: Final = 2.0
"""How long a new holder is given to write its number, in seconds: two steps, on a machine that is busy."""


class Held(Exception):
    """Another relay holds the lock."""

    def __init__(self, what: str, path: Path, owner: int | None) -> None:
        by = f"process {owner}" if owner else "a process that did not say its number"
        super().__init__(f"another relay, under {by}, holds {what} (lock file {path})")
        self.owner = owner


def port_lock_file(port: int) -> Path:
    """The lock file of a public port; this user's, as SO_REUSEPORT only shares within a user."""
    return private_temp_dir() / f"port-{port}.lock"


@dataclass(slots=True)
class Lock:
    """A lock that this process holds until `release`, or until it ends."""

    path: Path
    fd: int

    def release(self) -> None:
        """Let go; the file stays, since removing it would race with the next holder."""
        os.close(self.fd)


def acquire(path: Path, what: str, owner: int) -> Lock:
    """Take a lock and write its owner's pid into it.

    Args:
        path: of the lock file. what: it stands for, in words. owner: pid of the supervisor.

    Raises:
        Held: somebody has it.
        OSError: the file cannot be made.
    """
    if path.parent == private_temp_dir():
        make_private(path.parent)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        # Open-file-description locks: they belong to this descriptor, not to the process, and
        # others can ask for their holder without trying to take them.
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        os.close(fd)
        if not isinstance(error, (BlockingIOError, PermissionError)):
            raise
        raise Held(what, path, _told(path)) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % owner, 0)
    return Lock(path, fd)


def owner_of(path: Path) -> int | None:
    """The pid that the holder of a lock wrote into it; None when nobody holds it.

    0 stands for a holder that has not written yet.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0]
    finally:
        os.close(fd)
    return None if kind == fcntl.F_UNLCK else _written(path) or 0


def _told(path: Path) -> int | None:
    """The number that whoever has just taken a lock is about to write; None when it does not."""
    ends_s = time.monotonic() + _WRITES_S
    while (owner := _written(path)) is None and time.monotonic() < ends_s:
        time.sleep(0.01)
    return owner


def _written(path: Path) -> int | None:
    text = path.read_bytes().strip()
    return int(text) if text.isdigit() else None
