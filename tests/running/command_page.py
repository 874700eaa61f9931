"""docs/command.md, as the parsers' help has it.

python -m tests.running.command_page        writes the page anew
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from common.command.__main__ import make_parser

PAGE: Final = Path(__file__).resolve().parent.parent.parent / "docs" / "command.md"

_HEAD: Final = """\
# The command `standpipe`

Each command as its `--help` has it, made from the same words. Settings are environment variables
([settings.md](settings.md)); the commands find the relay by `STANDPIPE_DATA_DIR` and, where it is set,
`DATABASE_URL`.

What is changed by a command counts in every process within a second, is kept across restarts, and stands
in the audit log with the name of who typed it. Everything may be said twice: the second time nothing is
changed, which is told, and is no failure.

Exit codes: 0 done, or nothing to do; 1 it cannot, and the reason is on standard error; 2 wrong settings or
words. What is printed with `--json` keeps its keys from release to release; new ones may come.

To complete words in a shell: `standpipe completion`.
"""


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Every parser below one, groups first."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield each
                yield from leaves(each)


def is_group(parser: argparse.ArgumentParser) -> bool:
    return any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)


def usage(parser: argparse.ArgumentParser) -> str:
    """How it is typed, in one line: argparse breaks it differently in each release of Python."""
    if parser.usage:
        return parser.usage
    words = [parser.prog]
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        name = str(action.metavar or (action.choices and "|".join(map(str, action.choices))) or "")
        if action.option_strings:
            name = f"[{action.option_strings[-1]}{'' if action.nargs == 0 else f' {name}'}]"
        elif action.nargs == "?":
            name = f"[{name}]"
        words.append(name)
    return " ".join(words)


def section(parser: argparse.ArgumentParser) -> str:
    depth = "##" if len(parser.prog.split()) == 2 else "###"
    lines = [f"{depth} {parser.prog}", "", "```text"]
    if not is_group(parser):
        lines += [usage(parser), ""]
    assert parser.description is not None
    lines += [parser.description.strip(), "```", ""]
    options = [
        action for action in parser._actions
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    ]  # fmt: skip
    if options:
        lines += ["| word | what it says |", "| --- | --- |"]
    for action in options:
        name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        escaped = name.replace("|", "\\|")
        lines.append(f"| `{escaped}` | {action.help or ''} |")
    return "\n".join([*lines, ""] if options else lines)


def page() -> str:
    return _HEAD + "".join(f"\n{section(each).rstrip()}\n" for each in leaves(make_parser()))


if __name__ == "__main__":
    PAGE.write_text(page())
