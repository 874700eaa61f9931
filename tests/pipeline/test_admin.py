"""The admin API of a whole relay with two broadcasters: one answers for all, whichever is asked."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from base64 import b64encode
from functools import partial
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.pipeline.house import STORY_S, House, house
from tests.simnet import NetworkConfig

PASSWORD = "opensesame"
CREDENTIALS = "Basic " + b64encode(f"admin:{PASSWORD}".encode()).decode()
LIST = "/admin/consumers/list"


def asked(at: House, path: str, method: str = "GET") -> Any:
    """What an operator is answered. Blocks."""
    request = urllib.request.Request(
        at.relay.http_url + path, method=method, headers={"Authorization": CREDENTIALS}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200
        return json.loads(answer.read())


async def answer(at: House, path: str, method: str = "GET") -> Any:
    return await asyncio.to_thread(partial(asked, at, path, method))


@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
def test_each_of_two_broadcasters_lists_and_lets_go_the_consumers_of_both(loop_run: Any) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=1, accounts=2, records=5)
        environ = {"STANDPIPE_BROADCAST_PROCESSES": "2", "STANDPIPE_ADMIN_PASSWORD": PASSWORD}
        async with house(config, "uvloop", **environ) as at:
            streams: list[ClientConnection] = []

            async def rows() -> list[dict[str, Any]]:
                found: list[dict[str, Any]] = await answer(at, LIST)
                while any("error" in row for row in found):
                    # The other was slower than a broadcaster waits for it.
                    found = await answer(at, LIST)
                return [row for row in found if row["user_agent"] == "one of these"]

            try:
                # The kernel chooses who takes a connection; who has not begun to serve refuses it.
                for name in ("broadcast-0", "broadcast-1"):
                    await at.until(f"{name} to serve", partial(serves, at, name))
                processes: set[str] = set()
                async with asyncio.timeout(60):
                    while len(streams) < 6 or len(processes) < 2:
                        streams.append(
                            await connect(at.relay.stream_url, user_agent_header="one of these")
                        )
                        processes = {row["process"] for row in await rows()}
                for _ in range(8):  # whichever answers
                    found = await rows()
                    assert len({row["id"] for row in found}) == len(found) == len(streams)
                await stopped(at, len(found))
                for row in found:
                    gone = await answer(at, f"/admin/consumers/disconnect?id={row['id']}", "POST")
                    assert gone == {"success": "true", "changed": True}
                for stream in streams:
                    with pytest.raises(ConnectionClosed) as closed:
                        while True:
                            await stream.recv()
                    assert closed.value.rcvd is not None
                    assert closed.value.rcvd.code == 1008
                    assert "last seq " in closed.value.rcvd.reason
                assert await rows() == []
            finally:
                for stream in streams:
                    await stream.close()

    loop_run(story(), STORY_S)


def serves(at: House, name: str) -> bool:
    """Whether the health of a broadcaster, at its own port, says so."""
    facts = at.relay.run_file(name)
    if facts is None:
        return False
    try:
        url = f"http://127.0.0.1:{facts['private_port']}/_health"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False


async def stopped(at: House, count: int) -> None:
    """One of them stands still: the other names it, and gives what it has."""
    pid = at.relay.pid("broadcast-1")
    os.kill(pid, signal.SIGSTOP)
    try:
        # At the private port of the one that goes on: on the public one the kernel might choose the other.
        facts = at.relay.run_file("broadcast-0")
        assert facts is not None
        request = urllib.request.Request(
            f"http://127.0.0.1:{facts['private_port']}{LIST}",
            headers={"Authorization": CREDENTIALS},
        )

        def ask() -> Any:
            with urllib.request.urlopen(request, timeout=20) as response:
                return json.loads(response.read())

        found = await asyncio.to_thread(ask)
        (silent,) = [row for row in found if "error" in row]
        assert silent["process"] == "broadcast-1"
        assert 0 < len(found) - 1 <= count
        assert {row["process"] for row in found if "error" not in row} == {"broadcast-0"}
    finally:
        os.kill(pid, signal.SIGCONT)
