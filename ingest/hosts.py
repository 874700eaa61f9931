"""Which hosts does this process read, and since when?

Rows of the table `host` say what an operator wants; this module reads them, and puts in the rows
of the hosts that were named in the settings or that another relay lists. In a row that is there it
changes one thing: a host at `observe` moves up to `enforce` after its clean period. What else is
observed of hosts goes to persist, which writes it.

The database is asked on a thread, by one connection of this module's own; while it is away the
hosts known so far go on being read.

Source: S-HST-03, S-HST-07, S-HST-10.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeVar
from urllib.parse import urlencode

import orjson
import psycopg

from common.control import READ_VERSION, parents
from common.database import connect
from common.fetch import Fetcher, FetchError
from common.limits import TRUSTED_ACCOUNT_LIMIT, EventLimits, event_limits, is_trusted
from common.owner import Owner
from common.sharding import SHARD_COUNT, shard_of
from common.target import BadTarget, Target, parse_target
from common.verdict import Level
from ingest.levels import Seen

_log = logging.getLogger("standpipe")
_T = TypeVar("_T")
LIST_PAGE: Final = 1000
"""Hosts a page of listHosts has at most. Source: com.atproto.sync.listHosts."""
MAX_PAGES: Final = 100
MAX_PAGE_BYTES: Final = 4_000_000
ACTIVE: Final = "active"
BANNED: Final = "banned"
"""What an operator may want of a host: the column `wanted`."""
OBSERVE_CLEAN_S: Final = 72 * 3600.0
"""How long nothing must have been waived of a host before it moves up, in seconds."""


class HostRow(NamedTuple):
    """A row of the table `host`, as far as reading it matters. See common/schema.sql for the columns.

    wanted: 'active' or 'banned', which stands here for a ban of its domain, too. observed: what was last
    written. last_event_us: when its last message was read, Unix microseconds; 0: never.
    """

    id: int
    hostname: str
    tls: bool
    generation: int
    cursor: int | None
    level: Level = Level.ENFORCE
    wanted: str = ACTIVE
    observed: str = "idle"
    account_limit: int = 100
    trusted: bool = False
    per_second: int | None = None
    per_hour: int | None = None
    per_day: int | None = None
    dial_asked: int = 0
    added_by: str = "settings"
    alias_of: str | None = None
    accounts: int = 0
    events: int = 0
    last_event_us: int = 0
    restarts: int = 0

    @property
    def banned(self) -> bool:
        """Whether its operator wants it not to be read, by its name or by its domain."""
        return self.wanted == BANNED

    @property
    def limits(self) -> EventLimits:
        """What it may send."""
        return event_limits(
            self.account_limit,
            trusted=self.trusted,
            per_second=self.per_second,
            per_hour=self.per_hour,
            per_day=self.per_day,
        )

    @property
    def shard(self) -> int:
        """The virtual shard of this host."""
        return shard_of(self.hostname, SHARD_COUNT)


class MovedUp(NamedTuple):
    """A host that is judged strictly again. checked: commits that passed since the last waived one."""

    hostname: str
    checked: int


class Ask(Protocol):
    """Has a question asked by the one thread that may."""

    async def __call__(self, question: Callable[[], _T], /) -> _T:
        """What it gives or raises."""


class Table(Protocol):
    """What this module asks of the table `host`. Called from one thread."""

    def wanted(self) -> list[HostRow]:
        """All hosts but for deleted ones. Raises: psycopg.Error: not now."""

    def version(self) -> int:
        """What rises with every action of an operator (common/control.py). Raises: psycopg.Error."""

    def restart(self, host: int, generation: int, cursor: int | None) -> bool:
        """The numbers of a host have begun anew: read it from `cursor` under its next generation.

        False where `generation` is not its newest any more. Raises: psycopg.Error.
        """

    def is_empty(self) -> bool:
        """Whether no host has a row. Raises: psycopg.Error."""

    def add(
        self,
        targets: Iterable[Target],
        cursor: int | None,
        account_limit: int,
        *,
        trusted: bool = False,
        added_by: str = "settings",
    ) -> int:
        """Put in the hosts that have no row yet → how many. Raises: psycopg.Error.

        Args: trusted: all of these, whatever their domain. added_by: see common/schema.sql.
        """

    def trust(self, hostnames: Iterable[str]) -> list[str]:
        """Have these count as trusted, but for those of which an operator said whether they do → which
        do now. Raises: psycopg.Error.
        """

    def note(self, seen: Iterable[Seen]) -> list[MovedUp]:
        """Write down what was seen of hosts at `observe`, and move up whose clean period is over.

        Raises: psycopg.Error.
        """

    def close(self) -> None:
        """Let go of the database."""


class HostTable:
    """The table `host` in PostgreSQL."""

    def __init__(
        self,
        database_url: Callable[[], str],
        trusted_domains: tuple[str, ...] = (),
        observe_clean_s: float = OBSERVE_CLEAN_S,
    ) -> None:
        """Connects when first asked; `database_url` is asked then, too.

        Args:
            trusted_domains: new hosts that these name are marked as trusted.
            observe_clean_s: the clean period, in seconds.
        """
        self._url = database_url
        self._trusted_domains = trusted_domains
        self._observe_clean_s = observe_clean_s
        self._connection: psycopg.Connection[Any] | None = None
        self._owner: Owner

    def wanted(self) -> list[HostRow]:
        """All hosts but for deleted ones; those of a banned domain as banned.

        Raises:
            psycopg.Error: the database is away; the next call tries again.
        """
        domains = {domain for (domain,) in self._query("SELECT domain FROM domain_ban")}
        rows = []
        for values in self._query(_WANTED):
            row = HostRow(*values)
            if domains and not domains.isdisjoint(parents(row.hostname)):
                row = row._replace(wanted=BANNED)
            rows.append(row._replace(level=_level_of(row.level)))
        return rows

    def version(self) -> int:
        """What rises with every action of an operator. Raises: psycopg.Error."""
        return next((int(row[0]) for row in self._query(READ_VERSION)), 0)

    def restart(self, host: int, generation: int, cursor: int | None) -> bool:
        """The numbers of a host have begun anew: read it from `cursor` under its next generation.

        In the audit log as what the relay did by itself. False where somebody, an operator perhaps, has
        begun another generation already.

        Raises:
            psycopg.Error: see `wanted`.
        """
        given: dict[str, object] = {"host": host, "generation": generation, "cursor": cursor}
        return bool(self._query(_RESTART, given))

    def is_empty(self) -> bool:
        """Whether no host has a row. Raises: psycopg.Error."""
        return not self._query("SELECT 1 FROM host LIMIT 1")

    def add(
        self,
        targets: Iterable[Target],
        cursor: int | None,
        account_limit: int,
        *,
        trusted: bool = False,
        added_by: str = "settings",
    ) -> int:
        """Put in the hosts that have no row yet → how many. Raises: psycopg.Error.

        Args:
            cursor: where to start: 0 from the beginning, None live. added_by: see common/schema.sql.
            account_limit: of those that are not trusted. trusted: all of these, whatever their domain.
        """
        added = 0
        for target in targets:
            is_named = trusted or is_trusted(target.hostname, self._trusted_domains)
            added += len(
                self._query(
                    "INSERT INTO host (hostname, tls, cursor, account_limit, trusted, added_by)"
                    " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (hostname) DO NOTHING RETURNING id",
                    (
                        target.hostname,
                        target.tls,
                        cursor,
                        TRUSTED_ACCOUNT_LIMIT if is_named else account_limit,
                        is_named,
                        added_by,
                    ),
                )
            )
        return added

    def trust(self, hostnames: Iterable[str]) -> list[str]:
        """Have these count as trusted, but for those of which an operator said whether they do → which
        do now.

        They were there before anybody named them, or when no host had limits. In the audit log as
        what the relay did by itself.

        Raises:
            psycopg.Error: see `wanted`.
        """
        given: dict[str, object] = {"names": list(hostnames), "accounts": TRUSTED_ACCOUNT_LIMIT}
        return [hostname for (hostname,) in self._query(_TRUST, given)]

    def note(self, seen: Iterable[Seen]) -> list[MovedUp]:
        """Write down what was seen of hosts at `observe`, and move up whose clean period is over.

        Raises:
            psycopg.Error: see `wanted`; some of it may have been written.
        """
        moved = []
        for host, waived, checked in seen:
            given: dict[str, object] = {
                "host": host,
                "checked": checked,
                "clean_s": self._observe_clean_s,
            }
            if waived:
                self._query(_NOTE_WAIVED, given)
            else:
                self._query(_NOTE_CHECKED, given)
                moved += [MovedUp(*row) for row in self._query(_MOVE_UP, given)]
        return moved

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._owner.check()
            self._connection.close()
            self._connection = None

    def _query(
        self, sql: str, values: tuple[object, ...] | dict[str, object] = ()
    ) -> list[tuple[Any, ...]]:
        try:
            if self._connection is None:
                self._owner = Owner("the connection for hosts")
                self._connection = connect(self._url(), "ingest hosts")
            self._owner.check()
            return self._connection.execute(sql.encode(), values).fetchall()
        except psycopg.Error:
            self.close()
            raise


_WANTED: Final = """
    SELECT id, hostname, tls, generation, cursor, level, wanted, observed, account_limit, trusted,
        per_second, per_hour, per_day, dial_asked, added_by, alias_of, accounts, events,
        coalesce((extract(epoch FROM last_event_at) * 1e6)::bigint, 0), restarts
    FROM host WHERE wanted <> 'deleted' ORDER BY id
