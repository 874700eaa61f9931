"""Which mutants change nothing that anybody could see, and why? By name; nothing else may survive."""

from __future__ import annotations

from typing import Final

HARMLESS: Final[dict[str, str]] = {}
