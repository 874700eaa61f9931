"""broadcast.crawl_desk and crawl_table: how much may be asked, without a database and without permission too."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import psycopg
import pytest

from broadcast import crawl_desk, crawl_table
from broadcast.crawl_answers import Outcome
from broadcast.crawl_desk import CrawlDesk
from broadcast.crawl_table import CrawlTable, Full
from broadcast.metrics import request_crawl
from broadcast.store import Away
from common.control import ControlPlane
from common.rates import Rate
from tests.broadcast.fakes import FakeLog, member_of, until
from tests.broadcast.fix_crawl import (
    OPEN,
    PUBLIC,
    body_of,
    crawl,
    database,
    put,
    relay,
    rows,
    url,
)
from tests.broadcast.fix_pds import DESCRIBE, LIST, pds
from tests.fix_loop import LoopRun

__all__ = ["database", "url"]  # fixtures of this module, too


# --- how much may be asked ---


def test_ten_who_ask_at_once_cost_one_question_and_one_row(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    """Lesson 40: the row is put in with the checks, in one transaction."""

    async def story() -> None:
        async with relay(tmp_path, url) as member, pds() as host:
            host.open.clear()
            table = member.worker.crawl._table
            room = table.room
            rooms = 0

            async def counted(per_day: int) -> Full | None:
                nonlocal rooms
                rooms += 1
                return await room(per_day)

            table.room = counted  # type: ignore[method-assign]
            gone = asyncio.create_task(
                member.worker.crawl.request(body_of(host), "192.0.2.1", None)
            )
            await until(lambda: host.asked)
            asking = [asyncio.create_task(crawl(member, host.name)) for _ in range(9)]
            await until(lambda: rooms == 10)
            gone.cancel()  # who goes away leaves it to the others
            host.open.set()
            assert [said.status for said in await asyncio.gather(*asking)] == [200] * 9
            assert host.asked == [DESCRIBE, LIST]
        assert len(rows(database)) == 1

    loop_run(story())


def test_an_address_may_name_some_unknown_hosts_and_then_has_to_wait(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Forged forwarding headers change nothing, unless a trusted proxy wrote them."""
    monkeypatch.setattr(crawl_desk, "STRANGER", Rate(burst=2, every_s=3600.0))
    put(database, "localhost:9", connected=True)

    async def story() -> None:
        async with relay(tmp_path, url) as member:
            for name in ("localhost:1", "localhost:2"):
                assert (await crawl(member, name)).status == 400
            for forged in ("", "X-Forwarded-For: 198.51.100.7\r\n", "Forwarded: for=8.8.8.8\r\n"):
                said = await crawl(member, "localhost:3", more=forged)
                assert (said.status, said.error) == (429, "RateLimitExceeded")
                assert 3000 < int(said.retry_after or 0) <= 3600
            # What is known is told all the same.
            assert (await crawl(member, "localhost:9")).status == 200
        async with relay(tmp_path, url, proxies=("127.0.0.1",)) as member:
            for n in range(4):
                more = f"X-Forwarded-For: 198.51.100.{n}\r\n"
                assert (await crawl(member, f"localhost:{n + 1}", more=more)).status == 400
            for _ in range(2):
                more = "X-Forwarded-For: 203.0.113.1, 198.51.100.1\r\n"
                said = await crawl(member, "localhost:7", more=more)
            assert said.status == 429

    loop_run(story())


