"""A spare slot is started and stopped under load: hosts move live, few of them, and no event is lost or doubled."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import closing
from typing import Any, Final

import psycopg
import pytest

from common.paths import Paths
from common.sharding import shard_of
from ingest.share import HOST_LOAD, TOLERANCE, WORTH
from tests.pipeline.house import FLOW_S, STORY_S, House, house
from tests.pipeline.test_kill import flows, replay_of
from tests.pipeline.test_leases import standing_still
from tests.relay import ROOT
from tests.simnet import NetworkConfig

NETWORK: Final = NetworkConfig(hosts=24, accounts=48, records=40, invalid_share=0.03)
RATE: Final = 60.0
SPARE: Final = "ingest-2"
WITHIN_S: Final = 10.0
STOP_S: Final = 5.0
"""How long a rebalance may keep a host from being read, in seconds."""
one_loop = pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)


class Watch:
    """What becomes of the hosts, looked at all the time.

    longest_s: how long a host was connected to nobody, at worst.
    """

    def __init__(self, at: House) -> None:
        self._at = at
        self.longest_s = 0.0
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        since: dict[int, float] = {}
        while True:
            now_s = time.monotonic()
            for host in self._at.network.hosts:
                if host.connections:
                    since.pop(host.index, None)
                else:
                    began_s = since.setdefault(host.index, now_s)
                    self.longest_s = max(self.longest_s, now_s - began_s)
            await asyncio.sleep(0.02)

    def end(self) -> float:
        self._task.cancel()
        return self.longest_s


def supervisorctl(at: House, *words: str) -> str:
    config = at.relay.data / "run" / "supervisord.conf"
    done = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(config), *words],
        cwd=ROOT, env=at.relay.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout


def table(at: House) -> dict[int, tuple[int | None, float, int]]:
    """Shard → owner, load, hosts."""
    with closing(psycopg.connect(Paths(at.relay.data).embedded_database_url)) as connection:
        rows = connection.execute("SELECT number, owner, load, hosts FROM shard").fetchall()
    return {number: (owner, load, hosts) for number, owner, load, hosts in rows}


def carried(at: House) -> dict[int | None, float]:
    """What each process carries, in fair shares of those that have any."""
    found: dict[int | None, float] = {}
    for owner, load, hosts in table(at).values():
        found[owner] = found.get(owner, 0.0) + load + HOST_LOAD * hosts
    return {owner: weight / sum(found.values()) for owner, weight in found.items()}


def even(at: House, members: set[int]) -> bool:
    """Whether these carry all of it, each reads its hosts, and none carries so much more that it is worth a move;
    and every host is connected."""
    found = carried(at)
    if {owner for owner, weight in found.items() if weight} != members:
        return False
    rows = table(at).values()
    hosts = [sum(count for owner, _, count in rows if owner == member) for member in members]
    if min(hosts) < sum(hosts) / len(hosts) / 2:
        return False
    weights = [load + HOST_LOAD * count for _, load, count in rows]
    fair = sum(weights) / len(members)
    apart = (max(found.values()) - min(found.values())) * len(members)
    # One shard more or less, where there are few hosts.
    bound = max(TOLERANCE, WORTH / fair) + max(weights) / fair
    return apart <= bound and all_read(at)


def all_read(at: House) -> bool:
    return all(host.connections == 1 for host in at.network.hosts)


def releases(at: House, *names: str) -> float:
    """How many shards were given up for balance, or lost."""
    return sum(at.relay.metrics(name)["standpipe_shard_releases_total"] for name in names)


def spare_hosts(at: House) -> int:
    found = table(at)
    return sum(found[shard_of(host.name)][0] == 2 for host in at.network.hosts)


def shards_of(at: House, member: int) -> int:
    return [owner for owner, _load, _hosts in table(at).values()].count(member)


def started_at(at: House) -> float:
    """When the spare said that it was ready, in Unix seconds."""
    file = at.relay.run_file(SPARE)
    assert file is not None
    return float(file["ready_s"])


async def within(at: House, what: str, condition: Any, began_s: float) -> float:
    """Wait until it is so → how long that took, in seconds."""
    await at.until(what, condition)
    return time.monotonic() - began_s


@one_loop
def test_a_spare_takes_its_share_live_and_gives_it_back(loop_run: Any) -> None:
    async def story() -> None:
        async with house(NETWORK, "uvloop", STANDPIPE_INGEST_SPARES="1") as at:
            told = await asyncio.to_thread(at.status)
            states = {each["name"]: each["state"] for each in told["processes"]}
            assert states[SPARE] == "spare"
            assert told["up"], "a spare that waits is no fault"
            load = asyncio.create_task(at.network.run(RATE, STORY_S))
            await at.until("an even start", lambda: even(at, {0, 1}))
            await at.consumer.wait_for(lambda: len(at.live.frames) > 5 * RATE, FLOW_S)
            await at.until("an even start", lambda: even(at, {0, 1}))
            pids = [await asyncio.to_thread(at.relay.pid, f"ingest-{n}") for n in (0, 1)]

            watch, began = Watch(at), await asyncio.to_thread(releases, at, "ingest-0", "ingest-1")
            began_s, began_at = time.monotonic(), time.time()
            said = await asyncio.to_thread(supervisorctl, at, "start", f"ingest:{SPARE}")
            assert "started" in said, said
            took_s = await within(at, "its share", lambda: even(at, {0, 1, 2}), began_s)
            ready_s = took_s - (started_at(at) - began_at)
            moved = await asyncio.to_thread(releases, at, "ingest-0", "ingest-1") - began
            stopped_s, hosts = watch.end(), await asyncio.to_thread(spare_hosts, at)
            print(
                f"started: its share in {took_s:.1f} s, {ready_s:.1f} s after it was ready; {moved:.0f} shards moved with {hosts} hosts, "
                f"a host was away for {stopped_s:.2f} s at worst"
            )
            # What Python takes to load is the machine's, and it has other work to do.
            assert ready_s < WITHIN_S
            assert stopped_s < STOP_S
            # Once each, and few: those that are worth it, and what three have less even than two.
            assert moved <= 2 + await asyncio.to_thread(shards_of, at, 2)
            assert moved <= hosts <= len(at.network.hosts) / 2
            assert pids == [await asyncio.to_thread(at.relay.pid, f"ingest-{n}") for n in (0, 1)]
            told = await asyncio.to_thread(at.status)
            assert told["up"]
            await flows(at.network)

            # kill -9, and nobody starts it again.
            assert at.relay.process is not None
            with standing_still(at.relay.process.pid):
                began_s = time.monotonic()
                await asyncio.to_thread(at.relay.kill, SPARE)
                took_s = await within(
                    at, "the others to have its hosts",
                    lambda: 2 not in carried(at) and all_read(at), began_s,
                )  # fmt: skip
                print(f"killed: its hosts are read after {took_s:.1f} s")
                assert took_s < WITHIN_S
                await flows(at.network)
            await at.until("its share again", lambda: even(at, {0, 1, 2}))
            await flows(at.network)

            # Stopped as an operator does.
            watch = Watch(at)
            said = await asyncio.to_thread(supervisorctl, at, "stop", f"ingest:{SPARE}")
            assert "stopped" in said, said
            began_s = time.monotonic()
            took_s = await within(
                at, "the others to have its hosts",
                lambda: 2 not in carried(at) and all_read(at), began_s,
            )  # fmt: skip
            print(f"stopped: its hosts are read after {took_s:.1f} s, away for {watch.end():.2f} s")
            assert took_s < WITHIN_S
            await flows(at.network)
            at.network.stop()
            await load
            await at.network.settled()
            report = at.report()
            assert report.ok, report.as_dict()
            assert await replay_of(at.relay, "broadcast-0", len(at.live.frames)) == at.live.frames
            told = await asyncio.to_thread(at.status)
            assert told["unaccounted"] == 0
            assert told["up"]

    loop_run(story(), STORY_S)