"""
# One statement: the new generation, what is told of it, and what makes every process look.
_RESTART: Final = """
    WITH anew AS (
        UPDATE host SET generation = generation + 1, cursor = %(cursor)s::bigint,
            restarts = restarts + 1
        WHERE id = %(host)s AND generation = %(generation)s RETURNING hostname, generation
    ), said AS (
        INSERT INTO audit (who, action, subject, was, now)
        SELECT 'relay', 'restart_host', hostname, 'generation ' || %(generation)s::int,
            'generation ' || generation FROM anew
    ), raised AS (
        INSERT INTO relay AS known (name, value) SELECT 'control_version', 1 FROM anew
        ON CONFLICT (name) DO UPDATE SET value = known.value + 1
    )
    SELECT generation FROM anew
"""
# As above. What an operator said of a host's limits stands.
_TRUST: Final = """
    WITH named AS (
        UPDATE host SET trusted = true, account_limit = CASE
            WHEN EXISTS (SELECT FROM audit WHERE subject = hostname AND action = 'set_limits')
            THEN account_limit ELSE greatest(account_limit, %(accounts)s::int) END
        WHERE hostname = ANY(%(names)s::text[]) AND NOT trusted AND wanted <> 'deleted'
            AND NOT EXISTS (SELECT FROM audit WHERE subject = hostname AND action = 'set_trust')
        RETURNING hostname
    ), said AS (
        INSERT INTO audit (who, action, subject, was, now)
        SELECT 'relay', 'set_trust', hostname, 'false', 'true' FROM named
    ), raised AS (
        INSERT INTO relay AS known (name, value)
        SELECT 'control_version', 1 FROM named LIMIT 1
        ON CONFLICT (name) DO UPDATE SET value = known.value + 1
    )
    SELECT hostname FROM named ORDER BY hostname
