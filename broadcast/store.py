"""What does PostgreSQL say of hosts, accounts and dropped messages? Every SQL statement of this stage.

Read only. The database may be away: then each question ends in `Away` after a bounded time, and
nothing else of this process notices.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, LiteralString

import psycopg
from psycopg_pool import AsyncConnectionPool

from broadcast.config import DATABASE_CONNECTIONS, DATABASE_WAIT_S, STATEMENT_TIMEOUT_MS
from broadcast.host_data import (
    THROTTLED_COUNTED,
    THROTTLED_SHOWN,
    Dropped,
    HostFacts,
    Throttled,
    host_data,
    status_of,
)
from broadcast.rejects import Asked
from broadcast.xrpc import AccountRow, HostRow
from common.control import parents
from common.database import options
from common.owner import Owner
from common.reject import COLUMNS, RejectRow

# A host that was deleted is shown to nobody, here and below.
_HOST: Final[LiteralString] = """
    SELECT h.id, h.hostname, h.cursor, h.wanted, h.observed,
           extract(epoch FROM h.limited_until)::float8, h.accounts, h.alias_of
    FROM host h WHERE h.wanted <> 'deleted'
"""
# Hosts that never sent an event are left out; a cursor of 0 only says where reading will begin.
_LIST_HOSTS: Final[LiteralString] = (
    _HOST + "AND h.id > %(after)s AND h.cursor > 0 ORDER BY h.id LIMIT %(limit)s"
)
_ONE_HOST: Final[LiteralString] = _HOST + "AND h.hostname = %(hostname)s"
_HOST_FACTS: Final[LiteralString] = """
    SELECT id, hostname, wanted, observed, last_error, generation, cursor, accounts, account_limit,
           trusted, per_second, per_hour, per_day, connected, extract(epoch FROM changed_at)::float8,
           failures, extract(epoch FROM next_dial_at)::float8,
           extract(epoch FROM last_event_at)::float8, last_seq, events, limited_by,
           extract(epoch FROM limited_until)::float8, restarts, level,
           extract(epoch FROM level_since)::float8, discontinuous, waived,
           extract(epoch FROM waived_at)::float8, checked, alias_of, added_by,
           extract(epoch FROM created_at)::float8, slowed
    FROM host WHERE hostname = %(hostname)s AND wanted <> 'deleted'
"""
_DROPS: Final[LiteralString] = """
    SELECT reason, count, extract(epoch FROM last_at)::float8 FROM host_drop
    WHERE host_id = %(host)s ORDER BY count DESC, reason
"""
_THROTTLED: Final[LiteralString] = """
    SELECT did FROM account WHERE local = 'throttled' AND host_id = %(host)s ORDER BY id LIMIT %(shown)s
"""
_COUNT_THROTTLED: Final[LiteralString] = """
    SELECT count(*) FROM (
        SELECT FROM account WHERE local = 'throttled' AND host_id = %(host)s LIMIT %(most)s
    ) AS found
"""
_BANNED_DOMAINS: Final[LiteralString] = (
    "SELECT domain FROM domain_ban WHERE domain = ANY(%(domains)s) ORDER BY length(domain) LIMIT 1"
)
_ALL_BANNED_DOMAINS: Final[LiteralString] = "SELECT domain FROM domain_ban"
# Without the host, whose table would be read whole for a page of accounts; `listed` has an index.
_LIST_REPOS: Final[LiteralString] = """
    SELECT a.id, a.did, a.active, a.status, a.rev, a.commit_cid, NULL, true, a.desynchronized, a.local
    FROM account a WHERE a.id > %(after)s AND a.listed ORDER BY a.id LIMIT %(limit)s
"""
_ONE_ACCOUNT: Final[LiteralString] = """
    SELECT a.id, a.did, a.active, a.status, a.rev, a.commit_cid, h.hostname, coalesce(h.tls, true),
           a.desynchronized, a.local
    FROM account a LEFT JOIN host h ON h.id = a.host_id WHERE a.did = %(did)s
"""
_HOST_NUMBER: Final[LiteralString] = (
    "SELECT id FROM host WHERE hostname = %(hostname)s AND wanted <> 'deleted'"
)
_FROM_REJECT: Final[LiteralString] = (
    " FROM reject r LEFT JOIN host h ON h.id = r.host_id AND h.wanted <> 'deleted'"
    " WHERE r.id < %(before)s"
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
            kwargs=options("broadcast")
            | {
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
        banned = {row[0] for row in await self._rows(_ALL_BANNED_DOMAINS)}
        rows = await self._rows(_LIST_HOSTS, after=after, limit=limit)
        now_s = time.time()
        return [
            _host_row(row, bool(banned) and not banned.isdisjoint(parents(row[1])), now_s)
            for row in rows
        ]

    async def host(self, hostname: str) -> HostRow | None:
        """One host, whether it has sent events or not."""
        rows = await self._rows(_ONE_HOST, hostname=hostname)
        if not rows:
            return None
        return _host_row(rows[0], await self._banned_domain(hostname) is not None, time.time())

    async def host_data(self, hostname: str) -> dict[str, Any] | None:
        """All that its operator may know of one host, as broadcast.host_data says it."""
        rows = await self._rows(_HOST_FACTS, hostname=hostname)
        if not rows:
            return None
        facts = HostFacts(*rows[0])
        drops = [Dropped(*row) for row in await self._rows(_DROPS, host=facts.number)]
        return host_data(
            facts,
            drops,
            await self._throttled(facts.number),
            domain=await self._banned_domain(hostname),
            now_s=time.time(),
        )

    async def _throttled(self, host: int) -> Throttled:
        """The accounts of a host that are over its limit."""
        shown = await self._rows(_THROTTLED, host=host, shown=THROTTLED_SHOWN)
        if len(shown) < THROTTLED_SHOWN:
            return Throttled(len(shown), [row[0] for row in shown])
        count = (await self._rows(_COUNT_THROTTLED, host=host, most=THROTTLED_COUNTED))[0][0]
        return Throttled(count, [row[0] for row in shown])

    async def _banned_domain(self, hostname: str) -> str | None:
        """The domain whose ban concerns a host."""
        rows = await self._rows(_BANNED_DOMAINS, domains=parents(hostname))
        return rows[0][0] if rows else None

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


def _host_row(row: Sequence[Any], domain_banned: bool, now_s: float) -> HostRow:  # noqa: FBT001
    number, hostname, cursor, wanted, observed, limited_until_s, accounts, alias = row
    status = status_of(wanted, observed, limited_until_s, domain_banned=domain_banned, now_s=now_s)
    return HostRow(number, hostname, cursor, status, accounts, alias)


def rejects_query(*, by_host: bool, by_did: bool, frames: bool) -> LiteralString:
    """The statement for one way of asking; each is answered by an index."""
    query: LiteralString = "SELECT " + COLUMNS + (", r.frame" if frames else "") + _FROM_REJECT
    if by_host:
        query += " AND r.host_id = %(host)s"
    if by_did:
        query += " AND r.did = %(did)s"
    return query + _NEWEST_FIRST
