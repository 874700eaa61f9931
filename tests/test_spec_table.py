"""Is docs/spec.md true? Every rule once, each with a place that names it and tests, or a reason."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent

FAMILIES: Final = {
    "COM": 20, "VAL": 23, "MST": 14, "SYN": 10, "IDE": 9, "ACC": 21, "AUT": 7, "DSY": 8, "MIG": 8,
    "CRY": 7,
}  # fmt: skip
"""How many rules each family has; they are numbered from 01 without a gap."""
IDS: Final = [
    f"S-{family}-{n:02}" for family, count in FAMILIES.items() for n in range(1, count + 1)
]
LEVELS: Final = {"MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY", "–"}


class Row(NamedTuple):
    """One rule. shown: tests as path::name; empty where `reason` says why there are none."""

    id: str
    level: str
    rule: str
    modules: list[str]
    shown: list[str]
    reason: str


@cache
def rows() -> list[Row]:
    """The table's rows."""
    found = []
    for line in (ROOT / "docs" / "spec.md").read_text().splitlines():
        if not line.startswith("| S-"):
            continue
        rule_id, level, rule, where, shown = (cell.strip() for cell in line.strip("|").split(" | "))
        tests = re.findall(r"`(tests/[\w/]+\.py::\w+)`", shown)
        reason = "" if tests else shown
        found.append(Row(rule_id, level, rule, re.findall(r"`([\w/]+\.py)`", where), tests, reason))
    return found


@cache
def mentioned(text: str) -> set[str]:
    """The ids that a source names, ranges too: `S-COM-02 to 04`."""
    found = set()
    for family, first, last in re.findall(
        r"S-([A-Z]{3})-(\d\d)(?: to (?:S-[A-Z]{3}-)?(\d\d))?", text
    ):
        found |= {f"S-{family}-{n:02}" for n in range(int(first), int(last or first) + 1)}
    return found


def without_its_docstring(source: str) -> str:
    """A module but for what it says of itself as a whole: the id has to stand beside the line."""
    first = ast.parse(source).body[0]
    assert isinstance(first, ast.Expr)
    return "\n".join(source.splitlines()[first.end_lineno :])


@cache
def functions_by_rule() -> dict[str, set[str]]:
    """The tests of tests/spec, path::name, by the id in their names."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests" / "spec").glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            match = re.match(r"test_s_([a-z]{3})_(\d\d)_", node.name)
            assert match, f"{path.name}::{node.name} is named after no rule"
            name = f"tests/spec/{path.name}::{node.name}"
            found.setdefault(f"S-{match[1].upper()}-{match[2]}", set()).add(name)
    return found


def test_every_rule_stands_in_the_table_once_and_in_order() -> None:
    assert [row.id for row in rows()] == IDS
    assert {row.level for row in rows()} <= LEVELS


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.id)
def test_every_rule_has_tests_named_after_it_or_a_reason(row: Row) -> None:
    assert row.rule.endswith(".")
    assert set(row.shown) == functions_by_rule().get(row.id, set())
    assert bool(row.shown) != bool(row.reason)
    if row.reason:
        assert row.reason.endswith(".")
        assert row.level != "MUST"


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.id)
def test_every_rule_is_named_where_it_is_obeyed(row: Row) -> None:
    assert row.modules or row.reason
    silent = [
        module
        for module in row.modules
        if row.id not in mentioned(without_its_docstring((ROOT / module).read_text()))
    ]
    assert silent == []


def test_no_source_names_a_rule_that_does_not_exist() -> None:
    wrong = []
    for stage in ("ingest", "persist", "broadcast", "common", "tests"):
        for path in (ROOT / stage).rglob("*.py"):
            named = {i for i in mentioned(path.read_text()) if i[2:5] in FAMILIES}
            wrong += [(path.name, i) for i in named - set(IDS)]
    assert wrong == []
