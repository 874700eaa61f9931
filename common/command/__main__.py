"""What did the operator type?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from common.command import run, status

_DESCRIPTION = """\
standpipe is an AT Protocol relay: it reads every PDS host, verifies each event, and serves all of
them in one order as com.atproto.sync.subscribeRepos.
"""

_EPILOG = """\
settings are environment variables, all of them listed in docs/settings.md; the usual ones:
  STANDPIPE_BIND          address and port of the public server (:2470)
  STANDPIPE_DATA_DIR      where log, database and admin password lie (./data)
  STANDPIPE_HOSTS         hosts to read from, with commas; not set: those another relay lists
  DATABASE_URL            a PostgreSQL of your own; not set: one is started for you

to begin:
  standpipe run                                   starts everything; Ctrl-C drains and stops
  STANDPIPE_HOSTS=pds.example.com standpipe run   reads one host
  standpipe status                                in a second terminal: what each process does
"""

_RUN = """\
Starts the relay in the foreground: checks what it needs and refuses by name, then hands over to
supervisord, which runs the process table of supervisord.conf. JSON log lines go to standard
output, supervisord's own to run/supervisord.log in the data folder. Ctrl-C or SIGTERM drains.

exit code: 0 drained and stopped · 1 refused, the reason is on standard error · 2 wrong settings
"""

_STATUS = """\
Shows every process of the relay in STANDPIPE_DATA_DIR with its state and its most telling numbers.

exit code: 0 all are up · 1 something is not, or no relay runs there · 2 wrong settings
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="standpipe", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=plain
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser(
        "run", help="start the relay in the foreground", description=_RUN, formatter_class=plain
    )
    shown = commands.add_parser(
        "status", help="show what each process does", description=_STATUS, formatter_class=plain
    )
    shown.add_argument("--json", action="store_true", help="print one JSON object instead")
    chosen = parser.parse_args(words)
    if chosen.command == "run":
        return run.run()
    return status.status(as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
