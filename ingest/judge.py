"""May this event go on? Event, identity, state and time in; a verdict out.

The steps, cheap first, as the lists in COMMIT_STEPS and the three functions for the other kinds
show them. A verdict is Accept with the state that the event leads to, Drop with a reason, or
NeedFreshIdentity: the document at hand may be old, and a newer one could save the event.

No I/O, no clock, no memory: the caller owns states and identities.

Source: the sync spec's message validation checklist, in the order of spec section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from common.car import BadCar, walk
from common.commit import BadCommit, SignedCommit, open_commit
from common.envelope import AccountState, Kind
from common.event import Event
from common.syntax import tid_text, tid_time_s
from common.verdict import Drop, DropReason, Level
from ingest.did_document import Broken, Identity, NotFound

REV_SKEW_S: Final = 300.0
"""How far a `rev` may lie ahead of our clock, in seconds.

Source: "a few minutes" in the sync spec; the reference relay's tolerance is five.
"""


class Accept(NamedTuple):
    """The event goes on.

    after: the state of its account once it has. marks: of common.envelope.Mark. waived: what a
    host at the level `enforce` would have lost it for.
    """

    after: AccountState
    marks: int = 0
    waived: DropReason | None = None


class NeedFreshIdentity(NamedTuple):
    """Not with this document; look the identity up again, and judge once more.

    otherwise: the reason to drop the event if the newest document says the same.
    """

    otherwise: DropReason
    detail: str


class NeedStatus(NamedTuple):
    """The account is thought inactive, and its own host speaks for it: ask that host, once.

    If it says the same, the event is dropped as ACCOUNT_INACTIVE. Source: S-ACC-18.
    """

    detail: str


Verdict = Accept | Drop | NeedFreshIdentity | NeedStatus
Known = Identity | Broken | NotFound
"""What can be known of an identity; one that cannot be told now is not judged at all."""


class Source(NamedTuple):
    """Whom the event came from.

    host: its number. hostname: normal form, with a port if any. level: how strictly it is judged.
    """

    host: int
    hostname: str
    level: Level = Level.ENFORCE


class Case:
    """One commit or sync before the judge, and what the steps have found out about it."""

    __slots__ = ("event", "fresh", "identity", "now_s", "signed", "source", "state")

    def __init__(
        self,
        event: Event,
        identity: Known,
        state: AccountState,
        source: Source,
        *,
        now_s: float,
        fresh: bool,
    ) -> None:
        self.event = event
        self.identity = identity
        self.state = state
        self.source = source
        self.now_s = now_s
        self.fresh = fresh
        self.signed: SignedCommit | None = None


def judge(
    event: Event,
    identity: Known,
    state: AccountState,
    source: Source,
    *,
    now_s: float,
    fresh: bool,
) -> Verdict:
    """Decide on one event.

    Args:
        identity: what the DID document says, as far as we know.
        state: the account's newest state that we know of.
        now_s: the relay's clock, Unix seconds.
        fresh: `identity` was looked up after the event came in, or may not be looked up again.
    """
    kind = event.kind
    if kind is Kind.IDENTITY:
        return _judge_identity(event, identity, state)
    case = Case(event, identity, state, source, now_s=now_s, fresh=fresh)
    if kind is Kind.ACCOUNT:
        return _judge_account(case)
    for step in COMMIT_STEPS if kind is Kind.COMMIT else SYNC_STEPS:
        verdict = step(case)
        if verdict is not None:
            return verdict
    return _accept(case)


def judge_early(event: Event, state: AccountState, now_s: float) -> Drop | None:
    """The steps that need no identity, so that a replay waits for no DID document."""
    if event.rev is None:
        return None
    case = Case(event, NotFound(""), state, Source(0, ""), now_s=now_s, fresh=True)
    for step in (check_rev_is_newer, check_rev_is_not_ahead):
        drop = step(case)
        if drop is not None:
            return drop
    return None


# --- the steps ---


def check_rev_is_newer(case: Case) -> Drop | None:
    """Replays, and revs that go back, are ignored. A #sync may repeat the state we have.

    Of an equal #sync `check_same_commit` sees later whether its commit is the same too.
    """
    rev, last = case.event.rev, case.state.rev
    if rev is None or last is None or rev > last:
        return None
    if rev == last and case.event.kind is Kind.SYNC:
        return None
    return _drop(case, DropReason.REV_NOT_NEWER, f"rev {rev} after {last}")


def check_rev_is_not_ahead(case: Case) -> Drop | None:
    """A rev from the future would silence the account until then."""
    rev = case.event.rev
    # TIDs sort as text in time order, so the clock is turned into one, once a second.
    if rev is None or rev < _last_tid_of(int(case.now_s)):
        return None
    if tid_time_s(rev) > case.now_s + REV_SKEW_S:
        return _drop(case, DropReason.REV_IN_FUTURE, f"rev {rev}")
    return None


@lru_cache(maxsize=4)
def _last_tid_of(second: int) -> str:
    """The first TID that lies ahead of a second's start by more than is borne."""
    return tid_text(int((second + REV_SKEW_S) * 1e6) << 10)


