"""Ingest processes and their leases: who is read when, what is let go, and that nothing is lost by it.

The tables are in memory, under the contract of test_lease_table.py; persist is played, with its fence.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from math import inf

import psycopg
import pytest

from common.envelope import ShardClaim
from common.sharding import SHARD_COUNT, shard_of
from common.target import parse_target
from ingest import fleet, share
from ingest import leases as leases_module
from ingest import worker as ingest_worker
from ingest.hosts import HostRow
from ingest.lease_table import Look
from ingest.leases import Leases
from ingest.load import Said
from ingest.share import Me
from tests.fix_loop import LoopRun
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import (
    LIMITS,
    RESOLVER_LIMITS,
    CountingWorker,
    Lease,
    MemoryLeases,
    MemoryRejects,
    MemoryTable,
    TurningClock,
    ingest,
    until,
)
from tests.pipeline.house import SpreadNetwork
from tests.simnet.config import NetworkConfig
from tests.simnet.network import Network
from tests.simnet.truth import compare

SMALL = NetworkConfig(hosts=2, accounts=6, records=20, genesis_share=0)
LEASE_S = 0.6
KEPT_S = 3600.0
"""How long leases last where none is to run out."""
FAR_S = inf
one_loop = pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "PATIENT_S", 0.9)


class SavedTable(MemoryTable):
    """The table of hosts with the cursors that persist has been told. read: how often it was read."""

    def __init__(self, persist: FakePersist, hosts: list[str]) -> None:
        super().__init__()
        self._persist = persist
        self.read = 0
        self.add([parse_target(host, allow_insecure=True) for host in hosts], 0, 100)

    def wanted(self) -> list[HostRow]:
        self.read += 1
        cursors = self._persist.cursors
        return [
            row._replace(cursor=cursors[row.id].seq) if row.id in cursors else row
            for row in self.rows
        ]


class Process:
    """One worker of several that share their tables; it can be killed."""

    def __init__(
        self,
        persist: FakePersist,
        table: MemoryTable,
        leases: MemoryLeases,
        plc_url: str,
        member: int,
    ) -> None:
        self.worker = CountingWorker(
            member=member,
            processes=2,
            endpoint=persist.endpoint,
            table=table,
            leases=leases,
            rejects=MemoryRejects(),
            plc_url=plc_url,
            allow_insecure=True,
            limits=LIMITS,
            resolver_limits=RESOLVER_LIMITS,
        )
        self.stopping = asyncio.Event()
        self.running = asyncio.create_task(self.worker.run(self.stopping))

    async def kill(self) -> None:
        """End it with nothing said to anybody."""
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)

    async def drain(self) -> None:
        self.stopping.set()
        await self.running

    def idle(self) -> bool:
        return self.worker.pipeline.held == self.worker.pipeline.in_flight == 0


@asynccontextmanager
async def two(
    network: Network, persist: FakePersist, leases: MemoryLeases
) -> AsyncIterator[list[Process]]:
    """Two processes that read a host each; what is left of them is drained at the end."""
    table = SavedTable(persist, urls(network))
    found = [Process(persist, table, leases, network.plc_url, member) for member in (0, 1)]
    try:
        await until(lambda: [len(each.worker.subscriptions) for each in found] == [1, 1])
        yield found
    finally:
        for process in found:
            if not process.running.done():
                await process.drain()


def urls(network: Network) -> list[str]:
    return [host.url for host in network.hosts]


def commit_everywhere(network: Network) -> None:
    for account in network.accounts:
        network.commit(account)


def shard_of_host(worker: CountingWorker, host: int) -> int:
    return worker.subscriptions[host].feed.shard


# --- rows that come to mean another ---


@one_loop
@pytest.mark.parametrize("changed", ["generation", "tls", "hostname"])
def test_a_host_whose_row_means_another_is_let_go_and_read_anew(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    monkeypatch.setattr(fleet, "HOSTS_AGAIN_S", 0.05)

    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            table = SavedTable(persist, [network.hosts[0].url])
            async with ingest(persist, [], network.plc_url, table=table) as worker:
                commit_everywhere(network)
                # To its end: a position that is said later would come to be another host's.
                await until(lambda: 1 in persist.cursors and persist.cursors[1].seq == 3)
                assert len(persist.log) == 3
                first = worker.subscriptions[1]
                other = parse_target(network.hosts[1].url, allow_insecure=True)
                row = table.rows[0]
                table.rows[0] = {
                    "generation": row._replace(generation=2),
                    "tls": row._replace(tls=True),
                    "hostname": row._replace(hostname=other.hostname, generation=2),
                }[changed]
                if changed == "hostname":
                    persist.cursors.clear()
                await until(lambda: worker.subscriptions.get(1) not in (None, first))
                anew = worker.subscriptions[1]
                assert first.feed.released
                assert anew.target.tls is (changed == "tls")
                if changed != "tls":
                    commit_everywhere(network)
                    logged = 6 if changed == "generation" else 9
                    await until(lambda: len(persist.log) == logged)
                    assert {judged.generation for judged, _ in persist.log[3:]} == {2}
                    assert [host.accepted for host in network.hosts] == (
                        [2, 0] if changed == "generation" else [1, 1]
                    )
                read = table.read
                await until(lambda: table.read > read + 2)
                assert worker.subscriptions[1] is anew
                assert worker.conserved()

    loop_run(story())


# --- claims ---


def nobody_looks(*_: object) -> Look:
    raise psycopg.OperationalError("not now")


def test_no_shard_is_taken_by_who_does_not_reach_persist(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with SpreadNetwork(SMALL) as network, FakePersist() as persist:
            persist.silent = True
            leases = MemoryLeases(KEPT_S)
            table = SavedTable(persist, urls(network))
            async with ingest(
                persist, [], network.plc_url, leases=leases, table=table, processes=2
            ) as worker:
                await until(lambda: 0 in leases.members)
                read = table.read
                await until(lambda: table.read > read + 1)
                assert worker.leases.held == {}
                assert leases.members[0][1] == 0.0, "nobody counts with it"
                persist.silent = False
                await persist.restart()
                await until(lambda: set(worker.subscriptions) == {1})

    loop_run(story())


@one_loop
def test_who_is_apart_from_persist_for_long_renews_nothing(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "APART_S", 0.2)

    async def story() -> None:
        async with SpreadNetwork(SMALL) as network, FakePersist() as persist:
            leases = MemoryLeases(LEASE_S, TurningClock())
            async with two(network, persist, leases) as (apart, other):
                commit_everywhere(network)
                await until(lambda: len(persist.log) == 6 and apart.idle() and other.idle())
                # The cable is out: no answer comes, to its greetings or to what it said before.
                socket = apart.worker.outlet._socket
                hear, socket._on_message = socket._on_message, lambda _parts: None
                apart.worker.outlet._lost()
                await until(lambda: len(other.worker.subscriptions) == 2)
                commit_everywhere(network)
                await until(lambda: len(persist.log) == 12)
                socket._on_message = hear
                await until(lambda: apart.worker.outlet.connected)
                await until(lambda: len(apart.worker.subscriptions) == 1)
                await until(lambda: len(other.worker.subscriptions) == 1)
                commit_everywhere(network)
                await until(lambda: len(persist.log) == 18 and apart.idle() and other.idle())
                assert all(each.worker.conserved() for each in (apart, other))
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_no_host_is_read_before_persist_has_heard_the_claim(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with SpreadNetwork(SMALL) as network, FakePersist() as persist:
            commit_everywhere(network)
            leases = MemoryLeases(KEPT_S)
            look, leases.look = leases.look, nobody_looks  # type: ignore[method-assign,assignment]
            table = SavedTable(persist, urls(network))
            async with ingest(
                persist, [], network.plc_url, leases=leases, table=table, processes=2
            ) as worker:
                await until(lambda: hasattr(worker, "outlet") and worker.outlet.connected)
                persist.silent = True
                leases.look = look  # type: ignore[method-assign]
                await until(lambda: len(worker.leases.held) == 32)
                read = table.read
                await until(lambda: table.read > read + 1)
                assert [host.accepted for host in network.hosts] == [0, 0]
                persist.silent = False
                await persist.restart()
                await until(lambda: set(worker.subscriptions) == {1})
                assert persist.claims == {ShardClaim(*i) for i in worker.leases.held.items()}

    loop_run(story())


def test_events_and_cursors_carry_the_epoch_of_the_lease_and_claims_go_before_what_is_sent_again(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            async with ingest(persist, urls(network), network.plc_url) as worker:
                commit_everywhere(network)
                await until(lambda: len(persist.log) == 6 and len(persist.cursors) == 2)
                held = worker.leases.held
                assert all(j.epoch == held[j.shard] for j, _ in persist.log)
                assert all(c.epoch == held[c.shard] for c in persist.cursors.values())
                # Another persist, that knows of nobody: the claims are what it hears first.
                persist.silent = True
                commit_everywhere(network)
                await until(lambda: worker.pipeline.in_flight == 6)
                persist.silent = False
                persist.claims.clear()
                persist.epochs.clear()
                await persist.restart()
                await until(lambda: len(persist.log) == 12)
                assert persist.claims == {ShardClaim(*lease) for lease in held.items()}
                assert persist.unclaimed == 0
                assert [judged.epoch for judged, _ in persist.log[6:]] == [
                    held[judged.shard] for judged, _ in persist.log[6:]
                ]
                assert worker.conserved()
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


@one_loop
def test_a_shard_that_comes_while_the_hosts_are_being_read_is_not_forgotten(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "HOSTS_AGAIN_S", 3600.0)
    monkeypatch.setattr(fleet, "AGAIN_SOON_S", 3600.0)

    async def story() -> None:
        async with SpreadNetwork(SMALL) as network, FakePersist() as persist:
            table = SavedTable(persist, urls(network))
            wanted, gate = table.wanted, threading.Event()

            def slow() -> list[HostRow]:
                found = wanted()
                gate.wait(20)
                return found

            table.wanted = slow  # type: ignore[method-assign]
            async with ingest(
                persist, [], network.plc_url, leases=MemoryLeases(KEPT_S), table=table, processes=2
            ) as worker:
                await until(lambda: table.read == 1 and len(worker.leases.readable) == 32)
                assert worker.subscriptions == {}
                gate.set()
                await until(lambda: set(worker.subscriptions) == {1})

    loop_run(story())


@one_loop
def test_a_shard_that_is_lost_while_the_hosts_are_being_read_is_not_begun(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        async with SpreadNetwork(SMALL) as network, FakePersist() as persist:
            leases, table = MemoryLeases(KEPT_S), SavedTable(persist, [])
            async with ingest(
                persist, [], network.plc_url, table=table, leases=leases, processes=2
            ) as worker:
                await until(lambda: len(worker.leases.readable) == 32)
                shard = shard_of(network.hosts[0].name)
                wanted, inside, gate = table.wanted, threading.Event(), threading.Event()

                def slow() -> list[HostRow]:
                    found = wanted()
                    if found:
                        inside.set()
                        gate.wait(20)
                    return found

                table.wanted = slow  # type: ignore[method-assign]
                table.add([parse_target(url, allow_insecure=True) for url in urls(network)], 0, 9)
                await until(inside.is_set)
                leases.shards[shard] = Lease(1, 7, worker.leases.held[shard] + 1, FAR_S)
                await until(lambda: shard not in worker.leases.held)
                gate.set()
                read = table.read
                await until(lambda: table.read > read + 1)
                assert worker.subscriptions == {}
                assert network.hosts[0].accepted == 0

    loop_run(story())


def test_an_answer_about_another_lease_than_ours_changes_nothing() -> None:
    told: list[str] = []

    async def retire(_shards: Collection[int]) -> None:
        raise AssertionError("nothing is given up")

    leases = Leases(
        MemoryLeases(),
        Me(0, 1, 1),
        taken=lambda: told.append("taken"),
        claimed=lambda: told.append("claimed"),
        lost=lambda shards: told.append(f"lost {list(shards)}"),
        retire=retire,
        begun=lambda _instance: None,
    )
    leases.held = {3: 10, 4: 10}
    # An answer to a claim of an earlier lease, and to one of a shard that is not ours any more.
    leases.claimed([ShardClaim(3, 9), ShardClaim(5, 10)])
    leases.outlived([ShardClaim(3, 9), ShardClaim(4, 10), ShardClaim(5, 99)])
    assert (leases.readable, told) == ({}, [])
    leases.claimed([ShardClaim(3, 10), ShardClaim(4, 10)])
    assert leases.readable == {3: 10, 4: 10}
    leases.outlived([ShardClaim(4, 11)])
    assert leases.readable == {3: 10}
    # Two owners later, told in one answer.
    leases.outlived([ShardClaim(3, 11), ShardClaim(3, 12)])
    assert leases.held == {}
    assert told == ["claimed", "lost [4]", "lost [3]"]


# --- which life this is ---


@pytest.mark.parametrize("drained", [False, True], ids=["killed", "drained"])
def test_a_life_that_begins_after_every_clock_was_set_back_is_heard_and_reads_at_once(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch, drained: bool
) -> None:
    async def story() -> None:
        turned_s = [0.0]
        real = time.time
        leases = MemoryLeases(LEASE_S, clock=lambda: real() + turned_s[0])
        async with Network(SMALL) as network, FakePersist() as persist:
            table = SavedTable(persist, urls(network))
            first = Process(persist, table, leases, network.plc_url, 0)
            await until(lambda: len(first.worker.subscriptions) == 2)
            before = persist.lives[0]
            await (first.drain() if drained else first.kill())
            turned_s[0] = -3600.0
            with monkeypatch.context() as our_clock:
                our_clock.setattr(time, "time", lambda: real() - 3600.0)
                second = Process(persist, table, leases, network.plc_url, 0)
            await until(lambda: second.running.done() or len(second.worker.subscriptions) == 2)
            assert persist.lives[0] > before
            commit_everywhere(network)
            await until(lambda: len(persist.log) == 6)
            await second.drain()
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


@one_loop
def test_nobody_greets_persist_before_the_database_has_said_which_life_this_is(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        async with SpreadNetwork(SMALL) as network, FakePersist() as persist:
            leases = MemoryLeases(KEPT_S)
            leases.away = True
            table = SavedTable(persist, urls(network))
            process = Process(persist, table, leases, network.plc_url, 0)
            await asyncio.sleep(0.3)
            assert persist.batches == 0
            leases.away = False
            await until(lambda: len(process.worker.subscriptions) == 1)
            assert persist.lives == {0: leases.members[0][0]}
            leases.away = True
            await process.drain()
            # One that is ended before it has begun ends soon, and leaves the tables alone.
            early = Process(persist, table, leases, network.plc_url, 1)
            await asyncio.sleep(0.1)
            await early.drain()
            assert set(leases.members) == {0}

    loop_run(story())


# --- given up for balance ---


@one_loop
@pytest.mark.parametrize("answered", [True, False], ids=["answered", "never answered"])
def test_what_is_under_way_is_finished_before_a_lease_is_given_up_but_not_for_ever(
    loop_run: LoopRun,
    monkeypatch: pytest.MonkeyPatch,
    answered: bool,
) -> None:
    monkeypatch.setattr(ingest_worker, "RETIRE_S", 20.0 if answered else 0.3)

    async def story() -> None:
        async with SpreadNetwork(SMALL) as network, FakePersist() as persist:
            leases = MemoryLeases(LEASE_S)
            shard = shard_of(network.hosts[1].name)
            for number in range(1, SHARD_COUNT, 2):
                if number != shard:
                    leases.shards[number] = Lease(1, 7, 5, FAR_S)
            table = SavedTable(persist, urls(network))
            async with ingest(
                persist, [], network.plc_url, table=table, leases=leases, processes=2
            ) as worker:
                await until(lambda: len(worker.subscriptions) == 2)
                persist.hold_answers = True
                commit_everywhere(network)
                await until(lambda: worker.pipeline.in_flight == 6)
                # Another one comes to life, who has one too few.
                leases.members[1] = 7, FAR_S
                await until(lambda: set(worker.subscriptions) == {1})
                if answered:
                    looked_s = leases.members[0][1]
                    await until(lambda: leases.members[0][1] > looked_s)
                    assert leases.shards[shard].owner == 0, "not before it is finished"
                    persist.answer()
                await until(lambda: leases.shards[shard].owner is None)
                counts = worker.pipeline.counts
                assert counts.released.total() == (0 if answered else 3)
                if answered:
                    assert persist.cursors[2].seq == max(
                        judged.upstream_seq for judged, _ in persist.log if judged.host == 2
                    )
                else:
                    persist.answer()
                await until(lambda: worker.pipeline.in_flight == 0)
                assert worker.conserved()

    loop_run(story())


# --- outlived ---


def test_who_is_outlived_lets_go_at_once_and_counts_what_it_lets_go(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with SpreadNetwork(SMALL) as network, FakePersist() as persist:
            leases = MemoryLeases()
            async with ingest(persist, urls(network), network.plc_url, leases=leases) as worker:
                commit_everywhere(network)
                await until(lambda: len(persist.log) == 6 and worker.conserved())
                # A position that is said later would tell ingest before an event does.
                last = max(judged.upstream_seq for judged, _ in persist.log if judged.host == 1)
                await until(lambda: 1 in persist.cursors and persist.cursors[1].seq == last)
                shard = shard_of_host(worker, 1)
                later = worker.leases.held[shard] + 1000
                # The table could tell as well; it need not.
                leases.away = True
                leases.shards[shard] = Lease(1, 7, later, FAR_S)
                persist.epochs[shard] = later
                cursor = persist.cursors.get(1)
                commit_everywhere(network)
                await until(lambda: 1 not in worker.subscriptions and len(persist.log) == 9)
                assert shard not in worker.leases.held
                await until(lambda: network.hosts[0].connections == 0)
                await until(lambda: worker.pipeline.in_flight == worker.pipeline.held == 0)
                counts = worker.pipeline.counts
                ended = counts.released.total() + counts.forwarded.total()
                assert ended == counts.read - counts.unread
                assert counts.released["commit"] >= 1
                assert counts.dropped.total() == 0
                assert worker.pipeline.unfinished_bytes == 0
                assert worker.conserved()
                assert persist.cursors.get(1) == cursor
                # The other host is read as before.
                network.commit(network.accounts[1])
                await until(lambda: len(persist.log) == 10)
                assert {judged.host for judged, _ in persist.log[6:]} == {2}

    loop_run(story())


def test_a_lease_that_the_table_says_is_anothers_is_let_go(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with SpreadNetwork(SMALL) as network, FakePersist() as persist:
            leases = MemoryLeases()
            async with ingest(persist, urls(network), network.plc_url, leases=leases) as worker:
                shard = shard_of_host(worker, 2)
                leases.shards[shard] = Lease(1, 7, worker.leases.held[shard] + 1, FAR_S)
                await until(lambda: 2 not in worker.subscriptions)
                assert 1 in worker.subscriptions
                # It could not be had back by asking: the other one lives.
                members = leases.members
                await until(lambda: members[0][1] > time.time() - LEASE_S)
                assert leases.shards[shard].owner == 1

    loop_run(story())


def test_a_lease_that_is_ours_by_the_table_and_outlived_by_persist_is_taken_with_a_higher_epoch(
    loop_run: LoopRun,
) -> None:
    """The database was restored from a backup: persist knows more than it."""

    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            table = SavedTable(persist, urls(network))
            async with ingest(persist, [], network.plc_url, table=table) as worker:
                commit_everywhere(network)
                await until(lambda: len(persist.log) == 6)
                shard = shard_of_host(worker, 1)
                known = worker.leases.held[shard] + 10**9
                persist.epochs[shard] = known
                commit_everywhere(network)
                await until(lambda: worker.leases.held.get(shard, 0) > known)
                await until(lambda: len(persist.log) == 12 and worker.conserved())
                commit_everywhere(network)
                await until(lambda: len(persist.log) == 18)
                assert worker.subscriptions[1].feed.epoch == worker.leases.held[shard]
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


# --- several processes ---


@one_loop
def test_a_killed_process_is_followed_by_the_other_and_nothing_is_lost_or_doubled(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        async with SpreadNetwork(SMALL) as network, FakePersist() as persist:
            leases = MemoryLeases(LEASE_S, TurningClock())
            async with two(network, persist, leases) as (killed, other):
                commit_everywhere(network)
                await until(lambda: len(persist.log) == 6)
                persist.hold_answers = True
                commit_everywhere(network)
                await until(lambda: killed.worker.pipeline.in_flight == 3)
                await killed.kill()
                persist.answer()
                commit_everywhere(network)
                await until(lambda: len(other.worker.subscriptions) == 2)
                has_moved = other.worker.leases.has_moved
                assert [
                    shard_of(host.name) for host in network.hosts if has_moved(shard_of(host.name))
                ] == [shard_of(network.hosts[0].name)]
                await until(lambda: len(persist.log) == 18 and other.idle())
                assert other.worker.conserved()
                assert len(other.worker.leases.held) == 64
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


@one_loop
def test_an_owner_that_was_frozen_adds_nothing_and_gets_its_share_back(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with SpreadNetwork(SMALL) as network, FakePersist() as persist:
            leases = MemoryLeases(LEASE_S, TurningClock())
            async with two(network, persist, leases) as (frozen, other):
                commit_everywhere(network)
                await until(lambda: len(persist.log) == 6)
                # Its look does not come back; all the rest of it goes on, which is worse.
                look, blocked = leases.look, threading.Event()

                def slow(me: Me, said: Mapping[int, Said] | None = None) -> Look:
                    if me.member == 0:
                        blocked.wait(20)
                    return look(me, said)

                leases.look = slow  # type: ignore[method-assign]
                await until(lambda: len(other.worker.leases.held) == 64)
                await until(lambda: len(other.worker.subscriptions) == 2)
                commit_everywhere(network)
                # It has sent what it read of the host that is not its own any more, and is told.
                await until(lambda: frozen.worker.subscriptions == {})
                await until(lambda: len(persist.log) == 12)
                assert frozen.worker.pipeline.counts.released.total() >= 1
                assert frozen.worker.conserved()
                blocked.set()
                await until(lambda: len(frozen.worker.subscriptions) == 1)
                commit_everywhere(network)
                await until(lambda: len(persist.log) == 18 and other.idle() and frozen.idle())
                # What was given up for balance was finished before.
                assert other.worker.pipeline.counts.released.total() == 0
                assert all(each.worker.conserved() for each in (frozen, other))
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


@one_loop
def test_a_drained_process_leaves_its_leases_and_its_cursors(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with SpreadNetwork(SMALL) as network, FakePersist() as persist:
            clock = TurningClock()
            leases = MemoryLeases(LEASE_S, clock)
            async with two(network, persist, leases) as (drained, other):
                commit_everywhere(network)
                await until(lambda: len(persist.log) == 6 and other.idle() and drained.idle())
                await drained.drain()
                # They run out, and are kept for its next life until then.
                assert all(each.expires_s <= clock() + LEASE_S for each in leases.shards.values())
                assert leases.members[0][1] == 0.0
                await until(lambda: len(other.worker.subscriptions) == 2)
                commit_everywhere(network)
                await until(lambda: len(persist.log) == 12)
                assert persist.duplicates == 0, "its cursor was told, so nothing was read twice"
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


# --- the database away ---


@one_loop
def test_while_the_database_does_not_answer_events_flow_and_the_loop_is_free(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        async with SpreadNetwork(SMALL) as network, FakePersist() as persist:
            clock = TurningClock()
            leases = MemoryLeases(LEASE_S, clock)
            async with two(network, persist, leases) as both:
                held = [dict(process.worker.leases.held) for process in both]
                leases.away = True
                ends_s = clock() + 2 * LEASE_S
                said = 0
                while clock() < ends_s:
                    commit_everywhere(network)
                    said += 6
                    await until(lambda said=said: len(persist.log) == said)  # type: ignore[misc]
                leases.away = False
                seen = dict(leases.members)
                await until(lambda: all(leases.members[m] > seen[m] for m in (0, 1)))
                assert [process.worker.leases.held for process in both] == held
                assert {lease.owner for lease in leases.shards.values()} == {0, 1}
                # Hanging, not refusing: a process ends all the same.
                blocked = threading.Event()
                leases.look = lambda *_: blocked.wait(30) or None  # type: ignore[method-assign, assignment]
                commit_everywhere(network)
                said += 6
                await until(lambda: len(persist.log) == said)
                began_s = time.monotonic()
                for process in both:
                    await process.drain()
                assert time.monotonic() - began_s < 15
                blocked.set()
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_only_the_owner_of_the_first_shard_puts_hosts_in(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with FakePersist() as persist:
            leases = MemoryLeases(KEPT_S)
            leases.shards[0] = Lease(1, 7, 5, FAR_S)
            table = MemoryTable()
            async with ingest(
                persist, [], "http://localhost:1", leases=leases, table=table, processes=2,
                named=("http://localhost:1",),
            ) as worker:  # fmt: skip
                await until(lambda: len(worker.leases.readable) == 31)
                assert table.rows == []
                leases.shards[0] = Lease(None, None, 5, 0.0)
                await until(lambda: len(table.rows) == 1)

    loop_run(story())
