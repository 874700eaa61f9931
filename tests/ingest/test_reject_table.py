"""ingest.reject_table: what the database keeps of dropped messages, and what it lets go."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest

from common.reject import Reject
from common.verdict import DropReason
from ingest.reject_table import HOST_BYTES, HOST_ROWS, KEPT_DAYS, Keeper, RejectTable
from ingest.rejects import Ledger, Tally, worth
from tests.fix_loop import LoopRun
from tests.fix_postgres import Postgres
from tests.ingest.fix_worker import until
from tests.ingest.test_rejects import NOW_S, did, note
from tests.relay import ROOT

SCHEMA = (ROOT / "common" / "schema.sql").read_text()
FLOOD = DropReason.HOST_NOT_AUTHORITATIVE
RARE = DropReason.PREV_DATA_MISMATCH


def reject(account: int, reason: DropReason = FLOOD, size: int = 3, host: int = 1) -> Reject:
    frame = bytes(size)
    return Reject(host, NOW_S, reason, "why", "commit", did(account), None, 7, size, frame)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last ones are waited for, whatever else the machine does."""
    monkeypatch.setattr("ingest.reject_table.LAST_S", 60.0)


@pytest.fixture
def database(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        yield connection


@pytest.fixture
def table(postgres_url: str) -> Iterator[RejectTable]:
    table = RejectTable(lambda: postgres_url)
    yield table
    table.close()


def test_every_field_arrives_as_it_was(
    database: psycopg.Connection[Any], table: RejectTable
) -> None:
    full = Reject(4, NOW_S, RARE, "wh\ny 'x'", "commit", did(1), "3l2gkqkqxcc2a", 9, 4, b"\0\xffab")
    bare = Reject(4, NOW_S + 0.25, DropReason.TEXT_FRAME, "", None, None, None, None, 0, None)
    table.write([full, bare])
    found = database.execute(
        "SELECT host_id, extract(epoch FROM at)::float, reason, detail, kind, did, rev, seq, size,"
        " frame FROM reject ORDER BY id"
    ).fetchall()
    assert [Reject(*row) for row in found] == [full, bare]


def test_a_host_keeps_its_bound_of_rows_in_the_order_of_their_worth(
    database: psycopg.Connection[Any], table: RejectTable
) -> None:
    luck = random.Random(7)
    reasons = list(DropReason)[:9]
    rejects = [
        # Some reasons and some accounts far oftener than others.
        reject(int(luck.expovariate(0.05)), reasons[int(luck.expovariate(0.7)) % 9])
        for _ in range(3 * HOST_ROWS)
    ]
    table.write(rejects)
    kept = [row[0] - 1 for row in database.execute("SELECT id FROM reject ORDER BY id")]
    assert kept == sorted(worth(rejects)[:HOST_ROWS])


def test_ten_thousand_of_one_reason_do_not_bury_one_of_another(
    database: psycopg.Connection[Any], table: RejectTable
) -> None:
    table.write([reject(0, RARE), reject(1, host=2)])
    for start in range(0, 10_000, 1000):
        table.write([reject(number) for number in range(start, start + 1000)])
    rows = database.execute("SELECT host_id, reason, count(*) FROM reject GROUP BY 1, 2").fetchall()
    assert sorted(rows) == [(1, FLOOD, HOST_ROWS - 1), (1, RARE, 1), (2, FLOOD, 1)]
    newest = database.execute("SELECT max(id), max(did) FROM reject WHERE host_id = 1").fetchone()
    assert newest is not None
    assert newest[0] == 10_002
    # Nor a flood of one account what was said of another.
    for _ in range(10):
        table.write([reject(777_777) for _ in range(100)])
    found = database.execute("SELECT count(DISTINCT did) FROM reject WHERE reason = %s", (FLOOD,))
    counted = found.fetchone()
    assert counted is not None
    assert counted[0] > 2


def test_a_host_keeps_its_bound_of_bytes_and_the_rows_of_what_went(
    database: psycopg.Connection[Any], table: RejectTable
) -> None:
    third = HOST_BYTES // 3
    table.write([reject(1, RARE, 100)])
    for number in range(5):
        table.write([reject(number, size=third)])
    table.write([reject(1, size=third, host=2)])
    rows = database.execute(
        "SELECT host_id, reason, size, frame IS NOT NULL FROM reject ORDER BY id"
    ).fetchall()
    flood = [(1, FLOOD, third, kept) for kept in (False, False, False, True, True)]
    assert rows == [(1, RARE, 100, True), *flood, (2, FLOOD, third, True)]


def test_what_is_too_old_goes(database: psycopg.Connection[Any], table: RejectTable) -> None:
    table.write([reject(1), reject(2)])
    database.execute(
        "UPDATE reject SET at = CASE WHEN id = 1 THEN now() - make_interval(days => %s)"
        " - interval '1 minute' ELSE now() - make_interval(days => %s) + interval '1 minute' END",
        (KEPT_DAYS, KEPT_DAYS),
    )
    table.forget_old()
    assert database.execute("SELECT id FROM reject").fetchall() == [(2,)]


def drops_of(database: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return database.execute(
        "SELECT host_id, reason, count, extract(epoch FROM last_at)::float FROM host_drop"
        " ORDER BY host_id, reason"
    ).fetchall()


def test_drops_add_up_by_host_and_reason_and_the_latest_time_stays(
    database: psycopg.Connection[Any], table: RejectTable
) -> None:
    table.count([Tally(1, FLOOD, 5, NOW_S), Tally(1, RARE, 1, NOW_S), Tally(2, FLOOD, 2, NOW_S)])
    table.count([Tally(1, FLOOD, 3, NOW_S + 9)])
    table.count([Tally(2, FLOOD, 1, NOW_S - 9)])
    assert drops_of(database) == [
        (1, FLOOD, 8, NOW_S + 9), (1, RARE, 1, NOW_S), (2, FLOOD, 3, NOW_S),
    ]  # fmt: skip


def test_two_processes_that_count_the_same_hosts_do_not_lock_each_other_out(
    database: psycopg.Connection[Any], postgres_url: str
) -> None:
    rounds = 40

    def work(name: str) -> None:
        table = RejectTable(lambda: postgres_url, name)
        for number in range(rounds):
            ledger = Ledger()
            # Each meets the hosts in an order of its own.
            for host in random.Random(f"{name}{number}").sample(range(1, 200), 150):
                note(ledger, 1, host=host)
            table.count(ledger.take_tally())
        table.close()

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(row[2] for row in drops_of(database)) == 2 * rounds * 150


class FakeTable:
    """A table that can be away, and that shows what was written and when it was closed."""

    def __init__(self) -> None:
        self.error: psycopg.Error | None = None
        self.written: list[Reject] = []
        self.asked = 0
        self.forgot = 0
        self.closed = False
        self.hold = threading.Event()
        self.hold.set()
        self.tallies: list[Tally] = []
        self.refuse: psycopg.DataError | None = None

    def write(self, rejects: Sequence[Reject]) -> None:
        self.asked += 1
        self.hold.wait(20)
        # Read once: the test's thread takes it back at any time.
        if error := self.error or self.refuse:
            raise error
        self.written += rejects

    def count(self, tallies: Sequence[Tally]) -> None:
        if error := self.error:
            raise error
        self.tallies += tallies

    def forget_old(self) -> None:
        if error := self.error:
            raise error
        self.forgot += 1

    def close(self) -> None:
        self.closed = True


def test_what_gathers_while_the_database_is_away_is_written_once_it_is_there(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.reject_table.AWAY_S", 0.01)

    async def story() -> None:
        ledger, table = Ledger(), FakeTable()
        keeper = Keeper(ledger, table, 0.01)
        running = asyncio.create_task(keeper.run())
        note(ledger, 1)
        await until(lambda: (table.forgot, ledger.counts.kept) == (1, 1))
        assert len(table.written) == 1
        table.error = psycopg.OperationalError("away")
        note(ledger, 2)
        await until(lambda: table.asked > 3)
        note(ledger, 3)
        assert len(table.written) == 1
        table.error = None
        await until(lambda: len(table.written) == 3)
        assert [reject.did for reject in table.written] == [did(1), did(2), did(3)]
        note(ledger, 4)
        await keeper.end()
        assert [reject.did for reject in table.written][-1] == did(4)
        await until(lambda: table.closed)
        assert (ledger.counts.kept, ledger.counts.lost) == (4, 0)
        await running

    loop_run(story())


def test_a_row_that_is_refused_does_not_stand_in_the_way(loop_run: LoopRun) -> None:
    async def story() -> None:
        ledger, table = Ledger(), FakeTable()
        keeper = Keeper(ledger, table, 0.01)
        running = asyncio.create_task(keeper.run())
        table.error = psycopg.DataError("a value it does not take")
        note(ledger, 1)
        await until(lambda: ledger.counts.lost == 1)
        table.error = None
        note(ledger, 2)
        await until(lambda: [reject.did for reject in table.written] == [did(2)])
        await keeper.end()
        await running

    loop_run(story())


def test_the_end_waits_for_a_database_that_hangs_no_longer_than_it_may(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.reject_table.LAST_S", 0.05)

    async def story() -> None:
        ledger, table = Ledger(), FakeTable()
        table.hold.clear()
        keeper = Keeper(ledger, table, 0.001)
        running = asyncio.create_task(keeper.run())
        note(ledger, 1)
        await until(lambda: table.asked == 1)
        await keeper.end()
        assert not running.done()
        table.hold.set()
        await running
        await until(lambda: table.closed)

    loop_run(story())


def test_the_table_is_found_again_after_an_outage(own_postgres: Postgres) -> None:
    table = RejectTable(lambda: own_postgres.url)
    with pytest.raises(psycopg.Error):
        table.write([reject(1)])  # there is no schema yet
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        connection.execute(SCHEMA)
    table.write([reject(1)])
    own_postgres.stop()
    with pytest.raises(psycopg.OperationalError):
        table.write([reject(2)])
    own_postgres.start()
    table.write([reject(3)])
    table.close()
    with psycopg.connect(own_postgres.url) as connection:
        rows = connection.execute("SELECT did FROM reject ORDER BY id").fetchall()
    assert rows == [(did(1),), (did(3),)]


def test_no_drop_goes_uncounted_while_the_database_is_away(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.reject_table.AWAY_S", 0.01)

    async def story() -> None:
        ledger, table = Ledger(), FakeTable()
        table.error = psycopg.OperationalError("away")
        keeper = Keeper(ledger, table, 0.01)
        running = asyncio.create_task(keeper.run())
        for number in range(100):
            note(ledger, number % 3)
        await until(lambda: table.asked > 2)
        note(ledger, 1, RARE)
        table.error = None
        await until(lambda: len(table.tallies) == 2)
        for number in range(7):
            note(ledger, number)
        await keeper.end()  # the last ones are counted, too
        assert [(tally.reason, tally.times) for tally in table.tallies] == [
            (FLOOD, 100), (RARE, 1), (FLOOD, 7),
        ]  # fmt: skip
        await running

    loop_run(story())


def test_a_row_that_is_refused_is_counted_all_the_same(loop_run: LoopRun) -> None:
    async def story() -> None:
        ledger, table = Ledger(), FakeTable()
        table.refuse = psycopg.DataError("a value it does not take")
        keeper = Keeper(ledger, table, 0.01)
        running = asyncio.create_task(keeper.run())
        note(ledger, 1)
        await until(lambda: [tally.times for tally in table.tallies] == [1])
        assert ledger.counts.lost == 1
        await keeper.end()
        await running

    loop_run(story())
