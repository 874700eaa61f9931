"""Which statements does ingest send to the table `host`? All of them, in one place.

The database is asked on a thread, by one connection of this module's own; while it is away the
hosts known so far go on being read.

Source: S-HST-03, S-HST-07.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import psycopg

from common.control import READ_VERSION, parents
from common.database import connect
from common.limits import TRUSTED_ACCOUNT_LIMIT, is_trusted
from common.owner import Owner
from common.target import Target
from common.verdict import Level
from ingest.hosts import BANNED, HostRow, MovedUp
from ingest.levels import Seen

OBSERVE_CLEAN_S: Final = 72 * 3600.0
"""How long nothing must have been waived of a host before it moves up, in seconds."""


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
