"""Order, holding, sending back and counting, with time and answers turned by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from coincurve import PrivateKey

from common.envelope import NEVER_SEEN, AccountState, HostCursor, Judged, Kind, base_of
from common.event import Event
from common.frame import ACCOUNT_HEADER, IDENTITY_HEADER
from common.rates import Rate
from common.syntax import tid_text
from common.verdict import Drop, DropReason
from ingest.account import Feed
from ingest.backoff import Backoff
from ingest.config import EVENT_BYTES, Limits
from ingest.did_document import Identity, NotFound
from ingest.inquiry import Told
from ingest.judge import Source
from ingest.pipeline import JUDGED_AT_ONCE, Pipeline, cursor_of
from ingest.questions import Need
from ingest.settling import LOCAL_KNOWN_S
from ingest.signature import K256Key
from tests.common.commits import NODE, RECORD, TIME, car, cid, commit_block, encode, frame, link
from tests.ingest.balance import balance_of

KEY = PrivateKey(b"\x07" * 32)
PDS = Source(1, "pds.example.com")
NEW_PDS = Source(2, "new.example.com")

NO_RATES = dict.fromkeys(Kind, Rate(burst=1, every_s=0.0))


def did_of(number: int) -> str:
    return "did:plc:" + "abcdefgh"[number] * 24


def commit(seq: int, rev: int, did: str = did_of(0), key: PrivateKey = KEY) -> bytes:
    text = tid_text(rev << 10)
    block = commit_block(did=did, rev=text, key=key)
    blocks = car([cid(block)], [block, NODE, RECORD])
    return frame(seq=seq, rev=text, repo=did, commit=link(cid(block)), blocks=blocks)


def identity(seq: int, did: str = did_of(0)) -> bytes:
    return IDENTITY_HEADER + encode({"seq": seq, "did": did, "time": TIME})


def account(seq: int, did: str = did_of(0), **fields: Any) -> bytes:
    return ACCOUNT_HEADER + encode({"seq": seq, "did": did, "time": TIME, "active": True, **fields})


class Story:
    """A pipeline whose questions and verdicts are kept for the test to answer."""

    def __init__(self, **changed: Any) -> None:
        self.now_s = 1_784_000_000.0
        self.asked: list[tuple[str, float]] = []
        self.needs: list[Need] = []
        self.asked_status: list[tuple[str, int]] = []
        self.alarms: list[float] = []
        self.sent: list[tuple[Judged, bytes]] = []
        self.drops: list[tuple[str, DropReason, int]] = []
        self.dropped_bytes: list[bytes] = []
        self.hopeless = True
        self.feed = Feed(PDS, 1, 5, 0, Backoff(1.0, 60.0, Random(1)), epoch=9)
        self.pipeline = Pipeline(
            replace(Limits(), **changed),
            ask=self._ask,
            ask_status=lambda did, host: self.asked_status.append((did, host)),
            send=lambda judged, raw: self.sent.append((judged, raw)),
            may_give_up=lambda _did, _now_s: self.hopeless,
            wake_after=self.alarms.append,
            on_drop=self._dropped,
        )

    def _ask(self, did: str, _host: int, delay_s: float, need: Need) -> None:
        self.asked.append((did, delay_s))
        self.needs.append(need)

    def _dropped(self, _feed: Feed, drop: Drop, event: Event | None, raw: bytes) -> None:
        assert event is None or event.raw == raw
        self.drops.append((event.did if event else "", drop.reason, drop.seq))
        self.dropped_bytes.append(raw)

    def take(self, *raws: bytes, feed: Feed | None = None) -> None:
        for raw in raws:
            self.now_s += 0.001
            assert self.pipeline.take(feed or self.feed, raw, self.now_s) is None

    def resolve(
        self, did: str = did_of(0), host: str = "pds.example.com", key: PrivateKey = KEY
    ) -> None:
        self.now_s += 0.001
        found = Identity(did, K256Key(key.public_key.format()), host)
        self.pipeline.resolved(did, found, self.now_s, self.now_s)

    def tell(
        self,
        did: str = did_of(0),
        host: int = PDS.host,
        *,
        active: bool,
        status: str | None = None,
        known: bool = True,
    ) -> None:
        """Answer the question that was asked longest ago of this host about this account."""
        self.asked_status.remove((did, host))
        self.now_s += 0.001
        self.pipeline.told(did, host, Told(known, active, status, self.now_s), self.now_s)

    def seqs(self) -> list[int]:
        return [judged.upstream_seq for judged, _raw in self.sent]

    def log_all(self) -> None:
        self.pipeline.logged([judged.position for judged, _raw in self.sent], self.now_s)

    def reasons(self) -> list[DropReason]:
        return [reason for _did, reason, _seq in self.drops]


def test_events_wait_for_their_document_in_order_and_others_do_not_wait() -> None:
    story = Story()
    story.take(commit(1, 1), commit(2, 1, did_of(1)), commit(3, 2), commit(4, 3))
    assert story.asked == [(did_of(0), 0.0), (did_of(1), 0.0)]
    assert story.pipeline.held == 4
    story.resolve(did_of(1))
    assert story.seqs() == [2]
    story.resolve()
    assert story.seqs() == [2, 1, 3, 4]
    assert story.pipeline.held == 0
    story.take(commit(5, 4))
    assert story.seqs()[-1] == 5


def test_each_verdict_names_the_state_it_was_reached_against() -> None:
    story = Story()
    story.take(commit(1, 1), commit(2, 2))
    story.resolve()
    (first, raw), (second, _) = story.sent
    assert first.base == base_of(NEVER_SEEN)
    assert second.base == base_of(first.after)
    assert (first.host, first.generation, first.shard, first.epoch) == (1, 1, 5, 9)
    assert raw[first.seq_start : first.seq_end] == b"\x01"
    assert second.position > first.position


def test_the_cursor_waits_for_the_slowest_event() -> None:
    story = Story()
    story.take(commit(1, 1, did_of(1)), commit(2, 1))
    story.resolve()
    story.log_all()
    assert cursor_of(story.feed) is None
    story.resolve(did_of(1))
    assert cursor_of(story.feed) is None
    story.log_all()
    assert cursor_of(story.feed) == HostCursor(1, 1, 2, 5, 9)
    assert cursor_of(story.feed) is None


def test_a_dropped_event_is_finished_and_counted() -> None:
    story = Story()
    story.take(commit(1, 5))
    story.resolve()
    story.take(commit(2, 5), commit(3, 4), commit(4, 6))
    story.log_all()
    assert story.reasons() == [DropReason.REV_NOT_NEWER] * 2
    assert cursor_of(story.feed) == HostCursor(1, 1, 4, 5, 9)
    counts = story.pipeline.counts
    assert counts.received == Counter(commit=4)
    assert counts.forwarded == Counter(commit=2)
    assert counts.dropped == Counter({DropReason.REV_NOT_NEWER: 2})
    assert story.pipeline.unfinished_bytes == story.feed.unfinished_bytes == 0


def test_a_replay_asks_nobody() -> None:
    story = Story()
    story.take(commit(1, 5))
    story.resolve()
    story.asked.clear()
    story.take(commit(2, 5))
    assert story.asked == []


# --- numbers ---


def test_numbers_that_do_not_rise_are_dropped() -> None:
    story = Story()
    story.take(commit(7, 1), commit(7, 2), commit(3, 3))
    story.resolve()
    assert story.reasons() == [DropReason.SEQ_NOT_RISING] * 2
    assert story.seqs() == [7]


def test_the_number_at_the_cursor_may_repeat_once() -> None:
    story = Story()
    story.feed = Feed(PDS, 1, 5, 10)
    story.feed.resumed_at = 10
    story.take(commit(10, 1), commit(10, 1), commit(11, 2))
    assert story.reasons() == [DropReason.DUPLICATE, DropReason.SEQ_NOT_RISING]


def test_a_message_of_wrong_form_but_with_a_number_lets_the_cursor_pass() -> None:
    story = Story()
    bad = [frame(seq=5, rev="no"), frame(seq=6, repo="no"), frame(seq=4, repo="no")]
    story.take(*bad)
    assert story.dropped_bytes == bad
    assert story.reasons() == [
        DropReason.REV_INVALID, DropReason.DID_INVALID, DropReason.SEQ_NOT_RISING,
    ]  # fmt: skip
    assert cursor_of(story.feed) == HostCursor(1, 1, 6, 5, 9)


# --- documents ---


def test_a_migration_is_looked_up_before_anything_is_dropped() -> None:
    story = Story()
    story.take(commit(1, 1))
    story.resolve()
    new = Feed(NEW_PDS, 1, 6, 0)
    story.now_s += 60
    story.take(account(1), feed=new)
    story.take(commit(2, 2), feed=new)
    assert [did for did, _delay in story.asked] == [did_of(0)] * 2
    story.resolve(host="new.example.com")
    assert [judged.host for judged, _raw in story.sent] == [1, 2, 2]
    assert story.drops == []
    # The old host has lost its say, and that takes one look-up to be sure of.
    story.now_s += 60
    story.take(commit(2, 3))
    story.resolve(host="new.example.com")
    assert story.reasons() == [DropReason.HOST_NOT_AUTHORITATIVE]


def test_a_new_key_is_looked_up_before_a_signature_is_called_wrong() -> None:
    story = Story()
    other = PrivateKey(b"\x08" * 32)
    story.take(commit(1, 1))
    story.resolve()
    story.now_s += 60
    story.take(commit(2, 2, key=other))
    story.resolve(key=other)
    assert story.seqs() == [1, 2]
    story.now_s += 60
    story.take(commit(3, 3, key=KEY))
    story.resolve(key=other)
    assert story.reasons() == [DropReason.SIGNATURE_INVALID]


def test_look_ups_of_one_did_keep_a_distance_and_nothing_is_dropped_for_it() -> None:
    story = Story(refresh_s=2.0)
    other = PrivateKey(b"\x08" * 32)
    story.take(commit(1, 1))
    story.resolve()
    story.asked.clear()
    story.take(commit(2, 2, key=other), commit(3, 3, key=other))
    ((did, delay_s),) = story.asked
    assert did == did_of(0)
    assert 1.9 < delay_s <= 2.0
    assert story.drops == []
    story.now_s += 2
    story.resolve(key=other)
    assert story.seqs() == [1, 2, 3]


def test_an_identity_event_waits_for_a_look_at_the_document() -> None:
    story = Story()
    other = PrivateKey(b"\x08" * 32)
    story.take(commit(1, 1))
    story.resolve()
    story.take(identity(2), commit(3, 2, key=other))
    assert story.seqs() == [1]
    story.resolve(key=other)
    assert story.seqs() == [1, 2, 3]


def test_thousands_that_waited_are_judged_in_turns_and_nothing_overtakes_them() -> None:
    story = Story(account_rates=NO_RATES)
    story.take(*(identity(n) for n in range(1, 301)))
    story.resolve()
    assert len(story.sent) == JUDGED_AT_ONCE
    story.take(identity(301))
    turns = 0
    while story.pipeline.has_more:
        before = len(story.sent)
        story.pipeline.judge_more(story.now_s)
        assert len(story.sent) <= before + JUDGED_AT_ONCE
        turns += 1
    assert turns == 4
    assert story.seqs() == list(range(1, 301))
    story.resolve()
    assert story.seqs()[-1] == 301
    assert story.pipeline.held == 0


def test_a_look_up_that_began_before_the_event_is_no_proof_against_it() -> None:
    story = Story()
    story.take(commit(1, 1))
    asked_s = story.now_s
    other = PrivateKey(b"\x08" * 32)
    story.take(commit(2, 2, key=other))
    found = Identity(did_of(0), K256Key(KEY.public_key.format()), "pds.example.com")
    story.pipeline.resolved(did_of(0), found, asked_s, story.now_s)
    assert story.seqs() == [1]
    assert story.drops == []
    story.resolve(key=other)
    assert story.seqs() == [1, 2]


def test_nobody_knows_the_did() -> None:
    story = Story()
    story.take(commit(1, 1), identity(2), account(3))
    story.now_s += 1
    story.pipeline.resolved(did_of(0), NotFound("404"), story.now_s, story.now_s)
    assert story.reasons() == [DropReason.IDENTITY_NOT_FOUND] * 3
    assert cursor_of(story.feed) == HostCursor(1, 1, 3, 5, 9)


def test_an_old_document_is_used_while_it_is_looked_up_again() -> None:
    story = Story(stale_s=100.0)
    story.take(commit(1, 1))
    story.resolve()
    story.asked.clear()
    story.now_s += 101
    story.take(commit(2, 2), commit(3, 3))
    assert story.seqs() == [1, 2, 3]
    assert len(story.asked) == 1


# --- two hosts and one account ---


def test_a_stranger_delays_only_its_own_events_of_an_account() -> None:
    story = Story(refresh_s=2.0)
    stranger = Feed(NEW_PDS, 1, 6, 0)
    story.take(commit(1, 1))
    story.resolve()
    seq = 1
    for round_ in range(5):
        story.take(
            commit(2 * round_ + 1, 100), account(2 * round_ + 2, active=False), feed=stranger
        )
        for _ in range(3):
            seq += 1
            story.take(commit(seq, seq))
        assert story.seqs() == list(range(1, seq + 1)), "the account's own host had to wait"
        story.now_s += 2.0
        story.resolve()
    assert {judged.host for judged, _raw in story.sent} == {PDS.host}
    assert story.reasons() == [DropReason.HOST_NOT_AUTHORITATIVE] * 10
    # No more look-ups than for one.
    assert len(story.asked) == 6


def test_a_stranger_fills_only_its_own_bound_of_an_account_that_fails() -> None:
    size = len(commit(1, 1)) + EVENT_BYTES
    story = Story(did_held_bytes=size * 3, hopeless_s=0.0)
    stranger = Feed(NEW_PDS, 1, 6, 0)
    story.take(commit(1, 1), commit(2, 2))
    story.take(commit(1, 1), feed=stranger)
    unresolved(story)
    story.take(*(commit(n, n) for n in range(2, 9)), feed=stranger)
    assert [seq for _did, _reason, seq in story.drops] == [1, 2, 3, 4, 5]
    story.resolve()
    assert [(judged.host, judged.upstream_seq) for judged, _raw in story.sent] == [(1, 1), (1, 2)]


def test_what_comes_back_of_two_hosts_keeps_the_order_of_each() -> None:
    story = Story()
    new = Feed(NEW_PDS, 1, 6, 0)
    story.take(commit(1, 1))
    story.resolve()
    story.take(commit(2, 2), identity(3))
    story.take(identity(1), identity(2), feed=new)
    story.now_s += 2.0
    story.resolve()
    assert len(story.sent) == 5
    newest = AccountState(tid_text(1 << 9), cid(b"d"), cid(b"c"), True, None, 1)
    story.pipeline.back([(judged.position, newest) for judged, _raw in story.sent], story.now_s)
    again = [(judged.host, judged.upstream_seq) for judged, _raw in story.sent[5:]]
    assert sorted(again) == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]
    for host in (1, 2):
        seqs = [seq for of, seq in again if of == host]
        assert seqs == sorted(seqs)
    positions = [judged.position for judged, _raw in story.sent[5:]]
    assert positions == sorted(positions)
    assert {judged.recall for judged, _raw in story.sent[5:]} == {1}
    assert story.pipeline.held == 0


# --- what cannot be told ---


def unresolved(story: Story, did: str = did_of(0)) -> None:
    story.pipeline.unresolved(did, story.now_s)


def test_what_cannot_be_told_is_held_and_goes_on_later() -> None:
    story = Story()
    story.take(commit(1, 1), commit(2, 2))
    for _ in range(50):
        story.now_s += 10
        unresolved(story)
        assert story.pipeline.still_wanted(did_of(0))
    assert story.drops == []
    story.resolve()
    assert story.seqs() == [1, 2]


def test_one_did_that_fails_loses_its_oldest_at_its_bound() -> None:
    size = len(commit(1, 1)) + EVENT_BYTES
    story = Story(did_held_bytes=size * 3, hopeless_s=0.0)
    story.take(*(commit(n, n) for n in range(1, 8)))
    assert story.drops == []  # not before it has failed
    unresolved(story)
    story.take(commit(8, 8))
    assert [seq for _did, _reason, seq in story.drops] == [1, 2, 3, 4, 5]
    assert set(story.reasons()) == {DropReason.IDENTITY_UNRESOLVED}
    story.resolve()
    assert story.seqs() == [6, 7, 8]


def test_a_did_that_has_only_begun_to_fail_loses_nothing() -> None:
    size = len(commit(1, 1)) + EVENT_BYTES
    story = Story(did_held_bytes=size * 3, hopeless_s=15.0)
    story.take(commit(1, 1))
    unresolved(story)
    story.now_s += 14
    story.take(*(commit(n, n) for n in range(2, 8)))
    assert story.drops == []
    story.now_s += 2
    story.take(commit(8, 8))
    assert len(story.drops) == 5


def test_when_the_directory_fails_nothing_is_dropped() -> None:
    size = len(commit(1, 1)) + EVENT_BYTES
    story = Story(did_held_bytes=size * 3, host_held_bytes=size * 3, held_s=5.0)
    story.hopeless = False
    story.take(commit(1, 1))
    for n in range(2, 20):
        unresolved(story)
        story.now_s += 10
        story.take(commit(n, n))
    assert story.drops == []
    assert story.feed.unfinished_bytes >= size * 19


def test_the_last_to_fail_in_an_outage_loses_nothing_when_it_ends() -> None:
    story = Story(held_s=600.0, hopeless_s=15.0)
    story.hopeless = False
    story.take(commit(1, 1))
    for _ in range(100):
        story.now_s += 10
        unresolved(story)
    # The others get their answers again; its own last question had no luck.
    story.hopeless = True
    story.now_s += 1
    unresolved(story)
    assert story.drops == []
    story.resolve()
    assert story.seqs() == [1]


def test_many_dids_that_fail_lose_their_hosts_oldest_at_its_bound() -> None:
    size = len(commit(1, 1)) + EVENT_BYTES
    story = Story(host_held_bytes=size * 4, hopeless_s=0.0)
    for n in range(1, 4):
        story.take(commit(n, 1, did_of(n)))
        unresolved(story, did_of(n))
    story.take(commit(4, 2, did_of(1)), commit(5, 2, did_of(2)), commit(6, 3, did_of(2)))
    assert [seq for _did, _reason, seq in story.drops] == [1, 2]


def test_an_event_does_not_wait_for_ever_for_a_did_that_fails_alone() -> None:
    story = Story(held_s=600.0, hopeless_s=15.0)
    story.take(commit(1, 1))
    unresolved(story)
    story.now_s += 599
    unresolved(story)
    assert story.drops == []
    story.now_s += 2
    unresolved(story)
    assert story.reasons() == [DropReason.IDENTITY_UNRESOLVED]
    assert not story.pipeline.still_wanted(did_of(0))
    story.take(commit(2, 2))
    assert len(story.asked) == 2


def test_what_a_document_at_hand_can_decide_is_not_lost_with_what_it_cannot() -> None:
    story = Story(held_s=600.0, hopeless_s=15.0)
    story.take(commit(1, 1))
    story.resolve()
    # Only the #identity needs a newer one; the commits wait because it stands before them.
    story.take(identity(2), commit(3, 3), identity(4), commit(5, 5))
    unresolved(story)
    story.now_s += 601
    for _ in range(2):
        unresolved(story)
        while story.pipeline.has_more:
            story.pipeline.judge_more(story.now_s)
    assert story.seqs() == [1, 3, 5]
    assert story.drops == [(did_of(0), DropReason.IDENTITY_UNRESOLVED, seq) for seq in (2, 4)]
    assert story.pipeline.held == 0


def test_nor_is_it_lost_at_the_bound() -> None:
    size = len(commit(1, 1)) + EVENT_BYTES
    story = Story(did_held_bytes=size * 3, hopeless_s=0.0)
    story.take(commit(1, 1))
    story.resolve()
    story.take(identity(2))
    unresolved(story)
    story.take(commit(3, 3), commit(4, 4), commit(5, 5))
    while story.pipeline.has_more:
        story.pipeline.judge_more(story.now_s)
    assert story.seqs() == [1, 3, 4, 5]
    assert story.drops == [(did_of(0), DropReason.IDENTITY_UNRESOLVED, 2)]


# --- persist ---


def test_what_comes_back_is_judged_again_in_order_before_anything_newer() -> None:
    story = Story()
    story.take(commit(1, 10), commit(2, 20), commit(3, 30))
    story.resolve()
    first, second, third = (judged for judged, _raw in story.sent)
    newest = AccountState(tid_text(15 << 10), cid(b"d"), cid(b"c"), True, None, 1)
    story.pipeline.back([(first.position, newest)], story.now_s)
    story.take(commit(4, 40))
    assert len(story.sent) == 3  # nothing of this DID until all has come back
    story.pipeline.back([(second.position, newest), (third.position, newest)], story.now_s)
    again = [judged for judged, _raw in story.sent[3:]]
    assert [judged.upstream_seq for judged in again] == [2, 3, 4]
    assert story.reasons() == [DropReason.REV_NOT_NEWER]
    assert [judged.recall for judged in again] == [1, 1, 1]
    assert again[0].base == base_of(newest)
    assert [j.position for j in again] == sorted(j.position for j in again)
    assert again[0].position > third.position


def test_only_what_was_sent_before_the_first_that_came_back_is_logged() -> None:
    story = Story()
    story.take(commit(1, 10), commit(2, 20))
    story.resolve()
    first, second = (judged for judged, _raw in story.sent)
    story.pipeline.logged([first.position], story.now_s)
    story.pipeline.back([(second.position, first.after)], story.now_s)
    assert story.seqs() == [1, 2, 2]
    assert cursor_of(story.feed) == HostCursor(1, 1, 1, 5, 9)
    story.pipeline.logged([story.sent[2][0].position], story.now_s)
    assert cursor_of(story.feed) == HostCursor(1, 1, 2, 5, 9)


def test_what_was_in_the_log_already_is_counted_as_such() -> None:
    story = Story()
    story.take(commit(1, 10))
    story.resolve()
    story.pipeline.duplicate([story.sent[0][0].position], story.now_s)
    assert story.reasons() == [DropReason.DUPLICATE]
    assert cursor_of(story.feed) == HostCursor(1, 1, 1, 5, 9)


def test_an_answer_that_comes_twice_is_heeded_once() -> None:
    story = Story()
    story.take(commit(1, 10))
    story.resolve()
    position = story.sent[0][0].position
    story.pipeline.logged([position, position, 999], story.now_s)
    story.pipeline.back([(position, NEVER_SEEN)], story.now_s)
    assert story.pipeline.counts.forwarded == Counter(commit=1)
    assert len(story.sent) == 1


def test_what_is_unanswered_can_be_sent_again_as_it_was() -> None:
    story = Story()
    story.take(*(commit(n, n) for n in range(1, 5)))
    story.resolve()
    story.pipeline.logged([story.sent[1][0].position], story.now_s)
    again = story.pipeline.unanswered()
    assert [judged for judged, _raw in again] == [story.sent[n][0] for n in (0, 2, 3)]
    assert all(type(raw) is bytes for _judged, raw in again)


def test_an_account_that_becomes_inactive_stops_its_commits() -> None:
    story = Story()
    story.take(commit(1, 1), account(2, active=False, status="takendown"), commit(3, 2))
    story.resolve()
    assert story.asked_status == [(did_of(0), PDS.host)]
    story.take(account(4), commit(5, 3))
    assert story.reasons() == []
    story.tell(active=False, status="takendown")
    assert story.seqs() == [1, 2, 4, 5]
    assert story.reasons() == [DropReason.ACCOUNT_INACTIVE]


def test_accounts_under_way_are_never_forgotten() -> None:
    story = Story(accounts=2)
    for n in range(6):
        story.take(commit(n + 1, 1, did_of(n)))
    for n in range(6):
        story.resolve(did_of(n))
    assert story.seqs() == [1, 2, 3, 4, 5, 6]
    story.log_all()
    story.take(commit(7, 1, did_of(6)), commit(8, 1, did_of(7)))
    assert story.pipeline.accounts <= 7


@pytest.mark.parametrize("answer", ["logged", "duplicate"])
def test_an_event_that_is_on_disk_is_progress_and_the_hosts_back_off_is_told(answer: str) -> None:
    story = Story()
    backoff = story.feed.backoff
    assert isinstance(backoff, Backoff)
    backoff.next_s()
    story.take(commit(1, 1))
    story.resolve()
    assert backoff.failures == 1
    positions = [judged.position for judged, _raw in story.sent]
    getattr(story.pipeline, answer)(positions, story.now_s)
    assert backoff.failures == 0


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(account(1, active=1), DropReason.FIELD_INVALID, id="with a broken field"),
        pytest.param(
            commit(1, 1, key=PrivateKey(b"\x08" * 32)), DropReason.SIGNATURE_INVALID, id="forged"
        ),
        pytest.param(commit(1, 1, did_of(1)), DropReason.HOST_NOT_AUTHORITATIVE, id="for others"),
    ],
)
def test_what_is_dropped_is_no_progress_though_the_cursor_passes_it(
    message: bytes, reason: DropReason
) -> None:
    story = Story()
    backoff = story.feed.backoff
    assert isinstance(backoff, Backoff)
    backoff.next_s()
    story.take(message)
    for _ in range(2):  # a forged one is looked at again under a document that is newer than it
        story.resolve()
        story.resolve(did_of(1), "elsewhere.example.com")
    assert story.reasons() == [reason]
    assert story.pipeline.finished == 1
    assert cursor_of(story.feed) == HostCursor(1, 1, 1, 5, 9)
    assert backoff.failures == 1


def test_the_share_of_what_a_host_says_of_others_accounts_is_counted() -> None:
    story = Story()
    accounts = [did_of(0), did_of(1), did_of(1), did_of(1)]
    story.take(*(commit(n + 1, n + 1, accounts[n % 4]) for n in range(200)))
    for _ in range(2):
        story.resolve()
        story.resolve(did_of(1), "elsewhere.example.com")
    while story.pipeline.has_more:
        story.pipeline.judge_more(story.now_s)
    assert set(story.reasons()) == {DropReason.HOST_NOT_AUTHORITATIVE}
    assert story.feed.foreign.percent == 100, "what is in flight has not ended"
    story.log_all()
    assert story.pipeline.held == story.pipeline.in_flight == 0
    assert story.feed.foreign.percent == 75


def test_random_stories_keep_order_and_lose_nothing() -> None:
    """Documents, answers, returns and restarts in any order: each DID's events leave in the order
    of each host, each event has one fate, and the cursor ends at the last one."""
    for seed in range(60):
        rng = Random(seed)
        story = Story(refresh_s=0.0)
        truth: dict[str, AccountState] = {}
        logged: list[Judged] = []
        recalls: dict[str, int] = {}
        answered = 0
        feeds = [story.feed, Feed(NEW_PDS, 1, 6, 0)]
        seqs = [0, 0]
        revs = [0] * 4
        for _ in range(150):
            choice = rng.random()
            if choice < 0.45:
                feed = rng.choice(feeds)
                seqs[feed is not story.feed] += 1
                seq = seqs[feed is not story.feed]
                who = rng.randrange(4)
                revs[who] += rng.choice([0, 1, 1, 1])
                raw = rng.choice(
                    [commit(seq, revs[who] + 1, did_of(who)), identity(seq, did_of(who))]
                )
                story.take(raw, feed=feed)
            elif choice < 0.7 and story.asked:
                did, _delay = story.asked.pop(rng.randrange(len(story.asked)))
                if rng.random() < 0.3:
                    story.now_s += 1
                    unresolved(story, did)
                    if story.pipeline.still_wanted(did):
                        story.asked.append((did, 0.0))
                else:
                    story.resolve(did)
            else:
                answered = persist_answers(story, answered, truth, logged, recalls, rng)
        while story.asked or answered < len(story.sent):
            while story.asked:
                story.resolve(story.asked.pop()[0])
            answered = persist_answers(story, answered, truth, logged, recalls, rng)
        assert story.pipeline.held == story.pipeline.in_flight == 0
        for who in range(4):
            for host in (PDS.host, NEW_PDS.host):
                came = [j.upstream_seq for j in logged if (j.did, j.host) == (did_of(who), host)]
                assert came == sorted(set(came))
        balance = balance_of(story.pipeline)
        assert balance.unaccounted == balance.held == balance.in_flight == 0
        assert sum(balance.received.values()) == sum(seqs)
        assert [feed.upstream.finished_seq for feed in feeds] == seqs
        assert story.pipeline.unfinished_bytes == 0
        assert story.pipeline.in_flight_bytes == 0


def persist_answers(
    story: Story,
    answered: int,
    truth: dict[str, AccountState],
    logged: list[Judged],
    recalls: dict[str, int],
    rng: Random,
) -> int:
    """Answer some of what was sent, as persist would; sometimes its state has moved on."""
    for judged, _raw in story.sent[answered : answered + rng.randrange(1, 6)]:
        answered += 1
        newest = truth.get(judged.did, NEVER_SEEN)
        if rng.random() < 0.1:
            newest = truth[judged.did] = newest._replace(host=rng.randrange(5))
        expected = recalls.get(judged.did, 0)
        if judged.recall < expected or judged.base != base_of(newest):
            if judged.recall >= expected:
                recalls[judged.did] = judged.recall + 1
            story.pipeline.back([(judged.position, newest)], story.now_s)
        else:
            truth[judged.did] = judged.after
            logged.append(judged)
            story.pipeline.logged([judged.position], story.now_s)
    return answered


def test_what_persist_said_of_a_held_account_is_believed_for_a_moment_only() -> None:
    """What is dropped for it never reaches persist: a reversal would never be heard of."""
    story = Story()
    story.take(commit(1, 1))
    story.resolve()
    held = NEVER_SEEN._replace(local="takendown")
    story.pipeline.back([(story.sent[0][0].position, held)], story.now_s)
    story.take(commit(2, 2))
    assert story.reasons() == [DropReason.ACCOUNT_TAKEN_DOWN] * 2
    assert len(story.sent) == 1
    # It is asked again by an event that is judged as if there were no such word …
    story.now_s += LOCAL_KNOWN_S
    story.take(commit(3, 3))
    asked = story.sent[-1][0]
    assert (asked.upstream_seq, asked.base) == (3, base_of(NEVER_SEEN))
    story.pipeline.back([(asked.position, held)], story.now_s)
    assert story.reasons() == [DropReason.ACCOUNT_TAKEN_DOWN] * 3
    # … and passes where it was lifted.
    story.now_s += LOCAL_KNOWN_S
    story.take(commit(4, 4))
    assert story.seqs() == [1, 3, 4]
    story.pipeline.logged([story.sent[-1][0].position], story.now_s)
    assert story.pipeline.in_flight == story.pipeline.held == 0
