"""What does a whole relay ask the network for when it starts again? Nothing that it has asked before."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Any

import psycopg
import pytest

from common.paths import Paths
from tests.pipeline.house import STORY_S, House, house
from tests.simnet import NetworkConfig


async def round_of_commits(at: House) -> None:
    for account in at.network.accounts:
        at.network.commit(account)
    await at.network.settled()


def written(at: House) -> bool:
    """Whether every account's document is in the database. Blocks."""
    with closing(psycopg.connect(Paths(at.relay.data).embedded_database_url)) as connection:
        row = connection.execute("SELECT count(*) FROM identity").fetchone()
    return row == (len(at.network.accounts),)


@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
def test_neither_a_restart_nor_a_killed_process_asks_for_a_document_again(loop_run: Any) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=4, accounts=24, records=20, genesis_share=0, legacy_share=0.3)
        async with house(config, "uvloop") as at:
            network = at.network
            await round_of_commits(at)
            assert set(network.plc.requests) == {account.did for account in network.accounts}
            assert set(network.plc.requests.values()) == {1}
            await at.until("the documents to be written", lambda: written(at))
            network.plc.requests.clear()
            pid = await asyncio.to_thread(at.relay.kill, "ingest-0")
            await asyncio.to_thread(at.relay.wait_replaced, "ingest-0", pid)
            await round_of_commits(at)
            assert network.plc.requests.total() == 0
            # What changes while it is down is looked up, and only that.
            await asyncio.to_thread(at.relay.stop)
            changed = network.accounts[5]
            changed.new_key()
            network.publish(changed)
            await asyncio.to_thread(at.relay.start)
            await round_of_commits(at)
            assert dict(network.plc.requests) == {changed.did: 1}
            report = at.report()
            assert report.ok, report.as_dict()

    loop_run(story(), STORY_S)
