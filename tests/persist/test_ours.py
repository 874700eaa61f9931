"""Is what the relay says itself logged once, and nobody else's number taken for it?

An `#account` of ours goes before the event that made us ask the host, and carries its upstream
seq. It is told from a copy by the position that its sender gave it.
"""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import pytest

from common.database import connect, ensure_schema
from common.envelope import NEVER_SEEN, HostCursor, Judged, Kind, Mark, Reply
from persist import duplicates
from persist.duplicates import Duplicates
from persist.store import Store
from persist.view import Changes
from tests.persist.events import DID, commit_over, judged
from tests.persist.running import Ingest
from tests.persist.spoken import judged_over, spoken
from tests.persist.test_kill import place_of, process
from tests.persist.test_sequencer import Desk
from tests.simnet.account import Account
from tests.simnet.clock import Clock
from tests.simnet.keys import Curve

Sent = tuple[Judged, bytes]
SILENT = commit_over(NEVER_SEEN, 1)._replace(active=False, status="deactivated", host=1)
ACTIVE = SILENT._replace(active=True, status=None)


def ours(position: int, upstream_seq: int, *, epoch: int = 7) -> Sent:
    """Our word that the account is active again."""
    return judged(
        position, state=SILENT, after=ACTIVE, kind=Kind.ACCOUNT, upstream_seq=upstream_seq,
        marks=Mark.OURS, epoch=epoch,
    )  # fmt: skip


def silenced(position: int, upstream_seq: int) -> Sent:
    """The host's word that it is not."""
    return judged(
        position, state=ACTIVE, after=SILENT, kind=Kind.ACCOUNT, upstream_seq=upstream_seq
    )


def desk_of_a_silent_account() -> Desk:
    desk = Desk()
    desk.accounts.learn(DID, SILENT)
    return desk


def test_it_goes_before_the_event_that_has_the_same_number_and_both_are_logged() -> None:
    desk = desk_of_a_silent_account()
    commit = judged(2, state=ACTIVE, upstream_seq=50)
    assert desk.send(ours(1, 50), commit).logged == [1, 2]
    first, second = desk.rows()
    assert (first.flags, first.upstream_seq, first.position) == (Mark.OURS, 50, 1)
    assert (second.flags, second.upstream_seq, second.position) == (0, 50, 2)
    state = desk.accounts.get(DID)
    assert state == commit[0].after


def test_a_copy_is_a_duplicate_even_where_the_account_is_again_as_it_was_judged() -> None:
    desk = desk_of_a_silent_account()
    # Nothing but the status has changed, and back: the base alone would let the copy through.
    assert desk.send(ours(1, 50), silenced(3, 51)).logged == [1, 3]
    assert desk.accounts.get(DID) == SILENT
    assert desk.send(ours(1, 50)) == Reply(0, 0, duplicate=[1])
    assert desk.accounts.get(DID) == SILENT


def test_one_that_was_judged_against_another_state_goes_back() -> None:
    desk = Desk()
    desk.accounts.learn(DID, ACTIVE)
    assert desk.send(ours(1, 50)).back == [(1, ACTIVE)]
    # What stands behind it comes back too, and passes once its sender knows.
    commit = judged(2, state=ACTIVE, upstream_seq=50)
    assert desk.send(commit).back == [(2, ACTIVE)]
    again = judged(3, state=ACTIVE, upstream_seq=50, recall=1)
    assert desk.send(again).logged == [3]
    assert [row.flags for row in desk.rows()] == [0]


def test_another_sender_that_has_asked_anew_may_say_the_same_later() -> None:
    desk = desk_of_a_silent_account()
    assert desk.send(ours(1, 50), silenced(3, 51)).logged == [1, 3]
    assert desk.send(ours(1, 50, epoch=8), epoch=8).logged == [1]


def test_it_is_no_event_of_its_host_whatever_the_cursor_says() -> None:
    desk = desk_of_a_silent_account()
    # Its event was dropped meanwhile, so the cursor has passed it.
    desk.duplicates.advance(HostCursor(1, 1, 60))
    assert desk.send(ours(1, 50)).logged == [1]
    assert len(desk.duplicates) == 0
    assert desk.duplicates.scan_seq(99) == 99


def test_few_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "OURS_REMEMBERED", 3)
    known = Duplicates()
    for position in range(5):
        known.add_ours(1, 7, position)
    assert [known.has_ours(1, 7, position) for position in range(5)] == [False, False, *[True] * 3]
    assert not known.has_ours(2, 7, 4)
    assert not known.has_ours(1, 8, 4)


# --- a crash ---


@pytest.mark.parametrize("told", [1, 2, 3])
def test_what_is_sent_again_after_a_kill_is_logged_once(
    postgres_url: str, data_dir: Path, told: int
) -> None:
    account = Account("did:web:alice.test", "alice.test", Curve.K256, Clock(), "alice", 0)
    born = spoken(account.commit([]))
    active = born.after(NEVER_SEEN, 1, 0)
    silent = active._replace(active=False, status="deactivated")
    again = spoken(account.set_status(None))
    commit = spoken(account.commit([]))
    silencing = spoken(account.set_status("deactivated"))
    place = place_of(data_dir, postgres_url)
    with closing(connect(postgres_url, "test")) as connection:
        ensure_schema(connection)
        with closing(Store(connection)) as store:
            store.flush(Changes([(account.did, 0, silent)], [], [], 0, 1))
    sent = [
        judged_over(again, silent, 1, upstream_seq=50, marks=Mark.OURS),
        # The host takes its word back at once, and what made us ask was no good …
        judged_over(silencing, active, 3, upstream_seq=51),
        # … then speaks of an active account.
        judged_over(commit, silent._replace(active=True), 4, upstream_seq=53),
    ]
    back_to_active = judged_over(again, silent, 5, upstream_seq=52)
    with closing(Ingest(place.config)) as ingest:
        with process(data_dir, postgres_url) as persist:
            assert ingest.ask(*sent[:told][:2]).logged == [1, 3][:told]
            if told == 3:
                assert ingest.ask(back_to_active, sent[2]).logged == [5, 4]
            persist.kill()
            persist.wait()
        ingest.log_epoch = 0
        with process(data_dir, postgres_url) as persist:
            reply = ingest.ask(*sent[:2], back_to_active, sent[2])
            logged, duplicate = {
                1: ([3, 5, 4], [1]), 2: ([5, 4], [1, 3]), 3: ([], [1, 3, 5, 4]),
            }[told]  # fmt: skip
            assert (reply.logged, reply.duplicate, reply.back) == (logged, duplicate, [])
            persist.send_signal(signal.SIGTERM)
            assert persist.wait(60) == 0
    with place.reader() as reader:
        rows = [row for chunk in reader.read(1, 1 << 20) for row in chunk.rows()]
    assert [(row.flags, row.upstream_seq) for row in rows] == [
        (Mark.OURS, 50), (0, 51), (0, 52), (0, 53),
    ]  # fmt: skip
    with closing(connect(postgres_url, "test")) as connection, closing(Store(connection)) as store:
        assert store.find_states([account.did]) == {account.did: commit.after(active, 1, 0)}
