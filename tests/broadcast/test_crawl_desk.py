"""broadcast.crawl_desk and crawl_table: on real sockets, with a real database, against hosts of all kinds."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from broadcast import crawl_desk, crawl_table
from broadcast.crawl import Facts, Rules
from broadcast.crawl_answers import Outcome
from broadcast.crawl_desk import CrawlDesk
from broadcast.crawl_table import CrawlTable, Full
from broadcast.metrics import request_crawl
from broadcast.store import Away
from common.control import ControlPlane
from common.rates import Rate
from tests.broadcast.fakes import FakeLog, Member, member_of, until
from tests.broadcast.fix_pds import DESCRIBE, LIST, Pds, Script, page, pds
from tests.broadcast.raw import Raw, Response
from tests.broadcast.test_crawl import BAD_BODIES, BAD_NAMES
from tests.fix_loop import LoopRun

PATH = "/xrpc/com.atproto.sync.requestCrawl"
OPEN = Rules(allow_insecure=True, per_day=50, account_limit=77)
PUBLIC = Rules(per_day=50)


@pytest.fixture
def database(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    """An empty table of hosts."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(resources.files("common").joinpath("schema.sql").read_text())
        yield connection


@pytest.fixture
def url(database: psycopg.Connection[Any], postgres_url: str) -> str:
    """Of that database."""
    del database
    return postgres_url


class Said(NamedTuple):
    status: int
    body: dict[str, Any]
    retry_after: str | None

    @property
    def error(self) -> str | None:
        return self.body.get("error")

    @property
    def message(self) -> str:
        return str(self.body["message"])


async def post(
    member: Member,
    body: Any,
    *,
    host: str = "relay.example",
    more: str = "",
    piece: int | None = None,
) -> Said:
    raw = await Raw.to(member.port)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(data)}\r\n{more}\r\n"
    await raw.send(head.encode() + data, piece)
    response: Response = await raw.response()
    raw.cut()
    assert response.headers["content-type"] == "application/json"
    return Said(response.status, json.loads(response.body), response.headers.get("retry-after"))


async def crawl(member: Member, name: str, **more: Any) -> Said:
    return await post(member, {"hostname": name}, **more)


@asynccontextmanager
async def relay(
    folder: Path, url: str, rules: Rules = OPEN, proxies: tuple[str, ...] = ()
) -> AsyncIterator[Member]:
    async with member_of(
        FakeLog(), folder, database_url=url, crawl=rules, trusted_proxies=proxies
    ) as member:
        yield member


def rows(database: psycopg.Connection[Any], what: str = "hostname") -> list[Any]:
    found = database.execute(f"SELECT {what} FROM host ORDER BY id".encode()).fetchall()
    return [row[0] if len(row) == 1 else row for row in found]


def put(database: psycopg.Connection[Any], hostname: str, **more: Any) -> None:
    values = {"hostname": hostname, "account_limit": 100, **more}
    names = ", ".join(values)
    marks = ", ".join(f"%({name})s" for name in values)
    database.execute(f"INSERT INTO host ({names}) VALUES ({marks})".encode(), values)


def traces(database: psycopg.Connection[Any]) -> list[Any]:
    """All that a request could have written."""
    return [
        database.execute(query).fetchall()
        for query in (
            "SELECT * FROM host ORDER BY id", "SELECT * FROM audit", "SELECT * FROM relay",
        )
    ]  # fmt: skip


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


def body_of(host: Pds) -> bytes:
    return json.dumps({"hostname": host.name}).encode()
