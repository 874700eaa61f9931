"""What is certain of an account, when the log does not begin with it or lacks a part?"""

from __future__ import annotations

import pytest

from common.envelope import NEVER_SEEN, AccountState, Kind, Mark
from persist.known import (
    ALL,
    NEVER,
    NOTHING,
    Certain,
    Fold,
    Known,
    after,
    differing,
    pack,
    unpack,
)
from persist.replay import Logged
from tests.persist.spoken import Spoken, life

HOST = 3
KEY = b"k" * 16


def first(kind: Kind, *, active: bool = True) -> Spoken:
    """The first message of that kind in a life."""
    for one in life("alice"):
        event = one.event(1)
        if event.kind == kind and event.active is active:
            return one
    raise AssertionError(kind)


def logged(one: Spoken, seq: int = 5, marks: int = 0) -> Logged:
    return Logged(seq, HOST, one.event(1), marks)


@pytest.mark.parametrize(
    ("kind", "marks", "certain"),
    [
        (Kind.IDENTITY, 0, Certain(0)),
        (Kind.ACCOUNT, 0, Certain.STATUS | Certain.HOST),
        (Kind.ACCOUNT, Mark.OURS, Certain.STATUS),
        (Kind.ACCOUNT, Mark.OURS | Mark.LOCAL, Certain.LOCAL),
        (Kind.COMMIT, 0, Certain.COMMIT | Certain.HOST),
        (
            Kind.COMMIT,
            Mark.DISCONTINUOUS,
            Certain.COMMIT | Certain.HOST | Certain.DESYNCHRONIZED,
        ),
        (Kind.SYNC, 0, Certain.COMMIT | Certain.HOST),
    ],
)
def test_an_event_makes_certain_what_it_says(kind: Kind, marks: int, certain: Certain) -> None:
    known = after(NOTHING, logged(first(kind), marks=marks))
    assert (known.seq, known.certain) == (5, certain)
    assert after(NEVER, logged(first(kind), marks=marks)).certain == ALL


def test_a_sync_ends_a_discontinuity_for_certain_where_the_rev_before_is_known() -> None:
    commit = after(NOTHING, logged(first(Kind.COMMIT)))
    assert not commit.certain & Certain.DESYNCHRONIZED
    said = [one for one in life("alice") if one.event(1).kind == Kind.SYNC]
    newer = [one for one in said if one.event(1).rev != commit.state.rev]
    assert after(commit, logged(newer[0])).certain & Certain.DESYNCHRONIZED


def test_each_field_is_certain_for_itself() -> None:
    assert list(ALL) == [
        Certain.COMMIT, Certain.STATUS, Certain.HOST, Certain.DESYNCHRONIZED, Certain.COUNT,
        Certain.LOCAL,
    ]  # fmt: skip


def test_only_what_is_certain_is_compared() -> None:
    cid = b"\x01\x71\x12\x20" + bytes(32)
    state = AccountState("3aaaaaaaaaaaa", cid, cid, True, None, HOST, False, 2)
    other = AccountState(
        "3bbbbbbbbbbbb", cid[::-1], cid[::-1], False, "x", 9, True, 3, "takendown", True
    )
    assert [column for column, _, _ in differing(Known(1, state, ALL), other)] == [
        "rev", "data_cid", "commit_cid", "active", "status", "host_id", "desynchronized",
        "local", "over_limit", "discontinuities",
    ]  # fmt: skip
    assert differing(Known(1, state, Certain(0)), other) == []
    # A count that is not known from the beginning is the least there can be.
    fewer = state._replace(discontinuities=1)
    assert differing(Known(1, state, Certain(0)), fewer) == [("discontinuities", 1, 2)]
    nul = Known(1, state._replace(status="a\0"), ALL)
    assert differing(nul, state._replace(status="a\N{REPLACEMENT CHARACTER}")) == []


def test_what_was_known_before_a_part_that_is_lost_is_not_known_behind_it() -> None:
    fold = Fold(whole=True)
    assert fold.before(KEY) == NEVER
    fold.put(KEY, Known(5, NEVER_SEEN, ALL))
    assert fold.before(KEY).certain == ALL
    fold.lose(7, 9)
    assert fold.before(KEY) == NOTHING
    assert fold.before(b"x" * 16) == NOTHING
    assert [seq for seq in range(5, 11) if fold.is_lost(seq)] == [7, 8]
    # At the end it counts: had it said nothing more, all of that still holds.
    assert fold.take(KEY) == Known(5, NEVER_SEEN, ALL)
    assert fold.take(KEY) == NOTHING


def test_each_account_belongs_to_one_pass() -> None:
    folds = [Fold(part, 3) for part in range(3)]
    for number in range(50):
        key = number.to_bytes(4) + bytes(12)
        assert sum(fold.takes(key) for fold in folds) == 1


def test_what_is_known_is_packed_and_comes_back() -> None:
    for known in (NEVER, NOTHING, after(NEVER, logged(first(Kind.COMMIT)))):
        assert unpack(pack(known)) == known
