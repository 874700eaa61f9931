"""How does a process reach PostgreSQL, and is the schema there what this release expects?

    persist              wait_for_database ─▶ ensure_schema
    ingest, broadcast    while_schema_fits (asyncio): they begin without it, and end where it is not theirs

A database that is away is waited for, and the log says so. One of an older release is brought up to
this one by persist, and waited for by the others; one of a newer release is refused by name. The
statements themselves belong to whoever asks them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine
from importlib.resources import files
from typing import Any, Final

import psycopg

from common.paths import Paths
from common.settings import Settings

SCHEMA_VERSION: Final = 4
"""Of common/schema.sql. The release before must be able to start on it, or refuse by name."""
OLDEST_VERSION: Final = 1
"""The oldest schema that this release brings up to its own."""
COUNTED_VERSION: Final = 4
"""From here on the accounts of each host are counted as they come and go; before, nobody did."""
CONNECT_TIMEOUT_S: Final = 5
RETRY_S: Final = 0.25
"""Pause between attempts, in seconds: a local server is back within one or two."""
SAY_AGAIN_S: Final = 10.0
"""How often a wait repeats its log line, in seconds."""
_SCHEMA_LOCK: Final = 0x57A9D
"""Advisory lock that keeps two processes from applying the schema at once."""

log: Final = logging.getLogger(__name__)

Connection = psycopg.Connection[tuple[Any, ...]]
AsyncConnection = psycopg.AsyncConnection[tuple[Any, ...]]
Rollback = psycopg.Rollback
"""Raised in a transaction, it ends it with nothing written, and nobody hears of it."""


class SchemaMismatch(Exception):
    """The database was made by another release; the message says by which."""


class Waiting:
    """Says that something is waited for: at once, then each ten seconds, and when it is over."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began_s: float | None = None
        self._said_s = 0.0

    def still(self, why: object) -> None:
        """One more attempt failed."""
        now_s = time.monotonic()
        if self._began_s is None:
            self._began_s = now_s
        elif now_s - self._said_s < SAY_AGAIN_S:
            return
        self._said_s = now_s
        reason = str(why).strip().splitlines()
        log.warning("waiting for %s: %s", self._what, reason[-1] if reason else repr(why))

    def over(self) -> None:
        """It is there."""
        if self._began_s is not None:
            log.info("%s is there, after %.1f s", self._what, time.monotonic() - self._began_s)
            self._began_s = None


def database_url(settings: Settings, paths: Paths) -> str:
    """Connection string: the operator's database, or the embedded one."""
    return settings.database_url or paths.embedded_database_url


def options(name: str) -> dict[str, Any]:
    """What every connection of the relay is opened with. name: of the process, for operators."""
    return {
        "application_name": f"standpipe {name}",
        "connect_timeout": CONNECT_TIMEOUT_S,
        # A server that vanished without a word is noticed within a quarter of a minute.
        "keepalives_idle": 5,
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
    }


def connect(url: str, name: str) -> Connection:
    """One attempt; the connection commits each statement by itself unless told otherwise.

    Raises:
        psycopg.OperationalError: it is away.
    """
    return psycopg.connect(url, autocommit=True, **options(name))


def wait_for_database(url: str, name: str, stopped: threading.Event) -> Connection | None:
    """Connect, however long it takes; None when `stopped` was set first."""
    waiting = Waiting("the database")
    while not stopped.is_set():
        try:
            connection = connect(url, name)
        except psycopg.OperationalError as error:
            waiting.still(error)
            stopped.wait(RETRY_S)
        else:
            waiting.over()
            return connection
    return None


async def wait_for_schema(url: str, name: str) -> AsyncConnection:
    """Connect, however long it takes, to a database that persist has prepared. Cancel to give up.

    Raises:
        SchemaMismatch: it was made by another release.
    """
    waiting = Waiting("the database and its schema")
    while True:
        try:
            connection = await psycopg.AsyncConnection.connect(
                url, autocommit=True, **options(name)
            )
        except psycopg.OperationalError as error:
            waiting.still(error)
            await asyncio.sleep(RETRY_S)
            continue
        try:
            cursor = await connection.execute(_READ_VERSION)
            older = is_older(await cursor.fetchone())
        except SchemaMismatch:
            await connection.close()
            raise
        except psycopg.Error as error:
            # UndefinedTable: persist has not been here yet.
            await connection.close()
            waiting.still(error)
        else:
            if not older:
                waiting.over()
                return connection
            await connection.close()
            waiting.still("its schema is of an older release; persist brings it up")
        await asyncio.sleep(RETRY_S)


async def while_schema_fits(url: str, name: str, work: Coroutine[Any, Any, None]) -> None:
    """Do `work`; end it as soon as the database, which may come later, is seen to be another
    release's.

    Raises:
        SchemaMismatch: it is.
    """
    working = asyncio.ensure_future(work)
    looking = asyncio.create_task(wait_for_schema(url, name), name="schema")
    try:
        await asyncio.wait({working, looking}, return_when=asyncio.FIRST_COMPLETED)
        if looking.done():
            # Nothing else is asked over it.
            await looking.result().close()
        await working
    finally:
        for task in (working, looking):
            task.cancel()
        await asyncio.gather(working, looking, return_exceptions=True)


def ensure_schema(connection: Connection) -> None:
    """Apply common/schema.sql to an empty database, and to one of an older version, in one
    transaction; leave one of this version as it is.

    Raises:
        SchemaMismatch: it was made by a newer release, or by none that is known.
        psycopg.Error: the database refuses.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
        found = connection.execute("SELECT to_regclass('relay') IS NOT NULL").fetchone()
        made = bool(found and found[0])
        version = connection.execute(_READ_VERSION).fetchone() if made else None
        if made and not is_older(version):
            return
        connection.execute(files("common").joinpath("schema.sql").read_bytes())
        if version is not None and version[0] < COUNTED_VERSION:
            connection.execute(_COUNT_ACCOUNTS)
        connection.execute(_WRITE_VERSION, (SCHEMA_VERSION,))
    if version is not None:
        log.info("brought the database from schema version %d to %d", *version, SCHEMA_VERSION)


def is_older(row: tuple[Any, ...] | None) -> bool:
    """Whether the database has an older schema that this release can bring up to its own.

    Args:
        row: what it says of its version.

    Raises:
        SchemaMismatch: it is neither that nor this release's.
    """
    found = row[0] if row else None
    if found is not None and OLDEST_VERSION <= found < SCHEMA_VERSION:
        return True
    if found != SCHEMA_VERSION:
        raise SchemaMismatch(
            f"the database has schema version {found}, this release needs {SCHEMA_VERSION}: "
            f"start the release that made it, or give this one a database of its own"
        )
    return False


_COUNT_ACCOUNTS: Final = """
    UPDATE host SET accounts = (
        SELECT count(*) FROM account WHERE host_id = host.id
            AND NOT (NOT active AND status IS NOT DISTINCT FROM 'deleted'))
"""
_WRITE_VERSION: Final = """
    INSERT INTO relay (name, value) VALUES ('schema_version', %s)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
_READ_VERSION: Final = "SELECT value FROM relay WHERE name = 'schema_version'"