def check_identity(case: Case) -> Drop | NeedFreshIdentity | None:
    """The account has a key and a host, according to its DID document."""
    identity = case.identity
    if isinstance(identity, Identity):
        return None
    reason = (
        DropReason.IDENTITY_NOT_FOUND
        if isinstance(identity, NotFound)
        else DropReason.IDENTITY_BROKEN
    )
    return _unless_fresh(case, reason, identity.why)


def check_authority(case: Case) -> Drop | NeedFreshIdentity | None:
    """The host that this came from is the one that the DID document names.

    Where another host spoke for the account last, one of the two is of the past, and so may be the
    document at hand: only one looked up since then can tell which.
    """
    identity = case.identity
    if isinstance(identity, Identity) and identity.host == case.source.hostname:
        if case.state.host in (0, case.source.host) or case.fresh:
            return None
        return NeedFreshIdentity(
            DropReason.HOST_NOT_AUTHORITATIVE, f"host {case.state.host} spoke last"
        )
    named = identity.host if isinstance(identity, Identity) else "none"
    return _unless_fresh(
        case, DropReason.HOST_NOT_AUTHORITATIVE, f"{case.source.hostname}, not {named}"
    )


def check_account_is_active(case: Case) -> Drop | None:
    """No content while the account is not active.

    Asking the host for the status, when the two seem to disagree, comes with the account rules.
    """
    if case.state.active:
        return None
    return _drop(case, DropReason.ACCOUNT_INACTIVE, case.state.status or "no status")


def check_car_and_commit(case: Case) -> Drop | None:
    """Every block is what its CID says; the commit is there, and says what the message says."""
    event = case.event
    car = walk(event.blocks)
    if isinstance(car, BadCar):
        return _drop(case, car.reason, car.detail)
    if event.commit is not None and car.root != event.commit:
        return _drop(case, DropReason.COMMIT_MISMATCH, "the first root is not `commit`")
    block = car.blocks.get(car.root)
    if block is None:
        return _drop(case, DropReason.COMMIT_MISSING, "no block for the first root")
    signed = open_commit(block, event.did, event.rev or "")
    if isinstance(signed, BadCommit):
        return _drop(case, signed.reason, signed.detail)
    event.commit = car.root
    case.signed = signed
    return None


def check_same_commit(case: Case) -> Drop | None:
    """A #sync of the rev that we have repeats the very commit; another one is a fork."""
    if case.event.rev == case.state.rev and case.event.commit != case.state.commit:
        return _drop(case, DropReason.REV_NOT_NEWER, "same rev, another commit")
    return None


def check_signature(case: Case) -> Drop | NeedFreshIdentity | None:
    """The commit is signed with the account's current key."""
    identity, signed = case.identity, case.signed
    if (
        isinstance(identity, Identity)
        and signed is not None
        and identity.key.verify(signed.digest, signed.sig)
    ):
        return None
    return _unless_fresh(case, DropReason.SIGNATURE_INVALID, "not made with the account's key")


Step = Callable[[Case], Drop | NeedFreshIdentity | None]

COMMIT_STEPS: Final[tuple[Step, ...]] = (
    check_rev_is_newer,
    check_rev_is_not_ahead,
    check_identity,
    check_authority,
    check_account_is_active,
    check_car_and_commit,
    check_signature,
    # Next: the tree is loaded (check_tree), ops are held against it (check_ops), undone
    # (check_inversion), and `since` and `prev_data` against the state (check_chain).
)
SYNC_STEPS: Final[tuple[Step, ...]] = (
    check_rev_is_newer,
    check_rev_is_not_ahead,
    check_identity,
    check_authority,
    check_account_is_active,
    check_car_and_commit,
    check_same_commit,
    check_signature,
)


# --- the other kinds, and what the steps share ---


def _judge_identity(event: Event, identity: Known, state: AccountState) -> Verdict:
    """Whoever says that a document may have changed is right to say so; we have just looked.

    No host has to be authoritative: the new host of a migration says it first.
    """
    if isinstance(identity, NotFound) and state.host == 0 and state.rev is None:
        return Drop(DropReason.IDENTITY_NOT_FOUND, identity.why, event.seq)
    return Accept(state)


def _judge_account(case: Case) -> Verdict:
    """The account's own host says how it is; statuses that we do not know are kept.

    Nothing is signed here, and a former host says "deactivated" of an account that has just left
    it: to silence an account takes a document that was looked up since.
    """
    verdict = check_identity(case) or check_authority(case)
    if verdict is not None:
        return verdict
    event = case.event
    if not event.active and not case.fresh:
        return NeedFreshIdentity(DropReason.HOST_NOT_AUTHORITATIVE, "it silences the account")
    return Accept(
        case.state._replace(active=event.active, status=event.status, host=case.source.host)
    )


def _accept(case: Case) -> Accept:
    event, state, signed = case.event, case.state, case.signed
    data = signed.data if signed is not None else None
    return Accept(
        AccountState(event.rev, data, event.commit, state.active, state.status, case.source.host)
    )


def _drop(case: Case, reason: DropReason, detail: str) -> Drop:
    return Drop(reason, detail, case.event.seq)


def _unless_fresh(case: Case, reason: DropReason, detail: str) -> Drop | NeedFreshIdentity:
    return _drop(case, reason, detail) if case.fresh else NeedFreshIdentity(reason, detail)
