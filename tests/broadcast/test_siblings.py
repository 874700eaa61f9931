"""broadcast.siblings: other relays hear of a change once, and none of what they told us themselves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY

from broadcast.crawl import Rules
from broadcast.siblings import AT_ONCE, Siblings, is_forwarded
from tests.broadcast.fakes import until
from tests.broadcast.operator import BASIC, DIDS, fill, operated
from tests.broadcast.recorder import recorder
from tests.fix_postgres import Postgres


@pytest.fixture
def filled_url(postgres_url: str) -> str:
    fill(postgres_url)
    return postgres_url


@pytest.fixture
def other_url(postgres_server: Postgres) -> Iterator[str]:
    """The database of another relay."""
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE sibling")
    url = postgres_server.url.replace("/postgres?", "/sibling?")
    fill(url)
    yield url
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        admin.execute("DROP DATABASE sibling WITH (FORCE)")


def counted(result: str) -> float:
    name = "standpipe_sibling_requests_total"
    return REGISTRY.get_sample_value(name, {"result": result}) or 0.0


TOLD: list[tuple[str, Any]] = [
    ("/admin/pds/requestCrawl", {"hostname": "one.example"}),
    ("/admin/subs/killUpstream?host=one.example&block=true", None),
    ("/admin/subs/banDomain", {"Domain": "two.example"}),
    ("/admin/subs/unbanDomain", {"domain": "two.example"}),
    ("/admin/repo/takeDown", {"did": DIDS[0]}),
    ("/admin/repo/reverseTakedown", {"did": DIDS[0]}),
    ("/admin/pds/changeLimits", {"host": "one.example", "repo_limit": 9}),
    ("/admin/pds/block?host=one.example", None),
    ("/admin/pds/unblock?host=one.example", None),
]
NOT_TOLD: list[tuple[str, Any]] = [
    ("/admin/subs/setEnabled?enabled=true", None),
    ("/admin/subs/setPerDayLimit?limit=5", None),
    ("/admin/hosts/trust", {"host": "one.example", "trusted": True}),
    ("/admin/hosts/cursor", {"host": "one.example", "cursor": 0}),
]


def test_the_changes_that_concern_all_relays_are_told_with_the_same_words(
    tmp_path: Path, filled_url: str
) -> None:
    async def story() -> None:
        async with (
            recorder() as sibling,
            operated(
                tmp_path, filled_url, setup={"siblings": (sibling.url,)},
                crawl=Rules(allow_insecure=True),
            ) as operator,
        ):  # fmt: skip
            for path, value in NOT_TOLD:
                await operator.post(path, value)
            for path, value in TOLD:
                body = None if value is None else json.dumps(value).encode()
                response = await operator.ask("POST", path, body, ("Accept: text/x", "X-Own: 1"))
                assert response.status == 200
                request = await sibling.next()
                assert (request.method, request.target) == ("POST", path)
                assert request.body == (body or b"")
                assert request.headers["via"] == "1.1 atproto-relay"
                assert request.headers["authorization"] == BASIC
                assert request.headers["user-agent"] == "tool/1.0"
                assert request.headers["accept"] == "text/x"
                kind = request.headers.get("content-type")
                assert kind == (None if body is None else "application/json")
                assert not {"x-own", "accept-encoding", "cookie"} & set(request.headers)
            assert sibling.noted.empty()

    asyncio.run(story())


def test_what_was_not_done_here_is_told_to_nobody(tmp_path: Path, filled_url: str) -> None:
    async def story() -> None:
        async with (
            recorder() as sibling,
            operated(tmp_path, filled_url, setup={"siblings": (sibling.url,)}) as operator,
        ):
            assert (await operator.refused("POST", "/admin/pds/block?host=no.example"))[0] == 404
            operator.authorization = None
            assert (await operator.refused("POST", "/admin/pds/block?host=one.example"))[0] == 401
            operator.authorization = BASIC
            await operator.post("/admin/pds/block?host=one.example")
            await sibling.next()
            assert sibling.noted.empty()

    asyncio.run(story())


def test_two_relays_that_are_each_others_siblings_tell_each_other_once(
    tmp_path: Path, filled_url: str, other_url: str
) -> None:
    """Both are real; the second one's own sibling would hear of anything that it told on."""

    async def story() -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        async with (
            recorder() as third,
            operated(tmp_path / "b", other_url, setup={"siblings": (third.url,)}) as there,
            operated(
                tmp_path / "a", filled_url,
                setup={"siblings": (f"http://127.0.0.1:{there.member.port}",)},
            ) as here,
        ):  # fmt: skip
            before = counted("done")
            await here.post("/admin/subs/banDomain", {"domain": "two.example"})
            await until(lambda: counted("done") == before + 1)
            # It came from a relay, so it is told to nobody; what comes from the operator is.
            await there.post("/admin/subs/banDomain", {"domain": "three.example"})
            request = await third.next()
            assert request.value == {"domain": "three.example"}
            assert third.noted.empty()
            changes = (await there.get("/admin/audit"))["changes"]
            found = {row["subject"]: row["who"] for row in changes}
            assert found == {
                "two.example": "sibling@127.0.0.1", "three.example": "admin@127.0.0.1",
            }  # fmt: skip
            bans = await here.get("/admin/subs/listDomainBans")
            assert bans == {"banned_domains": ["two.example"]}

    asyncio.run(story())


