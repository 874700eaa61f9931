"""broadcast.crawl_desk and crawl_table: who asks to be crawled is told what, and added when he may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg

from broadcast.crawl import Facts
from broadcast.crawl_answers import Outcome
from common.control import ControlPlane
from tests.broadcast.fix_crawl import (
    OPEN,
    PATH,
    PUBLIC,
    crawl,
    database,
    post,
    put,
    relay,
    rows,
    traces,
    url,
)
from tests.broadcast.fix_pds import DESCRIBE, LIST, pds
from tests.broadcast.raw import Raw
from tests.broadcast.test_crawl import BAD_BODIES, BAD_NAMES
from tests.fix_loop import LoopRun

__all__ = ["database", "url"]  # fixtures of this module, too


# --- a host that may be added ---


def test_a_host_that_answers_as_a_pds_is_added_and_read_from_its_first_event(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    async def story() -> None:
        async with relay(tmp_path, url) as member, pds() as host:
            said = await crawl(member, f"http://LocalHost:{host.port}/")
            assert (said.status, said.body["hostname"]) == (200, host.name)
            assert "read from its first event" in said.message
            assert host.asked == [DESCRIBE, LIST]
            did = f"did:web:localhost%3A{host.port}"
            what = "hostname, tls, cursor, added_by, server_did, account_limit, trusted, wanted"
            row = (host.name, False, 0, "crawl", did, 77, False, "active")
            assert rows(database, what) == [row]
            audited = database.execute("SELECT who, action, subject, now FROM audit").fetchall()
            assert audited == [("relay", "add_host", host.name, "crawl")]
            version = database.execute("SELECT value FROM relay WHERE name = 'control_version'")
            assert version.fetchone() == (1,)
            # Again: it is known, and not connected yet.
            assert (await crawl(member, host.name)).status == 200
            assert len(host.asked) == 2

    loop_run(story())


def test_a_host_of_a_trusted_domain_is_trusted(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    async def story() -> None:
        rules = OPEN._replace(trusted_domains=("*",))
        async with relay(tmp_path, url, rules) as member, pds() as host:
            assert (await crawl(member, host.name)).status == 200
            assert rows(database, "trusted, account_limit") == [(True, 10_000_000)]

    loop_run(story())


def test_a_host_that_an_operator_deleted_may_come_back(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    async def story() -> None:
        async with relay(tmp_path, url) as member, pds() as host:
            put(database, host.name, wanted="deleted", cursor=9, created_at="2020-01-01")
            assert (await crawl(member, host.name)).status == 200
            # It counts as a new one, and goes on where it was.
            what = "wanted, cursor, created_at > now() - interval '1 hour'"
            assert rows(database, what) == [("active", 9, True)]

    loop_run(story())


def test_nothing_that_an_operator_allowed_a_host_outlives_its_deletion(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    async def story() -> None:
        async with relay(tmp_path, url) as member, pds() as host:
            put(
                database, host.name, wanted="deleted", level="observe", per_second=9, per_hour=99,
                per_day=999, alerts_silenced=True, alias_of="other.example",
            )  # fmt: skip
            assert (await crawl(member, host.name)).status == 200
            what = "wanted, level, per_second, per_hour, per_day, alerts_silenced, alias_of"
            assert rows(database, what) == [("active", "enforce", None, None, None, False, None)]

    loop_run(story())


# --- names that are refused before anybody is asked ---


def test_a_name_that_may_not_be_read_is_refused_with_a_sentence(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    """Each name and each body of test_crawl, over the wire."""

    async def story() -> None:
        before = traces(database)
        async with relay(tmp_path, url, PUBLIC) as member:
            for name, words in BAD_NAMES:
                said = await crawl(member, name)
                assert (said.status, said.error) == (400, "InvalidRequest"), said
                assert words in said.message
            for body in BAD_BODIES:
                said = await post(member, body)
                assert (said.status, said.error) == (400, "InvalidRequest")
            assert member.worker.crawl._fetcher is None
        assert traces(database) == before

    loop_run(story())


def test_a_body_that_is_too_large_or_none_is_refused(
    loop_run: LoopRun, tmp_path: Path, url: str
) -> None:
    async def story() -> None:
        async with relay(tmp_path, url, PUBLIC) as member:
            said = await post(member, b'{"hostname":"' + b"a" * 70_000 + b'"}')
            assert (said.status, said.error) == (413, "PayloadTooLarge")
            raw = await Raw.to(member.port)
            await raw.send(f"GET {PATH} HTTP/1.1\r\nHost: relay\r\n\r\n".encode())
            response = await raw.response()
            assert (response.status, response.headers["allow"]) == (405, "POST")
            raw.cut()

    loop_run(story())


def test_a_body_in_any_pieces_is_one(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    """Lesson 31, as far as the answer: the body arrived whole, or the host would not be known."""
    put(database, "pds.brightworld.dev", connected=True, observed="active")

    async def story() -> None:
        async with relay(tmp_path, url, PUBLIC) as member:
            for piece in (1, 2, 7, 100):
                said = await crawl(member, "PDS.brightworld.dev.", piece=piece)
                assert (said.status, said.body["hostname"]) == (200, "pds.brightworld.dev")

    loop_run(story())


# --- who is told what ---


def test_a_host_that_is_connected_costs_one_read(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    """S-HST-11: nobody is asked, nothing is written, however often and however it is spelled."""
    put(database, "pds.brightworld.dev", connected=True, observed="active")
    before = traces(database)

    async def story() -> None:
        async with relay(tmp_path, url, PUBLIC) as member:
            body = json.dumps({"hostname": "https://pds.BRIGHTWORLD.dev./"}).encode()
            for _ in range(1000):
                answer = await member.worker.crawl.request(body, "192.0.2.1", "relay.example")
                assert answer.status == 200
                assert answer.outcome is Outcome.CONNECTED
            said = await crawl(member, "pds.brightworld.dev")
            assert said.status == 200
            assert said.body["status"] == "active"
            assert member.worker.crawl._fetcher is None

    loop_run(story())
    assert traces(database) == before


def test_a_host_that_is_known_and_away_is_dialled_once_and_told_how_it_is(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    """S-HST-09. No audit row, which strangers could fill the log with."""
    put(
        database,
        "pds.brightworld.dev",
        observed="offline",
        last_error="certificate refused: expired",
    )

    async def story() -> None:
        async with relay(tmp_path, url, PUBLIC) as member:
            first = await crawl(member, "pds.brightworld.dev")
            assert first.status == 200
            assert first.body["status"] == "offline"
            assert "dialled now" in first.message
            assert "certificate refused: expired" in first.message
            for _ in range(20):
                again = await crawl(member, "pds.brightworld.dev")
                assert again.status == 200
                assert "not long ago" in again.message
            assert rows(database, "dial_asked") == [1]
            version = database.execute("SELECT value FROM relay WHERE name = 'control_version'")
            assert version.fetchone() == (1,)
            assert database.execute("SELECT count(*) FROM audit").fetchone() == (0,)
            # An operator is not held to that.
            await member.worker.crawl.request_for("pds.brightworld.dev", "admin@::1")
            assert rows(database, "dial_asked") == [2]

    loop_run(story())


def test_a_host_that_connects_while_it_is_looked_up_is_left_alone(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    """A dial that is asked for begins the connection anew."""
    put(database, "pds.brightworld.dev", connected=False)

    async def story() -> None:
        async with relay(tmp_path, url, PUBLIC) as member:
            table = member.worker.crawl._table
            look = table.look

            async def late(hostname: str) -> Facts:
                facts = await look(hostname)
                database.execute("UPDATE host SET connected = true")
                return facts

            table.look = late  # type: ignore[method-assign]
            said = await crawl(member, "pds.brightworld.dev")
            assert (said.status, said.message[:9]) == (200, "connected")
            assert rows(database, "dial_asked") == [0]
            assert database.execute("SELECT * FROM relay").fetchall() == []

    loop_run(story())


def test_who_is_banned_is_told_so(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    put(database, "bad.brightworld.dev", wanted="banned", connected=True)
    put(database, "sub.evil.dev", connected=True)
    database.execute("INSERT INTO domain_ban (domain) VALUES ('evil.dev')")
    before = traces(database)

    async def story() -> None:
        async with relay(tmp_path, url, PUBLIC._replace(is_open=False)) as member:
            for name in ("bad.brightworld.dev", "evil.dev", "sub.evil.dev", "new.sub.evil.dev"):
                said = await crawl(member, name)
                assert (said.status, said.error) == (403, "HostBanned"), name
                said_to_operator = await member.worker.crawl.request_for(name, "admin@::1")
                assert said_to_operator.outcome is Outcome.BANNED
            said = await crawl(member, "notevil.dev")
            assert said.error == "Forbidden"
            assert member.worker.crawl._fetcher is None

    loop_run(story())
    assert traces(database) == before


def test_a_closed_relay_takes_none_that_it_does_not_know(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    """The operator's word counts before the setting, both ways; who is known is still revived."""

    async def story() -> None:
        async with pds() as host:
            async with relay(tmp_path, url, OPEN._replace(is_open=False)) as member:
                put(database, "localhost:1", observed="idle")
                assert (await crawl(member, "localhost:1")).status == 200
                said = await crawl(member, host.name)
                assert (said.status, said.error) == (403, "Forbidden")
                assert not host.asked
                ControlPlane(database, "command:me").set_control("request_crawl", "true")
                assert (await crawl(member, host.name)).status == 200
                database.execute("DELETE FROM host")
                ControlPlane(database, "command:me").set_control("request_crawl", "false")
                assert (await crawl(member, host.name)).status == 403
                # An operator adds where strangers may not.
                added = await member.worker.crawl.request_for(host.name, "admin@::1")
                assert added.outcome is Outcome.ADDED
                assert rows(database, "added_by") == ["operator"]
                who = "SELECT who FROM audit WHERE action = 'add_host' ORDER BY id DESC LIMIT 1"
                assert database.execute(who).fetchone() == ("admin@::1",)

    loop_run(story())


def test_our_own_name_is_refused_without_a_question(
    loop_run: LoopRun, tmp_path: Path, url: str, database: psycopg.Connection[Any]
) -> None:
    """Lesson 40."""

    async def story() -> None:
        async with relay(tmp_path, url, PUBLIC) as member:
            for host in ("relay.brightworld.dev", "Relay.brightworld.dev:443"):
                said = await crawl(member, "https://relay.brightworld.dev", host=host)
                assert (said.status, said.error) == (400, "InvalidRequest")
                assert "is this relay" in said.message
            assert member.worker.crawl._fetcher is None
        assert rows(database) == []

    loop_run(story())
