"""Does a clock that is wrong take nothing from the replay window, and one that is right all that is old?"""

from __future__ import annotations

import pytest

from persist.window_clock import WindowClock, known_s

WINDOW_S = 72 * 3600.0
YEAR_S = 365 * 86_400.0
START_S = 1.8e9


class Machine:
    """A machine whose clock may be set. true_s: since the start."""

    def __init__(self, *, known_s: float = START_S, wrong_s: float = 0.0) -> None:
        self.true_s = 0.0
        self.wrong_s = wrong_s
        self.clock = WindowClock(WINDOW_S, START_S + wrong_s, 0.0, known_s)

    def now_s(self, *, suspect: bool = False) -> float:
        """Seconds since the start, as the window has it."""
        wall_s = START_S + self.true_s + self.wrong_s
        return self.clock.now_s(wall_s, self.true_s, suspect=suspect) - START_S


def test_a_clock_that_is_nudged_is_followed() -> None:
    machine = Machine()
    for _ in range(100):
        machine.true_s += 30
        machine.wrong_s += 10
        assert machine.now_s() == machine.true_s + machine.wrong_s


def test_a_clock_that_jumps_ahead_makes_nothing_older_until_a_window_has_passed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine = Machine()
    machine.true_s, machine.wrong_s = 30.0, YEAR_S
    assert machine.now_s() == 30
    assert "the clock was set by +31536000 s" in caplog.text
    machine.true_s += WINDOW_S - 1
    assert machine.now_s() == machine.true_s
    machine.true_s += 1
    assert machine.now_s() == machine.true_s + YEAR_S


def test_a_jump_that_is_taken_back_leaves_nothing_behind() -> None:
    machine = Machine()
    for wrong_s in (YEAR_S, 0.0, YEAR_S, 0.0):
        machine.true_s += 30
        machine.wrong_s = wrong_s
        assert machine.now_s() == machine.true_s


def test_a_clock_that_was_behind_and_is_put_right_makes_nothing_older() -> None:
    machine = Machine(known_s=START_S - 50 * YEAR_S, wrong_s=-50 * YEAR_S)
    machine.true_s += 30
    assert machine.now_s() == 30 - 50 * YEAR_S
    machine.true_s += 30
    machine.wrong_s = 0.0
    assert machine.now_s() == 60 - 50 * YEAR_S


def test_a_start_with_a_clock_that_is_ahead_of_the_log_takes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine = Machine(wrong_s=YEAR_S)
    assert "the clock is 31536000 s ahead of the log's last word" in caplog.text
    assert machine.now_s() == 0
    # And the clock is put right.
    machine.true_s += 60
    machine.wrong_s = 0.0
    assert machine.now_s() == 60


def test_nothing_is_old_while_the_clock_is_doubted_and_the_window_begins_anew() -> None:
    machine = Machine(wrong_s=YEAR_S)
    machine.true_s = WINDOW_S - 30
    assert machine.now_s(suspect=True) == -START_S
    machine.true_s = WINDOW_S
    assert machine.now_s() == WINDOW_S
    machine.true_s = 2 * WINDOW_S - 30
    assert machine.now_s() == machine.true_s + YEAR_S


DAY_S = 86_400


@pytest.mark.parametrize(
    ("found_s", "window_s", "expected"),
    [
        pytest.param([], WINDOW_S, None, id="nothing"),
        pytest.param([5], WINDOW_S, 5, id="the last writer's end"),
        pytest.param([0, DAY_S, 4 * DAY_S], WINDOW_S, 4 * DAY_S, id="pauses within the window"),
        pytest.param([0, 9 * DAY_S, 10 * DAY_S], WINDOW_S, DAY_S, id="a jump in it"),
        pytest.param([0, DAY_S, 2 * DAY_S], 60, 2 * DAY_S, id="a small window, segments of a day"),
        pytest.param([9 * DAY_S, 0, DAY_S], WINDOW_S, DAY_S, id="times that go back"),
    ],
)
def test_what_a_log_tells_of_the_time(
    found_s: list[int], window_s: float, expected: float | None
) -> None:
    assert known_s([at_s * 10**6 for at_s in found_s], window_s) == expected
