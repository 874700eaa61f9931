"""Is a database waited for, prepared once, and refused when another release made it?"""

from __future__ import annotations

import ast
import asyncio
import logging
import threading
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
import pytest

from common import database
from common.database import (
    SchemaMismatch,
    connect,
    ensure_schema,
    wait_for_database,
    wait_for_schema,
)
from tests.fix_loop import LoopRun
from tests.fix_postgres import Postgres
from tests.relay import ROOT

NOBODY = "postgresql://standpipe@127.0.0.1:1/postgres"


def test_the_schema_is_applied_once_and_left_alone_afterwards(postgres_url: str) -> None:
    with closing(connect(postgres_url, "test")) as connection:
        ensure_schema(connection)
        connection.execute("INSERT INTO relay (name, value) VALUES ('applied_seq', 7)")
        ensure_schema(connection)
        rows = connection.execute("SELECT name, value FROM relay ORDER BY name").fetchall()
    assert rows == [("applied_seq", 7), ("schema_version", database.SCHEMA_VERSION)]


def test_two_processes_that_prepare_at_once_agree(postgres_url: str) -> None:
    errors: list[BaseException] = []

    def prepare() -> None:
        try:
            with closing(connect(postgres_url, "test")) as connection:
                ensure_schema(connection)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_database_of_another_release_is_refused_by_name(
    postgres_url: str, loop_run: LoopRun
) -> None:
    with closing(connect(postgres_url, "test")) as connection:
        ensure_schema(connection)
        connection.execute("UPDATE relay SET value = 99 WHERE name = 'schema_version'")
        with pytest.raises(SchemaMismatch, match="version 99"):
            ensure_schema(connection)
    with pytest.raises(SchemaMismatch, match="version 99"):
        loop_run(wait_for_schema(postgres_url, "test"))


def version_1(connection: database.Connection) -> None:
    """A database as the first release made and used it."""
    connection.execute(Path(__file__).with_name("schema_1.sql").read_bytes())
    connection.execute(
        "INSERT INTO relay (name, value) VALUES ('schema_version', 1), ('applied_seq', 9)"
    )
    connection.execute("INSERT INTO host (hostname, account_limit, cursor) VALUES ('h', 5, 77)")
    connection.execute(
        "INSERT INTO account (did, host_id, active, rev, seq)"
        " VALUES ('did:web:a.test', 1, true, '3aaaaaaaaaaaa', 9)"
    )


def columns(connection: database.Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT table_name, column_name, data_type, column_default, is_nullable"
        " FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, 2"
    ).fetchall()


