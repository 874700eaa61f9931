"""Whose clock is wrong?"""

from __future__ import annotations

import pytest

from common.syntax import tid_text
from ingest.clock import NEAR_S, WINDOW_S, Clock

NOW_S = 1_784_000_000.0
GRACE_S = 30.0


def rev(time_s: float) -> str:
    return tid_text(int(time_s * 1e6) << 10)


def test_one_host_ahead_is_borne_with_for_a_grace_and_no_longer() -> None:
    clock = Clock()
    assert clock.bears(1, NOW_S, GRACE_S)
    assert clock.bears(1, NOW_S + 29, GRACE_S)
    assert not clock.bears(1, NOW_S + 31, GRACE_S)
    assert not clock.is_suspect(NOW_S + 31)
    # And has none again before it was quiet for a while.
    assert not clock.bears(1, NOW_S + 60, GRACE_S)
    assert clock.bears(1, NOW_S + 61 + WINDOW_S, GRACE_S)


def test_a_host_that_was_right_just_now_is_not_borne_with() -> None:
    clock = Clock()
    clock.is_not_ahead(1, rev(NOW_S), NOW_S)
    assert not clock.bears(1, NOW_S + 1, GRACE_S)
    assert clock.bears(2, NOW_S + 1, GRACE_S)


def test_an_old_rev_says_nothing_of_the_time() -> None:
    clock = Clock()
    clock.is_not_ahead(1, rev(NOW_S - NEAR_S - 5), NOW_S)
    clock.is_not_ahead(1, rev(NOW_S + NEAR_S + 5), NOW_S)
    assert clock.bears(1, NOW_S, GRACE_S)
    clock.is_not_ahead(2, rev(NOW_S - NEAR_S + 5), NOW_S)
    assert not clock.bears(2, NOW_S, GRACE_S)


def test_three_hosts_ahead_of_three_make_our_clock_suspect() -> None:
    clock = Clock()
    for host in (1, 2):
        clock.bears(host, NOW_S, GRACE_S)
    assert clock.bears(3, NOW_S + 50, GRACE_S)
    assert clock.is_suspect(NOW_S + 50)
    for second in range(600):
        for host in (1, 2, 3):
            assert clock.bears(host, NOW_S + 51 + second, GRACE_S)


@pytest.mark.parametrize("heard", [6, 7])
def test_hosts_that_are_no_more_than_half_are_liars(heard: int) -> None:
    clock = Clock()
    for host in range(4, heard + 1):
        clock.is_not_ahead(host, rev(NOW_S), NOW_S)
    for host in (1, 2, 3):
        clock.bears(host, NOW_S, GRACE_S)
    assert not clock.is_suspect(NOW_S)
    assert not clock.bears(1, NOW_S + GRACE_S, GRACE_S)


def test_two_hosts_suffice_only_where_there_are_no_others() -> None:
    clock = Clock()
    for host in (1, 2):
        clock.bears(host, NOW_S, GRACE_S)
    assert clock.is_suspect(NOW_S)
    clock.is_not_ahead(3, rev(NOW_S), NOW_S + 2)
    assert not clock.is_suspect(NOW_S + 2)


def test_a_clock_that_is_set_right_is_believed_again() -> None:
    clock = Clock()
    clock.set(-3600.0)
    for host in (1, 2, 3):
        clock.bears(host, NOW_S, GRACE_S)
    assert clock.is_suspect(NOW_S)
    assert clock.wall_s(NOW_S) == NOW_S - 3600
    clock.set(0.2)
    assert not clock.is_suspect(NOW_S + 0.1)
    clock.is_not_ahead(1, rev(NOW_S), NOW_S + 0.1)
    assert not clock.bears(1, NOW_S + 1, GRACE_S)


def test_what_was_heard_before_the_clock_was_set_is_no_proof_against_a_host() -> None:
    clock = Clock()
    for host in range(1, 9):
        clock.is_not_ahead(host, rev(NOW_S), NOW_S)
    clock.set(-3600.0)
    for host in (1, 2, 3):
        assert clock.bears(host, NOW_S + 1, GRACE_S)
    assert clock.is_suspect(NOW_S + 1)


def test_a_clock_that_drifts_is_disbelieved_before_anything_is_held_against_it() -> None:
    """Four seconds a day, for months: at the bound half of the revs are ahead, half are not."""
    clock = Clock()
    for second in range(30):
        clock.set(-300.0 - second / 1000)
        now_s = NOW_S + second
        for host in (1, 2, 3):
            clock.is_not_ahead(host, rev(now_s), now_s)
            assert clock.bears(host, now_s, GRACE_S)
    assert clock.is_suspect(NOW_S + 30)


def test_a_clock_of_ours_that_is_ahead_holds_nothing_against_anybody() -> None:
    clock = Clock()
    clock.set(7200.0)
    for host in (1, 2, 3):
        clock.is_not_ahead(host, rev(NOW_S), NOW_S)
    assert not clock.is_suspect(NOW_S)


def test_hosts_that_are_quiet_are_forgotten() -> None:
    clock = Clock()
    for host in (1, 2, 3):
        clock.bears(host, NOW_S, GRACE_S)
    assert clock.is_suspect(NOW_S)
    assert not clock.is_suspect(NOW_S + WINDOW_S + 2)


def test_what_was_heard_a_whole_window_ago_counts_for_the_last_time() -> None:
    clock = Clock()
    clock.is_not_ahead(3, rev(NOW_S), NOW_S)
    for host in (1, 2):
        clock.bears(host, NOW_S + WINDOW_S, GRACE_S)
    assert not clock.is_suspect(NOW_S + WINDOW_S)
    assert clock.is_suspect(NOW_S + WINDOW_S + 1)


def test_before_anything_was_heard_our_clock_is_believed() -> None:
    assert not Clock().suspect


def test_a_rev_on_the_edge_of_about_now_is_about_now() -> None:
    for edge_s in (-NEAR_S, NEAR_S):
        clock = Clock()
        clock.is_not_ahead(1, rev(NOW_S + edge_s), NOW_S)
        assert not clock.bears(1, NOW_S, GRACE_S)
