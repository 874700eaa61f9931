"""A whole ingest process whose machine has the wrong time, and then the right one again."""

from __future__ import annotations

import asyncio

import pytest

import ingest.worker as worker_module
from common.steady import distance_s
from ingest.config import Limits
from tests.fix_loop import LoopRun
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import CountingWorker, ingest, until
from tests.simnet.config import NetworkConfig
from tests.simnet.network import Network
from tests.simnet.truth import compare


class Wall:
    """The machine's clock as somebody has set it. distance_s: ahead of the true time."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.distance_s = 0.0
        patch.setattr(worker_module, "distance_s", lambda: self.distance_s)


async def set_clock(worker: CountingWorker, wall: Wall, distance_s: float) -> None:
    wall.distance_s = distance_s
    await until(lambda: worker.pipeline.clock.distance_s == distance_s)


def test_a_clock_an_hour_behind_costs_no_event_and_is_told_of(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        wall = Wall(monkeypatch)
        config = NetworkConfig(hosts=3, accounts=9, records=20, genesis_share=0)
        async with Network(config) as network, FakePersist() as persist:
            async with ingest(
                persist, [h.url for h in network.hosts], network.plc_url, grace_s=2.0
            ) as worker:
                for account in network.accounts:
                    network.commit(account)
                await until(lambda: len(persist.log) == 9)
                assert not persist.clock_suspect
                await set_clock(worker, wall, -3600.0)
                for _ in range(5):
                    for account in network.accounts:
                        network.commit(account)
                await until(lambda: worker.pipeline.held == 45 and persist.clock_suspect)
                # Well past the grace that a single host would have.
                await asyncio.sleep(2.5)
                assert (len(persist.log), worker.drops) == (9, [])
                assert worker.conserved()
                # What needs no clock goes on.
                network.say(0, next(a for a in network.accounts if a.host == 0).account())
                await set_clock(worker, wall, 0.0)
                await until(
                    lambda: len(persist.log) == 55 and not persist.clock_suspect,
                    lambda: (len(persist.log), persist.clock_suspect, worker.pipeline.held),
                )
                assert worker.drops == []
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_hosts_are_paused_at_their_bound_while_our_clock_is_wrong(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        wall = Wall(monkeypatch)
        config = NetworkConfig(hosts=3, accounts=6, records=20, genesis_share=0)
        bound = 60_000
        async with Network(config) as network, FakePersist() as persist:
            async with ingest(
                persist,
                [h.url for h in network.hosts],
                network.plc_url,
                host_high_bytes=bound,
                host_low_bytes=bound // 2,
                host_held_bytes=bound // 2,
                did_held_bytes=bound // 4,
            ) as worker:
                network.commit()
                await until(lambda: len(persist.log) == 1)
                await set_clock(worker, wall, -3600.0)
                for _ in range(60):
                    for account in network.accounts:
                        network.commit(account)
                    await asyncio.sleep(0)
                await until(lambda: persist.clock_suspect and worker.turns.paused == 3)
                for host in worker.subscriptions.values():
                    assert host.feed.unfinished_bytes > bound
                assert worker.drops == []
                await set_clock(worker, wall, 0.0)
                await until(lambda: len(persist.log) == 361, lambda: len(persist.log))
                assert worker.drops == []
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_the_time_that_revs_are_held_against_is_the_systems() -> None:
    assert Limits().grace_s >= 10
    assert abs(distance_s()) < 5
