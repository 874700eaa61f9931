"""S-ACC: an account's hosting status, from its host through us to everybody."""

from __future__ import annotations

from typing import Any

import pytest

from broadcast.xrpc import XrpcError, latest_commit_answer, repo_location, repo_status_answer
from common.account_state import state_held
from common.envelope import NEVER_SEEN, Mark
from common.event import Event as ReadEvent
from common.event import decode
from common.verdict import DropReason
from ingest.judge import Accept, NeedFreshIdentity, NeedStatus
from persist.local import Word, marks_of, status_of
from tests.simnet.drisl import encode
from tests.simnet.events import HEADERS, Event, Kind
from tests.spec.line import Line
from tests.spec.rows import row
from tests.spec.scene import NEW_PDS, PDS, STRANGER, Scene, create

INACTIVE = ["takendown", "suspended", "deleted", "deactivated"]


def inactive(status: str) -> Scene:
    """An account that its host has called inactive."""
    scene = Scene()
    scene.state = scene.state._replace(active=False, status=status)
    return scene


def said(scene: Scene, active: Any, **fields: Any) -> Event:
    return scene.message(
        Kind.ACCOUNT,
        {"did": scene.account.did, "time": scene.time(), "active": active, **fields},
    )


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("seq", DropReason.SEQ_INVALID),
        ("did", DropReason.DID_INVALID),
        ("time", DropReason.FIELD_INVALID),
        ("active", DropReason.FIELD_INVALID),
    ],
)
def test_s_acc_01_a_field_that_is_needed_and_missing_costs_the_message(
    field: str, reason: DropReason
) -> None:
    scene = Scene()
    fields = {"seq": 5, "did": scene.account.did, "time": scene.time(), "active": True}
    assert scene.fate(HEADERS[Kind.ACCOUNT] + encode(fields)) is None
    del fields[field]
    assert scene.fate(HEADERS[Kind.ACCOUNT] + encode(fields)) is reason


@pytest.mark.parametrize(
    "fields", [{"active": 1}, {"active": "true"}, {"active": None}, {"status": 5}, {"status": None}]
)
def test_s_acc_01_active_is_a_boolean_and_status_a_text(fields: dict[str, Any]) -> None:
    scene = Scene()
    assert scene.fate(said(scene, **{"active": False, **fields})) is DropReason.FIELD_INVALID


def test_s_acc_02_it_is_the_status_at_the_host_that_says_it_and_nothing_more() -> None:
    scene = Scene()
    known = scene.state
    assert scene.fate(said(scene, active=False, status="suspended")) is None
    assert scene.state == known._replace(active=False, status="suspended")
    assert scene.fate(said(scene, active=True)) is None
    assert scene.state == known


def test_s_acc_03_active_decides_and_status_only_refines() -> None:
    scene = Scene()
    scene.verdict(said(scene, active=True, status="suspended"))
    assert scene.state.active
    assert scene.fate(scene.commit([create()])) is None
    scene.verdict(said(scene, active=False, status="desynchronized"))
    assert not scene.state.active
    assert scene.fate(scene.commit([create("com.example.note/b")])) is DropReason.ACCOUNT_INACTIVE


@pytest.mark.parametrize("status", INACTIVE)
def test_s_acc_04_known_statuses_stop_content(status: str) -> None:
    scene = Scene()
    assert scene.fate(said(scene, active=False, status=status)) is None
    answer = repo_status_answer(row(scene.account.did, scene.state), scene.account.did)
    assert answer == {"did": scene.account.did, "active": False, "status": status}
    assert scene.fate(scene.commit([create()])) is DropReason.ACCOUNT_INACTIVE


@pytest.mark.parametrize("status", ["desynchronized", "throttled"])
def test_s_acc_04_two_statuses_leave_an_account_active(status: str) -> None:
    scene = Scene()
    assert scene.fate(said(scene, active=True, status=status)) is None
    assert scene.fate(scene.commit([create()])) is None
    assert (scene.state.active, scene.state.status) == (True, status)


@pytest.mark.parametrize("status", ["", "on-holiday", "Ω", "x" * 64])
def test_s_acc_05_unknown_statuses_are_kept(status: str) -> None:
    scene = Scene()
    assert scene.fate(said(scene, active=False, status=status)) is None
    assert scene.state.status == status


def test_s_acc_05_a_status_is_kept_within_reason() -> None:
    scene = Scene()
    assert scene.fate(said(scene, active=False, status="x" * 65)) is DropReason.FIELD_INVALID


def test_s_acc_06_inactive_without_a_status_gives_no_reason() -> None:
    scene = Scene()
    assert scene.fate(said(scene, active=False)) is None
    assert (scene.state.active, scene.state.status) == (False, None)
    answer = repo_status_answer(row(scene.account.did, scene.state), scene.account.did)
    assert answer == {"did": scene.account.did, "active": False}


def decide(scene: Scene, word: Word) -> bool:
    """This relay's own word on the account; whether that changes anything."""
    marks = marks_of(scene.state, word)
    if marks is not None:
        scene.state = state_held(scene.state, scene.host.host, marks)
    return marks is not None


