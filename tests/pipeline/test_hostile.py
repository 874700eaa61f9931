"""What may a host, an account or a consumer do to others? Nothing: each story is a whole relay's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any, Final
from urllib.parse import quote

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from common.cid import cid_text
from common.verdict import DropReason
from tests.conserved import conserved
from tests.pipeline.house import FLOW_S, STORY_S, House, house
from tests.simnet import Consumer, NetworkConfig
from tests.simnet.account import Account
from tests.simnet.invalid import BAD_MESSAGES, INVALID
from tests.simnet.truth import open_frame

BAD_HOST: Final = 0
RATE: Final = 60.0
LAG_S: Final = 0.25
"""How long a loop may be away, whatever one host says; from there on it says so. Source: lesson 22."""
GROWN_BYTES: Final = 80_000_000
"""What some frames of 5 MB may add to a process's memory, in bytes."""
LARGE_COMMITS: Final = 80
"""So many commits of 150 operations make some 8 MB."""
SYNC: Final = "/xrpc/com.atproto.sync."
QUIET: Final = {"commit": 0.9, "batch": 0.02, "handle": 0.04, "sync": 0.02, "new_account": 0.02}
"""What happens by itself; the story has the rest happen at its own time."""


@contextlib.contextmanager
def unkind_clients(port: int, count: int = 20) -> Iterator[socket.socket]:
    """Half handshakes, and one consumer of everything that never reads; that one."""
    with contextlib.ExitStack() as sockets:
        for number in range(count):
            half = sockets.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            half.sendall(b"GET /xrpc/com.atproto.sync.subscribeRepos HTTP/1.1\r\nHost"[:number])
        deaf = sockets.enter_context(socket.socket())
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", port))
        deaf.sendall(
            b"GET /xrpc/com.atproto.sync.subscribeRepos?cursor=0 HTTP/1.1\r\nHost: relay\r\n"
            b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        yield deaf


async def free_account(at: House, host: int) -> Account:
    """An account of a host that may speak now."""

    def found() -> Account | None:
        ready = (a for a in at.network.accounts if a.host == host and a.active and not a.resting)
        return next((a for a in ready if not a.moving and not a.tied), None)

    account: Account = await at.until("an account is free", found)
    return account


async def say_each_bad_message(at: House) -> None:
    """One after the other, each followed by an honest commit of the same host, which comes out."""
    bad = at.network.hosts[BAD_HOST]
    for number, name in enumerate(BAD_MESSAGES, 1):
        at.network.say_bad_message(name, BAD_HOST)
        at.network.commit(await free_account(at, BAD_HOST))
        await at.network.settled()
        # Met, cut, met again, passed: one new connection for each, and the oversize one needs none.
        ended = number - (name == "oversize" or "oversize" in list(BAD_MESSAGES)[:number])
        assert bad.accepted == 1 + ended, name


async def migrate_between_members(at: House) -> None:
    """Accounts move from one ingest process's host to the other's, twice, in the midst of it."""

    async def move_twice(account: Account) -> None:
        for _ in range(2):
            # Not to the host that forges events of this account: it would have become right.
            to = (account.host - 1) % len(at.network.hosts)
            assert at.network.member_of(account.host) != at.network.member_of(to)
            await at.network.migrate(account, to)
            for _ in range(5):
                at.network.commit(account)

    movers = [a for a in at.network.accounts if a.active and not a.tied and not a.moving][:3]
    await asyncio.gather(*map(move_twice, movers))
    back = await at.numbers("persist")
    # Who meets an account for the first time judges against nothing, and is told the newest state.
    assert back['standpipe_dropped_total{reason="sent_back"}'] >= len(movers)


def get(at: House, path: str) -> tuple[int, dict[str, str], Any]:
    """GET on the public port, redirects not followed → status, headers in lower case, JSON."""
    connection = HTTPConnection("127.0.0.1", at.relay.port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return answer.status, headers, json.loads(body) if body else None


def repos_of(at: House) -> dict[str, dict[str, Any]]:
    """All pages of listRepos, by DID."""
    found: dict[str, dict[str, Any]] = {}
    cursor = ""
    while True:
        status, _, page = get(at, f"{SYNC}listRepos?limit=5{cursor}")
        assert status == 200
        assert not found.keys() & {repo["did"] for repo in page["repos"]}
        found |= {repo["did"]: repo for repo in page["repos"]}
        if "cursor" not in page:
            return found
        cursor = f"&cursor={page['cursor']}"


def expected_repos(at: House) -> dict[str, dict[str, Any]]:
    """What listRepos has to say of the accounts that have committed."""
    repos = {}
    for account in at.network.accounts:
        if account.repo.rev is None or not account.spoken:
            continue
        repo = {"did": account.did, "rev": account.repo.rev, "active": account.active}
        repo |= {"status": account.status} if account.status is not None else {}
        repos[account.did] = repo
    return repos


async def assert_queries_tell_the_truth(at: House) -> None:
    """listRepos, getRepoStatus, getLatestCommit, getRepo and listHosts against the ledger."""

    def same() -> bool:
        told = repos_of(at)
        heads = {did: {k: v for k, v in repo.items() if k != "head"} for did, repo in told.items()}
        return heads == expected_repos(at)

    # PostgreSQL is written behind the log.
    await at.until("the view to be what the accounts are", same)
    told = await asyncio.to_thread(repos_of, at)
    for account in at.network.accounts:
        if account.did in told:
            await asyncio.to_thread(assert_account, at, account, told[account.did]["head"])
    _, _, hosts = await asyncio.to_thread(get, at, f"{SYNC}listHosts")
    assert {host["hostname"] for host in hosts["hosts"]} == {h.name for h in at.network.hosts}
    assert {host["status"] for host in hosts["hosts"]} == {"active"}


def assert_account(at: House, account: Account, head: str) -> None:
    """One account's status, newest commit and place."""
    query = f"?did={quote(account.did)}"
    status = {"did": account.did, "active": account.active}
    if account.active:
        status["rev"] = account.repo.rev or ""
        assert get(at, f"{SYNC}getLatestCommit{query}")[2] == {"cid": head, "rev": account.repo.rev}
        assert account.repo.commit is not None
        assert head == cid_text(account.repo.commit)
        code, headers, _ = get(at, f"{SYNC}getRepo{query}")
        assert code == 302
        host = at.network.hosts[account.host]
        assert headers["location"] == f"{host.url}{SYNC}getRepo{query}"
    else:
        assert account.status is not None
        status["status"] = account.status
        code, _, error = get(at, f"{SYNC}getLatestCommit{query}")
        wanted = {"deactivated": "RepoDeactivated", "deleted": "RepoNotFound"}
        assert error["error"] == wanted.get(account.status, error["error"])
        assert code >= 400
    assert get(at, f"{SYNC}getRepoStatus{query}")[2] == status


async def assert_cursors_mean_what_they_say(at: House) -> None:
    """Inclusive; in the future; garbage. All against the log that the story has left."""
    frames, url = at.live.frames, at.relay.stream_url
    seqs = [open_frame(frame)[1]["seq"] for frame in frames]
    middle = len(seqs) // 2
    async with Consumer(url, cursor=seqs[middle]) as consumer:
        await consumer.wait_count(len(seqs) - middle, FLOW_S)
        assert consumer.frames == frames[middle:]
    async with Consumer(url, cursor=seqs[-1] + 1000, retry_s=60.0) as consumer:
        await consumer.wait_for(lambda: consumer.breaks > 0, FLOW_S)
        assert [error["error"] for error in consumer.errors] == ["FutureCursor"]
        assert not consumer.frames
    for garbage in ("x", "-1", "1.5", "0x10", "9" * 30):
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{url}?cursor={garbage}")
        assert refused.value.response.status_code == 400, garbage


def all_ended(told: dict[str, Any]) -> bool:
    """Whether nothing is under way any more, of `status --json`; and nothing is ever lost."""
    assert told["unaccounted"] == 0
    if not told["up"]:
        return False  # one did not tell its numbers in time
    balance = told["balance"]
    assert balance["read"] > balance["heard"] > 0
    at_rest: bool = balance["inbox"] == balance["held"] == balance["in_flight"] == 0
    return at_rest and balance["heard"] == balance["written"]


def test_whatever_one_host_account_or_consumer_does_costs_no_other(
    loop_run: Any, request: pytest.FixtureRequest
) -> None:
    async def story() -> None:
        config = NetworkConfig(
            hosts=4, accounts=12, records=200, web_accounts=True, mix=QUIET,
            invalid_share=0.15, invalid=tuple(INVALID),
        )  # fmt: skip
        async with house(config, request.node.callspec.params["loop_run"]) as at:
            with unkind_clients(at.relay.port):
                async with conserved(at.relay):
                    await through_it_all(at)
                behind = await at.numbers("broadcast-0")
                assert behind["standpipe_consumers"] == 2
                assert behind["standpipe_consumers_behind"] == 1
            report = at.report()
            assert report.ok, report.as_dict()
            assert {entry.name for entry in at.network.truth.invalid} >= {*INVALID, *BAD_MESSAGES}
            # Every reason as often as it was deserved: a bad message twice, but for the oversize one.
            wanted = deserved(at)
            await at.until(f"the drops {wanted}", lambda: at.drops() == wanted)
            assert at.consumer.breaks == 0
            assert [host.accepted for host in at.network.hosts[1:]] == [1, 1, 1]
            await assert_queries_tell_the_truth(at)
            await assert_cursors_mean_what_they_say(at)
            await at.until("every event to have one end", lambda: all_ended(at.status()))

    loop_run(story(), STORY_S)


async def through_it_all(at: House) -> None:
    """The story itself, under load."""
    before = await at.numbers("ingest-0", "ingest-1")
    began_s = time.time()
    load = asyncio.create_task(at.network.run(RATE, STORY_S))
    await at.consumer.wait_for(lambda: len(at.live.frames) > RATE, FLOW_S)
    await say_each_bad_message(at)
    await migrate_between_members(at)
    await at.network.deactivate(await free_account(at, 1))
    await at.network.deactivate(await free_account(at, 2), "takendown")
    at.network.delete(await free_account(at, 3))
    for name in INVALID:
        at.network.say_invalid(name)
    # More than the buffers of a socket take, so that who does not read is left behind.
    for number in range(LARGE_COMMITS):
        at.network.commit(await free_account(at, number % 4), writes=150)
    at.network.stop()
    await load
    await at.network.settled()
    # What the machine ran instead is not the relay's doing, and is told apart.
    held_up = [
        line for line in at.relay.log_lines()
        if line["msg"] == "the event loop was held up" and line["ts"] > began_s
        and line["lag_s"] - line["starved_s"] >= LAG_S
    ]  # fmt: skip
    assert held_up == []
    after = await at.numbers("ingest-0", "ingest-1")
    memory = "process_resident_memory_bytes"
    assert after[memory] - before[memory] < GROWN_BYTES


def deserved(at: House) -> dict[DropReason, int]:
    """How often each reason has to have been given."""
    wanted: dict[DropReason, int] = {}
    for entry in at.network.truth.invalid:
        assert entry.drop is not None
        times = 2 if entry.name in BAD_MESSAGES and entry.name != "oversize" else 1
        wanted[entry.drop] = wanted.get(entry.drop, 0) + times
    return wanted
