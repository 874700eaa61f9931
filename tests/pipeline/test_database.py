"""What is lost when PostgreSQL is late, slow, cut off, or not the one it was? Nothing, and nothing twice.

What a process that is killed or stands still costs is told in test_kill.py and test_still.py.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import pytest

from tests.fix_postgres import Postgres
from tests.fix_wire import Way, Wire
from tests.pipeline.house import FLOW_S, STORY_S
from tests.pipeline.test_kill import replay_of
from tests.relay import ROOT, Relay
from tests.simnet import Consumer, Network, NetworkConfig, compare
from tests.simnet.delivered import Delivered
from tests.simnet.truth import key_of, open_frame

RATE: Final = 40.0
"""Events a second over all hosts."""
NETWORK: Final = NetworkConfig(
    hosts=4, accounts=12, records=50, genesis_share=0.0,
    mix={"commit": 0.8, "batch": 0.05, "handle": 0.05, "new_account": 0.1},
)  # fmt: skip
"""Accounts that nobody has met come all the time, so that the database is needed all the time."""
NEWCOMERS: Final = 3
CUTS: Final = (
    *(("persist writer", at) for at in (1, 200, 700, 1500, 3000)),
    *(("persist finder", at) for at in (1, 200)),
    *(("documents", at) for at in (1, 200)),
)
"""Whose connection is cut, and after how many bytes that it carries one way: a flush has some thousands."""
MANY_CUTS: Final = tuple(("persist writer", at) for at in range(0, 6000, 150))


@dataclass(slots=True)
class House:
    """A network, a relay with a database of its own, and a consumer that stays."""

    network: Network
    relay: Relay
    database_url: str
    consumer: Consumer
    live: Delivered

    async def until(self, what: str, condition: Callable[[], Any], within_s: float = FLOW_S) -> Any:
        """Ask `condition` in a thread until it gives something true; that.

        Raises:
            AssertionError: it did not within so many seconds.
        """
        try:
            async with asyncio.timeout(within_s):
                while not (found := await asyncio.to_thread(condition)):
                    await asyncio.sleep(0.05)
                return found
        except TimeoutError:
            raise AssertionError(f"not in {within_s:g} s: {what}\n{self.relay.tail(15)}") from None

    async def commits(self) -> None:
        """Let every account say something, and see it come out."""
        for account in self.network.accounts:
            self.network.commit(account)
        await self.network.settled()

    async def health(self, status: int, word: str, reason: str | None = None) -> None:
        """Wait until `/_health` says this."""

        def said() -> bool:
            found, body = self.relay.get("/_health")
            return found == status and (body["status"], body.get("reason")) == (word, reason)

        await self.until(f"health to be {status}, {word}, {reason}", said)

    async def loaded(self, seconds: float) -> None:
        """A load for a while; what it says comes out."""
        await self.network.run(RATE, seconds)
        await self.network.settled()

    async def end(self) -> None:
        """See that all came out once and in order, live and in a replay, and that the view is right."""
        await self.network.settled()
        report = compare(self.network.truth, self.live.frames)
        assert report.ok, report.as_dict()
        assert await replay_of(self.relay, "broadcast-0", len(self.live.frames)) == self.live.frames
        await self.until("the view to have everything", self._is_applied)
        await asyncio.to_thread(self._verify)

    def _verify(self) -> None:
        checked = subprocess.run(
            [sys.executable, "-m", "persist.verify", "--log-dir", self.relay.data / "log"],
            cwd=ROOT, env={**os.environ, "STANDPIPE_DATABASE_URL": self.database_url},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert checked.returncode == 0, checked.stdout

    def _is_applied(self) -> bool:
        numbers = self.relay.metrics("persist")
        return numbers["standpipe_view_applied_seq"] == numbers["standpipe_durable_seq"]


@asynccontextmanager
async def beside(
    network: Network,
    database_url: str,
    *,
    prepared: Callable[[Relay], None] = lambda _relay: None,
    started: Callable[[Relay], Awaitable[None]] | None = None,
    **environ: str,
) -> AsyncIterator[House]:
    """A relay that reads the network.

    Args: prepared: called before it is started. started: awaited before it is expected to deliver.
    """
    relay = Relay(
        plc_url=network.plc_url,
        hosts=[host.url for host in network.hosts],
        environ={"DATABASE_URL": database_url, **environ},
    )
    try:
        prepared(relay)
        relay.spawn()
        if started is not None:
            await started(relay)
        await asyncio.to_thread(relay.wait_healthy)
        live = Delivered()
        async with Consumer(relay.stream_url, keep=live.keep) as consumer:
            network.settled = live.settles(network, consumer, FLOW_S)
            yield House(network, relay, database_url, consumer, live)
    finally:
        await asyncio.to_thread(relay.__exit__, None, None, None)


def waiting(relay: Relay) -> set[str]:
    """The processes that have told that they wait for the database."""
    lines = relay.log_lines()
    return {line["process"] for line in lines if line["msg"].startswith("waiting for")}


@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
def test_a_database_that_is_late_away_slow_or_cut_off_costs_time_alone(
    loop_run: Any, postgres_url: str
) -> None:
    with Wire(postgres_url) as wire:

        async def late(relay: Relay) -> None:
            async with asyncio.timeout(FLOW_S):
                while not waiting(relay) >= {"run", "persist", "ingest-0", "ingest-1"}:
                    await asyncio.sleep(0.05)
                while (await asyncio.to_thread(relay.get, "/_health"))[0] != 503:
                    await asyncio.sleep(0.05)
            wire.open()

        async def story() -> None:
            wire.shut()
            async with Network(NETWORK) as network:
                async with beside(network, wire.url, started=late) as at:
                    await at.commits()
                    await away(at, wire)
                    await slow(at, wire)
                    await cut_off(at, wire, CUTS)
                    await at.end()

        loop_run(story(), STORY_S)


async def away(at: House, wire: Wire) -> None:
    """Accounts in memory go on, health says how it is; newcomers wait, and then come in order."""
    wire.shut()
    await at.commits()
    await at.health(200, "degraded", "database")
    await at.commits()
    before, known = len(at.live.frames), {account.did for account in at.network.accounts}
    newcomers = [at.network.new_account() for _ in range(NEWCOMERS)]
    for account in newcomers:
        at.network.commit(account)
    await at.health(503, "error", "database")
    for account in at.network.accounts:
        if account.did in known:
            at.network.commit(account)
    await at.consumer.wait_for(lambda: len(at.live.frames) >= before + len(known), FLOW_S)
    assert {did_of(frame) for frame in at.live.frames[before:]} == known
    wire.open()
    await at.network.settled()
    await at.health(200, "ok")


async def slow(at: House, wire: Wire) -> None:
    """Late, and then narrow: it takes as long as it takes."""
    wire.delay_s = 0.15
    await at.loaded(2.0)
    wire.delay_s = 0.0
    wire.bytes_per_s = 30_000.0
    await at.loaded(2.0)
    wire.bytes_per_s = None


async def cut_off(at: House, wire: Wire, cuts: Iterable[tuple[str, int]]) -> None:
    """Again and again, both ways, under load."""
    load = asyncio.create_task(at.network.run(RATE, STORY_S))
    done = wire.cuts
    for name, after_bytes in cuts:
        for way in Way:
            wire.cut(name, way, after_bytes)
            done += 1
            await at.until(f"a cut of {name}", lambda: wire.cuts == done)  # noqa: B023
    at.network.stop()
    await load


@pytest.mark.slow
@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
def test_a_relay_whose_flushes_are_cut_off_at_every_place_loses_nothing(
    loop_run: Any, postgres_url: str
) -> None:
    async def story() -> None:
        with Wire(postgres_url) as wire:
            async with Network(NETWORK) as network, beside(network, wire.url) as at:
                await cut_off(at, wire, MANY_CUTS)
                await at.end()

    loop_run(story(), STORY_S)


def did_of(frame: bytes) -> str:
    """Whose event a frame is."""
    kind, body = open_frame(frame)
    return key_of(kind, body)[1]


class Backup:
    """A cold copy of a server's cluster."""

    def __init__(self, server: Postgres) -> None:
        self._cluster = server.paths.postgres_dir / "data"
        self._copy = server.paths.postgres_dir / "backup"
        self._server = server

    def take(self) -> None:
        """Stop the server, copy, start it again."""
        self._server.stop()
        subprocess.run(["cp", "-a", self._cluster, self._copy], check=True)
        self._server.start()

    def put_back(self) -> None:
        """Stop the server, put the copy in place of what it has, start it again."""
        self._server.stop()
        shutil.rmtree(self._cluster)
        subprocess.run(["cp", "-a", self._copy, self._cluster], check=True)
        self._server.start()


