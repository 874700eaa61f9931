"""Does the embedded PostgreSQL run under our hands, and come back from every kind of end?"""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from common import place
from common.paths import Paths
from common.postgres import NOT_NEEDED, options, programs
from common.settings import load_settings
from tests.fix_net import eventually
from tests.fix_postgres import Postgres
from tests.relay import alive, children_of
from tests.running.fleet import ROOT, Fleet


def postmaster(paths: Paths) -> int:
    return int((paths.postgres_dir / "data" / "postmaster.pid").read_text().split("\n")[0])


def put(url: str, word: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS words (word text)")
        connection.execute("INSERT INTO words VALUES (%s)", (word,))


def words(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT word FROM words ORDER BY word").fetchall()
    return [row[0] for row in rows]


def test_supervisors_child_is_postgresql_itself(own_postgres: Postgres) -> None:
    assert own_postgres.process is not None
    assert postmaster(own_postgres.paths) == own_postgres.process.pid


def test_what_was_committed_survives_a_stop_and_a_kill(own_postgres: Postgres) -> None:
    put(own_postgres.url, "a")
    own_postgres.stop()
    own_postgres.start()
    put(own_postgres.url, "b")
    own_postgres.stop(signal.SIGKILL)
    own_postgres.start()
    assert words(own_postgres.url) == ["a", "b"]


def test_a_stale_pid_file_with_a_number_in_use_does_not_prevent_a_start(
    own_postgres: Postgres,
) -> None:
    own_postgres.stop(signal.SIGKILL)
    folder = own_postgres.paths.postgres_dir
    files = [folder / "data" / "postmaster.pid", folder / "socket" / ".s.PGSQL.5432.lock"]
    # A process of the database's own user: the one case that PostgreSQL cannot see through.
    user = place.database_user()
    with subprocess.Popen(["sleep", "600"], user=user.pw_uid) as other:
        for path in files:
            path.write_text(f"{other.pid}\n" + path.read_text().split("\n", 1)[1])
        try:
            own_postgres.start()
        finally:
            other.kill()


def test_a_half_made_database_is_made_anew(own_postgres: Postgres) -> None:
    own_postgres.stop()
    root = own_postgres.paths.postgres_dir
    (root / "data").rename(root / "data.partial")
    (root / "data.partial" / "PG_VERSION").unlink()
    own_postgres.start()
    assert not (root / "data.partial").exists()


def test_only_the_relays_user_gets_in_and_only_over_the_socket(own_postgres: Postgres) -> None:
    with psycopg.connect(own_postgres.url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        assert connection.execute("SELECT inet_server_addr()").fetchone() == (None,)
    hba = (own_postgres.paths.postgres_dir / "data" / "pg_hba.conf").read_text()
    assert hba == "local all standpipe peer map=relay\n"
    ident = (own_postgres.paths.postgres_dir / "data" / "pg_ident.conf").read_text()
    assert pwd.getpwuid(os.geteuid()).pw_name in ident
    for folder in ("data", "socket"):
        mode = (own_postgres.paths.postgres_dir / folder).stat().st_mode
        assert stat.S_IMODE(mode) == 0o700


def test_hosts_are_written_durably(own_postgres: Postgres) -> None:
    with psycopg.connect(own_postgres.url) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
            assert row == ("on",), name
        encoding = connection.execute("SHOW server_encoding").fetchone()
    assert encoding == ("UTF8",)


def test_connections_suffice_for_the_processes() -> None:
    many = load_settings({"STANDPIPE_INGEST_PROCESSES": "64"})
    few = load_settings({})
    paths = Paths(Path("/x"), Path("/y"))
    assert int(options(many, paths)["max_connections"]) > 4 * 64
    assert int(options(few, paths)["max_connections"]) < 100


PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-m", "common.postgres"])
time.sleep(600)
"""


def test_it_ends_with_its_supervisor(fleet: Fleet) -> None:
    paths = Paths(fleet.data_dir)
    parent = subprocess.Popen([sys.executable, "-c", PARENT], env=fleet.environ, cwd=ROOT)
    try:
        eventually(lambda: answers(paths), 60)
        pids = children_of(parent.pid)
        assert postmaster(paths) in pids
    finally:
        parent.kill()
        parent.wait()
    eventually(lambda: not any(map(alive, pids)), what="PostgreSQL ends with its supervisor")


def answers(paths: Paths) -> bool:
    try:
        psycopg.connect(paths.embedded_database_url).close()
    except (OSError, psycopg.OperationalError):
        return False
    return True


def test_it_is_not_needed_with_a_database_of_ones_own(fleet: Fleet) -> None:
    started = fleet.start("common.postgres", DATABASE_URL="postgresql://u@db.example/x")
    assert started.end() == NOT_NEEDED
    assert not (fleet.data_dir / "postgres").exists()


def test_a_second_one_on_the_same_folder_waits_and_says_so(fleet: Fleet) -> None:
    first = fleet.start("common.postgres")
    eventually(lambda: answers(Paths(fleet.data_dir)), 60)
    second = fleet.start("common.postgres")
    second.wait_says("waiting: another relay")
    first.signal(signal.SIGKILL)
    second.wait_says("starting PostgreSQL")
    eventually(lambda: answers(Paths(fleet.data_dir)), 60)


def test_a_database_of_another_version_is_refused_by_name(own_postgres: Postgres) -> None:
    own_postgres.stop()
    (own_postgres.paths.postgres_dir / "data" / "PG_VERSION").write_text("15\n")
    done = subprocess.run(
        [sys.executable, "-m", "common.postgres"], cwd=ROOT, check=False,
        env={"STANDPIPE_DATA_DIR": str(own_postgres.paths.data_dir)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "was made by PostgreSQL 15" in done.stdout


@pytest.fixture
def closed(data_dir: Path) -> Iterator[Path]:
    """A data folder where only root can go, in the way that /root is."""
    folder = data_dir / "closed"
    folder.mkdir(mode=0o700, parents=True)
    yield folder / "data"
    written = Paths(folder / "data").postgres_dir
    assert written.parent == place.VAR
    shutil.rmtree(written)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the database another user")
def test_as_root_in_a_closed_folder_it_lives_elsewhere_and_says_so(
    fleet: Fleet, closed: Path
) -> None:
    started = fleet.start("common.postgres", STANDPIPE_DATA_DIR=str(closed))
    paths = Paths(closed)
    said = started.wait_says("the database has a folder of its own")
    assert said["folder"] == str(paths.postgres_dir)
    eventually(lambda: answers(paths), 60)
    put(paths.embedded_database_url, "a")
    assert stat.S_IMODE(closed.parent.stat().st_mode) == 0o700
    owner = Path(f"/proc/{started.pid}").stat().st_uid
    assert owner == place.database_user().pw_uid != 0
    started.signal(signal.SIGINT)
    assert started.end() == 0


def test_programs_that_its_user_cannot_reach_run_from_a_copy(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a clone under /root, whose .venv nobody else can enter."""
    monkeypatch.setattr(place, "VAR", data_dir / "var")
    monkeypatch.setattr(place, "reachable", lambda _path, _user: False)
    data_dir.mkdir(parents=True, exist_ok=True)
    user = place.database_user()
    for _ in range(2):
        found = programs(user, logging.getLogger("standpipe"))
        assert found.is_relative_to(data_dir / "var")
        for name in ("initdb", "postgres"):
            done = subprocess.run(
                [str(found / name), "--version"], capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stderr) == (0, "")
    assert len(list((data_dir / "var").iterdir())) == 1
    loaded = subprocess.run(
        ["ldd", str(found.parent / "lib/postgresql/libpqwalreceiver.so")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "not found" not in loaded.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the database another user")
def test_as_root_in_a_closed_folder_that_was_asked_for_it_is_refused(
    fleet: Fleet, data_dir: Path
) -> None:
    closed = data_dir / "closed"
    closed.mkdir(mode=0o700, parents=True)
    started = fleet.start("common.postgres", STANDPIPE_POSTGRES_DIR=str(closed / "pg"))
    assert started.end() == 1
    assert started.says("cannot reach")
