"""What passes the judge, and what it leads to. What is dropped: test_judge_reasons.py."""

from __future__ import annotations

from typing import Any

import pytest

from common.cid import RAW_PREFIX
from common.envelope import NEVER_SEEN, AccountState, Mark
from common.event import Event
from common.syntax import tid_text
from common.verdict import Drop, DropReason, Level
from ingest.did_document import Broken, NotFound
from ingest.judge import (
    COMMIT_STEPS,
    SYNC_STEPS,
    Accept,
    Known,
    NeedFreshIdentity,
    NeedStatus,
    Source,
    counts_as_deleted,
    judge_early,
)
from ingest.steps import check_same_commit
from tests.common.commits import DID, NODE, REV, SINCE, car, cid, commit_block
from tests.ingest.events_by_hand import (
    ELSEWHERE,
    EXPECTED,
    HOST,
    NEW,
    NOW_S,
    OTHER,
    STATE,
    account,
    commit,
    identity,
    judged,
    sync,
)

OBSERVED = HOST._replace(level=Level.OBSERVE)
INACTIVE = STATE._replace(active=False, status="deactivated")


def accepted(of: Event, **given: Any) -> Accept:
    found = judged(of, **given)
    assert isinstance(found, Accept), found
    return found


# --- commits ---


def test_a_good_commit_moves_its_account() -> None:
    assert judged(commit()) == EXPECTED
    assert judged(commit(), fresh=False, asked=False) == EXPECTED


def test_a_commit_keeps_what_the_host_said_of_the_account() -> None:
    state = STATE._replace(status="throttled")
    assert accepted(commit(), state=state).after.status == "throttled"


def test_a_rev_at_the_edge_of_the_skew_passes() -> None:
    accepted(commit(rev=NEW))
    one_more = tid_text((int((NOW_S + 300) * 1e6) + 1) << 10)
    assert isinstance(judged(commit(rev=one_more)), Drop)


def test_a_first_rev_may_be_as_old_as_it_likes() -> None:
    accepted(commit(rev="2222222222222"), state=NEVER_SEEN)


# --- the chain: S-DSY ---


def mark_of(of: Event, state: AccountState = STATE, source: Source = HOST) -> int:
    return accepted(of, state=state, source=source).marks


@pytest.mark.parametrize(
    ("of", "state", "gap"),
    [
        pytest.param(commit(), STATE, False, id="since and prevData are ours"),
        pytest.param(commit(since="3mptbwv4pn22u"), STATE, True, id="another since"),
        pytest.param(commit(), STATE._replace(data=cid(b"x")), True, id="another prevData"),
        pytest.param(
            commit(), STATE._replace(rev="3mptbwv4pn22u", data=cid(b"x")), True, id="both are others"
        ),
        pytest.param(commit(since=None), STATE, False, id="since is null, prevData is ours"),
        pytest.param(
            commit(since=None), STATE._replace(data=cid(b"x")), True,
            id="since is null, another prevData",
        ),
        pytest.param(commit(), NEVER_SEEN, False, id="the first that we see"),
        pytest.param(commit(since=None), NEVER_SEEN, False, id="the first that there is"),
        pytest.param(
            commit(since=None, prevData=...), NEVER_SEEN, False, id="the first, without prevData"
        ),
        pytest.param(
            commit(), NEVER_SEEN._replace(host=3, status="x"), False, id="the first after #account"
        ),
        pytest.param(commit(), STATE._replace(host=9), False, id="the first of the new host"),
    ],
)  # fmt: skip
def test_what_does_not_follow_from_the_state_passes_marked(
    of: Event, state: AccountState, gap: bool
) -> None:
    found = accepted(of, state=state)
    assert found.marks == (Mark.DISCONTINUOUS if gap else 0)
    assert found.after == EXPECTED.after._replace(
        status=state.status, desynchronized=gap, discontinuities=int(gap)
    )
    assert found.waived is None


def test_a_gap_lasts_through_commits_that_follow_until_a_newer_sync() -> None:
    state = STATE._replace(desynchronized=True, discontinuities=1)
    found = accepted(commit(), state=state)
    assert found.marks == 0
    assert (found.after.desynchronized, found.after.discontinuities) == (True, 1)
    found = accepted(sync(), state=state)
    assert (found.after.desynchronized, found.after.discontinuities) == (False, 1)
    same = state._replace(rev=REV, commit=cid(commit_block()), data=cid(NODE))
    assert accepted(sync(), state=same).after == same


# --- syncs ---


def test_a_sync_sets_a_new_state_whatever_was_before() -> None:
    assert judged(sync(), state=STATE._replace(data=cid(b"x"))) == EXPECTED
    assert judged(sync(), state=NEVER_SEEN) == EXPECTED


