"""Can an owner that was believed dead, and comes back, add anything to its shard?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from common.database import connect, ensure_schema
from common.envelope import NEVER_SEEN, Batch, HostCursor, Judged, Kind, Reply, ShardClaim
from common.segment_files import CHECKPOINT_NAME
from persist.fence import Fence
from persist.store import Store
from tests.persist.events import DID, did, judged
from tests.persist.running import Ingest, Relay, relay
from tests.persist.test_kill import identity
from tests.persist.test_sequencer import LOG_EPOCH, Desk

OLD, NEW = 20, 30
SHARD = 3
"""Of every event that `judged` makes."""
Sent = tuple[Judged, bytes]


def said(position: int, epoch: int, *, account: str = DID) -> Sent:
    """An #identity, which nothing but the fence and its number can keep out of the log."""
    return judged(position, account=account, kind=Kind.IDENTITY, after=NEVER_SEEN, epoch=epoch)


def claim(desk: Desk, epoch: int, *, member: int, log_epoch: int = LOG_EPOCH) -> Reply:
    batch = Batch(member, 1, log_epoch=log_epoch, claims=[ShardClaim(SHARD, epoch)])
    assert desk.sequencer.admit(b"claims", batch)
    return desk.cut(b"claims")


# --- the core ---


def test_a_newer_owner_outlives_the_others_and_a_lower_one_never_passes_again() -> None:
    fence = Fence([ShardClaim(1, 5), ShardClaim(1, 4)])
    assert fence.claims() == [(1, 5)]
    assert fence.passes(1, 5)
    assert not fence.passes(1, 4)
    assert fence.passes(1, 6)
    assert not fence.passes(1, 5)
    assert fence.passes(2, 1)
    assert fence.claims() == [(1, 6), (2, 1)]


# --- in the sequencer ---


def test_a_claim_is_answered_and_shuts_earlier_owners_out() -> None:
    desk = Desk(DID)
    assert desk.send(said(1, OLD)).logged == [1]
    assert claim(desk, NEW, member=1).claimed == [ShardClaim(SHARD, NEW)]
    reply = desk.send(said(2, OLD), said(3, OLD))
    assert reply == Reply(0, 0, outlived=[ShardClaim(SHARD, NEW)])
    assert desk.sequencer.fates.outlived == 2
    assert desk.send(said(2, NEW), member=1).logged == [2]
    assert [row.position for row in desk.rows()] == [1, 2]


def test_a_claim_that_another_one_has_outlived_is_told_so() -> None:
    desk = Desk()
    claim(desk, NEW, member=1)
    reply = claim(desk, OLD, member=0)
    assert (reply.claimed, reply.outlived) == ([], [ShardClaim(SHARD, NEW)])


def test_a_claim_may_be_said_again_and_counts_whomever_it_was_meant_for() -> None:
    desk = Desk(DID)
    for log_epoch in (LOG_EPOCH, LOG_EPOCH - 1, 0):
        assert claim(desk, NEW, member=1, log_epoch=log_epoch).claimed
    assert desk.send(said(1, OLD)).outlived


def test_an_event_of_a_newer_owner_is_as_good_as_its_claim() -> None:
    desk = Desk(DID)
    assert desk.send(said(1, NEW), member=1).logged == [1]
    assert desk.send(said(2, OLD)).outlived == [ShardClaim(SHARD, NEW)]


def test_what_waited_for_its_account_is_held_to_what_was_claimed_meanwhile() -> None:
    desk = Desk()
    desk.send(said(1, OLD))
    claim(desk, NEW, member=1)
    reply = desk.answer(DID)
    assert (reply.logged, reply.outlived) == ([], [ShardClaim(SHARD, NEW)])
    assert desk.rows() == []
    fates = desk.sequencer.fates
    assert (fates.received, fates.outlived, desk.sequencer.waiting_events) == (1, 1, 0)


def test_a_cursor_of_an_outlived_owner_is_not_taken() -> None:
    desk = Desk()
    claim(desk, NEW, member=1)
    old, new, unnamed = (HostCursor(1, 1, 7, SHARD, epoch) for epoch in (OLD, NEW, 0))
    batch = Batch(0, 1, cursors=[old, new, unnamed])
    assert desk.sequencer.cursors(b"old", batch) == [new, unnamed]
    assert desk.cut(b"old").outlived == [ShardClaim(SHARD, NEW)]


def test_another_shard_has_its_own_fence() -> None:
    desk = Desk(DID)
    claim(desk, NEW, member=1)
    event, frame = said(1, OLD)
    assert desk.send((event._replace(shard=SHARD + 1), frame)).logged == [1]


