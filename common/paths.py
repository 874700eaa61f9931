"""Where does each file and each local socket of a relay lie?

    data/            log/   run/   postgres/   relay.lock   admin-password
    a private folder in the temp dir, when a socket path in run/ would be too long

Every process asks here and gets the same answer: where the embedded database went is decided once
and written down, in the file postgres-dir. `prepare` makes the folders; nothing else here writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import quote

from common import place
from common.settings import Settings

MAX_SOCKET_PATH_BYTES: Final = 107
"""What sun_path of a Unix socket holds, in bytes, without the closing zero. Source: unix(7)."""
_LONGEST_SOCKET_NAME: Final = "supervisor.sock.4194304"
"""The longest name in a socket folder: supervisord binds `<name>.<pid>` before it renames."""

POSTGRES_SOCKET_NAME: Final = ".s.PGSQL.5432"


class PathError(OSError):
    """A folder cannot serve: the message names it and says why."""


def private_temp_dir() -> Path:
    """This user's folder in the temp dir: short, and mode 0700; not yet made."""
    base = Path(tempfile.gettempdir())
    if len(os.fsencode(base)) > 40:
        base = Path("/tmp")  # noqa: S108 - owner and mode are checked in make_private
    return base / f"standpipe-{os.geteuid()}"


def make_private(folder: Path) -> None:
    """Make a folder that only this user can enter, or check that it is one.

    Raises:
        PathError: somebody else's, or open to others.
    """
    folder.mkdir(mode=0o700, parents=False, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PathError(f"{folder} is not a folder that only this user can enter; remove it")


class Paths:
    """The files and sockets of the relay in one data folder."""

    def __init__(self, data_dir: Path, postgres_dir: Path | None = None) -> None:
        """Nothing is made yet.

        Args:
            data_dir: absolute or not. postgres_dir: where the operator wants the database.
        """
        self.data_dir = data_dir.absolute()
        self.log_dir = self.data_dir / "log"
        self.run_dir = self.data_dir / "run"
        self.lock_file = self.data_dir / "relay.lock"
        self.admin_password_file = self.data_dir / "admin-password"
        self.postgres_dir_file = self.data_dir / "postgres-dir"
        self._wanted_postgres_dir = postgres_dir

    @classmethod
    def of(cls, settings: Settings) -> Paths:
        """The paths that some settings mean."""
        return cls(settings.data_dir, settings.postgres_dir)

    @property
    def socket_dir(self) -> Path:
        """Where the relay's own Unix sockets lie: run/, or a short private folder instead."""
        longest = len(os.fsencode(self.run_dir / _LONGEST_SOCKET_NAME))
        if longest <= MAX_SOCKET_PATH_BYTES:
            return self.run_dir
        return private_temp_dir() / self._short_name()

    @property
    def batches_endpoint(self) -> str:
        """ZeroMQ address on which persist takes batches from ingest."""
        return f"ipc://{self.socket_dir / 'batches'}"

    @property
    def chunks_endpoint(self) -> str:
        """ZeroMQ address on which persist publishes chunks to broadcast."""
        return f"ipc://{self.socket_dir / 'chunks'}"

    @property
    def supervisor_socket(self) -> Path:
        """Where supervisord answers `standpipe status` and supervisorctl."""
        return self.socket_dir / "supervisor.sock"

    @property
    def postgres_dir(self) -> Path:
        """Folder of the embedded database: `data` and `socket` are in it. After `prepare` only."""
        if self._wanted_postgres_dir is not None:
            return self._wanted_postgres_dir
        written = os.fsdecode(self.postgres_dir_file.read_bytes().rstrip(b"\n"))
        return self.data_dir / written

    @property
    def postgres_socket_dir(self) -> Path:
        """Folder of the embedded database's Unix socket. After `prepare` only."""
        folder = self.postgres_dir / "socket"
        if len(os.fsencode(folder / POSTGRES_SOCKET_NAME)) <= MAX_SOCKET_PATH_BYTES:
            return folder
        # Run as root, the private folder would be closed to the database's own user.
        short = place.VAR if os.geteuid() == 0 else private_temp_dir()
        return short / f"pg-{self._short_name()}"

    @property
    def embedded_database_url(self) -> str:
        """Connection string of the embedded database. After `prepare` only."""
        folder = quote(os.fsencode(self.postgres_socket_dir), safe="")
        return f"postgresql://standpipe@/postgres?host={folder}"

    def run_file(self, process: str) -> Path:
        """What a running process says of itself, as JSON."""
        return self.run_dir / f"{process}.json"

    def prepare(self) -> None:
        """Make the folders that are missing; call it first in every process.

        Raises:
            OSError: one cannot be made.
        """
        # 0755: run as root, the embedded database's own user has to pass through.
        self.data_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.log_dir.mkdir(exist_ok=True)
        self.run_dir.mkdir(mode=0o755, exist_ok=True)
        if self.socket_dir != self.run_dir:
            make_private(private_temp_dir())
            make_private(self.socket_dir)
        if not self.postgres_dir_file.exists():
            # Who brings a database of his own needs no user to run ours as.
            with contextlib.suppress(place.NoUser):
                self._settle_postgres_dir()

    def _settle_postgres_dir(self) -> None:
        """Write down where the database goes; of several processes, the first one decides."""
        chosen = place.choose(self.data_dir, self._wanted_postgres_dir)
        if chosen.is_relative_to(self.data_dir):
            # So that the data folder can be moved.
            chosen = chosen.relative_to(self.data_dir)
        partial = self.data_dir / f".postgres-dir.{os.getpid()}"
        partial.write_bytes(os.fsencode(chosen) + b"\n")
        try:
            with contextlib.suppress(FileExistsError):
                os.link(partial, self.postgres_dir_file)
        finally:
            partial.unlink()

    def _short_name(self) -> str:
        return hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
