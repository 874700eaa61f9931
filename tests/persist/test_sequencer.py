"""Which events get a number, which go back, and which wait?"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from common.chunk import Chunk, ChunkKind, Row, account_key, decode_chunk, join_chunk
from common.envelope import (
    NEVER_SEEN,
    AccountState,
    Batch,
    HostCursor,
    Judged,
    Kind,
    Mark,
    Reply,
    base_of,
)
from common.syntax import tid_number
from persist.account import Accounts
from persist.checkpoint import KnownHost
from persist.duplicates import Duplicates
from persist.group import Group
from persist.local import Word
from persist.outgoing import encode_uint
from persist.quotas import Quotas
from persist.recall import Recalls
from persist.sequencer import GROUP_BYTES, Sequencer
from persist.tally import HostTally, Tallies
from tests.persist.events import DID, RECEIVED_US, commit_over, did, frame_of, judged

Sent = tuple[Judged, bytes]
ROUTE = b"ingest-0"
LOG_EPOCH = 4
HOSTS = range(1, 20)
"""Known hosts."""


class Desk:
    """A sequencer with its neighbours, answered by hand."""

    def __init__(self, *known: str) -> None:
        self.accounts = Accounts()
        self.duplicates = Duplicates()
        self.tallies = Tallies()
        self.quotas = Quotas()
        hosts = [KnownHost(n, f"{n}.test", True, "active", 10**6, False, "enforce") for n in HOSTS]
        self.quotas.know(hosts)
        self.sequencer = Sequencer(
            1, LOG_EPOCH, self.accounts, self.duplicates, Recalls(), self.tallies,
            quotas=self.quotas,
        )  # fmt: skip
        self.groups: list[Group] = []
        for account in known:
            self.accounts.learn(account, NEVER_SEEN)

    def send(
        self,
        *sent: Sent,
        member: int = 0,
        epoch: int = 1,
        route: bytes = ROUTE,
        log_epoch: int = LOG_EPOCH,
    ) -> Reply:
        batch = Batch(member, epoch, [event for event, _ in sent], [frame for _, frame in sent])
        batch.log_epoch = log_epoch
        if self.sequencer.admit(route, batch):
            self._run(self.sequencer.take(route, batch))
        return self.cut(route)

    def answer(
        self, account: str, state: AccountState | None = None, route: bytes = ROUTE
    ) -> Reply:
        self._run(self.sequencer.resolve(account, state))
        return self.cut(route)

    def cut(self, route: bytes = ROUTE) -> Reply:
        self._write()
        return self.groups[-1].replies.get(route, Reply(0, 0))

    def _run(self, steps: Iterable[None]) -> None:
        for _ in steps:
            self._write()

    def _write(self) -> None:
        """What the process does with a group; nothing is unaccounted for before and after."""
        assert self.sequencer.balance().unaccounted == 0
        self.groups.append(self.sequencer.cut())
        self.sequencer.fates.wrote(self.groups[-1])
        assert self.sequencer.balance().unaccounted == 0

    def rows(self) -> list[Row]:
        return [row for chunk in self._chunks() for row in chunk.rows()]

    def frames(self) -> list[bytes]:
        return [
            bytes(chunk.frames_from(seq)[: chunk.row(seq).length])
            for chunk in self._chunks()
            for seq in range(1, chunk.next_seq)
        ]

    def _chunks(self) -> list[Chunk]:
        # Read back as a reader would, so that offsets and lengths are held to the bytes.
        return [
            decode_chunk(
                join_chunk(
                    ChunkKind.GROUP, 1, 1, 0, 0, len(group.rows), group.rows, group.frames
                ).raw
            )
            for group in self.groups
        ]


def test_an_event_gets_the_next_seq_and_its_row_says_all_a_successor_needs() -> None:
    desk = Desk(DID)
    event, frame = judged(5, host=9, generation=2, upstream_seq=70_000)
    reply = desk.send((event, frame))
    assert (reply.logged, reply.duplicate, reply.back) == ([5], [], [])
    assert desk.rows() == [
        Row(
            offset=0,
            length=len(desk.frames()[0]),
            kind=Kind.COMMIT,
            flags=0,
            shard=3,
            host=9,
            generation=2,
            upstream_seq=70_000,
            epoch=7,
            position=5,
            time_us=RECEIVED_US,
            rev=tid_number(event.after.rev or ""),
            account=account_key(DID),
        )
    ]
    # Byte for byte what came, but for seq, behind a WebSocket head.
    (sent,) = desk.frames()
    _, start, end = frame_of(70_000)
    assert sent == bytes([0x82, len(frame) - 4]) + frame[:start] + b"\x01" + frame[end:]


def test_the_row_of_what_the_relay_says_itself_names_no_event_of_a_host() -> None:
    desk = Desk()
    desk.accounts.learn(DID, commit_over(NEVER_SEEN, 1, 5))
    desk.sequencer.order(DID, Word.TAKE_DOWN, RECEIVED_US)
    desk.cut()
    (row,) = desk.rows()
    assert row == Row(
        offset=0, length=len(desk.frames()[0]), kind=Kind.ACCOUNT,
        flags=Mark.OURS | Mark.LOCAL | Mark.TAKEN_DOWN, shard=0, host=5, generation=0,
        upstream_seq=0, epoch=0, position=0, time_us=RECEIVED_US, rev=0, account=account_key(DID),
    )  # fmt: skip


def test_seqs_are_dense_over_batches_accounts_and_members() -> None:
    desk = Desk(did(1), did(2))
    a1, a2 = NEVER_SEEN, commit_over(NEVER_SEEN, 1)
    desk.send(judged(1, account=did(1), state=a1), judged(2, account=did(2), host=2))
    desk.send(judged(3, account=did(1), state=a2, host=1), member=1)
    assert [row.position for row in desk.rows()] == [1, 2, 3]
    assert desk.sequencer.next_seq == 4
    frames = desk.frames()
    start = 2 + frame_of(1)[1]
    assert [frame[start : start + 1] for frame in frames] == [encode_uint(n) for n in (1, 2, 3)]


@pytest.mark.parametrize(
    "marks", [0, Mark.DISCONTINUOUS, Mark.WAIVED, Mark.DISCONTINUOUS | Mark.WAIVED, 0x80]
)
def test_the_marks_of_an_event_are_the_flags_of_its_row(marks: int) -> None:
    desk = Desk(DID)
    desk.send(judged(1, host=9, marks=marks))
    assert [row.flags for row in desk.rows()] == [marks]
    counted = HostTally(9, bool(marks & Mark.DISCONTINUOUS), bool(marks & Mark.WAIVED), 1)
    assert desk.tallies.take() == [counted]


def test_what_was_not_logged_is_not_counted() -> None:
    desk = Desk(DID)
    first = judged(1, marks=Mark.DISCONTINUOUS)
    assert desk.send(first, first).duplicate == [1]
    assert desk.send(judged(2, marks=Mark.DISCONTINUOUS)).back
    assert desk.tallies.take() == [HostTally(1, 1, 0, 1)]


def test_events_of_an_identity_or_account_kind_carry_no_rev_in_their_row() -> None:
    desk = Desk(DID)
    state = commit_over(NEVER_SEEN, 1)
    desk.send(judged(1, after=state))
    desk.send(judged(2, state=state, after=state, kind=Kind.IDENTITY))
    desk.send(judged(3, state=state, after=state._replace(active=False), kind=Kind.ACCOUNT))
    assert [row.rev for row in desk.rows()] == [tid_number(state.rev or ""), 0, 0]
    assert [group.kinds for group in desk.groups] == [
        [0, 1, 0, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]


# --- duplicates ---


def test_a_copy_is_told_from_its_original_in_one_group() -> None:
    desk = Desk(DID)
    reply = desk.send(judged(1), judged(1))
    assert (reply.logged, reply.duplicate) == ([1], [1])
    assert len(desk.rows()) == 1


@pytest.mark.parametrize("kind", list(Kind))
def test_a_copy_that_comes_later_is_a_duplicate_whatever_its_kind(kind: Kind) -> None:
    desk = Desk(DID)
    desk.send(judged(1, kind=kind, after=NEVER_SEEN))
    reply = desk.send(judged(9, kind=kind, after=NEVER_SEEN, upstream_seq=1), member=1)
    assert (reply.logged, reply.duplicate, reply.back) == ([], [9], [])


def test_the_same_upstream_seq_of_another_host_or_generation_is_no_copy() -> None:
    desk = Desk(DID)
    for position, (host, generation) in enumerate([(1, 1), (2, 1), (1, 2)]):
        sent = judged(
            position, host=host, generation=generation, upstream_seq=5, kind=Kind.IDENTITY,
            after=NEVER_SEEN,
        )  # fmt: skip
        assert desk.send(sent).logged == [position]


def test_what_lies_at_or_below_the_cursor_is_a_duplicate_and_is_forgotten() -> None:
    desk = Desk(DID)
    for number in (1, 2, 3):
        desk.send(judged(number, kind=Kind.IDENTITY, after=NEVER_SEEN))
    assert desk.duplicates.advance(HostCursor(1, 1, 2))
    assert len(desk.duplicates) == 1
    again = [judged(n + 10, kind=Kind.IDENTITY, after=NEVER_SEEN, upstream_seq=n) for n in (1, 2)]
    assert desk.send(*again).duplicate == [11, 12]
    assert desk.send(judged(14, kind=Kind.IDENTITY, after=NEVER_SEEN, upstream_seq=4)).logged


def test_what_was_dropped_once_and_is_read_again_does_not_undo_what_was_said_since() -> None:
    # Before a crash the first was dropped for its host's rate, and the cursor stood below it.
    desk = Desk(DID)
    silent = NEVER_SEEN._replace(active=False, status="deactivated")
    silencing = judged(7, after=silent, kind=Kind.ACCOUNT, upstream_seq=10)
    newer = judged(1, after=NEVER_SEEN, kind=Kind.ACCOUNT, upstream_seq=11)
    assert desk.send(newer).logged == [1]
    # Judged against the newest state, as it is there.
    event, frame = silencing
    state = desk.accounts.get(DID)
    assert state is not None
    reply = desk.send((event._replace(base=base_of(state)), frame), epoch=2)
    assert (reply.duplicate, reply.logged) == ([7], [])
    assert desk.accounts.get(DID) == state
    # Another account, another host and the next number are no concern of that.
    for position, (account, host, upstream_seq) in enumerate(
        [(did(2), 1, 10), (DID, 2, 10), (DID, 1, 12)], 20
    ):
        desk.accounts.learn(did(2), NEVER_SEEN)
        known = desk.accounts.get(account)
        assert known is not None
        said = judged(
            position, account=account, host=host, upstream_seq=upstream_seq, state=known,
            after=known, kind=Kind.IDENTITY,
        )  # fmt: skip
        assert desk.send(said, epoch=2).logged == [position]


def test_what_we_say_ourselves_neither_overtakes_nor_is_overtaken() -> None:
    desk = Desk(DID)
    active = NEVER_SEEN._replace(host=1)
    ours = judged(1, upstream_seq=50, marks=Mark.OURS, kind=Kind.ACCOUNT, after=NEVER_SEEN)
    assert desk.send(ours).logged == [1]
    # The event that made us ask, and those of its account that a host said before.
    for position, upstream_seq in ((2, 49), (3, 50)):
        assert desk.send(
            judged(position, upstream_seq=upstream_seq, kind=Kind.ACCOUNT, after=active,
                   state=NEVER_SEEN if position == 2 else active)
        ).logged == [position]  # fmt: skip
    assert desk.send(
        judged(4, upstream_seq=48, marks=Mark.OURS, kind=Kind.ACCOUNT, after=active, state=active)
    ).logged == [4]


def test_a_copy_that_comes_while_its_original_waits_is_told_when_both_are_done() -> None:
    desk = Desk()
    assert desk.send(judged(1)) == Reply(0, 0)
    assert desk.send(judged(1)) == Reply(0, 0)
    assert desk.sequencer.wanted == [DID]
    reply = desk.answer(DID)
    assert (reply.logged, reply.duplicate) == ([1], [1])


# --- states ---


def test_an_event_judged_against_an_older_state_goes_back_with_the_newest() -> None:
    newest = commit_over(NEVER_SEEN, 50)
    desk = Desk()
    desk.send(judged(1, state=commit_over(NEVER_SEEN, 40)))
    reply = desk.answer(DID, newest)
    assert (reply.logged, reply.back) == ([], [(1, newest)])
    assert desk.rows() == []
    assert desk.sequencer.fates.back == 1


@pytest.mark.parametrize(
    "stale",
    [
        pytest.param({"rev": "3zzzzzzzzzzzz"}, id="another rev"),
        pytest.param({"host": 2}, id="another host"),
        pytest.param({"active": False}, id="another status"),
        pytest.param({"commit": b"another"}, id="another commit of the same rev"),
    ],
)
def test_each_part_of_the_base_is_compared(stale: dict[str, object]) -> None:
    newest = commit_over(NEVER_SEEN, 50)
    desk = Desk()
    desk.accounts.learn(DID, newest)
    judged_against = AccountState(*{**newest._asdict(), **stale}.values())
    assert desk.send(judged(60, state=judged_against)).back == [(60, newest)]
    # What a verdict does not depend on is not compared.
    other_words = newest._replace(status="deactivated", desynchronized=True, discontinuities=9)
    assert desk.send(judged(61, state=other_words, recall=1)).logged == [61]


def test_what_a_sender_that_began_anew_cannot_know_is_not_taken_from_it() -> None:
    # It reads the last commit again, knowing nothing, is told "duplicate", and goes on from there.
    newest = commit_over(NEVER_SEEN, 50)._replace(
        status="throttled", desynchronized=True, discontinuities=3
    )
    desk = Desk()
    desk.accounts.learn(DID, newest)
    assert desk.send(judged(60, state=commit_over(NEVER_SEEN, 50))).logged == [60]
    assert desk.accounts.get(DID) == commit_over(newest, 60)._replace(
        desynchronized=True, discontinuities=3
    )
    said = commit_over(NEVER_SEEN, 60)
    silenced = judged(61, state=said, after=said._replace(active=False), kind=Kind.ACCOUNT)
    assert desk.send(silenced).logged == [61]
    state = desk.accounts.get(DID)
    assert state
    assert (state.active, state.status, state.discontinuities) == (False, None, 3)


def test_a_gap_is_counted_over_what_persist_knows_and_ended_by_a_newer_sync() -> None:
    desk = Desk(DID)
    state = NEVER_SEEN
    for number, marks in enumerate((0, Mark.DISCONTINUOUS, 0, Mark.DISCONTINUOUS), 1):
        sent = judged(number, state=state, marks=marks)
        assert desk.send(sent).logged == [number]
        state = sent[0].after
    known = desk.accounts.get(DID)
    assert known
    assert (known.desynchronized, known.discontinuities) == (True, 2)
    same = judged(5, state=state, after=state, kind=Kind.SYNC)
    assert desk.send(same).logged == [5]
    assert desk.accounts.get(DID) == known
    assert desk.send(judged(6, state=state, kind=Kind.SYNC)).logged == [6]
    newer = desk.accounts.get(DID)
    assert newer
    assert (newer.desynchronized, newer.discontinuities) == (False, 2)


def test_an_identity_event_changes_no_state_whatever_its_sender_believes() -> None:
    desk = Desk()
    deactivated = NEVER_SEEN._replace(active=False, status="deactivated", host=1)
    deleted = deactivated._replace(status="deleted")
    desk.accounts.learn(DID, deactivated)
    gone = judged(1, state=deactivated, after=deleted, kind=Kind.ACCOUNT)
    assert desk.send(gone).logged == [1]
    # Any host may say it, and its process has not heard of the new status.
    said = judged(1, state=deactivated, after=deactivated, host=2, kind=Kind.IDENTITY)
    assert desk.send(said, member=1, route=b"ingest-1").logged == [1]
    assert desk.accounts.get(DID) == deleted


def test_an_unknown_account_waits_with_all_its_events_while_others_flow() -> None:
    desk = Desk(did(2))
    first = commit_over(NEVER_SEEN, 1)
    reply = desk.send(
        judged(1, account=did(1)),
        judged(2, account=did(1), state=first),
        judged(3, account=did(2)),
    )
    assert reply.logged == [3]
    assert desk.sequencer.wanted == [did(1)]
    assert desk.sequencer.waiting_events == 2
    second = commit_over(first, 2)
    desk.send(judged(4, account=did(1), state=second), member=1, route=b"ingest-1")
    # Asked for once.
    assert desk.sequencer.wanted == [did(1)]
    desk.answer(did(1))
    replies = desk.groups[-1].replies
    assert replies[ROUTE].logged == [1, 2]
    assert replies[b"ingest-1"].logged == [4]
    assert [row.position for row in desk.rows()] == [3, 1, 2, 4]
    assert desk.sequencer.waiting_events == 0


def test_two_hosts_in_a_migration_cannot_tear_the_chain() -> None:
    # Two ingest processes judge one account against the same state; the first one in wins.
    desk = Desk(DID)
    state = commit_over(NEVER_SEEN, 1)
    desk.send(judged(1, host=1, after=state))
    old = judged(2, host=1, state=state)
    new = judged(2, host=2, state=state, upstream_seq=900)
    assert desk.send(old).logged == [2]
    reply = desk.send(new, member=1)
    assert reply.back == [(2, old[0].after)]


# --- recalls ---


def test_what_follows_an_event_that_went_back_goes_back_until_it_was_judged_again() -> None:
    newest = commit_over(NEVER_SEEN, 50)
    desk = Desk()
    desk.accounts.learn(DID, newest)
    stale = commit_over(NEVER_SEEN, 40)
    reply = desk.send(
        judged(1, state=stale),
        # Judged against just what the newest happens to be: it may still not overtake.
        judged(2, state=newest, after=newest, kind=Kind.IDENTITY),
    )
    assert [position for position, _ in reply.back] == [1, 2]
    reply = desk.send(judged(3, state=newest, after=newest, kind=Kind.IDENTITY))
    assert [position for position, _ in reply.back] == [3]
    again = judged(4, state=newest, upstream_seq=1, recall=1)
    last = judged(5, state=again[0].after, after=again[0].after, kind=Kind.IDENTITY, recall=1)
    assert desk.send(again, last).logged == [4, 5]


def test_an_event_that_goes_back_twice_expects_the_next_recall() -> None:
    desk = Desk()
    desk.accounts.learn(DID, commit_over(NEVER_SEEN, 50))
    stale = commit_over(NEVER_SEEN, 40)
    assert desk.send(judged(1, state=stale)).back
    assert desk.send(judged(2, state=stale, upstream_seq=1, recall=1)).back
    newest = commit_over(NEVER_SEEN, 50)
    assert desk.send(judged(3, state=newest, recall=1)).back
    assert desk.send(judged(4, state=newest, upstream_seq=1, recall=2)).logged == [4]


def test_a_recall_concerns_one_account_of_one_process() -> None:
    desk = Desk(did(2))
    newest = commit_over(NEVER_SEEN, 50)
    desk.accounts.learn(did(1), newest)
    assert desk.send(judged(1, account=did(1), state=commit_over(NEVER_SEEN, 40))).back
    assert desk.send(judged(2, account=did(2))).logged == [2]
    other = judged(2, account=did(1), state=newest, host=2)
    assert desk.send(other, member=1).logged == [2]


def test_a_copy_of_a_logged_event_is_a_duplicate_even_while_its_account_is_recalled() -> None:
    desk = Desk(DID)
    state = commit_over(NEVER_SEEN, 1)
    desk.send(judged(1, after=state))
    assert desk.send(judged(2, state=NEVER_SEEN)).back
    assert desk.send(judged(3, upstream_seq=1)).duplicate == [3]


# --- the fence ---


def test_an_outlived_process_is_refused_and_nothing_of_it_is_looked_at() -> None:
    desk = Desk(DID)
    assert desk.send(judged(1), epoch=5).logged == [1]
    reply = desk.send(judged(2, state=commit_over(NEVER_SEEN, 1)), epoch=4, route=b"old")
    assert reply == Reply(0, 0) or reply.refused
    assert desk.groups[-1].replies[b"old"].refused
    assert len(desk.rows()) == 1


def test_each_member_has_its_own_fence() -> None:
    desk = Desk(did(1), did(2))
    desk.send(judged(1, account=did(1)), member=0, epoch=5)
    assert desk.send(judged(2, account=did(2)), member=1, epoch=4).logged == [2]


def test_a_new_process_begins_without_the_recalls_of_its_predecessor() -> None:
    desk = Desk()
    newest = commit_over(NEVER_SEEN, 50)
    desk.accounts.learn(DID, newest)
    assert desk.send(judged(1, state=commit_over(NEVER_SEEN, 40)), epoch=1).back
    assert desk.send(judged(1, state=newest), epoch=2).logged == [1]


def test_what_waited_for_an_outlived_process_is_left_to_its_successor() -> None:
    desk = Desk()
    desk.send(judged(1, upstream_seq=7), epoch=1, route=b"old")
    desk.send(judged(1, upstream_seq=7), epoch=2, route=b"new")
    desk.answer(DID)
    replies = desk.groups[-1].replies
    assert b"old" not in replies
    assert replies[b"new"].logged == [1]


@pytest.mark.parametrize("log_epoch", [0, LOG_EPOCH - 1])
def test_what_was_sent_to_a_predecessor_is_answered_but_not_taken(log_epoch: int) -> None:
    # What was sent before it may be lost, and would come again behind it.
    desk = Desk(DID)
    desk.send(judged(2, kind=Kind.IDENTITY, after=NEVER_SEEN), log_epoch=log_epoch)
    assert desk.groups[-1].replies == {ROUTE: Reply(0, 0)}
    again = [judged(n, kind=Kind.IDENTITY, after=NEVER_SEEN) for n in (1, 2)]
    assert desk.send(*again).logged == [1, 2]


def test_an_empty_batch_is_a_greeting_and_is_answered() -> None:
    desk = Desk()
    desk.send()
    assert desk.groups[-1].replies == {ROUTE: Reply(0, 0)}


# --- groups ---


def test_a_group_is_closed_when_it_is_full() -> None:
    desk = Desk(*(did(n) for n in range(4)))
    desk.send(*(judged(n, account=did(n), fill=GROUP_BYTES // 2) for n in range(4)))
    assert [len(group.rows) for group in desk.groups] == [2, 2, 0]
    assert [group.replies[ROUTE].logged for group in desk.groups[:2]] == [[0, 1], [2, 3]]


def test_what_waited_long_does_not_come_in_one_huge_group() -> None:
    desk = Desk()
    state, sent = NEVER_SEEN, []
    for number in range(4):
        sent.append(judged(number, state=state, fill=GROUP_BYTES // 2))
        state = sent[-1][0].after
    desk.send(*sent)
    desk.groups.clear()
    desk.answer(DID)
    assert [len(group.rows) for group in desk.groups] == [2, 2, 0]
    assert [row.position for group in desk.groups for row in Desk.rows(_of(group))] == [0, 1, 2, 3]


def _of(group: Group) -> Desk:
    desk = Desk()
    desk.groups = [group]
    return desk


def test_a_batch_whose_frames_do_not_match_its_events_is_our_own_fault() -> None:
    desk = Desk(DID)
    event, frame = judged(1)
    with pytest.raises(ValueError, match="zip"):
        list(desk.sequencer.take(ROUTE, Batch(0, 1, [event], [frame, frame], [], [], LOG_EPOCH)))
