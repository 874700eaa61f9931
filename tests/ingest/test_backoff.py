"""Delays between attempts."""

from __future__ import annotations

from random import Random

from ingest.backoff import Backoff


def test_delays_double_up_to_a_limit_with_jitter() -> None:
    backoff = Backoff(1.0, 60.0, Random(1))
    for number, whole in enumerate([1, 2, 4, 8, 16, 32, 60, 60, 60]):
        assert backoff.failures == number
        assert whole / 2 <= backoff.next_s() <= whole


def test_only_progress_begins_anew() -> None:
    backoff = Backoff(1.0, 60.0, Random(1))
    for _ in range(5000):
        backoff.next_s()
    assert backoff.next_s() >= 30
    backoff.progress()
    assert backoff.next_s() <= 1


def test_many_that_failed_together_do_not_come_back_together() -> None:
    random = Random(1)
    delays = {round(Backoff(10.0, 60.0, random).next_s(), 3) for _ in range(100)}
    assert len(delays) > 90
