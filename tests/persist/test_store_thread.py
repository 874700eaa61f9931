"""Is every job done, in order, whatever becomes of the database meanwhile?"""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from common.database import connect, ensure_schema
from common.envelope import NEVER_SEEN, HostCursor
from persist.store import ViewWentBack
from persist.store_thread import Failed, Flushed, Found, Lookup, Result, StoreThread
from persist.view import Changes
from tests.fix_net import eventually
from tests.fix_postgres import Postgres
from tests.persist.events import commit_over, did

STATES = [commit_over(NEVER_SEEN, number) for number in range(10)]


def prepare(url: str) -> None:
    with closing(connect(url, "test")) as connection:
        ensure_schema(connection)


@pytest.fixture
def thread(postgres_url: str) -> Iterator[StoreThread]:
    prepare(postgres_url)
    with closing(StoreThread(postgres_url, "test", 0)) as thread:
        yield thread


def flush(number: int) -> Changes:
    return Changes([(did(number), number, STATES[number])], [], [], number, 0)


def results(thread: StoreThread, count: int) -> list[Result]:
    """The next results; the descriptor has told of each."""
    found: list[Result] = []
    while len(found) < count:
        ready, _, _ = select.select([thread.wakeup_fd], [], [], 60)
        assert ready, f"only {found}"
        found += thread.results()
    return found


def test_jobs_are_done_in_order_and_told(thread: StoreThread) -> None:
    thread.ask(flush(1))
    thread.ask(Lookup([did(1), did(2)]))
    assert results(thread, 2) == [Flushed(flush(1)), Found({did(1): STATES[1], did(2): None})]
    assert thread.results() == []


def test_a_long_lookup_is_asked_in_parts(
    thread: StoreThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persist.store_thread.LOOKUP_DIDS", 2)
    for number in (1, 6):
        thread.ask(flush(number))
    thread.ask(Lookup([did(number) for number in range(7)]))
    *_, found = results(thread, 3)
    assert found == Found({did(n): STATES[n] if n in (1, 6) else None for n in range(7)})


def test_lookups_that_piled_up_are_asked_at_once(own_postgres: Postgres) -> None:
    prepare(own_postgres.url)
    own_postgres.stop()
    with closing(StoreThread(own_postgres.url, "test", 0)) as thread:
        # The first one is in hand, the others wait behind it.
        thread.ask(Lookup([did(0)]))
        eventually(thread._jobs.empty)
        for number in range(1, 8):
            thread.ask(Lookup([did(number)]))
        own_postgres.start()
        first, others = results(thread, 2)
    assert first == Found({did(0): None})
    assert others == Found({did(number): None for number in range(1, 8)})


def test_a_connection_that_is_cut_costs_no_job(thread: StoreThread, postgres_url: str) -> None:
    thread.ask(flush(1))
    results(thread, 1)
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'standpipe test'"
        )
    thread.ask(flush(2))
    thread.ask(Lookup([did(1), did(2)]))
    assert results(thread, 2) == [
        Flushed(flush(2)),
        Found({did(1): STATES[1], did(2): STATES[2]}),
    ]


def test_a_server_that_restarts_costs_no_job(own_postgres: Postgres) -> None:
    prepare(own_postgres.url)
    with closing(StoreThread(own_postgres.url, "test", 0)) as thread:
        thread.ask(flush(1))
        results(thread, 1)
        own_postgres.stop()
        thread.ask(flush(2))
        thread.ask(Lookup([did(2)]))
        own_postgres.start()
        assert results(thread, 2) == [Flushed(flush(2)), Found({did(2): STATES[2]})]


def test_a_thread_ends_at_once_although_the_database_is_away() -> None:
    thread = StoreThread("postgresql://standpipe@127.0.0.1:1/postgres", "test", 0)
    thread.ask(flush(1))
    thread.close()
    assert not thread._thread.is_alive()


def test_a_database_that_lost_what_it_had_confirmed_is_a_fault(postgres_url: str) -> None:
    prepare(postgres_url)
    with closing(StoreThread(postgres_url, "test", 5)) as thread:
        thread.ask(Lookup([did(1)]))
        (result,) = results(thread, 1)
        assert isinstance(result, Failed)
        assert isinstance(result.error, ViewWentBack)


def test_a_statement_that_the_database_refuses_is_a_fault(thread: StoreThread) -> None:
    broken = flush(1)
    broken.cursors = [HostCursor("x", 1, 1)]  # type: ignore[arg-type]
    thread.ask(broken)
    (result,) = results(thread, 1)
    assert isinstance(result, Failed)
    eventually(lambda: not thread._thread.is_alive())
