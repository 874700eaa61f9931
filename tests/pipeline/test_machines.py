"""Ingest on a second machine: its events arrive exactly once, whatever becomes of it, of persist or the cable.

Two network namespaces where they can be had, else two data folders and TCP on loopback: tests.elsewhere.
The second machine shares nothing with the first but the database and persist's address.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from common import curve
from common.paths import Paths
from common.sharding import shard_of
from tests.elsewhere import Place, elsewhere, namespaces_can_be_had
from tests.fix_net import free_port
from tests.pipeline.house import FLOW_S, STORY_S
from tests.relay import ROOT, Relay, alive, children_of
from tests.simnet import Consumer, Network, NetworkConfig, compare
from tests.simnet.delivered import Delivered

NETWORK: Final = NetworkConfig(hosts=6, accounts=24, records=60, invalid_share=0.03)
RATE: Final = 40.0
FIRST: Final = 8
"""Number of the second machine's first ingest process."""
ISOLATED: Final = namespaces_can_be_had()


class Second(Relay):
    """The other machine: `standpipe run` over there, in a data folder of its own."""

    place: Place

    def spawn(self) -> None:
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable, str(ROOT / "tests" / "tether.py"), *self.place.prefix,
                    sys.executable, "-m", "common.command", "run",
                ],
                cwd=self.project, env=self.environ, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True,
            )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """What `standpipe status --json` prints over there."""
        asked = subprocess.run(
            [*self.place.prefix, sys.executable, "-m", "common.command", "status", "--json"],
            cwd=self.project, env=self.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        told: dict[str, Any] = json.loads(asked.stdout)
        return told

    def number(self, process: str, name: str) -> float:
        """One of its numbers; 0 while it does not answer."""
        file = self.run_file(process)
        if file is None:
            return 0.0
        with contextlib.suppress(OSError):
            text = self.place.get(f"http://127.0.0.1:{file['metrics_port']}/metrics")
            for line in text.splitlines():
                key, _, value = line.rpartition(" ")
                if key == name:
                    return float(value)
        return 0.0


class Both:
    """Two machines, a network and a consumer."""

    def __init__(
        self, network: Network, first: Relay, second: Second, keys: Path, live: Delivered
    ) -> None:
        self.network = network
        self.first = first
        self.second = second
        self.keys = keys
        self.live = live

    def owners(self) -> dict[int, int | None]:
        url = Paths(self.first.data).embedded_database_url
        with closing(psycopg.connect(url)) as connection:
            return dict(connection.execute("SELECT number, owner FROM shard").fetchall())

    def readers(self) -> set[int | None]:
        """Whose the hosts are that are connected; {None} while one is not."""
        if any(host.connections != 1 for host in self.network.hosts):
            return {None}
        owners = self.owners()
        return {owners[shard_of(host.name)] for host in self.network.hosts}

    async def until(self, what: str, condition: Any, within_s: float = FLOW_S) -> Any:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not (found := await asyncio.to_thread(condition)):
                    await asyncio.sleep(0.05)
                return found
        raise AssertionError(
            f"not within {within_s:g} s: {what}; {self.readers()}\n{self.second.tail()}"
        )

    async def flows(self) -> None:
        """Wait until what is said from now on comes out."""
        before = len(self.network.truth.entries)
        while len(self.network.truth.entries) < before + RATE:
            await asyncio.sleep(0.02)
        await self.network.settled()


@contextmanager
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="standpipe-test-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made)


@asynccontextmanager
async def machines() -> AsyncIterator[Both]:
    """Both, under load; at the end all that was said came out exactly once."""
    with contextlib.ExitStack() as stack:
        here, there = stack.enter_context(folder()), stack.enter_context(folder())
        keys = here / "keys"
        curve.make(keys, ["second"])
        # Its folder is all that goes over.
        shutil.copytree(keys / "second", there / "keys")
        port, database = free_port(), free_port()
        async with Network(NETWORK) as network:
            ports = [host.port for host in network.hosts]
            ports.append(int(network.plc_url.rpartition(":")[2]))
            first = Relay(
                plc_url=network.plc_url, hosts=[host.url for host in network.hosts], folder=here,
                environ={
                    "STANDPIPE_INGEST_PROCESSES": "1",
                    "STANDPIPE_CURVE_DIR": str(keys / "persist"),
                },
            )  # fmt: skip
            Paths(first.data).prepare()
            socket = Paths(first.data).postgres_socket_dir / ".s.PGSQL.5432"
            place = stack.enter_context(elsewhere(ports, {database: socket}, isolated=ISOLATED))
            address = f"tcp://{place.persist_host}:{port}"
            first.environ["STANDPIPE_BATCHES_BIND"] = address
            second = Second(
                plc_url=network.plc_url, hosts=[], folder=there,
                environ={
                    "STANDPIPE_INGEST_PROCESSES": "1",
                    "STANDPIPE_INGEST_SPARES": "0",
                    "STANDPIPE_INGEST_FIRST": str(FIRST),
                    "STANDPIPE_BATCHES_CONNECT": address,
                    "STANDPIPE_CURVE_DIR": str(there / "keys"),
                    "STANDPIPE_BIND": f"127.0.0.1:{first.port}",
                    "DATABASE_URL": f"postgresql://standpipe@127.0.0.1:{database}/postgres",
                },
            )  # fmt: skip
            second.place = place
            live = Delivered()
            async with first, Consumer(first.stream_url, keep=live.keep) as consumer:
                network.settled = live.settles(network, consumer, FLOW_S)
                load = asyncio.create_task(network.run(RATE, STORY_S))
                both = Both(network, first, second, keys, live)
                await both.until("the first to read all", lambda: both.readers() == {0})
                try:
                    yield both
                    network.stop()
                    await load
                    await network.settled()
                    report = compare(network.truth, live.frames)
                    assert report.ok, report.as_dict()
                finally:
                    await asyncio.to_thread(second._end)


def sends(both: Both) -> float:
    """How many commits the second machine has on disk."""
    return both.second.number(f"ingest-{FIRST}", 'standpipe_forwarded_total{kind="commit"}')


def losses_of(second: Second) -> int:
    """How often its ingest has said that persist was away."""
    return sum("persist takes nothing" in line["msg"] for line in second.log_lines())


def refused(both: Both) -> dict[str, float]:
    numbers = both.first.metrics("persist")
    return {
        reason: numbers[f'standpipe_refused_links_total{{reason="{reason}"}}']
        for reason in ("no_key", "unknown_key")
    }


def test_what_a_second_machine_reads_arrives_once_whatever_becomes_of_it() -> None:
    async def story() -> None:
        async with machines() as both:
            second = both.second
            second.spawn()
            await both.until("the second to read", lambda: both.readers() == {0, FIRST})
            await both.flows()
            assert await both.until("its events", lambda: sends(both))
            # It has nothing but ingest, and its lock is its supervisor's.
            assert sorted(path.stem for path in (second.data / "run").glob("*.json")) == [
                f"ingest-{FIRST}"
            ]
            assert refused(both) == {"no_key": 0, "unknown_key": 0}
            told = await asyncio.to_thread(second.status)
            assert [(each["name"], each["state"]) for each in told["processes"]] == [
                (f"ingest-{FIRST}", "running")
            ]
            assert told["up"]

            # persist dies; both find the next one, and send again what was not answered.
            old = await asyncio.to_thread(both.first.kill, "persist")
            await asyncio.to_thread(both.first.wait_replaced, "persist", old)
            await both.flows()
            before = await asyncio.to_thread(sends, both)
            await both.until("the second to go on", lambda: sends(both) > before)

            if second.place.isolated:
                # The cable is pulled for longer than it takes to notice.
                links = await asyncio.to_thread(
                    second.number, f"ingest-{FIRST}", "standpipe_links_total"
                )
                losses = losses_of(second)
                with second.place.unplugged():
                    await asyncio.sleep(8.0)
                    await both.until("it to be noticed", lambda: losses_of(second) > losses)
                await both.until(
                    "a new connection",
                    lambda: second.number(f"ingest-{FIRST}", "standpipe_links_total") > links,
                )
                await both.flows()

            # The machine is gone, all of it at once.
            assert second.process is not None
            for pid in [second.process.pid, *children_of(second.process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            second.process.wait(20)
            began_s = asyncio.get_running_loop().time()
            await both.until("the first to read all", lambda: both.readers() == {0})
            print(f"taken over in {asyncio.get_running_loop().time() - began_s:.1f} s")
            # Not every shard has a host that shows whose it is.
            await both.until("it to have all", lambda: set(both.owners().values()) == {0})
            await both.flows()
            # It comes back, and is stopped as it should be.
            second.spawn()
            await both.until("the second to read again", lambda: both.readers() == {0, FIRST})
            await both.flows()
            assert await asyncio.to_thread(second.stop) == 0
            await both.until("the first to read all", lambda: both.readers() == {0})

    asyncio.run(asyncio.wait_for(story(), STORY_S))


def test_a_machine_with_a_wrong_key_is_refused_and_counted_and_reads_nothing() -> None:
    async def story() -> None:
        async with machines() as both:
            second = both.second
            stranger = second.folder / "stranger"
            curve.make(stranger, ["second"])
            theirs = both.keys / "second"
            shutil.copy(theirs / "server.pub", stranger / "second")
            second.environ["STANDPIPE_CURVE_DIR"] = str(stranger / "second")
            second.spawn()
            await both.until("it to be counted", lambda: refused(both)["unknown_key"] > 0)
            await both.until(
                "it to say so",
                lambda: any("does not know our key" in line["msg"] for line in second.log_lines()),
            )
            # It reads nothing, and keeps nothing from being read: it counts with nobody.
            await both.flows()
            assert both.readers() == {0}
            assert set(both.owners().values()) == {0}
            # Its key is let in, without a restart of anything.
            public = stranger / "persist" / "clients" / "second.pub"
            shutil.copy(public, both.keys / "persist" / "clients" / "stranger.pub")
            await both.until("it to read", lambda: both.readers() == {0, FIRST})
            await both.flows()
            assert alive(await asyncio.to_thread(both.first.pid, "persist"))

    asyncio.run(asyncio.wait_for(story(), STORY_S))
