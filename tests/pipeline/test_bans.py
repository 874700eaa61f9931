"""What does a ban cost that is lifted at once? Nothing: the host is read on from where it was."""

from __future__ import annotations

import asyncio

from common.control import ControlPlane
from common.database import Connection, connect
from common.paths import Paths
from tests.pipeline.house import FLOW_S, STORY_S
from tests.relay import Relay
from tests.simnet import Consumer, Network, NetworkConfig, compare
from tests.simnet.delivered import Delivered

RATE = 150.0
BANS = 8


def test_a_ban_that_is_lifted_at_once_costs_no_event() -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=3, accounts=12, records=20, genesis_share=0)
        async with Network(config) as network:
            relay = Relay(plc_url=network.plc_url, hosts=[host.url for host in network.hosts])
            live = Delivered()
            async with relay, Consumer(relay.stream_url, keep=live.keep) as consumer:
                network.settled = live.settles(network, consumer, FLOW_S)
                load = asyncio.create_task(network.run(RATE, STORY_S))
                url = Paths(relay.data).embedded_database_url
                with connect(url, "a test") as connection:
                    plane = ControlPlane(connection, "command:test")
                    for round_ in range(BANS):
                        so_far = len(live.frames)
                        await consumer.wait_for(lambda: len(live.frames) > so_far + 20, FLOW_S)  # noqa: B023
                        host = network.hosts[round_ % 3].url.rpartition("/")[2]
                        assert plane.ban_host(host)
                        if round_ % 2:
                            # Heard, and no longer read.
                            await until_unread(connection, host)
                        assert plane.unban_host(host)
                network.stop()
                await load
                await network.settled()
                report = compare(network.truth, live.frames)
                assert report.ok, report.as_dict()

    asyncio.run(asyncio.wait_for(story(), STORY_S))


async def until_unread(connection: Connection, host: str) -> None:
    """Until a host is seen to be banned."""
    query = "SELECT observed = 'banned' FROM host WHERE hostname = %s"
    while connection.execute(query, (host,)).fetchone() != (True,):
        await asyncio.sleep(0.02)