def test_s_acc_07_both_statuses_are_kept_and_the_combination_is_published() -> None:
    scene = Scene()
    assert decide(scene, Word.THROTTLE)
    assert status_of(scene.state) == (False, "throttled")
    assert decide(scene, Word.TAKE_DOWN)
    assert status_of(scene.state) == (False, "takendown")
    # The host's own status is taken down meanwhile, and published when ours is lifted.
    assert scene.fate(said(scene, active=False, status="suspended")) is None
    assert status_of(scene.state) == (False, "takendown")
    assert decide(scene, Word.REVERSE)
    assert status_of(scene.state) == (False, "throttled")
    assert decide(scene, Word.RELEASE)
    assert status_of(scene.state) == (False, "suspended")
    assert scene.fate(said(scene, active=True)) is None
    assert status_of(scene.state) == (True, None)


@pytest.mark.parametrize(
    ("word", "back", "reason"),
    [
        (Word.TAKE_DOWN, Word.REVERSE, DropReason.ACCOUNT_TAKEN_DOWN),
        (Word.THROTTLE, Word.RELEASE, DropReason.ACCOUNT_THROTTLED),
    ],
)
def test_s_acc_10_what_this_relay_has_decided_stands_above_the_hosts_word(
    word: Word, back: Word, reason: DropReason
) -> None:
    scene = Scene()
    assert decide(scene, word)
    assert not decide(scene, word)
    assert scene.fate(scene.commit([create()])) is reason
    assert scene.fate(said(scene, active=True)) is None
    assert scene.fate(scene.commit([create()])) is reason
    assert scene.fate(scene.message(Kind.IDENTITY, {"did": scene.account.did, "time": scene.time()})) is None  # fmt: skip
    assert decide(scene, back)
    assert not decide(scene, back)
    assert scene.fate(scene.commit([create("com.example.note/after")])) is None


@pytest.mark.parametrize("status", [*INACTIVE, None, "on-holiday"])
def test_s_acc_08_nobody_is_told_that_an_inactive_account_is_active(status: str | None) -> None:
    scene = Scene()
    fields = {} if status is None else {"status": status}
    scene.verdict(said(scene, active=False, **fields))
    did = scene.account.did
    answer = repo_status_answer(row(did, scene.state), did)
    assert answer["active"] is False
    # S-ACC-06: a rev would say that there is something to have.
    assert "rev" not in answer


def test_s_acc_09_a_status_that_the_relay_finds_out_itself_is_told_to_all() -> None:
    line = Line(scene=inactive("deactivated"))
    scene = line.scene
    line.take(scene.account.identity())
    line.answer()
    line.take(scene.commit([create()]))
    line.status(active=True)
    _identity, ours, commit = line.sent
    assert ours.marks & Mark.OURS
    # It is told apart from the host's own by its mark, and names the event that made us ask.
    assert (ours.upstream_seq, commit.upstream_seq) == (2, 2)
    assert ours.after == ours.after._replace(active=True, status=None)
    found = decode(line.persist.frames[1])
    assert isinstance(found, ReadEvent)
    assert (found.did, found.active, found.status) == (scene.account.did, True, None)
    assert commit.base.active


def test_s_acc_09_what_others_have_told_meanwhile_is_not_told_again() -> None:
    line = Line(scene=inactive("deactivated"))
    scene = line.scene
    line.take(scene.commit([create()]))
    line.answer()
    line.held_up = True
    line.status(active=True)
    # Another process has heard the host itself say so.
    line.persist.accounts.change(
        scene.account.did, line.state._replace(active=True, status=None), 1
    )
    line.held_up = False
    line.deliver()
    assert [(judged.kind, judged.marks) for judged in line.sent] == [(1, 0)]
    assert line.drops == []


def test_s_acc_11_only_the_accounts_present_host_is_heard() -> None:
    scene = Scene()
    event = said(scene, active=False, status="deactivated")
    assert scene.fate(event, source=STRANGER) is DropReason.HOST_NOT_AUTHORITATIVE
    moved = scene.identity(NEW_PDS)
    assert scene.fate(event, source=PDS, identity=moved) is DropReason.HOST_NOT_AUTHORITATIVE
    assert scene.state.active
    assert scene.fate(event) is None


@pytest.mark.parametrize("status", [*INACTIVE, None])
def test_s_acc_12_while_it_is_not_active_nothing_of_it_is_passed_on(status: str | None) -> None:
    scene = Scene()
    did = scene.account.did
    scene.verdict(said(scene, active=False, **({} if status is None else {"status": status})))
    assert scene.fate(scene.commit([create()])) is DropReason.ACCOUNT_INACTIVE
    sync = scene.synced(scene.account.repo.commit_block)
    assert scene.fate(sync) is DropReason.ACCOUNT_INACTIVE
    with pytest.raises(XrpcError):
        repo_location(row(did, scene.state), did, "/xrpc/com.atproto.sync.getRepo", f"did={did}")
    with pytest.raises(XrpcError):
        latest_commit_answer(row(did, scene.state), did)
    # What is no content passes.
    assert scene.fate(scene.account.identity()) is None
    assert scene.fate(said(scene, active=False, status="deleted")) is None


