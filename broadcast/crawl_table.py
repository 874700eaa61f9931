"""What does the database know of a host that asks to be crawled, and how is it put in?

    look      one row, read                     a host that is connected costs this and no more
    dial      dial_asked + 1                    no audit row: strangers may not fill that log
    add       every check again and the row, in one transaction under one lock

One connection of this module's own, asked in one thread; made when first needed, and again when it broke.

Source: lesson 40; S-HST-03, S-HST-06, S-HST-11.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, LiteralString, NamedTuple, TypeVar

import psycopg

from broadcast.config import STATEMENT_TIMEOUT_MS
from broadcast.crawl import Facts
from broadcast.crawl_answers import Known
from broadcast.store import Away
from common.control import ControlPlane, NewHost, parents
from common.database import Connection, options
from common.steady import steady_s
from common.target import Target
from common.verdict import DropReason

_T = TypeVar("_T")
_WAITING_MAX: Final = 200
"""Questions in line; each takes a fraction of a millisecond, or the database is away."""
_AGAIN_S: Final = 1.0
"""How long no new connection is tried after one that failed, in seconds."""
_ADDING: Final = 0xC4A31
"""Advisory lock: hosts are added one after the other, by whichever broadcaster."""


class Full(NamedTuple):
    """As many hosts as may be have been added. after_s: until one leaves the 24 hours."""

    after_s: float


class AliasOf(NamedTuple):
    """It is another name of a host that is known."""

    hostname: str


class CrawlTable:
    """The tables as requestCrawl sees them. Every method raises Away where the database does."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="crawl")
        self._connection: Connection | None = None
        self._waiting = 0
        self._failed_s = float("-inf")

    async def look(self, hostname: str) -> Facts:
        """What is known of a host; reads alone."""
        return await self._ask(partial(_look, hostname=hostname))

    async def room(self, per_day: int) -> Full | None:
        """Whether a stranger may add one more host now."""
        return await self._ask(partial(_room, per_day=per_day))

    async def dial(self, hostname: str) -> bool:
        """Have a host dialled at once; False: it is connected."""
        return await self._ask(partial(_dial, hostname=hostname))

    async def add(
        self, host: NewHost, who: str, canonical: str | None, per_day: int | None
    ) -> Facts | Full | AliasOf | None:
        """Put in a host that was looked at, unless that is no longer right; None: it is in.

        Args:
            who: see ControlPlane. canonical: the other host that it calls itself. per_day: None: any number.
        """
        return await self._ask(
            partial(_add, host=host, who=who, canonical=canonical, per_day=per_day)
        )

    async def suspects(self) -> list[Target]:
        """Hosts of which everything was dropped, for no document names them."""
        return await self._ask(_suspects)

    async def release(self) -> int:
        """Read again what was another name of a host that has been deleted → how many."""
        return await self._ask(_release)

    async def name_alias(self, hostname: str, canonical: str, server_did: str) -> bool:
        """Call a host another name of one that is read; False: that one is not."""
        return await self._ask(
            lambda connection: ControlPlane(connection, "relay").name_alias(
                hostname, canonical, server_did
            )
        )

    async def close(self) -> None:
        """Let go of the database."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._let_go)
        self._thread.shutdown(wait=False)

    async def _ask(self, question: Callable[[Connection], _T]) -> _T:
        if self._waiting >= _WAITING_MAX:
            raise Away("too many questions wait for the database")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._answer, question)
        finally:
            self._waiting -= 1

    def _answer(self, question: Callable[[Connection], _T]) -> _T:
        try:
            return question(self._connected())
        except (psycopg.Error, OSError) as error:
            self._let_go()
            raise Away(str(error)) from error

    def _connected(self) -> Connection:
        if self._connection is None:
            if steady_s() < self._failed_s + _AGAIN_S:
                raise psycopg.OperationalError("it was away a moment ago")
            self._failed_s = steady_s()
            self._connection = psycopg.connect(
                self._url,
                autocommit=True,
                **options("broadcast crawl")
                | {"connect_timeout": 3, "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS}"},
            )
            self._failed_s = float("-inf")
        return self._connection

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _look(connection: Connection, hostname: str) -> Facts:
    values = {"hostname": hostname, "domains": parents(hostname)}
    row = connection.execute(_LOOK, values).fetchone()
    assert row is not None
    banned_domain, is_open, per_day, *host = row
    return Facts(Known(*host) if host[0] is not None else None, banned_domain, is_open, per_day)


def _room(connection: Connection, per_day: int) -> Full | None:
    row = connection.execute(_NEWEST, {"limit": per_day}).fetchone()
    assert row is not None
    count, after_s = row
    if count < per_day:
        return None
    return Full(max(1.0, float(after_s)) if after_s is not None else 86_400.0)


def _dial(connection: Connection, hostname: str) -> bool:
    with connection.transaction():
        if not connection.execute(_DIAL, {"hostname": hostname}).rowcount:
            return False
        connection.execute(_RAISE_VERSION)
    return True


def _add(
    connection: Connection, host: NewHost, who: str, canonical: str | None, per_day: int | None
) -> Facts | Full | AliasOf | None:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_ADDING,))
        facts = _look(connection, host.hostname)
        if facts.banned_domain is not None or (facts.known and not facts.known.alias_of):
            return facts
        if canonical is not None:
            other = _look(connection, canonical)
            if other.banned_domain is not None or (other.known and other.known.wanted == "banned"):
                return other
            if other.known is not None:
                return AliasOf(canonical)
        if facts.known is not None:
            # It was another name of a host, and no longer says so.
            connection.execute(_NO_ALIAS, host._asdict())
            connection.execute(_RAISE_VERSION)
            return _look(connection, host.hostname)
        if per_day is not None and (full := _room(connection, per_day)) is not None:
            return full
        ControlPlane(connection, who).add_host(host)
        named = {
            "hostname": host.hostname,
            "did": _web(host.hostname),
            "reason": DropReason.HOST_NOT_AUTHORITATIVE,
        }
        connection.execute(_NAME_ALIASES, named)
    return None


def _suspects(connection: Connection) -> list[Target]:
    return [
        Target(*row)
        for row in connection.execute(_SUSPECTS, {"reason": DropReason.HOST_NOT_AUTHORITATIVE})
    ]


def _release(connection: Connection) -> int:
    with connection.transaction():
        released = connection.execute(_RELEASE).rowcount
        if released:
            connection.execute(_RAISE_VERSION)
    return released


def _web(hostname: str) -> str:
    return "did:web:" + hostname.replace(":", "%3A")


_LOOK: Final[LiteralString] = """
    SELECT
        (SELECT min(domain) FROM domain_ban WHERE domain = ANY(%(domains)s)),
        (SELECT value FROM control WHERE name = 'request_crawl'),
        (SELECT value FROM control WHERE name = 'new_hosts_per_day'),
        h.hostname, h.wanted, h.observed, h.connected, h.last_error,
        extract(epoch FROM h.next_dial_at - now())::float8, h.alias_of
    FROM (SELECT 1) AS one
    LEFT JOIN host h ON h.hostname = %(hostname)s AND h.wanted <> 'deleted'
