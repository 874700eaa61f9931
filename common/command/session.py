"""What does every command begin and end with? Settings, the relay's tables, and what stands in the way.

    words ─▶ settings ─▶ PostgreSQL ─┬▶ Tables         what is asked
                                     └▶ ControlPlane   what is changed, under the name of who types

A command that cannot do what was asked raises `Refused`; what it says, and every fault of the database,
comes to standard error in one line, and the exit code is 1.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable
from typing import NamedTuple

import psycopg

from common.command.tables import Tables
from common.control import ControlPlane, StillBanned, UnknownHost
from common.database import connect, database_url
from common.paths import Paths
from common.process import EXIT_FAULT, EXIT_SETTINGS
from common.settings import Settings, SettingsError, load_settings


class Refused(Exception):
    """The command cannot do what was asked; the message says why, in words for an operator."""


class Session(NamedTuple):
    """One operator at one relay's tables."""

    settings: Settings
    tables: Tables
    plane: ControlPlane


def at_tables(work: Callable[[Session], int]) -> int:
    """Do something at the tables of the relay of the environment; returns the exit code."""
    settings = read_settings()
    if settings is None:
        return EXIT_SETTINGS
    try:
        url = database_url(settings, Paths.of(settings))
    except OSError:
        say(f"no relay has run in {settings.data_dir}; is STANDPIPE_DATA_DIR the one you mean?")
        return EXIT_FAULT
    try:
        with connect(url, "command") as connection:
            plane = ControlPlane(connection, f"command:{user()}")
            return work(Session(settings, Tables(connection), plane))
    except UnknownHost as error:
        say(f"{error} is not known here; `standpipe hosts list` lists those that are")
    except BrokenPipeError:
        raise
    except (Refused, StillBanned, OSError) as error:
        say(str(error))
    except psycopg.OperationalError as error:
        say(f"the database does not answer; is the relay running? ({_first_line(error)})")
    except psycopg.Error as error:
        say(f"the database is not as this release leaves it: {_first_line(error)}")
    return EXIT_FAULT


def user() -> str:
    """Who types: for the audit log."""
    number = os.getuid()
    if number == 0 and os.environ.get("SUDO_USER"):
        return os.environ["SUDO_USER"]
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _first_line(error: psycopg.Error) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else repr(error)


def read_settings() -> Settings | None:
    """Those of the environment; None, with each problem told, where they are wrong."""
    try:
        return load_settings(os.environ)
    except SettingsError as error:
        for problem in error.problems:
            say(problem)
        return None


def say(problem: str) -> None:
    """Tell the operator on standard error."""
    print(f"standpipe: {problem}", file=sys.stderr)


def until_nobody_reads(work: Callable[[], int]) -> int:
    """Do something that prints; whoever reads it may have seen enough before the end, as `head` has."""
    try:
        code = work()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code
