"""What does persist read from PostgreSQL and write to it? Every statement, in one place.

The tables are common/schema.sql's. One object is one connection, and belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from common.control import READ_VERSION
from common.database import Connection, Rollback
from common.envelope import AccountState, HostCursor, ShardClaim
from common.hidden import Hidden
from common.owner import Owner
from persist.checkpoint import KnownHost
from persist.host_numbers import Reconciled
from persist.quotas import HostCount
from persist.view import Changes
from persist.wishes import Look, Wanted


class ViewWentBack(Exception):
    """PostgreSQL has lost what it had confirmed; only a start from the log can make it whole."""


class Reached(NamedTuple):
    """What a database last heard of the log.

    applied_seq: had been durable. age_s: how long ago that was said, in seconds; None where an
    earlier release said it.
    """

    applied_seq: int
    age_s: float | None


class Store:
    """One connection to PostgreSQL, used by the thread that made this."""

    def __init__(self, connection: Connection) -> None:
        """Take over an open connection, which is closed by `close`."""
        self._connection = connection
        self._owner = Owner("a database connection")

    def find_states(self, dids: Sequence[str]) -> dict[str, AccountState]:
        """The states of those accounts that are known.

        Raises:
            psycopg.Error: the database is away, or refuses.
        """
        rows = self._own().execute(_FIND_STATES, (list(dids),), binary=True)
        return {row[0]: AccountState(*row[1:]) for row in rows}

    def read_positions(self) -> tuple[int, int]:
        """(applied_seq, scan_seq); 0 where nothing was ever written.

        Raises:
            psycopg.Error: see `find_states`.
        """
        found = {row[0]: row[1] for row in self._own().execute(_READ_POSITIONS)}
        return found.get("applied_seq", 0), found.get("scan_seq", 0)

    def read_reached(self) -> Reached | None:
        """How far the log was known to reach; None in a database that no log was ever told to.

        Raises:
            psycopg.Error: see `find_states`.
        """
        row = self._own().execute(_READ_REACHED).fetchone()
        return Reached(row[0], row[1]) if row is not None else None

    def read_cursors(self) -> list[HostCursor]:
        """The generation and the saved cursor of each host; -1 where none was saved yet.

        Raises:
            psycopg.Error: see `find_states`.
        """
        return [HostCursor(*row) for row in self._own().execute(_READ_CURSORS)]

    def read_hosts(self) -> list[KnownHost]:
        """What a new database has to know of each host.

        Raises:
            psycopg.Error: see `find_states`.
        """
        return [KnownHost(*row) for row in self._own().execute(_READ_HOSTS)]

    def put_hosts_back(self, found: Reconciled, cursors: Sequence[HostCursor]) -> None:
        """Add hosts that this database never had, or has no more, with the cursors they had.

        Raises:
            psycopg.Error: see `find_states`.
        """
        connection, of = self._own(), {cursor.host: cursor for cursor in cursors}
        for host in found.missing + found.renumbered:
            saved = of.get(host.id, HostCursor(host.id, 1, -1))
            values = {**host._asdict(), "gen": saved.generation, "seq": saved.seq}
            connection.execute(_ADD_NUMBERED_HOST if host in found.missing else _ADD_HOST, values)

    def carry_cursors(
        self, moved: Mapping[int, KnownHost], cursors: Sequence[HostCursor]
    ) -> list[KnownHost]:
        """Let hosts go on where they were under other numbers → those that were not as far.

        Args:
            moved: see Reconciled. cursors: by the numbers that they had.

        Raises:
            psycopg.Error: see `find_states`.
        """
        connection, of = self._own(), {cursor.host: cursor for cursor in cursors}
        carried = []
        for number, host in moved.items():
            saved = of.get(host.id)
            if saved is not None:
                values = {"host": number, "gen": saved.generation, "seq": saved.seq}
                if connection.execute(_WRITE_CURSOR, values).rowcount:
                    carried.append(host)
        return carried

    def part_hosts(self, generations: Mapping[int, int], highest: int) -> None:
        """Keep what the log says of hosts that the database does not have away from those it has.

        Args:
            generations: number of a host → the newest generation that was somebody else's.
            highest: number that the log names; no new host gets one up to it.

        Raises:
            psycopg.Error: see `find_states`.
        """
        connection = self._own()
        for host, generation in generations.items():
            connection.execute(_RAISE_GENERATION, {"host": host, "gen": generation})
        connection.execute(_RAISE_HOST_NUMBERS, {"highest": highest})

    def forget_documents(self) -> None:
        """Keep no DID document: those that are here are older than what was judged by newer ones.

        Raises:
            psycopg.Error: see `find_states`.
        """
        self._own().execute(_FORGET_DOCUMENTS)

    def read_epochs(self) -> list[ShardClaim]:
        """The epoch of each shard's last lease.

        Raises:
            psycopg.Error: see `find_states`.
        """
        return [ShardClaim(*row) for row in self._own().execute(_READ_EPOCHS)]

    def raise_epochs(self, known: Sequence[ShardClaim]) -> None:
        """See to it that each shard's next lease gets a higher epoch than was ever known.

        Raises:
            psycopg.Error: see `find_states`.
        """
        if known:
            shards, epochs = zip(*known, strict=True)
            self._own().execute(_RAISE_EPOCHS, (list(shards), list(epochs)))

    def read_counts(self) -> list[HostCount]:
        """How many accounts each host has.

        Raises:
            psycopg.Error: see `find_states`.
        """
        return [HostCount(*row) for row in self._own().execute(_READ_COUNTS)]

    def read_wanted(self, look: Look) -> Wanted:
        """What the operator wants, where that has changed since `look` saw it.

        Raises:
            ViewWentBack: a backup was restored under an open connection.
            psycopg.Error: see `find_states`.
        """
        connection = self._own()
        # Order: what changes behind it is seen by the next look.
        version = self.read_version()
        if version == look.version:
            return Wanted(version)
        if look.version is not None and version < look.version:
            # What it lacks was said since, and is not to be forgotten beside the log, too.
            raise ViewWentBack(
                f"the operator's words had version {look.version}, and the database now has {version}"
            )
        return Wanted(
            version,
            self.read_hosts(),
            [row[0] for row in connection.execute(_READ_DOMAINS)],
            [(row[0], row[1]) for row in connection.execute(_READ_WANTED, (look.dids,))],
        )

    def read_version(self) -> int:
        """See common.control; 0 before the first action.

        Raises:
            psycopg.Error: see `find_states`.
        """
        row = self._own().execute(READ_VERSION).fetchone()
        return row[0] if row else 0

    def find_over_limit(self, hosts: Sequence[tuple[int, int]]) -> list[str]:
        """Accounts over the limits of their hosts, the first seen first. hosts: (host, how many).

        Raises:
            psycopg.Error: see `find_states`.
        """
        connection = self._own()
        return [
            row[0] for host in hosts for row in connection.execute(_FIND_OVER_LIMIT, host)
        ]  # fmt: skip

    def read_taken_down(self) -> list[tuple[str, int]]:
        """Accounts that are taken down, as far as the log has come: (DID, seq of its last event).

        Raises:
            psycopg.Error: see `find_states`.
        """
        return [(row[0], row[1]) for row in self._own().execute(_READ_TAKEN_DOWN)]

    def put_words_back(self, hidden: Hidden, *, and_keep: bool = False) -> int:
        """Let the operator's words be those that were said in the log, where this database is older.

        Returns how many takedowns and bans it lacked, or still had.

        Args: and_keep: those that it has stay, as some may have been said since.

        Raises:
            psycopg.Error: see `find_states`.
        """
        connection = self._own()
        dids, hosts = list(hidden.taken_down), hidden.hosts
        changed = connection.execute(_ADD_TAKEDOWNS, (dids,)).rowcount
        changed += connection.execute(_ADD_DOMAINS, (hidden.domains,)).rowcount
        if not and_keep:
            changed += connection.execute(_REMOVE_TAKEDOWNS, (dids,)).rowcount
            changed += connection.execute(_REMOVE_DOMAINS, (hidden.domains,)).rowcount
        names, wanted = list(hosts), list(hosts.values())
        changed += connection.execute(_SET_WANTED, (names, wanted)).rowcount
        version = max(hidden.version, self.read_version() + and_keep)
        connection.execute(_RAISE_VERSION, (version,))
        return changed

    def keep_takedowns(self, dids: Sequence[str]) -> int:
        """Let these be taken down; how many were not.

        Raises:
            psycopg.Error: see `find_states`.
        """
        return self._own().execute(_ADD_TAKEDOWNS, (list(dids),)).rowcount

    def flush(self, changes: Changes, confirmed_seq: int = 0) -> None:
        """Write one flush in one transaction, all of it or nothing: where a later one was written already, by
        who outlived us and has read ours in the log, nothing.

        Args:
            confirmed_seq: what this database has said to be applied, to whomever.

        Raises:
            ViewWentBack: it does not know of it any more; nothing was written.
            psycopg.Error: see `find_states`.
        """
        connection = self._own()
        with connection.transaction():
            reached = self.read_reached()
            applied_seq = reached.applied_seq if reached is not None else 0
            if confirmed_seq > applied_seq:
                # A backup may be restored under an open connection, too.
                raise ViewWentBack(
                    f"the database had confirmed seq {confirmed_seq} and now says {applied_seq}"
                )
            if changes.accounts:
                dids, seqs, states = zip(*changes.accounts, strict=True)
                (
                    revs, datas, commits, actives, statuses, hosts, desynchronized, discontinuities,
                    locals_, over_limits,
                ) = zip(*states, strict=True)  # fmt: skip
                connection.execute(
                    _WRITE_ACCOUNTS,
                    (
                        list(dids),
                        list(hosts),
                        list(actives),
                        [_storable(status) for status in statuses],
                        list(revs),
                        list(commits),
                        list(datas),
                        list(desynchronized),
                        list(discontinuities),
                        list(seqs),
                        list(locals_),
                        list(over_limits),
                    ),
                )
            for cursor in changes.cursors:
                connection.execute(
                    _WRITE_CURSOR,
                    {"host": cursor.host, "gen": cursor.generation, "seq": cursor.seq},
                )
            for seen in changes.observations:
                connection.execute(
                    _WRITE_OBSERVATION, seen._asdict() | {"error": _storable(seen.error)}
                )
            # Order: before applied_seq, by which a flush is known that was committed already.
            for tally in changes.tallies:
                connection.execute(_ADD_TALLY, {**tally._asdict(), "seq": changes.applied_seq})
            # Order: in the same transaction as what it vouches for.
            positions = connection.execute(
                _WRITE_POSITIONS, (changes.applied_seq, changes.scan_seq)
            )
            if positions.rowcount < _POSITIONS:
                raise Rollback

    def close(self) -> None:
        """Close the connection."""
        self._own().close()

    def _own(self) -> Connection:
        self._owner.check()
        return self._connection


def _storable(text: str | None) -> str | None:
    """PostgreSQL's text holds any character but NUL; hosts may send one."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if text else text


