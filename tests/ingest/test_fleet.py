"""What an operator says of a host counts at once, and only what he says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import psycopg
import pytest

from common.control import ControlPlane, Limits, NewHost
from common.envelope import HostCursor, HostObservation
from common.verdict import Level
from ingest import fleet
from ingest.host_table import HostTable
from ingest.hosts import HostRow
from ingest.lifecycle import Phase
from persist.store import Store
from persist.view import Changes
from tests.fix_loop import LoopRun
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import CountingWorker, MemoryTable, TurningClock, ingest, until
from tests.relay import ROOT
from tests.simnet.host import Host

AT_ONCE_S = 1.0
"""Within this an operator's word counts everywhere."""


@dataclass
class Desk:
    """An operator at the database that an ingest process reads."""

    plane: ControlPlane
    connection: psycopg.Connection[Any]
    table: HostTable


@contextmanager
def desk_at(url: str) -> Iterator[Desk]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute((ROOT / "common" / "schema.sql").read_text())
        yield Desk(ControlPlane(connection, "command:test"), connection, HostTable(lambda: url))


async def at_once(done: Callable[[], object]) -> None:
    """Wait for it, and hold it against the time in which it must be true."""
    now_s = TurningClock()
    since_s = now_s()
    await until(done)
    assert now_s() - since_s <= AT_ONCE_S


