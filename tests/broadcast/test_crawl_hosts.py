"""broadcast.crawl_desk asks a host who it is: a relay, an alias, a PDS, or none of all that."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest

from broadcast import crawl_desk
from broadcast.crawl_answers import Outcome
from tests.broadcast.fix_crawl import (
    OPEN,
    crawl,
    database,
    put,
    relay,
    rows,
    traces,
    url,
)
from tests.broadcast.fix_pds import DESCRIBE, LIST, Script, page, pds
from tests.fix_loop import LoopRun

__all__ = ["database", "url"]  # fixtures of this module, too


# --- relays and other names ---


def test_ourselves_under_another_name_are_a_relay(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    """Lesson 40: the answer of our own port says what it is."""

    async def story() -> None:
        async with relay(tmp_path, url) as member:
            said = await crawl(member, f"http://127.0.0.1:{member.port}")
            assert (said.status, said.error) == (400, "InvalidRequest")
            assert "is a relay" in said.message
        assert rows(database) == []

    loop_run(story())


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(
            {DESCRIBE: page(404, {}, "Server: indigo-relay (atproto-relay)\r\n")},
            id="that says so",
        ),
        pytest.param({LIST: page(200, {"hosts": []})}, id="that lists hosts, and plays a PDS"),
        pytest.param(
            {LIST: page(500, {}, "Server: some (atproto-relay)\r\n")}, id="that says so later"
        ),
    ],
)
def test_another_relay_is_refused(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any],
    answers: dict[str, bytes],
) -> None:  # fmt: skip
    """Lesson 40, S-CAS-05."""

    async def story() -> None:
        async with relay(tmp_path, url) as member, pds() as host:
            host.answers.update(answers)
            said = await crawl(member, host.name)
            assert (said.status, said.error) == (400, "InvalidRequest")
            assert "is a relay" in said.message
            told = await member.worker.crawl.request_for(host.name, "admin@::1")
            assert told.outcome is Outcome.RELAY
        assert rows(database) == []

    loop_run(story())


def test_an_alias_of_a_known_host_is_told_its_name(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    """Lesson 40, complaint 14."""

    async def story() -> None:
        async with relay(tmp_path, url) as member, pds() as host:
            put(database, "pds.brightworld.dev", connected=True)
            host.calls_itself("did:web:PDS.brightworld.dev")
            before = traces(database)
            said = await crawl(member, host.name)
            assert (said.status, said.error) == (400, "InvalidRequest")
            assert "is an alias of pds.brightworld.dev" in said.message
            assert traces(database) == before
            # Nor is a ban evaded so.
            database.execute("UPDATE host SET wanted = 'banned'")
            assert (await crawl(member, host.name)).error == "HostBanned"
            database.execute("UPDATE host SET wanted = 'deleted'")
            database.execute("INSERT INTO domain_ban (domain) VALUES ('brightworld.dev')")
            assert (await crawl(member, host.name)).error == "HostBanned"
            assert rows(database) == ["pds.brightworld.dev"]

    loop_run(story())


def test_a_host_that_calls_itself_what_nobody_knows_is_added_and_told(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    async def story() -> None:
        async with relay(tmp_path, url) as member, pds() as host, pds() as other:
            host.calls_itself(f"did:web:localhost%3A{other.port}")
            said = await crawl(member, host.name)
            assert said.status == 200
            assert f"It calls itself did:web:localhost%3A{other.port}" in said.message
            # When the other one comes it is known which is whose alias: but a host's own word is not enough.
            assert (await crawl(member, other.name)).status == 200
            assert rows(database, "alias_of") == [None, None]
            database.execute("DELETE FROM host WHERE hostname = %s", (other.name,))
            database.execute(
                "INSERT INTO host_drop SELECT id, 'host_not_authoritative', 7, now() FROM host"
            )
            database.execute("UPDATE host SET accounts = 1")
            assert (await crawl(member, other.name)).status == 200
            assert rows(database, "alias_of") == [None, None]
            database.execute("DELETE FROM host WHERE hostname = %s", (other.name,))
            database.execute("UPDATE host SET accounts = 0")
            assert (await crawl(member, other.name)).status == 200
            assert rows(database, "alias_of") == [other.name, None]

    loop_run(story())


def test_an_alias_that_is_one_no_longer_is_read_again(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    """No host is ever forgotten: it is asked who it is whenever it asks."""

    async def story() -> None:
        # No new host is taken: this is none.
        async with relay(tmp_path, url, OPEN._replace(is_open=False, per_day=0)) as member:
            async with pds() as host:
                put(database, "pds.brightworld.dev", connected=True)
                put(database, host.name, alias_of="pds.brightworld.dev", observed="idle")
                host.calls_itself("did:web:pds.brightworld.dev")
                before = traces(database)
                said = await crawl(member, host.name)
                assert (said.status, said.error) == (400, "InvalidRequest")
                assert "is an alias of pds.brightworld.dev" in said.message
                assert traces(database) == before
                own = f"did:web:localhost%3A{host.port}"
                host.calls_itself(own)
                said = await crawl(member, host.name)
                assert (said.status, said.body["status"]) == (200, "idle"), said
                what = "alias_of, server_did, dial_asked"
                assert rows(database, what) == [(None, None, 0), (None, own, 1)]

    loop_run(story())


# --- hosts that do not answer as a PDS ---


async def slow(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await writer.drain()


async def silent(_writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def nothing(_writer: asyncio.StreamWriter) -> None:
    pass


async def noise(writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        pytest.param(endless, "more than 65536 bytes", id="an endless body"),
        pytest.param(nothing, "disconnected", id="closes at once"),
        pytest.param(noise, "SSH-2.0", id="another protocol"),
        pytest.param(page(404, {}), "status 404", id="not found"),
        pytest.param(page(500, {}), "status 500", id="an error"),
        pytest.param(page(429, {}), "status 429", id="too many requests"),
        pytest.param(page(200, b"<html>"), "not JSON", id="a page"),
        pytest.param(page(200, []), "names no DID", id="a list"),
        pytest.param(page(200, {"did": 7}), "names no DID", id="a number for a DID"),
        pytest.param(page(200, {"did": "did:"}), "names no DID", id="no DID"),
        pytest.param(
            page(302, {}, "Location: http://localhost:1/\r\n"), "redirects, the last to",
            id="a redirect",
        ),
        pytest.param(
            page(302, {}, "Location: http://169.254.169.254/latest/\r\n"), "redirects",
            id="a redirect inside",
        ),
    ],
)  # fmt: skip
def test_a_host_that_does_not_answer_as_a_pds_is_told_why(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any],
    what: Any, words: str,
) -> None:  # fmt: skip
    async def story() -> None:
        async with relay(tmp_path, url) as member, pds() as host:
            if isinstance(what, bytes):
                host.answers[DESCRIBE] = what
            else:
                host.script = what
            for _ in range(3):
                said = await crawl(member, host.name)
                assert (said.status, said.error) == (400, "HostNotFound")
                assert words in said.message
            # It is not asked again for a while. (One that hangs up is tried twice, by aiohttp.)
            assert host.asked == [DESCRIBE] * (2 if what is nothing else 1)
        assert rows(database) == []

    loop_run(story())


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(slow, id="a byte now and then"),
        pytest.param(silent, id="nothing at all"),
    ],
)
def test_a_host_that_does_not_answer_in_time_is_told_so(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch, what: Script,
) -> None:  # fmt: skip
    monkeypatch.setattr(crawl_desk, "DESCRIBE_S", 0.4)

    async def story() -> None:
        async with relay(tmp_path, url) as member, pds() as host:
            host.script = what
            for _ in range(3):
                said = await crawl(member, host.name)
                assert (said.status, said.error) == (400, "HostNotFound")
                assert "no answer within 0.4 s" in said.message
            # Nor is it asked again for a while; a busy machine may not even come to ask it once in time.
            assert host.asked in ([DESCRIBE], [])
        assert rows(database) == []

    loop_run(story())


def test_nobody_listens_there(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    async def story() -> None:
        async with relay(tmp_path, url) as member:
            said = await crawl(member, "localhost:1")
            assert (said.status, said.error) == (400, "HostNotFound")
            assert "ConnectorError" in said.message
        assert rows(database) == []

    loop_run(story())


def test_a_pds_that_says_nothing_of_hosts_is_none_the_worse(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(crawl_desk, "LIST_S", 0.2)

    async def story() -> None:
        async with relay(tmp_path, url) as member, pds() as host:
            real = host.answers[DESCRIBE]

            async def script(writer: asyncio.StreamWriter) -> None:
                if host.asked[-1] == DESCRIBE:
                    writer.write(real)
                else:
                    await asyncio.sleep(60)

            host.script = script
            assert (await crawl(member, host.name)).status == 200
        assert len(rows(database)) == 1

    loop_run(story())
