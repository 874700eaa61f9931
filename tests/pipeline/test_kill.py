"""What is lost when a process is killed? Nothing: not an event, not an order, not a number."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from tests.conserved import conserved
from tests.pipeline.house import FLOW_S, STORY_S
from tests.relay import Relay
from tests.simnet import Consumer, Network, NetworkConfig, Report, compare
from tests.simnet.delivered import Delivered

PROCESSES: Final = ("persist", "ingest-0", "broadcast-0", "postgres", "ingest-1", "broadcast-1")
RATE: Final = 60.0
"""Events a second over all hosts."""

NETWORK: Final = NetworkConfig(hosts=4, accounts=12, records=200, invalid_share=0.03)

Story = Callable[[Relay, Network, Consumer, Delivered], Awaitable[None]]


async def under_load(
    story: Story, config: NetworkConfig = NETWORK, **environ: str
) -> tuple[Report, list[bytes], list[bytes]]:
    """Tell a story to a relay under load → the report, the frames as they came, and a replay.

    It begins when every host is read: before that, half of the relay has not begun.
    """
    async with Network(config) as network:
        relay = Relay(
            plc_url=network.plc_url,
            hosts=[host.url for host in network.hosts],
            environ={"STANDPIPE_BROADCAST_PROCESSES": "2", **environ},
        )
        live = Delivered()
        async with relay, Consumer(relay.stream_url, keep=live.keep) as consumer:
            network.settled = live.settles(network, consumer, FLOW_S)
            load = asyncio.create_task(network.run(RATE, STORY_S))
            await consumer.wait_for(lambda: len(live.frames) > RATE and network.caught_up(), FLOW_S)
            await story(relay, network, consumer, live)
            network.stop()
            await load
            await network.settled()
            replay, other = [
                await replay_of(relay, name, len(live.frames))
                for name in ("broadcast-0", "broadcast-1")
            ]
            assert replay == other
        return compare(network.truth, live.frames), live.frames, replay


async def replay_of(relay: Relay, broadcaster: str, count: int) -> list[bytes]:
    """Everything that one broadcaster has, asked for at its own address."""
    told = await asyncio.to_thread(relay.run_file, broadcaster)
    assert told is not None
    public, private = f":{relay.port}/", f":{told['private_port']}/"
    async with Consumer(relay.stream_url.replace(public, private)) as consumer:
        await consumer.wait_count(count, FLOW_S)
        return consumer.frames


async def flows(network: Network) -> None:
    """Wait until what has been said so far, and what is said next, has come out."""
    await network.settled()
    before = len(network.truth.entries)
    while len(network.truth.entries) < before + RATE / 2:
        await asyncio.sleep(0.02)
    await network.settled()


def assert_whole(report: Report, frames: list[bytes], replay: list[bytes]) -> None:
    """Every valid event once and in order, live as in the replay, byte for byte."""
    assert report.ok, report.as_dict()
    assert report.expected > RATE
    assert replay == frames


def test_kill_9_of_each_process_in_turn_loses_and_doubles_nothing(
    loop_run: Any, request: pytest.FixtureRequest
) -> None:
    async def story(relay: Relay, network: Network, _consumer: Consumer, _live: Delivered) -> None:
        # Every process is asked for its numbers all the time, and each answer has to add up.
        asked = {*PROCESSES} - {"postgres"}
        async with conserved(relay) as watch:
            await watch.hears(asked)
            for name in PROCESSES:
                old = await asyncio.to_thread(relay.kill, name)
                await asyncio.to_thread(relay.wait_replaced, name, old)
                await flows(network)
            # At least: one that cannot begin yet ends, and is started again.
            await watch.hears(asked, lives=2)

    loop = request.node.callspec.params["loop_run"]
    assert_whole(*loop_run(under_load(story, STANDPIPE_EVENT_LOOP=loop), STORY_S))


def test_all_processes_killed_at_once_lose_and_double_nothing(
    loop_run: Any, request: pytest.FixtureRequest
) -> None:
    async def story(relay: Relay, network: Network, _consumer: Consumer, _live: Delivered) -> None:
        for _ in range(3):
            old = {name: await asyncio.to_thread(relay.kill, name) for name in PROCESSES}
            for name, pid in old.items():
                await asyncio.to_thread(relay.wait_replaced, name, pid)
            await flows(network)

    loop = request.node.callspec.params["loop_run"]
    assert_whole(*loop_run(under_load(story, STANDPIPE_EVENT_LOOP=loop), STORY_S))


def test_a_persist_that_stands_still_or_has_no_room_loses_and_doubles_nothing(
    loop_run: Any, request: pytest.FixtureRequest
) -> None:
    async def story(relay: Relay, network: Network, consumer: Consumer, _live: Delivered) -> None:
        # It may have knocked at a broadcaster that had not seen the log yet; from here on it stays.
        breaks = consumer.breaks
        # What piles up shows at the stage before, and nowhere else.
        pid = await asyncio.to_thread(relay.kill, "persist", signal.SIGSTOP)
        await piles_up(relay, 15_000)
        # Twice: the first tells, and forgets, the most of what came before, as where a gap was filled.
        for _ in range(2):
            before = await peaks(relay, "broadcast-0", "broadcast-1")
        await piles_up(relay, 30_000)
        after = await peaks(relay, "broadcast-0", "broadcast-1")
        os.kill(pid, signal.SIGCONT)
        assert after["chunks_pending"] == before["chunks_pending"]
        await flows(network)
        # A disk that takes no more of any file than a little beyond what it has.
        (newest,) = sorted((relay.data / "log").glob("*.seg"))[-1:]
        full = newest.stat().st_size + 10_000
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
        await asyncio.to_thread(relay.wait_replaced, "persist", pid)
        assert [line for line in relay.log_lines() if "cannot write the log" in line["msg"]]
        await flows(network)
        assert consumer.breaks == breaks

    loop = request.node.callspec.params["loop_run"]
    assert_whole(*loop_run(under_load(story, STANDPIPE_EVENT_LOOP=loop), STORY_S))


async def piles_up(relay: Relay, size: int) -> None:
    """Wait until an ingest process has so many bytes that persist has not answered."""
    async with asyncio.timeout(FLOW_S):
        while (await peaks(relay, "ingest-0", "ingest-1"))["ingest_in_flight_bytes"] < size:
            await asyncio.sleep(0.02)


async def peaks(relay: Relay, *names: str) -> Counter[str]:
    """The most that each queue held in any of some processes since this was asked last."""
    found: Counter[str] = Counter()
    for name in names:
        for key, value in (await asyncio.to_thread(relay.metrics, name)).items():
            if key.startswith("standpipe_queue_high_water{"):
                found[key.split('"')[1]] = max(found[key.split('"')[1]], int(value))
    return found


def test_a_relay_that_is_stopped_and_started_goes_on_where_it_was(
    loop_run: Any, request: pytest.FixtureRequest
) -> None:
    async def story(relay: Relay, network: Network, _consumer: Consumer, _live: Delivered) -> None:
        assert await asyncio.to_thread(relay.stop) == 0
        relay.spawn()
        await asyncio.to_thread(relay.wait_healthy)
        assert relay.process is not None
        await flows(network)
        # Whoever kills supervisord itself leaves nothing behind, and loses nothing either.
        relay.process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(relay.stop)
        relay.spawn()
        await asyncio.to_thread(relay.wait_healthy)
        await flows(network)

    loop = request.node.callspec.params["loop_run"]
    assert_whole(*loop_run(under_load(story, STANDPIPE_EVENT_LOOP=loop), STORY_S))
