"""Which mutants change nothing that anybody could see, and why? By name; nothing else may survive."""

from __future__ import annotations

from typing import Final

HARMLESS: Final[dict[str, str]] = {
    "A key may occur twice, in a node and in its subtree": "a child stands a level lower, so that "
    "its parent's keys are refused there for their depth, which is looked at first",
}
