"""The memory of sound trees spares the judge work and changes no verdict."""

from __future__ import annotations

from typing import Any

import pytest

from common.envelope import NEVER_SEEN
from common.event import Event
from common.verdict import Level
from ingest import metrics
from ingest.checked import Checked
from ingest.judge import judge
from ingest.node_memory import NodeMemory
from tests.common.commits import EMPTY, NODE, RECORD, cid, link
from tests.ingest.events_by_hand import (
    EXPECTED,
    HOST,
    IDENTITY,
    NOW_S,
    STATE,
    commit,
    commit_of,
    entry,
    event,
    keys_of_depth,
    node,
)
from tests.ingest.test_judge_reasons import FAULTS, Fault

A, B = keys_of_depth(0, 2)
ONE = node(entry(A, cid(RECORD)))
TWO = node(entry(A, cid(RECORD)), entry(B, cid(RECORD), len(A) - 1))


def create(path: str) -> dict[str, Any]:
    return {"action": "create", "path": path, "cid": link(cid(RECORD))}


FIRST = commit_of(ONE, [RECORD], [create(A)])
SECOND = commit_of(TWO, [RECORD], [create(B)], prevData=link(cid(ONE)))


def judged(of: Event, memory: NodeMemory | None, checked: Checked | None = None) -> Any:
    return judge(
        event(of.raw), IDENTITY, NEVER_SEEN, HOST, now_s=NOW_S, fresh=True, asked=True,
        memory=memory, checked=checked,
    )  # fmt: skip


def test_what_follows_from_a_remembered_tree_is_proven_and_counted() -> None:
    memory, checked = NodeMemory(), Checked()
    for of, hits in ((FIRST, 0), (SECOND, 1)):
        assert judged(of, memory, checked) == judged(of, None)
        assert memory.hits == checked.proven == hits
    before = metrics.PROVEN._value.get()
    metrics.add_checked(checked)
    metrics.add_checked(checked)
    assert metrics.PROVEN._value.get() == before + 1


def test_nothing_is_learned_from_what_is_dropped() -> None:
    memory = NodeMemory()
    wrong = commit_of(ONE, [RECORD], [create(A)], prevData=link(cid(TWO)))
    judged(wrong, memory)
    assert len(memory) == 0


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_no_fault_is_missed_for_the_memory(fault: Fault) -> None:
    memory = NodeMemory()
    # What there is to be remembered: the tree before, the tree after, and one beside.
    for of in (commit(), FIRST, SECOND, commit_of(EMPTY, [], [], prevData=link(cid(EMPTY)))):
        judged(of, memory)
    assert memory.get(cid(NODE))
    assert memory.get(cid(EMPTY))
    given = {"identity": IDENTITY, "state": STATE, "source": HOST, **fault.given}
    for level in Level:
        given["source"] = given["source"]._replace(level=level)
        verdicts = [
            judge(fault.event(), **given, now_s=NOW_S, fresh=True, asked=True, memory=one)
            for one in (memory, None, memory)
        ]
        assert verdicts[0] == verdicts[1] == verdicts[2]


def test_a_good_commit_stays_good_however_often_it_is_judged() -> None:
    memory = NodeMemory()
    for _ in range(3):
        found = judge(
            commit(), IDENTITY, STATE, HOST, now_s=NOW_S, fresh=True, asked=True, memory=memory
        )
        assert found == EXPECTED
