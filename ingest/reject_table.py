"""How do dropped messages get into the table `reject`, and what keeps it bounded?

    Ledger ── take, each second ──▶ RejectTable.write ──▶ insert, then trim the hosts concerned
           └─ take_tally ─────────▶ RejectTable.count ──▶ table `host_drop`: how many, ever

A host keeps HOST_ROWS rows and HOST_BYTES of frames, in the order of ingest.rejects.worth; whatever is
older than KEPT_DAYS goes. While the database is away, the ledger keeps what it can and no event waits.

How exact is the count? A process that is killed loses what it has counted since it wrote last, a second
of it; a confirmation that is lost in the very moment the database goes away counts that second twice.

The database is asked on a thread, by one connection of this module's own: a large frame delays
nobody's DID document.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, Protocol

import psycopg

from common.database import Connection, Waiting, connect
from common.owner import Owner
from common.reject import Reject
from ingest.asker import Asker
from ingest.rejects import Ledger, Tally

HOST_ROWS: Final = 200
"""Rows that a host keeps, at most."""
HOST_BYTES: Final = 8_000_000
"""Frames that a host keeps, in bytes; beyond it rows stay without their frame."""
KEPT_DAYS: Final = 30
EVERY_S: Final = 1.0
"""How often what has gathered is written, in seconds."""
AWAY_S: Final = 3.0
"""Pause after the database did not answer, in seconds."""
LAST_S: Final = 3.0
"""How long the end of the process waits for the last ones, in seconds."""
OLD_EVERY_S: Final = 3_600.0
"""How often what is too old is looked for, in seconds."""
_log = logging.getLogger("standpipe")


class Table(Protocol):
    """Where dropped messages are kept. Called from one thread."""

    def write(self, rejects: Sequence[Reject]) -> None:
        """Put in some, oldest first, and hold the bounds. Raises: psycopg.Error: not now."""

    def count(self, tallies: Sequence[Tally]) -> None:
        """Add these up. Raises: psycopg.Error: not now."""

    def forget_old(self) -> None:
        """Let go of what is too old. Raises: psycopg.Error."""

    def close(self) -> None:
        """Let go of the database."""


class RejectTable:
    """The table `reject` in PostgreSQL."""

    def __init__(self, database_url: Callable[[], str], name: str = "ingest rejects") -> None:
        """Connects when first asked; `database_url` is asked then, too."""
        self._url = database_url
        self._name = name
        self._connection: Connection | None = None
        self._owner: Owner

    def write(self, rejects: Sequence[Reject]) -> None:
        """Put in some, oldest first, and hold the bounds.

        Raises:
            psycopg.Error: the database is away; nothing was written, and the next call tries again.
        """
        with self._connected() as connection, connection.transaction():
            with connection.cursor() as cursor:
                cursor.executemany(_WRITE, rejects)  # a Reject's fields are in the order asked for
            for host in {reject.host for reject in rejects}:
                connection.execute(_TRIM, {"host": host, "rows": HOST_ROWS, "bytes": HOST_BYTES})

    def count(self, tallies: Sequence[Tally]) -> None:
        """Add these up. Raises: psycopg.Error: see `write`."""
        hosts, reasons, times, last_s = zip(*tallies, strict=True)
        with self._connected() as connection:
            connection.execute(_COUNT, (list(hosts), list(reasons), list(times), list(last_s)))

    def forget_old(self) -> None:
        """Let go of what is too old. Raises: psycopg.Error: see `write`."""
        with self._connected() as connection:
            connection.execute(_FORGET, (KEPT_DAYS,))

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._owner.check()
            self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            if self._connection is None:
                self._owner = Owner("the connection for dropped messages")
                self._connection = connect(self._url(), self._name)
            self._owner.check()
            yield self._connection
        except psycopg.Error:
            self.close()
            raise


class Keeper:
    """Writes what the ledger gathers, again and again."""

    def __init__(self, ledger: Ledger, table: Table, every_s: float = EVERY_S) -> None:
        """Args: table: closed at the end."""
        self._ledger = ledger
        self._table = table
        self._every_s = every_s
        self._ending = asyncio.Event()
        self._ended = asyncio.Event()
        self._waiting = Waiting("the database, to write down what was dropped")
        self._old_at_s = float("-inf")

    async def run(self) -> None:
        """Write until `end`."""
        asker = Asker("rejects", self._table.close)
        self._ask = asker.ask  # by the one thread that has the connection
        try:
            while not self._ending.is_set():
                pause_s = self._every_s if await self._write() else AWAY_S
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._ending.wait()
            while len(self._ledger) and await self._write():
                pass
            await self._count()
        finally:
            self._ended.set()
            asker.end()

    async def end(self) -> None:
        """Write the last ones, if the database answers soon."""
        self._ending.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self._ended.wait()

    async def _write(self) -> bool:
        """Write some of what waits → whether the database answered, as far as it was asked."""
        now_s = asyncio.get_running_loop().time()
        taken = self._ledger.take()
        try:
            if taken:
                await self._ask(partial(self._table.write, taken))
        except psycopg.DataError as error:
            # A row that it will never take must not stand in the way of all others.
            self._ledger.counts.lost += len(taken)
            _log.error("dropped messages were not written down", extra={"fields": {
                "error": str(error)[:300], "count": len(taken)}})  # fmt: skip
        except psycopg.Error as error:
            self._ledger.give_back(taken)
            self._waiting.still(error)
            return False
        else:
            self._ledger.counts.kept += len(taken)
        if not await self._count():
            return False
        try:
            if now_s - self._old_at_s > OLD_EVERY_S:
                await self._ask(self._table.forget_old)
                self._old_at_s = now_s
        except psycopg.Error as error:
            self._waiting.still(error)
            return False
        self._waiting.over()
        return True

    async def _count(self) -> bool:
        """Add up what was dropped → whether the database answered, as far as it was asked."""
        tallies = self._ledger.take_tally()
        try:
            if tallies:
                await self._ask(partial(self._table.count, tallies))
        except psycopg.Error as error:
            self._ledger.give_back_tally(tallies)
            self._waiting.still(error)
            return False
        return True


_WRITE: Final = """
    INSERT INTO reject (host_id, at, reason, detail, kind, did, rev, seq, size, frame)
    VALUES (%s, to_timestamp(%s), %s, %s, %s, %s, %s, %s, %s, %b)
