"""Each step of the judge that runs is counted once, by how it ended."""

from __future__ import annotations

from typing import Any

import pytest

from common.envelope import Kind
from common.event import Event
from common.verdict import Level
from ingest import metrics
from ingest.checked import Checked, Result
from ingest.judge import COMMIT_STEPS, STEPS, SYNC_STEPS, name_of
from tests.common.commits import EMPTY, NODE, RECORD, car, cid, commit_block, link
from tests.ingest.events_by_hand import (
    EXPECTED,
    HOST,
    OTHER,
    STATE,
    account,
    commit,
    commit_of,
    entry,
    judged,
    keys_of_depth,
    node,
    sync,
)

GOOD = commit_block()


def of_a_record_that_is_a_node() -> Event:
    """A sound commit: it creates a record that is, byte for byte, a node of the same tree."""
    low, high = keys_of_depth(0, 1), keys_of_depth(1, 3)
    key = next(key for key in high if key > low[0])
    leaf = node(entry(low[0], cid(RECORD)))
    root = node(entry(key, cid(leaf)), left=cid(leaf))
    ops = [{"action": "create", "path": key, "cid": link(cid(leaf))}]
    return commit_of(root, [leaf], ops, prevData=link(cid(leaf)))


def taken(checked: Checked, kind: Kind = Kind.COMMIT) -> dict[str, dict[str, int]]:
    """What was counted, without the zeros, by name of the step."""
    steps = STEPS[kind]
    found = checked.take(kind, len(steps))
    return {
        name_of(step): {result.name: count for result, count in results.items() if count}
        for step, results in zip(steps, found, strict=True)
    }


def test_an_event_that_passes_has_passed_every_step() -> None:
    checked = Checked()
    for _ in range(3):
        assert judged(commit(), checked=checked) == EXPECTED
    assert taken(checked) == {name_of(step): {"PASSED": 3} for step in COMMIT_STEPS}
    assert taken(checked) == {name_of(step): {} for step in COMMIT_STEPS}


def test_a_step_that_fails_ends_the_count() -> None:
    checked = Checked()
    judged(commit(commit_block(key=OTHER)), checked=checked)
    judged(commit(rev="2222222222222"), checked=checked)
    judged(commit(commit_block(key=OTHER)), fresh=False, checked=checked)
    found = taken(checked)
    assert found["rev_is_newer"] == {"PASSED": 2, "DROPPED": 1}
    assert found["commit"] == {"PASSED": 2}
    assert found["signature"] == {"DROPPED": 1, "ASKED": 1}
    assert found["chain"] == {}


def test_a_step_that_is_waived_is_followed_by_the_next() -> None:
    checked = Checked()
    observed = HOST._replace(level=Level.OBSERVE)
    judged(commit(prevData=...), source=observed, checked=checked)
    found = taken(checked)
    assert found["prev_data_is_there"] == {"WAIVED": 1}
    assert found["signature"] == found["chain"] == {"PASSED": 1}


def test_kinds_are_counted_apart() -> None:
    checked = Checked()
    judged(sync(), checked=checked)
    assert taken(checked) == {name_of(step): {} for step in COMMIT_STEPS}
    assert taken(checked, Kind.SYNC) == {name_of(step): {"PASSED": 1} for step in SYNC_STEPS}


def test_the_metric_has_a_series_for_every_step_before_it_ran() -> None:
    steps = {name_of(step) for steps in STEPS.values() for step in steps}
    assert {step for step, _ in metrics.checked} == steps
    assert {result for _, result in metrics.checked} == set(Result)


def test_what_was_counted_is_handed_to_the_metric_once() -> None:
    def value(step: str, result: Result) -> Any:
        return metrics.checked[step, result]._value.get()

    passed = value("same_commit", Result.PASSED)
    dropped = value("rev_is_newer", Result.DROPPED)
    checked = Checked()
    judged(sync(), checked=checked)
    judged(commit(), state=STATE._replace(rev="3zzzzzzzzzzzz"), checked=checked)
    metrics.add_checked(checked)
    metrics.add_checked(checked)
    assert value("same_commit", Result.PASSED) == passed + 1
    assert value("rev_is_newer", Result.DROPPED) == dropped + 1


@pytest.mark.parametrize(
    ("of", "surplus"),
    [
        pytest.param(commit(), 0, id="a commit"),
        pytest.param(sync(), 0, id="a sync"),
        pytest.param(
            commit(blocks=car([cid(GOOD)], [GOOD, NODE, EMPTY, RECORD, b"\x01", b"\x01"])), 2,
            id="a commit with the node of before, and one block more, twice",
        ),
        pytest.param(sync(blocks=car([cid(GOOD)], [GOOD, NODE])), 1, id="a sync with a node"),
        pytest.param(commit(commit_block(key=OTHER)), 0, id="what is dropped"),
        pytest.param(account(), 0, id="an account event, which has none"),
        pytest.param(of_a_record_that_is_a_node(), 0, id="a commit of a record that is a node"),
    ],
)  # fmt: skip
def test_blocks_that_came_for_nothing_are_counted_and_let_be(of: Event, surplus: int) -> None:
    checked = Checked()
    judged(of, checked=checked)
    before = metrics.SURPLUS._value.get()
    assert checked.surplus == surplus
    metrics.add_checked(checked)
    metrics.add_checked(checked)
    assert metrics.SURPLUS._value.get() == before + surplus
