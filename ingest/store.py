"""Which documents does PostgreSQL have, so that a restart asks the network for none of them again?

    loop  ── find ──▶ wanted ──────┐                          ┌──▶ SELECT, up to FIND_AT_ONCE at a time
    loop  ── keep ──▶ Unwritten ───┴─▶ one thread, one connection ─▶ upsert, each WRITE_EVERY_S
    loop ◀── on_found, some at a time ─┘

While the database is away nobody waits for it: `find` says so at once, and the network is asked. What
is to be kept waits, bounded; a crash loses half a second of it, which is asked for again.

Every statement about the table `identity` is here. All methods but those of the thread belong to the
loop that made the object.

Source: S-IDN-09; design section 3, "Identity".
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import psycopg

from common.database import RETRY_S, Connection, Waiting, connect
from common.owner import Owner
from ingest import metrics
from ingest.documents import Document, Row, Unwritten, columns_of, document_of

FIND_AT_ONCE: Final = 500
"""DIDs in one SELECT: one look into the index each, some milliseconds together."""
FINDS_MOST: Final = 20_000
"""DIDs that may wait for an answer; more ask the network. About 300 bytes each."""
FIND_S: Final = 2.0
"""So long a DID waits for the database, in seconds: longer than one takes that lives."""
TOLD_AT_ONCE: Final = 16
"""Answers handed over before the loop gets its turn: each has events that are judged then."""
WRITE_AT_ONCE: Final = 1_000
WRITE_EVERY_S: Final = 0.5
UNWRITTEN_MOST: Final = 50_000
"""Documents that may wait to be written: three minutes of the busiest start. About 500 bytes each."""
CLOSING_S: Final = 2.0
"""How long the end of the process waits for the last ones to be written, in seconds."""
_log = logging.getLogger("standpipe")


class Store:
    """The documents in PostgreSQL, as one ingest process sees them."""

    def __init__(
        self,
        database_url: Callable[[], str],
        name: str,
        on_found: Callable[[str, Document | None], None],
    ) -> None:
        """Start the thread; call from within the loop.

        Args:
            database_url: asked by the thread, each time that it connects.
            name: of the connection, for operators.
            on_found: a DID that `find` took, and what is kept of it, if anything.
        """
        self._url = database_url
        self._name = name
        self._on_found = on_found
        self._loop = asyncio.get_running_loop()
        self._finding: OrderedDict[str, float] = OrderedDict()
        """DIDs that wait for an answer, and until when, in seconds of the loop."""
        self._deadline: asyncio.TimerHandle | None = None
        self._told: deque[tuple[str, Document | None]] = deque()
        self._away = False
        """Whether asking the database is known to be in vain."""
        # What the thread shares with the loop, under the lock of `_work`.
        self._work = threading.Condition()
        self._wanted: deque[str] = deque()
        self._unwritten = Unwritten(UNWRITTEN_MOST)
        self._writing = 0
        self._stopping = False
        # The thread's own.
        self._connection: Connection | None = None
        self._owner: Owner
        self._waiting = Waiting("the database, for documents kept")
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # --- the loop's side ---

    @property
    def unwritten(self) -> int:
        """Documents that are not known to be written."""
        with self._work:
            return len(self._unwritten) + self._writing

    def find(self, did: str) -> bool:
        """Look for what is kept of a DID → whether `on_found` will be told; False: ask elsewhere."""
        if self._away or len(self._finding) >= FINDS_MOST:
            metrics.kept["passed_by"].inc()
            return False
        if did not in self._finding:
            self._finding[did] = self._loop.time() + FIND_S
            self._watch()
            with self._work:
                self._wanted.append(did)
                self._work.notify()
        return True

    def keep(self, document: Document) -> None:
        """Write a document down, soon."""
        with self._work:
            self._unwritten.put(document)

    async def close(self) -> None:
        """Write what waits, if the database answers soon, and end the thread."""
        with self._work:
            self._stopping = True
            self._work.notify()
        await asyncio.to_thread(self._thread.join, CLOSING_S)
        if self._deadline is not None:
            self._deadline.cancel()
        self._told.clear()

    def _watch(self) -> None:
        if self._deadline is None and self._finding:
            self._deadline = self._loop.call_at(next(iter(self._finding.values())), self._expire)

    def _expire(self) -> None:
        """Let nobody wait for a database that does not answer."""
        self._deadline = None
        now_s = self._loop.time()
        late = []
        for did, until_s in self._finding.items():
            if until_s > now_s:
                break
            late.append(did)
        if late:
            self._away = True
            self._tell({}, late)
        self._watch()

    def _tell(self, found: dict[str, Document], dids: Iterable[str]) -> None:
        """Hand answers over, some in each round of the loop."""
        waiting = bool(self._told)
        for did in dids:
            if self._finding.pop(did, None) is not None:
                self._told.append((did, found.get(did)))
        if self._told and not waiting:
            self._tell_some()

    def _tell_some(self) -> None:
        for _ in range(min(TOLD_AT_ONCE, len(self._told))):
            did, document = self._told.popleft()
            metrics.kept["missing" if document is None else "found"].inc()
            self._on_found(did, document)
        if self._told:
            self._loop.call_soon(self._tell_some)

    def _answered(self, found: dict[str, Document], dids: list[str]) -> None:
        """The thread has looked for these."""
        self._away = False
        self._tell(found, dids)

    def _lost(self, dids: list[str]) -> None:
        """The database is away; nothing that waits will be answered soon."""
        self._away = True
        self._tell({}, [*dids, *self._finding])

    def _back(self) -> None:
        self._away = False

    # --- the thread's side ---

    def _run(self) -> None:
        self._owner = Owner("the connection for documents")
        try:
            while True:
                with self._work:
                    if not self._wanted and not self._stopping:
                        self._work.wait(WRITE_EVERY_S)
                    stopping = self._stopping
                    dids = [] if stopping else self._take_wanted()
                if dids:
                    self._look_for(dids)
                wrote = self._write() if stopping or not self._wanted else 0
                if stopping and wrote < WRITE_AT_ONCE:
                    return
        except BaseException as error:  # noqa: BLE001 - told to the loop, which ends the process
            self._call(self._raise, error)
        finally:
            self._drop()

    def _take_wanted(self) -> list[str]:
        return [self._wanted.popleft() for _ in range(min(FIND_AT_ONCE, len(self._wanted)))]

    def _look_for(self, dids: list[str]) -> None:
        # A connection that has lain idle may be dead although the database is not.
        for fresh in (False, True):
            try:
                if fresh or self._connection is None:
                    self._connect()
                found = self._find(dids)
            except psycopg.Error as error:
                self._drop()
                if fresh:
                    self._gone(error, dids)
            else:
                self._waiting.over()
                self._call(self._answered, found, dids)
                return

    def _write(self) -> int:
        """Write a batch of what waits → how many rows were written."""
        with self._work:
            rows = self._unwritten.take(WRITE_AT_ONCE)
            self._writing = len(rows)
        try:
            if self._connection is None:
                self._connect()
            if rows:
                self._keep(rows)
        except psycopg.DataError as error:
            # A row that it will never take must not stand in the way of all others.
            _log.error("documents were not kept", extra={"fields": {
                "error": str(error)[:300], "count": len(rows)}})  # fmt: skip
        except psycopg.Error as error:
            with self._work:
                self._unwritten.give_back(rows)
                self._writing = 0
            self._gone(error, [])
            return 0
        finally:
            with self._work:
                self._writing = 0
        self._waiting.over()
        return len(rows)

    def _gone(self, error: psycopg.Error, dids: list[str]) -> None:
        """The database is away, or persist has not prepared it yet; pause, and go on."""
        self._waiting.still(error)
        self._drop()
        with self._work:
            self._wanted.clear()
            stopping = self._stopping
        self._call(self._lost, dids)
        if not stopping:
            with self._work:
                self._work.wait(RETRY_S)

    def _connect(self) -> None:
        self._connection = connect(self._url(), self._name)
        self._call(self._back)

    def _find(self, dids: list[str]) -> dict[str, Document]:
        found = {}
        for row in self._own().execute(_FIND, (dids,), binary=True):
            document = document_of(Row(*row))
            if document is not None:
                found[document.did] = document
        return found

    def _keep(self, rows: list[Row]) -> None:
        connection = self._own()
        with connection.transaction():
            gone = [row for row in rows if row.outcome == "not_found"]
            there = [row for row in rows if row.outcome != "not_found"]
            if there:
                connection.execute(_KEEP, columns_of(there))
            if gone:
                connection.execute(_REPLACE, columns_of(gone))

    def _own(self) -> Connection:
        self._owner.check()
        assert self._connection is not None
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._owner.check()
            self._connection.close()
            self._connection = None

    def _call(self, what: Callable[..., None], *values: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(what, *values)
        except RuntimeError:
            # The loop has ended, and nobody listens any more.
            return

    def _raise(self, error: BaseException) -> None:
        """In the loop: a fault of ours ends the process."""
        raise error


_FIND: Final = """
    SELECT did, outcome, curve, key, host, why, extract(epoch FROM asked_at)::float8
    FROM identity WHERE did = ANY(%s)
"""

# Several processes look up one DID: the one that asked last is right.
_KEEP: Final = """
    INSERT INTO identity AS kept (did, outcome, curve, key, host, why, asked_at)
    SELECT did, outcome, curve, key, host, why, to_timestamp(asked_s) FROM unnest(
        %b::text[], %b::text[], %b::text[], %b::bytea[], %b::text[], %b::text[], %b::float8[]
    ) AS new (did, outcome, curve, key, host, why, asked_s)
    ON CONFLICT (did) DO UPDATE SET
        outcome = excluded.outcome, curve = excluded.curve, key = excluded.key,
        host = excluded.host, why = excluded.why, asked_at = excluded.asked_at
    WHERE excluded.asked_at > kept.asked_at
"""

_REPLACE: Final = """
    UPDATE identity AS kept SET
        outcome = new.outcome, curve = NULL, key = NULL, host = NULL, why = new.why,
        asked_at = to_timestamp(new.asked_s)
    FROM unnest(
        %b::text[], %b::text[], %b::text[], %b::bytea[], %b::text[], %b::text[], %b::float8[]
    ) AS new (did, outcome, curve, key, host, why, asked_s)
    WHERE kept.did = new.did AND to_timestamp(new.asked_s) > kept.asked_at
"""