def test_every_event_that_comes_is_counted_once_whatever_becomes_of_it() -> None:
    desk = Desk(DID)
    desk.send(said(1, OLD), said(1, OLD), judged(2, state=judged(9)[0].after, epoch=OLD))
    desk.send(said(3, OLD), log_epoch=LOG_EPOCH - 1)
    claim(desk, NEW, member=1)
    desk.send(said(4, OLD), said(5, OLD, account=did(2)))
    desk.send(said(6, NEW, account=did(2)), epoch=2)
    desk.send(said(7, OLD), epoch=1)
    balance = desk.sequencer.balance()
    assert (balance.received, balance.held) == ({"event": 8}, 2)
    desk.answer(did(2))
    balance = desk.sequencer.balance()
    assert balance.forwarded == {"commit": 0, "sync": 0, "identity": 2, "account": 0}
    assert balance.dropped == {
        "duplicate": 1, "sent_back": 1, "outlived": 1, "unheard": 1, "refused": 1, "abandoned": 1,
    }  # fmt: skip
    assert (balance.held, balance.in_flight, balance.unaccounted) == (0, 0, 0)


# --- in the process ---


@pytest.fixture
def place(postgres_url: str) -> Iterator[Relay]:
    with relay(postgres_url) as place:
        yield place


def epochs(place: Relay) -> dict[int, int]:
    with psycopg.connect(place.config.database_url) as connection:
        return dict(connection.execute("SELECT number, epoch FROM shard").fetchall())


def test_after_a_restart_the_leases_of_the_database_keep_an_old_owner_out(place: Relay) -> None:
    # The successor has its lease, and has not said a word yet.
    with closing(connect(place.config.database_url, "test")) as connection:
        ensure_schema(connection)
        connection.execute("INSERT INTO shard (number, epoch) VALUES (%s, %s)", (SHARD, NEW))
    with place.persist(), closing(Ingest(place.config)) as old:
        old.send(said(1, OLD))
        assert old.until(lambda reply: bool(reply.outlived)).outlived == [(SHARD, NEW)]
    assert place.logged() == []


@pytest.mark.parametrize("knows", ["log", "checkpoint"])
def test_after_a_restart_over_an_old_backup_the_log_keeps_an_old_owner_out(
    place: Relay, knows: str
) -> None:
    with place.persist(), closing(Ingest(place.config, member=1)) as new:
        event, frame = identity(1)  # a restart decodes it
        assert new.ask((event._replace(epoch=NEW), frame)).logged == [1]
        new.send(cursors=(HostCursor(1, 1, 1, SHARD, NEW),))
        assert new.reply()
    with psycopg.connect(place.config.database_url, autocommit=True) as connection:
        connection.execute("TRUNCATE shard")
        if knows == "log":
            (place.config.log_dir / CHECKPOINT_NAME).unlink()
            connection.execute("UPDATE relay SET value = 0 WHERE name LIKE '%_seq'")
    with place.persist(), closing(Ingest(place.config)) as old:
        old.send(said(2, OLD, account=did(2)))
        assert old.until(lambda reply: bool(reply.outlived)).outlived == [(SHARD, NEW)]
        # And whoever leases the shard next gets more than was ever given, whatever the clock says.
        assert epochs(place) == {SHARD: NEW}
    assert [upstream for _, _, upstream in place.logged()] == [1]


def test_an_old_owner_that_wakes_up_moves_no_cursor_of_its_successor(place: Relay) -> None:
    with (
        place.persist(),
        closing(Ingest(place.config)) as old,
        closing(Ingest(place.config, member=1)) as new,
    ):
        assert old.ask(said(1, OLD)).logged == [1]
        new.send(claims=(ShardClaim(SHARD, NEW),))
        assert new.until(lambda reply: bool(reply.claimed)).claimed == [(SHARD, NEW)]
        old.send(cursors=(HostCursor(1, 1, 2, SHARD, OLD),))
        assert old.until(lambda reply: bool(reply.outlived)).outlived == [(SHARD, NEW)]
        # Had the cursor been taken, this would be a duplicate.
        assert new.ask(said(2, NEW)).logged == [2]


def test_epochs_in_the_database_are_raised_and_never_lowered(postgres_url: str) -> None:
    connection = connect(postgres_url, "test")
    ensure_schema(connection)
    connection.execute("INSERT INTO shard (number, owner, epoch) VALUES (1, 9, 50), (2, 9, 60)")
    with closing(Store(connection)) as store:
        store.raise_epochs([])
        store.raise_epochs([ShardClaim(1, 55), ShardClaim(2, 55), ShardClaim(3, 55)])
        assert sorted(store.read_epochs()) == [(1, 55), (2, 60), (3, 55)]
        rows = connection.execute("SELECT owner FROM shard ORDER BY number").fetchall()
        assert rows == [(9,), (9,), (None,)]