_FIND_STATES: Final = """
    SELECT did, rev, data_cid, commit_cid, active, status, host_id, desynchronized, discontinuities,
        local, over_limit
    FROM account WHERE did = ANY(%s)
"""

_READ_POSITIONS: Final = """
    SELECT name, value FROM relay WHERE name IN ('applied_seq', 'scan_seq')
"""

_READ_REACHED: Final = """
    SELECT applied.value,
        (SELECT extract(epoch FROM now())::float8 - value FROM relay WHERE name = 'applied_at')
    FROM relay AS applied WHERE name = 'applied_seq'
"""

_READ_COUNTS: Final = """
    SELECT h.id, h.accounts, coalesce(o.count, 0)
    FROM host h LEFT JOIN (
        SELECT host_id, count(*) FROM account
        WHERE over_limit AND NOT (NOT active AND status IS NOT DISTINCT FROM 'deleted')
        GROUP BY host_id
    ) AS o ON o.host_id = h.id
"""

_READ_DOMAINS: Final = "SELECT domain FROM domain_ban ORDER BY domain"

# What differs as far as the view has come, and what it may not have yet.
_READ_WANTED: Final = """
    SELECT t.did, true FROM takedown t LEFT JOIN account a ON a.did = t.did
    WHERE a.local IS DISTINCT FROM 'takendown'
    UNION SELECT a.did, false FROM account a
    WHERE a.local = 'takendown' AND NOT EXISTS (SELECT FROM takedown t WHERE t.did = a.did)
    UNION SELECT r.did, EXISTS (SELECT FROM takedown t WHERE t.did = r.did)
    FROM unnest(%s::text[]) AS r (did)
"""