def test_a_sync_of_the_very_state_passes_and_changes_nothing() -> None:
    state = EXPECTED.after
    assert judged(sync(), state=state) == Accept(state)


def test_a_sync_may_carry_blocks_that_nobody_needs() -> None:
    assert judged(sync(blocks=car([cid(commit_block())], [NODE, commit_block()]))) == EXPECTED


def test_a_sync_names_its_commit_by_a_cid_of_the_right_kind() -> None:
    # As a blob the block has another name, under which nobody else would find the commit.
    block = commit_block()
    name = RAW_PREFIX + cid(block)[4:]
    found = judged(sync(blocks=car([name], [block], names=[name])))
    assert isinstance(found, Drop)
    assert found.reason is DropReason.COMMIT_MISSING


def test_the_commit_after_a_sync_that_was_not_signed_again_follows_the_old_host() -> None:
    # What a real host sends after a migration: the old head under a rev of the import.
    old_head = commit_block(rev=SINCE, key=OTHER)
    found = judged(sync(old_head), state=STATE._replace(host=9))
    assert isinstance(found, Drop)
    assert found.reason is DropReason.SYNC_NOT_RESIGNED
    assert judged(commit(), state=STATE._replace(host=9)) == EXPECTED


def test_commits_and_syncs_share_their_steps() -> None:
    assert set(SYNC_STEPS) - set(COMMIT_STEPS) == {check_same_commit}


# --- accounts ---


@pytest.mark.parametrize(
    ("active", "status"),
    [
        (False, "deleted"),
        (False, "takendown"),
        (False, ...),
        (False, "x"),
        (True, ...),
        (True, "throttled"),
        (True, "desynchronized"),
        (True, "takendown"),
    ],
)
def test_an_account_event_sets_the_status_and_nothing_else(active: bool, status: Any) -> None:
    found = judged(account(active=active, status=status), state=INACTIVE._replace(host=9))
    kept = None if status is ... else status
    assert found == Accept(STATE._replace(active=active, status=kept, host=3))


def test_an_account_may_begin_with_any_kind_of_event() -> None:
    assert accepted(account(active=True, status=...), state=NEVER_SEEN).after == (
        NEVER_SEEN._replace(host=3)
    )
    assert accepted(identity(), state=NEVER_SEEN).after == NEVER_SEEN
    assert accepted(sync(), state=NEVER_SEEN) == accepted(commit(), state=NEVER_SEEN) == EXPECTED


def test_to_silence_an_account_takes_a_document_of_now() -> None:
    # A former host says "deactivated" of an account that has just left it.
    assert isinstance(judged(account(), fresh=False), NeedFreshIdentity)
    assert isinstance(judged(account()), Accept)
    assert isinstance(judged(account(active=True), fresh=False), Accept)


@pytest.mark.parametrize("of", [commit(), sync()], ids=["commit", "sync"])
def test_an_inactive_accounts_own_host_is_asked_before_it_is_contradicted(of: Event) -> None:
    assert judged(of, state=INACTIVE, asked=False) == NeedStatus("deactivated")
    found = judged(of, state=INACTIVE, source=ELSEWHERE, asked=False)
    assert isinstance(found, Drop)
    assert found.reason is DropReason.HOST_NOT_AUTHORITATIVE
    found = judged(of, state=INACTIVE)
    assert isinstance(found, Drop)
    assert found.reason is DropReason.ACCOUNT_INACTIVE


def test_a_deleted_account_may_come_back() -> None:
    deleted = STATE._replace(active=False, status="deleted")
    found = accepted(account(active=True, status=...), state=deleted)
    assert found.after == STATE
    assert judged(commit(), state=found.after) == EXPECTED


@pytest.mark.parametrize(
    ("did", "known", "state", "counts"),
    [
        pytest.param(DID, NotFound("gone"), STATE, True, id="tombstoned"),
        pytest.param(DID, NotFound("gone"), INACTIVE, True, id="was inactive"),
        pytest.param(
            DID, NotFound("gone"), INACTIVE._replace(status="deleted"), False, id="deleted already"
        ),
        pytest.param(
            DID, NotFound("gone"), STATE._replace(status="deleted"), True, id="active, oddly"
        ),
        pytest.param(DID, NotFound("gone"), NEVER_SEEN, False, id="never seen"),
        pytest.param(DID, Broken("no key"), STATE, False, id="broken"),
        pytest.param("did:web:a.example.com", NotFound("404"), STATE, False, id="did:web"),
    ],
)
def test_a_tombstoned_did_counts_as_deleted(
    did: str, known: Known, state: AccountState, counts: bool
) -> None:
    assert counts_as_deleted(did, known, state) is counts


