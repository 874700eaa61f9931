"""broadcast.consumer: its states, and how long it may stand still."""

from __future__ import annotations

import pytest

from broadcast.consumer import TRANSITIONS, Consumer, Patience, Signal, State


@pytest.mark.parametrize(
    ("before", "signal", "after"),
    [
        pytest.param(State.PLAYBACK, Signal.CAUGHT_UP, State.LIVE, id="caught up goes live"),
        pytest.param(State.LIVE, Signal.FELL_BEHIND, State.PLAYBACK, id="a full socket falls back"),
        pytest.param(State.PLAYBACK, Signal.LEFT, State.CLOSING, id="leaves from playback"),
        pytest.param(State.LIVE, Signal.LEFT, State.CLOSING, id="leaves from live"),
        pytest.param(State.CLOSING, Signal.LEFT, State.CLOSING, id="leaving twice does no harm"),
    ],
)
def test_a_consumer_moves(before: State, signal: Signal, after: State) -> None:
    consumer = Consumer(1, before)
    consumer.move(signal)
    assert consumer.state is after


def test_nobody_comes_back_from_closing() -> None:
    assert set(TRANSITIONS) == set(State)
    assert set(TRANSITIONS[State.CLOSING].values()) == {State.CLOSING}
    with pytest.raises(KeyError):
        Consumer(1, State.CLOSING).move(Signal.CAUGHT_UP)


def test_patience_counts_from_the_last_progress() -> None:
    patience = Patience(acknowledged=100, since_s=10.0)
    assert patience.stalled_s(100, 40.0) == 30.0
    assert patience.stalled_s(101, 65.0) == 0.0
    assert patience.stalled_s(101, 80.0) == 15.0
