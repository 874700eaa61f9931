"""What does the control plane say to an operator, and what may be changed by a command?

    standpipe rejects · hosts · level ─▶ Control ─▶ PostgreSQL, the operator's or the embedded one

Every statement of the commands is here. The processes see a change when they next read the table of
hosts, within seconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Final, LiteralString

import psycopg

from common.command.words import Host
from common.database import Connection, connect, database_url
from common.paths import Paths
from common.process import EXIT_FAULT, EXIT_SETTINGS
from common.reject import COLUMNS, RejectRow
from common.settings import Settings, SettingsError, load_settings
from common.verdict import Level


class Refused(Exception):
    """The command cannot do what was asked; the message says why, in words for an operator."""


class Control:
    """The tables, over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def hosts(self) -> list[Host]:
        """All hosts, by name. Raises: psycopg.Error, as every method."""
        return [Host(*row) for row in self._connection.execute(_HOSTS + " ORDER BY hostname")]

    def host(self, text: str) -> Host:
        """The host that an operator means.

        Raises:
            Refused: it is not known.
        """
        name = hostname_of(text)
        rows = self._connection.execute(_HOSTS + " WHERE hostname = %s", (name,)).fetchall()
        if not rows:
            raise Refused(f"{name} is not known here; `standpipe hosts` lists those that are")
        return Host(*rows[0])

    def set_level(self, host: Host, level: Level) -> bool:
        """Let a host be judged at a level from now on → whether that is a change."""
        changed = self._connection.execute(_SET_LEVEL, (level.value, host.id, level.value))
        return changed.rowcount > 0

    def rejects(
        self, host: Host | None, did: str | None, limit: int, *, frames: bool
    ) -> list[RejectRow]:
        """What was dropped of a host, of an account, or of both together; newest first."""
        query: LiteralString = "SELECT " + COLUMNS + (", r.frame" if frames else "")
        query += " FROM reject r LEFT JOIN host h ON h.id = r.host_id WHERE true"
        if host is not None:
            query += " AND r.host_id = %(host)s"
        if did is not None:
            query += " AND r.did = %(did)s"
        query += " ORDER BY r.id DESC LIMIT %(limit)s"
        values = {"host": host.id if host is not None else None, "did": did, "limit": limit}
        return [RejectRow(*row) for row in self._connection.execute(query, values)]


def hostname_of(text: str) -> str:
    """A host as operators write it, perhaps as a URL → its name in the table."""
    _scheme, mark, rest = text.strip().lower().partition("://")
    return (rest if mark else text.strip().lower()).rstrip("/")


def command(work: Callable[[Settings, Control], int]) -> int:
    """Run a command on the relay of the environment; returns the exit code.

    What stands in the way is said on standard error.
    """
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
            return work(settings, Control(connection))
    except (Refused, OSError) as error:
        say(str(error))
    except psycopg.OperationalError as error:
        say(f"the database does not answer; is the relay running? ({_first_line(error)})")
    except psycopg.Error as error:
        say(f"the database is not as this release leaves it: {_first_line(error)}")
    return EXIT_FAULT


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


_HOSTS: Final[LiteralString] = """
    SELECT id, hostname, wanted, observed, level, extract(epoch FROM level_since)::float8,
           discontinuous, waived, extract(epoch FROM waived_at)::float8, checked, last_error
    FROM host
"""

# A word said twice changes nothing, least of all the beginning of the clean period.
_SET_LEVEL: Final[LiteralString] = """
    UPDATE host SET level = %s, level_since = now(), waived_at = NULL, checked = 0
    WHERE id = %s AND level <> %s
"""
