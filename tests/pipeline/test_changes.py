"""What does an honest account lose when it changes its key or its host, as real ones do? Nothing."""

from __future__ import annotations

from typing import Any

import pytest

from common.verdict import DropReason
from tests.pipeline.house import STORY_S, house
from tests.pipeline.test_hostile import deserved
from tests.simnet import NetworkConfig

MOVES = 3


def test_silent_keys_and_migrations_cost_only_what_a_former_key_or_host_says(
    loop_run: Any, request: pytest.FixtureRequest
) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=2, accounts=6, records=30, genesis_share=0)
        async with house(config, request.node.callspec.params["loop_run"]) as at:
            network = at.network
            for account in network.accounts:
                network.commit(account)
            await network.settled()
            for _ in range(MOVES):
                for account in network.accounts[:2]:
                    await network.silent_key(account)
                # They go back to a host that has spoken for them in vain: what the relay still had in
                # hand of that would come true.
                await at.until("drops of what was in vain", lambda: at.drops() == deserved(at))
                for account in network.accounts[2:4]:
                    await network.migrate(account, 1 - account.host)
                    network.commit(account)
                for account in network.accounts[4:]:
                    await network.new_key(account)
            for account in network.accounts:
                network.commit(account, writes=3)
            await network.settled()
            report = at.report()
            assert report.ok, report.as_dict()
            wanted = deserved(at)
            await at.until(f"the drops {wanted}", lambda: at.drops() == wanted)
            assert wanted == {
                DropReason.SYNC_NOT_RESIGNED: 2 * MOVES,
                DropReason.HOST_NOT_AUTHORITATIVE: 4 * MOVES,
            }

    loop_run(story(), STORY_S)
