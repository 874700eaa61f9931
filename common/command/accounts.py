"""What does this relay know of an account, and which accounts are there?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final

import orjson

from common.cid import cid_text
from common.command.parsers import (
    Commands,
    command,
    did,
    group,
    host_argument,
    json_option,
    limit_option,
    whole,
)
from common.command.session import Refused, Session, at_tables
from common.command.tables import Account, Known, status_of
from common.command.words import pairs, table, visible
from common.syntax import datetime_text

SHOWN: Final = 100
_TEXT: Final = """\
What is known of accounts: their status, host, and newest commit.

  standpipe accounts show did:plc:ewvi7nxzyoun6zhxrhs64oiz
  standpipe accounts list pds.example.com --status throttled
  standpipe accounts search ewvi7nxz
"""
_VALUE: Final = """\
id, did, host, status, active, host_status, local, taken_down, rev, commit, data, seq, desynchronized,
discontinuities"""
_SHOW: Final = f"""\
Shows one account: what consumers are told of it (status), what its host said (active, host_status) and
what this relay says (local); its newest commit; what its DID document said when it was last asked for.

  standpipe accounts show did:plc:ewvi7nxzyoun6zhxrhs64oiz

--json prints one object with the keys
{_VALUE}; document:
outcome, curve, host, why, asked_at, or null

exit code: 0 · 1 it is not known here, or the database does not answer · 2 wrong settings or words
"""
_MANY: Final = f"""\
--json prints an array of objects with the keys
{_VALUE}

exit code: 0 · 1 no such host, or the database does not answer · 2 wrong settings or words
"""
_LIST: Final = f"""\
Lists the accounts of a host, in the order in which they were first seen. The next page begins behind the
last id: --after ID.

  standpipe accounts list pds.example.com --status throttled
  standpipe accounts list pds.example.com --after 1000 --limit 1000 --json

{_MANY}"""
_SEARCH: Final = f"""\
Lists the accounts that have a text in their DID, in the order in which they were first seen.

  standpipe accounts search ewvi7nxz
  standpipe accounts search did:web: --status takendown

{_MANY}"""


def register(commands: Commands) -> None:
    """Add `standpipe accounts`."""
    inner = group(commands, "accounts", "what is known of accounts", _TEXT)
    show = command(inner, "show", "show one", _SHOW, _show)
    show.add_argument("did", metavar="DID", type=did, help="the account")
    json_option(show)
    listed = command(inner, "list", "list those of a host", _LIST, _list)
    host_argument(listed)
    search = command(inner, "search", "find some by their DID", _SEARCH, _list)
    search.add_argument("part", metavar="TEXT", help="a part of the DID")
    listed.set_defaults(part="")
    search.set_defaults(host=None)
    for parser in (listed, search):
        parser.add_argument("--status", metavar="STATUS", help="those of one status alone")
        parser.add_argument(
            "--after", type=whole(0, 2**63 - 1), default=0, metavar="ID", help="behind this one"
        )
        limit_option(parser, SHOWN)
        json_option(parser, "array")


def _show(chosen: argparse.Namespace) -> int:
    def work(session: Session) -> int:
        found = session.tables.account(chosen.did)
        if found is None:
            down = chosen.did in session.plane.takedowns(chosen.did[:-1], 1)
            ahead = "; it is taken down in advance" if down else ""
            raise Refused(f"{chosen.did} is not known here{ahead}")
        document = session.tables.document(chosen.did)
        if chosen.json:
            told = account_value(found) | {"document": _document_value(document)}
            print(orjson.dumps(told).decode())
        else:
            print(account_text(found, document))
        return 0

    return at_tables(work)


def _list(chosen: argparse.Namespace) -> int:
    def work(session: Session) -> int:
        host = None if chosen.host is None else session.tables.host(chosen.host)
        found = session.tables.accounts(
            host=host, part=chosen.part, status=chosen.status, after=chosen.after,
            limit=chosen.limit,
        )  # fmt: skip
        if chosen.json:
            print(orjson.dumps([account_value(account) for account in found]).decode())
        else:
            print(accounts_text(found))
        return 0

    return at_tables(work)


def account_value(account: Account) -> dict[str, Any]:
    """One account, for programs."""
    return {
        "id": account.id,
        "did": account.did,
        "host": account.host,
        "status": status_of(account),
        "active": account.active,
        "host_status": account.status,
        "local": account.local,
        "taken_down": account.wanted_down,
        "rev": account.rev,
        "commit": _cid(account.commit_cid),
        "data": _cid(account.data_cid),
        "seq": account.seq,
        "desynchronized": account.desynchronized,
        "discontinuities": account.discontinuities,
    }


def account_text(account: Account, document: Known | None) -> str:
    """One account, for people."""
    host_says = "active" if account.active else account.status or "inactive"
    rows = [
        ("account", account.did),
        ("status", visible(status_of(account))),
        ("its host says", visible(host_says)),
        ("we say", account.local or "nothing of our own"),
        ("taken down", "yes" if account.wanted_down else "no"),
        ("host", visible(account.host or "none that has spoken for it")),
        ("rev", account.rev or "no commit yet"),
        ("commit", _cid(account.commit_cid) or "-"),
        ("data", _cid(account.data_cid) or "-"),
        ("changed by seq", f"{account.seq:,}"),
        ("follows", "no: desynchronized" if account.desynchronized else "yes"),
        ("did not follow", f"{account.discontinuities:,} times"),
        ("DID document", _document_text(document)),
    ]
    return pairs(rows)


def accounts_text(accounts: Sequence[Account]) -> str:
    """Several accounts, for people."""
    if not accounts:
        return "no such accounts are known"
    head = ("id", "account", "status", "rev", "host")
    rows = [
        (str(a.id), a.did, visible(status_of(a)), a.rev or "-", visible(a.host or "-"))
        for a in accounts
    ]
    return table([head, *rows])


def _document_value(document: Known | None) -> dict[str, Any] | None:
    if document is None:
        return None
    return document._asdict() | {"asked_at": datetime_text(document.asked_at.timestamp())}


def _document_text(document: Known | None) -> str:
    if document is None:
        return "not kept"
    said = document.why or f"host {document.host}, key on {document.curve}"
    asked = datetime_text(document.asked_at.timestamp())
    return f"{document.outcome}: {visible(said)} (asked for at {asked})"


def _cid(cid: bytes | None) -> str | None:
    return None if cid is None else cid_text(cid)
