"""Which hosts are there, and what is known of one? What is changed of them: host_changes.py."""

from __future__ import annotations

import argparse
import time
from typing import Final

import orjson

from common.command import host_changes
from common.command.host_words import host_text, host_value, hosts_text
from common.command.parsers import Commands, command, group, host_argument, json_option
from common.command.session import Session, at_tables

STATUSES: Final = ("active", "idle", "offline", "throttled", "banned")
"""Source: com.atproto.sync.defs#hostStatus."""
_TEXT: Final = """\
What is known of the hosts that this relay reads, and what an operator wants of them. What is changed
here counts in every process within a second, is written into the audit log (`standpipe audit`), and may
be said twice. HOST may be a name or a URL.

  standpipe hosts list --status offline
  standpipe hosts show pds.example.com
  standpipe hosts add pds.example.com
  standpipe hosts limits pds.example.com --accounts 5000
  standpipe hosts ban pds.example.com
"""
_VALUE: Final = """\
host, tls, status, wanted, observed, banned_domain, connected, changed_at, failures, next_dial_at,
last_error, last_event_at, last_seq, cursor, generation, restarts, events, accounts, account_limit,
per_second, per_hour, per_day, limited_by, limited_until, trusted, level, level_since, discontinuous,
waived, waived_at, checked, added_by, added_at, server_did, alias_of, alerts_silenced,
foreign_percent"""
_LIST: Final = f"""\
Lists the hosts: what is seen of each, at which level it is judged, accounts and their limit, how many
events passed although they did not follow (discontinuous) or failed the inversion (waived, at the level
observe), what slows it, and its last error.

  standpipe hosts list --status banned
  standpipe hosts list --json | jq -r '.[] | select(.connected | not) | .host'
  standpipe hosts list --json | jq -r '.[] | select(.foreign_percent > 50) | .host'

--json prints an array of objects with the keys
{_VALUE}

exit code: 0 · 1 the database does not answer · 2 wrong settings or words
"""
_SHOW: Final = f"""\
Shows all that is known of one host: whether it is connected and since when, its last event and cursor,
its limits and which of them was set by hand, what slows it now and for how long, what was dropped of it
and why, and how much of what it says is of accounts of other hosts.

  standpipe hosts show pds.example.com

--json prints one object with the keys
{_VALUE},
drops: objects with reason, count, last_at

exit code: 0 · 1 no such host, or the database does not answer · 2 wrong settings or words
"""


def register(commands: Commands) -> None:
    """Add `standpipe hosts`."""
    inner = group(commands, "hosts", "what is known and wanted of the hosts", _TEXT)
    listed = command(inner, "list", "list them", _LIST, _list)
    listed.add_argument("--status", choices=STATUSES, help="those of one status alone")
    listed.add_argument("--match", metavar="TEXT", default="", help="those with this in the name")
    json_option(listed, "array")
    shown = command(inner, "show", "show all that is known of one", _SHOW, _show)
    host_argument(shown)
    json_option(shown)
    host_changes.register(inner)


def _list(chosen: argparse.Namespace) -> int:
    def work(session: Session) -> int:
        found = [
            host
            for host in session.tables.hosts()
            if chosen.status in (None, host.status) and chosen.match.lower() in host.hostname
        ]
        if chosen.json:
            print(orjson.dumps([host_value(host) for host in found]).decode())
        else:
            print(hosts_text(found, time.time()))
        return 0

    return at_tables(work)


def _show(chosen: argparse.Namespace) -> int:
    def work(session: Session) -> int:
        host = session.tables.host(chosen.host)
        drops = session.tables.drops(host)
        if chosen.json:
            told = [drop.value() for drop in drops]
            print(orjson.dumps(host_value(host) | {"drops": told}).decode())
        else:
            print(host_text(host, drops, time.time(), session.settings.observe_clean_s))
        return 0

    return at_tables(work)