def test_a_database_of_version_1_becomes_what_a_new_one_is_and_keeps_what_it_has(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(connect(postgres_url, "test")) as new:
        new.execute("CREATE SCHEMA fresh")
        new.execute("SET search_path TO fresh")
        ensure_schema(new)
        expected = columns(new)
    with closing(connect(postgres_url, "test")) as connection:
        version_1(connection)
        assert len(columns(connection)) < len(expected)
        with caplog.at_level(logging.INFO):
            ensure_schema(connection)
        assert columns(connection) == expected
        assert f"from schema version 1 to {database.SCHEMA_VERSION}" in caplog.text
        rows = connection.execute("SELECT name, value FROM relay ORDER BY name").fetchall()
        assert rows == [("applied_seq", 9), ("schema_version", database.SCHEMA_VERSION)]
        assert connection.execute(
            "SELECT hostname, cursor, discontinuous, waived, level FROM host"
        ).fetchall() == [("h", 77, 0, 0, "enforce")]
        assert connection.execute(
            "SELECT did, rev, desynchronized, discontinuities FROM account"
        ).fetchall() == [("did:web:a.test", "3aaaaaaaaaaaa", False, 0)]


def test_the_accounts_that_hosts_have_already_are_counted_once(postgres_url: str) -> None:
    """From then on persist counts who comes and goes."""
    with closing(connect(postgres_url, "test")) as connection:
        version_1(connection)
        connection.execute("INSERT INTO host (hostname, account_limit) VALUES ('none', 5)")
        connection.execute(
            "INSERT INTO account (did, host_id, active, status, seq) VALUES"
            " ('did:web:b.test', 1, false, 'deactivated', 9),"
            " ('did:web:c.test', 1, false, NULL, 9), ('did:web:d.test', 1, false, 'deleted', 9),"
            " ('did:web:e.test', 0, true, NULL, 9)"
        )
        ensure_schema(connection)
        counts = "SELECT hostname, accounts FROM host ORDER BY hostname"
        assert connection.execute(counts).fetchall() == [("h", 3), ("none", 0)]
        connection.execute("UPDATE host SET accounts = 7")
        ensure_schema(connection)
        assert connection.execute(counts).fetchall() == [("h", 7), ("none", 7)]


def test_the_schema_may_be_applied_again_and_again(postgres_url: str) -> None:
    """As a step up from any older version does."""
    with closing(connect(postgres_url, "test")) as connection:
        ensure_schema(connection)
        expected = columns(connection)
        connection.execute(files("common").joinpath("schema.sql").read_bytes())
        assert columns(connection) == expected


def test_a_step_up_that_fails_leaves_the_database_as_it_was(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(connect(postgres_url, "test")) as connection:
        version_1(connection)
        before = columns(connection)
        monkeypatch.setattr(database, "_WRITE_VERSION", "SELECT 1 / 0 WHERE %s > 0")
        with pytest.raises(psycopg.Error):
            ensure_schema(connection)
        assert columns(connection) == before
        monkeypatch.undo()
        ensure_schema(connection)


def test_others_wait_while_the_database_is_of_an_older_version(
    postgres_url: str, loop_run: LoopRun, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        with closing(connect(postgres_url, "test")) as older:
            version_1(older)
            waiting = asyncio.create_task(wait_for_schema(postgres_url, "test"))
            async with asyncio.timeout(20):
                while "of an older release" not in caplog.text:
                    await asyncio.sleep(0.01)
            assert not waiting.done()
            await asyncio.to_thread(ensure_schema, older)
        await (await waiting).close()

    with caplog.at_level(logging.INFO):
        loop_run(story())


def test_others_wait_until_persist_has_prepared_the_database(
    postgres_url: str, loop_run: LoopRun, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> str:
        waiting = asyncio.create_task(wait_for_schema(postgres_url, "test"))
        async with asyncio.timeout(20):
            while "waiting for the database and its schema" not in caplog.text:
                await asyncio.sleep(0.01)
        assert not waiting.done()

        def prepare() -> None:
            with closing(connect(postgres_url, "test")) as connection:
                ensure_schema(connection)

        await asyncio.to_thread(prepare)
        connection = await waiting
        cursor = await connection.execute("SELECT current_setting('application_name')")
        row = await cursor.fetchone()
        await connection.close()
        assert row
        return str(row[0])

    with caplog.at_level(logging.INFO):
        assert loop_run(story()) == "standpipe test"
    assert "is there, after" in caplog.text


def test_a_database_that_is_away_is_waited_for_until_it_is_back(own_postgres: Postgres) -> None:
    own_postgres.stop()
    found: list[bool] = []

    def wait() -> None:
        connection = wait_for_database(own_postgres.url, "test", threading.Event())
        assert connection
        with closing(connection):
            found.append(connection.execute("SELECT 1").fetchone() == (1,))

    thread = threading.Thread(target=wait)
    thread.start()
    own_postgres.start()
    thread.join(60)
    assert found == [True]


def test_a_wait_ends_when_the_process_shall_stop(caplog: pytest.LogCaptureFixture) -> None:
    stopped = threading.Event()
    threading.Timer(0.3, stopped.set).start()
    assert wait_for_database(NOBODY, "test", stopped) is None
    # Many attempts, one line.
    assert caplog.text.count("waiting for the database") == 1


def test_one_attempt_says_why_it_failed() -> None:
    with pytest.raises(psycopg.OperationalError):
        connect(NOBODY, "test")


def test_every_process_notices_a_database_that_vanished_without_a_word() -> None:
    """A query over a dead connection would wait for a quarter of an hour: no ban would be heard of."""
    openers = {"psycopg.connect", "psycopg.AsyncConnection.connect", "AsyncConnectionPool"}
    bare = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for stage in ("ingest", "persist", "broadcast", "common")
        for path in (ROOT / stage).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in openers
        and "options(" not in ast.unparse(node)
    ]
    assert bare == []
