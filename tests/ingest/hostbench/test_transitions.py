"""The whole table of transitions: every phase with every signal, as one can read it."""

from __future__ import annotations

from math import inf
from random import Random

import pytest

from ingest.lifecycle import NOTHING, TRANSITIONS, Delays, Lifecycle, Orders, Phase, Signal, State

DELAYS = Delays()
NOW_S = 1_000.0

EXPECTED = """
              RESTING  WAITING  QUEUED     DIALLING   OPEN       READING
DUE           -        QUEUED   -          -          -          -
ASKED         -        QUEUED   QUEUED     -          QUEUED     QUEUED
SOONER        -        WAITING  -          -          -          -
ALLOWED       -        -        DIALLING   -          -          -
OPENED        -        -        -          OPEN       -          -
PROGRESS      -        -        -          -          READING    -
FAILED        -        -        -          WAITING    -          -
IS_RELAY      -        -        -          WAITING    WAITING    WAITING
LOST          -        -        -          WAITING    WAITING    WAITING
SILENT        -        -        -          WAITING    WAITING    WAITING
BAD_FRAME     -        -        -          -          WAITING    WAITING
TOO_SLOW      -        -        -          -          WAITING    WAITING
ERROR_FRAME   -        -        -          -          WAITING    WAITING
NUMBERS       -        -        -          -          WAITING    WAITING
FORBIDDEN     -        RESTING  RESTING    RESTING    RESTING    RESTING
"""
PHASES, *ROWS = [line.split() for line in EXPECTED.strip().splitlines()]
CELLS = [
    (phase, row[0], next_phase)
    for row in ROWS
    for phase, next_phase in zip(PHASES, row[1:], strict=True)
]


def life_in(phase: Phase) -> Lifecycle:
    """A host that has come to a phase in the ordinary way."""
    life = Lifecycle(DELAYS, Random(1))
    way = {
        Phase.RESTING: (Signal.FORBIDDEN,),
        Phase.WAITING: (Signal.ALLOWED, Signal.FAILED),
        Phase.DIALLING: (Signal.ALLOWED,),
        Phase.OPEN: (Signal.ALLOWED, Signal.OPENED),
        Phase.READING: (Signal.ALLOWED, Signal.OPENED, Signal.PROGRESS),
    }
    for signal in way.get(phase, ()):
        life.on(signal, NOW_S)
    assert life.phase is phase
    return life


def test_the_table_here_has_every_cell() -> None:
    assert {(phase, signal) for phase, signal, _next in CELLS} == {
        (phase.name, signal.name) for phase in Phase for signal in Signal
    }
    assert set(TRANSITIONS) == set(Phase)


@pytest.mark.parametrize(("phase", "signal", "expected"), CELLS)
def test_every_cell_leads_where_the_table_says(phase: str, signal: str, expected: str) -> None:
    life = life_in(Phase[phase])
    before = life.failures, life.next_dial_s, life.observed
    orders = life.on(Signal[signal], NOW_S)
    assert life.phase is Phase[phase if expected == "-" else expected]
    if expected == "-":
        assert orders == NOTHING
        # What comes too late changes nothing at all; progress may come behind the connection's end.
        if signal != "PROGRESS":
            assert (life.failures, life.next_dial_s, life.observed) == before
        return
    linked = phase in ("DIALLING", "OPEN", "READING")
    assert orders == Orders(
        queue=expected == "QUEUED",
        leave=(phase, signal) == ("QUEUED", "FORBIDDEN"),
        cut=linked and expected in ("WAITING", "QUEUED", "RESTING"),
    )
    if expected == "WAITING":
        assert NOW_S <= life.next_dial_s < inf
    else:
        assert life.next_dial_s == inf


