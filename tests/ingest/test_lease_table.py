"""How leases change hands: one contract for the table in PostgreSQL and the one that tests play with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from common.sharding import SHARD_COUNT
from ingest import share
from ingest.lease_table import FRESH_S, LeaseTable, Look, Table, Wanted
from ingest.load import Said
from ingest.share import BREAK_S, LOOK_S, Me
from tests.fix_net import eventually
from tests.ingest.fix_worker import MemoryLeases
from tests.relay import ROOT

SCHEMA = (ROOT / "common" / "schema.sql").read_text()
A, B = Me(0, 100, 2), Me(1, 101, 2)
ALL = range(SHARD_COUNT)
LONGER = 20
LEASE_S = LONGER * share.LEASE_S
"""So long that nothing runs out but by `age`, however long a statement takes."""


@dataclass
class Made:
    """Tables that several processes would have, and a way to let time pass for the database alone.

    age: make every row so many seconds older.
    """

    make: Callable[[], Table]
    age: Callable[[float], None]


@pytest.fixture
def connection(postgres_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        yield connection


def table_at(url: str) -> LeaseTable:
    return LeaseTable(lambda: url, lease_s=LEASE_S)


def in_postgres(url: str, connection: psycopg.Connection[Any]) -> Made:
    def age(seconds: float) -> None:
        connection.execute(
            "UPDATE shard SET expires_at = expires_at - make_interval(secs => %s)", (seconds,)
        )
        connection.execute(
            "UPDATE member SET seen_at = seen_at - make_interval(secs => %s)", (seconds,)
        )

    return Made(lambda: table_at(url), age)


@pytest.fixture(params=["postgresql", "memory"])
def made(request: pytest.FixtureRequest) -> Made:
    if request.param == "memory":
        turned = [0.0]
        table = MemoryLeases(LEASE_S, lambda: time.time() + turned[0])

        def age(seconds: float) -> None:
            turned[0] += seconds

        return Made(lambda: table, age)
    return in_postgres(
        request.getfixturevalue("postgres_url"), request.getfixturevalue("connection")
    )


def take(table: Table, me: Me, *shards: int, above: int = 0) -> dict[int, int]:
    look = table.look(me)
    return take_as(table, me, [Wanted(s, look.rows[s].epoch, above) for s in shards], look)


def take_as(table: Table, me: Me, wanted: list[Wanted], look: Look) -> dict[int, int]:
    """Upon a look that may be older than one may be."""
    return table.take(me, wanted, look.at_s + LEASE_S)


def owners(table: Table, me: Me) -> dict[int, int]:
    return {row.number: row.owner for row in table.look(me).rows if row.owner is not None}


def test_the_first_look_finds_every_shard_free_and_kept_for_its_home(made: Made) -> None:
    table = made.make()
    look = table.look(A)
    assert [row.number for row in look.rows] == list(ALL)
    assert {(row.owner, row.instance, row.epoch) for row in look.rows} == {(None, None, 0)}
    assert all(-LEASE_S <= row.past_s <= 0 for row in look.rows)
    assert look.members == {0}
    assert abs(look.at_s - time.time()) < 60
    again = table.look(A)
    assert again.at_s >= look.at_s
    assert again.started_s == look.started_s <= look.at_s
    table.close()


def test_a_shard_that_was_taken_has_an_owner_and_an_epoch_by_the_clock(made: Made) -> None:
    table = made.make()
    before_ms = int(time.time() * 1000) - 1000
    epochs = take(table, A, 3, 5)
    assert set(epochs) == {3, 5}
    assert all(epoch > before_ms for epoch in epochs.values())
    look = table.look(B)
    assert [(r.owner, r.instance, r.epoch) for r in look.rows if r.owner is not None] == [
        (0, 100, epochs[3]), (0, 100, epochs[5]),
    ]  # fmt: skip
    assert all(-LEASE_S <= look.rows[s].past_s < -LEASE_S + 60 for s in (3, 5))
    assert look.members == {0, 1}
    table.close()


def test_another_takes_it_only_when_it_has_expired(made: Made) -> None:
    table = made.make()
    epochs = take(table, A, 3)
    assert take(table, B, 3) == {}
    made.age(LEASE_S + 0.1)
    taken = take(table, B, 3)
    assert taken[3] > epochs[3]
    assert owners(table, A) == {3: 1}
    table.close()


def test_a_look_renews_ours_and_also_what_has_expired_and_nobody_took(made: Made) -> None:
    table = made.make()
    take(table, A, 3)
    take(table, B, 4)
    made.age(LEASE_S + 0.1)
    look = table.look(A)
    assert look.rows[4].past_s > 0
    # Both were taken together: only who was renewed has a lease time more than the other.
    assert look.rows[4].past_s - look.rows[3].past_s > LEASE_S
    assert look.members == {0}, "who was not seen for a lease time is not alive"
    assert take(table, B, 3) == {}
    table.close()


def test_an_earlier_life_does_not_renew_what_a_later_one_has_taken(made: Made) -> None:
    table = made.make()
    first = take(table, A, 3)
    later = A._replace(instance=200)
    second = take(table, later, 3)
    assert second[3] > first[3]
    made.age(LEASE_S + 0.1)
    assert table.look(A).rows[3].past_s > 0
    table.look(later)
    assert table.look(B).members == {0, 1}
    made.age(LEASE_S - 1)
    table.look(A)
    made.age(2)
    assert table.look(B).members == {1}, "it speaks for nobody but itself, who is no more"
    table.give(A, first)
    assert owners(table, B) == {3: 0}
    table.close()


def test_what_has_changed_since_the_look_is_not_taken(made: Made) -> None:
    table = made.make()
    look = table.look(B)
    take(table, A, 3)
    made.age(LEASE_S + 0.1)
    assert take_as(table, B, [Wanted(3, look.rows[3].epoch)], look) == {}
    expired = table.look(B)
    assert expired.rows[3].past_s > 0
    table.look(A)  # renewed
    assert take_as(table, B, [Wanted(3, expired.rows[3].epoch)], expired) == {}
    assert owners(table, B) == {3: 0}
    table.close()


def test_a_decision_that_comes_late_takes_nothing(made: Made) -> None:
    table = made.make()
    look = table.look(A)
    assert table.take(A, [Wanted(3, 0)], look.at_s - FRESH_S - 0.1) == {}
    assert owners(table, A) == {}
    eventually(lambda: table.take(A, [Wanted(3, 0)], table.look(A).at_s), what="one comes in time")
    table.close()


def test_a_new_epoch_is_higher_than_one_that_persist_has_told_of(made: Made) -> None:
    table = made.make()
    far = int(time.time() * 1000) + 10**9
    assert take(table, A, 3, above=far) == {3: far + 1}
    assert take(table, A._replace(instance=200), 3) == {3: far + 2}
    table.close()


def test_what_is_given_up_is_anybodys_at_once(made: Made) -> None:
    table = made.make()
    epochs = take(table, A, 3, 4)
    table.give(A, {3: epochs[3], 4: epochs[4] - 1})
    look = table.look(B)
    assert look.rows[3].owner is None
    assert look.rows[3].epoch == epochs[3]
    assert look.rows[3].past_s >= 0
    assert look.rows[4].owner == 0, "another lease than that was not given up"
    assert take(table, B, 3)[3] > epochs[3]
    table.close()


def test_who_leaves_has_half_a_lease_time_to_come_back_for_what_it_had(made: Made) -> None:
    table = made.make()
    epochs = take(table, A, 3, 4)
    take(table, B, 5)
    table.leave(A._replace(instance=99))
    outlived_s = table.look(B).rows[3].past_s
    assert outlived_s < -LEASE_S * 0.75, "who was outlived leaves nothing behind"
    before_s = table.look(B).at_s
    table.leave(A)
    look = table.look(B)
    assert owners(table, B) == {3: 0, 4: 0, 5: 1}
    # By the clock of the database, however long all this takes: from when it left.
    assert look.at_s - look.rows[3].past_s > before_s + LEASE_S / 2 - 0.001
    assert look.rows[3].past_s > -LEASE_S / 2 - 0.001
    assert look.members == {1}
    assert take(table, B, 3) == {}
    assert take(table, A._replace(instance=200), 3)[3] > epochs[3]
    made.age(LEASE_S / 2 + 0.1)
    assert set(take(table, B, 4)) == {4}
    table.close()


def test_what_an_owner_says_of_its_shards_is_told_to_all_and_stays_when_they_move(
    made: Made,
) -> None:
    table = made.make()
    epochs = take(table, A, 3, 4)
    take(table, B, 5)
    assert [(row.load, row.hosts) for row in table.look(A).rows[3:6]] == [(0.0, 0)] * 3
    table.look(A, {3: Said(1.5, 40), 5: Said(7.0, 1)})
    rows = table.look(B).rows
    assert [(row.load, row.hosts) for row in rows[3:6]] == [(1.5, 40), (0.0, 0), (0.0, 0)]
    table.give(A, epochs)
    take(table, B, 3)
    assert table.look(B).rows[3][5:] == (1.5, 40), "until its new owner says something else"
    table.look(A, {3: Said(9.0, 9)})
    assert table.look(B, {3: Said(2.0, 41)}).rows[3][5:] == (2.0, 41)
    table.close()


def test_a_new_life_is_later_than_any_that_the_tables_know_of(made: Made) -> None:
    table = made.make()
    now_ms = int(time.time() * 1000)
    first = table.choose(0)
    assert abs(first - now_ms) < 60_000
    assert table.look(B).members == {1}, "only who looks is alive"
    # The clock was right only then.
    far = now_ms + 10**9
    table.look(Me(0, far, 2))
    assert table.choose(0) == far + 1
    table.leave(Me(0, far + 1, 2))
    assert table.look(B).members == {1}
    assert table.choose(0) == far + 2, "also after one that has left"
    look = table.look(B)
    take_as(table, Me(0, far + 100, 2), [Wanted(3, look.rows[3].epoch)], look)
    assert table.choose(0) == far + 101, "and where only a lease tells of it"
    assert table.choose(2) < far
    table.close()


def test_a_clock_that_was_set_back_keeps_nothing_for_who_is_dead(made: Made) -> None:
    table = made.make()
    epochs = take(table, A, 3)
    made.age(-3600.0)
    look = table.look(B)
    assert look.rows[3].past_s > 0
    assert look.rows[4].past_s > 0, "what is kept for who is at home there as well"
    assert look.members == {1}
    assert take(table, B, 3)[3] > epochs[3]
    assert table.look(A).members == {0, 1}
    table.close()


def test_a_clock_that_was_set_back_a_little_takes_nothing_from_who_lives(made: Made) -> None:
    # So little that nobody's contact breaks by it.
    table = made.make()
    take(table, A, 3)
    made.age(LONGER * (-BREAK_S - LOOK_S))
    assert table.look(B).rows[3].past_s < 0
    assert take(table, B, 3) == {}
    made.age(-3600.0)
    table.look(A)
    assert table.look(B).rows[3].past_s < 0, "who lives says so"
    table.close()


def test_of_many_that_take_one_shard_one_gets_it(
    postgres_url: str, connection: psycopg.Connection[Any]
) -> None:
    made = in_postgres(postgres_url, connection)
    members = [Me(number, 100 + number, 8) for number in range(8)]
    first = made.make()
    first.look(members[0])
    first.close()
    rounds = 5
    got: list[dict[int, int]] = [{} for _ in members]
    # Each looks before anybody takes, so that all want all, as they see it.
    barrier = threading.Barrier(len(members), timeout=30)

    def race(number: int) -> None:
        me, table = members[number], made.make()
        for _ in range(rounds):
            barrier.wait()
            look = table.look(me)
            barrier.wait()
            wanted = [Wanted(row.number, row.epoch) for row in look.rows]
            got[number] = take_as(table, me, wanted, look)
            barrier.wait()
            if number == 0:
                taken = [shard for one in got for shard in one]
                winners.append((len(taken), len(set(taken))))
                seen.append(owners(table, me))
                expected.append({s: n for n, one in enumerate(got) for s in one})
                made.age(LEASE_S + 1.0)
        table.close()

    winners: list[tuple[int, int]] = []
    seen: list[dict[int, int]] = []
    expected: list[dict[int, int]] = []
    threads = [threading.Thread(target=race, args=(number,)) for number in range(len(members))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(winners) == rounds
    assert all(count == different for count, different in winners)
    assert winners[0] == (SHARD_COUNT, SHARD_COUNT)
    assert seen[0] == expected[0]


def test_a_frozen_owner_is_refused_and_changes_nothing(
    postgres_url: str, connection: psycopg.Connection[Any]
) -> None:
    made = in_postgres(postgres_url, connection)
    frozen, other = made.make(), made.make()
    held = take(frozen, A, 3, 4)
    made.age(LEASE_S + 1.0)
    taken = take(other, B, 3)
    # It wakes up, and does what it was about to do.
    frozen.give(A, held)
    look = frozen.look(A)
    assert (look.rows[3].owner, look.rows[3].epoch) == (1, taken[3])
    assert look.rows[4].owner is None
    assert take(frozen, A, 3) == {}
    frozen.leave(A)
    assert owners(other, B) == {3: 1}
    frozen.close()
    other.close()


def test_nothing_waits_for_a_row_that_another_has_in_hand(
    postgres_url: str, connection: psycopg.Connection[Any]
) -> None:
    table = table_at(postgres_url)
    held = take(table, A, 3)
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT * FROM shard WHERE number IN (3, 4) FOR UPDATE")
        assert set(take(table, A, 4, 5)) == {5}
        assert table.look(A).rows[3].epoch == held[3], "not renewed, and not lost either"
        other.rollback()
    assert set(take(table, A, 4)) == {4}
    table.close()


def test_who_is_frozen_in_the_midst_of_a_look_keeps_no_row_from_the_others(
    postgres_url: str, connection: psycopg.Connection[Any]
) -> None:
    frozen, other = table_at(postgres_url), table_at(postgres_url)
    other.look(B)
    with pytest.raises(psycopg.Error), frozen._transaction() as midst:
        midst.execute("SELECT * FROM shard FOR UPDATE")
        assert take(other, B, 3) == {}
        eventually(lambda: take(other, B, 3), what="the server ends a session that stands still")
        midst.execute("SELECT 1")
    assert frozen.look(A).rows[3].owner == B.member, "it wakes up, and asks anew"
    frozen.close()
    other.close()


def test_only_the_databases_clock_counts(
    postgres_url: str, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_at(postgres_url)
    real = time.time()
    for ours in (0.0, real + 10**6):
        monkeypatch.setattr(time, "time", lambda ours=ours: ours)
        epochs = take(table, A, 3)
        assert abs(epochs[3] - real * 1000) < 60_000
        assert abs(table.look(A).at_s - real) < 60
        assert take(table, B, 3) == {}
    table.close()


def test_a_table_that_is_away_or_not_prepared_is_asked_again(postgres_url: str) -> None:
    table = table_at(postgres_url)
    for _ in range(2):
        with pytest.raises(psycopg.Error):
            table.look(A)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        assert set(take(table, A, 3)) == {3}
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE '%leases'"
        )
    with pytest.raises(psycopg.Error):
        table.look(A)
    assert owners(table, A) == {3: 0}
    table.close()


def test_a_look_tells_when_the_server_started(
    postgres_url: str, connection: psycopg.Connection[Any]
) -> None:
    table = table_at(postgres_url)
    row = connection.execute("SELECT pg_postmaster_start_time()").fetchone()
    assert row is not None
    assert table.look(A).started_s == pytest.approx(row[0].timestamp(), abs=0.001)
    table.close()