"""
# The oldest of the newest so many: when it leaves the 24 hours, there is room for one more.
_NEWEST: Final[LiteralString] = """
    SELECT count(*), extract(epoch FROM min(created_at) + interval '24 hours' - now())::float8
    FROM (
        SELECT created_at FROM host
        WHERE added_by = 'crawl' AND created_at > now() - interval '24 hours'
        ORDER BY created_at DESC LIMIT %(limit)s
    ) AS newest
"""
_DIAL: Final[LiteralString] = """
    UPDATE host SET dial_asked = dial_asked + 1
    WHERE hostname = %(hostname)s AND wanted = 'active' AND NOT connected
"""
_RAISE_VERSION: Final[LiteralString] = """
    INSERT INTO relay AS known (name, value) VALUES ('control_version', 1)
    ON CONFLICT (name) DO UPDATE SET value = known.value + 1
"""
_NO_ALIAS: Final[LiteralString] = """
    UPDATE host SET alias_of = NULL, server_did = %(server_did)s, dial_asked = dial_asked + 1
    WHERE hostname = %(hostname)s
"""
# Its own word alone would not do: an alias is read no longer. That no document names it shows in its having
# no account, and in what was dropped for it.
_NAME_ALIASES: Final[LiteralString] = """
    UPDATE host SET alias_of = %(hostname)s
    WHERE lower(server_did) = lower(%(did)s) AND hostname <> %(hostname)s AND accounts = 0
        AND EXISTS (SELECT FROM host_drop d WHERE d.host_id = host.id AND d.reason = %(reason)s)
"""
_SUSPECTS: Final[LiteralString] = """
    SELECT h.hostname, h.tls FROM host h
    JOIN host_drop d ON d.host_id = h.id AND d.reason = %(reason)s
    WHERE h.wanted = 'active' AND h.alias_of IS NULL AND h.accounts = 0
        AND d.last_at > now() - interval '2 days'
    ORDER BY d.count DESC LIMIT 1000
"""
_RELEASE: Final[LiteralString] = """
    UPDATE host SET alias_of = NULL, dial_asked = dial_asked + 1
    WHERE alias_of IS NOT NULL AND NOT EXISTS (
        SELECT FROM host other WHERE other.hostname = host.alias_of AND other.wanted <> 'deleted'
    )
"""
