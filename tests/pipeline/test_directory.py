"""What is lost while nobody can say whose key is whose? Nothing: it waits, and then comes in order."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from common.verdict import DropReason
from tests.pipeline.house import FLOW_S, STORY_S, House, house
from tests.simnet import NetworkConfig
from tests.simnet.faults import DirectoryFault
from tests.simnet.truth import key_of, open_frame

FAULTS: Final = (
    DirectoryFault.DOWN,
    DirectoryFault.NOT_FOUND,
    DirectoryFault.HUGE,
    DirectoryFault.SLOW,
)
OUTAGE_FRAMES: Final = 40
"""Events of well-known accounts that have to come out during each fault."""
NEWCOMERS: Final = {"commit": 0.9, "new_account": 0.1}
"""Accounts that were known before go on; the new ones have documents that nobody has read."""


async def endure(at: House, fault: DirectoryFault, forged: int) -> None:
    """One fault, from its beginning to its end and until nothing waits any more.

    Args: forged: how many events are, at its end, that were said up to then.
    """
    network = at.network
    dropped = await asyncio.to_thread(at.drops)
    await network.plc.set_fault(fault)
    # Not sooner: while it goes down the load makes accounts that are still looked up.
    known = {a.did for a in network.accounts if a.active}
    before = len(at.live.frames)
    newcomers = [network.new_account() for _ in range(3)]
    # Only a document read from now on could show that these two are forged.
    network.say_invalid("foreign_commit")
    network.say_invalid("foreign_status")
    await at.until("newcomers to be held", lambda: held(at) >= 4 * len(newcomers))
    await at.consumer.wait_for(lambda: len(at.live.frames) > before + OUTAGE_FRAMES, FLOW_S)
    out = {did_of(frame) for frame in at.live.frames[before:]}
    assert out <= known, fault
    assert await asyncio.to_thread(at.drops) == dropped, fault
    await network.plc.set_fault(DirectoryFault.NONE)
    await network.settled()
    wanted = {DropReason.HOST_NOT_AUTHORITATIVE: forged}
    await at.until(f"the drops {wanted}", lambda: at.drops() == wanted)


def held(at: House) -> int:
    """Events that wait for a document, in both ingest processes. Blocks."""
    return sum(int(at.relay.metrics(name)["standpipe_held"]) for name in ("ingest-0", "ingest-1"))


def did_of(frame: bytes) -> str:
    """Whose event a frame is."""
    kind, body = open_frame(frame)
    return key_of(kind, body)[1]


def test_while_the_directory_fails_newcomers_wait_others_flow_and_nothing_is_dropped(
    loop_run: Any, request: pytest.FixtureRequest
) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=4, accounts=12, records=50, mix=NEWCOMERS)
        async with house(config, request.node.callspec.params["loop_run"]) as at:
            at.network.plc.delay_s = 60.0
            for account in at.network.accounts:
                at.network.commit(account)
            await at.network.settled()
            load = asyncio.create_task(at.network.run(40.0, STORY_S))
            for number, fault in enumerate(FAULTS, 1):
                await endure(at, fault, 2 * number)
            at.network.stop()
            await load
            await at.network.settled()
            report = at.report()
            assert report.ok, report.as_dict()
            assert report.expected > 3 * 4 * len(FAULTS) + OUTAGE_FRAMES * len(FAULTS)

    loop_run(story(), STORY_S)
