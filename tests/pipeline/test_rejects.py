"""Why was my commit dropped? A lie told to a whole relay is found by all three ways of asking."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import urllib.request
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from common.paths import Paths
from common.verdict import RULES, DropReason
from tests.pipeline.house import STORY_S, House, house
from tests.relay import ROOT
from tests.simnet import NetworkConfig

LIES: Final = ("bad_signature", "damaged_block", "bad_op", "old_rev", "foreign_commit")
"""Of each kind one: by signature, structure, form, order, and authority."""


def typed(at: House, *words: str) -> str:
    """What `standpipe …` prints. Blocks."""
    asked = subprocess.run(
        [sys.executable, "-m", "common.command", *words],
        cwd=ROOT, env=at.relay.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    return asked.stdout


def asked_as_operator(at: House, path: str, scheme: str) -> Any:
    """GET with the password of the data folder. Blocks."""
    password = (at.relay.data / "admin-password").read_text().strip()
    given = password if scheme == "Bearer" else b64encode(f"admin:{password}".encode()).decode()
    request = urllib.request.Request(
        at.relay.http_url + path, headers={"Authorization": f"{scheme} {given}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def asked_by_anybody(at: House, query: str) -> list[dict[str, Any]]:
    """All pages of /rejects, two rows each. Blocks."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        status, page = at.relay.get(f"/rejects?{query}&limit=2{cursor}")
        assert status == 200, page
        found += page["rejects"]
        if "cursor" not in page:
            return found
        cursor = f"&cursor={page['cursor']}"


@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
def test_a_lie_is_found_by_every_way_of_asking_with_its_reason_and_rule(
    loop_run: Any, tmp_path: Path
) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=2, accounts=4, records=20, genesis_share=0)
        async with house(config, "uvloop") as at:
            network = at.network
            liar, other = network.accounts[:2]
            for account in network.accounts:
                network.commit(account)
            await network.settled()
            told = []
            for name in LIES:
                reason = network.say_invalid(name, liar)
                entry = list(network.truth.invalid)[-1]
                told.append((reason, entry.host, entry.seq))
            network.commit(liar)
            await network.settled()
            await ask_in_every_way(at, liar.did, other.did, told, tmp_path)
            await asyncio.to_thread(type_what_the_pages_say, at, liar.did, tmp_path)
            await outage_and_flood(at, liar.did)

    loop_run(story(), STORY_S)


async def ask_in_every_way(
    at: House, did: str, other: str, told: list[tuple[DropReason, int, int]], folder: Path
) -> None:
    """Each lie is there once, with its reason, rules, host and seq; and nothing of another account."""
    expected = sorted(
        (reason.value, RULES[reason], at.network.hosts[host].name, seq)
        for reason, host, seq in told
    )

    def facts(rejects: list[dict[str, Any]]) -> list[Any]:
        return sorted((r["reason"], tuple(r["rules"]), r["host"], r["seq"]) for r in rejects)

    await at.until(
        "everybody can read it", lambda: facts(asked_by_anybody(at, f"did={did}")) == expected
    )
    public = await asyncio.to_thread(asked_by_anybody, at, f"did={did}")
    assert all(reject["did"] == did and "frame" not in reject for reject in public)
    assert {reject["kind"] for reject in public} == {"commit"}
    assert await asyncio.to_thread(asked_by_anybody, at, f"did={other}") == []

    # The operator's command, and the bytes as the host sent them.
    for number, host in enumerate(at.network.hosts):
        of_host = [facts for facts in expected if facts[2] == host.name]
        words = ("rejects", host.name, "--did", did)
        shown = await asyncio.to_thread(typed, at, *words, "--frames", str(folder / str(number)))
        for reason, rules, _name, seq in of_host:
            assert f"{reason} ({', '.join(rules)})" in shown
            assert f"seq {seq} " in shown
        said = {host.messages[seq - 1] for *_, seq in of_host}
        written = {path.read_bytes() for path in (folder / str(number)).iterdir()}
        assert written == said

        # The admin API says both at once.
        for scheme in ("Basic", "Bearer"):
            path = f"/admin/rejects?host={host.name}&did={did}"
            page = await asyncio.to_thread(asked_as_operator, at, path, scheme)
            assert facts(page["rejects"]) == of_host
            assert {b64decode(reject["frame"]) for reject in page["rejects"]} == said
    status, answer = await asyncio.to_thread(at.relay.get, "/admin/rejects?host=x.y")
    assert (status, answer["error"]) == (401, "Unauthorized")


def type_what_the_pages_say(at: House, did: str, folder: Path) -> None:
    """Each `standpipe` line of the two pages works as it is written there, but for the names."""
    pages = [(ROOT / "docs" / name).read_text() for name in ("runbook.md", "rejects.md")]
    lines = re.findall(
        r"^    \.venv/bin/standpipe (rejects|hosts)(.*)$", "\n".join(pages), re.MULTILINE
    )
    assert len(lines) >= 8
    for command, rest in lines:
        typing = rest.partition("#")[0].replace("pds.example.com", at.network.hosts[0].name)
        typing = re.sub(r"did:plc:\w+", did, typing)
        typing = typing.replace("--frames frames", f"--frames {folder / 'page'}")
        assert typed(at, command, *typing.split()), (command, rest)
    assert list((folder / "page").iterdir())


async def outage_and_flood(at: House, did: str) -> None:
    """While the database is away hundreds of lies are told, and then one of another kind."""
    network = at.network
    before = {
        reject["id"] for reject in await asyncio.to_thread(asked_by_anybody, at, f"did={did}")
    }
    killed = at.relay.kill("postgres")
    for _ in range(300):
        network.say_invalid("bad_signature")
    reason = network.say_invalid("no_car_root", network.accounts[0])
    network.commit(network.accounts[0])
    await network.settled()
    await asyncio.to_thread(at.relay.wait_replaced, "postgres", killed)
    await at.until("the database answers", lambda: at.relay.get(f"/rejects?did={did}")[0] == 200)

    def found() -> list[dict[str, Any]]:
        rejects = asked_by_anybody(at, f"did={did}")
        return [r for r in rejects if r["id"] not in before and r["reason"] == reason]

    await at.until("the one is found after the outage", found)
    url = Paths(at.relay.data).embedded_database_url
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT reason, count(*) FROM reject GROUP BY 1").fetchall()
    # Four of each account in a minute, whatever happens.
    counts: dict[str, int] = dict(rows)
    assert counts[DropReason.SIGNATURE_INVALID] <= 3 * 4 * len(network.accounts)