"""

_COUNT: Final = """
    INSERT INTO host_drop AS known (host_id, reason, count, last_at)
    SELECT host, reason, times, to_timestamp(last_s)
    FROM unnest(%s::int[], %s::text[], %s::bigint[], %s::float8[]) AS t(host, reason, times, last_s)
    ON CONFLICT (host_id, reason) DO UPDATE SET count = known.count + excluded.count,
        last_at = greatest(known.last_at, excluded.last_at)
"""

# The order of ingest.rejects.worth: reasons alternate, in each its accounts, with the newest first.
_TRIM: Final = """
    WITH by_account AS (
        SELECT id, reason, coalesce(octet_length(frame), 0) AS kept,
               row_number() OVER (PARTITION BY reason, did ORDER BY id DESC) AS nth
        FROM reject WHERE host_id = %(host)s
    ), by_reason AS (
        SELECT id, kept, row_number() OVER (PARTITION BY reason ORDER BY nth, id DESC) AS nth
        FROM by_account
    ), ranked AS (
        SELECT id, kept, row_number() OVER (ORDER BY nth, id DESC) AS nth,
               sum(kept) OVER (ORDER BY nth, id DESC) AS bytes
        FROM by_reason
    ), gone AS (
        DELETE FROM reject USING ranked WHERE reject.id = ranked.id AND ranked.nth > %(rows)s
    )
    UPDATE reject SET frame = NULL FROM ranked
    WHERE reject.id = ranked.id AND nth <= %(rows)s AND bytes > %(bytes)s AND kept > 0
"""

_FORGET: Final = "DELETE FROM reject WHERE at < now() - make_interval(days => %s)"
