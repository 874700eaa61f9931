"""Is a flush all that PostgreSQL lacks, begun when it is due, and one at a time?"""

from __future__ import annotations

import pytest

from common.chunk import account_key
from common.envelope import NEVER_SEEN, HostCursor, HostObservation, Mark
from persist import view
from persist.account import Accounts
from persist.duplicates import Duplicates
from persist.tally import HostTally, Tallies
from persist.view import FLUSH_EVERY_S, View
from tests.persist.events import commit_over, did

STATE = commit_over(NEVER_SEEN, 1)


class Desk:
    def __init__(self) -> None:
        self.accounts = Accounts()
        self.duplicates = Duplicates()
        self.tallies = Tallies()
        self.view = View(self.accounts, self.duplicates, self.tallies, applied_seq=0)

    def event(self, seq: int) -> None:
        self.accounts.learn(did(seq), NEVER_SEEN)
        self.accounts.change(did(seq), STATE, seq)
        self.duplicates.add(1, 1, seq, account_key(did(seq)), seq)


def test_nothing_new_is_no_flush() -> None:
    desk = Desk()
    assert not desk.view.due(1000.0, 0)
    assert desk.view.clean(0)


def test_a_flush_says_everything_once() -> None:
    desk = Desk()
    desk.event(1)
    desk.event(2)
    desk.view.say_done(HostCursor(1, 1, 1))
    desk.view.observe(HostObservation(1, "active", None))
    desk.view.observe(HostObservation(1, "offline", "gone"))
    changes = desk.view.begin(1000.0, 2)
    assert changes.accounts == [(did(1), 1, STATE), (did(2), 2, STATE)]
    assert changes.cursors == [HostCursor(1, 1, 1)]
    assert changes.observations == [HostObservation(1, "offline", "gone")]
    # Event 1 is at its host's cursor, event 2 above it.
    assert (changes.applied_seq, changes.scan_seq) == (2, 2)
    assert (desk.view.applied_seq, desk.view.clean(2)) == (0, False)
    desk.view.end()
    assert (desk.view.applied_seq, desk.view.clean(2)) == (2, True)


def test_each_flush_says_what_was_counted_since_the_one_before() -> None:
    desk = Desk()
    desk.event(1)
    desk.tallies.add(7, Mark.DISCONTINUOUS)
    assert desk.view.begin(1000.0, 1).tallies == [HostTally(7, 1, 0)]
    desk.event(2)
    desk.tallies.add(7, Mark.WAIVED)
    desk.view.end()
    assert desk.view.begin(2000.0, 2).tallies == [HostTally(7, 0, 1)]


def test_one_flush_is_under_way_at_a_time_and_the_next_has_what_came_meanwhile() -> None:
    desk = Desk()
    desk.event(1)
    desk.view.begin(1000.0, 1)
    desk.event(2)
    assert not desk.view.due(2000.0, 2)
    desk.view.end()
    assert desk.view.due(2000.0, 2)
    assert desk.view.begin(2000.0, 2).accounts == [(did(2), 2, STATE)]


def test_a_flush_is_due_after_a_second_or_many_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    desk.event(1)
    desk.view.begin(1000.0, 1)
    desk.view.end()
    desk.event(2)
    assert not desk.view.due(1000.0 + FLUSH_EVERY_S / 2, 2)
    assert desk.view.due(1000.0 + FLUSH_EVERY_S, 2)
    monkeypatch.setattr(view, "FLUSH_ACCOUNTS", 1)
    assert desk.view.due(1000.0, 2)


@pytest.mark.parametrize("what", ["cursor", "observation", "seq"])
def test_each_kind_of_news_alone_makes_a_flush_due(what: str) -> None:
    desk = Desk()
    if what == "cursor":
        desk.view.say_done(HostCursor(1, 1, 1))
    elif what == "observation":
        desk.view.observe(HostObservation(1, "active", None))
    assert desk.view.due(1000.0, 1 if what == "seq" else 0)


def test_a_cursor_that_goes_back_is_not_written() -> None:
    desk = Desk()
    desk.view.say_done(HostCursor(1, 1, 5))
    desk.view.begin(0.0, 0)
    desk.view.end()
    desk.view.say_done(HostCursor(1, 1, 4))
    assert desk.view.clean(0)
