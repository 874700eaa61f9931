"""Of which domains is no host read?"""

from __future__ import annotations

import argparse
import re
from typing import Final

import orjson

from common.command.changes import KEYS, answer
from common.command.parsers import Commands, command, group, json_option
from common.command.session import Session, at_tables
from common.control import Action

_TEXT: Final = """\
Of a banned domain no host is read: neither the name itself nor any below it, those that are there and
those to come.

  standpipe domains ban example.com
  standpipe domains list
"""
_BAN: Final = f"""\
Bans a domain: every connection to a host in it ends.

  standpipe domains ban example.com

{KEYS}"""
_UNBAN: Final = f"""\
Takes a ban back; hosts that are banned by name stay so.

  standpipe domains unban example.com

{KEYS}"""
_LIST: Final = """\
Lists the banned domains, one a line.

--json prints an array of names

exit code: 0 · 1 the database does not answer · 2 wrong settings
"""
_LABEL: Final = r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?"
_is_domain: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*").fullmatch


def register(commands: Commands) -> None:
    """Add `standpipe domains`."""
    inner = group(commands, "domains", "ban whole domains", _TEXT)
    ban = command(inner, "ban", "read no host of a domain", _BAN, _ban)
    unban = command(inner, "unban", "read its hosts again", _UNBAN, _unban)
    for parser in (ban, unban):
        parser.add_argument("domain", metavar="DOMAIN", type=domain, help="such as example.com")
        json_option(parser)
    json_option(command(inner, "list", "list them", _LIST, _list), "array")


def domain(word: str) -> str:
    """Reads a domain; `*.` before it means the same."""
    name = word.strip().lower().removeprefix("*.").rstrip(".")
    if len(name) > 253 or not _is_domain(name):
        raise argparse.ArgumentTypeError(f"{word!r} is no domain; write example.com")
    return name


def _ban(chosen: argparse.Namespace) -> int:
    def work(session: Session) -> int:
        changed = session.plane.ban_domain(chosen.domain)
        return answer(chosen, Action.BAN_DOMAIN, chosen.domain, changed=changed, now="is banned")

    return at_tables(work)


def _unban(chosen: argparse.Namespace) -> int:
    def work(session: Session) -> int:
        changed = session.plane.unban_domain(chosen.domain)
        return answer(
            chosen, Action.UNBAN_DOMAIN, chosen.domain, changed=changed, now="is not banned"
        )

    return at_tables(work)


def _list(chosen: argparse.Namespace) -> int:
    def work(session: Session) -> int:
        found = session.plane.banned_domains()
        print(orjson.dumps(found).decode() if chosen.json else "\n".join(found) or "none is banned")
        return 0

    return at_tables(work)
