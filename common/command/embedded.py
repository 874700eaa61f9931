"""How does a command reach the relay's database, whether the relay runs or not?

    it answers              ─▶ that one, the operator's or the embedded one
    the relay is stopped    ─▶ the embedded one is started for as long as the command needs it

`standpipe pg PROGRAM …` runs one of PostgreSQL's own programs there.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from common import locks
from common.command.parsers import Commands, command
from common.command.run import PROJECT
from common.command.session import read_settings, say
from common.database import connect, database_url
from common.paths import Paths
from common.postgres import programs
from common.process import EXIT_FAULT, EXIT_SETTINGS, Fault
from common.settings import Settings, effective_environment

START_S: Final = 60.0
"""How long the embedded database may take to answer, in seconds: recovery after a crash, mostly."""
STOP_S: Final = 60.0
_VARIABLES: Final = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "user": "PGUSER",
    "password": "PGPASSWORD", "dbname": "PGDATABASE", "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT", "options": "PGOPTIONS", "passfile": "PGPASSFILE",
}  # fmt: skip


_TEXT: Final = """\
Runs one of PostgreSQL's own programs (psql, pg_dump, pg_restore, ...) on the relay's database, be it
the embedded one or that of DATABASE_URL. When the relay is stopped, the embedded database is started for
as long as the program runs, and made when there is none.

exit code: the program's · 1 the database cannot be reached · 2 wrong settings, or no such program
"""


def register(commands: Commands) -> None:
    """Add `standpipe pg`."""
    parser = command(commands, "pg", "run a program of PostgreSQL on the database", _TEXT, _pg)
    parser.usage = "standpipe pg PROGRAM ..."
    parser.add_argument("words", metavar="PROGRAM ...", nargs=argparse.REMAINDER)


def _pg(chosen: argparse.Namespace) -> int:
    if not chosen.words:
        chosen.parser.error("name a PROGRAM, such as psql")
    return run_program(chosen.words)


class NoDatabase(Exception):
    """There is none to be reached; the message says why."""


@contextlib.contextmanager
def database(settings: Settings, paths: Paths, *, make: bool = False) -> Iterator[str]:
    """The connection string of the relay's database, which answers while the context lasts.

    Args:
        make: whether an embedded database that was never there is made.

    Raises:
        NoDatabase: see there.
    """
    if settings.database_url is None and not make and not paths.postgres_dir_file.exists():
        raise NoDatabase(f"no relay has run in {paths.data_dir}")
    if settings.database_url is None and make:
        paths.prepare()
    url = database_url(settings, paths)
    why = _silence(url)
    if why is None:
        yield url
    elif settings.database_url is not None or locks.owner_of(paths.lock_file):
        raise NoDatabase(f"the database does not answer: {why}")
    elif not make and not (paths.postgres_dir / "data").exists():
        raise NoDatabase(f"there is no database in {paths.postgres_dir}")
    else:
        with _started(settings, url):
            yield url


def run_program(words: Sequence[str]) -> int:
    """Run a program of PostgreSQL on the relay's database; returns its exit code."""
    settings = read_settings()
    if settings is None:
        return EXIT_SETTINGS
    log = logging.getLogger("standpipe")
    try:
        folder = programs(pwd.getpwuid(os.geteuid()), log)
        program = folder / words[0]
        if Path(words[0]).name != words[0] or not program.exists():
            known = ", ".join(sorted(path.name for path in folder.iterdir()))
            say(f"{words[0]} is none of PostgreSQL's programs: {known}")
            return EXIT_SETTINGS
        with database(settings, Paths.of(settings), make=True) as url:
            return _program(program, words[1:], url)
    except (Fault, NoDatabase, OSError) as error:
        say(str(error))
        return EXIT_FAULT


def _program(program: Path, words: Sequence[str], url: str) -> int:
    where = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    known = {_VARIABLES[name]: value for name, value in where.items() if name in _VARIABLES}
    command = [str(program), *words]
    if program.name == "pg_restore":
        # It alone does not take the database from its environment.
        command.insert(1, f"--dbname={where['dbname']}")
    with subprocess.Popen(command, env={**os.environ, **known}) as process:
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                return process.wait()


def _silence(url: str) -> str | None:
    """Why the database does not answer; None when it does."""
    try:
        connect(url, "command").close()
    except (psycopg.Error, OSError) as error:
        lines = str(error).strip().splitlines()
        return lines[-1].strip() if lines else repr(error)
    return None


@contextlib.contextmanager
def _started(settings: Settings, url: str) -> Iterator[None]:
    """The embedded database, run by this process."""
    environment = {**os.environ, **effective_environment(os.environ)}
    process = subprocess.Popen(
        [sys.executable, "-m", "common.postgres"], cwd=PROJECT, env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        ends_s = time.monotonic() + START_S
        while (why := _silence(url)) is not None:
            if process.poll() is not None or time.monotonic() > ends_s:
                raise NoDatabase(f"the embedded database of {settings.data_dir} does not start: "
                                 f"{why}")  # fmt: skip
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(STOP_S)
