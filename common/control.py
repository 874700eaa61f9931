"""What can an operator change while the relay runs, and how does every process hear of it?

    admin API ─┐                       ┌─ row changed, audit row, version + 1: one transaction
    command   ─┴─▶ ControlPlane.action ┤
                                       └─ every process looks at the version, a few times a second

Each action says what is wanted; what comes of it is observed elsewhere. Each may be repeated: one that
changes nothing returns False and leaves no trace. It is the same for the admin API and for the command.

Source: design section 6; the reference relay's admin API.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, LiteralString, NamedTuple

from common.database import Connection
from common.verdict import Level

LOOK_S: Final = 0.25
"""How often a process looks at the version, in seconds: what an operator says counts everywhere within
a second."""
AUDIT_ROWS: Final = 100_000
"""Audit rows that are kept, about 200 bytes each."""
READ_VERSION: Final[LiteralString] = "SELECT value FROM relay WHERE name = 'control_version'"
"""What changes with every action; no row before the first."""


class Action(StrEnum):
    """What the audit log calls an action."""

    ADD_HOST = "add_host"
    DELETE_HOST = "delete_host"
    BAN_HOST = "ban_host"
    UNBAN_HOST = "unban_host"
    DIAL_HOST = "dial_host"
    SET_LIMITS = "set_limits"
    SET_TRUST = "set_trust"
    SET_LEVEL = "set_level"
    SET_CURSOR = "set_cursor"
    SILENCE_ALERTS = "silence_alerts"
    NAME_ALIAS = "name_alias"
    BAN_DOMAIN = "ban_domain"
    UNBAN_DOMAIN = "unban_domain"
    TAKE_DOWN = "take_down"
    REVERSE_TAKEDOWN = "reverse_takedown"
    SET_CONTROL = "set_control"


class UnknownHost(LookupError):
    """No host of this name has a row."""


class StillBanned(Exception):
    """A banned host is not deleted: its ban would go with its row, and anybody could have it added again."""

    def __str__(self) -> str:
        return (
            f"{self.args[0]} is banned, and once deleted anybody could have it added again; "
            "leave it banned, or unban it first"
        )


class Limits(NamedTuple):
    """What an operator may set of a host; None leaves it, and RESET goes back to the formula."""

    account_limit: int | None = None
    per_second: int | None = None
    per_hour: int | None = None
    per_day: int | None = None


RESET: Final = -1
"""Of an event limit: by the formula again (common/limits.py)."""


class Audited(NamedTuple):
    """One row of the audit log."""

    id: int
    at: datetime
    who: str
    action: str
    subject: str
    was: str | None
    now: str | None


class NewHost(NamedTuple):
    """A host to add. cursor: 0 from its first event, None live. added_by: see the schema."""

    hostname: str
    tls: bool
    account_limit: int
    trusted: bool
    cursor: int | None
    added_by: str
    server_did: str | None = None


def parents(hostname: str) -> list[str]:
    """The domains whose ban concerns a host: its name without a port, and all above it."""
    name = hostname.rpartition(":")[0] if ":" in hostname and "]" not in hostname else hostname
    labels = name.split(".")
    return [".".join(labels[at:]) for at in range(len(labels))]


class ControlPlane:
    """Actions over one open connection, by one person.

    Every method raises psycopg.Error where the database is away or refuses.
    """

    def __init__(self, connection: Connection, who: str) -> None:
        """Args: who: for the audit log, see the schema. The connection is the caller's to close."""
        self._connection = connection
        self._who = who

    # --- hosts ---

    def add_host(self, host: NewHost) -> bool:
        """Put a host in, or one that was deleted back. One that is there is left as it is."""
        values = host._asdict() | {"domains": parents(host.hostname)}
        return self._change(Action.ADD_HOST, host.hostname, _ADD_HOST, values, now=host.added_by)

    def delete_host(self, hostname: str) -> bool:
        """Read a host no more, and show it to nobody.

        Raises:
            UnknownHost, StillBanned: see there.
        """
        values = {"hostname": hostname}
        if self._change(Action.DELETE_HOST, hostname, _DELETE_HOST, values, "active", "deleted"):
            return True
        self._known(hostname)
        raise StillBanned(hostname)

    def ban_host(self, hostname: str) -> bool:
        """Read a host no more. Raises: UnknownHost."""
        return self._set_wanted(Action.BAN_HOST, hostname, "banned")

    def unban_host(self, hostname: str) -> bool:
        """Read a host again, at once. Raises: UnknownHost."""
        return self._set_wanted(Action.UNBAN_HOST, hostname, "active")

    def dial_host(self, hostname: str) -> bool:
        """Have a host dialled at once, and its connection, where there is one, begun anew. Raises: UnknownHost."""
        self._known(hostname)
        return self._change(Action.DIAL_HOST, hostname, _DIAL_HOST, {"hostname": hostname})

    def set_limits(self, hostname: str, limits: Limits) -> bool:
        """Raises: UnknownHost."""
        self._known(hostname)
        values = limits._asdict() | {"hostname": hostname}
        was = self._one(_READ_LIMITS, {"hostname": hostname})
        with self._connection.transaction():
            if not self._connection.execute(_SET_LIMITS, values).rowcount:
                return False
            now = self._one(_READ_LIMITS, {"hostname": hostname})
            self._note(Action.SET_LIMITS, hostname, _words(was), _words(now))
        return True

    def set_trusted(self, hostname: str, trusted: bool) -> bool:  # noqa: FBT001 - it is what is set
        """Whether a host counts as trusted (common/limits.py). Raises: UnknownHost."""
        self._known(hostname)
        values = {"hostname": hostname, "value": trusted}
        words = str(trusted).lower()
        return self._change(Action.SET_TRUST, hostname, _SET_TRUSTED, values, now=words)

    def set_level(self, hostname: str, level: Level) -> bool:
        """How strictly a host is judged; a level that is said twice changes nothing. Raises: UnknownHost."""
        self._known(hostname)
        values = {"hostname": hostname, "value": level.value}
        return self._change(Action.SET_LEVEL, hostname, _SET_LEVEL, values, now=level.value)

    def set_cursor(self, hostname: str, cursor: int | None) -> bool:
        """Have a host read from another place: behind `cursor`; 0: from its first event; None: live.

        A new generation of its numbers begins, so that what comes again is judged again.

        Raises:
            UnknownHost: see there.
        """
        was = self._known(hostname)[1]
        values = {"hostname": hostname, "value": cursor}
        said = ("live" if was is None else str(was)), ("live" if cursor is None else str(cursor))
        return self._change(Action.SET_CURSOR, hostname, _SET_CURSOR, values, *said)

    def silence_alerts(self, hostname: str, silenced: bool) -> bool:  # noqa: FBT001
        """Whether to say nothing of how near a host is to its account limit. Raises: UnknownHost."""
        self._known(hostname)
        values = {"hostname": hostname, "value": silenced}
        words = str(silenced).lower()
        return self._change(Action.SILENCE_ALERTS, hostname, _SILENCE, values, now=words)

    def name_alias(self, hostname: str, canonical: str, server_did: str) -> bool:
        """Read a host no more, as another name of one that is read; False where that one is not."""
        values = {"hostname": hostname, "canonical": canonical, "server_did": server_did}
        return self._change(Action.NAME_ALIAS, hostname, _NAME_ALIAS, values, now=canonical)

    # --- domains ---

    def ban_domain(self, domain: str) -> bool:
        """Read no host at or below a domain, given in lower case."""
        return self._change(Action.BAN_DOMAIN, domain, _BAN_DOMAIN, {"domain": domain})

    def unban_domain(self, domain: str) -> bool:
        """The inverse; hosts that are banned by name stay so."""
        return self._change(Action.UNBAN_DOMAIN, domain, _UNBAN_DOMAIN, {"domain": domain})

    def banned_domains(self) -> list[str]:
        """All of them, in order."""
        return [row[0] for row in self._connection.execute(_BANNED_DOMAINS)]

    # --- accounts ---

    def take_down(self, did: str) -> bool:
        """Hide an account, known or not."""
        return self._change(Action.TAKE_DOWN, did, _TAKE_DOWN, {"did": did})

    def reverse_takedown(self, did: str) -> bool:
        """The inverse; any other state of the account stays."""
        return self._change(Action.REVERSE_TAKEDOWN, did, _REVERSE, {"did": did})

    def takedowns(self, after: str, limit: int) -> list[str]:
        """DIDs that are taken down, in order, behind one of them."""
        rows = self._connection.execute(_TAKEDOWNS, {"after": after, "limit": limit})
        return [row[0] for row in rows]

    # --- what is set for the whole relay ---

    def set_control(self, name: str, value: str) -> bool:
        """One of the names of the table `control`."""
        was = self.control().get(name)
        values = {"name": name, "value": value}
        return self._change(Action.SET_CONTROL, name, _SET_CONTROL, values, was, value)

    def control(self) -> dict[str, str]:
        """What was set, by name; the rest is as the settings say."""
        return dict(self._connection.execute(_CONTROL).fetchall())

    # --- looking back ---

    def audit(self, before: int, limit: int, subject: str | None = None) -> list[Audited]:
        """The newest rows with a lower id, newest first. subject: of these alone."""
        values = {"before": before, "limit": limit, "subject": subject}
        return [Audited(*row) for row in self._connection.execute(_AUDIT, values)]

    # --- the rest ---

    def _known(self, hostname: str) -> tuple[str, int | None]:
        """Raises: UnknownHost."""
        row = self._one(_KNOWN, {"hostname": hostname})
        if row is None:
            raise UnknownHost(hostname)
        return row[0], row[1]

    def _set_wanted(self, action: Action, hostname: str, wanted: str) -> bool:
        was = self._known(hostname)[0]
        values = {"hostname": hostname, "value": wanted}
        return self._change(action, hostname, _SET_WANTED, values, was, wanted)

    def _change(
        self,
        action: Action,
        subject: str,
        statement: LiteralString,
        values: dict[str, Any],
        was: str | None = None,
        now: str | None = None,
    ) -> bool:
        with self._connection.transaction():
            if not self._connection.execute(statement, values).rowcount:
                return False
            self._note(action, subject, was, now)
        return True

    def _note(self, action: Action, subject: str, was: str | None, now: str | None) -> None:
        values = {"who": self._who, "action": action, "subject": subject, "was": was, "now": now}
        self._connection.execute(_NOTE, values)
        self._connection.execute(_FORGET, {"kept": AUDIT_ROWS})
        self._connection.execute(_RAISE_VERSION)

    def _one(self, statement: LiteralString, values: dict[str, Any]) -> tuple[Any, ...] | None:
        return self._connection.execute(statement, values).fetchone()


