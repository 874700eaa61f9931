"""Do the mutants still fit the code? Whether they are caught is `make mutants`' to say."""

from __future__ import annotations

import ast
import re

import pytest

from tests.mutants.by_hand import BUGS
from tests.mutants.by_tool import mutants_of
from tests.mutants.catalogue import TARGETS, all_mutants
from tests.mutants.harmless import HARMLESS
from tests.mutants.mutant import ROOT, Bug, Mutant, Stale, located, source_of
from tests.mutants.runner import NotGreen, Result, run_all


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.says)
def test_every_bug_by_hand_still_fits_in_one_place(bug: Bug) -> None:
    source = source_of(bug.path)
    mutated = located(bug, source).applied_to(source)
    assert ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(source))


def test_there_are_enough_of_them_each_with_its_own_name_and_tests_that_exist() -> None:
    mutants = all_mutants()
    names = [mutant.name for mutant in mutants]
    assert len(set(names)) == len(names)
    by_tool = [mutant for mutant in mutants if mutant.tool]
    assert len(BUGS) >= 40
    assert len(by_tool) >= len(BUGS)
    missing = [t for target in TARGETS.values() for t in target.tests if not (ROOT / t).exists()]
    assert missing == []


def test_the_tool_draws_the_same_every_time_and_hardly_others_when_the_code_grows() -> None:
    drawn = mutants_of("common/car.py", 8)
    assert drawn == mutants_of("common/car.py", 8)
    assert drawn[:5] == mutants_of("common/car.py", 5)
    assert all(mutant.applied_to(source_of("common/car.py")) for mutant in drawn)


def test_a_bug_that_no_longer_fits_says_so() -> None:
    with pytest.raises(Stale, match="found 0 times"):
        located(Bug("common/cid.py", "no such text", "x", "x"), "some source")
    with pytest.raises(Stale, match="found 2 times"):
        located(Bug("common/cid.py", "twice", "x", "x"), "twice twice")
    with pytest.raises(Stale, match="not as it was"):
        Mutant("x", "common/cid.py", 3, "abc", "abd", tool=False).applied_to("abc")


CID_TESTS = ("tests/common/test_cid.py",)


def test_the_runner_tells_a_bug_that_is_seen_from_one_that_is_not() -> None:
    before = source_of("common/cid.py")
    seen = located(
        Bug("common/cid.py", "return DAG_CBOR_PREFIX +", "return RAW_PREFIX +", "seen"), before
    )
    unseen = located(
        Bug("common/cid.py", 'f"not base32: {error}"', 'f"no base32: {error}"', "unseen"), before
    )
    told: list[Result] = []
    results = run_all([seen, unseen], lambda _path: CID_TESTS, 1, told.append)
    assert results == told
    assert [result.caught_by for result in results] == [
        "tests/common/test_cid.py::test_the_empty_tree_has_its_known_name", None,
    ]  # fmt: skip
    assert source_of("common/cid.py") == before


def test_the_runner_refuses_tests_that_fail_by_themselves() -> None:
    with pytest.raises(NotGreen):
        run_all(
            mutants_of("common/cid.py", 1),
            lambda _path: ("tests/no_such_test.py",),
            1,
            lambda _result: None,
        )


def test_the_page_tells_of_every_bug_by_hand_who_sees_it_or_why_nobody_can() -> None:
    text = (ROOT / "docs" / "mutants.md").read_text()
    rows = re.findall(r"^\| `([\w/]+\.py)` \| (.+) \| (.+) \|$", text, re.MULTILINE)
    told = {bug: fate for _path, bug, fate in rows}
    assert [bug.says for bug in BUGS if bug.says not in told] == []
    unexplained = [
        bug
        for bug, fate in told.items()
        if not re.match(r"`tests/|the time limit|exit code|the collection|survives: \w", fate)
        or "NO REASON" in fate
    ]
    assert unexplained == []


def test_what_changes_nothing_is_explained_and_still_among_them() -> None:
    names = {mutant.name for mutant in all_mutants()}
    assert [name for name in HARMLESS if name not in names] == []
    assert [why for why in HARMLESS.values() if len(why) < 20] == []
