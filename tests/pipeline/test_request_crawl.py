"""A host asks to be crawled by a relay that knows nobody: all that it ever said comes out."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from functools import partial
from typing import Any

import pytest

from tests.pipeline.house import STORY_S, House, house
from tests.simnet import NetworkConfig


def asked(at: House, hostname: str) -> tuple[int, dict[str, Any]]:
    """What a host is told. Blocks."""
    request = urllib.request.Request(
        f"{at.relay.http_url}/xrpc/com.atproto.sync.requestCrawl",
        json.dumps({"hostname": hostname}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
def test_a_host_that_asks_is_read_from_its_first_event(loop_run: Any) -> None:
    """H14, design section 3: on loopback, with a port, as a developer has it."""

    async def story() -> None:
        config = NetworkConfig(hosts=2, accounts=6, records=20)
        async with house(config, "uvloop", STANDPIPE_HOSTS="") as at:
            for _ in range(30):
                at.network.commit()
            first, second = at.network.hosts
            # As the reference PDS writes it, and as a URL.
            for name in (first.name, second.url):
                status, said = await at.until("an answer", partial(asked, at, name))
                assert (status, said["message"][:6]) == (200, "added:")
            await at.network.settled()
            for _ in range(30):
                at.network.commit()
            await at.network.settled()
            report = at.report()
            assert report.ok, report
            assert len(at.live.frames) >= 60

            def connected() -> bool:
                status, said = asked(at, first.name)
                assert status == 200
                return bool(said["message"].startswith("connected"))

            await at.until("the host to be told that it is connected", connected)
            before = len(first.requests)
            for _ in range(20):
                status, said = await at.until("an answer", lambda: asked(at, first.name))
                assert (status, said["status"]) == (200, "active")
            assert len(first.requests) == before
            # We ourselves, by the name that everybody uses.
            own = at.relay.http_url.removeprefix("http://")
            status, said = await at.until("an answer", lambda: asked(at, f"http://{own}"))
            assert (status, said["error"]) == (400, "InvalidRequest")
            assert "is this relay" in said["message"]

    loop_run(story(), STORY_S)
