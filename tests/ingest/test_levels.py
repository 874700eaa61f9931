"""ingest.levels: what is seen of hosts at `observe`, and what of it speaks for the level `enforce`."""

from __future__ import annotations

from common.envelope import NEVER_SEEN, Base, Judged, Kind, Mark
from ingest.levels import Seen, Watch

KNOWN = Base("3l2gkqkqxcc2a", 1, active=True)
UNKNOWN = Base(None, 0, active=True)


def judged(host: int, *, base: Base = KNOWN, kind: Kind = Kind.COMMIT, marks: int = 0) -> Judged:
    return Judged(
        1, 0, 1, kind, host, 1, 7, "did:plc:x", base, NEVER_SEEN, 0, 1, 0, 0, marks
    )  # fmt: skip


def test_commits_that_were_held_against_something_are_counted_and_nothing_else() -> None:
    watch = Watch()
    watch.hosts([1, 2])
    watch.note(judged(1))
    watch.note(judged(1, marks=Mark.DISCONTINUOUS))
    watch.note(judged(1, base=UNKNOWN))  # the first of its account may lack prevData
    for kind in (Kind.SYNC, Kind.IDENTITY, Kind.ACCOUNT):
        watch.note(judged(1, kind=kind))
    watch.note(judged(3))  # at `enforce`
    assert watch.take() == [Seen(1, waived=False, checked=2)]
    assert watch.take() == []


def test_what_was_waived_begins_the_count_anew() -> None:
    watch = Watch()
    watch.hosts([1])
    for marks in (0, 0, Mark.WAIVED, 0, Mark.WAIVED | Mark.DISCONTINUOUS, 0):
        watch.note(judged(1, marks=marks))
    watch.note(judged(1, base=UNKNOWN, marks=Mark.WAIVED))
    watch.note(judged(1))
    assert watch.take() == [Seen(1, waived=True, checked=1)]


def test_what_could_not_be_written_comes_again_with_what_is_newer() -> None:
    watch = Watch()
    watch.hosts([1, 2, 3])
    for host in (1, 2, 2, 3):
        watch.note(judged(host))
    watch.note(judged(3, marks=Mark.WAIVED))
    taken = watch.take()
    watch.note(judged(1, marks=Mark.WAIVED))
    watch.note(judged(2))
    watch.note(judged(3))
    watch.give_back(taken)
    assert watch.take() == [
        Seen(1, waived=True, checked=0), Seen(2, waived=False, checked=3),
        Seen(3, waived=True, checked=1),
    ]  # fmt: skip


def test_a_host_that_left_the_level_is_forgotten() -> None:
    watch = Watch()
    watch.hosts([1, 2])
    watch.note(judged(1))
    watch.note(judged(2))
    watch.hosts([2, 3])
    watch.give_back([Seen(1, waived=True, checked=0)])
    watch.note(judged(1))
    assert watch.take() == [Seen(2, waived=False, checked=1)]