@pytest.fixture(autouse=True)
def only_by_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is read when something is said to have changed, and never by the clock."""
    monkeypatch.setattr(fleet, "HOSTS_AGAIN_S", 3600.0)


def told(persist: FakePersist, host: int) -> str:
    """What was told last of a host."""
    seen = persist.observations.get(host)
    return seen.status if seen is not None else ""


def test_every_word_of_an_operator_counts_within_a_second(
    loop_run: LoopRun, postgres_url: str
) -> None:
    async def story(desk: Desk) -> None:
        host = Host(0, lambda _did: None)
        await host.start()
        name = host.url.removeprefix("http://")
        plane, table = desk.plane, cast(MemoryTable, desk.table)
        plane.add_host(NewHost(name, False, 100, False, 0, "settings"))
        async with FakePersist() as persist:
            async with ingest(persist, [], "http://localhost:1", table=table) as worker:
                await until(lambda: host.connections == 1)
                await until(lambda: told(persist, 1) == "active")
                plane.ban_host(name)
                await at_once(lambda: host.connections == 0)
                await at_once(lambda: told(persist, 1) == "banned")
                assert not persist.observations[1].connected
                assert not worker.subscriptions
                plane.unban_host(name)
                await at_once(lambda: host.connections == 1)
                await at_once(lambda: told(persist, 1) == "active")

                plane.set_level(name, Level.OBSERVE)
                await at_once(lambda: worker.subscriptions[1].feed.source.level is Level.OBSERVE)
                plane.set_limits(name, Limits(per_second=7))
                await at_once(lambda: worker.subscriptions[1].feed.limiter.limits.per_second == 7)
                assert host.accepted == 2, "neither of them is a reason to connect anew"

                plane.set_cursor(name, 5)
                await at_once(lambda: host.requests[-1:] == [f"{PATH}?cursor=5"])
                assert worker.subscriptions[1].feed.generation == 2
                # It never came so far: after three looks it is read from its beginning.
                await until(lambda: host.requests[-1:] == [f"{PATH}?cursor=0"])
                await until(lambda: host.connections == 1)
                accepted = host.accepted
                plane.dial_host(name)
                await at_once(lambda: host.accepted == accepted + 1)
                await until(lambda: host.connections == 1)

                plane.ban_domain("localhost")
                await at_once(lambda: host.connections == 0)
                await at_once(lambda: told(persist, 1) == "banned")
                plane.unban_domain("localhost")
                await at_once(lambda: host.connections == 1)

                plane.delete_host(name)
                await at_once(lambda: host.connections == 0)
                await until(lambda: told(persist, 1) == "idle")
                assert not persist.observations[1].connected
                plane.add_host(NewHost(name, tls=False, account_limit=9, trusted=False, cursor=0,
                                       added_by="operator"))  # fmt: skip
                await at_once(lambda: host.connections == 1)
                assert worker.conserved()
        await host.close()

    with desk_at(postgres_url) as desk:
        loop_run(story(desk))


def read_since(table: MemoryTable, reads: int) -> bool:
    """Whether the table was read again."""
    return table.reads > reads


PATH = "/xrpc/com.atproto.sync.subscribeRepos"


def test_a_crawl_request_for_a_host_that_waits_for_hours_has_it_dialled_at_once(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        host, table = Host(0, lambda _did: None), MemoryTable()
        await host.start()
        await host.close()
        async with FakePersist() as persist:
            async with ingest(
                persist, [host.url], "http://localhost:1", table=table,
                retry_first_s=3600.0, retry_longest_s=3600.0, retry_slow_s=3600.0,
            ) as worker:  # fmt: skip
                await until(lambda: 1 in worker.subscriptions)
                life = worker.subscriptions[1].life
                await until(lambda: life.phase is Phase.WAITING)
                await until(lambda: 1 in persist.observations and persist.observations[1].failures)
                assert persist.observations[1].next_dial_us > (time.time() + 1000) * 1e6
                assert persist.observations[1].failures == 1
                await host.start()
                table.rows[0] = table.rows[0]._replace(dial_asked=1)
                table.versions += 1
                await at_once(lambda: host.connections == 1)
        await host.close()

    loop_run(story())


def test_another_name_of_a_host_is_not_read_and_that_is_told(loop_run: LoopRun) -> None:
    async def story() -> None:
        host, table = Host(0, lambda _did: None), MemoryTable()
        await host.start()
        name = host.url.removeprefix("http://")
        table.rows.append(HostRow(1, name, False, 1, 0, alias_of="main.example"))
        async with (
            FakePersist() as persist,
            ingest(persist, [], "http://localhost:1", table=table) as worker,
        ):
            await until(lambda: 1 in persist.observations)
            assert persist.observations[1].error == "another name of main.example"
            assert told(persist, 1) == "idle"
            assert not worker.subscriptions
            table.rows[0] = table.rows[0]._replace(alias_of=None)
            table.versions += 1
            await at_once(lambda: host.connections == 1)
        await host.close()

    loop_run(story())


def test_a_host_that_is_banned_goes_on_being_told_of_once_and_no_more(loop_run: LoopRun) -> None:
    async def story() -> None:
        table = MemoryTable()
        table.rows.append(HostRow(1, "a.example", True, 1, 0, wanted="banned"))
        async with (
            FakePersist() as persist,
            ingest(persist, [], "http://localhost:1", table=table) as worker,
        ):
            sent: list[HostObservation] = []
            await until(lambda: told(persist, 1) == "banned")
            worker.fleet._unread = sent.append
            for asked in range(1, 4):
                reads = table.reads
                table.versions += 1
                await until(partial(read_since, table, reads))
                assert sent == [], asked

    loop_run(story())


def test_who_is_unbanned_is_dialled_before_all_that_wait(loop_run: LoopRun) -> None:
    """A ban that was a mistake, taken back in the middle of a cold start."""

    async def story() -> None:
        host, table = Host(0, lambda _did: None), MemoryTable()
        await host.start()
        name = host.url.removeprefix("http://")
        table.rows.append(HostRow(1, name, False, 1, 0, wanted="banned"))
        for number in range(2, 502):
            table.rows.append(HostRow(number, f"localhost:{number}", False, 1, 0, accounts=number))
        async with (
            FakePersist() as persist,
            ingest(persist, [], "http://localhost:1", table=table) as worker,
        ):
            await until(lambda: worker._dialer.waiting > 450)
            await until(lambda: told(persist, 1) == "banned")
            table.rows[0] = table.rows[0]._replace(wanted="active")
            table.versions += 1
            await until(lambda: host.connections == 1)
            never = [each for each in worker.subscriptions.values() if not each.life.failures]
            assert len(never) > 200, "others that were never dialled are behind it"
            subscription = worker.subscriptions[1]
            table.rows[0] = table.rows[0]._replace(wanted="banned")
            table.versions += 1
            await until(lambda: 1 not in worker.subscriptions)
            assert subscription.observed == "banned"
        await host.close()

    loop_run(story())


def test_hosts_are_begun_with_without_a_pause_and_dialled_at_the_rate(loop_run: LoopRun) -> None:
    """A start with thousands: the loop is not held up, and their line is as long as they are many."""

    async def story() -> None:
        table = MemoryTable()
        for number in range(1, 301):
            table.rows.append(HostRow(number, f"localhost:{number}", False, 1, 0, accounts=number))
        async with (
            FakePersist() as persist,
            ingest(persist, [], "http://localhost:1", table=table) as worker,
        ):
            await until(lambda: len(worker.subscriptions) == 300)
            await until(lambda: worker._dialer.waiting > 250)
            await until(lambda: worker.subscriptions[300].life.failures)
            assert not worker.subscriptions[1].life.failures, "the largest come first"

    loop_run(story())


# --- bans and cursors ---


def test_a_cursor_save_never_undoes_a_ban_nor_an_observation(postgres_url: str) -> None:
    """Persist writes what ingest told before it knew; the operator's word stands in columns of its own."""
    with desk_at(postgres_url) as desk, psycopg.connect(postgres_url, autocommit=True) as other:
        store = Store(other)
        for number in range(1, 21):
            name = f"h{number}.example"
            desk.plane.add_host(NewHost(name, True, 100, False, 0, "crawl"))
            store.flush(changes(number, seq=number))
            if number % 2:
                desk.plane.ban_host(name)
            else:
                desk.plane.ban_domain(name)
            store.flush(changes(number, seq=number + 100))
        banned = {row.hostname for row in desk.table.wanted() if row.banned}
        assert len(banned) == 20
        row = desk.connection.execute("SELECT wanted, cursor, observed FROM host WHERE id = 1")
        assert row.fetchone() == ("banned", 101, "active")
        desk.table.close()


