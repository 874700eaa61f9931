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

from common.car import MAX_BLOCKS, Car, walk
from common.commit import SignedCommit, open_commit
from common.envelope import NEVER_SEEN, Mark
from common.event import Event
from common.verdict import WAIVABLE, Drop, DropReason, Level
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
    check_inversion,
    check_not_held_here,
    check_prev_data_is_there,
    check_records,
    check_rev_is_newer,
    check_rev_is_not_ahead,
    check_same_commit,
    check_signature,
    check_silencing_is_fresh,
)
from tests.common.commits import (
    NODE,
    PATH,
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
    commit_of,
    entry,
    event,
    judged,
    keys_of_depth,
    node,
    sync,
)

GOOD: Final = commit_block()
OTHER_KEY: Final = IDENTITY._replace(key=K256Key(OTHER.public_key.format()))
NO_ROOT: Final = encode({"roots": [], "version": 1})


OTHER_RECORD: Final = encode({"$type": "app.example.note", "text": "good bye"})
BIG_RECORD: Final = encode({"text": "x" * 999_994})
LIST: Final = encode(["no map"])
A, B, C = keys_of_depth(0, 3)
HIGH: Final = keys_of_depth(1, 1)[0]


def creates(path: str, record: bytes = RECORD) -> dict[str, Any]:
    return {"action": "create", "path": path, "cid": link(cid(record))}


def of_one(record: bytes, *others: bytes) -> Event:
    """A commit of a tree with this one record."""
    return commit_of(node(entry(PATH, cid(record))), others, [creates(PATH, record)])


def two(*, shared: int = len(A) - 1, keys: tuple[str, str] = (A, B)) -> bytes:
    """A node of two entries."""
    return node(entry(keys[0], cid(RECORD)), entry(keys[1], cid(RECORD), shared))


