"""The reference relay's own command-line tool, unchanged, where it is at hand: `goat` on the PATH.

    go install github.com/bluesky-social/indigo/cmd/goat@v0.0.0-20250808182429-6f0837c2d12b

What it sends is played without it in test_admin_reference.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from broadcast.crawl import Rules
from tests.broadcast.operator import DIDS, PASSWORD, fill, operated

TOOL = shutil.which("goat")
HOST = "one.example"


@pytest.mark.skipif(TOOL is None, reason="the reference relay's tool is not at hand")
def test_the_tool_itself_does_what_it_says(tmp_path: Path, postgres_url: str) -> None:
    fill(postgres_url)

    async def story() -> None:
        crawl = Rules(allow_insecure=True)
        async with operated(tmp_path, postgres_url, crawl=crawl) as operator:
            relay = f"http://127.0.0.1:{operator.member.port}"

            async def tool(*words: str) -> str:
                process = await asyncio.create_subprocess_exec(
                    str(TOOL), "relay", *words,
                    env={**os.environ, "RELAY_HOST": relay, "RELAY_ADMIN_PASSWORD": PASSWORD},
                    stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                )  # fmt: skip
                said = (await process.communicate())[0].decode()
                assert process.returncode == 0, (words, said)
                return said

            async def wanted() -> bool:
                shown = await operator.get(f"/admin/hosts/show?host={HOST}")
                return bool(shown["status"] != "banned")

            # Before it takes an account down it asks the public directory, which is not here.
            assert DIDS[0] not in await tool("admin", "account", "list")
            await operator.post("/admin/repo/takeDown", {"did": DIDS[0]})
            assert DIDS[0] in await tool("admin", "account", "list")

            await tool("admin", "host", "add", HOST)
            await tool("admin", "host", "block", HOST)
            assert not await wanted()
            await tool("admin", "host", "block", "--reverse", HOST)
            assert await wanted()
            await tool("admin", "host", "config", "--account-limit", "1234", HOST)
            listed = await tool("admin", "host", "list")
            assert "1234" in next(line for line in listed.splitlines() if HOST in line)

            await tool("admin", "domain", "ban", "two.example")
            assert "two.example" in await tool("admin", "domain", "list")
            await tool("admin", "domain", "ban", "--reverse", "two.example")
            assert "two.example" not in await tool("admin", "domain", "list")
            await tool("admin", "consumer", "list")

            assert HOST in await tool("host", "list")
            assert HOST in await tool("host", "status", HOST)
            assert DIDS[1] in await tool("account", "status", DIDS[1])
            await tool("host", "request-crawl", HOST)

    asyncio.run(story())
