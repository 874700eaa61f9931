"""A host without `prevData`: refused at `enforce`, let through and marked at `observe`, and back."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final
from urllib.parse import quote

import psycopg
import pytest

from common.paths import Paths
from common.verdict import DropReason
from tests.pipeline.house import STORY_S, House, house
from tests.pipeline.test_rejects import typed
from tests.simnet import NetworkConfig
from tests.simnet.account import Account
from tests.simnet.clock import tid
from tests.simnet.events import Event, Kind, make_event
from tests.simnet.records import new_record
from tests.simnet.repo import Write, commit_writes

CLEAN_S: Final = 3600
"""The clean period of this relay, in seconds; it passes when the story says so."""
OLD: Final = 0
MISSING: Final = DropReason.PREV_DATA_MISSING
SYNC: Final = "/xrpc/com.atproto.sync."


def commit_as_before(at: House, account: Account) -> Event:
    """A commit as hosts wrote them before Sync 1.1: no `prevData`, no `prev` in its operations."""
    network = at.network
    path = account.paths[0]
    writes = [
        *account.choose_writes(network.rng),
        Write("update", path, new_record(path, network.rng, network.clock.tick())),
    ]
    writes = list({write.path: write for write in writes}.values())
    rev = tid(network.clock.tick())
    account.repo, commit = commit_writes(account.repo, writes, rev, account.key)
    gone = {write.path for write in writes if write.action == "delete"}
    account.paths = [known for known in account.paths if known not in gone]
    commit.prev_data = None
    commit.ops = [{name: op[name] for name in op if name != "prev"} for op in commit.ops]
    return make_event(Kind.COMMIT, commit.fields(time=account.time()))


def say_as_before(at: House, account: Account, drop: DropReason | None = None) -> None:
    """Let its host say one; `drop`: what a relay must do with it."""
    at.network.say(account.host, commit_as_before(at, account), drop, "as_before" if drop else "")


def shown(at: House, host: int) -> dict[str, Any]:
    """What `standpipe hosts list --json` says of a host. Blocks."""
    rows: list[dict[str, Any]] = json.loads(typed(at, "hosts", "list", "--json"))
    return next(row for row in rows if row["host"] == at.network.hosts[host].name)


def said(at: House, message: str, host: int) -> list[dict[str, Any]]:
    """The log lines about a host."""
    name = at.network.hosts[host].name
    lines = at.relay.log_lines()
    return [line for line in lines if message in line["msg"] and line.get("host") == name]


def levels(at: House) -> list[str]:
    """To which levels ingest has followed its operator, or the automatic move."""
    return [line["now"] for line in said(at, "host is judged at another level", OLD)]


@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
def test_a_host_without_prev_data_is_let_through_only_at_observe_and_moves_up_by_itself(
    loop_run: Any,
) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=2, accounts=4, records=20, genesis_share=0)
        async with house(config, "uvloop", STANDPIPE_OBSERVE_CLEAN_PERIOD=f"{CLEAN_S}s") as at:
            old = [account for account in at.network.accounts if account.host == OLD]
            new = next(account for account in at.network.accounts if account.host != OLD)
            await refused(at, old[0])
            await let_through(at, old)
            await nothing_else_is_waived(at, old[0], new)
            await moves_up(at, old)
            report = at.report()
            assert report.ok, report.as_dict()

    loop_run(story(), STORY_S)


def time_passes(at: House) -> None:
    """Let the clean period be over: the database's clock alone measures it. Blocks."""
    with psycopg.connect(Paths(at.relay.data).embedded_database_url) as connection:
        connection.execute(
            "UPDATE host SET level_since = level_since - make_interval(secs => %(s)s),"
            " waived_at = waived_at - make_interval(secs => %(s)s) WHERE hostname = %(name)s",
            {"s": CLEAN_S, "name": at.network.hosts[OLD].name},
        )


