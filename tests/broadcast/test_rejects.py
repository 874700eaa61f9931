"""broadcast.rejects, its views and its statements: why was my commit dropped?"""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import psycopg
import pytest

from broadcast.rejects import parse_admin, parse_public, rejects_answer
from broadcast.store import rejects_query
from broadcast.xrpc import Query, XrpcError
from common.reject import RejectRow, rules_of
from common.syntax import datetime_text
from common.verdict import RULES, DropReason
from tests.broadcast.fakes import FakeLog, Member, member_of
from tests.broadcast.raw import Raw, Response
from tests.fix_loop import LoopRun
from tests.relay import ROOT

DIDS = [f"did:plc:{letter * 24}" for letter in "abc"]
PASSWORD = "opensesame"
REASON = DropReason.PREV_DATA_MISMATCH
AT_S = 1_700_000_000.25


# --- parameters and answers ---


def row(number: int, **changes: Any) -> RejectRow:
    given: dict[str, Any] = {
        "number": number, "hostname": "one.example", "at_s": AT_S, "reason": REASON.value,
        "detail": "why", "kind": "commit", "did": DIDS[0], "rev": "3l2gkqkqxcc2a", "seq": 7,
        "size": 3, "frame": b"abc",
    }  # fmt: skip
    return RejectRow(**{**given, **changes})


def test_a_row_is_told_with_its_rules_and_without_its_bytes() -> None:
    assert rejects_answer([row(9)], 5, frames=False) == {
        "rejects": [{
            "id": "9", "at": "2023-11-14T22:13:20.250Z", "host": "one.example", "did": DIDS[0],
            "kind": "commit", "seq": 7, "rev": "3l2gkqkqxcc2a", "reason": "prev_data_mismatch",
            "rules": list(RULES[REASON]), "detail": "why", "bytes": 3,
        }],
    }  # fmt: skip
    assert RULES[REASON]
    shown = rejects_answer([row(9), row(8, frame=None)], 5, frames=True)["rejects"]
    assert b64decode(shown[0]["frame"]) == b"abc"
    assert "frame" not in shown[1]


def test_what_is_not_known_of_a_message_is_left_out() -> None:
    bare = row(9, hostname=None, kind=None, did=None, rev=None, seq=None, reason="of_the_future")
    (shown,) = rejects_answer([bare], 5, frames=False)["rejects"]
    assert set(shown) == {"id", "at", "reason", "rules", "detail", "bytes"}
    assert shown["rules"] == []


def test_a_page_says_where_the_next_one_begins() -> None:
    rows = [row(number) for number in (9, 7, 4)]
    assert rejects_answer(rows, 2, frames=False)["cursor"] == "7"
    assert "cursor" not in rejects_answer(rows, 3, frames=False)


