"""What must hold of a commit, a sync or an account event? Each rule one step.

A step looks at a `Case` and gives None when its rule holds, or the verdict that ends the judging.
What a step finds out on the way (the blocks, the signed commit) it leaves in the case for those
behind it; which steps there are, and in which order, ingest.judge lists.

No I/O, no clock, no memory but the one that the case brings.

Source: the sync spec's message validation checklist; ids are those of docs/spec.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from common.car import BadCar, Car, walk
from common.cid import is_dag_cbor_cid
from common.commit import BadCommit, SignedCommit, open_commit
from common.envelope import TAKEN_DOWN, AccountState, Kind, Mark
from common.event import Event
from common.syntax import tid_text, tid_time_s
from common.verdict import Drop, DropReason
from ingest.did_document import Identity, NotFound
from ingest.inversion import undo
from ingest.node import EMPTY_TREE_CID, BadTree, Node
from ingest.node_memory import NodeMemory
from ingest.records import check_records as check_each_record
from ingest.verdicts import Known, NeedFreshIdentity, NeedStatus, Source

REV_SKEW_S: Final = 300.0
"""How far a `rev` may lie ahead of our clock, in seconds.

Source: "a few minutes" in the sync spec; the reference relay's tolerance is five.
"""
_DISCONTINUOUS: Final = int(Mark.DISCONTINUOUS)
_MAX_DETAIL_CHARS: Final = 200


class Case:
    """One event before the judge, and what the steps have found out about it.

    fresh, asked: see ingest.judge.judge. car, signed: once they have been read. waived: why a
    host at the level `enforce` would lose the event. marks: of common.envelope.Mark.
    surplus: blocks that came for nothing, as far as that was seen. proven: the memory of sound trees
    has spared the inversion.
    """

    __slots__ = (
        "asked", "car", "event", "fresh", "identity", "marks", "memory", "now_s", "proven",
        "signed", "source", "state", "surplus", "waived",
    )  # fmt: skip

    def __init__(
        self,
        event: Event,
        identity: Known,
        state: AccountState,
        source: Source,
        now_s: float,
        fresh: bool,  # noqa: FBT001 - one call, by place: it is made for every event
        asked: bool,  # noqa: FBT001 - as above
        memory: NodeMemory | None = None,
    ) -> None:
        self.event = event
        self.identity = identity
        self.state = state
        self.source = source
        self.now_s = now_s
        self.fresh = fresh
        self.asked = asked
        self.memory = memory
        self.car: Car | None = None
        self.signed: SignedCommit | None = None
        self.waived: DropReason | None = None
        self.marks = 0
        self.surplus = 0
        self.proven = False


Step = Callable[[Case], Drop | NeedFreshIdentity | NeedStatus | None]


# --- what the message alone can tell ---


def check_rev_is_newer(case: Case) -> Drop | None:
    """Replays, and revs that go back, are ignored. A #sync may repeat the state we have.

    Of an equal #sync `check_same_commit` sees later whether its commit is the same too.
    Source: S-VAL-09, S-REV-03, S-REV-06, S-SYN-05, S-DSY-06.
    """
    rev, last = case.event.rev, case.state.rev
    if rev is None or last is None or rev > last:
        return None
    if rev == last and case.event.kind is Kind.SYNC:
        return None
    return _drop(case, DropReason.REV_NOT_NEWER, f"rev {rev} after {last}")


def check_rev_is_not_ahead(case: Case) -> Drop | None:
    """A rev from the future would silence the account until then. Source: S-VAL-10, S-REV-04."""
    rev = case.event.rev
    # S-REV-02: TIDs sort as text in time order, so the clock is turned into one, once a second.
    if rev is None or rev < _last_tid_of(int(case.now_s)):
        return None
    if tid_time_s(rev) > case.now_s + REV_SKEW_S:
        return _drop(case, DropReason.REV_IN_FUTURE, f"rev {rev}")
    return None


@lru_cache(maxsize=4)
def _last_tid_of(second: int) -> str:
    """The first TID that lies ahead of a second's start by more than is borne."""
    return tid_text(int((second + REV_SKEW_S) * 1e6) << 10)


# --- what this relay says of the account itself ---