def _words(row: Sequence[Any] | None) -> str | None:
    if row is None:
        return None
    names = ("accounts", "second", "hour", "day")
    return " ".join(f"{n}={'formula' if v is None else v}" for n, v in zip(names, row, strict=True))


_KNOWN: Final[LiteralString] = (
    "SELECT wanted, cursor FROM host WHERE hostname = %(hostname)s AND wanted <> 'deleted'"
)
# What a host was before it was deleted does not count for it again, but for its number and its cursor.
_ADD_HOST: Final[LiteralString] = """
    INSERT INTO host AS known (hostname, tls, account_limit, trusted, cursor, added_by, server_did)
    SELECT %(hostname)s, %(tls)s::bool, %(account_limit)s::int, %(trusted)s::bool,
        %(cursor)s::bigint, %(added_by)s, %(server_did)s
    WHERE NOT EXISTS (SELECT FROM domain_ban WHERE domain = ANY(%(domains)s))
    ON CONFLICT (hostname) DO UPDATE SET wanted = 'active', tls = excluded.tls,
        account_limit = excluded.account_limit, trusted = excluded.trusted,
        added_by = excluded.added_by, server_did = excluded.server_did, created_at = now(),
        alias_of = NULL, level = 'enforce', level_since = now(), waived_at = NULL, checked = 0,
        per_second = NULL, per_hour = NULL, per_day = NULL, alerts_silenced = false, alert_state = 'ok',
        dial_asked = known.dial_asked + 1
    WHERE known.wanted = 'deleted'
"""
_SET_WANTED: Final[LiteralString] = """
    UPDATE host SET wanted = %(value)s, dial_asked = dial_asked + 1
    WHERE hostname = %(hostname)s AND wanted <> %(value)s
"""
_DELETE_HOST: Final[LiteralString] = """
    UPDATE host SET wanted = 'deleted', dial_asked = dial_asked + 1
    WHERE hostname = %(hostname)s AND wanted = 'active'
"""
_DIAL_HOST: Final[LiteralString] = (
    "UPDATE host SET dial_asked = dial_asked + 1 WHERE hostname = %(hostname)s"
)
_READ_LIMITS: Final[LiteralString] = (
    "SELECT account_limit, per_second, per_hour, per_day FROM host WHERE hostname = %(hostname)s"
)
_SET_LIMITS: Final[LiteralString] = """
    UPDATE host SET account_limit = wish.account_limit, per_second = wish.per_second,
        per_hour = wish.per_hour, per_day = wish.per_day
    FROM (
        SELECT id, coalesce(%(account_limit)s, account_limit) AS account_limit,
            nullif(coalesce(%(per_second)s, per_second), -1) AS per_second,
            nullif(coalesce(%(per_hour)s, per_hour), -1) AS per_hour,
            nullif(coalesce(%(per_day)s, per_day), -1) AS per_day
        FROM host WHERE hostname = %(hostname)s
    ) AS wish
    WHERE host.id = wish.id
        AND (host.account_limit, host.per_second, host.per_hour, host.per_day)
            IS DISTINCT FROM (wish.account_limit, wish.per_second, wish.per_hour, wish.per_day)
"""
_SET_TRUSTED: Final[LiteralString] = (
    "UPDATE host SET trusted = %(value)s WHERE hostname = %(hostname)s AND trusted <> %(value)s"
)
_SILENCE: Final[LiteralString] = """
    UPDATE host SET alerts_silenced = %(value)s, alert_state = 'ok'
    WHERE hostname = %(hostname)s AND alerts_silenced <> %(value)s
"""
# A word said twice changes nothing, least of all the beginning of the clean period.
_SET_LEVEL: Final[LiteralString] = """
    UPDATE host SET level = %(value)s, level_since = now(), waived_at = NULL, checked = 0
    WHERE hostname = %(hostname)s AND level <> %(value)s
"""
_SET_CURSOR: Final[LiteralString] = """
    UPDATE host SET cursor = %(value)s, generation = generation + 1, dial_asked = dial_asked + 1
    WHERE hostname = %(hostname)s AND cursor IS DISTINCT FROM %(value)s
"""
_NAME_ALIAS: Final[LiteralString] = """
    UPDATE host SET alias_of = %(canonical)s, server_did = %(server_did)s
    WHERE hostname = %(hostname)s AND alias_of IS DISTINCT FROM %(canonical)s AND EXISTS (
        SELECT FROM host WHERE hostname = %(canonical)s AND hostname <> %(hostname)s
            AND wanted = 'active' AND alias_of IS NULL
    )
"""
_BAN_DOMAIN: Final[LiteralString] = (
    "INSERT INTO domain_ban (domain) VALUES (%(domain)s) ON CONFLICT (domain) DO NOTHING"
)
_UNBAN_DOMAIN: Final[LiteralString] = "DELETE FROM domain_ban WHERE domain = %(domain)s"
_BANNED_DOMAINS: Final[LiteralString] = "SELECT domain FROM domain_ban ORDER BY domain"
_TAKE_DOWN: Final[LiteralString] = (
    "INSERT INTO takedown (did) VALUES (%(did)s) ON CONFLICT (did) DO NOTHING"
)
_REVERSE: Final[LiteralString] = "DELETE FROM takedown WHERE did = %(did)s"
_TAKEDOWNS: Final[LiteralString] = (
    "SELECT did FROM takedown WHERE did > %(after)s ORDER BY did LIMIT %(limit)s"
)
_SET_CONTROL: Final[LiteralString] = """
    INSERT INTO control AS known (name, value) VALUES (%(name)s, %(value)s)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE known.value <> excluded.value
"""
_CONTROL: Final[LiteralString] = "SELECT name, value FROM control"
_AUDIT: Final[LiteralString] = """
    SELECT id, at, who, action, subject, was, now FROM audit
    WHERE id < %(before)s AND (%(subject)s::text IS NULL OR subject = %(subject)s)
    ORDER BY id DESC LIMIT %(limit)s
"""
_NOTE: Final[LiteralString] = """
    INSERT INTO audit (who, action, subject, was, now)
    VALUES (%(who)s, %(action)s, %(subject)s, %(was)s, %(now)s)
"""
_FORGET: Final[LiteralString] = (
    "DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - %(kept)s"
)
_RAISE_VERSION: Final[LiteralString] = """
    INSERT INTO relay AS known (name, value) VALUES ('control_version', 1)
    ON CONFLICT (name) DO UPDATE SET value = known.value + 1
"""
