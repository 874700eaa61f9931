"""Which hosts are read: the table, the settings, another relay's list, and the shares."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from aiohttp import web

from common.control import Action, ControlPlane, Limits
from common.fetch import Fetcher, FetchError
from common.limits import TRUSTED_ACCOUNT_LIMIT, is_trusted
from common.sharding import SHARD_COUNT
from common.target import Target
from common.verdict import Level
from ingest.host_table import HostTable
from ingest.hosts import HostRow, MovedUp
from ingest.levels import Seen
from ingest.seed import list_hosts, seed
from tests.fix_loop import LoopRun
from tests.ingest.fix_worker import MemoryTable
from tests.relay import ROOT

SCHEMA = (ROOT / "common" / "schema.sql").read_text()


def test_the_table_gives_what_is_wanted_and_keeps_what_is_there(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        table = HostTable(lambda: postgres_url)
        assert table.is_empty()
        targets = [Target("a.example", tls=True), Target("localhost:1", tls=False)]
        assert table.add(targets, 0, 7) == 2
        connection.execute("UPDATE host SET cursor = 99, generation = 3 WHERE hostname='a.example'")
        assert table.add([*targets, Target("b.example", tls=True)], None, 100) == 1
        connection.execute("UPDATE host SET wanted = 'banned' WHERE hostname = 'localhost:1'")
        wanted = table.wanted()
        assert [row[1:6] for row in wanted if not row.banned] == [
            ("a.example", True, 3, 99, Level.ENFORCE),
            ("b.example", True, 1, None, Level.ENFORCE),
        ]  # fmt: skip
        assert [row.hostname for row in wanted if row.banned] == ["localhost:1"]
        assert not table.is_empty()
        table.close()


def test_new_hosts_of_a_trusted_domain_are_marked(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        table = HostTable(lambda: postgres_url, ("*.Host.example", "one.example"))
        names = [
            "a.host.example",
            "b.a.host.example",
            "host.example",
            "one.example",
            "x.one.example",
        ]
        table.add([Target(name, tls=True) for name in names], 0, 7)
        table.add([Target("named.example", tls=True)], 0, 7, trusted=True)
        # What is there stays as it is: the operator has perhaps had enough of it.
        table.add([Target("host.example", tls=True)], 0, 7, trusted=True)
        found = connection.execute("SELECT hostname FROM host WHERE trusted ORDER BY id").fetchall()
        assert [row[0] for row in found] == [
            "a.host.example", "b.a.host.example", "one.example", "named.example",
        ]  # fmt: skip
        limits = connection.execute("SELECT DISTINCT trusted, account_limit FROM host ORDER BY 1")
        assert limits.fetchall() == [(False, 7), (True, TRUSTED_ACCOUNT_LIMIT)]
        table.close()
    assert is_trusted("any.example", ["*"])
    assert not is_trusted("any.example", [])


def test_who_is_named_is_trusted_though_it_was_there_before_unless_its_operator_said_otherwise(
    postgres_url: str,
) -> None:
    names = ["before.example", "distrusted.example", "limited.example", "deleted.example"]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        table = HostTable(lambda: postgres_url)
        table.add([Target(name, tls=True) for name in [*names, "other.example"]], 0, 7)
        control = ControlPlane(connection, "command:test")
        control.set_trusted("distrusted.example", True)
        control.set_trusted("distrusted.example", False)
        control.set_limits("limited.example", Limits(account_limit=9))
        control.delete_host("deleted.example")
        version = table.version()
        assert table.trust(names) == ["before.example", "limited.example"]
        found = connection.execute(
            "SELECT hostname, account_limit FROM host WHERE trusted ORDER BY id"
        )
        assert found.fetchall() == [
            ("before.example", TRUSTED_ACCOUNT_LIMIT), ("limited.example", 9),
        ]  # fmt: skip
        # Everybody looks, and who asks learns who did it.
        assert table.version() == version + 1
        (said,) = control.audit(2**31, 10, "before.example")
        assert (said.who, said.action, said.now) == ("relay", Action.SET_TRUST, "true")
        # Once: what an operator says from here on stays.
        control.set_trusted("before.example", False)
        version = table.version()
        assert table.trust(names) == []
        assert table.version() == version
        table.close()


# --- the level of a host ---


@pytest.fixture
def observed(postgres_url: str) -> Iterator[tuple[psycopg.Connection[Any], HostTable]]:
    """A database with one host at `observe` for 100 min, and a table whose clean period is an hour."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        table = HostTable(lambda: postgres_url, observe_clean_s=3600.0)
        table.add([Target("a.example", tls=True), Target("b.example", tls=True)], 0, 7)
        connection.execute(
            "UPDATE host SET level = 'observe', level_since = now() - interval '100 min' WHERE id = 1"
        )
        yield connection, table
        table.close()


def levels(table: HostTable) -> list[Level]:
    return [row.level for row in table.wanted()]


def test_a_host_moves_up_upon_a_commit_when_its_clean_period_is_over(
    observed: tuple[psycopg.Connection[Any], HostTable],
) -> None:
    connection, table = observed
    assert levels(table) == [Level.OBSERVE, Level.ENFORCE]
    assert table.note([Seen(1, waived=False, checked=3)]) == [MovedUp("a.example", 3)]
    assert levels(table) == [Level.ENFORCE, Level.ENFORCE]
    since = connection.execute(
        "SELECT level_since > now() - interval '50 s' FROM host WHERE id = 1"
    )
    assert since.fetchone() == (True,)
    assert table.note([Seen(1, waived=False, checked=3)]) == []


