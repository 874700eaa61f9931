"""Which modules are tried, with how many mutants of the tool, and by which tests?

Only quick tests: those of the module itself first, then those of the rules that it obeys.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tests.mutants.by_hand import BUGS
from tests.mutants.by_tool import mutants_of
from tests.mutants.mutant import Mutant, located, source_of


class Target(NamedTuple):
    """drawn: how many mutants the tool makes. tests: in the order in which they are tried."""

    drawn: int
    tests: tuple[str, ...]


TARGETS: Final[dict[str, Target]] = {
    "ingest/judge.py": Target(10, ("tests/ingest/test_judge.py",)),
    "common/event.py": Target(6, ("tests/common/test_event.py",)),
    "common/commit.py": Target(6, ("tests/common/test_commit.py",)),
    "common/car.py": Target(6, ("tests/common/test_car.py",)),
    "common/cid.py": Target(
        3, ("tests/common/test_cid.py", "tests/interop/test_syntax_vectors.py")
    ),
    "common/syntax.py": Target(
        5, ("tests/common/test_syntax.py", "tests/interop/test_syntax_vectors.py")
    ),
    "ingest/signature.py": Target(
        6, ("tests/ingest/test_signature.py", "tests/interop/test_crypto_vectors.py")
    ),
}


def all_mutants() -> list[Mutant]:
    """Those by hand, then those by the tool, in the order of the targets.

    Raises:
        tests.mutants.mutant.Stale: one by hand fits no more.
    """
    by_hand = [located(bug, source_of(bug.path)) for bug in BUGS]
    by_tool = [mutant for path, (count, _) in TARGETS.items() for mutant in mutants_of(path, count)]
    return by_hand + by_tool


def tests_of(path: str) -> tuple[str, ...]:
    """The tests that are run for a mutant of this file."""
    return TARGETS[path].tests
