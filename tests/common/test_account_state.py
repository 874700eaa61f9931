"""The one rule by which events move an account's state."""

from __future__ import annotations

import pytest

from common.account_state import state_after_event
from common.envelope import NEVER_SEEN, AccountState, Kind, Mark
from common.event import Event
from common.syntax import Did, Tid

DID = Did("did:web:alice.test")
STATE = AccountState("3aaaaaaaaaaaa", b"data", b"commit", True, "throttled", 4, True, 2)


def event(kind: Kind, rev: str | None = None) -> Event:
    found = Event(b"", kind, DID, 7, 0, 0, "")
    found.rev = None if rev is None else Tid(rev)
    return found


def after(of: Event, state: AccountState = STATE, marks: int = 0, host: int = 5) -> AccountState:
    return state_after_event(state, of, data=b"new", commit=b"c", host=host, marks=marks)


def test_a_commit_that_follows_moves_the_repository_and_nothing_else() -> None:
    found = after(event(Kind.COMMIT, "3bbbbbbbbbbbb"))
    assert found == AccountState("3bbbbbbbbbbbb", b"new", b"c", True, "throttled", 5, True, 2)


def test_a_commit_that_does_not_follow_is_counted_and_moves_it_too() -> None:
    found = after(event(Kind.COMMIT, "3bbbbbbbbbbbb"), NEVER_SEEN, int(Mark.DISCONTINUOUS))
    assert found == AccountState("3bbbbbbbbbbbb", b"new", b"c", True, None, 5, True, 1)
    again = after(event(Kind.COMMIT, "3cccccccccccc"), found, Mark.DISCONTINUOUS | Mark.WAIVED)
    assert (again.desynchronized, again.discontinuities) == (True, 2)


def test_what_was_waived_alone_does_not_count_as_a_gap() -> None:
    found = after(event(Kind.COMMIT, "3bbbbbbbbbbbb"), NEVER_SEEN, int(Mark.WAIVED))
    assert (found.desynchronized, found.discontinuities) == (False, 0)


def test_a_newer_sync_ends_a_gap_and_forgets_none() -> None:
    found = after(event(Kind.SYNC, "3bbbbbbbbbbbb"))
    assert found == AccountState("3bbbbbbbbbbbb", b"new", b"c", True, "throttled", 5, False, 2)


def test_a_sync_that_repeats_our_rev_ends_nothing() -> None:
    assert after(event(Kind.SYNC, STATE.rev)).desynchronized


@pytest.mark.parametrize(("active", "status"), [(False, "x"), (True, None), (False, None)])
def test_an_account_event_moves_the_status_and_the_host(active: bool, status: str | None) -> None:
    of = event(Kind.ACCOUNT)
    of.active, of.status = active, status
    assert after(of) == STATE._replace(active=active, status=status, host=5)
    # What we say ourselves moves it nowhere.
    assert after(of, marks=int(Mark.OURS)) == STATE._replace(active=active, status=status)


def test_an_identity_event_moves_nothing() -> None:
    assert after(event(Kind.IDENTITY)) is STATE