_FIND_OVER_LIMIT: Final = """
    SELECT did FROM account
    WHERE over_limit AND host_id = %s AND NOT (NOT active AND status IS NOT DISTINCT FROM 'deleted')
    ORDER BY id LIMIT %s
"""

_READ_TAKEN_DOWN: Final = "SELECT did, seq FROM account WHERE local = 'takendown' ORDER BY id"

_ADD_TAKEDOWNS: Final = """
    INSERT INTO takedown (did) SELECT * FROM unnest(%s::text[]) ON CONFLICT (did) DO NOTHING
"""

_REMOVE_TAKEDOWNS: Final = "DELETE FROM takedown WHERE did <> ALL(%s::text[])"

_ADD_DOMAINS: Final = """
    INSERT INTO domain_ban (domain) SELECT * FROM unnest(%s::text[]) ON CONFLICT (domain) DO NOTHING
"""

_REMOVE_DOMAINS: Final = "DELETE FROM domain_ban WHERE domain <> ALL(%s::text[])"

_SET_WANTED: Final = """
    UPDATE host SET wanted = told.wanted
    FROM unnest(%s::text[], %s::text[]) AS told (hostname, wanted)
    WHERE host.hostname = told.hostname AND host.wanted <> told.wanted
"""

_RAISE_VERSION: Final = """
    INSERT INTO relay AS known (name, value) VALUES ('control_version', %s)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE known.value < excluded.value
"""