def applied_seq(url: str) -> int:
    with closing(psycopg.connect(url)) as connection:
        row = connection.execute("SELECT value FROM relay WHERE name = 'applied_seq'").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
def test_an_old_backup_of_the_database_loses_and_doubles_nothing(
    loop_run: Any, own_postgres: Postgres
) -> None:
    async def story() -> None:
        backup = Backup(own_postgres)
        async with Network(NETWORK) as network, beside(network, own_postgres.url) as at:
            await at.loaded(2.0)
            # Else persist goes on with the view before the copy's seq is read.
            await at.until("the view to have everything", at._is_applied)
            await asyncio.to_thread(backup.take)
            saved_seq = await asyncio.to_thread(applied_seq, own_postgres.url)
            await at.loaded(3.0)
            # Put back while the relay is down …
            await at.until("the view to go on", lambda: applied_seq(own_postgres.url) > saved_seq)
            await asyncio.to_thread(at.relay.stop)
            await asyncio.to_thread(backup.put_back)
            assert await asyncio.to_thread(applied_seq, own_postgres.url) == saved_seq
            await asyncio.to_thread(at.relay.start)
            await at.loaded(2.0)
            # … and while it runs, under load.
            load = asyncio.create_task(network.run(RATE, STORY_S))
            await at.until("the view to go on", lambda: applied_seq(own_postgres.url) > saved_seq)
            await asyncio.to_thread(backup.put_back)
            await at.until("the view to go on", lambda: applied_seq(own_postgres.url) > saved_seq)
            told = "the database had confirmed seq"
            await at.until(
                "it to be told", lambda: any(told in line["msg"] for line in at.relay.log_lines())
            )
            await at.until("events to flow", lambda: at.relay.get("/_health")[0] == 200)
            network.stop()
            await load
            await at.end()

    loop_run(story(), STORY_S)
