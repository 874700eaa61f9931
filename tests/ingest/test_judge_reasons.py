"""For each reason there is an event that one step alone refuses.

A fault names the step that must find it. That step is then taken out of its list, or, where others
live on what it reads, put in order as if it had read something good; and the event passes. So each
event shows that the step is needed, and each step that it can fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import pytest

from common.car import Car, walk
from common.commit import SignedCommit, open_commit
from common.envelope import NEVER_SEEN
from common.event import Event
from common.verdict import Drop, DropReason
from ingest.did_document import Broken, NotFound
from ingest.judge import STEPS, Accept, NeedFreshIdentity, NeedStatus
from ingest.signature import K256Key
from ingest.steps import (
    Case,
    Step,
    check_account_is_active,
    check_authority,
    check_car,
    check_chain,
    check_commit,
    check_identity,
    check_prev_data_is_there,
    check_rev_is_newer,
    check_rev_is_not_ahead,
    check_same_commit,
    check_signature,
    check_silencing_is_fresh,
)
from tests.common.commits import (
    NODE,
    RECORD,
    REV,
    SINCE,
    car,
    cid,
    commit_block,
    encode,
    link,
)
from tests.ingest.events_by_hand import (
    ELSEWHERE,
    HOST,
    IDENTITY,
    NEW,
    NOW_S,
    OTHER,
    STATE,
    TOO_NEW,
    account,
    commit,
    event,
    judged,
    sync,
)

GOOD: Final = commit_block()
OTHER_KEY: Final = IDENTITY._replace(key=K256Key(OTHER.public_key.format()))
NO_ROOT: Final = encode({"roots": [], "version": 1})


class Fault(NamedTuple):
    """One wrong event. given: what else is not as it should be, as `judged` takes it.

    as_if: what the step would have left behind, had it found nothing wrong.
    """

    reason: DropReason
    of: Event
    step: Step
    given: Mapping[str, Any] = MappingProxyType({})
    as_if: Callable[[Case], None] | None = None

    def event(self) -> Event:
        """The event as it came: a step may have taken its own reading down in it."""
        return event(self.of.raw)


def known(case: Case) -> None:
    """As if the identity were all right."""
    case.identity = IDENTITY


def well_read(case: Case) -> None:
    """As if the CAR were the good one."""
    found = walk(commit().blocks)
    assert isinstance(found, Car)
    case.car = found
    case.event.commit = cid(GOOD)


def well_signed(case: Case) -> None:
    """As if the commit were the good one; its tree is what was sent."""
    found = open_commit(GOOD, case.event.did, REV)
    assert isinstance(found, SignedCommit)
    case.signed = found


FAULTS: Final[dict[str, Fault]] = {
    "a repeated rev": Fault(
        DropReason.REV_NOT_NEWER, commit(rev=SINCE), check_rev_is_newer
    ),
    "an older rev": Fault(
        DropReason.REV_NOT_NEWER, commit(), check_rev_is_newer, {"state": STATE._replace(rev=NEW)}
    ),
    "a rev of the future": Fault(
        DropReason.REV_IN_FUTURE, commit(rev=TOO_NEW), check_rev_is_not_ahead
    ),
    "a document that names no key": Fault(
        DropReason.IDENTITY_BROKEN, commit(), check_identity, {"identity": Broken("x")}, known
    ),
    "a DID that nobody knows": Fault(
        DropReason.IDENTITY_NOT_FOUND, commit(), check_identity, {"identity": NotFound("x")}, known
    ),
    "a foreign host": Fault(
        DropReason.HOST_NOT_AUTHORITATIVE, commit(), check_authority, {"source": ELSEWHERE}
    ),
    "another port": Fault(
        DropReason.HOST_NOT_AUTHORITATIVE, commit(), check_authority,
        {"source": ELSEWHERE._replace(hostname="pds.example.com:8443")},
    ),
    "an inactive account": Fault(
        DropReason.ACCOUNT_INACTIVE, commit(), check_account_is_active,
        {"state": STATE._replace(active=False, status="takendown")},
    ),
    "no CAR": Fault(
        DropReason.CAR_MALFORMED, commit(blocks=b"x"), check_car, as_if=well_read
    ),
    "no root": Fault(
        DropReason.CAR_NO_ROOT, commit(blocks=bytes([len(NO_ROOT)]) + NO_ROOT), check_car,
        as_if=well_read,
    ),
    "a wrong hash": Fault(
        DropReason.CAR_BLOCK_MISMATCH,
        commit(blocks=car([cid(GOOD)], [GOOD, NODE], [cid(GOOD), cid(RECORD)])), check_car,
        as_if=well_read,
    ),
    "another root": Fault(
        DropReason.COMMIT_MISMATCH, commit(commit=link(cid(NODE))), check_car, as_if=well_read
    ),
    "no commit": Fault(
        DropReason.COMMIT_MISSING, commit(blocks=car([cid(GOOD)], [NODE, RECORD])), check_commit,
        as_if=well_signed,
    ),
    "a commit of version 2": Fault(
        DropReason.COMMIT_MALFORMED, commit(commit_block(version=2)), check_commit,
        as_if=well_signed,
    ),
    "another signed rev": Fault(
        DropReason.COMMIT_MISMATCH, commit(commit_block(rev=NEW)), check_commit, as_if=well_signed
    ),
    "another signed DID": Fault(
        DropReason.COMMIT_MISMATCH, commit(commit_block(did="did:plc:" + "a" * 24)), check_commit,
        as_if=well_signed,
    ),
    "another key": Fault(
        DropReason.SIGNATURE_INVALID, commit(commit_block(key=OTHER)), check_signature
    ),
    "no key at all": Fault(
        DropReason.SIGNATURE_INVALID, commit(commit_block(sig=bytes(64))), check_signature
    ),
    "a key of the past": Fault(
        DropReason.SIGNATURE_INVALID, commit(), check_signature, {"identity": OTHER_KEY}
    ),
    "no prevData": Fault(
        DropReason.PREV_DATA_MISSING, commit(prevData=...), check_prev_data_is_there
    ),
    "no prevData, and since is null": Fault(
        DropReason.PREV_DATA_MISSING, commit(prevData=..., since=None), check_prev_data_is_there
    ),
    "no prevData at first sight of a later commit": Fault(
        DropReason.PREV_DATA_MISSING, commit(prevData=...), check_prev_data_is_there,
        {"state": NEVER_SEEN},
    ),
    "sync: an older rev": Fault(
        DropReason.REV_NOT_NEWER, sync(), check_rev_is_newer, {"state": STATE._replace(rev=NEW)}
    ),
    "sync: another commit under our rev": Fault(
        DropReason.REV_NOT_NEWER, sync(rev=SINCE), check_same_commit
    ),
    "sync: a rev of the future": Fault(
        DropReason.REV_IN_FUTURE, sync(rev=TOO_NEW), check_rev_is_not_ahead
    ),
    "sync: a document that names no key": Fault(
        DropReason.IDENTITY_BROKEN, sync(), check_identity, {"identity": Broken("x")}, known
    ),
    "sync: a foreign host": Fault(
        DropReason.HOST_NOT_AUTHORITATIVE, sync(), check_authority, {"source": ELSEWHERE}
    ),
    "sync: an inactive account": Fault(
        DropReason.ACCOUNT_INACTIVE, sync(), check_account_is_active,
        {"state": STATE._replace(active=False)},
    ),
    "sync: no CAR": Fault(
        DropReason.CAR_MALFORMED, sync(blocks=b"x"), check_car, as_if=well_read
    ),
    "sync: no commit": Fault(
        DropReason.COMMIT_MISSING, sync(blocks=car([cid(GOOD)], [NODE])), check_commit,
        as_if=well_signed,
    ),
    "sync: the commit of an earlier rev": Fault(
        DropReason.SYNC_NOT_RESIGNED, sync(commit_block(rev=SINCE)), check_commit,
        as_if=well_signed,
    ),
    "sync: another signed DID": Fault(
        DropReason.COMMIT_MISMATCH, sync(commit_block(did="did:plc:" + "a" * 24)), check_commit,
        as_if=well_signed,
    ),
    "sync: another key": Fault(
        DropReason.SIGNATURE_INVALID, sync(commit_block(key=OTHER)), check_signature
    ),
    "account: a foreign host": Fault(
        DropReason.HOST_NOT_AUTHORITATIVE, account(), check_authority, {"source": ELSEWHERE}
    ),
    "account: a document that names no host": Fault(
        DropReason.IDENTITY_BROKEN, account(), check_identity, {"identity": Broken("x")}, known
    ),
    "account: a DID that nobody knows": Fault(
        DropReason.IDENTITY_NOT_FOUND, account(), check_identity, {"identity": NotFound("x")}, known
    ),
}  # fmt: skip

NOT_THE_JUDGES: Final = {
    # What the decoder says: tests/common/test_event_reasons.py.
    DropReason.FRAME_TOO_LARGE, DropReason.MALFORMED_FRAME, DropReason.UNKNOWN_OP,
    DropReason.UNKNOWN_TYPE, DropReason.SEQ_INVALID, DropReason.FIELD_INVALID,
    DropReason.DID_INVALID, DropReason.REV_INVALID, DropReason.BLOCKS_TOO_LARGE,
    DropReason.TOO_MANY_OPS, DropReason.OP_INVALID,
    # What belongs to a connection, or to the order and number of events.
    DropReason.TEXT_FRAME, DropReason.SEQ_NOT_RISING, DropReason.DUPLICATE,
    DropReason.RATE_LIMITED, DropReason.IDENTITY_UNRESOLVED,
}  # fmt: skip

each_fault: Final = pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))


@each_fault
def test_a_wrong_event_is_dropped_for_its_fault(fault: Fault) -> None:
    found = judged(fault.event(), **fault.given)
    assert isinstance(found, Drop), found
    assert (found.reason, found.seq) == (fault.reason, fault.of.seq)


@each_fault
def test_it_is_one_step_that_finds_the_fault(fault: Fault) -> None:
    given = {"identity": IDENTITY, "state": STATE, "source": HOST, **fault.given}
    case = Case(fault.event(), **given, now_s=NOW_S, fresh=True, asked=True)
    failed = next(step for step in STEPS[fault.of.kind] if step(case) is not None)
    assert failed is fault.step


@each_fault
def test_without_that_step_the_event_passes(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[Step] = []
    for step in STEPS[fault.of.kind]:
        if step is not fault.step:
            steps.append(step)
        elif fault.as_if is not None:
            steps.append(fault.as_if)
    monkeypatch.setitem(STEPS, fault.of.kind, tuple(steps))
    found = judged(fault.event(), **fault.given)
    assert isinstance(found, Accept), found


@each_fault
def test_an_old_document_is_never_the_reason_for_a_drop(fault: Fault) -> None:
    found = judged(fault.event(), **fault.given, fresh=False)
    if fault.step in (check_identity, check_authority, check_signature):
        assert isinstance(found, NeedFreshIdentity)
        assert found.otherwise is fault.reason
    else:
        assert isinstance(found, Drop)
        assert found.reason is fault.reason


@each_fault
def test_a_host_is_asked_before_its_account_is_called_inactive(fault: Fault) -> None:
    found = judged(fault.event(), **fault.given, asked=False)
    expected = NeedStatus if fault.step is check_account_is_active else Drop
    assert isinstance(found, expected)


def test_every_reason_of_the_judge_has_a_fault() -> None:
    assert {fault.reason for fault in FAULTS.values()} == set(DropReason) - NOT_THE_JUDGES


def test_every_step_can_fail() -> None:
    failing = {fault.step for fault in FAULTS.values()}
    steps = {step for steps in STEPS.values() for step in steps}
    # These two never drop: one marks, one asks.
    assert steps - failing == {check_chain, check_silencing_is_fresh}
