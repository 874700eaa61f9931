"""broadcast.views and broadcast.store: HTTP answers, from a real database, and without one."""

from __future__ import annotations

import asyncio
import json
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
import pytest

from broadcast.version import SERVER, VERSION
from common.cid import cid_of, cid_text
from tests.broadcast.fakes import FakeLog, Member, member_of, seqs
from tests.broadcast.raw import Raw, Response
from tests.fix_loop import LoopRun

DIDS = [f"did:plc:{letter * 24}" for letter in "abcdef"]
REV = "3l2gkqkqxcc2a"
COMMIT = cid_of(b"\xa0")
SYNC = "/xrpc/com.atproto.sync."


@pytest.fixture
def filled_url(postgres_url: str) -> str:
    """A database with hosts in every state and accounts in every status."""
    with psycopg.connect(postgres_url, autocommit=True) as database:
        database.execute(resources.files("common").joinpath("schema.sql").read_text())
        for name, tls, wanted, observed, cursor in (
            ("one.example", True, "active", "active", 17),
            ("localhost:2583", False, "active", "idle", 5),
            ("never.example", True, "active", "idle", None),
            ("zero.example", True, "active", "offline", 0),
            ("banned.example", True, "banned", "active", 99),
        ):
            database.execute(
                "INSERT INTO host (hostname, tls, wanted, observed, cursor, account_limit)"
                " VALUES (%s, %s, %s, %s, %s, 100)",
                (name, tls, wanted, observed, cursor),
            )
        for did, host, active, status, rev in (
            (DIDS[0], 1, True, None, REV),
            (DIDS[1], 2, True, None, REV),
            (DIDS[2], 1, False, "takendown", REV),
            (DIDS[3], 1, True, None, None),
            (DIDS[4], 0, True, None, REV),
        ):
            database.execute(
                "INSERT INTO account (did, host_id, active, status, rev, commit_cid, data_cid, seq)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, 1)",
                (did, host, active, status, rev, COMMIT if rev else None, COMMIT if rev else None),
            )
        database.execute("UPDATE account SET desynchronized = true WHERE did = %s", (DIDS[1],))
        database.execute(
            "UPDATE host SET accounts = (SELECT count(*) FROM account WHERE host_id = host.id)"
        )
    return postgres_url


async def ask(member: Member, path: str, method: str = "GET", body: bytes = b"") -> Response:
    raw = await Raw.to(member.port)
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    await raw.send(f"{method} {path} HTTP/1.1\r\nHost: relay\r\n{length}\r\n".encode() + body)
    response = await raw.response(head_only=method == "HEAD")
    assert response.headers["server"] == SERVER
    assert response.headers["access-control-allow-origin"] == "*"
    raw.cut()
    return response


async def value_of(member: Member, path: str) -> Any:
    response = await ask(member, path)
    assert response.status == 200, response
    assert response.headers["content-type"] == "application/json"
    return json.loads(response.body)


async def error_of(member: Member, path: str, **more: Any) -> tuple[int, str]:
    response = await ask(member, path, **more)
    assert response.headers["content-type"] == "application/json"
    body = json.loads(response.body)
    assert isinstance(body["message"], str)
    return response.status, body["error"]


def test_hosts_and_repos_are_answered_from_the_database(
    loop_run: LoopRun, tmp_path: Path, filled_url: str
) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, database_url=filled_url) as member:
            one = {"hostname": "one.example", "seq": 17, "accountCount": 3, "status": "active"}
            two = {"hostname": "localhost:2583", "seq": 5, "accountCount": 1, "status": "idle"}
            banned = {
                "hostname": "banned.example", "seq": 99, "accountCount": 0, "status": "banned",
            }  # fmt: skip
            assert await value_of(member, SYNC + "listHosts") == {"hosts": [one, two, banned]}
            page = await value_of(member, SYNC + "listHosts?limit=2")
            assert page == {"hosts": [one, two], "cursor": "2"}
            page = await value_of(member, SYNC + "listHosts?limit=2&cursor=2")
            assert page == {"hosts": [banned]}
            page = await value_of(member, SYNC + "listHosts?limit=1")
            assert page == {"hosts": [one], "cursor": "1"}

            status = SYNC + "getHostStatus?hostname="
            assert await value_of(member, status + "ONE.example") == one
            assert await value_of(member, status + "never.example") == {
                "hostname": "never.example", "accountCount": 0, "status": "idle",
            }  # fmt: skip
            assert await error_of(member, status + "other.example") == (404, "HostNotFound")
            assert await error_of(member, status + "a%20b") == (400, "InvalidRequest")
            assert await error_of(member, SYNC + "getHostStatus") == (400, "InvalidRequest")

            head = cid_text(COMMIT)
            row = {"head": head, "rev": REV, "active": True}
            expected = [
                {"did": DIDS[0], **row},
                {"did": DIDS[1], **row, "status": "desynchronized"},
                {"did": DIDS[2], **row, "active": False, "status": "takendown"},
                {"did": DIDS[4], **row},
            ]
            assert await value_of(member, SYNC + "listRepos") == {"repos": expected}
            found, cursor = [], ""
            while True:
                page = await value_of(member, SYNC + "listRepos?limit=1" + cursor)
                found += page["repos"]
                if "cursor" not in page:
                    break
                cursor = "&cursor=" + page["cursor"]
            assert found == expected
            assert await error_of(member, SYNC + "listRepos?limit=0") == (400, "InvalidRequest")
            assert await error_of(member, SYNC + "listRepos?cursor=x") == (400, "InvalidRequest")

            status = SYNC + "getRepoStatus?did="
            assert await value_of(member, status + DIDS[0]) == {
                "did": DIDS[0], "active": True, "rev": REV,
            }  # fmt: skip
            assert await value_of(member, status + DIDS[1]) == {
                "did": DIDS[1], "active": True, "status": "desynchronized", "rev": REV,
            }  # fmt: skip
            assert await value_of(member, status + DIDS[2]) == {
                "did": DIDS[2], "active": False, "status": "takendown",
            }  # fmt: skip
            assert await error_of(member, status + DIDS[5]) == (404, "RepoNotFound")
            assert await error_of(member, status + "alice") == (400, "InvalidRequest")

            latest = SYNC + "getLatestCommit?did="
            assert await value_of(member, latest + DIDS[1]) == {"cid": head, "rev": REV}
            assert await error_of(member, latest + DIDS[2]) == (403, "RepoTakendown")
            assert await error_of(member, latest + DIDS[3]) == (404, "RepoNotFound")

    loop_run(story())


