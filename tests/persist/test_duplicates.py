"""Is an event known by its name at the source, for as long as it has to be?"""

from __future__ import annotations

import pytest

from common.chunk import account_key
from common.envelope import HostCursor
from persist import duplicates as module
from persist.duplicates import Duplicates

ALICE, BOB = account_key("did:web:alice.test"), account_key("did:web:bob.test")


def key(number: int) -> bytes:
    """An account for each number."""
    return number.to_bytes(16, "big")


def has(duplicates: Duplicates, upstream_seq: int, generation: int = 1) -> bool:
    """Whether this number of host 1 is known, for an account that has said nothing else."""
    return duplicates.stream(1, generation).has(upstream_seq, key(upstream_seq))


def filled(*seqs: int) -> Duplicates:
    duplicates = Duplicates()
    for ours, upstream_seq in enumerate(seqs, 1):
        duplicates.add(1, 1, upstream_seq, key(upstream_seq), ours)
    return duplicates


def test_a_cursor_makes_everything_up_to_it_known_and_forgets_it() -> None:
    duplicates = filled(10, 20, 30)
    assert duplicates.advance(HostCursor(1, 1, 20))
    assert [has(duplicates, seq) for seq in (5, 10, 15, 20, 25, 30)] == [
        True, True, True, True, False, True,
    ]  # fmt: skip
    assert len(duplicates) == 1


def test_a_cursor_never_goes_back() -> None:
    duplicates = filled(10, 20, 30)
    duplicates.advance(HostCursor(1, 1, 20))
    assert not duplicates.advance(HostCursor(1, 1, 10))
    assert not duplicates.advance(HostCursor(1, 1, 20))
    assert has(duplicates, 15)


def test_a_new_generation_begins_anew_and_the_old_one_is_forgotten() -> None:
    duplicates = filled(10, 20, 30)
    duplicates.advance(HostCursor(1, 1, 20))
    assert not has(duplicates, 5, 2)
    assert duplicates.advance(HostCursor(1, 2, 3))
    assert len(duplicates) == 0
    assert not duplicates.advance(HostCursor(1, 1, 99))
    # Rows of an older generation need not be remembered.
    duplicates.add(1, 1, 40, key(40), 4)
    assert len(duplicates) == 0


def test_events_out_of_order_are_kept_until_the_cursor_has_passed_them() -> None:
    duplicates = filled(30, 10, 20)
    duplicates.advance(HostCursor(1, 1, 20))
    assert has(duplicates, 30)
    duplicates.advance(HostCursor(1, 1, 30))
    assert len(duplicates) == 0


def test_a_successor_reads_from_the_first_event_above_any_cursor() -> None:
    duplicates = filled(10, 20, 30)
    duplicates.add(2, 1, 7, key(7), 4)
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
    duplicates.add(1, 1, 10, key(10), 1)
    assert len(duplicates) == 0


# --- order within one stream ---


def test_what_comes_behind_a_newer_event_of_its_account_is_no_news() -> None:
    duplicates = Duplicates()
    duplicates.add(1, 1, 30, ALICE, 1)
    duplicates.add(1, 1, 20, BOB, 2)
    stream = duplicates.stream(1, 1)
    assert [stream.has(seq, ALICE) for seq in (10, 25, 30, 31)] == [True, True, True, False]
    assert [stream.has(seq, BOB) for seq in (10, 20, 25, 31)] == [True, True, False, False]
    # Another account may still say what waited for its identity.
    assert not stream.has(10, key(1))
    # A number that is in the log is, whosever event it is said to be now.
    assert stream.has(30, key(1))


def test_order_is_kept_in_each_generation_and_host_alone() -> None:
    duplicates = Duplicates()
    duplicates.add(1, 1, 30, ALICE, 1)
    assert not duplicates.stream(1, 2).has(10, ALICE)
    assert not duplicates.stream(2, 1).has(10, ALICE)


def test_rows_that_are_read_again_in_any_order_leave_the_newest() -> None:
    duplicates = Duplicates()
    for ours, upstream_seq in enumerate((20, 30, 10), 1):
        duplicates.add(1, 1, upstream_seq, ALICE, ours)
    assert duplicates.stream(1, 1).has(25, ALICE)


def test_accounts_are_forgotten_once_the_cursor_has_passed_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SPARE_ACCOUNTS", 3)
    duplicates = filled(*range(1, 101))
    stream = duplicates.stream(1, 1)
    for cursor in range(1, 101):
        duplicates.advance(HostCursor(1, 1, cursor))
        assert len(stream.newest) <= 2 * len(stream.seqs) + 3
        assert all(has(duplicates, seq) for seq in range(1, 101))
        assert not has(duplicates, 101)


# --- what a checkpoint keeps ---


def test_a_stream_that_lags_does_not_hold_the_others_back() -> None:
    duplicates = filled(10, 20, 30)
    for upstream_seq in range(100, 110):
        duplicates.add(2, 1, upstream_seq, BOB, upstream_seq)
    duplicates.advance(HostCursor(2, 1, 105))
    assert duplicates.scan_seq(200) == 1
    (lagging,) = duplicates.lagging(50, 3)
    assert duplicates.scan_seq(200, [lagging]) == 106
    assert (lagging.host, lagging.generation, lagging.seqs) == (1, 1, {10: 1, 20: 2, 30: 3})
    assert duplicates.lagging(1, 99) == []
    assert duplicates.lagging(50, 2) == []
    # Of both the smaller one first: the other one has to be read from its rows.
    duplicates.advance(HostCursor(2, 1, 108))
    assert [one.host for one in duplicates.lagging(200, 3)] == [2]
    assert [one.host for one in duplicates.lagging(200, 4)] == [2, 1]
    # A successor knows by it what it knew by the rows.
    successor = Duplicates()
    successor.advance(HostCursor(1, 1, 10))
    successor.recall(lagging)
    assert [has(successor, seq) for seq in (10, 20, 25, 30)] == [True, True, False, True]
    stream = successor.stream(1, 1)
    assert stream.has(25, key(30))
    assert not stream.has(31, key(30))
    assert successor.scan_seq(200) == 2
    assert len(successor) == 2


def test_what_lagged_in_a_generation_that_is_over_is_not_recalled() -> None:
    (lagging,) = filled(10, 20).lagging(99, 99)
    successor = Duplicates()
    successor.advance(HostCursor(1, 2, 3))
    successor.recall(lagging)
    assert len(successor) == 0
    assert successor.cursors() == [HostCursor(1, 2, 3)]


def test_cursors_are_told_of_the_newest_generation_and_where_there_is_one() -> None:
    duplicates = filled(10, 20)
    assert duplicates.cursors() == []
    duplicates.advance(HostCursor(1, 1, 20))
    duplicates.advance(HostCursor(3, 1, 0))
    assert duplicates.cursors() == [HostCursor(1, 1, 20), HostCursor(3, 1, 0)]
    duplicates.stream(1, 2)
    assert duplicates.cursors() == [HostCursor(3, 1, 0)]


def test_a_stream_whose_first_row_has_left_the_log_is_never_left_out() -> None:
    duplicates = Duplicates()
    for seq in (5, 6, 7):
        duplicates.add(1, 1, seq, b"a" * 8, seq)
    duplicates.add(2, 1, 8, b"b" * 8, 8)
    assert [one.host for one in duplicates.lagging(9, 1, oldest_seq=6)] == [1]
    # Nor when it is not far behind.
    assert [one.host for one in duplicates.lagging(0, 9, oldest_seq=6)] == [1]
    assert [one.host for one in duplicates.lagging(0, 9, oldest_seq=5)] == []
