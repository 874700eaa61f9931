"""The closed list of reasons, and what is written about it."""

from __future__ import annotations

import re
from pathlib import Path

from common.verdict import RULES, WAIVABLE, DropReason

PAGE = Path(__file__).resolve().parents[2] / "docs/drop-reasons.md"


def test_every_reason_names_the_rules_that_it_enforces() -> None:
    assert list(RULES) == list(DropReason)
    for rules in RULES.values():
        assert rules
        assert len(set(rules)) == len(rules)
        assert all(re.fullmatch(r"S-[A-Z]{3}-\d\d", rule) for rule in rules)


def test_the_page_names_the_same_rules() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (S-[-A-Z0-9 ]+) \| ", PAGE.read_text(), re.MULTILINE)
    assert {reason: tuple(rules.split()) for reason, rules in rows} == {
        reason.value: rules for reason, rules in RULES.items()
    }


def test_only_failures_of_the_inversion_can_be_waived() -> None:
    assert {
        DropReason.NODE_MISSING,
        DropReason.OP_PREV_MISSING,
        DropReason.PREV_DATA_MISSING,
        DropReason.PREV_DATA_MISMATCH,
    } == WAIVABLE