def test_silence_moves_nobody_up(observed: tuple[psycopg.Connection[Any], HostTable]) -> None:
    _connection, table = observed
    assert table.note([]) == []
    assert table.note([Seen(1, waived=False, checked=0)]) == []
    assert levels(table) == [Level.OBSERVE, Level.ENFORCE]


def test_what_is_waived_begins_the_clean_period_anew_and_a_restart_does_not(
    observed: tuple[psycopg.Connection[Any], HostTable],
) -> None:
    connection, table = observed
    assert table.note([Seen(1, waived=True, checked=1)]) == []
    assert table.note([Seen(1, waived=False, checked=5)]) == []
    # Another process, later: what it needs stands in the table.
    table.close()
    connection.execute("UPDATE host SET waived_at = now() - interval '59 min'")
    assert table.note([Seen(1, waived=False, checked=1)]) == []
    connection.execute("UPDATE host SET waived_at = now() - interval '61 min'")
    assert table.note([Seen(1, waived=False, checked=1)]) == [MovedUp("a.example", 8)]


def test_the_operators_word_is_not_undone_by_what_was_seen_before_it(
    observed: tuple[psycopg.Connection[Any], HostTable],
) -> None:
    connection, table = observed
    seen = [Seen(1, waived=False, checked=9)]
    connection.execute("UPDATE host SET level_since = now() WHERE id = 1")
    assert table.note(seen) == []
    assert levels(table) == [Level.OBSERVE, Level.ENFORCE]
    connection.execute("UPDATE host SET level = 'enforce' WHERE id = 1")
    connection.execute("UPDATE host SET level_since = now() - interval '100 min' WHERE id = 1")
    assert table.note([Seen(1, waived=True, checked=0), *seen]) == []
    found = connection.execute("SELECT waived_at, checked, level FROM host WHERE id = 1")
    assert found.fetchone() == (None, 9, "enforce")


def test_nothing_makes_a_host_observe_by_itself(
    observed: tuple[psycopg.Connection[Any], HostTable],
) -> None:
    connection, table = observed
    assert table.note([Seen(2, waived=True, checked=0), Seen(2, waived=False, checked=2)]) == []
    assert levels(table) == [Level.OBSERVE, Level.ENFORCE]
    connection.execute("UPDATE host SET level = 'lenient' WHERE id = 1")
    assert levels(table) == [Level.ENFORCE, Level.ENFORCE], "an unknown word is judged strictly"


def test_a_table_that_is_away_is_asked_again(postgres_url: str) -> None:
    table = HostTable(lambda: postgres_url)
    for _ in range(2):
        with pytest.raises(psycopg.Error):
            table.wanted()  # there is no schema yet
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SCHEMA)
    assert table.wanted() == []
    table.close()
    nowhere = HostTable(lambda: "postgresql://nobody@localhost:1/none")
    with pytest.raises(psycopg.Error):
        nowhere.is_empty()


def test_every_host_has_a_shard_and_a_few_hundred_have_all_of_them() -> None:
    rows = [HostRow(n, f"pds{n}.example", True, 1, None) for n in range(600)]
    assert {row.shard for row in rows} == set(range(SHARD_COUNT))


PAGES = {
    "": {"cursor": "2", "hosts": [{"hostname": "a.example", "status": "active"},
                                  {"hostname": "b.example", "status": "banned"}]},
    "2": {"cursor": "3", "hosts": [{"hostname": "c.example"}, {"hostname": "http://bad host"}]},
    "3": {"hosts": [{"hostname": "d.example", "status": "offline"},
                    {"hostname": "127.0.0.1", "status": "idle"}]},
}  # fmt: skip


def test_another_relays_hosts_are_taken_over_once_and_read_live(loop_run: LoopRun) -> None:
    async def story() -> None:
        broken = False

        async def answer(request: web.Request) -> web.Response:
            body = "<html>" if broken else json.dumps(PAGES[request.query.get("cursor", "")])
            return web.Response(text=body, content_type="application/json")

        app = web.Application()
        app.router.add_get("/xrpc/com.atproto.sync.listHosts", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with Fetcher(allow_insecure=False) as fetcher:
                names = await list_hosts(fetcher, url)
                assert names == ["a.example", "c.example", "http://bad host", "127.0.0.1"]
                table = MemoryTable()
                await asyncio.wait_for(_seed(table, fetcher, (), url), 10)
                assert [(row.hostname, row.cursor) for row in table.rows] == [
                    ("a.example", None), ("c.example", None),
                ]  # fmt: skip
                await _seed(table, fetcher, (), url)
                assert len(table.rows) == 2
                broken = True
                with pytest.raises(FetchError):
                    await list_hosts(fetcher, url)
        finally:
            await runner.cleanup()

    loop_run(story())


def test_named_hosts_are_read_from_their_beginning_and_no_list_is_asked(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Fetcher(allow_insecure=False) as fetcher:
            table = MemoryTable()
            named = ("pds.example", "http://localhost:2583", "http://pds.example", "::")
            await _seed(table, fetcher, named, "http://localhost:1")
            assert [(row.hostname, row.tls, row.cursor) for row in table.rows] == [
                ("pds.example", True, 0), ("localhost:2583", False, 0),
            ]  # fmt: skip
            # Their operator has named them.
            assert table.trusted == [True]
            assert table.named == ["pds.example", "localhost:2583"]

    loop_run(story())


async def _seed(
    table: MemoryTable, fetcher: Fetcher, named: tuple[str, ...], relay_url: str
) -> None:
    async def ask(question: Callable[[], Any]) -> Any:
        return question()

    await seed(
        table, fetcher, named=named, relay_url=relay_url, allow_insecure=False, account_limit=100,
        ask=ask,
    )  # fmt: skip
