"""What an operator can do here beyond the reference relay: cursors, trust, levels, search, and an end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.broadcast.operator import DIDS, fill, operated


@pytest.fixture
def filled_url(postgres_url: str) -> str:
    fill(postgres_url)
    return postgres_url


CHANGED = {"success": "true", "changed": True}
SAME = {"success": "true", "changed": False}
HOST = {"host": "one.example"}


@pytest.mark.parametrize(
    ("path", "value", "field", "now"),
    [
        pytest.param("cursor", {"cursor": 5}, "cursor", 5, id="a cursor"),
        pytest.param("cursor", {"cursor": 0}, "cursor", 0, id="its first event"),
        pytest.param("cursor", {"cursor": "live"}, "cursor", None, id="live"),
        pytest.param("trust", {"trusted": True}, "trusted", True, id="trust"),
        pytest.param("level", {"level": "observe"}, "level", "observe", id="level"),
    ],
)
def test_a_hosts_setting_is_changed_once(
    tmp_path: Path, filled_url: str, path: str, value: dict[str, Any], field: str, now: Any
) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            assert await operator.post(f"/admin/hosts/{path}", HOST | value) == CHANGED
            assert await operator.post(f"/admin/hosts/{path}", HOST | value) == SAME
            shown = await operator.get("/admin/hosts/show?host=one.example")
            assert shown[field] == now
            # A new place means that its numbers begin anew, so what comes again is judged again.
            assert shown["generation"] == (2 if path == "cursor" else 1)
            changes = (await operator.get("/admin/audit"))["changes"]
            assert [row["subject"] for row in changes] == ["one.example"]
            for wrong in ({}, {"host": 7}, {"host": "one.example", next(iter(value)): [1]},
                          {"host": "one.example", next(iter(value)): "nonsense"}):  # fmt: skip
                refused = await operator.refused("POST", f"/admin/hosts/{path}", wrong)
                assert refused[0] == 400, wrong
            unknown = {**value, "host": "no.example"}
            assert (await operator.refused("POST", f"/admin/hosts/{path}", unknown))[0] == 404

    asyncio.run(story())


def test_a_host_is_dialled_as_often_as_it_is_asked_for(tmp_path: Path, filled_url: str) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            for _ in range(2):
                assert await operator.post("/admin/hosts/dial", HOST) == CHANGED
            assert (await operator.refused("POST", "/admin/hosts/dial", {"host": "x.example"}))[
                0
            ] == (404)

    asyncio.run(story())


def test_a_host_that_is_deleted_is_shown_to_nobody(tmp_path: Path, filled_url: str) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            assert await operator.post("/admin/hosts/delete", HOST) == CHANGED
            assert await operator.post("/admin/hosts/delete", HOST) == SAME
            refused = await operator.refused("GET", "/admin/hosts/show?host=one.example")
            assert refused == (404, "one.example is not known here")
            for path in ("/admin/hosts/list", "/admin/pds/list", "/admin/subs/getUpstreamConns"):
                assert "one.example" not in str(await operator.get(path)), path
            assert (await operator.refused("GET", "/admin/hosts/accounts?host=one.example"))[
                0
            ] == 404

    asyncio.run(story())


def test_a_banned_host_is_not_deleted_as_its_ban_would_be_gone(
    tmp_path: Path, filled_url: str
) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            await operator.post("/admin/pds/block?host=one.example")
            status, why = await operator.refused("POST", "/admin/hosts/delete", HOST)
            assert (status, why.startswith("one.example is banned, ")) == (400, True)
            shown = await operator.get("/admin/hosts/show?host=one.example")
            assert shown["status"] == "banned"
            newest = (await operator.get("/admin/audit?limit=1"))["changes"]
            assert [change["action"] for change in newest] == ["ban_host"]
            await operator.post("/admin/pds/unblock?host=one.example")
            assert await operator.post("/admin/hosts/delete", HOST) == CHANGED

    asyncio.run(story())


def test_hosts_are_searched_and_paged(tmp_path: Path, filled_url: str) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            await operator.post("/admin/subs/banDomain", {"domain": "two.example"})

            async def names(query: str) -> tuple[list[str], str | None]:
                page = await operator.get(f"/admin/hosts/list{query}")
                return [row["hostname"] for row in page["hosts"]], page.get("cursor")

            assert await names("") == (["one.example", "sub.two.example", "localhost:2583"], None)
            assert await names("?q=TWO") == (["sub.two.example"], None)
            assert await names("?q=_") == ([], None)
            assert await names("?q=%25") == ([], None)
            assert await names("?limit=1") == (["one.example"], "1")
            assert await names("?limit=2&cursor=1") == (["sub.two.example", "localhost:2583"], None)
            (row,) = (await operator.get("/admin/hosts/list?q=two"))["hosts"]
            assert (row["status"], row["banned_domain"]) == ("banned", "two.example")
            assert row["limits"] == {"per_second": 55, "per_hour": 7500, "per_day": 70000}
            assert row["own_limits"] == {"per_second": None, "per_hour": None, "per_day": None}
            for wrong in ("?limit=0", "?limit=1001", "?limit=x", "?cursor=-1", "?q=a%00b"):
                assert (await operator.refused("GET", f"/admin/hosts/list{wrong}"))[0] == 400, wrong

    asyncio.run(story())


def test_accounts_are_listed_by_host_and_searched_by_did(tmp_path: Path, filled_url: str) -> None:
    async def story() -> None:
        async with operated(tmp_path, filled_url) as operator:
            await operator.post("/admin/repo/takeDown", {"did": DIDS[1]})
            with psycopg.connect(filled_url, autocommit=True) as database:
                database.execute(
                    "UPDATE account SET local = 'takendown' WHERE did = %s", (DIDS[1],)
                )

            async def found(path: str) -> tuple[list[str], str | None]:
                page = await operator.get(path)
                return [row["did"] for row in page["accounts"]], page.get("cursor")

            of_one = "/admin/hosts/accounts?host=one.example"
            assert await found(of_one) == (DIDS[:2], None)
            assert await found(f"{of_one}&limit=1") == (DIDS[:1], "1")
            assert await found(f"{of_one}&limit=1&cursor=1") == (DIDS[1:2], None)
            assert await found("/admin/hosts/accounts?host=localhost:2583") == ([], None)
            search = "/admin/accounts/search?q="
            assert await found(search + DIDS[2]) == ([DIDS[2]], None)
            assert await found(search + "did:plc:b") == ([DIDS[1]], None)
            assert await found(search + "did:plc:_") == ([], None)
            assert await found(search + "did:&limit=3") == (DIDS[:3], "3")
            (row,) = (await operator.get(search + DIDS[1]))["accounts"]
            assert row == {
                "did": DIDS[1], "host": "one.example", "active": True, "status": None,
                "local": "takendown", "takedown": True, "rev": None, "desynchronized": False,
            }  # fmt: skip
            for wrong in ("", "?q=alice", "?q=did:&limit=0", "?q=did:%00"):
                refused = await operator.refused("GET", f"/admin/accounts/search{wrong}")
                assert refused[0] == 400, wrong

    asyncio.run(story())
