"""What did the operator type?

Each command is a module of this folder, with its words, its help and its work; the door knows their order.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from common.command import (
    accounts,
    audit,
    completion,
    consumers,
    crawling,
    curve,
    domains,
    embedded,
    hosts,
    log,
    probe,
    pull_hosts,
    rejects,
    run,
    shards,
    snapshot,
    status,
    stop,
    takedown,
)
from common.command.session import until_nobody_reads

COMMANDS: Final = (
    run, stop, status, snapshot, probe, consumers, shards, curve,
    hosts, pull_hosts, accounts, takedown, domains, crawling, rejects, audit,
    log, embedded,
)  # fmt: skip
"""In the order of `standpipe --help`."""

_TEXT: Final = """\
standpipe is an AT Protocol relay: it reads every PDS host, verifies each event, and serves all of
them in one order as com.atproto.sync.subscribeRepos.
"""

_EPILOG: Final = """\
settings are environment variables, all of them listed in docs/settings.md; the usual ones:
  STANDPIPE_BIND          address and port of the public server (:2470)
  STANDPIPE_DATA_DIR      where log, database and admin password lie (./data)
  STANDPIPE_HOSTS         hosts to read from, with commas; not set: those another relay lists
  DATABASE_URL            a PostgreSQL of your own; not set: one is started for you

to begin:
  standpipe run                                   starts everything; Ctrl-C drains and stops
  STANDPIPE_HOSTS=pds.example.com standpipe run   reads one host
  standpipe status                                in a second terminal: what each process does
  standpipe hosts list                            what is seen of each host
  standpipe rejects pds.example.com               what was dropped of that host, and why
  standpipe log tail -f                           every event as it becomes durable

every command has --help with examples, and says there what its exit code means: 0 done, or nothing to do;
1 it cannot; 2 wrong settings or words. All of it on one page: docs/command.md
"""


def make_parser() -> argparse.ArgumentParser:
    """The words of all commands."""
    parser = argparse.ArgumentParser(
        prog="standpipe", description=_TEXT, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for each in COMMANDS:
        each.register(commands)
    completion.register(commands, make_parser)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    chosen = make_parser().parse_args(words)
    return until_nobody_reads(lambda: int(chosen.work(chosen)))


if __name__ == "__main__":
    sys.exit(main())
