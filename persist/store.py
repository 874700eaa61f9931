"""What does persist read from PostgreSQL and write to it? Every statement, in one place.

The tables are common/schema.sql's. One object is one connection, and belongs to one thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from common.database import Connection
from common.envelope import AccountState, HostCursor, ShardClaim
from common.transport import WrongThread
from persist.view import Changes


class ViewWentBack(Exception):
    """PostgreSQL has lost what it had confirmed; only a start from the log can make it whole."""


class Store:
    """One connection to PostgreSQL, used by the thread that made this."""

    def __init__(self, connection: Connection) -> None:
        """Take over an open connection, which is closed by `close`."""
        self._connection = connection
        self._owner = threading.get_ident()

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

    def read_cursors(self) -> list[HostCursor]:
        """The saved cursor of each host that has one.

        Raises:
            psycopg.Error: see `find_states`.
        """
        return [HostCursor(*row) for row in self._own().execute(_READ_CURSORS)]

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

    def flush(self, changes: Changes) -> None:
        """Write one flush in one transaction, all of it or nothing.

        Raises:
            psycopg.Error: see `find_states`.
        """
        connection = self._own()
        with connection.transaction():
            if changes.accounts:
                dids, seqs, states = zip(*changes.accounts, strict=True)
                (
                    revs, datas, commits, actives, statuses, hosts, desynchronized, discontinuities,
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
                    ),
                )
            for cursor in changes.cursors:
                connection.execute(
                    _WRITE_CURSOR,
                    {"host": cursor.host, "gen": cursor.generation, "seq": cursor.seq},
                )
            for seen in changes.observations:
                connection.execute(
                    _WRITE_OBSERVATION, (seen.status, _storable(seen.error), seen.host)
                )
            # Order: before applied_seq, by which a flush is known that was committed already.
            for tally in changes.tallies:
                connection.execute(_ADD_TALLY, {**tally._asdict(), "seq": changes.applied_seq})
            # Order: in the same transaction as what it vouches for.
            connection.execute(_WRITE_POSITIONS, (changes.applied_seq, changes.scan_seq))

    def close(self) -> None:
        """Close the connection."""
        self._own().close()

    def _own(self) -> Connection:
        if threading.get_ident() != self._owner:
            raise WrongThread("a database connection was used outside the thread that owns it")
        return self._connection


def _storable(text: str | None) -> str | None:
    """PostgreSQL's text holds any character but NUL; hosts may send one."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}") if text else text


_FIND_STATES: Final = """
    SELECT did, rev, data_cid, commit_cid, active, status, host_id, desynchronized, discontinuities
    FROM account WHERE did = ANY(%s)
"""

_READ_POSITIONS: Final = """
    SELECT name, value FROM relay WHERE name IN ('applied_seq', 'scan_seq')
"""

_READ_CURSORS: Final = """
    SELECT id, generation, cursor FROM host WHERE cursor IS NOT NULL
"""

_READ_EPOCHS: Final = """
    SELECT number, epoch FROM shard
"""

# Only where a restored backup, or another machine's clock, is behind: its owner then takes it anew.
_RAISE_EPOCHS: Final = """
    INSERT INTO shard AS known (number, epoch) SELECT * FROM unnest(%s::int[], %s::bigint[])
    ON CONFLICT (number) DO UPDATE SET epoch = excluded.epoch WHERE known.epoch < excluded.epoch
"""

# `seq` guards against a flush that was committed although its confirmation was lost.
_WRITE_ACCOUNTS: Final = """
    INSERT INTO account AS known
        (did, host_id, active, status, rev, commit_cid, data_cid, desynchronized, discontinuities,
         seq)
    SELECT * FROM unnest(
        %b::text[], %b::int[], %b::bool[], %b::text[], %b::text[], %b::bytea[], %b::bytea[],
        %b::bool[], %b::bigint[], %b::bigint[])
    ON CONFLICT (did) DO UPDATE SET
        host_id = excluded.host_id, active = excluded.active, status = excluded.status,
        rev = excluded.rev, commit_cid = excluded.commit_cid, data_cid = excluded.data_cid,
        desynchronized = excluded.desynchronized, discontinuities = excluded.discontinuities,
        seq = excluded.seq
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
        waived_at = CASE WHEN %(waived)s > 0 THEN now() ELSE waived_at END
    WHERE id = %(host)s
        AND %(seq)s > coalesce((SELECT value FROM relay WHERE name = 'applied_seq'), 0)
"""

_WRITE_OBSERVATION: Final = """
    UPDATE host SET observed = %s, last_error = %s, updated_at = now() WHERE id = %s
"""

_WRITE_POSITIONS: Final = """
    INSERT INTO relay (name, value) VALUES ('applied_seq', %s), ('scan_seq', %s)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
