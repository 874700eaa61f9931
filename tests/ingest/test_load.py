"""What a shard costs: averaged over about a minute, in messages a second, and carried along by a move."""

from __future__ import annotations

import math

import pytest

from ingest.load import AVERAGE_S, MESSAGE_BYTES, Averages, Said, Work, work_of


def after(averages: Averages, seconds: int, work: float, begin_s: float = 0.0) -> float:
    """The load of shard 3 after so many seconds of this much work in each."""
    said = averages.say(begin_s, {})
    for second in range(1, seconds + 1):
        said = averages.say(begin_s + second, {3: Work(work, 7)})
    assert said[3].hosts == 7
    return said[3].load


def test_a_message_of_usual_size_a_second_is_a_load_of_one() -> None:
    averages = Averages()
    averages.take_over(3, 0.0)
    usual = work_of(1, MESSAGE_BYTES)
    assert after(averages, 600, usual) == pytest.approx(1.0, abs=0.01)
    assert work_of(10, 0) == 10 * usual / 2, "one without bytes costs half as much"


def test_it_takes_about_a_minute_to_believe_what_is_new() -> None:
    averages = Averages()
    averages.take_over(3, 0.0)
    assert after(averages, int(AVERAGE_S), 2 * MESSAGE_BYTES) == pytest.approx(
        1 - 1 / math.e, abs=0.01
    )


def test_who_takes_over_goes_on_from_what_was_said() -> None:
    averages = Averages()
    averages.take_over(3, 5.0)
    assert averages.say(0.0, {}) == {3: Said(5.0, 0)}
    assert after(averages, 30, 10 * MESSAGE_BYTES, 0.0) == pytest.approx(5.0, abs=0.01)
    averages.forget([3])
    assert averages.say(99.0, {3: Work(1.0, 1)}) == {}


def test_a_pause_between_two_words_counts_as_long_as_it_was() -> None:
    averages = Averages()
    averages.take_over(3, 4.0)
    averages.say(0.0, {})
    said = averages.say(AVERAGE_S, {3: Work(0.0, 7)})
    assert said[3].load == pytest.approx(4.0 / math.e)
    # Asked twice in one instant: nothing is divided by nothing.
    assert averages.say(AVERAGE_S, {3: Work(100.0, 7)})[3].load == said[3].load