_READ_CURSORS: Final = """
    SELECT id, generation, coalesce(cursor, -1) FROM host
"""

_READ_HOSTS: Final = """
    SELECT id, hostname, tls, wanted, account_limit, trusted, level, per_second, per_hour, per_day,
        alerts_silenced, added_by
    FROM host ORDER BY id
"""

_ADD_NUMBERED_HOST: Final = """
    INSERT INTO host
        (id, hostname, tls, wanted, account_limit, trusted, level, per_second, per_hour, per_day,
         alerts_silenced, added_by, generation, cursor)
    VALUES (%(id)s, %(hostname)s, %(tls)s, %(wanted)s, %(account_limit)s, %(trusted)s, %(level)s,
        %(per_second)s, %(per_hour)s, %(per_day)s, %(alerts_silenced)s, %(added_by)s,
        %(gen)s, nullif(%(seq)s::bigint, -1))
"""

_ADD_HOST: Final = """
    INSERT INTO host (hostname, tls, wanted, account_limit, trusted, level, per_second, per_hour,
        per_day, alerts_silenced, added_by, cursor)
    VALUES (%(hostname)s, %(tls)s, %(wanted)s, %(account_limit)s, %(trusted)s, %(level)s,
        %(per_second)s, %(per_hour)s, %(per_day)s, %(alerts_silenced)s, %(added_by)s,
        nullif(%(seq)s::bigint, -1))
"""

# The cursor is that of whom the number means now, and stays.
_RAISE_GENERATION: Final = """
    UPDATE host SET generation = %(gen)s + 1 WHERE id = %(host)s AND generation <= %(gen)s
"""