def test_every_reason_has_a_rule() -> None:
    assert [reason for reason in DropReason if not rules_of(reason)] == []
    assert datetime_text(0.0) == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param([], id="neither host nor account"),
        pytest.param([("host", "")], id="an empty host"),
        pytest.param([("host", "a b")], id="no host name"),
        pytest.param([("did", "alice.example")], id="no DID"),
        pytest.param([("host", "a.example"), ("limit", "0")], id="no rows"),
        pytest.param([("host", "a.example"), ("limit", "1001")], id="too many rows"),
        pytest.param([("host", "a.example"), ("cursor", "-1")], id="no cursor"),
        pytest.param([("host", "a.example"), ("host", "b.example")], id="two hosts"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(pairs: list[tuple[str, str]]) -> None:
    for parse in (parse_public, parse_admin):
        with pytest.raises(XrpcError) as caught:
            parse(Query(pairs))
        assert (caught.value.status, caught.value.error) == (400, "InvalidRequest")


def test_the_operator_asks_by_host_since_frames_are_bounded_by_host() -> None:
    pairs = [("did", DIDS[0])]
    assert parse_public(Query(pairs)).did == DIDS[0]
    with pytest.raises(XrpcError):
        parse_admin(Query(pairs))
    asked = parse_admin(Query([*pairs, ("host", "ONE.example"), ("limit", "3"), ("cursor", "9")]))
    assert asked == ("one.example", DIDS[0], 3, 9)


# --- over HTTP, from a database ---


@pytest.fixture
def filled_url(postgres_url: str) -> str:
    """Two hosts with rows 1 to 6; the odd ones belong to the first."""
    with psycopg.connect(postgres_url, autocommit=True) as database:
        database.execute((ROOT / "common" / "schema.sql").read_text())
        for name in ("one.example", "two.example", "silent.example"):
            database.execute("INSERT INTO host (hostname, account_limit) VALUES (%s, 100)", (name,))
        for number in range(1, 7):
            database.execute(
                "INSERT INTO reject (host_id, at, reason, detail, kind, did, rev, seq, size, frame)"
                " VALUES (%s, to_timestamp(%s), %s, 'why', 'commit', %s, NULL, %s, 5, %s)",
                (
                    2 - number % 2,
                    AT_S,
                    REASON,
                    DIDS[number // 3],
                    number,
                    b"fr\0\xff" + b"%d" % number,
                ),
            )
    return postgres_url


async def ask(member: Member, path: str, *headers: str, method: str = "GET") -> Response:
    raw = await Raw.to(member.port)
    head = "".join(f"{header}\r\n" for header in ("Host: relay", *headers))
    await raw.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())
    response = await raw.response(head_only=method == "HEAD")
    assert response.headers["access-control-allow-origin"] == "*"
    raw.cut()
    return response


async def numbers(member: Member, path: str, *headers: str) -> list[int]:
    response = await ask(member, path, *headers)
    assert response.status == 200, response
    return [int(reject["id"]) for reject in json.loads(response.body)["rejects"]]


async def error_of(member: Member, path: str, *headers: str) -> tuple[int, str]:
    response = await ask(member, path, *headers)
    return response.status, json.loads(response.body)["error"]


def test_everybody_can_ask_by_host_and_by_account(
    loop_run: LoopRun, tmp_path: Path, filled_url: str
) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, database_url=filled_url) as member:
            assert await numbers(member, "/rejects?host=one.example") == [5, 3, 1]
            assert await numbers(member, "/rejects?host=TWO.example") == [6, 4, 2]
            assert await numbers(member, f"/rejects?did={DIDS[0]}") == [2, 1]
            assert await numbers(member, f"/rejects?did={DIDS[1]}&host=one.example") == [5, 3]
            assert await numbers(member, f"/rejects?did={DIDS[1]}&limit=2") == [5, 4]
            assert await numbers(member, f"/rejects?did={DIDS[1]}&cursor=4") == [3]
            assert await numbers(member, "/rejects?host=silent.example") == []
            assert await numbers(member, "/rejects?did=did:web:nobody.example") == []
            assert await error_of(member, "/rejects?host=other.example") == (404, "HostNotFound")
            assert await error_of(member, "/rejects") == (400, "InvalidRequest")
            page = json.loads((await ask(member, "/rejects?host=one.example&limit=1")).body)
            assert page["cursor"] == "5"
            assert page["rejects"][0]["reason"] == REASON
            assert "frame" not in page["rejects"][0]
            head = await ask(member, "/rejects?host=one.example", method="HEAD")
            assert head.status == 200
            assert (await ask(member, "/rejects?host=x", method="POST")).status == 405

    loop_run(story())


def test_frames_are_the_operators_alone(loop_run: LoopRun, tmp_path: Path, filled_url: str) -> None:
    async def story() -> None:
        async with member_of(
            FakeLog(), tmp_path, database_url=filled_url, admin_passwords=(PASSWORD,)
        ) as member:
            path = "/admin/rejects?host=one.example"
            basic = "Authorization: Basic " + b64encode(f"admin:{PASSWORD}".encode()).decode()
            bearer = f"Authorization: Bearer {PASSWORD}"
            for header in (basic, bearer):
                response = await ask(member, path, header)
                assert response.status == 200
                assert response.headers["cache-control"] == "no-store"
                found = json.loads(response.body)["rejects"]
                assert [b64decode(reject["frame"]) for reject in found] == [
                    b"fr\0\xff5", b"fr\0\xff3", b"fr\0\xff1",
                ]  # fmt: skip
            for headers in ((), ("Authorization: Bearer wrong",), (basic[:-4],)):
                response = await ask(member, path, *headers)
                assert response.status == 401
                assert response.headers["www-authenticate"].startswith("Basic realm=")
                assert json.loads(response.body)["error"] == "Unauthorized"
            # Whoever is not let in does not learn which hosts there are.
            assert await error_of(member, "/admin/rejects") == (401, "Unauthorized")
            assert await error_of(member, "/admin/rejects?host=x.y") == (401, "Unauthorized")
            assert await error_of(member, "/admin/rejects?host=x.y", basic) == (404, "HostNotFound")
            assert await error_of(member, "/admin/rejects", basic) == (400, "InvalidRequest")

    loop_run(story())


def test_without_a_database_the_answer_is_503(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            async with asyncio.timeout(20):
                asked = await error_of(member, "/rejects?host=one.example")
            assert asked == (503, "ServiceUnavailable")

    loop_run(story())


def test_each_way_of_asking_is_answered_by_an_index(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as database:
        database.execute((ROOT / "common" / "schema.sql").read_text())
        database.execute(
            "INSERT INTO reject (host_id, at, reason, detail, did, size) SELECT n % 3000, now(),"
            " 'x', 'why', 'did:plc:' || n % 5000, 0 FROM generate_series(1, 60000) n"
        )
        database.execute("ANALYZE reject")
        asked = {"host": 7, "did": "did:plc:7", "before": 2**63 - 1, "limit": 51}
        for by_host, by_did in ((True, False), (False, True), (True, True)):
            query = rejects_query(by_host=by_host, by_did=by_did, frames=True)
            plan = "\n".join(line[0] for line in database.execute("EXPLAIN " + query, asked))
            assert "Seq Scan on reject" not in plan, plan
            assert "reject_host" in plan or "reject_did" in plan, plan
