"""Whose hosts are read by whom when a process is gone, stands still, or cannot ask? Nothing is lost by it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from typing import Any, Final

import psycopg
import pytest

from common.paths import Paths
from common.sharding import SHARD_COUNT, shard_of
from ingest.share import LEASE_S, PATIENT_S
from tests.pipeline.house import FLOW_S, STORY_S, House, house
from tests.pipeline.test_kill import RATE, flows, replay_of
from tests.relay import children_of
from tests.simnet import NetworkConfig

NETWORK: Final = NetworkConfig(hosts=4, accounts=12, records=200, invalid_share=0.03)
STEADY: Final = replace(NETWORK, mix={"commit": 0.9, "batch": 0.05, "handle": 0.05})
"""Nobody moves or is new: such a one waits for the database, and those who move give up waiting."""
SHIFT_S: Final = 120.0
"""How long shards may take to come to rest on a busy machine, in seconds."""
BOTH: Final = ("ingest-0", "ingest-1")
one_loop = pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)


@asynccontextmanager
async def under_load(config: NetworkConfig = NETWORK) -> AsyncIterator[House]:
    """A relay of two ingest processes with a share each, under load; at the end everything came out once."""
    async with house(config, "uvloop") as at:
        load = asyncio.create_task(at.network.run(RATE, STORY_S))
        await until_shared(at)
        await at.consumer.wait_for(lambda: len(at.live.frames) > RATE, FLOW_S)
        yield at
        at.network.stop()
        await load
        await at.network.settled()
        report = at.report()
        assert report.ok, report.as_dict()
        assert await replay_of(at.relay, "broadcast-0", len(at.live.frames)) == at.live.frames
        await at.until("the balance to be even", lambda: unaccounted(at) == 0)


def leases(at: House) -> dict[int, tuple[int | None, int]]:
    """The table: shard → owner, epoch."""
    with closing(psycopg.connect(Paths(at.relay.data).embedded_database_url)) as connection:
        rows = connection.execute("SELECT number, owner, epoch FROM shard").fetchall()
    return {number: (owner, epoch) for number, owner, epoch in rows}


def owned(at: House) -> dict[int | None, int]:
    """How many shards each process has."""
    owners = [owner for owner, _epoch in leases(at).values()]
    return {owner: owners.count(owner) for owner in set(owners)}


def asked(at: House, sql: str, *values: object) -> Any:
    """The one value that a question has for an answer."""
    with closing(psycopg.connect(Paths(at.relay.data).embedded_database_url)) as connection:
        row = connection.execute(sql.encode(), values).fetchone()
    assert row is not None
    return row[0]


def backend_of(at: House, name: str) -> int:
    """The server process that serves the connection of this name."""
    sql = "SELECT pid FROM pg_stat_activity WHERE application_name = %s"
    return int(asked(at, sql, f"standpipe {name}"))


def seen_at(at: House, member: int) -> Any:
    return asked(at, "SELECT seen_at FROM member WHERE number = %s", member)


async def until_seen_again(at: House, member: int) -> None:
    """Wait until a process has looked at the table."""
    seen = await asyncio.to_thread(seen_at, at, member)
    await at.until("a look at the table", lambda: seen_at(at, member) > seen)


def expired(at: House) -> int:
    return int(asked(at, "SELECT count(*) FROM shard WHERE expires_at < now()"))


def unaccounted(at: House) -> float:
    return sum(at.relay.metrics(name)["standpipe_unaccounted"] for name in BOTH)


def shares(at: House) -> list[float]:
    """How many shards each process itself says that it has; all that led to it is counted by then."""
    return [at.relay.metrics(name)["standpipe_shards"] for name in BOTH]


async def until_shared(at: House) -> None:
    """Wait until both read two hosts each, by the table and for themselves, and no shard is nobody's."""
    await at.until("a share each", lambda: hosts_of(at) == {0: 2, 1: 2}, SHIFT_S)
    await at.until("both to know of it", lambda: shares(at) == counts(at), SHIFT_S)
    connected = lambda: [host.connections for host in at.network.hosts] == [1] * 4  # noqa: E731
    await at.until("each host to be read", connected, SHIFT_S)


def hosts_of(at: House) -> dict[int | None, int]:
    """How many hosts each process reads; {} while a shard is nobody's."""
    owners = {number: owner for number, (owner, _epoch) in leases(at).items()}
    if None in owners.values():
        return {}
    found = [owners[shard_of(host.name)] for host in at.network.hosts]
    return {owner: found.count(owner) for owner in set(found)}


def counts(at: House) -> list[float]:
    """How many shards each process has by the table."""
    found = owned(at)
    return [found.get(member, 0) for member in range(len(BOTH))]


def more(before: Mapping[str, float], after: Mapping[str, float], name: str) -> float:
    """How much a number has grown."""
    return after[name] - before[name]


async def until_all_are_read_by(at: House, member: int) -> None:
    await at.until("one to have all", lambda: owned(at) == {member: SHARD_COUNT}, SHIFT_S)


