"""What an event waits for besides a document: a host's word, its turn among too many, the time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import cbor2
import pytest

from common.envelope import AccountState, Judged, Kind, Mark, base_of
from common.event import Event, decode
from common.frame import ACCOUNT_HEADER
from common.rates import Rate
from common.syntax import tid_text
from common.verdict import DropReason
from ingest.account import Feed
from ingest.config import EVENT_BYTES
from ingest.did_document import NotFound
from ingest.judge import Source
from tests.common.commits import cid
from tests.ingest.balance import balance_of
from tests.ingest.test_pipeline import (
    NEW_PDS,
    NO_RATES,
    PDS,
    Story,
    account,
    commit,
    did_of,
    identity,
)

INACTIVE = DropReason.ACCOUNT_INACTIVE
LIMITED = DropReason.RATE_LIMITED
FUTURE = DropReason.REV_IN_FUTURE


def conserved(story: Story) -> bool:
    """Whether every message has one end, or waits, or is on its way."""
    return balance_of(story.pipeline).unaccounted == 0


def kinds(story: Story, start: int = 0) -> list[tuple[str, int]]:
    """What was sent: the kind, and the seq of the host."""
    return [(Kind(judged.kind).name, judged.upstream_seq) for judged, _raw in story.sent[start:]]


def wake(story: Story, after_s: float = 0.0) -> None:
    """So much later, all alarms that are due by then go off."""
    story.now_s += after_s
    story.pipeline.wake(story.now_s)
    while story.pipeline.has_more:
        story.pipeline.judge_more(story.now_s)


def thought_inactive(status: str = "deactivated", **changed: Any) -> Story:
    """An account that its host has called inactive, and nothing else since."""
    story = Story(**changed)
    story.take(commit(1, 1), account(2, active=False, status=status))
    story.resolve()
    story.log_all()
    assert kinds(story) == [("COMMIT", 1), ("ACCOUNT", 2)]
    return story


# --- a host's word (S-ACC-17, S-ACC-18; lesson 46) ---


def test_an_account_that_is_active_after_all_is_said_to_be_so_before_its_commit() -> None:
    story = thought_inactive()
    story.take(commit(3, 2), commit(4, 3), identity(5))
    assert story.asked_status == [(did_of(0), PDS.host)]
    assert story.pipeline.held == 3
    story.tell(active=True)
    story.resolve()
    assert kinds(story, 2) == [("ACCOUNT", 3), ("COMMIT", 3), ("COMMIT", 4), ("IDENTITY", 5)]
    ours, raw = story.sent[2]
    first, _ = story.sent[3]
    assert ours.marks == Mark.OURS
    assert (ours.base.active, ours.after.active, ours.after.status) == (False, True, None)
    assert first.base == base_of(ours.after)
    assert first.position > ours.position
    said = decode(raw)
    assert isinstance(said, Event)
    assert (said.kind, said.did, said.active, said.status) == (
        Kind.ACCOUNT, did_of(0), True, None,
    )  # fmt: skip
    assert raw[ours.seq_start : ours.seq_end] == b"\x01"
    payload = raw[len(ACCOUNT_HEADER) :]
    assert cbor2.dumps(cbor2.loads(payload), canonical=True) == payload
    assert conserved(story)
    story.log_all()
    assert story.pipeline.counts.originated == Counter(account=1)
    assert story.pipeline.counts.forwarded == Counter(commit=3, account=2, identity=1)
    assert story.drops == []
    assert conserved(story)
    assert story.pipeline.unfinished_bytes == story.feed.unfinished_bytes == 0
    assert story.feed.upstream.finished_seq == 5


def test_two_thousand_wrongly_inactive_accounts_are_all_put_right() -> None:
    """Lesson 46: 2,196 accounts of one host, whose `#account` of their return was missed."""
    story = Story(hopeless_s=0.0, account_rates=NO_RATES)
    dids = [
        f"did:plc:{number:a>24}" for number in (f"{n:x}".translate(_DIGITS) for n in range(2_196))
    ]
    assert len(set(dids)) == 2_196
    seq = 0
    for did in dids:
        story.take(commit(seq + 1, 1, did), account(seq + 2, did, active=False))
        story.resolve(did)
        seq += 2
    story.log_all()
    told = len(story.sent)
    for did in dids:
        story.take(commit(seq + 1, 2, did), commit(seq + 2, 3, did))
        seq += 2
    assert len(story.asked_status) == len(set(story.asked_status)) == 2_196
    for did in dids:
        story.tell(did, active=True)
    assert story.drops == []
    assert len(story.sent) - told == 3 * 2_196
    assert story.pipeline.held == 0
    assert conserved(story)


_DIGITS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


def test_an_account_that_is_inactive_loses_its_commits_and_a_flood_costs_one_question() -> None:
    story = thought_inactive(status_again_s=5.0)
    story.take(*(commit(seq, seq) for seq in range(3, 13)))
    story.tell(active=False, status="deactivated")
    story.take(*(commit(seq, seq) for seq in range(13, 103)))
    assert story.reasons() == [INACTIVE] * 100
    assert story.asked_status == []
    assert len(story.sent) == 2
    # But it is asked again after a while, and then believed.
    story.now_s += 5.0
    story.take(commit(103, 103))
    assert story.asked_status == [(did_of(0), PDS.host)]
    story.tell(active=True)
    assert kinds(story, 2) == [("ACCOUNT", 103), ("COMMIT", 103)]
    assert conserved(story)


def test_an_answer_of_before_the_host_silenced_it_does_not_wake_an_account() -> None:
    story = thought_inactive()
    story.take(commit(3, 2))
    story.tell(active=True)
    story.take(account(4, active=False, status="takendown"))
    story.resolve()
    story.take(commit(5, 3))
    assert story.asked_status == [(did_of(0), PDS.host)]
    story.tell(active=False, status="takendown")
    assert story.reasons() == [INACTIVE]
    assert not story.sent[-1][0].after.active


def test_another_status_is_adopted_and_said() -> None:
    story = thought_inactive("deactivated")
    story.take(commit(3, 2))
    story.tell(active=False, status="takendown")
    assert kinds(story, 2) == [("ACCOUNT", 3)]
    ours, raw = story.sent[2]
    assert (ours.marks, ours.after.active, ours.after.status) == (Mark.OURS, False, "takendown")
    said = decode(raw)
    assert isinstance(said, Event)
    assert (said.active, said.status) == (False, "takendown")
    assert story.reasons() == [INACTIVE]
    # It is said once.
    story.take(commit(4, 3))
    assert len(story.sent) == 3
    assert conserved(story)


@pytest.mark.parametrize(
    "told",
    [
        {"active": False, "status": None},
        {"active": False, "status": None, "known": False},
        {"active": False, "status": "deactivated"},
    ],
    ids=["no reason given", "no answer", "the same"],
)
def test_without_news_the_last_status_is_kept(told: dict[str, Any]) -> None:
    story = thought_inactive("deactivated")
    story.take(commit(3, 2))
    story.tell(**told)
    assert story.reasons() == [INACTIVE]
    assert len(story.sent) == 2


def test_only_the_account_waits_and_what_its_host_says_meanwhile_counts() -> None:
    story = thought_inactive()
    story.take(commit(3, 2), account(4), commit(5, 3))
    story.take(commit(6, 1, did_of(1)))
    story.resolve(did_of(1))
    assert kinds(story, 2) == [("COMMIT", 6)]
    story.tell(active=False, status="deactivated")
    assert kinds(story, 3) == [("ACCOUNT", 4), ("COMMIT", 5)]
    assert story.sent[3][0].marks == 0
    assert [seq for _did, _reason, seq in story.drops] == [3]


def test_a_sync_asks_as_well() -> None:
    story = thought_inactive()
    story.take(identity(3))
    story.resolve()
    assert story.asked_status == []  # S-IDE-07


def test_a_host_that_does_not_say_loses_the_oldest_of_its_flood() -> None:
    size = len(commit(3, 3)) + EVENT_BYTES
    story = thought_inactive(did_held_bytes=size * 3, hopeless_s=15.0)
    story.take(*(commit(seq, seq) for seq in range(3, 10)))
    assert story.drops == []  # not before it had time to answer
    story.now_s += 15
    story.take(commit(10, 10))
    assert [seq for _did, _reason, seq in story.drops] == [3, 4, 5, 6, 7]
    assert set(story.reasons()) == {INACTIVE}
    story.tell(active=True)
    assert kinds(story, 2) == [("ACCOUNT", 8), ("COMMIT", 8), ("COMMIT", 9), ("COMMIT", 10)]
    assert conserved(story)


def test_what_we_say_of_an_outdated_state_is_not_said() -> None:
    """Another process was faster: persist sends both back, and the account is active already."""
    story = thought_inactive()
    story.take(commit(3, 2))
    story.tell(active=True)
    ours, first = (judged for judged, _raw in story.sent[2:])
    newest = ours.after._replace(host=PDS.host)
    story.pipeline.back([(ours.position, newest)], story.now_s)
    assert conserved(story)
    story.pipeline.back([(first.position, newest)], story.now_s)
    assert kinds(story, 4) == [("COMMIT", 3)]
    assert conserved(story)
    assert story.pipeline.counts.dropped == Counter({DropReason.DUPLICATE: 1})
    # No host sent it, so no operator is told that one of a host's messages was dropped.
    assert story.drops == []
    story.log_all()
    assert story.feed.upstream.finished_seq == 3
    assert story.pipeline.unfinished_bytes == 0


def test_what_we_say_is_said_again_if_the_account_is_still_thought_inactive() -> None:
    story = thought_inactive()
    story.take(commit(3, 2))
    story.tell(active=True)
    ours, first = (judged for judged, _raw in story.sent[2:])
    newest = AccountState(tid_text(1 << 10), cid(b"d"), cid(b"c"), False, None, PDS.host)
    story.pipeline.back([(ours.position, newest), (first.position, newest)], story.now_s)
    assert kinds(story, 4) == [("ACCOUNT", 3), ("COMMIT", 3)]
    assert story.asked_status == []
    assert [judged.recall for judged, _raw in story.sent[4:]] == [1, 1]
    story.log_all()
    assert conserved(story)


def test_a_restarted_persist_hears_what_we_said_in_its_place() -> None:
    story = thought_inactive()
    story.take(commit(3, 2))
    story.tell(active=True)
    again = [judged for judged, _raw in story.pipeline.unanswered()]
    assert again == [judged for judged, _raw in story.sent[2:]]
    assert again[0].marks == Mark.OURS


def test_a_tombstoned_account_is_said_to_be_deleted_once() -> None:
    """S-ACC-16."""
    story = Story()
    story.take(commit(1, 1))
    story.resolve()
    story.take(identity(2), commit(3, 2))
    for _ in range(2):
        story.now_s += 3
        story.pipeline.resolved(did_of(0), NotFound("404"), story.now_s, story.now_s)
    assert kinds(story, 1) == [("IDENTITY", 2), ("ACCOUNT", 2)]
    ours, _raw = story.sent[2]
    assert (ours.marks, ours.after.active, ours.after.status) == (Mark.OURS, False, "deleted")
    assert story.reasons() == [DropReason.IDENTITY_NOT_FOUND]
    story.take(identity(4))
    story.now_s += 3
    story.pipeline.resolved(did_of(0), NotFound("404"), story.now_s, story.now_s)
    assert kinds(story, 3) == [("IDENTITY", 4)]
    assert conserved(story)


# --- too many (S-SYN-10, S-IDE-09, S-ACC-19) ---

THREE = dict.fromkeys(Kind, Rate(burst=3, every_s=10.0))


def test_what_is_said_too_often_waits_and_goes_on_in_order() -> None:
    story = Story(account_rates=THREE)
    story.take(*(account(seq) for seq in range(1, 7)), commit(7, 1))
    story.resolve()
    assert story.seqs() == [1, 2, 3]
    assert story.pipeline.held == 4
    # The next token is on its way: ten seconds after the burst began to be used.
    assert 9 < story.alarms[-1] <= 10
    wake(story, 5)
    assert story.seqs() == [1, 2, 3]
    for expected in ([1, 2, 3, 4], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6, 7]):
        wake(story, 10)
        assert story.seqs() == expected
    assert story.drops == []
    assert conserved(story)


def test_a_timer_that_goes_off_too_early_is_set_again() -> None:
    story = Story(account_rates=THREE)
    story.take(*(account(seq) for seq in range(1, 5)))
    story.resolve()
    asked = len(story.alarms)
    wake(story, story.alarms[-1] - 0.0005)
    assert story.seqs() == [1, 2, 3]
    assert len(story.alarms) == asked + 1
    assert 0 < story.alarms[-1] < 0.01
    # One of long before says nothing, and sets no other.
    wake(story, -5.0)
    assert len(story.alarms) == asked + 1
    wake(story, 5.1)
    assert story.seqs() == [1, 2, 3, 4]


def test_a_flood_for_one_account_delays_nobody_else() -> None:
    story = Story(account_rates=THREE)
    other_host = Feed(NEW_PDS, 1, 6, 0)
    story.take(*(account(seq) for seq in range(1, 100)))
    story.resolve()
    story.take(account(100, did_of(1)), identity(101, did_of(1)), commit(102, 1, did_of(1)))
    story.resolve(did_of(1))
    story.take(account(1, did_of(2)), feed=other_host)
    story.resolve(did_of(2), host=NEW_PDS.hostname)
    assert story.seqs() == [1, 2, 3, 100, 101, 102, 1]


def test_a_stranger_uses_up_no_token_of_the_accounts_own_host() -> None:
    story = Story(account_rates=THREE)
    stranger = Feed(NEW_PDS, 1, 6, 0)
    story.take(commit(1, 1))
    story.resolve()
    story.take(*(account(seq, active=False) for seq in range(1, 50)), feed=stranger)
    story.take(account(2), account(3), commit(4, 2))
    assert story.seqs() == [1, 2, 3, 4]


def test_a_flood_over_the_bound_loses_its_oldest_but_not_the_newest_status_nor_commits() -> None:
    size = len(account(1)) + EVENT_BYTES
    story = Story(account_rates=THREE, did_held_bytes=size * 5)
    flood = [account(seq) for seq in range(1, 11)]
    story.take(*flood, account(11, active=False, status="deactivated"))
    story.resolve()
    # Three went at once; those behind wait, and what comes is more than may.
    assert story.seqs() == [1, 2, 3]
    story.take(identity(12), identity(13), identity(14))
    dropped = [seq for _did, _reason, seq in story.drops]
    assert dropped == [4, 5, 6, 7, 8, 9]
    assert set(story.reasons()) == {LIMITED}
    story.take(*(identity(seq) for seq in range(15, 40)))
    assert 11 not in [seq for _did, _reason, seq in story.drops]
    for _ in range(8):
        wake(story, 10)
        story.resolve()
    assert 11 in story.seqs()
    assert story.seqs() == sorted(story.seqs())
    assert not story.sent[-1][0].after.active
    assert conserved(story)


def test_commits_behind_a_flood_go_on_when_it_is_dropped() -> None:
    size = len(commit(1, 1)) + EVENT_BYTES
    story = Story(account_rates=THREE, did_held_bytes=size * 3)
    story.take(commit(1, 1))
    story.resolve()
    story.take(*(identity(seq) for seq in range(2, 6)), commit(6, 2))
    story.resolve()
    assert story.seqs() == [1, 2, 3, 4]
    story.take(commit(7, 3), commit(8, 4))
    assert story.reasons() == [LIMITED]
    while story.pipeline.has_more:
        story.pipeline.judge_more(story.now_s)
    assert story.seqs() == [1, 2, 3, 4, 6, 7, 8]
    # The one that was dropped has given its token back.
    wake(story, 10.1)
    story.take(identity(9))
    story.resolve()
    assert story.seqs()[-1] == 9


def test_a_host_gains_nothing_by_naming_many_accounts() -> None:
    story = Story(host_rates=dict.fromkeys(Kind, Rate(burst=4, every_s=1.0)))
    for number in range(8):
        story.take(account(number + 1, did_of(number)))
        story.resolve(did_of(number))
    assert story.seqs() == [1, 2, 3, 4]
    for number in range(4):
        wake(story, 1.0)
        assert len(story.seqs()) == 5 + number
    assert story.seqs() == list(range(1, 9))


def test_what_comes_back_has_its_token_already() -> None:
    story = Story(account_rates=THREE)
    story.take(*(account(seq) for seq in range(1, 4)))
    story.resolve()
    sent = [judged for judged, _raw in story.sent]
    newest = sent[0].after._replace(host=PDS.host, rev=tid_text(5 << 10))
    story.pipeline.back([(judged.position, newest) for judged in sent], story.now_s)
    assert story.seqs() == [1, 2, 3, 1, 2, 3]
    assert story.pipeline.held == 0


def test_newer_documents_for_one_host_are_asked_for_at_a_rate() -> None:
    """S-IDN-10."""
    story = Story(refresh_rate=Rate(burst=2, every_s=1.0))
    for number in range(5):
        story.take(identity(number + 1, did_of(number)))
    delays = [delay_s for _did, delay_s in story.asked]
    assert delays[:2] == [0.0, 0.0]
    assert [round(delay_s) for delay_s in delays[2:]] == [1, 2, 3]


# --- the time (S-VAL-10) ---


def ahead(story: Story, seq: int, did: str = did_of(0), by_s: float = 3600.0) -> bytes:
    return commit(seq, int((story.now_s + by_s) * 1e6), did)


def feeds(count: int) -> list[Feed]:
    return [Feed(Source(n, f"pds{n}.example.com"), 1, n, 0) for n in range(1, count + 1)]


def test_one_host_with_revs_from_the_future_is_given_a_grace_and_then_dropped() -> None:
    story = Story(grace_s=30.0)
    story.take(ahead(story, 1), identity(2))
    assert story.pipeline.held == 2
    assert story.asked == []
    for _ in range(29):
        wake(story, 1.0)
        assert story.drops == []
    wake(story, 2.0)
    assert story.reasons() == [FUTURE]
    # What stood behind goes on; and what else it says of the future is dropped at once.
    story.resolve()
    assert story.seqs() == [2]
    story.take(ahead(story, 3))
    assert story.reasons() == [FUTURE] * 2
    assert conserved(story)


def test_a_host_whose_other_accounts_are_right_is_given_none() -> None:
    story = Story()
    story.take(ahead(story, 1, did_of(1), by_s=-1.0))
    story.resolve(did_of(1))
    assert story.seqs() == [1]
    story.take(ahead(story, 2))
    assert story.reasons() == [FUTURE]


def test_an_event_from_the_future_delays_its_own_account_alone() -> None:
    story = Story()
    story.take(commit(1, 1, did_of(1)))
    story.resolve(did_of(1))
    story.take(ahead(story, 2), commit(3, 1), commit(4, 2, did_of(1)))
    assert story.seqs() == [1, 4]
    assert story.pipeline.held == 2


def test_when_all_hosts_are_ahead_nothing_is_dropped_and_all_goes_on_in_order_afterwards() -> None:
    size = len(commit(1, 1)) + EVENT_BYTES
    story = Story(did_held_bytes=size * 2, host_held_bytes=size * 3)
    hosts = feeds(4)
    clock = story.pipeline.clock
    clock.set(-3600.0)
    for round_ in range(1, 6):
        for number, feed in enumerate(hosts):
            story.take(ahead(story, round_, did_of(number), by_s=0.0), feed=feed)
        wake(story, 1.0)
    assert clock.is_suspect(story.now_s)
    for _ in range(600):
        wake(story, 1.0)
    assert story.drops == []
    assert story.sent == []
    assert story.pipeline.held == 20
    # Far over their bounds, so that they are no longer read (ingest.turns).
    assert all(feed.unfinished_bytes >= 5 * size for feed in hosts)
    clock.set(0.0)
    wake(story, 1.0)
    for number, feed in enumerate(hosts):
        story.resolve(did_of(number), host=feed.source.hostname)
    for number in range(1, 5):
        assert [j.upstream_seq for j, _ in story.sent if j.host == number] == [1, 2, 3, 4, 5]
    assert story.drops == []
    assert story.pipeline.held == 0
    wake(story, 1.0)
    assert not clock.is_suspect(story.now_s)
    assert conserved(story)


def test_a_clock_that_jumps_moves_no_deadline() -> None:
    """Rates, graces and look-ups are measured by a clock that nobody sets."""
    story = Story(account_rates=THREE, held_s=600.0)
    story.take(*(account(seq) for seq in range(1, 6)))
    story.resolve()
    for distance_s in (-86_400.0, 86_400.0, 0.0):
        story.pipeline.clock.set(distance_s)
        wake(story)
        assert story.seqs() == [1, 2, 3]
    wake(story, 10.0)
    assert story.seqs() == [1, 2, 3, 4]


def sent_of(story: Story, host: int) -> list[Judged]:
    return [judged for judged, _raw in story.sent if judged.host == host]


def test_one_liar_among_three_hosts_is_dropped_while_the_others_flow() -> None:
    story = Story(grace_s=5.0)
    hosts = feeds(3)
    for second in range(1, 11):
        for number, feed in enumerate(hosts):
            by_s = 3600.0 if number == 0 else -0.5
            story.take(ahead(story, second, did_of(number), by_s=by_s), feed=feed)
            if number and second == 1:
                story.resolve(did_of(number), host=feed.source.hostname)
        wake(story, 1.0)
    assert len(sent_of(story, 2)) == len(sent_of(story, 3)) == 10
    assert sent_of(story, 1) == []
    assert set(story.reasons()) == {FUTURE}
    assert len(story.drops) >= 9
