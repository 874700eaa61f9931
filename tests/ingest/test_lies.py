"""Is each lie of an account that signs whatever it wants seen, and for what it is?

Each stands between two honest commits of the same account, which both have to pass: the first one
gives the relay a state to hold the lie against, the second shows that the lie has moved nothing.
"""

from __future__ import annotations

import pytest

from common.envelope import Mark
from common.verdict import DropReason
from tests.ingest.straight import Straight, worldly
from tests.simnet.keys import Curve
from tests.simnet.lies import LIES
from tests.simnet.source import Source

WANTED = 81
"""So many kinds were shown to other relays."""


def honest(source: Source, to: Straight) -> None:
    """An honest commit, which follows from all that went before and passes as such."""
    account = source.account
    assert to.hear(account.commit(account.choose_writes(source.rng, 3))) is None
    judged = to.sent[-1]
    assert judged.marks == 0
    assert (judged.after.rev, judged.after.data) == (account.repo.rev, account.repo.data)


@pytest.mark.parametrize("name", LIES)
def test_each_lie_is_seen_for_what_it_is_and_costs_nothing_else(name: str) -> None:
    lie = LIES[name]
    source = worldly(name, Curve.P256 if len(name) % 4 == 0 else Curve.K256)
    to = Straight(source.account)
    honest(source, to)
    honest(source, to)
    assert source.at_home
    assert to.hear(lie.make(source)) is lie.reason, to.drops
    if lie.reason is None:
        assert to.sent[-1].marks == lie.marks
    honest(source, to)
    assert to.pipeline.counts.dropped == ({} if lie.reason is None else {lie.reason: 1})


def test_there_are_more_kinds_than_anybody_was_shown() -> None:
    dropped = [lie for lie in LIES.values() if lie.reason is not None]
    assert len(dropped) >= WANTED
    assert len(LIES) - len(dropped) >= 20


def test_all_lies_one_after_the_other_leave_the_account_as_it_was() -> None:
    source = worldly("one who lies all day")
    to = Straight(source.account)
    honest(source, to)
    passed = 1
    for name, lie in LIES.items():
        assert to.hear(lie.make(source)) is lie.reason, name
        passed += lie.reason is None
        honest(source, to)
        passed += 1
    assert len(to.sent) == passed
    state = to.sent[-1].after
    assert state.discontinuities == sum(lie.marks == Mark.DISCONTINUOUS for lie in LIES.values())


def test_what_the_tree_tells_is_told_apart() -> None:
    """Each reason that only tree, ops or chain can give has lies of its own."""
    reasons = {lie.reason for lie in LIES.values()}
    assert reasons >= {
        DropReason.NODE_MISSING,
        DropReason.NODE_MALFORMED,
        DropReason.TREE_MALFORMED,
        DropReason.OP_MISMATCH,
        DropReason.OP_PREV_MISSING,
        DropReason.PREV_DATA_MISSING,
        DropReason.PREV_DATA_MISMATCH,
        DropReason.RECORD_MISSING,
        DropReason.RECORD_TOO_LARGE,
        DropReason.RECORD_MALFORMED,
        DropReason.CAR_TOO_MANY_BLOCKS,
        DropReason.SYNC_NOT_RESIGNED,
    }


def test_a_lie_is_unlike_every_other() -> None:
    source = worldly("one who never says a thing twice")
    source.account.commit([])
    assert len({lie.make(source).digest() for lie in LIES.values()}) == len(LIES)
