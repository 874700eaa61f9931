"""What does a process that stands still for a while cost? Time; not an event, not an order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from tests.conserved import conserved
from tests.pipeline.house import FLOW_S, STORY_S
from tests.pipeline.test_kill import NETWORK, PROCESSES, RATE, assert_whole, flows, under_load
from tests.relay import Relay, alive, children_of
from tests.simnet import Consumer, Network
from tests.simnet.delivered import Delivered

STILL: Final = (("persist",), ("ingest-0", "broadcast-0"), ("persist", "postgres"))
"""What is stopped together."""


@asynccontextmanager
async def stopped(relay: Relay, *names: str) -> AsyncIterator[None]:
    """Processes that stand still, with what they have started, as PostgreSQL has."""
    pids = [pid for name in names for pid in await asyncio.to_thread(family, relay, name)]
    for pid in pids:
        # One that served a question of PostgreSQL's may have ended.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            if alive(pid):
                os.kill(pid, signal.SIGCONT)


def family(relay: Relay, name: str) -> list[int]:
    pid = relay.pid(name)
    return [pid, *children_of(pid)]


async def said(network: Network, count: float) -> None:
    """Wait until the hosts have said so much more."""
    before = len(network.truth.entries)
    while len(network.truth.entries) < before + count:
        await asyncio.sleep(0.02)


def test_a_process_that_stands_still_loses_and_doubles_nothing(loop_run: Any) -> None:
    async def story(relay: Relay, network: Network, _consumer: Consumer, _live: Delivered) -> None:
        async with conserved(relay) as watch:
            for names in STILL:
                async with stopped(relay, *names):
                    await said(network, 4 * RATE)
                await flows(network)
            await watch.hears({*PROCESSES} - {"postgres"})

    assert_whole(*loop_run(under_load(story), STORY_S))


def test_broadcasters_that_sleep_through_a_new_persist_miss_nothing(loop_run: Any) -> None:
    async def story(relay: Relay, network: Network, _consumer: Consumer, _live: Delivered) -> None:
        async with stopped(relay, "broadcast-0", "broadcast-1"):
            old = await asyncio.to_thread(relay.kill, "persist")
            await asyncio.to_thread(relay.wait_replaced, "persist", old)
            await said(network, 2 * RATE)
        await flows(network)

    assert_whole(*loop_run(under_load(story), STORY_S))


def test_without_the_database_known_accounts_flow_and_nothing_is_lost(loop_run: Any) -> None:
    async def story(relay: Relay, network: Network, consumer: Consumer, live: Delivered) -> None:
        for account in network.accounts:
            network.commit(account)
        await network.settled()
        async with stopped(relay, "postgres"):
            before = len(live.frames)
            await consumer.wait_for(lambda: len(live.frames) > before + 5 * RATE, FLOW_S)
        await flows(network)
        old = await asyncio.to_thread(relay.kill, "postgres", signal.SIGINT)
        await asyncio.to_thread(relay.wait_replaced, "postgres", old)
        await flows(network)

    # Nobody is born: whom persist has not met, it has to ask the database for.
    known = replace(NETWORK, mix={"commit": 9, "batch": 1}, genesis_share=0.0)
    assert_whole(*loop_run(under_load(story, known), STORY_S))
