"""The operator's hands on a whole relay: probe, snapshot, consumers, and a ban that counts at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

import pytest

from tests.pipeline.house import STORY_S, House, house
from tests.relay import ROOT
from tests.running.web import LIST, webs
from tests.simnet import NetworkConfig

AT_ONCE_S: Final = 1.0
"""How soon an operator's word counts everywhere, in seconds. Source: issue 6."""
TRIES: Final = 3
"""On a busy machine the quickest of some tells what the relay needs."""


async def typed(at: House, *words: str) -> tuple[int, str, str]:
    """Exit code, what was printed, what was complained of."""
    asked = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "common.command", *words],
        cwd=ROOT, env=at.relay.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return asked.returncode, asked.stdout, asked.stderr


async def told(at: House, *words: str) -> Any:
    """The same as JSON of one that went well."""
    code, out, err = await typed(at, *words, "--json")
    assert (code, err) == (0, ""), out
    return json.loads(out)


@asynccontextmanager
async def flow(at: House) -> AsyncIterator[None]:
    """Accounts say something all the while."""

    async def talk() -> None:
        while True:
            at.network.commit()
            await asyncio.sleep(0.02)

    talking = asyncio.create_task(talk())
    try:
        yield
    finally:
        talking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await talking


@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
def test_an_operator_looks_at_a_whole_relay_and_changes_it(loop_run: Any) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=2, accounts=4, records=20, genesis_share=0)
        async with house(config, "uvloop") as at:
            at.network.commit()
            await at.network.settled()
            async with flow(at):
                await probe(at)
                await snapshot(at)
            await consumers(at)
            await ban(at)
            await pull(at)
            report = at.report()
            assert report.ok, report.as_dict()

    loop_run(story(), STORY_S)


async def probe(at: House) -> None:
    """A consumer through the public port sees events, and says when there are too few."""
    found = await told(at, "probe", "--seconds", "2", "--min-fps", "0.5")
    assert found["ok"] is True
    assert found["url"].startswith(f"ws://127.0.0.1:{at.relay.port}/")
    assert found["events"] > 0
    assert (found["missed"], found["faults"]) == (0, [])
    code, out, _err = await typed(at, "probe", "--seconds", "0.5", "--min-fps", "100000")
    assert code == 1
    assert out.startswith("NOT OK: ")


async def snapshot(at: House) -> None:
    """One screen, whose numbers agree with each other."""
    found = await told(at, "snapshot", "--seconds", "2")
    assert found["ok"] is True
    assert found["health"]["code"] == 200
    assert found["delivery_ratio"] == 1.0
    assert found["events"] > 0
    assert found["read"] > 0
    assert (found["reject_ratio"], found["unaccounted"], found["faults"]) == (0.0, 0, [])
    assert found["consumers"] >= 1
    assert found["high_water"]["persist_group_bytes"] > 0
    assert found["pss_bytes"] > found["rss_bytes"] / 10 > 2**20
    assert found["up_s"] > 2
    assert {"persist", "broadcast-0", "ingest-0", "ingest-1"} <= set(found["processes"])
    code, out, _err = await typed(at, "snapshot", "--seconds", "0.5")
    while "a consumer of our own, of 0;" in out:
        # On a busy machine nothing may come in so short a time, and nothing can be said of that.
        code, out, _err = await typed(at, "snapshot", "--seconds", "0.5")
    assert code == 0
    assert len(out.splitlines()) <= 24
    assert "100.00 % to a consumer of our own" in out


async def consumers(at: House) -> None:
    """Who reads is listed; who is let go comes back, and is another one then."""
    (row,) = await told(at, "consumers", "list")
    assert row["process"] == "broadcast-0"
    assert row["events_consumed"] > 0
    code, out, _err = await typed(at, "consumers", "list")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["id", "process"], [str(row["id"]), "broadcast-0"],
    ]  # fmt: skip
    breaks = at.consumer.breaks
    answer = await told(at, "consumers", "disconnect", str(row["id"]))
    assert answer == {
        "action": "disconnect_consumer", "subject": str(row["id"]), "changed": True,
    }  # fmt: skip
    await at.until("it is gone", lambda: at.consumer.breaks > breaks)
    code, out, _err = await typed(at, "consumers", "disconnect", str(row["id"]))
    assert (code, "nothing was changed" in out) == (0, True)
    at.network.commit()
    await at.network.settled()
    (again,) = await told(at, "consumers", "list")
    assert again["id"] != row["id"]


async def ban(at: House) -> None:
    """A ban ends a running subscription, and its end begins one, within a second."""
    host = at.network.hosts[0]
    took_s: dict[str, list[float]] = {"ban": [], "unban": []}

    async def until_streams(number: int) -> float:
        async with asyncio.timeout(STORY_S):
            while len(host.streams) != number:
                await asyncio.sleep(0.005)
        return time.time()

    await until_streams(1)
    for _ in range(TRIES):
        for word, number in (("ban", 0), ("unban", 1)):
            ended = asyncio.create_task(until_streams(number))
            assert (await told(at, "hosts", word, host.name))["changed"] is True
            ended_s = await ended
            (row,) = await told(at, "audit", "--of", host.name, "--limit", "1")
            took_s[word].append(ended_s - at_s(row["at"]))
    assert min(took_s["ban"]) < AT_ONCE_S, took_s
    assert min(took_s["unban"]) < AT_ONCE_S, took_s
    for account in at.network.accounts:
        at.network.commit(account)
    await at.network.settled()


async def pull(at: House) -> None:
    """A host that was deleted comes from another relay's list again, and is read on from where it was."""
    host = at.network.hosts[0]
    assert (await told(at, "hosts", "delete", host.name))["changed"] is True
    await at.until("it is let go", lambda: not host.streams)
    for account in at.network.accounts:
        at.network.commit(account)
    row = {"hostname": host.url, "status": "active", "seq": 7}
    with webs(1) as (relay,):
        relay.answers[LIST] = lambda _query: (200, {"hosts": [row]})
        code, out, _err = await typed(at, "pull-hosts", "--relay", relay.url)
    assert (code, out) == (0, f"{host.name}: added\n1 added\n")
    await at.until("it is read", lambda: host.streams)
    # What it said meanwhile comes, too.
    await at.network.settled()


def at_s(text: str) -> float:
    """RFC 3339 → Unix seconds."""
    return datetime.fromisoformat(text).timestamp()