async def refused(at: House, account: Account) -> None:
    """At `enforce`, which every host begins with, it is told why."""
    say_as_before(at, account, MISSING)
    say_as_before(at, account, MISSING)
    await at.until("both are dropped", lambda: at.drops() == {MISSING: 2})
    text = await asyncio.to_thread(typed, at, "hosts", "level", at.network.hosts[OLD].name)
    assert "is judged at enforce" in text


async def let_through(at: House, accounts: list[Account]) -> None:
    """At `observe` its commits pass, are marked and counted, and its operator sees how many."""
    name = at.network.hosts[OLD].name
    text = await asyncio.to_thread(typed, at, "hosts", "level", name, "observe")
    assert "is judged at observe" in text
    await at.until("ingest follows", lambda: levels(at) == ["observe"])
    for account in accounts:
        for _ in range(3):
            say_as_before(at, account)
    await at.network.settled()
    waived = 3 * len(accounts)
    await at.until("they are counted", lambda: shown(at, OLD)["waived"] == waived)
    row = await asyncio.to_thread(shown, at, OLD)
    assert row["level"] == "observe"
    assert row["waived_at"] is not None
    numbers = await at.numbers("ingest-0", "ingest-1")
    assert numbers[f'standpipe_waived_total{{reason="{MISSING}"}}'] == waived


async def nothing_else_is_waived(at: House, old: Account, new: Account) -> None:
    """Signature, structure and authority hold at `observe`; and another host's level is its own."""
    before = await asyncio.to_thread(at.drops)
    wanted = [at.network.say_invalid(name, old) for name in ("bad_signature", "damaged_block")]
    wanted.append(at.network.say_invalid("foreign_commit", new))
    say_as_before(at, new, MISSING)
    wanted.append(MISSING)
    say_as_before(at, old)
    at.network.commit(new)
    await at.network.settled()
    for reason in wanted:
        before[reason] += 1
    await at.until("all of them are dropped", lambda: at.drops() == before)


async def moves_up(at: House, accounts: list[Account]) -> None:
    """Its software learns `prevData`: after the clean period it is held to it, restart or not."""
    for account in accounts:
        at.network.commit(account)
    await at.network.settled()
    member = f"ingest-{at.network.member_of(OLD)}"
    pid = at.relay.kill(member)
    await asyncio.to_thread(at.relay.wait_replaced, member, pid)
    assert (await asyncio.to_thread(shown, at, OLD))["level"] == "observe"

    def up() -> bool:
        return bool(shown(at, OLD)["level"] == "enforce")

    async with asyncio.timeout(60):
        while not await asyncio.to_thread(up):
            # Each time anew: what was waived may be written down after it, and begin a new period.
            await asyncio.to_thread(time_passes, at)
            # Upon a commit, and not in silence.
            at.network.commit(accounts[0])
            await at.network.settled()
    (line,) = await at.until("it to be told", lambda: said(at, "host moved up to enforce", OLD))
    assert line["checked"] > 0
    await at.until("ingest follows", lambda: levels(at)[-1] == "enforce")
    before = await asyncio.to_thread(at.drops)
    say_as_before(at, accounts[0], MISSING)
    before[MISSING] += 1
    await at.until("it is dropped again", lambda: at.drops() == before)
    # What follows does not follow from what the relay has seen: it passes, and is counted.
    discontinuous = (await asyncio.to_thread(shown, at, OLD))["discontinuous"]
    at.network.commit(accounts[0])
    await at.network.settled()
    await at.until("it is counted", lambda: shown(at, OLD)["discontinuous"] == discontinuous + 1)
    # Whoever follows that account is told that something is missing, and that it goes on.
    query = f"{SYNC}getRepoStatus?did={quote(accounts[0].did)}"

    def told() -> bool:
        return at.relay.get(query) == (200, {
            "did": accounts[0].did, "active": True, "status": "desynchronized",
            "rev": accounts[0].repo.rev,
        })  # fmt: skip

    await at.until("getRepoStatus tells it", told)
