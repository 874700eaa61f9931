"""Is everything there, once and in order, whatever was killed at whatever moment? A whole relay."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from tests.chaos.plan import Size, draw
from tests.chaos.storm import PROCESSES, Outcome, storm

SHORT = Size(eras=2, kills=8, stops=2, outlived=1, points=2)
LONG = Size(eras=9, kills=75, stops=24, outlived=6, points=16)


def seed() -> int:
    """CHAOS_SEED of the environment, or a new one."""
    given = os.environ.get("CHAOS_SEED")
    return int(given) if given else random.randrange(2**31)


def run(size: Size) -> Outcome:
    plan = draw(seed(), size, PROCESSES)
    print(f"CHAOS_SEED={plan.seed}", flush=True)
    for fault in plan.faults:
        print(f"{fault.after_s:5.2f} s, then {fault}", flush=True)
    outcome = asyncio.run(storm(plan))
    print(outcome.told())
    return outcome


def test_whatever_dies_nothing_is_lost_doubled_or_given_twice() -> None:
    outcome = run(SHORT)
    assert outcome.problems == []
    assert set(outcome.deaths) == {*PROCESSES, "supervisord"}
    assert sum(outcome.deaths.values()) >= 10


@pytest.mark.slow
def test_a_hundred_deaths_lose_double_and_give_twice_nothing() -> None:
    outcome = run(LONG)
    assert outcome.problems == []
    assert set(outcome.deaths) == {*PROCESSES, "supervisord"}
    assert sum(outcome.deaths.values()) >= 100
