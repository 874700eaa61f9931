"""The one rule by which events move an account's state."""

from __future__ import annotations

import pytest

from common.account_state import counts, state_after_event
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


LOCAL = Mark.OURS | Mark.LOCAL


@pytest.mark.parametrize(
    ("marks", "local", "over_limit"),
    [
        (LOCAL, None, False),
        (LOCAL | Mark.TAKEN_DOWN, "takendown", False),
        (LOCAL | Mark.OVER_LIMIT, "throttled", True),
        (LOCAL | Mark.TAKEN_DOWN | Mark.OVER_LIMIT | Mark.HELD, "takendown", True),
    ],
)
def test_what_the_relay_itself_says_stands_beside_what_the_host_said(
    marks: Mark, local: str | None, over_limit: bool
) -> None:
    of = event(Kind.ACCOUNT)
    of.active, of.status = False, "takendown"
    held = after(of, marks=int(marks))
    assert held == STATE._replace(local=local, over_limit=over_limit)
    # And whatever the host says then leaves it as it is.
    of.active, of.status = False, "deactivated"
    assert after(of, held) == held._replace(active=False, status="deactivated", host=5)
    assert after(event(Kind.COMMIT, "3bbbbbbbbbbbb"), held).local == local
    assert after(event(Kind.COMMIT, "3bbbbbbbbbbbb"), held).over_limit == over_limit
    assert after(event(Kind.IDENTITY), held) == held


def test_an_account_that_came_too_late_belongs_to_the_host_that_it_came_from() -> None:
    of = event(Kind.ACCOUNT)
    assert after(of, NEVER_SEEN, int(LOCAL | Mark.OVER_LIMIT)).host == 5
    assert after(of, NEVER_SEEN, int(LOCAL | Mark.TAKEN_DOWN), host=0).host == 0


@pytest.mark.parametrize(
    ("state", "host"),
    [
        (STATE, 4),
        (NEVER_SEEN, 0),
        (STATE._replace(active=False, status="deactivated"), 4),
        (STATE._replace(active=False, status="deleted"), 0),
        # S-ACC-03: `active` decides.
        (STATE._replace(active=True, status="deleted"), 4),
        (STATE._replace(local="takendown"), 4),
    ],
)
def test_an_account_counts_with_its_host_unless_it_is_deleted(
    state: AccountState, host: int
) -> None:
    assert counts(state) == host
