"""Which bugs would a tired engineer write? By hand: file, text, other text, and what is wrong then."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Bug

BUGS: Final[tuple[Bug, ...]] = (
    Bug(
        "ingest/judge.py",
        "rev > last:",
        "rev >= last:",
        "A commit with the very rev of the last one passes",
    ),
)