BEFORE_TWO: Final = {"prevData": link(cid(node(entry(A, cid(RECORD)))))}


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
    "an account that is taken down here": Fault(
        DropReason.ACCOUNT_TAKEN_DOWN, commit(), check_not_held_here,
        {"state": STATE._replace(local="takendown")},
    ),
    "one account more than its host may have": Fault(
        DropReason.ACCOUNT_THROTTLED, commit(), check_not_held_here,
        {"state": STATE._replace(local="throttled", over_limit=True)},
    ),
    "no CAR": Fault(
        DropReason.CAR_MALFORMED, commit(blocks=b"x"), check_car, as_if=well_read
    ),
    "no root": Fault(
        DropReason.CAR_NO_ROOT, commit(blocks=bytes([len(NO_ROOT)]) + NO_ROOT), check_car,
        as_if=well_read,
    ),
    "more blocks than anybody needs": Fault(
        DropReason.CAR_TOO_MANY_BLOCKS,
        commit(blocks=car([cid(GOOD)], [GOOD, NODE, RECORD] + [b"\x01"] * (MAX_BLOCKS - 2))),
        check_car, as_if=well_read,
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
    "a record that did not come": Fault(DropReason.RECORD_MISSING, of_one(RECORD), check_records),
    "a record of 1,000,001 bytes": Fault(
        DropReason.RECORD_TOO_LARGE, of_one(BIG_RECORD, BIG_RECORD), check_records
    ),
    "a record that is a list": Fault(
        DropReason.RECORD_MALFORMED, of_one(LIST, LIST), check_records
    ),
    "a root that did not come": Fault(
        DropReason.NODE_MISSING,
        commit(blocks=car([cid(GOOD)], [GOOD, RECORD])), check_inversion,
    ),
    "a subtree beside the created key that did not come": Fault(
        DropReason.NODE_MISSING,
        commit_of(
            node(entry(HIGH, cid(RECORD), right=cid(b"right")), left=cid(b"left")), [RECORD],
            [creates(HIGH)],
        ),
        check_inversion,
    ),
    "an entry that shares less than it could": Fault(
        DropReason.NODE_MALFORMED,
        commit_of(two(shared=3), [RECORD], [creates(B)], **BEFORE_TWO), check_inversion,
    ),
    "keys out of order": Fault(
        DropReason.NODE_MALFORMED,
        commit_of(two(keys=(B, A)), [RECORD], [creates(B)], **BEFORE_TWO), check_inversion,
    ),
    "a key that is not of its node's depth": Fault(
        DropReason.TREE_MALFORMED,
        commit_of(
            node(entry(A, cid(RECORD), right=cid(two(keys=(B, C)))), left=None),
            [two(keys=(B, C)), RECORD], [creates(A)],
        ),
        check_inversion,
    ),
    "an operation that tells of another record": Fault(
        DropReason.OP_MISMATCH,
        commit_of(NODE, [RECORD, OTHER_RECORD], [creates(PATH, OTHER_RECORD)]), check_inversion,
    ),
    "an operation that deletes what is there": Fault(
        DropReason.OP_MISMATCH,
        commit(ops=[{"action": "delete", "path": PATH, "cid": None, "prev": link(cid(RECORD))}]),
        check_inversion,
    ),
    "an update that tells no prev": Fault(
        DropReason.OP_PREV_MISSING,
        commit(ops=[{"action": "update", "path": PATH, "cid": link(cid(RECORD))}]),
        check_inversion,
    ),
    "another prevData": Fault(
        DropReason.PREV_DATA_MISMATCH, commit(prevData=link(cid(NODE))), check_inversion
    ),
    "operations left out": Fault(DropReason.PREV_DATA_MISMATCH, commit(ops=[]), check_inversion),
    "a first commit that follows something": Fault(
        DropReason.PREV_DATA_MISMATCH, commit(ops=[], since=None, prevData=...), check_inversion,
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
    "sync: an account that is taken down here": Fault(
        DropReason.ACCOUNT_TAKEN_DOWN, sync(), check_not_held_here,
        {"state": STATE._replace(local="takendown", over_limit=True)},
    ),
    "sync: one account more than its host may have": Fault(
        DropReason.ACCOUNT_THROTTLED, sync(), check_not_held_here,
        {"state": STATE._replace(local="throttled", over_limit=True)},
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


@each_fault
def test_at_the_level_observe_only_what_is_waivable_passes(fault: Fault) -> None:
    source = fault.given.get("source", HOST)._replace(level=Level.OBSERVE)
    found = judged(fault.event(), **{**fault.given, "source": source})
    if fault.reason in WAIVABLE:
        assert isinstance(found, Accept)
        assert found.waived is fault.reason
        assert found.marks & Mark.WAIVED
        assert found.after.commit == fault.of.commit
    else:
        assert isinstance(found, Drop)
        assert found.reason is fault.reason


@pytest.mark.parametrize("name", [name for name in FAULTS if FAULTS[name].of.prev_data])
def test_to_lack_prev_data_excuses_nothing_else(name: str) -> None:
    fault = FAULTS[name]
    source = fault.given.get("source", HOST)._replace(level=Level.OBSERVE)
    without = fault.event()
    without.prev_data = None
    found = judged(without, **{**fault.given, "source": source})
    if fault.reason in WAIVABLE:
        # The first of two is told.
        assert isinstance(found, Accept)
        assert found.waived is DropReason.PREV_DATA_MISSING
    else:
        assert isinstance(found, Drop)
        assert found.reason is fault.reason


def test_every_reason_of_the_judge_has_a_fault() -> None:
    assert {fault.reason for fault in FAULTS.values()} == set(DropReason) - NOT_THE_JUDGES


def test_every_step_can_fail() -> None:
    failing = {fault.step for fault in FAULTS.values()}
    steps = {step for steps in STEPS.values() for step in steps}
    # These two never drop: one marks, one asks.
    assert steps - failing == {check_chain, check_silencing_is_fresh}