def test_s_acc_13_a_deleted_account_is_silent_at_once_and_may_come_back() -> None:
    scene = Scene()
    assert scene.fate(said(scene, active=False, status="deleted")) is None
    assert scene.fate(scene.commit([create()])) is DropReason.ACCOUNT_INACTIVE
    assert scene.fate(said(scene, active=True)) is None
    assert scene.fate(scene.commit([create("com.example.note/b")])) is None


@pytest.mark.parametrize("status", ["deactivated", "suspended", "takendown"])
def test_s_acc_14_these_stop_an_account_and_forget_nothing_of_it(status: str) -> None:
    scene = Scene()
    rev = scene.state.rev
    assert scene.fate(said(scene, active=False, status=status)) is None
    assert scene.state.rev == rev
    assert scene.fate(scene.commit([create()])) is DropReason.ACCOUNT_INACTIVE


def test_s_acc_15_only_the_present_host_may_reactivate() -> None:
    scene = Scene()
    scene.verdict(said(scene, active=False, status="deactivated"))
    back = said(scene, active=True)
    assert scene.fate(back, source=STRANGER) is DropReason.HOST_NOT_AUTHORITATIVE
    moved = scene.identity(NEW_PDS)
    assert scene.fate(back, identity=moved) is DropReason.HOST_NOT_AUTHORITATIVE
    assert not scene.state.active
    assert scene.fate(back, source=NEW_PDS, identity=moved) is None
    assert scene.state.active
    assert scene.state.host == NEW_PDS.host


def test_s_acc_16_an_identity_that_was_tombstoned_counts_as_deleted() -> None:
    line = Line()
    scene = line.scene
    line.take(scene.commit([create()]))
    line.answer()
    assert len(line.sent) == 1
    line.take(scene.account.identity())
    line.answer_not_found()
    told = line.sent[1:]
    ours = [judged for judged in told if judged.marks & Mark.OURS]
    assert [(judged.after.active, judged.after.status) for judged in ours] == [(False, "deleted")]


def test_s_acc_17_a_host_that_cannot_be_reached_leaves_the_last_status() -> None:
    line = Line(scene=inactive("suspended"))
    scene = line.scene
    line.take(scene.commit([create()]))
    line.answer()
    line.status(known=False)
    assert line.reasons == [DropReason.ACCOUNT_INACTIVE]
    assert line.sent == []
    assert (line.state.active, line.state.status) == (False, "suspended")


def test_s_acc_18_before_an_event_is_dropped_the_host_is_asked_once() -> None:
    line = Line(scene=inactive("deactivated"))
    scene = line.scene
    line.take(scene.commit([create("com.example.note/1")]))
    line.take(scene.commit([create("com.example.note/2")]))
    line.answer()
    assert line.asked_status == [(scene.account.did, PDS.host)]
    assert (line.sent, line.drops) == ([], [])
    line.status(active=True)
    assert [judged.marks & Mark.OURS for judged in line.sent] == [Mark.OURS, 0, 0]
    assert line.drops == []


def test_s_acc_18_an_account_that_is_inactive_stays_so() -> None:
    line = Line(scene=inactive("deactivated"))
    scene = line.scene
    line.take(scene.commit([create("com.example.note/1")]))
    line.answer()
    line.status(active=False, status="deactivated")
    assert line.reasons == [DropReason.ACCOUNT_INACTIVE]


def test_s_acc_18_a_host_that_has_no_say_is_not_asked() -> None:
    scene = Scene()
    inactive = scene.state._replace(active=False)
    event = scene.commit([create()])
    fate = scene.fate(event, source=STRANGER, state=inactive, asked=False)
    assert fate is DropReason.HOST_NOT_AUTHORITATIVE
    assert isinstance(scene.verdict(event, state=inactive, asked=False), NeedStatus)


def test_s_acc_19_a_status_that_keeps_changing_waits_and_the_newest_is_what_stays() -> None:
    line = Line()
    scene = line.scene
    for i in range(300):
        line.take(said(scene, active=i % 2 == 0, **({} if i % 2 == 0 else {"status": "suspended"})))
        line.answer()
    assert 0 < len(line.sent) < 300
    line.passes(7200.0)
    assert (line.state.active, line.state.status) == (False, "suspended")


def test_s_acc_20_nothing_is_known_of_an_account_that_was_never_seen() -> None:
    with pytest.raises(XrpcError) as caught:
        repo_status_answer(None, "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
    assert (caught.value.status, caught.value.error) == (404, "RepoNotFound")


def test_s_acc_21_status_and_identity_pass_for_an_account_without_any_repository() -> None:
    scene = Scene(records=None)
    assert scene.state == NEVER_SEEN
    assert scene.fate(scene.account.identity()) is None
    assert isinstance(scene.verdict(said(scene, active=True)), Accept)
    assert isinstance(scene.verdict(said(scene, active=False), fresh=False), NeedFreshIdentity)
    assert scene.fate(said(scene, active=False, status="suspended")) is None
    assert scene.state.rev is None
