"""How is an action answered? Whether it changed something, for people and for programs.

Every action may be said twice; the second time nothing is changed, and that is no failure.
"""

from __future__ import annotations

import argparse
from typing import Final

import orjson

from common.command.words import visible
from common.control import Action

KEYS: Final = """\
--json prints {action, subject, changed}: changed is false where it was so already.

exit code: 0 done, or nothing to do · 1 it cannot, the reason is on standard error
           2 wrong settings or words
"""
"""What each action's help ends with."""


def answer(
    chosen: argparse.Namespace, action: Action, subject: str, *, changed: bool, now: str
) -> int:
    """Print what an action has done; returns the exit code. now: what holds from now on."""
    if chosen.json:
        told = {"action": action.value, "subject": subject, "changed": changed}
        print(orjson.dumps(told).decode())
    else:
        suffix = "" if changed else " already; nothing was changed"
        print(f"{visible(subject)} {now}{suffix}")
    return 0
