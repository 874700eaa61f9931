"""What do the tables `shard` and `member` say, and how does a lease change hands there?

    choose  says which life of its number a process begins
    look    says that we live and what our shards cost, renews our leases, and tells all rows
    take    owner and a higher epoch; only as they were seen, and only soon after
    give    owner NULL, for anybody at once
    leave   all of ours run out in half a lease time, unless our next life comes back for them

Each is one transaction, and each statement has its condition in itself: of several that take one shard,
one gets it. Nothing waits for a lock; what another has in hand is left for the next look. Every time
in it is the database's.

What to take is ingest.share's question. Every statement about the two tables is here, but for what
persist raises at its start (persist.store).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

import psycopg

from common.database import Connection, connect
from common.owner import Owner
from common.sharding import SHARD_COUNT
from ingest.load import Said
from ingest.share import LEASE_S, Me, Row

FRESH_S: Final = 2.0
"""A look is good for so long, in seconds: a database that stood still in between may have
everybody's leases expired, and nobody's fault is it."""
_NOTHING: Final[Mapping[int, Said]] = {}
STATEMENT_S: Final = 3
"""A statement that takes longer is given up by the database, in seconds."""


class Look(NamedTuple):
    """The tables, as they were seen once.

    rows: by number. members: that were alive, ourselves among them. at_s: when, by the database, Unix
    seconds. started_s: when its server started, the same.
    """

    rows: list[Row]
    members: frozenset[int]
    at_s: float
    started_s: float


class Wanted(NamedTuple):
    """A shard to take. epoch: as it was seen. above: the new one must be higher than this, too."""

    shard: int
    epoch: int
    above: int = 0


class Table(Protocol):
    """What is asked of the two tables. Called from one thread; raises psycopg.Error: not now."""

    def choose(self, member: int) -> int:
        """Which life of this number begins: `Me.instance`, higher than that of any before it."""

    def look(self, me: Me, said: Mapping[int, Said] = _NOTHING) -> Look:
        """Say that we live, renew our leases, and tell all rows. said: of our shards."""

    def take(self, me: Me, wanted: Sequence[Wanted], looked_s: float) -> dict[int, int]:
        """Take some → those that we got, with their new epochs. looked_s: `at_s` of the look."""

    def give(self, me: Me, leases: Mapping[int, int]) -> None:
        """Give some up, by shard with their epochs, for anybody at once."""

    def leave(self, me: Me) -> None:
        """Let all run out; our next life has half a lease time to come back for them."""

    def close(self) -> None:
        """Let go of the database."""


class LeaseTable:
    """The two tables in PostgreSQL."""

    def __init__(
        self, database_url: Callable[[], str], name: str = "ingest leases", lease_s: float = LEASE_S
    ) -> None:
        """Connects when first asked; `database_url` is asked then, too. lease_s: see ingest.share."""
        self._url = database_url
        self._name = name
        self._lease_s = lease_s
        self._connection: Connection | None = None
        self._owner: Owner

    def choose(self, member: int) -> int:
        """Which life of this number begins. Raises: psycopg.Error: see `look`."""
        with self._transaction() as connection:
            row = connection.execute(_CHOOSE, {"member": member}).fetchone()
        assert row is not None
        return int(row[0])

    def look(self, me: Me, said: Mapping[int, Said] = _NOTHING) -> Look:
        """Say that we live, renew our leases, and tell all rows. said: of our shards.

        Raises:
            psycopg.Error: the database is away, or not prepared; the next call tries again.
        """
        given = self._given(me) | {
            "shards": list(said),
            "loads": [each.load for each in said.values()],
            "hosts": [each.hosts for each in said.values()],
        }
        with self._transaction() as connection:
            connection.execute(_LIVE, given)
            connection.execute(_RENEW, given)
            times = connection.execute(_TIMES).fetchone()
            rows = connection.execute(_ROWS, given).fetchall()
            if len(rows) < SHARD_COUNT:
                connection.execute(_BEGIN, given)
                rows = connection.execute(_ROWS, given).fetchall()
            members = connection.execute(_MEMBERS, given).fetchall()
        assert times is not None
        return Look([Row(*row) for row in rows], frozenset(number for (number,) in members), *times)

    def take(self, me: Me, wanted: Sequence[Wanted], looked_s: float) -> dict[int, int]:
        """Take some → those that we got, with their new epochs. Raises: psycopg.Error: see `look`.

        Args: looked_s: `at_s` of the look that this was decided on.
        """
        shards, epochs, above = map(list, zip(*wanted, strict=True))
        given = self._given(me) | {
            "shards": shards,
            "epochs": epochs,
            "above": above,
            "until_s": looked_s + FRESH_S,
        }
        with self._transaction() as connection:
            return dict(connection.execute(_TAKE, given).fetchall())

    def give(self, me: Me, leases: Mapping[int, int]) -> None:
        """Give some up, for anybody at once. Raises: psycopg.Error: see `look`."""
        given = self._given(me) | {"shards": list(leases), "epochs": list(leases.values())}
        with self._transaction() as connection:
            connection.execute(_GIVE, given)

    def leave(self, me: Me) -> None:
        """Let all run out, but for our next life. Raises: psycopg.Error: see `look`."""
        given = self._given(me)
        with self._transaction() as connection:
            connection.execute(_LEAVE, given)
            connection.execute(_FORGET, given)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._owner.check()
            self._connection.close()
            self._connection = None

    def _given(self, me: Me) -> dict[str, object]:
        return {
            "member": me.member,
            "instance": me.instance,
            "lease_s": self._lease_s,
            "count": SHARD_COUNT,
        }

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            if self._connection is None:
                self._owner = Owner("the connection for leases")
                self._connection = connect(self._url(), self._name)
                for timeout in _TIMEOUTS:
                    self._connection.execute(timeout)
            self._owner.check()
            with self._connection.transaction():
                yield self._connection
        except psycopg.Error:
            self.close()
            raise


_TIMEOUTS: Final = (
    f"SET statement_timeout = '{STATEMENT_S} s'",
    # One that is frozen in the midst of a look would keep its rows from everybody for ever.
    f"SET idle_in_transaction_session_timeout = '{STATEMENT_S} s'",
)

# Nobody is alive by it: who cannot reach persist must not be given anything. The number is
# by the clock, for persist may know more than a table that was restored; and by the tables, for the
# clock may have been set back.
_CHOOSE: Final = """
    INSERT INTO member AS known (number, instance, seen_at)
    VALUES (
        %(member)s,
        greatest(
            (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
            (SELECT max(instance) + 1 FROM shard WHERE owner = %(member)s)
        ),
        to_timestamp(0)
    )
    ON CONFLICT (number) DO UPDATE
    SET instance = greatest(excluded.instance, known.instance + 1)
    RETURNING instance
"""
# An earlier process of our number that is still there does not speak for us.
_LIVE: Final = """
    INSERT INTO member (number, instance, seen_at)
    VALUES (%(member)s, %(instance)s, clock_timestamp())
    ON CONFLICT (number) DO UPDATE SET instance = excluded.instance, seen_at = excluded.seen_at
    WHERE member.instance <= excluded.instance
"""
# Also past its end: as long as nobody has taken a lease it is ours.
_RENEW: Final = """
    UPDATE shard SET expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s),
        load = coalesce(said.load, shard.load), hosts = coalesce(said.hosts, shard.hosts)
    FROM (
        SELECT number FROM shard WHERE owner = %(member)s AND instance = %(instance)s
        ORDER BY number FOR UPDATE SKIP LOCKED
    ) AS ours
    LEFT JOIN unnest(%(shards)s::int[], %(loads)s::real[], %(hosts)s::int[])
        AS said (number, load, hosts) ON said.number = ours.number
    WHERE shard.number = ours.number
