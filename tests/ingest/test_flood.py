"""Hosts that send as much as the socket takes: what it costs them, and what it costs the others."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.config import Limits
from tests.fix_loop import LoopRun
from tests.ingest.fix_host import RawHost, Visit
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import CountingWorker, LagMeter, ingest, until
from tests.simnet.config import NetworkConfig
from tests.simnet.network import Network
from tests.simnet.truth import compare

PIECE_BYTES = 1 << 18
"""What one read of a socket brings at most."""
GROWN_BYTES = 60_000_000
"""What a flood may add to the memory of the process, in bytes."""
LAG_S = 0.25
"""How long one host may keep the loop. Source: lesson 22."""


def memory_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def flood(unit: bytes, head: bytes = b"") -> Callable[[Visit], object]:
    """A host that says `head` once and then `unit` without end, and never reads."""
    piece = unit * (PIECE_BYTES // len(unit))

    async def script(visit: Visit) -> None:
        await visit.shake()
        visit.say(head)
        while not visit.writer.is_closing():
            visit.say(piece)
            await visit.writer.drain()
            # Its own cost is not to be taken for the reader's.
            await asyncio.sleep(0.01)

    return script


@pytest.mark.parametrize(
    ("unit", "head"),
    [
        (b"\x82\x00", b""),
        (b"\x81\x00", b""),
        (b"\x82\x01\xa0", b""),
        (b"\x00\x00", b"\x02\x00"),
        (b"\x89\x00", b""),
        (b"\x89\x7d" + b"p" * 125, b""),
        (b"\x8a\x00", b""),
        (b"\x81\x40" + b"t" * 64, b""),
    ],
    ids=["empty messages", "empty texts", "one-byte messages", "empty fragments", "empty pings",
         "long pings", "pongs", "texts"],
)  # fmt: skip
def test_a_flood_costs_neither_memory_nor_the_others_time(
    loop_run: LoopRun, unit: bytes, head: bytes
) -> None:
    async def story() -> None:
        hostile = RawHost(flood(unit, head))  # type: ignore[arg-type]
        config = NetworkConfig(hosts=1, accounts=4, records=20, genesis_share=0)
        async with Network(config) as network, hostile, FakePersist() as persist:
            urls = [hostile.url, network.hosts[0].url]
            async with ingest(persist, urls, network.plc_url) as worker:
                await until(lambda: hostile.visits >= 1)
                gc.collect()
                before = memory_bytes()
                async with LagMeter() as lag:
                    for _ in range(25):
                        said = len(persist.log) + 1
                        network.commit()
                        await until(lambda: len(persist.log) == said)  # noqa: B023
                        worker.drops.clear()  # the test's own
                        assert inboxes(worker) < 2 * Limits().host_high_bytes
                        await asyncio.sleep(0.04)
                assert memory_bytes() - before < GROWN_BYTES
                assert lag.worst_s < LAG_S
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def inboxes(worker: CountingWorker) -> int:
    """What the messages that wait for their turn take at least, in bytes."""
    return sum(len(host.inbox) * 50 for host in worker.subscriptions.values())
