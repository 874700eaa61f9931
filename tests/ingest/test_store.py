"""What does the database keep of documents, and who waits for it while it is away? Nobody."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import psycopg
import pytest
from coincurve import PrivateKey

from common.database import connect, ensure_schema
from ingest import store as store_module
from ingest.did_document import Broken, Identity, NotFound
from ingest.documents import Document
from ingest.judge import Known
from ingest.signature import K256Key
from ingest.store import Store
from tests.fix_loop import LoopRun
from tests.fix_postgres import Postgres
from tests.ingest.fix_worker import until

KEY = K256Key(PrivateKey(b"\x07" * 32).public_key.format())


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that answers is waited for, whatever else the machine does."""
    monkeypatch.setattr(store_module, "FIND_S", 60.0)
    monkeypatch.setattr(store_module, "CLOSING_S", 60.0)


def did(number: int) -> str:
    return f"did:web:n{number}.example.com"


def found(number: int, asked_s: float = 100.0) -> Document:
    return Document(did(number), Identity(did(number), KEY, "pds.example.com"), asked_s)


class Told:
    """What a store has told, in order."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, Document | None]] = []

    def __call__(self, did: str, document: Document | None) -> None:
        self.answers.append((did, document))

    @property
    def known(self) -> dict[str, Known | None]:
        return {did: document and document.known for did, document in self.answers}


@asynccontextmanager
async def open_store(url: str, told: Told | None = None) -> AsyncIterator[Store]:
    store = Store(lambda: url, "test documents", told or Told())
    try:
        yield store
    finally:
        await store.close()
        assert not store._thread.is_alive()


def prepare(url: str) -> None:
    with closing(connect(url, "test")) as connection:
        ensure_schema(connection)


def rows(url: str) -> dict[str, tuple[str, float]]:
    with closing(connect(url, "test")) as connection:
        answer = connection.execute(
            "SELECT did, outcome, extract(epoch FROM asked_at)::float8 FROM identity"
        )
        return {row[0]: (row[1], row[2]) for row in answer}


def test_what_one_process_wrote_another_finds(loop_run: LoopRun, postgres_url: str) -> None:
    prepare(postgres_url)

    async def story() -> None:
        async with open_store(postgres_url) as store:
            for number in range(2500):
                store.keep(found(number, 1_784_000_000.25))
            store.keep(Document(did(1), Broken("no key"), 1_784_000_001.0))
        told = Told()
        async with open_store(postgres_url, told) as store:
            for number in range(2501):
                assert store.find(did(number))
            await until(lambda: len(told.answers) == 2501)
        document = dict(told.answers)[did(2)]
        assert document is not None
        assert document.asked_s == 1_784_000_000.25
        assert isinstance(document.known, Identity)
        assert document.known.host == "pds.example.com"
        assert document.known.key.point == KEY.point
        assert told.known[did(1)] == Broken("no key")
        assert told.known[did(2500)] is None

    loop_run(story())


def test_the_document_asked_for_last_is_kept_whoever_writes_last(
    loop_run: LoopRun, postgres_url: str
) -> None:
    prepare(postgres_url)

    async def story() -> None:
        async with open_store(postgres_url) as store:
            store.keep(found(1, 200.0))
            store.keep(found(2, 200.0))
        async with open_store(postgres_url) as store:
            store.keep(found(1, 100.0))
            store.keep(Document(did(2), NotFound("404"), 100.0))
        assert rows(postgres_url) == {did(1): ("found", 200.0), did(2): ("found", 200.0)}

    loop_run(story())


def test_who_was_never_found_takes_no_room_and_who_is_gone_is_no_longer_found(
    loop_run: LoopRun, postgres_url: str
) -> None:
    prepare(postgres_url)

    async def story() -> None:
        async with open_store(postgres_url) as store:
            store.keep(found(1))
        async with open_store(postgres_url) as store:
            for number in range(50):
                store.keep(Document(did(number), NotFound("404"), 200.0))
        assert rows(postgres_url) == {did(1): ("not_found", 200.0)}
        told = Told()
        async with open_store(postgres_url, told) as store:
            store.find(did(1))
            await until(lambda: bool(told.answers))
        assert told.known == {did(1): NotFound("404")}

    loop_run(story())


def test_while_the_database_is_away_nobody_waits_and_what_is_kept_is_written_later(
    loop_run: LoopRun, own_postgres: Postgres
) -> None:
    prepare(own_postgres.url)

    async def story() -> None:
        told = Told()
        async with open_store(own_postgres.url, told) as store:
            store.keep(found(1))
            await until(lambda: store.unwritten == 0)
            await asyncio.to_thread(own_postgres.stop)
            store.find(did(1))
            # The first to ask finds out, and the next ones are told at once.
            await until(lambda: told.answers == [(did(1), None)])
            assert not store.find(did(1))
            store.keep(found(2))
            store.keep(found(3))
            await asyncio.to_thread(own_postgres.start)
            await until(lambda: store.unwritten == 0 and store.find(did(2)))
            await until(lambda: len(told.answers) == 2)
            assert isinstance(told.known[did(2)], Identity)
        assert set(rows(own_postgres.url)) == {did(1), did(2), did(3)}

    loop_run(story())


def test_a_connection_that_died_while_idle_is_made_anew_and_the_answer_comes(
    loop_run: LoopRun, postgres_url: str
) -> None:
    prepare(postgres_url)

    async def story() -> None:
        told = Told()
        async with open_store(postgres_url, told) as store:
            store.keep(found(1))
            await until(lambda: store.unwritten == 0)
            with closing(connect(postgres_url, "test")) as admin:
                admin.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE application_name LIKE '%test documents'"
                )
            assert store.find(did(1))
            await until(lambda: bool(told.answers))
            assert isinstance(told.known[did(1)], Identity)

    loop_run(story())


def test_a_database_that_never_answers_delays_only_those_who_ask_first(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "FIND_S", 0.2)
    monkeypatch.setattr(store_module, "CLOSING_S", 0.1)

    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            port = deaf.getsockname()[1]
            told = Told()
            store = Store(
                lambda: f"host=127.0.0.1 port={port} dbname=x connect_timeout=2", "deaf", told
            )
            for number in range(100):
                assert store.find(did(number))
            await until(lambda: len(told.answers) == 100)
            assert set(told.known.values()) == {None}
            assert not store.find(did(1))
            await store.close()
        await until(lambda: not store._thread.is_alive())

    loop_run(story())


def test_a_database_that_persist_has_not_prepared_is_waited_for(
    loop_run: LoopRun, postgres_url: str
) -> None:
    async def story() -> None:
        told = Told()
        async with open_store(postgres_url, told) as store:
            store.find(did(1))
            await until(lambda: told.answers == [(did(1), None)])
            store.keep(found(1))
            await asyncio.to_thread(prepare, postgres_url)
            await until(lambda: store.unwritten == 0)
            await until(lambda: store.find(did(1)))
            await until(lambda: len(told.answers) == 2)
            assert isinstance(told.known[did(1)], Identity)

    loop_run(story())


def test_more_than_may_wait_go_to_the_network(
    loop_run: LoopRun, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(postgres_url)
    monkeypatch.setattr(store_module, "FINDS_MOST", 3)

    async def story() -> None:
        told = Told()
        async with open_store(postgres_url, told) as store:
            assert [store.find(did(number)) for number in range(5)] == [True] * 3 + [False] * 2
            await until(lambda: len(told.answers) == 3)
            assert store.find(did(4))

    loop_run(story())


def test_thousands_of_answers_leave_the_loop_its_turns(
    loop_run: LoopRun, postgres_url: str
) -> None:
    prepare(postgres_url)

    async def story() -> None:
        told = Told()
        rounds: list[int] = []

        def look() -> None:
            rounds.append(len(told.answers))
            if len(told.answers) < 1000:
                asyncio.get_running_loop().call_soon(look)

        async with open_store(postgres_url, told) as store:
            for number in range(1000):
                store.find(did(number))
            look()
            await until(lambda: len(told.answers) == 1000)
        steps = [after - before for before, after in itertools.pairwise(rounds)]
        assert max(steps) <= 2 * store_module.TOLD_AT_ONCE

    loop_run(story())


def test_a_row_that_the_database_refuses_stands_in_nobodys_way(
    loop_run: LoopRun, postgres_url: str
) -> None:
    prepare(postgres_url)

    async def story() -> None:
        async with open_store(postgres_url) as store:
            store.keep(Document("did:web:\0", Broken("x"), 1.0))
            await until(lambda: store.unwritten == 0)
            store.keep(found(1))
        assert set(rows(postgres_url)) == {did(1)}

    loop_run(story())


def test_a_fault_of_ours_in_the_thread_reaches_the_loop(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_url: str, _name: str) -> psycopg.Connection[object]:
        raise ZeroDivisionError

    monkeypatch.setattr(store_module, "connect", fail)

    async def story() -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: faults.append(context.get("exception"))
        )
        store = Store(lambda: "", "test", Told())
        await until(lambda: bool(faults))
        assert isinstance(faults[0], ZeroDivisionError)
        await store.close()

    before = threading.active_count()
    loop_run(story())
    assert threading.active_count() == before