"""
_TIMES: Final = """
    SELECT extract(epoch FROM clock_timestamp())::float8,
           extract(epoch FROM pg_postmaster_start_time())::float8
"""
# What ends later than anybody could have said was said before the clock was set back, and has expired:
# who lives has said it anew by now. Twice the time of a lease, so that nothing expires by so small a step
# that nobody's contact breaks by it (ingest.share.Contact).
_ROWS: Final = """
    SELECT number, owner, instance, epoch,
           extract(epoch FROM greatest(
               clock_timestamp() - expires_at,
               expires_at - clock_timestamp() - make_interval(secs => 2 * %(lease_s)s)
           ))::float8,
           load::float8, hosts
    FROM shard WHERE number < %(count)s ORDER BY number
"""
_BEGIN: Final = """
    INSERT INTO shard (number, expires_at)
    SELECT number, clock_timestamp() + make_interval(secs => %(lease_s)s)
    FROM generate_series(0, %(count)s - 1) AS number ON CONFLICT (number) DO NOTHING
"""
_MEMBERS: Final = """
    SELECT number FROM member
    WHERE seen_at > clock_timestamp() - make_interval(secs => %(lease_s)s)
        AND seen_at < clock_timestamp() + make_interval(secs => %(lease_s)s)
"""
# The clock keeps epochs rising where the table was restored from a backup.
_TAKE: Final = """
    UPDATE shard SET owner = %(member)s, instance = %(instance)s,
        epoch = greatest(
            shard.epoch + 1, seen.above + 1,
            (extract(epoch FROM clock_timestamp()) * 1000)::bigint
        ),
        expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
    FROM (
        SELECT shard.number, wanted.above
        FROM shard JOIN unnest(%(shards)s::int[], %(epochs)s::bigint[], %(above)s::bigint[])
            AS wanted (number, epoch, above) ON shard.number = wanted.number
        WHERE shard.epoch = wanted.epoch
            AND (shard.owner IS NULL OR shard.owner = %(member)s
                OR shard.expires_at <= clock_timestamp()
                OR shard.expires_at
                    >= clock_timestamp() + make_interval(secs => 2 * %(lease_s)s))
            AND clock_timestamp() < to_timestamp(%(until_s)s)
        ORDER BY shard.number FOR UPDATE OF shard SKIP LOCKED
    ) AS seen
    WHERE shard.number = seen.number
    RETURNING shard.number, shard.epoch
"""
_GIVE: Final = """
    UPDATE shard SET owner = NULL, instance = NULL, expires_at = clock_timestamp()
    FROM unnest(%(shards)s::int[], %(epochs)s::bigint[]) AS given (number, epoch)
    WHERE shard.number = given.number AND shard.epoch = given.epoch
        AND owner = %(member)s AND instance = %(instance)s
"""
# The owner stays: a restart finds again what it had, whatever moved before.
_LEAVE: Final = """
    UPDATE shard SET expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s / 2)
    WHERE owner = %(member)s AND instance = %(instance)s
"""
# The row stays: our next life must be later than this one.
_FORGET: Final = """
    UPDATE member SET seen_at = to_timestamp(0)
    WHERE number = %(member)s AND instance = %(instance)s
"""