def test_a_cursor_of_the_generation_before_never_comes_back(postgres_url: str) -> None:
    """An operator sets a cursor, or the numbers begin anew, while older saves are under way."""
    with desk_at(postgres_url) as desk, psycopg.connect(postgres_url, autocommit=True) as other:
        store = Store(other)
        desk.plane.add_host(NewHost("a.example", True, 100, False, 0, "crawl"))
        store.flush(changes(1, seq=900))
        assert desk.table.restart(1, 1, 0)
        store.flush(changes(1, seq=950))
        row = desk.table.wanted()[0]
        assert (row.generation, row.cursor, row.restarts) == (2, 0, 1)
        # Somebody was first: nothing is done twice.
        assert not desk.table.restart(1, 1, 0)
        said = desk.plane.audit(10**9, 1)[0]
        assert (said.who, said.action, said.subject) == ("relay", "restart_host", "a.example")
        assert (said.was, said.now) == ("generation 1", "generation 2")
        version = desk.table.version()
        assert desk.table.restart(1, 2, None)
        assert desk.table.version() == version + 1
        assert desk.table.wanted()[0].cursor is None
        desk.table.close()


def changes(host: int, seq: int) -> Changes:
    """A cursor and an observation of one host, as one flush."""
    return Changes(
        accounts=[], cursors=[HostCursor(host, 1, seq)], tallies=[],
        observations=[HostObservation(host, "active", None, restarts=0)],
        applied_seq=seq, scan_seq=seq,
    )  # fmt: skip


def test_an_operators_ban_races_with_everything_else_and_wins(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Banned and unbanned over and over while the host flaps: at the end it is as was said last."""

    async def story() -> None:
        host, table = Host(0, lambda _did: None), MemoryTable()
        await host.start()
        async with FakePersist() as persist:
            worker: CountingWorker
            async with ingest(persist, [host.url], "http://localhost:1", table=table) as worker:
                for turn in range(12):
                    wanted = "active" if turn % 2 else "banned"
                    table.rows[0] = table.rows[0]._replace(wanted=wanted)
                    table.versions += 1
                    host.cut()
                    await asyncio.sleep(0.02 * (turn % 4))
                table.rows[0] = table.rows[0]._replace(wanted="banned")
                table.versions += 1
                await at_once(lambda: host.connections == 0 and not worker.subscriptions)
                await until(lambda: told(persist, 1) == "banned")
                accepted = host.accepted
                await asyncio.sleep(0.6)
                assert host.accepted == accepted
                assert told(persist, 1) == "banned"
                assert worker._dialer.waiting == worker._dialer.under_way == 0
        await host.close()

    monkeypatch.setattr(fleet, "LOOK_S", 0.03)
    loop_run(story())
