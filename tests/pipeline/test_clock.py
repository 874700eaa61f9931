"""What becomes of honest events while our own clock is behind? They wait; health says why.

Hosts that are all ahead by the same look to us just as a clock of ours that is behind by as much.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import pytest

from ingest.steps import REV_SKEW_S
from tests.pipeline.house import FLOW_S, STORY_S, House, house
from tests.simnet import NetworkConfig

AHEAD_S: Final = 20.0
"""How far the hosts' revs lie ahead of what is borne: after so long they are right."""


def health(at: House) -> tuple[int, str | None]:
    """Status and reason of the relay's health. Blocks."""
    status, body = at.relay.get("/_health")
    return status, body and body.get("reason")


def held(at: House) -> int:
    """Events that wait, in both ingest processes. Blocks."""
    return sum(int(at.relay.metrics(name)["standpipe_held"]) for name in ("ingest-0", "ingest-1"))


def test_while_our_clock_is_wrong_events_wait_health_says_so_and_nothing_is_dropped(
    loop_run: Any, request: pytest.FixtureRequest
) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=8, accounts=16, records=20)
        async with house(config, request.node.callspec.params["loop_run"]) as at:
            assert await asyncio.to_thread(health, at) == (200, None)
            began_s = time.time()
            at.network.clock._now_s = lambda: time.time() + REV_SKEW_S + AHEAD_S
            for _ in range(2):
                for account in at.network.accounts:
                    at.network.commit(account)
            said = 2 * len(at.network.accounts)
            await at.until("all to be held", lambda: held(at) == said, AHEAD_S)
            await at.until("health to say why", lambda: health(at) == (503, "clock"), AHEAD_S)
            assert at.live.frames == []
            assert time.time() < began_s + AHEAD_S, "too slow to tell anything"
            await at.consumer.wait_for(lambda: len(at.live.frames) == said, AHEAD_S + FLOW_S)
            assert time.time() >= began_s + AHEAD_S - 1
            report = at.report()
            assert report.ok, report.as_dict()
            assert not await asyncio.to_thread(at.drops)

    loop_run(story(), STORY_S)
