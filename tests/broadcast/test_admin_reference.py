"""The reference relay's admin API: what its tool sends, byte for byte, and how it reads the answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from broadcast.crawl import Rules
from tests.broadcast.operator import BASIC, DIDS, fill, operated
from tests.fix_loop import LoopRun

SUCCESS = {"success": "true"}
INSECURE = Rules(allow_insecure=True)


@pytest.fixture
def filled_url(postgres_url: str) -> str:
    fill(postgres_url)
    return postgres_url


def row_of(url: str, statement: LiteralString, *values: object) -> Any:
    with psycopg.connect(url, autocommit=True) as database:
        return database.execute(statement, values).fetchone()


def wanted(url: str, hostname: str) -> str:
    (found,) = row_of(url, "SELECT wanted FROM host WHERE hostname = %s", hostname)
    return str(found)


# --- the tool's own requests, and its own way to read the answers ---

Reader = Callable[[Any], list[Any]]


def rows(answer: Any) -> list[Any]:
    """A listing of rows: an array of objects, each printed."""
    assert isinstance(answer, list)
    assert all(isinstance(row, dict) for row in answer)
    return answer


def texts(key: str) -> Reader:
    """A listing of texts: an array, never null."""

    def read(answer: Any) -> list[Any]:
        assert isinstance(answer[key], list)
        return list(answer[key])

    return read


def nothing(answer: Any) -> list[Any]:
    """The answer to a change is not looked at."""
    return [] if isinstance(answer, dict) else [answer]


TOOL = [
    pytest.param("POST", "/admin/repo/takeDown", {"did": DIDS[0]}, nothing,
                 id="account takedown DID"),
    pytest.param("POST", "/admin/repo/reverseTakedown", {"did": DIDS[0]}, nothing,
                 id="account takedown --reverse DID"),
    pytest.param("GET", "/admin/repo/takedowns?cursor=&size=500", None, texts("dids"),
                 id="account list"),
    pytest.param("POST", "/admin/pds/requestCrawl", {"hostname": "one.example"}, nothing,
                 id="host add NAME"),
    pytest.param("POST", "/admin/pds/block?host=one.example", None, nothing,
                 id="host block NAME"),
    pytest.param("POST", "/admin/pds/unblock?host=one.example", None, nothing,
                 id="host block --reverse NAME"),
    pytest.param("GET", "/admin/pds/list", None, rows, id="host list"),
    pytest.param("POST", "/admin/pds/changeLimits", {"host": "one.example", "repo_limit": 1000},
                 nothing, id="host config --account-limit N NAME"),
    pytest.param("POST", "/admin/subs/banDomain", {"domain": "two.example"}, nothing,
                 id="domain ban NAME"),
    pytest.param("POST", "/admin/subs/unbanDomain", {"domain": "two.example"}, nothing,
                 id="domain ban --reverse NAME"),
    pytest.param("GET", "/admin/subs/listDomainBans", None, texts("banned_domains"),
                 id="domain list"),
    pytest.param("GET", "/admin/consumers/list", None, rows, id="consumer list"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "value", "read"), TOOL)
def test_a_request_of_the_usual_tool_is_answered_as_the_tool_reads_it(
    tmp_path: Path, filled_url: str, method: str, path: str, value: Any, read: Reader
) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url, crawl=INSECURE) as operator:
            # A key of an object in no order but that of Go's maps: sorted.
            body = None if value is None else json.dumps(value, sort_keys=True).encode()
            for authorization in (BASIC, "Bearer older"):
                operator.authorization = authorization
                response = await operator.ask(method, path, body)
                assert response.status == 200, response  # any other one is a failure to it
                read(json.loads(response.body))

    asyncio.run(story())


def test_the_tool_pages_through_all_takedowns(tmp_path: Path, filled_url: str) -> None:
    """It takes a cursor for a text, and no cursor for the end."""
    dids = sorted(f"did:web:{number:04}.example" for number in range(1100))
    with psycopg.connect(filled_url, autocommit=True) as database:
        database.cursor().executemany(
            "INSERT INTO takedown (did) VALUES (%s)", [(d,) for d in dids]
        )

    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            found: list[str] = []
            cursor, pages = "", 0
            while True:
                page = await operator.get(f"/admin/repo/takedowns?cursor={cursor}&size=500")
                found += page["dids"]
                pages += 1
                if "cursor" not in page or page["cursor"] == "":
                    break
                assert isinstance(page["cursor"], str)
                cursor = page["cursor"].replace(":", "%3A")
            assert (found, pages) == (dids, 3)

    asyncio.run(story())


# --- what they do ---


def test_a_listing_of_nothing_is_an_empty_array(tmp_path: Path, filled_url: str) -> None:
    with psycopg.connect(filled_url, autocommit=True) as database:
        database.execute("TRUNCATE host")

    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            for path, answer in (
                ("/admin/pds/list", []),
                ("/admin/consumers/list", []),
                ("/admin/subs/getUpstreamConns", []),
                ("/admin/subs/listDomainBans", {"banned_domains": []}),
                ("/admin/repo/takedowns", {"dids": []}),
            ):
                assert await operator.get(path) == answer, path

    asyncio.run(story())


def test_a_host_is_listed_with_all_its_fields(
    loop_run: LoopRun, tmp_path: Path, filled_url: str
) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            await operator.post("/admin/pds/block?host=localhost:2583")
            one, two, local = await operator.get("/admin/pds/list")
            created_at = one.pop("CreatedAt")
            assert created_at.endswith("Z")
            assert one == {
                "ID": 1, "Host": "one.example", "SSL": True, "Cursor": 17, "Registered": True,
                "Blocked": False, "CrawlRateLimit": 0, "RepoCount": 2, "RepoLimit": 100,
                "HasActiveConnection": True, "EventsSeenSinceStartup": 42,
                "PerSecondEventRate": {"Max": 50, "Window": 1},
                "PerHourEventRate": {"Max": 2600, "Window": 3600},
                "PerDayEventRate": {"Max": 21000, "Window": 86400},
                "UserCount": 2, "AccountLimitAlertsSilenced": False,
                "AccountLimitAlertState": "ok",
            }  # fmt: skip
            assert (two["Cursor"], two["HasActiveConnection"]) == (-1, False)
            assert two["PerSecondEventRate"] == {"Max": 55, "Window": 1}
            assert (local["Host"], local["Blocked"]) == ("localhost:2583", True)
            assert local["Registered"] is local["HasActiveConnection"] is False
            assert [local[f"Per{name}EventRate"]["Max"] for name in ("Second", "Hour", "Day")] == [
                -1, -1, -1,
            ]  # fmt: skip
            upstream = await operator.get("/admin/subs/getUpstreamConns")
            assert upstream == ["one.example", "sub.two.example"]

    loop_run(story())


def test_a_host_is_blocked_and_unblocked_and_dialled_at_once(
    tmp_path: Path, filled_url: str
) -> None:
    asked = "SELECT wanted, dial_asked FROM host WHERE hostname = 'one.example'"

    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            for _ in range(2):  # each may be repeated
                assert await operator.post("/admin/pds/block?host=ONE.example") == SUCCESS
                assert row_of(filled_url, asked) == ("banned", 1)
            for _ in range(2):
                assert (
                    await operator.post("/admin/pds/unblock?host=https://one.example/") == SUCCESS
                )
                assert row_of(filled_url, asked) == ("active", 2)

    asyncio.run(story())


def test_a_connection_is_ended_with_and_without_a_ban(tmp_path: Path, filled_url: str) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            path = "/admin/subs/killUpstream?host=one.example"
            assert await operator.post(path) == SUCCESS
            asked = "SELECT wanted, dial_asked FROM host WHERE hostname = 'one.example'"
            assert row_of(filled_url, asked) == ("active", 1)
            for _ in range(2):
                assert await operator.post(path + "&block=true") == SUCCESS
            assert wanted(filled_url, "one.example") == "banned"
            # It is not read any more, so there is nothing to end.
            status, words = await operator.refused("POST", path)
            assert (status, words) == (400, "no active connection to given host")
            unknown = "/admin/subs/killUpstream?host=nobody.example&block=true"
            assert (await operator.refused("POST", unknown))[0] == 400

    asyncio.run(story())


def test_whether_strangers_add_hosts_is_kept(tmp_path: Path, filled_url: str) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            assert await operator.get("/admin/subs/getEnabled") == {"enabled": True}
            assert await operator.get("/admin/subs/perDayLimit") == {"limit": 50}
            for _ in range(2):
                assert await operator.post("/admin/subs/setEnabled?enabled=false") == SUCCESS
                assert await operator.post("/admin/subs/setPerDayLimit?limit=7") == SUCCESS
        async with operated(tmp_path, filled_url) as operator:  # after a restart
            assert await operator.get("/admin/subs/getEnabled") == {"enabled": False}
            assert await operator.get("/admin/subs/perDayLimit") == {"limit": 7}
            assert await operator.post("/admin/subs/setEnabled?enabled=T") == SUCCESS
            assert await operator.get("/admin/subs/getEnabled") == {"enabled": True}
            control = await operator.get("/admin/control")
            assert control == {
                "request_crawl": True, "new_hosts_per_day": 7,
                "said": ["new_hosts_per_day", "request_crawl"],
            }  # fmt: skip
            for query in ("setEnabled?enabled=maybe", "setEnabled", "setPerDayLimit?limit=x",
                          "setPerDayLimit?limit=-1", "setPerDayLimit"):  # fmt: skip
                assert (await operator.refused("POST", f"/admin/subs/{query}"))[0] == 400, query

    asyncio.run(story())


def test_a_domain_is_banned_in_normal_form_and_its_hosts_are_not_read(
    tmp_path: Path, filled_url: str
) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            for name in ("Two.Example", ".two.example.", "*.TWO.example"):
                assert await operator.post("/admin/subs/banDomain", {"Domain": name}) == SUCCESS
            bans = await operator.get("/admin/subs/listDomainBans")
            assert bans == {"banned_domains": ["two.example"]}
            found = {row["Host"]: row["Blocked"] for row in await operator.get("/admin/pds/list")}
            assert found == {"one.example": False, "sub.two.example": True, "localhost:2583": False}
            assert "sub.two.example" not in await operator.get("/admin/subs/getUpstreamConns")
            for _ in range(2):
                assert await operator.post(
                    "/admin/subs/unbanDomain", {"domain": "TWO.example"}
                ) == (SUCCESS)
            assert await operator.get("/admin/subs/listDomainBans") == {"banned_domains": []}
            for name in ("", "a b", "two.example:80", "..", "ä.example", "x" * 300):
                refused = await operator.refused("POST", "/admin/subs/banDomain", {"domain": name})
                assert refused[0] == 400, name

    asyncio.run(story())


def test_an_account_is_taken_down_in_advance_and_back(tmp_path: Path, filled_url: str) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            for did in (DIDS[5], DIDS[0], DIDS[5]):
                assert await operator.post("/admin/repo/takeDown", {"DID": did}) == SUCCESS
            assert await operator.get("/admin/repo/takedowns") == {"dids": [DIDS[0], DIDS[5]]}
            for _ in range(2):
                assert await operator.post("/admin/repo/reverseTakedown", {"did": DIDS[0]}) == (
                    SUCCESS
                )
            assert await operator.get("/admin/repo/takedowns") == {"dids": [DIDS[5]]}
            for path in ("takeDown", "reverseTakedown"):
                for wrong in ("alice.example", "did:plc:short", 7, None, ["did"]):
                    refused = await operator.refused("POST", f"/admin/repo/{path}", {"did": wrong})
                    assert refused[0] == 400, wrong

    asyncio.run(story())


def test_limits_are_changed_one_by_one(tmp_path: Path, filled_url: str) -> None:
    path = "/admin/pds/changeLimits"

    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:

            async def change(**limits: Any) -> Any:
                assert await operator.post(path, {"host": "one.example", **limits}) == SUCCESS
                return (await operator.get("/admin/pds/list"))[0]

            row = await change(repo_limit=3000)
            assert (row["RepoLimit"], row["PerSecondEventRate"]["Max"]) == (3000, 53)
            row = await change(per_second=7, per_hour=70, per_day=700)
            found = [row[f"Per{name}EventRate"]["Max"] for name in ("Second", "Hour", "Day")]
            assert (found, row["RepoLimit"]) == ([7, 70, 700], 3000)
            row = await change(per_second=-1)
            assert row["PerSecondEventRate"]["Max"] == 53
            row = await change(account_limit_alerts_silenced=True)
            assert row["AccountLimitAlertsSilenced"] is True
            row = await change(trusted=True)
            assert row["PerSecondEventRate"]["Max"] == 5000
            for wrong in (
                {}, {"repo_limit": -1}, {"repo_limit": 1.5}, {"repo_limit": "x"},
                {"repo_limit": 10**30}, {"per_hour": -2}, {"trusted": "maybe"},
                {"repo_limit": True},
            ):  # fmt: skip
                refused = await operator.refused("POST", path, {"host": "one.example", **wrong})
                assert refused[0] == 400, wrong
            refused = await operator.refused("POST", path, {"host": "no.example", "repo_limit": 1})
            assert refused[0] == 404

    asyncio.run(story())


def test_an_alert_of_a_sibling_counts_unless_ours_is_newer(tmp_path: Path, filled_url: str) -> None:
    path = "/admin/alerts/accountLimitSent"
    told: dict[str, Any] = {
        "kind": "warning", "hostID": 9, "hostname": "one.example", "accountCount": 90,
        "accountLimit": 100, "usage": 0.9, "sentAt": "2026-08-01T10:00:00.123456789Z",
    }  # fmt: skip

    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:

            async def state() -> tuple[str, str | None]:
                row = (await operator.get("/admin/pds/list"))[0]
                return row["AccountLimitAlertState"], row.get("AccountLimitAlertSentAt")

            assert await state() == ("ok", None)
            assert await operator.post(path, told) == SUCCESS
            assert await state() == ("warning", "2026-08-01T10:00:00.123456Z")
            older = {**told, "kind": "recovery", "sentAt": "2026-08-01T09:00:00Z"}
            assert await operator.post(path, older) == SUCCESS
            assert (await state())[0] == "warning"
            assert await operator.post(path, {**older, "sentAt": "2026-08-01T11:00:00Z"}) == SUCCESS
            assert (await state())[0] == "ok"
            for wrong in ({"kind": "panic"}, {"sentAt": "now"}, {"sentAt": "9999-12-31T23:59:59-23:00"},
                          {"hostname": "a b"}, {"hostID": "x"}):  # fmt: skip
                assert (await operator.refused("POST", path, {**told, **wrong}))[0] == 400, wrong
            assert (await operator.refused("POST", path, {**told, "hostname": "no.example"}))[
                0
            ] == 404

    asyncio.run(story())


def test_every_change_is_in_the_audit_log_once(tmp_path: Path, filled_url: str) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            for _ in range(2):
                await operator.post("/admin/pds/block?host=one.example")
                await operator.post("/admin/repo/takeDown", {"did": DIDS[0]})
            via = ("Via: 1.1 atproto-relay",)
            await operator.post("/admin/subs/banDomain", {"domain": "x.example"}, headers=via)
            found = (await operator.get("/admin/audit"))["changes"]
            assert [(row["who"], row["action"], row["subject"], row["now"]) for row in found] == [
                ("sibling@127.0.0.1", "ban_domain", "x.example", None),
                ("admin@127.0.0.1", "take_down", DIDS[0], None),
                ("admin@127.0.0.1", "ban_host", "one.example", "banned"),
            ]
            page = await operator.get("/admin/audit?limit=1")
            assert [row["action"] for row in page["changes"]] == ["ban_domain"]
            page = await operator.get(f"/admin/audit?limit=1&cursor={page['cursor']}")
            assert [row["action"] for row in page["changes"]] == ["take_down"]
            page = await operator.get("/admin/audit?subject=one.example")
            assert [row["was"] for row in page["changes"]] == ["active"]
            assert "cursor" not in page

    asyncio.run(story())