def test_a_repo_is_fetched_at_its_host(loop_run: LoopRun, tmp_path: Path, filled_url: str) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, database_url=filled_url) as member:
            path = f"{SYNC}getRepo?did={DIDS[0]}&since={REV}&extra=a%20b"
            response = await ask(member, path)
            assert response.status == 302
            assert response.headers["location"] == "https://one.example" + path
            response = await ask(member, f"{SYNC}getRepo?did={DIDS[1]}")
            assert (
                response.headers["location"] == f"http://localhost:2583{SYNC}getRepo?did={DIDS[1]}"
            )
            gone = f"{SYNC}getRepo?did="
            assert await error_of(member, gone + DIDS[2]) == (403, "RepoTakendown")
            assert await error_of(member, gone + DIDS[4]) == (404, "RepoNotFound")
            assert await error_of(member, gone + DIDS[5]) == (404, "RepoNotFound")
            assert await error_of(member, gone + DIDS[0] + "&since=x") == (400, "InvalidRequest")

    loop_run(story())


def test_what_is_not_served_is_told_in_xrpc_form(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            assert await error_of(member, SYNC + "getBlob") == (501, "MethodNotImplemented")
            assert await error_of(member, "/xrpc/com.example.what") == (404, "XRPCNotSupported")
            assert await error_of(member, "/elsewhere") == (404, "NotFound")
            assert await error_of(member, SYNC + "listHosts/") == (404, "XRPCNotSupported")
            response = await ask(member, SYNC + "listHosts", method="POST")
            assert response.status == 405
            assert "GET" in response.headers["allow"]
            assert json.loads(response.body)["error"] == "MethodNotAllowed"

    loop_run(story())


def test_the_small_pages_say_what_they_are(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            response = await ask(member, "/")
            assert response.headers["content-type"].startswith("text/plain")
            assert b"/xrpc/com.atproto.sync.subscribeRepos" in response.body
            versions = await value_of(member, "/version")
            assert versions["version"] == VERSION
            for library in (
                "python", "libzmq", "libpq", "openssl", "libsecp256k1", "libipld", "uvloop",
            ):  # fmt: skip
                assert versions[library], library
            assert (await value_of(member, "/xrpc/_health"))["version"] == VERSION
            head = await ask(member, "/_health", method="HEAD")
            assert (head.status, head.body) == (200, b"")
            assert int(head.headers["content-length"]) > 10

    loop_run(story())


def test_browsers_may_ask(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            raw = await Raw.to(member.port)
            await raw.send(
                b"OPTIONS /xrpc/com.atproto.sync.listRepos HTTP/1.1\r\nHost: relay\r\n"
                b"Origin: https://app.example\r\nAccess-Control-Request-Method: GET\r\n\r\n"
            )
            response = await raw.response()
            assert response.status == 204
            assert response.headers["access-control-allow-origin"] == "*"
            assert "GET" in response.headers["access-control-allow-methods"]
            raw.cut()

    loop_run(story())


def test_without_the_database_queries_are_503_and_the_stream_goes_on(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member, member.stream() as stream:
            asking = asyncio.gather(
                *[error_of(member, SYNC + "listHosts") for _ in range(3)],
                error_of(member, f"{SYNC}getRepoStatus?did={DIDS[0]}"),
            )
            # Event after event, as long as the questions wait.
            count = 0
            async with asyncio.timeout(30):
                while not asking.done():
                    count += 1
                    member.emit(1)
                    assert await seqs(stream, 1) == [count]
                    await asyncio.sleep(0.02)
            assert count > 20
            assert await asking == [(503, "ServiceUnavailable")] * 4
            assert (await value_of(member, "/_health"))["status"] == "ok"

    loop_run(story())


def test_a_database_without_tables_is_503(
    loop_run: LoopRun, tmp_path: Path, postgres_url: str
) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, database_url=postgres_url) as member:
            assert await error_of(member, SYNC + "listHosts") == (503, "ServiceUnavailable")

    loop_run(story())


def test_a_database_that_comes_back_answers_again(
    loop_run: LoopRun, tmp_path: Path, filled_url: str
) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, database_url=filled_url) as member:
            assert len((await value_of(member, SYNC + "listHosts"))["hosts"]) == 3
            with psycopg.connect(filled_url, autocommit=True) as database:
                database.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND datname = current_database()"
                )
            assert len((await value_of(member, SYNC + "listHosts"))["hosts"]) == 3

    loop_run(story())
