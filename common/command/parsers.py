"""How is a command's parser made, and which words are what they should be?

Each command's module has `register(commands)`, which adds its parser here, with the work that it leads
to. Words that are wrong are told by argparse, with exit code 2.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeAlias

from common.syntax import parse_did

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - see below
"""Where commands are added; it has no public name."""
Work: TypeAlias = Callable[[argparse.Namespace], int]
"""What a command does with the words that were typed → exit code. `parser.error` tells wrong ones."""

_TRUE = ("true", "yes", "on")
_FALSE = ("false", "no", "off")


def command(
    commands: Commands, name: str, sentence: str, text: str, work: Work
) -> argparse.ArgumentParser:
    """A command's parser. sentence: for the list of all. text: for its own `--help`."""
    parser = _parser(commands, name, sentence, text)
    parser.set_defaults(work=work, parser=parser)
    return parser


def group(commands: Commands, name: str, sentence: str, text: str) -> Commands:
    """Where the commands of a group are added: `standpipe hosts …`."""
    parser = _parser(commands, name, sentence, text)
    return parser.add_subparsers(dest=f"{name}_command", required=True, metavar="command")


def _parser(commands: Commands, name: str, sentence: str, text: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=sentence, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def json_option(parser: argparse.ArgumentParser, what: str = "object") -> None:
    """--json. what: is printed: 'object', 'array', or 'object a line'."""
    parser.add_argument("--json", action="store_true", help=f"print one JSON {what} instead")


def host_argument(parser: argparse.ArgumentParser) -> None:
    """HOST, as operators write it."""
    parser.add_argument("host", metavar="HOST", help="its name, with the port if it has one")


def limit_option(parser: argparse.ArgumentParser, shown: int) -> None:
    """--limit N. shown: rows that are shown when it does not say."""
    parser.add_argument(
        "--limit", type=whole(1, 1000), default=shown, metavar="N",
        help=f"so many at most; {shown}",
    )  # fmt: skip


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """Reads a whole number from `low` to `high`."""
    span = f"from {low}" if high is None else f"from {low} to {high}"

    def read(word: str) -> int:
        number = int(word) if word.isascii() and word.isdigit() and len(word) < 20 else -1
        if number < low or (high is not None and number > high):
            raise argparse.ArgumentTypeError(f"{word!r} is no whole number {span}")
        return number

    return read


def fraction(low: float, high: float) -> Callable[[str], float]:
    """Reads a number from `low` to `high`."""

    def read(word: str) -> float:
        try:
            number = float(word)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{word!r} is no number from {low:g} to {high:g}")
        return number

    return read


def flag(word: str) -> bool:
    """Reads yes or no."""
    if word.lower() in (*_TRUE, *_FALSE):
        return word.lower() in _TRUE
    raise argparse.ArgumentTypeError(f"{word!r} is neither yes nor no")


def did(word: str) -> str:
    """Reads a DID."""
    found = parse_did(word)
    if found is None:
        raise argparse.ArgumentTypeError(f"{word!r} is no DID")
    return str(found)
