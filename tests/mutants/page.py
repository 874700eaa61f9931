"""docs/mutants.md: what became of each mutant, as the runner saw it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.mutants.harmless import HARMLESS
from tests.mutants.mutant import ROOT
from tests.mutants.runner import Result

PAGE: Final[Path] = ROOT / "docs" / "mutants.md"
_HEAD: Final = """\
# Mutants

Small bugs, each put alone into a copy of the tree, and which test sees it first. `make mutants` tries them all and
fails when one survives that has no reason here; `make mutants ARGS=--write` writes this page. The first table was
written by hand (tests/mutants/by_hand.py), the second drawn by a tool from a fixed seed (tests/mutants/by_tool.py).
"""


def page_of(results: Sequence[Result]) -> str:
    """The whole page."""
    parts = [_HEAD]
    for title, tool in (("By hand", False), ("By the tool", True)):
        of_kind = [result for result in results if result.mutant.tool is tool]
        caught = sum(result.caught_by is not None for result in of_kind)
        parts.append(
            f"\n## {title}\n\n{len(of_kind)} mutants, {caught} caught, "
            f"{len(of_kind) - caught} that change nothing.\n\n| file | bug | caught by |\n"
            "| --- | --- | --- |\n"
        )
        parts += [_row(result) for result in of_kind]
    return "".join(parts)


def _row(result: Result) -> str:
    mutant = result.mutant
    bug = mutant.name.removeprefix(mutant.path + " ").replace("|", "\\|")
    if mutant.tool:
        where, _, change = bug.partition(": ")
        bug = f"{where}: `{change}`"
    by = result.caught_by
    if by is None:
        fate = f"survives: {HARMLESS.get(mutant.name, 'NO REASON')}"
    else:
        fate = f"`{by}`" if by.startswith("tests/") else by
    return f"| `{mutant.path}` | {bug} | {fate} |\n"
