"""Is a flush written once, wherever within its bytes the connection to PostgreSQL is cut?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

import pytest

from common.database import connect
from common.envelope import NEVER_SEEN, HostCursor, HostObservation
from persist.store import Store
from persist.store_thread import Flushed, Lookup, StoreThread
from persist.tally import HostTally
from persist.view import Changes
from tests.fix_net import eventually
from tests.fix_wire import Way, Wire, messages
from tests.persist.events import commit_over, did
from tests.persist.test_store_thread import prepare, results

NAME: Final = "cut"
HOST: Final = 1


def flush(number: int) -> Changes:
    """Everything that a flush can hold, some of it for accounts that are known."""
    return Changes(
        [(did(0), number, commit_over(NEVER_SEEN, number)), (did(number), number, NEVER_SEEN)],
        [HostCursor(HOST, 1, number)],
        [HostObservation(HOST, "active", f"error {number}")],
        number,
        number + 1,
        [HostTally(HOST, 1, 2)],
    )


@contextmanager
def wired(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Wire, StoreThread]]:
    """A store thread that reaches its database over a wire; a host is known."""
    monkeypatch.setattr("persist.store_thread.RETRY_S", 0.001)
    prepare(url)
    with closing(connect(url, "test")) as admin:
        admin.execute("INSERT INTO host (hostname, account_limit) VALUES ('pds.test', 100)")
    with Wire(url) as wire, closing(StoreThread(wire.url, NAME, 0)) as thread:
        yield wire, thread


def assert_written_once(url: str, count: int) -> None:
    """The database has what so many flushes said, each of them once."""
    with closing(connect(url, "test")) as admin:
        host = admin.execute(
            "SELECT cursor, discontinuous, waived, last_error FROM host WHERE id = %s", (HOST,)
        ).fetchone()
        rows = admin.execute("SELECT name, value FROM relay").fetchall()
        positions: dict[str, int] = dict(rows)
        accounts = admin.execute("SELECT did, rev, seq FROM account ORDER BY id").fetchall()
    assert host == (count, count, 2 * count, f"error {count}")
    assert (positions["applied_seq"], positions["scan_seq"]) == (count, count + 1)
    assert accounts == [
        (did(0), commit_over(NEVER_SEEN, count).rev, count),
        *((did(number), None, number) for number in range(1, count + 1)),
    ]


def cut_each(url: str, monkeypatch: pytest.MonkeyPatch, *, every_byte: bool) -> None:
    """One flush after the other, each cut at another place."""
    with wired(url, monkeypatch) as (wire, thread):
        thread.ask(Lookup([did(0)]))
        results(thread, 1)
        wire.record()
        thread.ask(flush(1))
        results(thread, 1)
        places = []
        for way in Way:
            begins = messages(wire.recorded(NAME, way))
            assert len(begins) > 12, "a flush has many statements"
            inside = range(begins[-1]) if every_byte else [at + 3 for at in begins[:-1]]
            places += [(way, at) for at in sorted({*begins[:-1], *inside})]
        number = 1
        for number, (way, at) in enumerate(places, 2):
            # A new connection each time, so that its bytes are the same.
            thread.ask(Lookup([did(0)]))
            results(thread, 1)
            wire.cut(NAME, way, at)
            thread.ask(flush(number))
            assert results(thread, 1) == [Flushed(flush(number))]
            assert not wire.armed, f"nothing was cut {at} bytes {way.value}"
        assert wire.cuts == len(places)
    assert_written_once(url, number)


def test_a_flush_that_is_cut_at_any_message_is_written_once(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_each(postgres_url, monkeypatch, every_byte=False)


@pytest.mark.slow
def test_a_flush_that_is_cut_at_any_byte_is_written_once(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_each(postgres_url, monkeypatch, every_byte=True)


def test_a_commit_that_is_still_under_way_when_the_flush_comes_again_counts_once(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the wire breaks behind COMMIT: the server has it, and is slow."""
    with wired(postgres_url, monkeypatch) as (_wire, thread):
        with closing(Store(connect(postgres_url, "slow"))) as slow:
            with slow._own().transaction():
                slow.flush(flush(1))
                thread.ask(flush(1))
                with closing(connect(postgres_url, "test")) as admin:
                    eventually(lambda: admin.execute(_WAITING, (f"%{NAME}",)).fetchone())
        assert results(thread, 1) == [Flushed(flush(1))]
    assert_written_once(postgres_url, 1)


_WAITING: Final = """
    SELECT 1 FROM pg_stat_activity WHERE application_name LIKE %s AND wait_event_type = 'Lock'
"""
