"""Does every statement do what it says, in the hands of its one thread?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from common.database import connect, ensure_schema
from common.envelope import NEVER_SEEN, AccountState, HostCursor, HostObservation
from common.owner import WrongThread
from persist.store import Store
from persist.tally import HostTally
from persist.view import Changes
from tests.persist.events import commit_over, did

STATES = [commit_over(NEVER_SEEN, number) for number in range(10)]


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    connection = connect(postgres_url, "test")
    ensure_schema(connection)
    with closing(Store(connection)) as store:
        yield store


def changes(
    *accounts: tuple[str, int, AccountState],
    cursors: tuple[HostCursor, ...] = (),
    observations: tuple[HostObservation, ...] = (),
    applied_seq: int = 0,
    scan_seq: int = 0,
) -> Changes:
    return Changes(list(accounts), list(cursors), list(observations), applied_seq, scan_seq)


def host_row(url: str, *, change: str = "") -> tuple[object, ...]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO host (id, hostname, account_limit) VALUES (1, 'h1', 9) "
            "ON CONFLICT DO NOTHING"
        )
        if change:
            connection.execute(f"UPDATE host SET {change} WHERE id = 1".encode())
        row = connection.execute(
            "SELECT generation, cursor, wanted, observed, last_error FROM host"
        ).fetchone()
    assert row
    return row


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(NEVER_SEEN, id="nothing known but the name"),
        pytest.param(STATES[1], id="after a commit"),
        pytest.param(STATES[1]._replace(active=False, status="takendown"), id="taken down"),
        pytest.param(
            STATES[1]._replace(desynchronized=True, discontinuities=2**40), id="out of its chain"
        ),
        pytest.param(STATES[1]._replace(status="ünusual", host=2**31 - 1), id="unusual values"),
    ],
)
def test_a_state_is_found_as_it_was_written(store: Store, state: AccountState) -> None:
    store.flush(changes((did(1), 5, state)))
    assert store.find_states([did(1), did(2)]) == {did(1): state}


def test_many_accounts_of_every_shape_go_in_one_flush(store: Store) -> None:
    states = [NEVER_SEEN, *STATES, STATES[3]._replace(active=False, status="deactivated")]
    written = {did(number): state for number, state in enumerate(states)}
    store.flush(changes(*((name, 2**52 + n, s) for n, (name, s) in enumerate(written.items()))))
    assert store.find_states(list(written)) == written


def test_an_older_event_never_replaces_a_newer_one(store: Store) -> None:
    store.flush(changes((did(1), 5, STATES[5])))
    for seq in (4, 5):
        store.flush(changes((did(1), seq, STATES[1])))
    assert store.find_states([did(1)]) == {did(1): STATES[5]}
    store.flush(changes((did(1), 6, STATES[6])))
    assert store.find_states([did(1)]) == {did(1): STATES[6]}


def test_a_character_that_postgresql_cannot_hold_is_replaced(store: Store) -> None:
    store.flush(changes((did(1), 1, STATES[1]._replace(active=False, status="a\0b"))))
    assert store.find_states([did(1)])[did(1)].status == "a\N{REPLACEMENT CHARACTER}b"


def test_positions_are_those_of_the_last_flush(store: Store) -> None:
    assert store.read_positions() == (0, 0)
    store.flush(changes(applied_seq=7, scan_seq=3))
    store.flush(changes(applied_seq=9, scan_seq=4))
    assert store.read_positions() == (9, 4)


def test_who_was_outlived_writes_nothing_over_what_its_successor_wrote(
    store: Store, postgres_url: str
) -> None:
    with closing(Store(connect(postgres_url, "successor"))) as successor:
        successor.flush(changes((did(1), 75, STATES[2]), applied_seq=75, scan_seq=60))
    store.flush(
        changes((did(1), 15, STATES[1]), (did(2), 15, STATES[3]), applied_seq=15, scan_seq=70)
    )
    assert store.read_positions() == (75, 60)
    assert store.find_states([did(1), did(2)]) == {did(1): STATES[2]}


def test_a_flush_is_written_whole_or_not_at_all(store: Store) -> None:
    broken = changes(
        (did(1), 1, STATES[1]),
        observations=(HostObservation(1, None, None),),  # type: ignore[arg-type]
        applied_seq=9,
    )
    broken.cursors = [HostCursor("x", 1, 1)]  # type: ignore[arg-type]
    with pytest.raises(psycopg.Error):
        store.flush(broken)
    assert store.find_states([did(1)]) == {}
    assert store.read_positions() == (0, 0)


def test_a_cursor_only_rises_within_a_generation(store: Store, postgres_url: str) -> None:
    host_row(postgres_url)
    steps = [
        (HostCursor(1, 1, 10), (1, 10)),
        (HostCursor(1, 1, 9), (1, 10)),
        (HostCursor(1, 1, 11), (1, 11)),
        (HostCursor(1, 2, 3), (2, 3)),
        (HostCursor(1, 1, 99), (2, 3)),
        (HostCursor(1, 2, 4), (2, 4)),
    ]
    for cursor, expected in steps:
        store.flush(changes(cursors=(cursor,)))
        assert host_row(postgres_url)[:2] == expected
    assert store.read_cursors() == [HostCursor(1, 2, 4)]


def test_a_host_without_a_cursor_has_a_generation_all_the_same(
    store: Store, postgres_url: str
) -> None:
    host_row(postgres_url, change="generation = 4")
    assert store.read_cursors() == [HostCursor(1, 4, -1)]


def test_what_is_seen_never_touches_what_is_wanted(store: Store, postgres_url: str) -> None:
    host_row(postgres_url, change="wanted = 'banned'")
    store.flush(
        changes(cursors=(HostCursor(1, 1, 5),), observations=(HostObservation(1, "active", "err"),))
    )
    assert host_row(postgres_url) == (1, 5, "banned", "active", "err")
    store.flush(changes(observations=(HostObservation(1, "active", None),)))
    assert host_row(postgres_url)[4] is None


def test_what_slows_a_host_is_there_to_be_seen_and_gone_when_it_is_over(
    store: Store, postgres_url: str
) -> None:
    host_row(postgres_url)
    for seen, shown in (
        (HostObservation(1, "active", None, limited_by="hour", limited_until_us=3_000_000, slowed=2,
                         foreign_percent=93),
         ("hour", 3.0, 2, 93)),
        (HostObservation(1, "active", None), (None, None, 0, 0)),
    ):  # fmt: skip
        store.flush(changes(observations=(seen,)))
        with psycopg.connect(postgres_url) as connection:
            row = connection.execute(
                "SELECT limited_by, extract(epoch FROM limited_until)::float8, slowed, foreign_percent"
                " FROM host"
            ).fetchone()
        assert row == shown


def counted(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT id, discontinuous, waived FROM host ORDER BY id"
        ).fetchall()


def test_what_is_counted_of_a_host_adds_up_and_no_flush_counts_twice(
    store: Store, postgres_url: str
) -> None:
    host_row(postgres_url)
    first = changes(applied_seq=5)
    first.tallies = [HostTally(1, 3, 1), HostTally(99, 1, 1)]
    # The second time as after a commit whose confirmation was lost.
    for _ in range(2):
        store.flush(first)
        assert counted(postgres_url) == [(1, 3, 1)]
    second = changes(applied_seq=6)
    second.tallies = [HostTally(1, 0, 2)]
    store.flush(second)
    assert counted(postgres_url) == [(1, 3, 3)]


def test_counting_leaves_the_rest_of_a_host_alone(store: Store, postgres_url: str) -> None:
    before = host_row(postgres_url, change="wanted = 'banned', cursor = 7, observed = 'active'")
    flush = changes(applied_seq=1)
    flush.tallies = [HostTally(1, 1, 1)]
    store.flush(flush)
    assert host_row(postgres_url) == before


def test_a_connection_is_refused_to_another_thread(store: Store) -> None:
    caught: list[BaseException] = []

    def trespass() -> None:
        try:
            store.read_positions()
        except WrongThread as error:
            caught.append(error)

    thread = threading.Thread(target=trespass)
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_what_is_waived_begins_the_clean_period_of_its_host_anew(
    store: Store, postgres_url: str
) -> None:
    host_row(postgres_url)
    for seq, tally in enumerate((HostTally(1, 1, 0), HostTally(1, 0, 2), HostTally(1, 1, 0)), 1):
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("UPDATE host SET waived_at = to_timestamp(1e9)")
        flush = changes(applied_seq=seq)
        flush.tallies = [tally]
        store.flush(flush)
        with psycopg.connect(postgres_url) as connection:
            row = connection.execute("SELECT waived_at > now() - interval '1 minute' FROM host")
            assert row.fetchone() == (bool(tally.waived),)
