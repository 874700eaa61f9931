"""Does a relay reach a state that has a name, whatever is missing at its start, and leave it by itself?

Each within NAMED_S: a disk that is full, a directory that is down, an ingest process that ends whenever it
begins. A database that is not there: see test_database.py. Source: lesson 34.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from common.segment_files import segment_path
from common.settings import MAX_BROADCAST_PROCESSES
from tests.fix_net import free_port
from tests.pipeline.house import STORY_S
from tests.pipeline.test_database import House, beside
from tests.relay import Relay, wait_for
from tests.simnet import Network, NetworkConfig
from tests.simnet.faults import DirectoryFault

NETWORK: Final = NetworkConfig(hosts=4, accounts=12, records=50, genesis_share=0.0)
NAMED_S: Final = 30.0
"""How long a relay may take to such a state, and out of it, in seconds. Source: lesson 34."""
FULL: Final = Path("/dev/full")
"""Takes no byte: every write fails as on a disk without room. Source: full(4)."""


@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
def test_without_room_directory_or_a_process_it_says_so_and_goes_on_when_they_are_there(
    loop_run: Any, postgres_url: str
) -> None:
    async def story() -> None:
        async with Network(NETWORK) as network:
            await network.plc.set_fault(DirectoryFault.DOWN)
            for account in network.accounts:
                network.commit(account)
            ports = {"STANDPIPE_METRICS_PORT": str(free_metrics_port())}
            relay = beside(network, postgres_url, prepared=fill, started=disk_is_full, **ports)
            async with relay as at:
                await directory_is_down(at)
                await ingest_cannot_begin(at)
                await at.end()

    loop_run(story(), STORY_S)


def free_metrics_port() -> int:
    """The first of a row of ports in which those of this relay's processes are free."""
    offsets = (0, 1, 1 + MAX_BROADCAST_PROCESSES, 2 + MAX_BROADCAST_PROCESSES)
    while True:
        first = free_port()
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for offset in offsets:
                stack.enter_context(socket.create_server(("127.0.0.1", first + offset)))
            return first


def said(relay: Relay, process: str, words: str) -> int:
    """How often a process has said this in the log."""
    lines = relay.log_lines()
    return sum(words in line["msg"] for line in lines if line["process"] == process)


def fill(relay: Relay) -> None:
    """Leave no room for the log: its first segment is there, and takes nothing."""
    folder = relay.data / "log"
    folder.mkdir(parents=True)
    segment_path(folder, 1).symlink_to(FULL)


async def disk_is_full(relay: Relay) -> None:
    """persist says so, again and again, and health is red; what it needs is given back."""

    def told() -> bool:
        status, body = relay.get("/_health")
        red = status == 503 and body["reason"] in ("no_log", "silent")
        return red and said(relay, "persist", "No space left on device") > 1

    await asyncio.to_thread(wait_for, "a full disk to be told", told, NAMED_S)
    segment_path(relay.data / "log", 1).unlink()


async def directory_is_down(at: House) -> None:
    """Events are held, which the numbers tell, and none is dropped; it comes, and they come out."""

    def held() -> bool:
        names = ("ingest-0", "ingest-1")
        waiting = sum(at.relay.metrics(name)["standpipe_held"] for name in names)
        return int(waiting) == len(at.network.accounts)

    await at.until("every event to be held", held, NAMED_S)
    assert (await asyncio.to_thread(at.relay.get, "/_health"))[0] == 200
    assert at.live.frames == []
    await at.network.plc.set_fault(DirectoryFault.NONE)
    await at.network.settled()


async def ingest_cannot_begin(at: House) -> None:
    """It says why, the other one takes its hosts, and it is back when it can begin."""
    with occupied(at.relay, "ingest-1"):
        faults = said(at.relay, "ingest-1", "Address already in use")
        await at.until(
            "ingest-1 to say why it ends, again and again",
            lambda: said(at.relay, "ingest-1", "Address already in use") > faults + 1,
            NAMED_S,
        )
        await at.commits()
    await at.until("ingest-1 to be back", lambda: at.relay.run_file("ingest-1"), NAMED_S)
    await at.commits()


@contextlib.contextmanager
def occupied(relay: Relay, name: str) -> Iterator[None]:
    """Kill a process and take the port that its successor needs."""
    found = relay.run_file(name)
    assert found is not None
    relay.kill(name)

    def taken() -> socket.socket | None:
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", found["metrics_port"]))
        # A successor was quicker; then that one.
        if relay.run_file(name) is not None:
            relay.kill(name)
        return None

    with wait_for(f"the port of {name}", taken, NAMED_S):
        yield
