"""A throwaway database for a test, in one embedded PostgreSQL that the whole session shares.

def test_something(postgres_url: str) -> None: ...       an empty database of its own
def test_outage(own_postgres: Postgres) -> None: ...     a server of its own, to stop and start
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from common import place
from common.paths import Paths
from tests.fix_net import eventually

_numbers = itertools.count(1)


class Postgres:
    """One embedded server under our hands, run as `python -m common.postgres`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="standpipe-pg-"))
        # The database's own user passes through here when the tests run as root.
        self.folder.chmod(0o755)
        self.paths = Paths(self.folder / "data")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of the database `postgres`."""
        return self.paths.embedded_database_url

    def start(self) -> None:
        """Start it and wait until it answers."""
        environment = {"STANDPIPE_DATA_DIR": str(self.paths.data_dir), "PATH": os.environ["PATH"]}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "common.postgres"], env=environment,
            stdout=subprocess.DEVNULL,
            cwd=Path(__file__).parent.parent,
        )  # fmt: skip
        eventually(self._answers, 180, "the embedded database answers")

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop it (SIGINT), or kill it (SIGKILL), and wait for its end."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def remove(self) -> None:
        """Stop it, and remove what it wrote."""
        self.stop()
        written = self.paths.postgres_dir
        if written.parent == place.VAR:
            shutil.rmtree(written)
        shutil.rmtree(self.folder)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended with {self.process.returncode}"
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except (OSError, psycopg.OperationalError):
            return False
        return True


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The session's server; its databases come and go by test."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """Connection string of a new, empty database; dropped afterwards, whoever is connected."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    yield postgres_server.url.replace("/postgres?", f"/{name}?")
    drop_database(postgres_server, name)


def drop_database(server: Postgres, name: str) -> None:
    """Drop it, whoever is connected: who is cut off may take longer to be gone than DROP waits, 5 s."""
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
    with psycopg.connect(server.url, autocommit=True) as admin:
        eventually(lambda: not admin.execute(cut, (name,)).fetchall())
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server of the test's own, already started."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()