@contextmanager
def standing_still(*pids: int) -> Iterator[None]:
    for pid in pids:
        # One that served a question of the test's own may have ended.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def standing_still_between_two_looks(at: House, name: str) -> AsyncIterator[int]:
    """Stop the server process that serves the connection of this name while it has nothing to do.

    In the midst of a statement it has locks of PostgreSQL's own, for which all others would wait.
    """
    pid = await asyncio.to_thread(backend_of, at, name)
    while True:
        with standing_still(pid):
            idle = False
            # Who waits for one of those locks does not answer either.
            with contextlib.suppress(psycopg.OperationalError):
                idle = await asyncio.to_thread(is_idle, at, pid)
            if idle:
                yield pid
                return


def is_idle(at: House, pid: int) -> bool:
    """Whether a server process has said all of its last answer.

    Raises:
        psycopg.OperationalError: nothing can be asked within a few seconds.
    """
    url = Paths(at.relay.data).embedded_database_url
    with closing(psycopg.connect(url, connect_timeout=3)) as connection:
        connection.execute("SET statement_timeout = 3000")
        sql = "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = %s"
        row = connection.execute(sql, [pid]).fetchone()
    assert row is not None
    return bool(row[0])


@one_loop
def test_the_hosts_of_a_process_that_is_killed_for_good_go_to_the_other_and_come_back(
    loop_run: Any,
) -> None:
    async def story() -> None:
        async with under_load() as at:
            assert at.relay.process is not None
            before = await asyncio.to_thread(leases, at)
            began = await at.numbers("ingest-1")
            # Nobody starts it again while supervisord stands still.
            with standing_still(at.relay.process.pid):
                await asyncio.to_thread(at.relay.kill, "ingest-0")
                await until_all_are_read_by(at, 1)
                await flows(at.network)
            after = await asyncio.to_thread(leases, at)
            assert all(after[s][1] > before[s][1] for s in before if before[s][0] == 0)
            assert all(after[s] == before[s] for s in before if before[s][0] == 1)
            taken = await at.numbers("ingest-1")
            lost = [owner for owner, _epoch in before.values()].count(0)
            assert more(began, taken, "standpipe_shard_takeovers_total") == lost
            # It comes back, and does not stay idle.
            await until_shared(at)
            await flows(at.network)
            given = await at.numbers("ingest-1")
            released = more(taken, given, "standpipe_shard_releases_total")
            # Two of the four shards that have hosts; others need not move.
            assert 2 <= released <= SHARD_COUNT / 2
            assert given["standpipe_shards"] == SHARD_COUNT - released

    loop_run(story(), STORY_S)


@one_loop
@pytest.mark.slow
def test_a_process_that_stood_still_beyond_its_leases_adds_nothing_and_takes_its_share_again(
    loop_run: Any,
) -> None:
    async def story() -> None:
        async with under_load() as at:
            pid = await asyncio.to_thread(at.relay.pid, "ingest-0")
            began = await at.numbers("ingest-0")
            with standing_still(pid):
                await until_all_are_read_by(at, 1)
                await flows(at.network)
            await at.until(
                "it to let go",
                lambda: more(began, at.relay.metrics("ingest-0"), "standpipe_shard_releases_total"),
            )
            await until_shared(at)
            await flows(at.network)
            assert await asyncio.to_thread(at.relay.pid, "ingest-0") == pid

    loop_run(story(), STORY_S)


@one_loop
@pytest.mark.parametrize(
    "away_s",
    [
        # Longer than a lease and the grace: whoever is impatient takes what he sees expired.
        pytest.param(LEASE_S + PATIENT_S + 1.0, id="for longer than a lease and the grace"),
        pytest.param(75.0, id="for more than a minute", marks=pytest.mark.slow),
    ],
)
def test_a_database_that_stands_still_moves_no_shard(loop_run: Any, away_s: float) -> None:
    async def story() -> None:
        async with under_load(STEADY) as at:
            postgres = await asyncio.to_thread(at.relay.pid, "postgres")
            before = await asyncio.to_thread(leases, at)
            began = await at.numbers(*BOTH)
            counts_before = await asyncio.to_thread(counts, at)
            came = len(at.live.frames)
            # One process is answered later than the other, who sees all its leases expired meanwhile.
            async with standing_still_between_two_looks(at, "ingest-1 leases") as late:
                others = set(await asyncio.to_thread(children_of, postgres)) - {late}
                with standing_still(postgres, *others):
                    # What expires is time itself.
                    await asyncio.sleep(away_s)
                    assert len(at.live.frames) > came
                for _ in range(2):
                    await until_seen_again(at, 0)
                assert await asyncio.to_thread(expired, at) == counts_before[1]
            await flows(at.network)
            # Everybody has looked again, more than once.
            for _ in range(3):
                for member in range(len(BOTH)):
                    await until_seen_again(at, member)
            assert await asyncio.to_thread(leases, at) == before
            numbers = await at.numbers(*BOTH)
            assert more(began, numbers, "standpipe_shard_takeovers_total") == 0
            assert more(began, numbers, "standpipe_shard_releases_total") == 0

    loop_run(story(), STORY_S)
