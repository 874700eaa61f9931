"""Do the documents speak of things that exist? Files, tests, and nothing of one machine."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from common.verdict import DropReason
from tests.test_layering import EDGES

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def functions_in(path: Path) -> set[str]:
    """The names of all functions of a file, methods too."""
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", page.read_text())
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).exists() or name not in functions_in(ROOT / path)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_and_page_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    modules = re.findall(r"\b((?:ingest|persist|broadcast|common|tests)/[\w/]+\.\w+)", text)
    pages = re.findall(r"\]\(([\w/.-]+\.md)\)", text)
    assert [name for name in modules if not (ROOT / name).exists()] == []
    assert [name for name in pages if not (page.parent / name).exists()] == []


def test_every_page_is_listed_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in readme] == []


def test_the_readme_marks_a_module_exactly_where_it_touches_the_world() -> None:
    readme = (ROOT / "README.md").read_text()
    named = re.findall(r"\b(ingest|persist|broadcast|common)/([\w/]+\.py)`?( ~)?", readme)
    wrong = {f"{at}/{name}" for at, name, mark in named if (name in EDGES[at]) is not bool(mark)}
    assert wrong == set()


def test_every_invariant_has_a_test() -> None:
    rows = re.findall(
        r"^\| (\d+) \|.*$", (ROOT / "docs/architecture.md").read_text(), flags=re.MULTILINE
    )
    text = (ROOT / "docs/architecture.md").read_text()
    lines = [line for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(number) for number in rows] == list(range(1, 12))
    assert [line for line in lines if "::test_" not in line] == []


def test_every_drop_reason_has_a_sentence_and_a_scenario() -> None:
    text = (ROOT / "docs/drop-reasons.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| `(tests/[\w/]+\.py)::\w+` \|$", text, re.MULTILINE)
    assert [reason for reason, _, _ in rows] == [reason.value for reason in DropReason]
    assert [reason for reason, sentence, _ in rows if not sentence.endswith(".")] == []
    # A scenario asks for its reason by name, or plays all that the simulated network can say.
    said = (ROOT / "tests/simnet/invalid.py").read_text()
    unasked = []
    for reason, _, path in rows:
        asked = (ROOT / path).read_text()
        if "tests.simnet.invalid import" in asked:
            asked += said
        if f"DropReason.{DropReason(reason).name}" not in asked:
            unasked.append((reason, path))
    assert unasked == []


def test_the_lock_names_no_host() -> None:
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_no_tracked_file_carries_a_path_of_one_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.splitlines()
    texts = [name for name in listed if name.endswith((".py", ".md", ".toml", ".conf", "Makefile"))]
    machine = "/" + "work/"
    assert [name for name in texts if machine in (ROOT / name).read_text(errors="ignore")] == []