@pytest.mark.parametrize(
    ("signal", "observed", "least_s", "most_s"),
    [
        pytest.param(Signal.LOST, State.ACTIVE, 0.5, 1.0, id="lost"),
        pytest.param(Signal.SILENT, State.ACTIVE, 0.5, 1.0, id="half-open"),
        pytest.param(Signal.BAD_FRAME, State.ACTIVE, 0.5, 1.0, id="bad frame"),
        pytest.param(Signal.TOO_SLOW, State.ACTIVE, 0.5, 1.0, id="we were too slow"),
        pytest.param(Signal.ERROR_FRAME, State.IDLE, 300, 600, id="error frame"),
        pytest.param(Signal.NUMBERS, State.IDLE, 60, 120, id="numbers anew"),
        pytest.param(Signal.IS_RELAY, State.OFFLINE, 300, 600, id="a relay"),
    ],
)
def test_what_follows_the_end_of_a_stream(
    signal: Signal, observed: State, least_s: float, most_s: float
) -> None:
    for seed in range(20):
        life = life_in(Phase.READING)
        life._random.seed(seed)
        life.on(signal, NOW_S)
        assert life.observed is observed
        assert least_s <= life.next_dial_s - NOW_S <= most_s
        assert life.failures == 1


def failing(life: Lifecycle, times: int) -> list[float]:
    """The delays after so many failed dials in a row."""
    delays = []
    for _ in range(times):
        if life.phase is Phase.WAITING:
            life.on(Signal.DUE, NOW_S)
        life.on(Signal.ALLOWED, NOW_S)
        life.on(Signal.FAILED, NOW_S)
        delays.append(life.next_dial_s - NOW_S)
    return delays


def test_failures_double_the_delay_to_five_minutes_then_to_six_hours_and_never_end() -> None:
    life = Lifecycle(DELAYS, Random(3))
    delays = failing(life, 40)
    whole = [min(300, 2**n) for n in range(9)] + [min(21_600, 300 * 2**n) for n in range(31)]
    for delay_s, most_s in zip(delays, whole, strict=True):
        assert most_s / 2 <= delay_s <= most_s
    assert len({round(d / w, 6) for d, w in zip(delays, whole, strict=True)}) > 30, "no jitter"


def test_a_host_counts_as_offline_after_ten_failures_and_as_active_when_it_opens() -> None:
    life = Lifecycle(DELAYS, Random(3))
    failing(life, 9)
    assert str(life.observed) == "idle"
    failing(life, 1)
    assert str(life.observed) == "offline"
    life.on(Signal.DUE, NOW_S)
    life.on(Signal.ALLOWED, NOW_S)
    life.on(Signal.OPENED, NOW_S)
    assert str(life.observed) == "active"
    # Nothing came of it: no progress, and the next delay is longer still.
    life.on(Signal.LOST, NOW_S)
    assert str(life.observed) == "offline"
    assert life.failures == 11
    assert life.next_dial_s - NOW_S >= 300


def test_progress_that_comes_behind_the_end_of_the_connection_counts() -> None:
    life = life_in(Phase.OPEN)
    failing(life, 0)
    life.on(Signal.LOST, NOW_S)
    assert life.failures == 1
    life.progress()
    assert life.failures == 0
    assert life.phase is Phase.WAITING


def test_who_is_asked_for_does_not_wait_the_longest_again() -> None:
    life = Lifecycle(DELAYS, Random(3))
    failing(life, 30)
    orders = life.on(Signal.ASKED, NOW_S)
    assert orders.queue
    assert life.urgent
    life.on(Signal.ALLOWED, NOW_S)
    assert not life.urgent
    life.on(Signal.FAILED, NOW_S)
    assert life.next_dial_s - NOW_S <= 600


def test_numbers_are_believed_to_have_begun_anew_after_three_looks_in_a_row() -> None:
    life = life_in(Phase.OPEN)
    restarts = []
    for _ in range(3):
        restarts.append(life.on(Signal.NUMBERS, NOW_S).restart)
        life.on(Signal.DUE, NOW_S)
        life.on(Signal.ALLOWED, NOW_S)
        life.on(Signal.OPENED, NOW_S)
    assert restarts == [False, False, True]
    life.on(Signal.PROGRESS, NOW_S)
    assert not life.on(Signal.NUMBERS, NOW_S).restart, "progress in between: it begins anew"


def test_a_quota_is_seen_as_throttled_and_a_ban_before_everything() -> None:
    life = life_in(Phase.READING)
    life.limited = True
    assert str(life.observed) == "throttled"
    life.on(Signal.FORBIDDEN, NOW_S)
    assert str(life.observed) == "banned"
