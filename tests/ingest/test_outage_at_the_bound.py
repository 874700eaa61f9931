"""A directory that is down under load: hosts stop at their bound, nothing is lost, all comes in order.

The short form of tests/pipeline/test_five_minutes.py, with bounds so small that they are reached.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from common.verdict import DropReason
from ingest.config import EVENT_BYTES, ResolverLimits
from tests.fix_loop import LoopRun
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import CountingWorker, ingest
from tests.ingest.fix_worker import until as until_within
from tests.simnet.config import NetworkConfig
from tests.simnet.faults import DirectoryFault
from tests.simnet.network import Network
from tests.simnet.truth import compare

MIX: Final = {"commit": 0.9, "handle": 0.03, "sync": 0.02, "new_account": 0.05}
"""No new keys: what was signed with an old one before could not be told from a forgery afterwards."""
BOUNDS: Final[dict[str, Any]] = {
    "did_held_bytes": 10 * EVENT_BYTES, "host_held_bytes": 40 * EVENT_BYTES,
    "host_high_bytes": 80 * EVENT_BYTES, "host_low_bytes": 40 * EVENT_BYTES,
    # Long past before the outage ends: whatever may be given up would be.
    "hopeless_s": 0.1, "held_s": 0.2,
}  # fmt: skip
READ_BYTES: Final = 1 << 18
"""What one read of a socket brings at most, and as much of small messages is counted for."""
LIMITS: Final = ResolverLimits(
    request_s=0.2, retry_first_s=0.02, retry_longest_s=30.0, probe_longest_s=0.2
)


def until(condition: Callable[[], object]) -> Awaitable[None]:
    """As there, with time for a machine that does much else; what is waited for never takes long."""
    return until_within(condition, within_s=100.0)


def all_paused(worker: CountingWorker) -> bool:
    return worker.turns.paused == len(worker.subscriptions)


def idle(worker: CountingWorker) -> bool:
    return worker.pipeline.held == worker.pipeline.in_flight == 0


@pytest.mark.parametrize(
    ("loop_run", "fault"),
    [
        ("asyncio", DirectoryFault.DOWN),
        ("uvloop", DirectoryFault.DOWN),
        ("uvloop", DirectoryFault.SERVER_ERROR),
        ("uvloop", DirectoryFault.NOT_FOUND),
        ("uvloop", DirectoryFault.MALFORMED),
        ("uvloop", DirectoryFault.SLOW),
    ],
    indirect=["loop_run"],
)
def test_hosts_stop_at_their_bound_and_all_comes_out_in_order(
    loop_run: LoopRun, fault: DirectoryFault
) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=3, accounts=48, records=10, genesis_share=0, mix=MIX)
        async with Network(config) as network, FakePersist() as persist:
            known = network.accounts[:24]
            async with ingest(
                persist, [host.url for host in network.hosts], network.plc_url,
                resolver_limits=LIMITS, **BOUNDS,
            ) as worker:  # fmt: skip
                for account in known:
                    network.commit(account)
                await until(lambda: len(persist.log) == len(known))
                await network.plc.set_fault(fault)
                load = asyncio.create_task(network.run(400.0, 200.0))
                await until(lambda: all_paused(worker))
                # From here on nothing more is read, however much there is to be said.
                said = len(network.truth.entries)
                await until(lambda: len(network.truth.entries) > said + 200)
                assert all_paused(worker)
                assert worker.pipeline.held > 3 * 15
                for host in worker.subscriptions.values():
                    assert host.unfinished_bytes < BOUNDS["host_high_bytes"] + 2 * READ_BYTES
                assert worker.drops == []
                assert worker.conserved()
                network.stop()
                await load
                await network.plc.set_fault(DirectoryFault.NONE)
                await until(lambda: len(persist.log) == len(network.truth.entries))
                await until(lambda: idle(worker))
                assert worker.turns.paused == 0
                assert worker.drops == []
                assert worker.conserved()
            report = compare(network.truth, persist.frames())
            assert report.ok, report.as_dict()

    loop_run(story(), 240.0)


def test_a_directory_that_flaps_under_load_costs_nobody_an_event(loop_run: LoopRun) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=3, accounts=48, records=10, genesis_share=0, mix=MIX)
        async with Network(config) as network, FakePersist() as persist:
            async with ingest(
                persist, [host.url for host in network.hosts], network.plc_url,
                resolver_limits=LIMITS, **BOUNDS,
            ) as worker:  # fmt: skip
                load = asyncio.create_task(network.run(200.0, 200.0))
                for fault in (
                    DirectoryFault.SERVER_ERROR, DirectoryFault.DOWN, DirectoryFault.NOT_FOUND,
                    DirectoryFault.MALFORMED, DirectoryFault.DOWN,
                ):  # fmt: skip
                    await network.plc.set_fault(fault)
                    await until(lambda: worker.pipeline.held > 40)
                    await network.plc.set_fault(DirectoryFault.NONE)
                    out = len(persist.log)
                    await until(lambda: len(persist.log) > out + 40)  # noqa: B023
                network.stop()
                await load
                await until(lambda: len(persist.log) == len(network.truth.entries))
                await until(lambda: idle(worker))
                assert worker.drops == []
            report = compare(network.truth, persist.frames())
            assert report.ok, report.as_dict()

    loop_run(story(), 240.0)


def test_what_was_forged_meanwhile_is_dropped_when_it_can_be_told(loop_run: LoopRun) -> None:
    """Holding is no pass: of what waits, each comes to the verdict that it deserves."""

    async def story() -> None:
        config = NetworkConfig(hosts=2, accounts=8, records=10, genesis_share=0)
        async with Network(config) as network, FakePersist() as persist:
            async with ingest(
                persist, [host.url for host in network.hosts], network.plc_url,
                resolver_limits=LIMITS,
            ) as worker:  # fmt: skip
                await network.plc.set_fault(DirectoryFault.DOWN)
                wanted: dict[Any, int] = {}
                for account in network.accounts:
                    network.commit(account)
                for name in ("foreign_commit", "bad_signature", "foreign_status") * 3:
                    reason = network.say_invalid(name)
                    wanted[reason] = wanted.get(reason, 0) + 1
                said = len(network.truth.entries)
                await until(lambda: worker.pipeline.held + len(worker.drops) == said)
                assert DropReason.SIGNATURE_INVALID not in worker.reasons()
                assert DropReason.HOST_NOT_AUTHORITATIVE not in worker.reasons()
                assert persist.log == []
                await network.plc.set_fault(DirectoryFault.NONE)
                await until(lambda: idle(worker) and len(worker.drops) == 9)
                assert worker.reasons() == wanted
            assert compare(network.truth, persist.frames()).ok

    loop_run(story(), 240.0)
