"""Is each host's own counted, and once?"""

from __future__ import annotations

from common.envelope import Mark
from persist.tally import HostTally, Tallies


def test_each_mark_is_counted_for_its_host_alone() -> None:
    tallies = Tallies()
    for host, marks in (
        (1, Mark.DISCONTINUOUS),
        (2, Mark.WAIVED),
        (1, Mark.DISCONTINUOUS | Mark.WAIVED),
        (3, Mark.OURS),
        (3, 0),
        (1, 0x80),
    ):
        tallies.add(host, int(marks))
    assert tallies.take() == [HostTally(1, 2, 1), HostTally(2, 0, 1)]


def test_what_was_taken_is_not_told_again() -> None:
    tallies = Tallies()
    tallies.add(1, int(Mark.WAIVED))
    assert tallies.take() == [HostTally(1, 0, 1)]
    assert tallies.take() == []


def test_the_accounts_of_a_host_are_counted_beside_its_events() -> None:
    tallies = Tallies()
    tallies.count(1, 1)
    tallies.count(1, 1)
    tallies.count(2, -1)
    tallies.add(2, int(Mark.WAIVED))
    assert tallies.take() == [HostTally(2, 0, 1, -1), HostTally(1, 0, 0, 2)]
    assert tallies.take() == []