def check_not_held_here(case: Case) -> Drop | None:
    """No content of an account that this relay has taken down, or whose host has too many of them.

    Whoever sends it: nobody is asked. Source: S-ACC-07, S-ACC-10, S-ACC-12, S-RAT-07.
    """
    local = case.state.local
    if local is None:
        return None
    if local == TAKEN_DOWN:
        return _drop(case, DropReason.ACCOUNT_TAKEN_DOWN, "by the operator of this relay")
    return _drop(case, DropReason.ACCOUNT_THROTTLED, "its host has as many accounts as it may")


# --- who speaks, and for whom ---


def check_identity(case: Case) -> Drop | NeedFreshIdentity | None:
    """The account has a key and a host, according to its DID document.

    Source: S-VAL-01, S-IDN-08, S-IDN-13, S-AUT-06.
    """
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
    Source: S-VAL-02, S-SYN-06, S-ACC-11, S-ACC-15, S-AUT-01 to 05, S-MIG-02, S-MIG-03.
    """
    identity = case.identity
    if isinstance(identity, Identity) and identity.host == case.source.hostname:
        if case.fresh or case.state.host in (0, case.source.host):
            return None
        return NeedFreshIdentity(
            DropReason.HOST_NOT_AUTHORITATIVE, f"host {case.state.host} spoke last"
        )
    named = identity.host if isinstance(identity, Identity) else "none"
    return _unless_fresh(
        case, DropReason.HOST_NOT_AUTHORITATIVE, f"{case.source.hostname}, not {named}"
    )


def check_silencing_is_fresh(case: Case) -> NeedFreshIdentity | None:
    """To silence an account takes a document that was looked up since.

    Nothing is signed here, and a former host says "deactivated" of an account that has just left
    it. Source: S-AUT-05, S-MIG-02.
    """
    if case.event.active or case.fresh:
        return None
    return NeedFreshIdentity(DropReason.HOST_NOT_AUTHORITATIVE, "it silences the account")


def check_account_is_active(case: Case) -> Drop | NeedStatus | None:
    """No content while the account is not active; where its own host seems to differ, ask it once.

    Source: S-VAL-03, S-ACC-03, S-ACC-12 to 14, S-ACC-18, S-SYN-06, S-MIG-06, S-MIG-07.
    """
    if case.state.active:
        return None
    status = case.state.status or "no status"
    if not case.asked:
        return NeedStatus(status)
    return _drop(case, DropReason.ACCOUNT_INACTIVE, status)


# --- what it carries ---


def check_car(case: Case) -> Drop | None:
    """Every block is what its CID says, and the first root is the message's `commit`.

    Blocks may come in any order, twice, or for nothing (S-VAL-19, S-VAL-20, S-MST-13).
    Source: S-MST-11, S-MST-12, S-COM-04, S-DAT-05.
    """
    event = case.event
    car = walk(event.blocks)
    if isinstance(car, BadCar):
        return _drop(case, car.reason, car.detail)
    case.car = car
    # 3-34: other roots than the first say nothing.
    if event.kind is Kind.SYNC:
        # S-SYN-02: it should hold the commit alone; what else came is let be, and counted.
        event.commit = car.root
        case.surplus = len(car.blocks) - 1
    elif event.commit != car.root:
        return _drop(case, DropReason.COMMIT_MISMATCH, "the first root is not `commit`")
    return None


def check_commit(case: Case) -> Drop | None:
    """The signed commit is there, well-formed, and says what the message around it says.

    Source: S-VAL-05, S-VAL-08, S-COM-02 to 04, S-SYN-02, S-SYN-03, S-MST-01 to 03.
    """
    event, car = case.event, case.car
    assert car is not None
    # S-MST-03: the root of a #commit was held against `commit`; that of a #sync may be anything.
    block = car.blocks.get(car.root) if is_dag_cbor_cid(car.root) else None
    if block is None:
        return _drop(case, DropReason.COMMIT_MISSING, "no block for the first root")
    signed = open_commit(block, event.did, event.rev or "")
    if isinstance(signed, BadCommit):
        if signed.rev is not None and event.kind is Kind.SYNC:
            # S-SYN-03: so the reference PDS says after an import: the old host's commit, not
            # signed again, under a rev of its own. The next commit continues the old one.
            return _drop(case, DropReason.SYNC_NOT_RESIGNED, signed.detail)
        return _drop(case, signed.reason, signed.detail)
    case.signed = signed
    return None


def check_same_commit(case: Case) -> Drop | None:
    """A #sync of the rev that we have repeats the very commit; another one is a fork.

    Source: S-SYN-05, point 3-13; creation and reactivation repeat it (S-SYN-08, S-MIG-01).
    """
    if case.event.rev == case.state.rev and case.event.commit != case.state.commit:
        return _drop(case, DropReason.REV_NOT_NEWER, "same rev, another commit")
    return None


def check_signature(case: Case) -> Drop | NeedFreshIdentity | None:
    """The commit is signed with the account's current key; with a former one it is not.

    Source: S-VAL-04, S-SYN-04, S-IDN-15, S-CRY-02.
    """
    identity, signed = case.identity, case.signed
    if (
        isinstance(identity, Identity)
        and signed is not None
        and identity.key.verify(signed.digest, signed.sig)
    ):
        return None
    return _unless_fresh(case, DropReason.SIGNATURE_INVALID, "not made with the account's key")


# --- what it says of the repository ---


def check_prev_data_is_there(case: Case) -> Drop | None:
    """Only a repo's first commit needs no `prevData`: it follows the empty tree.

    Source: S-COM-06, points 3-25 and 3-26.
    """
    event = case.event
    if event.prev_data is not None or (event.since is None and case.state.rev is None):
        return None
    return _drop(case, DropReason.PREV_DATA_MISSING, "not the repo's first commit")


def check_records(case: Case) -> Drop | None:
    """What was created or updated came along, and each is a record; see ingest.records.

    Source: S-VAL-12 to S-VAL-15, S-COM-08.
    """
    event, car = case.event, case.car
    assert car is not None
    bad = check_each_record(car.blocks, event.ops)
    return None if bad is None else _drop(case, bad.reason, bad.detail)


def check_inversion(case: Case) -> Drop | None:
    """The tree is one, says what the operations say, and without them is the one before.

    Of a repo's first commit without `prevData` the one before is the empty tree. What of the tree
    came and is linked is checked whole, needed or not; see ingest.inversion. Where the tree before
    is remembered, the same is often proven without reading the new one; see ingest.node_memory.
    Source: S-VAL-06, S-VAL-08, S-VAL-17, S-COM-17, S-COM-18, S-DSY-01, S-DSY-08.
    """
    event, car, signed = case.event, case.car, case.signed
    assert car is not None
    assert signed is not None
    memory, prev_data = case.memory, event.prev_data
    if memory is not None and prev_data is not None:
        case.proven = memory.proves(car.blocks, signed.data, prev_data, event.ops)
    if not case.proven:
        nodes: dict[bytes, Node] = {}
        before = undo(car.blocks, signed.data, event.ops, nodes)
        if isinstance(before, BadTree):
            return _drop(case, before.reason, before.detail)
        # Where it may be missing, or that was waived, only a first commit can be told to be sound.
        if before != (prev_data or EMPTY_TREE_CID):
            return _drop(
                case, DropReason.PREV_DATA_MISMATCH, "the operations lead from another tree"
            )
        if memory is not None:
            memory.learn(nodes.values())
    # S-VAL-19: the nodes were taken out, and with them a record that is one as well; beside the
    # commit and the other records nothing should be left.
    blocks = car.blocks
    case.surplus = len(blocks) - 1 - len({op.cid for op in event.ops if op.cid in blocks})
    return None


def check_chain(case: Case) -> None:
    """Does it follow from the state we have? If not it is passed all the same, and marked.

    What we have never seen before has nothing to follow from (S-DSY-08), and the chain goes on from
    host to host (S-MIG-05).
    Nothing is fetched to mend it (S-DSY-02). Source: S-VAL-11, S-COM-05, S-DSY-01, S-DSY-03.
    """
    event, state = case.event, case.state
    if state.rev is None:
        return
    prev_data = event.prev_data
    if event.since == state.rev:
        # Without a `prevData` only where that was waived.
        if prev_data == state.data or prev_data is None:
            return
    elif event.since is None and prev_data is not None and prev_data == state.data:
        # 3-51: what re-signs a repo may say null; the trees tell that nothing is between.
        return
    case.marks |= _DISCONTINUOUS


def _drop(case: Case, reason: DropReason, detail: str) -> Drop:
    return Drop(reason, detail[:_MAX_DETAIL_CHARS], case.event.seq)


def _unless_fresh(case: Case, reason: DropReason, detail: str) -> Drop | NeedFreshIdentity:
    return _drop(case, reason, detail) if case.fresh else NeedFreshIdentity(reason, detail)