# --- identities ---


def test_an_identity_event_passes_from_any_host_and_changes_nothing() -> None:
    assert judged(identity(), source=ELSEWHERE) == Accept(STATE)
    assert judged(identity(), Broken("x"), source=ELSEWHERE) == Accept(STATE)
    assert judged(identity(), NotFound("x")) == Accept(STATE)
    assert judged(identity(), state=INACTIVE) == Accept(INACTIVE)
    assert judged(identity(handle="handle.invalid")) == Accept(STATE)


def test_an_identity_event_of_nobody_is_dropped() -> None:
    found = judged(identity(), NotFound("x"), NEVER_SEEN)
    assert isinstance(found, Drop)
    assert (found.reason, found.seq) == (DropReason.IDENTITY_NOT_FOUND, 6)


# --- migration ---


@pytest.mark.parametrize("of", [commit(), sync(), account()], ids=["commit", "sync", "account"])
def test_where_another_host_spoke_last_the_document_is_looked_up_again(of: Event) -> None:
    moved = STATE._replace(host=9)
    found = judged(of, state=moved, fresh=False)
    assert isinstance(found, NeedFreshIdentity)
    assert found.otherwise is DropReason.HOST_NOT_AUTHORITATIVE
    assert accepted(of, state=moved).after.host == 3


@pytest.mark.parametrize("of", [commit(), sync(), account()], ids=["commit", "sync", "account"])
def test_a_former_host_has_no_say_once_the_document_names_another(of: Event) -> None:
    # S-AUT-05: even if the new one has said nothing yet.
    former = Source(8, "former.example.com")
    found = judged(of, state=STATE._replace(host=8), source=former)
    assert isinstance(found, Drop)
    assert found.reason is DropReason.HOST_NOT_AUTHORITATIVE


# --- the level `observe` ---


@pytest.mark.parametrize(
    ("of", "reason"),
    [pytest.param(commit(prevData=...), DropReason.PREV_DATA_MISSING, id="no prevData")],
)
def test_what_a_strict_host_would_lose_is_waived_and_told(of: Event, reason: DropReason) -> None:
    assert judged(of, source=OBSERVED) == EXPECTED._replace(marks=int(Mark.WAIVED), waived=reason)
    found = judged(of)
    assert isinstance(found, Drop)
    assert found.reason is reason


def test_without_prev_data_the_chain_is_held_by_since_alone() -> None:
    found = accepted(commit(prevData=..., since=SINCE), source=OBSERVED)
    assert found.marks == Mark.WAIVED
    for since in (None, "3mptbwv4pn22u"):
        found = accepted(commit(prevData=..., since=since), source=OBSERVED)
        assert found.marks == Mark.WAIVED | Mark.DISCONTINUOUS
        assert found.after.discontinuities == 1


def test_a_gap_is_a_gap_at_either_level() -> None:
    of, state = commit(), STATE._replace(data=cid(b"x"))
    assert judged(of, state=state, source=OBSERVED) == judged(of, state=state)


def test_what_is_sound_is_not_waived_anything() -> None:
    assert judged(commit(), source=OBSERVED) == EXPECTED


# --- what else the callers lean on ---


def test_replays_need_no_document() -> None:
    early = judge_early(commit(), STATE._replace(rev=REV), NOW_S)
    assert early is not None
    assert early.reason is DropReason.REV_NOT_NEWER
    assert judge_early(commit(), STATE, NOW_S) is None
    assert judge_early(identity(), STATE, NOW_S) is None


def test_a_rev_of_the_future_needs_no_document() -> None:
    early = judge_early(commit(), STATE, NOW_S - 1e8)
    assert early is not None
    assert early.reason is DropReason.REV_IN_FUTURE


def test_for_what_this_relay_holds_back_no_document_is_looked_up() -> None:
    held = STATE._replace(local="throttled", over_limit=True)
    early = judge_early(commit(), held, NOW_S)
    assert isinstance(early, Drop)
    assert early.reason is DropReason.ACCOUNT_THROTTLED
    assert judge_early(identity(), held, NOW_S) is None


def test_who_is_refused_is_told_whom_the_document_names() -> None:
    found = judged(commit(), source=ELSEWHERE)
    assert isinstance(found, Drop)
    assert found.detail == "other.example.com, not pds.example.com"


def test_a_detail_is_never_longer_than_a_line() -> None:
    found = judged(commit(), Broken("x" * 9999))
    assert isinstance(found, Drop)
    assert len(found.detail) <= 200
