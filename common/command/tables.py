"""What do the relay's tables say to an operator? Every question that a command asks of them.

What an operator changes is common/control.py's: nothing is written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, LiteralString, NamedTuple

from common.command.host_words import Dropped, Host
from common.control import UnknownHost
from common.database import Connection
from common.reject import COLUMNS, RejectRow


class Account(NamedTuple):
    """A row of the table `account`. host: None before any host spoke for it with authority.

    status: as the host told. local: as this relay says. wanted_down: whether its takedown is wanted.
    """

    id: int
    did: str
    host: str | None
    active: bool
    status: str | None
    local: str | None
    rev: str | None
    commit_cid: bytes | None
    data_cid: bytes | None
    seq: int
    desynchronized: bool
    discontinuities: int
    wanted_down: bool


class Known(NamedTuple):
    """What the DID document of an account said when it was last asked for."""

    outcome: str
    curve: str | None
    host: str | None
    why: str | None
    asked_at: datetime


class Shard(NamedTuple):
    """A row of the table `shard`. lease_s: how long its lease lasts. load: see ingest.load."""

    number: int
    owner: int | None
    epoch: int
    lease_s: float
    hosts: int
    load: float


class Member(NamedTuple):
    """An ingest process. seen_s: how long ago it was. alive: that is not too long."""

    number: int
    seen_s: float
    alive: bool


class Tables:
    """The tables, over one connection. Every method raises psycopg.Error."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- hosts ---

    def hosts(self) -> list[Host]:
        """All hosts but those that were deleted, by name."""
        return [Host(*row) for row in self._rows(_HOSTS + " ORDER BY hostname")]

    def host(self, text: str) -> Host:
        """The host that an operator means.

        Raises:
            UnknownHost: no host of that name has a row.
        """
        name = hostname_of(text)
        for row in self._rows(_HOSTS + " AND hostname = %(name)s", {"name": name}):
            return Host(*row)
        raise UnknownHost(name)

    def drops(self, host: Host) -> list[Dropped]:
        """What was ever dropped of a host, the most frequent reason first."""
        return [Dropped(*row) for row in self._rows(_DROPS, {"host": host.id})]

    def known_hosts(self, names: Sequence[str]) -> set[str]:
        """Those of some names that have a row, and were not deleted."""
        return {row[0] for row in self._rows(_KNOWN_HOSTS, {"names": list(names)})}

    def ban_over(self, domains: Sequence[str]) -> str | None:
        """The widest of some domains that is banned."""
        rows = self._rows(_BAN_OVER, {"domains": list(domains)})
        return rows[0][0] if rows else None

    # --- accounts ---

    def account(self, did: str) -> Account | None:
        """One account."""
        rows = self._rows(_ACCOUNTS + " WHERE a.did = %(did)s", {"did": did})
        return Account(*rows[0]) if rows else None

    def document(self, did: str) -> Known | None:
        """What is kept of an account's DID document."""
        rows = self._rows(_DOCUMENT, {"did": did})
        return Known(*rows[0]) if rows else None

    def accounts(
        self, *, host: Host | None, part: str, status: str | None, after: int, limit: int
    ) -> list[Account]:
        """Accounts in the order in which they were first seen, behind the row `after`.

        Args:
            host: of this one; None: of all. part: of their DID. status: as `status_of` says it.
        """
        values = {
            "host": host.id if host is not None else None,
            "part": part, "status": status, "after": after, "limit": limit,
        }  # fmt: skip
        return [Account(*row) for row in self._rows(_ACCOUNTS + _CHOSEN_ACCOUNTS, values)]

    # --- what was dropped ---

    def rejects(
        self, host: Host | None, did: str | None, limit: int, *, frames: bool
    ) -> list[RejectRow]:
        """What was dropped of a host, of an account, or of both together; newest first."""
        query: LiteralString = "SELECT " + COLUMNS + (", r.frame" if frames else "")
        query += " FROM reject r LEFT JOIN host h ON h.id = r.host_id WHERE true"
        if host is not None:
            query += " AND r.host_id = %(host)s"
        if did is not None:
            query += " AND r.did = %(did)s"
        query += " ORDER BY r.id DESC LIMIT %(limit)s"
        values = {"host": host.id if host is not None else None, "did": did, "limit": limit}
        return [RejectRow(*row) for row in self._rows(query, values)]

    # --- who reads what ---

    def shards(self) -> tuple[list[Shard], list[Member]]:
        """All shards, and the ingest processes of all machines that ever were; each by number."""
        return [Shard(*row) for row in self._rows(_SHARDS)], [
            Member(*row) for row in self._rows(_MEMBERS)
        ]

    def _rows(
        self, query: LiteralString, values: dict[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()


def hostname_of(text: str) -> str:
    """A host as operators write it, perhaps as a URL → its name in the table."""
    _scheme, mark, rest = text.strip().lower().partition("://")
    return (rest if mark else text.strip().lower()).rstrip("/")


def status_of(account: Account) -> str:
    """What consumers are told of an account: this relay's word, or its host's."""
    if account.local is not None:
        return account.local
    return "active" if account.active else account.status or "inactive"


# In the order of Host. A domain is banned with all below it; a port is no part of a domain.
_HOSTS: Final[LiteralString] = """
    SELECT id, hostname, tls, wanted, observed, connected, extract(epoch FROM changed_at)::float8,
        failures, extract(epoch FROM next_dial_at)::float8, last_error,
        extract(epoch FROM last_event_at)::float8, last_seq, cursor, generation, restarts, events,
        accounts, account_limit, per_second, per_hour, per_day, limited_by,
        extract(epoch FROM limited_until)::float8, trusted, level,
        extract(epoch FROM level_since)::float8, discontinuous, waived,
        extract(epoch FROM waived_at)::float8, checked, added_by,
        extract(epoch FROM created_at)::float8, server_did, alias_of, alerts_silenced,
        foreign_percent,
        (SELECT min(domain) FROM domain_ban
            WHERE right('.' || split_part(hostname, ':', 1), length(domain) + 1) = '.' || domain)
    FROM host WHERE wanted <> 'deleted'
"""
_DROPS: Final[LiteralString] = """
    SELECT reason, count, extract(epoch FROM last_at)::float8 FROM host_drop
    WHERE host_id = %(host)s ORDER BY count DESC, reason
"""
_KNOWN_HOSTS: Final[LiteralString] = (
    "SELECT hostname FROM host WHERE hostname = ANY(%(names)s) AND wanted <> 'deleted'"
)
_BAN_OVER: Final[LiteralString] = (
    "SELECT domain FROM domain_ban WHERE domain = ANY(%(domains)s) ORDER BY length(domain) LIMIT 1"
)
# In the order of Account.
_ACCOUNTS: Final[LiteralString] = """
    SELECT a.id, a.did, h.hostname, a.active, a.status, a.local, a.rev, a.commit_cid, a.data_cid,
        a.seq, a.desynchronized, a.discontinuities, t.did IS NOT NULL
    FROM account a LEFT JOIN host h ON h.id = a.host_id LEFT JOIN takedown t ON t.did = a.did
"""
_CHOSEN_ACCOUNTS: Final[LiteralString] = """
    WHERE a.id > %(after)s
        AND (%(host)s::int IS NULL OR a.host_id = %(host)s)
        AND (%(part)s = '' OR position(%(part)s IN a.did) > 0)
        AND (%(status)s::text IS NULL OR %(status)s = coalesce(
            a.local, CASE WHEN a.active THEN 'active' ELSE coalesce(a.status, 'inactive') END))
    ORDER BY a.id LIMIT %(limit)s
"""
_SHARDS: Final[LiteralString] = """
    SELECT number, owner, epoch, extract(epoch FROM expires_at - now())::float8, hosts, load::float8
    FROM shard ORDER BY number
"""
# As long as a lease lasts: ingest.share.LEASE_S.
_MEMBERS: Final[LiteralString] = """
    SELECT number, extract(epoch FROM now() - seen_at)::float8, now() - seen_at < interval '6 s'
    FROM member ORDER BY number
"""
_DOCUMENT: Final[LiteralString] = (
    "SELECT outcome, curve, host, why, asked_at FROM identity WHERE did = %(did)s"
)