def test_so_many_hosts_a_day_and_no_more_whichever_process_is_asked(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    """In the database: a restart, or another broadcaster, begins no new day."""
    put(database, "one.brightworld.dev", added_by="crawl")
    put(database, "two.brightworld.dev", added_by="operator")
    put(database, "old.brightworld.dev", added_by="crawl", created_at="2020-01-01")

    async def story() -> None:
        async with pds() as host:
            async with relay(tmp_path, url, OPEN._replace(per_day=1)) as member:
                said = await crawl(member, host.name)
                assert (said.status, said.error) == (429, "RateLimitExceeded")
                assert 86_000 < int(said.retry_after or 0) <= 86_400
                assert not host.asked
                for word, status in (("0", 429), ("2", 200)):
                    ControlPlane(database, "command:me").set_control("new_hosts_per_day", word)
                    assert (await crawl(member, host.name)).status == status
                async with pds() as third:
                    assert (await crawl(member, third.name)).status == 429
                    told = await member.worker.crawl.request_for(third.name, "admin@::1")
                    assert told.outcome is Outcome.ADDED

    loop_run(story())


def test_the_last_place_of_a_day_goes_to_one(
    loop_run: LoopRun, url: str, database: psycopg.Connection[Any]
) -> None:
    """Two broadcasters check at once, and both find room; the row is put in with the count again."""

    async def story() -> None:
        rules = OPEN._replace(per_day=1)
        desks = [CrawlDesk(CrawlTable(url), rules) for _ in range(2)]
        async with pds() as one, pds() as two:
            one.open.clear()
            two.open.clear()
            asking = [
                asyncio.create_task(desk.request(body_of(host), "192.0.2.1", None))
                for desk, host in zip(desks, (one, two), strict=True)
            ]
            await until(lambda: one.asked and two.asked)
            one.open.set()
            two.open.set()
            answers = await asyncio.gather(*asking)
            outcomes = sorted(answer.outcome for answer in answers)
            assert outcomes == [Outcome.ADDED, Outcome.DAY_FULL]
            for desk in desks:
                await desk.close()
        assert len(rows(database)) == 1

    loop_run(story())


def test_a_ban_that_comes_while_a_host_is_looked_at_counts(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    """Lesson 40: what was checked before the question is checked again with the row."""

    async def story() -> None:
        async with relay(tmp_path, url) as member, pds() as host, pds() as other:
            for one, act in (
                (host, lambda: ControlPlane(database, "me").ban_domain("localhost")),
                (other, lambda: put(database, other.name, connected=True)),
            ):
                database.execute("DELETE FROM domain_ban")
                one.open.clear()
                asking = asyncio.create_task(crawl(member, one.name))
                await until(lambda one=one: one.asked)  # type: ignore[misc]
                act()
                one.open.set()
                said = await asking
                assert said.error == ("HostBanned" if one is host else None)
            assert rows(database) == [other.name]

    loop_run(story())


def test_no_more_than_some_hosts_are_asked_at_a_time(
    loop_run: LoopRun, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crawl_desk, "CHECKS_MAX", 2)

    async def story() -> None:
        async with relay(tmp_path, url) as member, pds() as one, pds() as two, pds() as three:
            for host in (one, two):
                host.open.clear()
            asking = [asyncio.create_task(crawl(member, host.name)) for host in (one, two)]
            await until(lambda: one.asked and two.asked)
            said = await crawl(member, three.name)
            assert (said.status, said.error, said.retry_after) == (503, "ServiceUnavailable", "10")
            assert not three.asked
            one.open.set()
            two.open.set()
            await asyncio.gather(*asking)
            assert (await crawl(member, three.name)).status == 200

    loop_run(story())


def test_one_site_is_asked_so_often_and_no_more(
    loop_run: LoopRun, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-SEC-03: a domain with any number of names is one site, and its owner may mean somebody else."""
    monkeypatch.setattr(crawl_desk, "SITE", Rate(burst=3, every_s=3600.0))
    monkeypatch.setattr("common.fetch.site_of", lambda _host, _port: "victim")

    async def story() -> None:
        async with relay(tmp_path, url) as member, pds() as one, pds() as two, pds() as three:
            assert (await crawl(member, one.name)).status == 200
            # The second is described; that it is no relay cannot be asked any more.
            for host in (two, three):
                said = await crawl(member, host.name)
                assert (said.status, said.error) == (429, "RateLimitExceeded")
                assert said.retry_after is not None
            assert (two.asked, three.asked) == ([DESCRIBE], [])

    loop_run(story())


# --- without a database, without permission ---


def test_without_the_database_it_is_said_to_come_again(
    loop_run: LoopRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, crawl=PUBLIC) as member:
            before = request_crawl[Outcome.AWAY]._value.get()
            for _ in range(5):
                said = await crawl(member, "pds.brightworld.dev")
                assert (said.status, said.error) == (503, "ServiceUnavailable")
                assert said.retry_after
            assert request_crawl[Outcome.AWAY]._value.get() == before + 5
            # It was tried once; a server that is silent takes 3 s for each try.
            assert tried == 1

    tried = 0
    connect = psycopg.connect

    def counted(*args: Any, **more: Any) -> Any:
        nonlocal tried
        tried += more.get("application_name") == "standpipe broadcast crawl"
        return connect(*args, **more)

    monkeypatch.setattr(psycopg, "connect", counted)
    monkeypatch.setattr(crawl_table, "_AGAIN_S", 3600.0)
    loop_run(story())


def test_no_more_than_some_questions_wait_for_the_database(
    loop_run: LoopRun, url: str, database: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crawl_table, "_WAITING_MAX", 2)

    async def story() -> None:
        table = CrawlTable(url)
        await table.room(1)
        with database.transaction():
            database.execute("LOCK TABLE host IN ACCESS EXCLUSIVE MODE")
            asked = [asyncio.create_task(table.room(1)) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(Away):
                await table.room(1)
        assert await asyncio.gather(*asked) == [None, None]
        await table.close()

    loop_run(story())


def test_a_database_that_comes_back_is_asked_again(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    put(database, "pds.brightworld.dev", connected=True)

    async def story() -> None:
        async with relay(tmp_path, url, PUBLIC) as member:
            assert (await crawl(member, "pds.brightworld.dev")).status == 200
            database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'standpipe broadcast crawl'"
            )
            statuses = [(await crawl(member, "pds.brightworld.dev")).status for _ in range(2)]
            assert statuses == [503, 200]

    loop_run(story())


def test_an_operator_may_name_localhost_where_strangers_may_not(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    """H14: the reference relay's check goes through a transport that reaches the internet alone."""

    async def story() -> None:
        async with relay(tmp_path, url, PUBLIC) as member, pds() as host:
            assert (await crawl(member, host.name)).status == 400
            told = await member.worker.crawl.request_for(host.name, "admin@::1")
            assert told.outcome is Outcome.ADDED, told
            assert rows(database, "hostname, tls") == [(host.name, False)]
            for text in ("http://pds.brightworld.dev", "127.0.0.1:80", "https://10.0.0.1"):
                told = await member.worker.crawl.request_for(text, "admin@::1")
                assert told.outcome is Outcome.INVALID

    loop_run(story())


def test_a_stranger_has_us_connect_to_nothing_of_our_own(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """S-SEC-01: a name of the internet that leads inside, as DNS says."""
    real = socket.getaddrinfo

    def lie(name: Any, *args: Any, **more: Any) -> Any:
        if name == "inside.brightworld.dev":
            return [
                (socket.AF_INET, 1, 6, "", ("127.0.0.1", 0)),
                (socket.AF_INET, 1, 6, "", ("169.254.169.254", 0)),
            ]
        return real(name, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", lie)

    async def story() -> None:
        async with relay(tmp_path, url, PUBLIC) as member:
            said = await crawl(member, "inside.brightworld.dev")
            assert (said.status, said.error) == (400, "HostNotFound")
            assert "no public address" in said.message
        assert rows(database) == []

    loop_run(story())
