"""How does `standpipe run` become a running relay?

    settings ─▶ preflight ─▶ process table in run/ ─▶ exec supervisord, in the foreground

supervisord takes this process's place, so signals, exit code and parenthood need no go-between.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final, NoReturn

from common import locks
from common.command import preflight, table
from common.command.parsers import Commands, command
from common.command.session import read_settings, say
from common.paths import Paths
from common.process import EXIT_FAULT, EXIT_SETTINGS
from common.settings import effective_environment, unheeded_names, unknown_names
from common.telemetry import setup_logging

PROJECT: Final = Path(__file__).resolve().parent.parent.parent
"""The folder with the stages and supervisord.conf."""
_TEXT: Final = """\
Starts the relay in the foreground: checks what it needs and refuses by name, then hands over to
supervisord, which runs the process table of supervisord.conf. JSON log lines go to standard
output, supervisord's own to run/supervisord.log in the data folder. Ctrl-C or SIGTERM drains.

exit code: 0 drained and stopped · 1 refused, the reason is on standard error · 2 wrong settings
"""


def register(commands: Commands) -> None:
    """Add `standpipe run`."""
    command(commands, "run", "start the relay in the foreground", _TEXT, _run)


def _run(_chosen: argparse.Namespace) -> int:
    return run()


def run() -> int:
    """Check and start; returns only when refused: the exit code."""
    settings = read_settings()
    if settings is None:
        return EXIT_SETTINGS
    log = setup_logging("run", settings.log_level)
    for name in unknown_names(os.environ):
        log.warning("unknown setting", extra={"fields": {"name": name}})
    for name, why in unheeded_names(os.environ).items():
        log.warning(
            "a setting of the reference relay that is not heeded",
            extra={"fields": {"name": name, "instead": why}},
        )
    paths = Paths.of(settings)
    source = PROJECT / "supervisord.conf"
    try:
        held = preflight.check(settings, paths, log)
        text = table.render(
            source.read_text(), settings, paths, table.Place(PROJECT, Path(sys.executable))
        )
        config = paths.run_dir / "supervisord.conf"
        config.write_text(text)
        _remove_stale(paths)
    except (preflight.Refused, table.TableError, OSError) as error:
        say(str(error))
        return EXIT_FAULT
    log.info("starting", extra={"fields": {
        "port": settings.port, "data_dir": str(paths.data_dir),
        "ingest": settings.ingest_processes, "broadcast": settings.broadcast_processes,
        "database": "embedded" if settings.database_url is None else "DATABASE_URL"}})  # fmt: skip
    return _become_supervisor(config, held)


def _become_supervisor(config: Path, held: list[locks.Lock]) -> NoReturn:
    """Let supervisord take this process's place, with all settings in force in its environment."""
    sys.stdout.flush()
    for fd in (1, 2):
        _make_reopenable(fd)
    for lock in held:
        os.set_inheritable(lock.fd, True)
    environment = {**os.environ, **effective_environment(os.environ)}
    os.chdir(PROJECT)
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(config)]
    os.execve(command[0], command, environment)


_CAT: Final = ("sh", "-c", "trap '' HUP INT TERM; exec cat")
"""Copies standard input; a service manager signals everybody, and it must outlive the drain."""


def _make_reopenable(fd: int) -> None:
    """See that supervisord can open /dev/stdout and /dev/stderr by name and all lines survive.

    A socket (a journal's) cannot be opened by name: a small `cat` stands between. A file is opened
    once more by name, so everybody has to append.
    """
    kind = os.fstat(fd).st_mode
    if stat.S_ISSOCK(kind):
        with subprocess.Popen(_CAT, stdin=subprocess.PIPE, stdout=fd) as cat:
            assert cat.stdin is not None
            os.dup2(cat.stdin.fileno(), fd)
            cat.stdin.close()
            # It ends by itself when the last process that writes into the pipe has ended.
            cat.returncode = 0
    elif stat.S_ISREG(kind):
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)


def _remove_stale(paths: Paths) -> None:
    """Remove what processes that were killed have left in run/; we hold the folder's lock."""
    for path in paths.run_dir.glob("*.json"):
        path.unlink(missing_ok=True)
