"""What does PostgreSQL say of hosts, accounts and dropped messages? Every SQL statement of this stage.

Read only. The database may be away: then each question ends in `Away` after a bounded time, and
nothing else of this process notices.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString

import psycopg
from psycopg_pool import AsyncConnectionPool

from broadcast.config import DATABASE_CONNECTIONS, DATABASE_WAIT_S, STATEMENT_TIMEOUT_MS
from broadcast.rejects import Asked
from broadcast.xrpc import AccountRow, HostRow
from common.owner import Owner
from common.reject import COLUMNS, RejectRow

_HOST: Final[LiteralString] = """
    SELECT h.id, h.hostname, h.cursor,
           CASE WHEN h.wanted = 'banned' THEN 'banned' ELSE h.observed END,
           (SELECT count(*) FROM account a WHERE a.host_id = h.id)
    FROM host h
"""
# Hosts that never sent an event are left out; a cursor of 0 only says where reading will begin.
_LIST_HOSTS: Final[LiteralString] = (
    _HOST + "WHERE h.id > %(after)s AND h.cursor > 0 ORDER BY h.id LIMIT %(limit)s"
)
_ONE_HOST: Final[LiteralString] = _HOST + "WHERE h.hostname = %(hostname)s"
_ACCOUNT: Final[LiteralString] = """
    SELECT a.id, a.did, a.active, a.status, a.rev, a.commit_cid, h.hostname, coalesce(h.tls, true),
           a.desynchronized
    FROM account a LEFT JOIN host h ON h.id = a.host_id
"""
_LIST_REPOS: Final[LiteralString] = (
    _ACCOUNT
    + "WHERE a.id > %(after)s AND a.rev IS NOT NULL AND a.commit_cid IS NOT NULL "
    + "ORDER BY a.id LIMIT %(limit)s"
)
_ONE_ACCOUNT: Final[LiteralString] = _ACCOUNT + "WHERE a.did = %(did)s"
_HOST_NUMBER: Final[LiteralString] = "SELECT id FROM host WHERE hostname = %(hostname)s"
_FROM_REJECT: Final[LiteralString] = (
    " FROM reject r LEFT JOIN host h ON h.id = r.host_id WHERE r.id < %(before)s"
)
_NEWEST_FIRST: Final[LiteralString] = " ORDER BY r.id DESC LIMIT %(limit)s"


class Away(Exception):
    """The database does not answer, or not yet as it should."""


class Store:
    """A few connections to PostgreSQL, made when they are needed."""

    def __init__(self, url: str) -> None:
        # The pool speaks of every failed attempt; one line of ours for each request is enough.
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
        self._pool = AsyncConnectionPool(
            url,
            min_size=0,
            max_size=DATABASE_CONNECTIONS,
            timeout=DATABASE_WAIT_S,
            max_waiting=100,
            max_idle=60.0,
            reconnect_timeout=DATABASE_WAIT_S,
            check=AsyncConnectionPool.check_connection,
            open=False,
            kwargs={
                "autocommit": True,
                "connect_timeout": 3,
                "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}"
                " -c default_transaction_read_only=on",
            },
        )

    async def open(self) -> None:
        """Begin; no connection is needed yet. Call within the loop that will use it."""
        self._owner = Owner("the pool of connections")
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close(timeout=1.0)

    async def answers(self) -> bool:
        """Whether the database is there."""
        try:
            await self._rows("SELECT 1")
        except Away:
            return False
        return True

    async def hosts(self, after: int, limit: int) -> list[HostRow]:
        """Hosts that have sent events, behind a row number, oldest first.

        Raises:
            Away: see there; of every method.
        """
        return [HostRow(*row) for row in await self._rows(_LIST_HOSTS, after=after, limit=limit)]

    async def host(self, hostname: str) -> HostRow | None:
        """One host, whether it has sent events or not."""
        rows = await self._rows(_ONE_HOST, hostname=hostname)
        return HostRow(*rows[0]) if rows else None

    async def accounts(self, after: int, limit: int) -> list[AccountRow]:
        """Accounts with a known commit, behind a row number, oldest first."""
        rows = await self._rows(_LIST_REPOS, after=after, limit=limit)
        return [AccountRow(*row) for row in rows]

    async def account(self, did: str) -> AccountRow | None:
        """One account."""
        rows = await self._rows(_ONE_ACCOUNT, did=did)
        return AccountRow(*rows[0]) if rows else None

    async def host_number(self, hostname: str) -> int | None:
        """The number of a host, if it is known."""
        rows = await self._rows(_HOST_NUMBER, hostname=hostname)
        return int(rows[0][0]) if rows else None

    async def rejects(
        self, asked: Asked, host: int | None, *, limit: int, frames: bool
    ) -> list[RejectRow]:
        """What was dropped, newest first.

        Args: host: number of the host that was asked for. frames: whether to read them.
        """
        rows = await self._rows(
            rejects_query(by_host=host is not None, by_did=asked.did is not None, frames=frames),
            host=host,
            did=asked.did,
            before=asked.before,
            limit=limit,
        )
        return [RejectRow(*row) for row in rows]

    async def _rows(self, query: LiteralString, **values: object) -> Sequence[Any]:
        bound: Mapping[str, object] = values
        self._owner.check()
        try:
            async with self._pool.connection() as connection:
                return await (await connection.execute(query, bound)).fetchall()
        except (psycopg.Error, OSError) as error:
            raise Away(str(error)) from error


def rejects_query(*, by_host: bool, by_did: bool, frames: bool) -> LiteralString:
    """The statement for one way of asking; each is answered by an index."""
    query: LiteralString = "SELECT " + COLUMNS + (", r.frame" if frames else "") + _FROM_REJECT
    if by_host:
        query += " AND r.host_id = %(host)s"
    if by_did:
        query += " AND r.did = %(did)s"
    return query + _NEWEST_FIRST
