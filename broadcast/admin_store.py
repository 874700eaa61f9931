"""What does PostgreSQL tell an operator? Every question of the admin API, and the state
of alerts; what an operator changes is common.control's.

Over the same connection as common.control's actions, one for each request, in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, LiteralString

from broadcast.admin_answers import AccountRow, HostRow
from common.database import Connection

ROWS_AT_ONCE: Final = 200
"""A millisecond or two of work."""
# A ban of a domain concerns the name itself, without its port, and all below it.
_HOSTS: Final[LiteralString] = """
    SELECT
        h.id, h.hostname, h.tls, h.created_at, h.wanted, h.observed, h.last_error, h.cursor, h.generation,
        h.account_limit, h.trusted, h.level, h.level_since, h.per_second, h.per_hour, h.per_day,
        h.added_by, h.server_did, h.alias_of, h.alerts_silenced, h.alert_state, h.alert_at, h.connected,
        h.changed_at, h.failures, h.next_dial_at, h.last_event_at, h.last_seq, h.events, h.limited_by,
        h.limited_until, h.restarts, h.accounts,
        (SELECT min(d.domain) FROM domain_ban d
         WHERE '.' || split_part(h.hostname, ':', 1) LIKE '%%.' || d.domain)
    FROM host h WHERE h.wanted <> 'deleted'
"""
_ONE_HOST: Final[LiteralString] = _HOSTS + " AND h.hostname = %(hostname)s"
_LIST_HOSTS: Final[LiteralString] = (
    _HOSTS + " AND h.id > %(after)s AND h.hostname LIKE %(like)s ORDER BY h.id LIMIT %(limit)s"
)
_ACCOUNTS: Final[LiteralString] = """
    SELECT a.id, a.did, h.hostname, a.active, a.status, a.local, t.did IS NOT NULL, a.rev,
        a.desynchronized
    FROM account a LEFT JOIN host h ON h.id = a.host_id LEFT JOIN takedown t ON t.did = a.did
"""
_OF_HOST: Final[LiteralString] = (
    _ACCOUNTS
    + " WHERE a.host_id = %(host)s"
    + " AND a.id > %(after)s ORDER BY a.id LIMIT %(limit)s"
)
_SEARCH: Final[LiteralString] = (
    _ACCOUNTS + " WHERE a.did LIKE %(like)s AND a.id > %(after)s ORDER BY a.id LIMIT %(limit)s"
)
_EXACT: Final[LiteralString] = _ACCOUNTS + " WHERE a.did = %(did)s AND a.id > %(after)s"
_SET_ALERT: Final[LiteralString] = """
    UPDATE host SET alert_state = %(state)s, alert_at = %(at)s
    WHERE hostname = %(hostname)s AND NOT alerts_silenced AND (alert_at IS NULL OR alert_at < %(at)s)
"""

# What is asked stands in the outer WHERE: it is asked again of a row that another one has just moved.
_WARN: Final[LiteralString] = """
    UPDATE host SET alert_state = 'warning', alert_at = clock_timestamp()
    WHERE wanted = 'active' AND NOT alerts_silenced
        AND accounts > 0 AND accounts >= %(share)s * account_limit
        AND (alert_state <> 'warning' OR alert_at IS NULL
             OR alert_at < clock_timestamp() - %(repeat_s)s * interval '1 second')
    RETURNING id, hostname, accounts, account_limit, alert_at
"""
_RECOVER: Final[LiteralString] = """
    UPDATE host SET alert_state = 'ok', alert_at = clock_timestamp()
    WHERE alert_state = 'warning' AND accounts < %(share)s * account_limit
    RETURNING id, hostname, accounts, account_limit, alert_at
"""


class AdminStore:
    """Questions over one open connection. Every method raises psycopg.Error where it fails."""

    def __init__(self, connection: Connection) -> None:
        """The connection is the caller's to close."""
        self._connection = connection

    def host(self, hostname: str) -> HostRow | None:
        """One host, unless it was deleted."""
        rows = self._rows(_ONE_HOST, hostname=hostname)
        return HostRow(*rows[0]) if rows else None

    def hosts(self, after: int, limit: int, part: str = "") -> list[HostRow]:
        """Hosts behind a row number whose name has this part, oldest first."""
        rows = self._rows(_LIST_HOSTS, after=after, limit=limit, like=f"%{_escaped(part)}%")
        return [HostRow(*row) for row in rows]

    def accounts_of(self, host: int, after: int, limit: int) -> list[AccountRow]:
        """Accounts of a host, by its number, behind a row number, oldest first."""
        rows = self._rows(_OF_HOST, host=host, after=after, limit=limit)
        return [AccountRow(*row) for row in rows]

    def accounts(self, beginning: str, after: int, limit: int) -> list[AccountRow]:
        """Accounts whose DID is this, or else begins with it."""
        rows = self._rows(_EXACT, did=beginning, after=after)
        if not rows:
            like = f"{_escaped(beginning)}%"
            rows = self._rows(_SEARCH, like=like, after=after, limit=limit)
        return [AccountRow(*row) for row in rows]

    def set_alert(self, hostname: str, state: str, at: datetime) -> bool:
        """A sibling relay has told an alert; False when ours is newer, or silenced."""
        values = {"hostname": hostname, "state": state, "at": at}
        return bool(self._connection.execute(_SET_ALERT, values).rowcount)

    def claim_warnings(self, share: float, repeat_s: float) -> Sequence[Any]:
        """Move hosts that are near their account limit, and due to be told → id, name, accounts, limit, when."""
        return self._rows(_WARN, share=share, repeat_s=repeat_s)

    def claim_recoveries(self, share: float) -> Sequence[Any]:
        """Move those that are no longer near it → the same."""
        return self._rows(_RECOVER, share=share)

    def _rows(self, statement: LiteralString, **values: object) -> Sequence[Any]:
        cursor = self._connection.execute(statement, values)
        rows: list[Any] = []
        # In parts: while rows become objects, no other thread runs, the loop's neither.
        while part := cursor.fetchmany(ROWS_AT_ONCE):
            rows += part
        return rows


def _escaped(text: str) -> str:
    """Text that stands for itself in LIKE."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