def test_the_word_of_a_relay_is_kept_as_a_relays(tmp_path: Path, filled_url: str) -> None:
    async def story() -> None:
        async with (
            recorder() as sibling,
            operated(tmp_path, filled_url, setup={"siblings": (sibling.url,)}) as operator,
        ):
            via = ("Via: 1.1 atproto-relay",)
            await operator.post("/admin/repo/takeDown", {"did": DIDS[0]}, headers=via)
            await operator.post("/admin/repo/takeDown", {"did": DIDS[1]})
            assert (await sibling.next()).value == {"did": DIDS[1]}
            assert sibling.noted.empty()
            changes = (await operator.get("/admin/audit"))["changes"]
            assert [row["who"] for row in changes] == ["admin@127.0.0.1", "sibling@127.0.0.1"]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("headers", "forwarded"),
    [
        ({"via": "1.1 atproto-relay"}, True),
        ({"via": "1.1 proxy, 1.1 Atproto-Relay"}, True),
        ({"user-agent": "other/1 (atproto-relay)"}, True),
        ({"via": "1.1 nginx", "user-agent": "tool/1"}, False),
        ({}, False),
    ],
)
def test_a_relay_is_known_by_its_mark(headers: dict[str, str], *, forwarded: bool) -> None:
    assert is_forwarded(headers) is forwarded


def test_one_that_refuses_or_is_away_is_counted_and_the_next_is_told() -> None:
    async def story() -> None:
        async with recorder() as refusing, recorder() as good:
            refusing.status = 401
            siblings = Siblings(("http://127.0.0.1:1", refusing.url, good.url))
            before = counted("failed"), counted("done")
            siblings.tell("/admin/pds/block?host=a%2Fb", {}, b"")
            await refusing.next()
            assert (await good.next()).target == "/admin/pds/block?host=a%2Fb"
            await until(lambda: counted("done") == before[1] + 1)
            assert counted("failed") == before[0] + 2
            await siblings.close()

    asyncio.run(story())


def test_silent_siblings_hold_up_nobody_and_are_bounded() -> None:
    async def story() -> None:
        async with recorder() as silent:
            silent.silent = True
            siblings = Siblings((silent.url,))
            before = counted("dropped")
            for _ in range(AT_ONCE + 3):
                siblings.tell("/admin/pds/block?host=a", {}, b"")
            assert counted("dropped") == before + 3
            await silent.next()
            async with asyncio.timeout(5):
                await siblings.close()

    asyncio.run(story())


def test_one_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broadcast.siblings.WITHIN_S", 0.05)

    async def story() -> None:
        async with recorder() as silent:
            silent.silent = True
            siblings = Siblings((silent.url,))
            before = counted("failed")
            siblings.tell("/admin/pds/block?host=a", {}, b"")
            await until(lambda: counted("failed") == before + 1)
            await siblings.close()

    asyncio.run(story())