_RAISE_HOST_NUMBERS: Final = """
    SELECT setval(pg_get_serial_sequence('host', 'id'), %(highest)s)
    WHERE %(highest)s > (SELECT coalesce(
        pg_sequence_last_value(pg_get_serial_sequence('host', 'id')::regclass), 0))
"""

_READ_EPOCHS: Final = """
    SELECT number, epoch FROM shard
"""

_FORGET_DOCUMENTS: Final = "TRUNCATE identity"

# Only where a restored backup, or another machine's clock, is behind: its owner then takes it anew.
_RAISE_EPOCHS: Final = """
    INSERT INTO shard AS known (number, epoch) SELECT * FROM unnest(%s::int[], %s::bigint[])
    ON CONFLICT (number) DO UPDATE SET epoch = excluded.epoch WHERE known.epoch < excluded.epoch
"""

# `seq` guards against a flush that was committed although its confirmation was lost.
_WRITE_ACCOUNTS: Final = """
    INSERT INTO account AS known
        (did, host_id, active, status, rev, commit_cid, data_cid, desynchronized, discontinuities,
         seq, local, over_limit)
    SELECT * FROM unnest(
        %b::text[], %b::int[], %b::bool[], %b::text[], %b::text[], %b::bytea[], %b::bytea[],
        %b::bool[], %b::bigint[], %b::bigint[], %b::text[], %b::bool[])
    ON CONFLICT (did) DO UPDATE SET
        host_id = excluded.host_id, active = excluded.active, status = excluded.status,
        rev = excluded.rev, commit_cid = excluded.commit_cid, data_cid = excluded.data_cid,
        desynchronized = excluded.desynchronized, discontinuities = excluded.discontinuities,
        seq = excluded.seq, local = excluded.local, over_limit = excluded.over_limit
    WHERE excluded.seq > known.seq
"""

# A cursor only rises within a generation; an operator's `wanted` is nobody's business here.
_WRITE_CURSOR: Final = """
    UPDATE host SET cursor = %(seq)s, generation = %(gen)s, updated_at = now()
    WHERE id = %(host)s AND (generation < %(gen)s
        OR generation = %(gen)s AND (cursor IS NULL OR cursor < %(seq)s))
"""

# A flush whose confirmation was lost is sent again, and must not count twice. What was waived begins
# the host's clean period anew, whoever was killed before he could note it (see ingest.levels).
_ADD_TALLY: Final = """
    UPDATE host SET discontinuous = discontinuous + %(discontinuous)s, waived = waived + %(waived)s,
        accounts = accounts + %(accounts)s,
        waived_at = CASE WHEN %(waived)s > 0 THEN now() ELSE waived_at END
    WHERE id = %(host)s
        AND %(seq)s > coalesce((SELECT value FROM relay WHERE name = 'applied_seq'), 0)
"""

_WRITE_OBSERVATION: Final = """
    UPDATE host SET observed = %(status)s, last_error = %(error)s, connected = %(connected)s,
        changed_at = to_timestamp(nullif(%(changed_us)s::bigint, 0) / 1e6),
        failures = %(failures)s,
        next_dial_at = to_timestamp(nullif(%(next_dial_us)s::bigint, 0) / 1e6),
        last_event_at = coalesce(
            to_timestamp(nullif(%(last_event_us)s::bigint, 0) / 1e6), last_event_at),
        last_seq = coalesce(%(last_seq)s, last_seq), events = %(events)s,
        limited_by = %(limited_by)s,
        limited_until = to_timestamp(nullif(%(limited_until_us)s::bigint, 0) / 1e6),
        restarts = greatest(restarts, %(restarts)s), slowed = %(slowed)s,
        foreign_percent = %(foreign_percent)s, updated_at = now()
    WHERE id = %(host)s
"""

_WRITE_POSITIONS: Final = """
    INSERT INTO relay (name, value) VALUES ('applied_seq', %s), ('scan_seq', %s),
        ('applied_at', floor(extract(epoch FROM now()))::bigint)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value
    WHERE relay.name <> 'applied_seq' OR relay.value <= excluded.value
"""
_POSITIONS: Final = 3
"""The rows that it writes where the view does not go back."""
