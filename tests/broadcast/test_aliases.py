"""broadcast.aliases: a second name of a host that is read is found, and nothing else is taken for one."""

from __future__ import annotations

from importlib import resources
from typing import Any

import psycopg
import pytest

from broadcast.aliases import AGAIN_S, Aliases
from broadcast.crawl import Rules
from broadcast.crawl_desk import CrawlDesk
from broadcast.crawl_table import CrawlTable
from tests.broadcast.fix_pds import DESCRIBE, LIST, page, pds
from tests.fix_loop import LoopRun

MAIN = "pds.brightworld.dev"


def put(database: psycopg.Connection[Any], name: str, drops: str | None, **more: Any) -> None:
    values = {"hostname": name, "tls": False, "account_limit": 1, **more}
    names, marks = ", ".join(values), ", ".join(f"%({name})s" for name in values)
    database.execute(f"INSERT INTO host ({names}) VALUES ({marks})".encode(), values)
    if drops is not None:
        database.execute(
            "INSERT INTO host_drop SELECT id, %s, 9, now() FROM host WHERE hostname = %s",
            (drops, name),
        )


@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
def test_a_second_name_is_found_by_what_it_calls_itself_and_by_what_was_dropped(
    loop_run: LoopRun, postgres_url: str
) -> None:
    async def story(database: psycopg.Connection[Any]) -> None:
        table = CrawlTable(postgres_url)
        desk = CrawlDesk(table, Rules(allow_insecure=True))
        watch = Aliases(table, desk)
        async with pds() as second, pds() as working, pds() as odd, pds() as honest:
            alien = "host_not_authoritative"
            put(database, MAIN, None)
            put(database, second.name, alien)
            put(database, working.name, alien, accounts=1)
            put(database, odd.name, "bad_signature")
            put(database, honest.name, alien)
            for host in (second, working, odd):
                host.calls_itself(f"did:web:{MAIN}")
            now_s = 1e6
            assert await watch.look(now_s) == [second.name]
            named = database.execute("SELECT hostname, alias_of FROM host WHERE alias_of <> ''")
            assert named.fetchall() == [(second.name, MAIN)]
            audit = database.execute("SELECT who, action, subject, now FROM audit").fetchall()
            assert audit == [("relay", "name_alias", second.name, MAIN)]
            assert not working.asked
            assert not odd.asked
            # One that is none is asked again on another day.
            assert honest.asked == [DESCRIBE, LIST]
            assert await watch.look(now_s + AGAIN_S / 2) == []
            assert len(honest.asked) == 2
            honest.calls_itself("did:web:nobody.brightworld.dev")
            assert await watch.look(now_s + AGAIN_S + 1) == []
            assert len(honest.asked) == 4
            # Nor is it one of a host that is not read, or of itself.
            for change in ("wanted = 'banned'", "wanted = 'active', alias_of = 'x.dev'"):
                database.execute(f"UPDATE host SET {change} WHERE id = 1".encode())
                assert not await table.name_alias(honest.name, MAIN, f"did:web:{MAIN}")
            assert not await table.name_alias(honest.name, honest.name, "did:web:x")
            # Nobody is forgotten with the host that he was another name of.
            database.execute("UPDATE host SET wanted = 'banned', alias_of = NULL WHERE id = 1")
            await watch.look(now_s)
            assert database.execute(aliases_of).fetchall() == [(MAIN, 0)]
            database.execute("UPDATE host SET wanted = 'deleted' WHERE id = 1")
            await watch.look(now_s)
            assert database.execute(aliases_of).fetchall() == [(None, 1)]
        await desk.close()

    aliases_of = "SELECT alias_of, dial_asked FROM host WHERE id = 2"
    with psycopg.connect(postgres_url, autocommit=True) as database:
        database.execute(resources.files("common").joinpath("schema.sql").read_text())
        loop_run(story(database))


@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
def test_a_relay_among_the_hosts_is_found_by_what_was_dropped_and_told(
    loop_run: LoopRun, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(database: psycopg.Connection[Any]) -> None:
        desk = CrawlDesk(table := CrawlTable(postgres_url), Rules(allow_insecure=True))
        async with pds() as relay, pds() as honest:
            for host in (relay, honest):
                put(database, host.name, "host_not_authoritative")
            relay.answers[LIST] = page(200, {"hosts": []})
            assert await Aliases(table, desk).look(1e6) == []
            told = [record.fields for record in caplog.records if "relay" in record.message]  # type: ignore[attr-defined]
            assert told == [{"host": relay.name}]
        await desk.close()

    with psycopg.connect(postgres_url, autocommit=True) as database:
        database.execute(resources.files("common").joinpath("schema.sql").read_text())
        loop_run(story(database))
