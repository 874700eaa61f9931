"""A directory that is down for five minutes under load, in real time and with the bounds of production.

Lesson 9: no drop for authority or signature, hosts paused at the bound, all released in order.
`tests/ingest/test_outage_at_the_bound.py` is the short form.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from tests.pipeline.house import STORY_S, House, house
from tests.simnet import NetworkConfig
from tests.simnet.faults import DirectoryFault

OUTAGE_S: Final = 300.0
RATE: Final = 160.0
"""Events a second of all hosts: their 8 MB each are full after a minute or two."""
HOSTS: Final = 4
FULL_S: Final = 200.0
"""By when every host has to stand still, in seconds."""
RECOVERY_S: Final = 240.0
"""Within which all that waited has to come out, in seconds."""
MIX: Final = {"commit": 0.9, "handle": 0.03, "sync": 0.02, "new_account": 0.05}
"""No new keys: what was signed with an old one before could not be told from a forgery afterwards."""


def number(at: House, name: str) -> int:
    """One number of both ingest processes. Blocks."""
    return int(at._numbers(("ingest-0", "ingest-1"))[name])


@pytest.mark.slow
@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
@pytest.mark.parametrize("fault", [DirectoryFault.DOWN, DirectoryFault.SLOW])
def test_five_minutes_without_a_directory_cost_nobody_an_event(
    loop_run: Any, fault: DirectoryFault
) -> None:
    async def story() -> None:
        config = NetworkConfig(
            hosts=HOSTS, accounts=200, records=20, genesis_share=0, mix=MIX,
            backlog_bytes=256_000_000,
        )  # fmt: skip
        async with house(config, "uvloop") as at:
            network, loop = at.network, asyncio.get_running_loop()
            known = network.accounts[:100]
            for account in known:
                network.commit(account)
            await network.settled()
            await network.plc.set_fault(fault)
            began_s = loop.time()
            load = asyncio.create_task(network.run(RATE, 2 * OUTAGE_S))
            await at.until(
                "every host to be read no further",
                lambda: number(at, "standpipe_hosts_paused") == HOSTS,
                FULL_S,
            )
            held = await asyncio.to_thread(number, at, "standpipe_held")
            said = len(network.truth.entries)
            while loop.time() < began_s + OUTAGE_S:
                assert not await asyncio.to_thread(at.drops)
                await asyncio.sleep(5.0)
            # They stood still, however much there was to be said.
            assert len(network.truth.entries) > said + 1000
            assert await asyncio.to_thread(number, at, "standpipe_hosts_paused") == HOSTS
            assert await asyncio.to_thread(number, at, "standpipe_held") < 2 * held
            network.stop()
            await load
            before = len(at.live.frames)
            expected = len(network.truth.entries)
            assert before < expected
            await network.plc.set_fault(DirectoryFault.NONE)
            await at.until("all to come out", lambda: len(at.live.frames) >= expected, RECOVERY_S)
            await at.until("nothing to wait", lambda: number(at, "standpipe_held") == 0)
            assert await asyncio.to_thread(number, at, "standpipe_hosts_paused") == 0
            assert not await asyncio.to_thread(at.drops)
            report = at.report()
            assert report.ok, report.as_dict()

    loop_run(story(), OUTAGE_S + FULL_S + RECOVERY_S + STORY_S)
