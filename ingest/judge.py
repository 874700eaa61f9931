"""May this event go on? Event, identity, state and time in; a verdict out.

    #commit    COMMIT_STEPS, cheap first
    #sync      SYNC_STEPS: the same without a tree
    #account   ACCOUNT_STEPS: who says it; nothing is signed
    #identity  anybody may say it

The lists below are the judge; each step is a function of ingest.steps, with its rule. The first
one that fails ends the judging. A host at the level `observe` is let through where what failed is
of WAIVABLE, and the event is marked.

An event can be wrong in two ways. It is *invalid* when it contradicts itself: dropped (S-VAL-21). It
is *discontinuous* when it is sound in itself but does not follow from the state we have: passed and
marked, since a relay that missed something has no right to hold that against an account (S-DSY-01).

No I/O, no clock, no memory but the one handed in: the caller owns states and identities.

Source: the sync spec's message validation checklist, in the order of spec section 2.1.
"""

from __future__ import annotations

from typing import Final

from common.account_state import state_after_event
from common.envelope import AccountState, Kind, Mark
from common.event import Event
from common.syntax import PLC_METHOD
from common.verdict import WAIVABLE, Drop, DropReason, Level
from ingest.checked import Checked, Result
from ingest.did_document import NotFound
from ingest.node_memory import NodeMemory
from ingest.steps import (
    REV_SKEW_S,
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
from ingest.verdicts import Accept, Known, NeedFreshIdentity, NeedStatus, Source, Verdict

__all__ = [
    "ACCOUNT_STEPS", "COMMIT_STEPS", "REV_SKEW_S", "STEPS", "SYNC_STEPS", "Accept", "Known",
    "NeedFreshIdentity", "NeedStatus", "Source", "Verdict", "counts_as_deleted", "judge",
    "judge_early", "name_of",
]  # fmt: skip

COMMIT_STEPS: Final[tuple[Step, ...]] = (
    check_rev_is_newer,
    check_rev_is_not_ahead,
    check_not_held_here,
    check_identity,
    check_authority,
    check_account_is_active,
    check_car,
    check_commit,
    check_signature,
    check_prev_data_is_there,
    check_records,
    check_inversion,
    check_chain,
)
SYNC_STEPS: Final[tuple[Step, ...]] = (
    check_rev_is_newer,
    check_rev_is_not_ahead,
    check_not_held_here,
    check_identity,
    check_authority,
    check_account_is_active,
    check_car,
    check_commit,
    check_same_commit,
    check_signature,
)
ACCOUNT_STEPS: Final[tuple[Step, ...]] = (
    check_identity,
    check_authority,
    check_silencing_is_fresh,
)
STEPS: Final = {
    Kind.COMMIT: COMMIT_STEPS,
    Kind.SYNC: SYNC_STEPS,
    Kind.ACCOUNT: ACCOUNT_STEPS,
}
_WAIVED: Final = int(Mark.WAIVED)


def name_of(step: Step) -> str:
    """What a step is called in metrics."""
    return step.__name__.removeprefix("check_")


def judge(
    event: Event,
    identity: Known,
    state: AccountState,
    source: Source,
    *,
    now_s: float,
    fresh: bool,
    asked: bool,
    memory: NodeMemory | None = None,
    checked: Checked | None = None,
) -> Verdict:
    """Decide on one event.

    Args:
        identity: what the DID document says, as far as we know.
        state: the account's newest state that we know of.
        now_s: the relay's clock, Unix seconds.
        fresh: `identity` was looked up after the event came in, or may not be looked up again.
        asked: the account's host was asked for its status since then; `state` has the answer.
        memory: of nodes of sound trees; no verdict depends on it.
        checked: counts the steps.
    """
    kind = event.kind
    if kind is Kind.IDENTITY:
        return _judge_identity(event, identity, state)
    case = Case(event, identity, state, source, now_s, fresh, asked, memory)
    for at, step in enumerate(STEPS[kind]):
        verdict = step(case)
        if verdict is None:
            continue
        if (
            source.level is Level.OBSERVE
            and isinstance(verdict, Drop)
            and verdict.reason in WAIVABLE
        ):
            # S-VAL-23. The first of several is the one that is told.
            case.waived = case.waived or verdict.reason
            case.marks |= _WAIVED
            if checked is not None:
                checked.waived(kind, at)
            continue
        if checked is not None:
            checked.ended(kind, at, Result.DROPPED if type(verdict) is Drop else Result.ASKED)
        # S-VAL-21. What is only discontinuous has passed its step with a mark (S-DSY-01).
        return verdict
    if checked is not None:
        checked.passed(kind)
        checked.surplus += case.surplus
        checked.proven += case.proven
    after = state_after_event(
        state,
        event,
        data=case.signed.data if case.signed is not None else None,
        commit=event.commit,
        host=source.host,
        marks=case.marks,
    )
    return Accept(after, case.marks, case.waived)


def judge_early(event: Event, state: AccountState, now_s: float) -> Drop | None:
    """The steps that need no identity, so that a replay waits for no DID document."""
    if event.rev is None:
        return None
    case = Case(event, NotFound(""), state, Source(0, ""), now_s, fresh=True, asked=True)
    return check_rev_is_newer(case) or check_rev_is_not_ahead(case) or check_not_held_here(case)


def counts_as_deleted(did: str, identity: Known, state: AccountState) -> bool:
    """Whether a DID that once worked is no more, and its account has not been called deleted yet.

    The directory never forgets a did:plc: one that was known and is not found was tombstoned. Of
    a did:web the same answer may be a mistake of an afternoon, and says nothing.
    Source: S-ACC-16, S-IDN-13.
    """
    return (
        isinstance(identity, NotFound)
        and did.startswith(PLC_METHOD)
        and state.rev is not None
        and (state.active or state.status != "deleted")
    )


def _judge_identity(event: Event, identity: Known, state: AccountState) -> Drop | Accept:
    """Whoever says that a document may have changed is right to say so; we have just looked.

    No host has to be authoritative (S-IDE-08): the new host of a migration says it first. Nor has
    the account to be active (S-IDE-07), or to have a repository (S-ACC-21). That nothing has changed
    is no reason to keep it back (S-IDE-06).
    """
    if isinstance(identity, NotFound) and state.host == 0 and state.rev is None:
        return Drop(DropReason.IDENTITY_NOT_FOUND, identity.why, event.seq)
    return Accept(state)