"""
# The database's clock alone measures the period: it runs on while no process of ours does.
_NOTE_WAIVED: Final = """
    UPDATE host SET waived_at = now(), checked = %(checked)s
    WHERE id = %(host)s AND level = 'observe' RETURNING id
"""
_NOTE_CHECKED: Final = """
    UPDATE host SET checked = checked + %(checked)s
    WHERE id = %(host)s AND level = 'observe' RETURNING id
"""
# One statement, so that the operator's word, which begins a new period, is never overruled by what was
# read before it.
_MOVE_UP: Final = """
    UPDATE host SET level = 'enforce', level_since = now()
    WHERE id = %(host)s AND level = 'observe' AND checked > 0
        AND greatest(level_since, waived_at) <= now() - make_interval(secs => %(clean_s)s)
    RETURNING hostname, checked
"""


def _level_of(text: str) -> Level:
    """A word of the table → level; what this release does not know is judged strictly."""
    return Level.OBSERVE if text == Level.OBSERVE else Level.ENFORCE


def parse_targets(texts: Iterable[str], *, allow_insecure: bool) -> list[Target]:
    """Hosts as text → targets; those that name none are told in the log and left out."""
    targets = []
    for text in texts:
        try:
            targets.append(parse_target(text, allow_insecure=allow_insecure))
        except BadTarget as error:
            _log.warning("host left out", extra={"fields": {"error": str(error)}})
    return targets


async def list_hosts(fetcher: Fetcher, relay_url: str) -> list[str]:
    """The hosts that another relay reads and finds alive.

    Raises:
        FetchError: it did not answer, or not as it should.
    """
    names: list[str] = []
    cursor = ""
    for _ in range(MAX_PAGES):
        query = urlencode({"limit": LIST_PAGE, **({"cursor": cursor} if cursor else {})})
        status, body, _server = await fetcher.get(
            f"{relay_url.rstrip('/')}/xrpc/com.atproto.sync.listHosts?{query}",
            trusted=True,
            max_bytes=MAX_PAGE_BYTES,
            limit_s=30.0,
            hops=2,
        )
        if status != 200:
            raise FetchError(f"status {status}")
        try:
            page = orjson.loads(body)
            hosts = page["hosts"]
            names += [host["hostname"] for host in hosts if host.get("status", "active") in _ALIVE]
            cursor = page.get("cursor") or ""
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise FetchError(f"not a list of hosts: {error!r}") from None
        if not cursor or not hosts:
            break
    return names


_ALIVE: Final = ("active", "idle", "throttled")


async def seed(
    table: Table,
    fetcher: Fetcher,
    *,
    named: tuple[str, ...],
    relay_url: str,
    allow_insecure: bool,
    account_limit: int,
    ask: Ask,
) -> None:
    """Put in the hosts of the settings; or, with none there and none known, another relay's.

    Args: ask: the table, in the thread that has its connection.

    Raises:
        psycopg.Error, FetchError: not now; nothing is half done that a second call would not do.
    """
    if named:
        targets = parse_targets(named, allow_insecure=allow_insecure)
        # A host that is named is read from its first event on, and at the rate of a trusted one: that
        # its operator wants it is said, and all that it ever said is to be read.
        added = await ask(partial(table.add, targets, 0, account_limit, trusted=True))
        # Those that are there from before a host had limits, too: else an upgrade would slow them.
        trusted = await ask(partial(table.trust, [target.hostname for target in targets]))
        _log.info(
            "hosts of the settings",
            extra={"fields": {"named": len(named), "new": added, "trusted_now": trusted}},
        )
        return
    is_empty = await ask(table.is_empty)
    if relay_url and is_empty:
        names = await list_hosts(fetcher, relay_url)
        targets = parse_targets(names, allow_insecure=allow_insecure)
        added = await ask(partial(table.add, targets, None, account_limit, added_by="relay"))
        _log.info("hosts of another relay", extra={"fields": {"relay": relay_url, "new": added}})
