"""Does a plan hold what it has to, is it the same by its seed, and is one without proofs worth nothing?"""

from __future__ import annotations

import random

import pytest

from tests.chaos.plan import SUPERVISORD, Era, Plan, Record, Size, Way, draw

PROCESSES = ("persist", "ingest-0", "ingest-1", "broadcast-0", "broadcast-1", "postgres")
SIZE = Size(eras=3, kills=12, stops=5, outlived=2, points=4)
SEEDS = range(200)


def test_the_seed_decides_everything() -> None:
    assert draw(7, SIZE, PROCESSES) == draw(7, SIZE, PROCESSES)
    assert len({draw(seed, SIZE, PROCESSES).eras for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("eras", [2, 3, 9])
def test_each_process_is_killed_and_supervisord_between_the_eras(eras: int) -> None:
    for seed in SEEDS:
        plan = draw(seed, SIZE._replace(eras=eras), PROCESSES)
        killed = [fault.victim for fault in plan.faults if fault.way is Way.KILL]
        assert set(killed) == {*PROCESSES, SUPERVISORD}
        assert killed.count(SUPERVISORD) == eras - 1
        assert len(killed) == 12 + eras - 1
        for era in plan.eras[:-1]:
            assert era.faults[-1].victim == SUPERVISORD
        points = [fault for fault in plan.faults if fault.way is Way.POINT]
        assert plan.deaths == len(killed) + sum(len(fault.orders) for fault in points)


def test_nothing_happens_to_the_broadcaster_that_is_spared() -> None:
    for seed in SEEDS:
        for era in draw(seed, SIZE, PROCESSES).eras:
            assert era.spared.startswith("broadcast")
            assert era.spared not in {fault.victim for fault in era.faults}


def test_each_ingest_process_is_outlived_while_it_stands_still() -> None:
    for seed in SEEDS:
        faults = draw(seed, SIZE, PROCESSES).faults
        outlived = {fault.victim for fault in faults if fault.way is Way.OUTLIVE}
        assert outlived == {"ingest-0", "ingest-1"}


def test_faults_come_at_once_and_at_any_distance() -> None:
    pauses = [fault.after_s for seed in SEEDS for fault in draw(seed, SIZE, PROCESSES).faults]
    assert 0.1 < pauses.count(0.0) / len(pauses) < 0.3
    assert max(pauses) > 3


@pytest.mark.parametrize(
    ("size", "processes"),
    [
        (SIZE._replace(eras=1), PROCESSES),
        (SIZE._replace(kills=5), PROCESSES),
        (SIZE, ("persist", "ingest-0", "broadcast-0", "postgres")),
    ],
)
def test_a_plan_that_would_leave_somebody_out_is_refused(
    size: Size, processes: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match="not every process"):
        draw(1, size, processes)


def test_a_fault_without_a_proof_is_missing_and_so_is_a_plan_without_faults() -> None:
    plan = draw(1, SIZE, PROCESSES)
    record = Record(plan)
    assert len(record.missing()) == len(plan.faults)
    left_out = random.Random(1).choice(plan.faults)
    for fault in plan.faults:
        record.begin(fault, 1.0)
        if fault != left_out:
            record.prove(fault, 2.0, 1, "it ended")
    (missing,) = record.missing()
    assert str(left_out) in missing
    record.prove(left_out, 2.0, 1, "it ended")
    assert record.missing() == []
    assert len(record.lines()) == len(plan.faults)
    empty = Plan(1, (Era("broadcast-0", ()),))
    assert Record(empty).missing() == ["nothing was injected"]
