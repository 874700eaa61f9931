"""Which accounts are hidden by this relay's operator, whatever their hosts say?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Final

import orjson

from common.command.changes import KEYS, answer
from common.command.parsers import Commands, command, did, group, json_option
from common.command.session import Session, at_tables
from common.control import Action, ControlPlane

PAGE: Final = 1000
_TEXT: Final = """\
An account that is taken down is hidden: consumers are told by an #account event, what it says is
dropped, and its history leaves replay at once. Known or not: one may be taken down in advance.

  standpipe takedown add did:plc:ewvi7nxzyoun6zhxrhs64oiz
  standpipe takedown reverse did:plc:ewvi7nxzyoun6zhxrhs64oiz
  standpipe takedown list
"""
_ADD: Final = f"""\
Takes an account down.

  standpipe takedown add did:plc:ewvi7nxzyoun6zhxrhs64oiz

{KEYS}"""
_REVERSE: Final = f"""\
Takes a takedown back, and nothing else: an account that its host calls deactivated stays so.

  standpipe takedown reverse did:plc:ewvi7nxzyoun6zhxrhs64oiz

{KEYS}"""
_LIST: Final = """\
Lists the accounts that are taken down, in order of their DIDs, one a line.

  standpipe takedown list | wc -l

--json prints an array of DIDs

exit code: 0 · 1 the database does not answer · 2 wrong settings
"""


def register(commands: Commands) -> None:
    """Add `standpipe takedown`."""
    inner = group(commands, "takedown", "hide accounts, or show them again", _TEXT)
    add = command(inner, "add", "hide an account", _ADD, _add)
    reverse = command(inner, "reverse", "show an account again", _REVERSE, _reverse)
    for parser in (add, reverse):
        parser.add_argument("did", metavar="DID", type=did, help="the account")
        json_option(parser)
    json_option(command(inner, "list", "list them", _LIST, _list), "array")


def _add(chosen: argparse.Namespace) -> int:
    def work(session: Session) -> int:
        changed = session.plane.take_down(chosen.did)
        return answer(
            chosen, Action.TAKE_DOWN, chosen.did, changed=changed, now="is taken down"
        )  # fmt: skip

    return at_tables(work)


def _reverse(chosen: argparse.Namespace) -> int:
    def work(session: Session) -> int:
        changed = session.plane.reverse_takedown(chosen.did)
        return answer(
            chosen, Action.REVERSE_TAKEDOWN, chosen.did, changed=changed, now="is not taken down"
        )

    return at_tables(work)


def _list(chosen: argparse.Namespace) -> int:
    def work(session: Session) -> int:
        if chosen.json:
            print(orjson.dumps(list(all_takedowns(session.plane))).decode())
        else:
            for each in all_takedowns(session.plane):
                print(each)
        return 0

    return at_tables(work)


def all_takedowns(plane: ControlPlane) -> Iterator[str]:
    """All of them, page by page."""
    after = ""
    while page := plane.takedowns(after, PAGE):
        yield from page
        after = page[-1]
