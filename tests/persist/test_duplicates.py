"""Is an event known by its name at the source, for as long as it has to be?"""

from __future__ import annotations

from common.envelope import HostCursor
from persist.duplicates import Duplicates


def filled(*seqs: int) -> Duplicates:
    duplicates = Duplicates()
    for ours, upstream_seq in enumerate(seqs, 1):
        duplicates.add(1, 1, upstream_seq, ours)
    return duplicates


def test_a_cursor_makes_everything_up_to_it_known_and_forgets_it() -> None:
    duplicates = filled(10, 20, 30)
    assert duplicates.advance(HostCursor(1, 1, 20))
    stream = duplicates.stream(1, 1)
    assert [seq in stream for seq in (5, 10, 15, 20, 25, 30)] == [
        True, True, True, True, False, True,
    ]  # fmt: skip
    assert len(duplicates) == 1


def test_a_cursor_never_goes_back() -> None:
    duplicates = filled(10, 20, 30)
    duplicates.advance(HostCursor(1, 1, 20))
    assert not duplicates.advance(HostCursor(1, 1, 10))
    assert not duplicates.advance(HostCursor(1, 1, 20))
    assert 15 in duplicates.stream(1, 1)


def test_a_new_generation_begins_anew_and_the_old_one_is_forgotten() -> None:
    duplicates = filled(10, 20, 30)
    duplicates.advance(HostCursor(1, 1, 20))
    assert 5 not in duplicates.stream(1, 2)
    assert duplicates.advance(HostCursor(1, 2, 3))
    assert len(duplicates) == 0
    assert not duplicates.advance(HostCursor(1, 1, 99))
    # Rows of an older generation need not be remembered.
    duplicates.add(1, 1, 40, 4)
    assert len(duplicates) == 0


def test_events_out_of_order_are_kept_until_the_cursor_has_passed_them() -> None:
    duplicates = filled(30, 10, 20)
    duplicates.advance(HostCursor(1, 1, 20))
    assert 30 in duplicates.stream(1, 1)
    duplicates.advance(HostCursor(1, 1, 30))
    assert len(duplicates) == 0


def test_a_successor_reads_from_the_first_event_above_any_cursor() -> None:
    duplicates = filled(10, 20, 30)
    duplicates.add(2, 1, 7, 4)
    assert duplicates.scan_seq(5) == 1
    duplicates.advance(HostCursor(1, 1, 20))
    assert duplicates.scan_seq(5) == 3
    duplicates.advance(HostCursor(1, 1, 30))
    assert duplicates.scan_seq(5) == 4
    duplicates.advance(HostCursor(2, 1, 7))
    assert duplicates.scan_seq(5) == 5


def test_what_lies_below_the_cursor_is_not_remembered_again() -> None:
    duplicates = Duplicates()
    duplicates.advance(HostCursor(1, 1, 20))
    duplicates.add(1, 1, 10, 1)
    assert len(duplicates) == 0
