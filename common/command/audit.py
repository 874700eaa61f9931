"""Who changed what, and when?"""

from __future__ import annotations

import argparse
from typing import Any, Final

import orjson

from common.command.parsers import Commands, command, json_option, limit_option, whole
from common.command.session import Session, at_tables
from common.command.words import table, visible
from common.control import AUDIT_ROWS, Audited
from common.syntax import datetime_text

SHOWN: Final = 50
_NEWEST: Final = 2**63 - 1
_TEXT: Final = f"""\
Shows what was changed while the relay ran, newest first: when, by whom (admin@ADDRESS over the admin API,
command:USER by this command, sibling@ADDRESS by another relay, relay by itself), what it was and what it
became. Actions that changed nothing are not in it. The last {AUDIT_ROWS:,} are kept.

  standpipe audit
  standpipe audit --of pds.example.com --limit 5

--json prints an array of objects with the keys id, at, who, action, subject, was, now

exit code: 0 · 1 the database does not answer · 2 wrong settings or words
"""


def register(commands: Commands) -> None:
    """Add `standpipe audit`."""
    parser = command(commands, "audit", "show who changed what, and when", _TEXT, _audit)
    parser.add_argument(
        "--of", metavar="SUBJECT", help="of this host, DID, domain or setting alone"
    )
    parser.add_argument(
        "--before", type=whole(1, _NEWEST), default=_NEWEST, metavar="ID", help="older than this"
    )
    limit_option(parser, SHOWN)
    json_option(parser, "array")


def _audit(chosen: argparse.Namespace) -> int:
    def work(session: Session) -> int:
        rows = session.plane.audit(chosen.before, chosen.limit, chosen.of)
        if chosen.json:
            print(orjson.dumps([_value(row) for row in rows]).decode())
        else:
            print(_text(rows))
        return 0

    return at_tables(work)


def _value(row: Audited) -> dict[str, Any]:
    return row._asdict() | {"at": datetime_text(row.at.timestamp())}


def _text(rows: list[Audited]) -> str:
    if not rows:
        return "nothing was changed"
    head = ("id", "when", "who", "action", "of", "was", "became")
    cells = [
        (
            str(row.id), datetime_text(row.at.timestamp()), row.who, row.action, row.subject,
            row.was or "-", row.now or "-",
        )
        for row in rows
    ]  # fmt: skip
    return table([head, *[tuple(map(visible, row)) for row in cells]])
