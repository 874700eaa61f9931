"""May strangers add hosts, and how many in a day?"""

from __future__ import annotations

import argparse
from typing import Final

import orjson

from common.command.changes import KEYS, answer
from common.command.parsers import Commands, command, group, json_option, whole
from common.command.session import Session, at_tables
from common.control import Action

OPEN: Final = "request_crawl"
LIMIT: Final = "new_hosts_per_day"
_TEXT: Final = """\
com.atproto.sync.requestCrawl lets everybody ask this relay to read a host. What is said here counts
before STANDPIPE_REQUEST_CRAWL and STANDPIPE_NEW_HOSTS_PER_DAY, and outlives a restart.

  standpipe crawling show
  standpipe crawling off
  standpipe crawling limit 200
"""
_SHOW: Final = """\
Shows whether strangers may add hosts, and how many within 24 hours.

--json prints {enabled, limit, enabled_by, limit_by}; the last two are `operator` or `settings`

exit code: 0 · 1 the database does not answer · 2 wrong settings
"""
_ON: Final = f"""\
Lets strangers add hosts.

{KEYS}"""
_OFF: Final = f"""\
Lets strangers add no hosts; they are told so. Operators may still.

{KEYS}"""
_LIMIT: Final = f"""\
Says how many hosts strangers may add within 24 hours.

  standpipe crawling limit 200

{KEYS}"""


def register(commands: Commands) -> None:
    """Add `standpipe crawling`."""
    inner = group(commands, "crawling", "say whether strangers may add hosts", _TEXT)
    show = command(inner, "show", "show what holds", _SHOW, _show)
    on = command(inner, "on", "let them", _ON, lambda chosen: _set(chosen, OPEN, "true"))
    off = command(inner, "off", "do not", _OFF, lambda chosen: _set(chosen, OPEN, "false"))
    limit = command(
        inner, "limit", "how many in a day", _LIMIT,
        lambda chosen: _set(chosen, LIMIT, str(chosen.limit)),
    )  # fmt: skip
    limit.add_argument("limit", metavar="N", type=whole(0, 10**9), help="hosts within 24 hours")
    for parser in (show, on, off, limit):
        json_option(parser)


def _set(chosen: argparse.Namespace, name: str, value: str) -> int:
    def work(session: Session) -> int:
        changed = session.plane.set_control(name, value)
        return answer(chosen, Action.SET_CONTROL, name, changed=changed, now=f"is {value}")

    return at_tables(work)


def _show(chosen: argparse.Namespace) -> int:
    def work(session: Session) -> int:
        said = session.plane.control()
        settings = session.settings
        enabled = said[OPEN] == "true" if OPEN in said else settings.request_crawl
        limit = int(said[LIMIT]) if LIMIT in said else settings.new_hosts_per_day
        by = {name: "operator" if name in said else "settings" for name in (OPEN, LIMIT)}
        if chosen.json:
            told = {
                "enabled": enabled, "limit": limit, "enabled_by": by[OPEN], "limit_by": by[LIMIT],
            }  # fmt: skip
            print(orjson.dumps(told).decode())
        else:
            may = "may" if enabled else "may not"
            print(f"strangers {may} add hosts (by {by[OPEN]}); {limit:,} a day (by {by[LIMIT]})")
        return 0

    return at_tables(work)
