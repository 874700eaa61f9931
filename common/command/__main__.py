"""What did the operator type?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from common.chunk import SEQ_MAX
from common.command import embedded, hosts, log, rejects, run, status, stop
from common.verdict import Level

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - has no public name

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
  standpipe rejects pds.example.com               what was dropped of that host, and why
  standpipe log tail -f                           every event as it becomes durable
  standpipe log verify                            is the log sound, and the database its view?
"""

_RUN = """\
Starts the relay in the foreground: checks what it needs and refuses by name, then hands over to
supervisord, which runs the process table of supervisord.conf. JSON log lines go to standard
output, supervisord's own to run/supervisord.log in the data folder. Ctrl-C or SIGTERM drains.

exit code: 0 drained and stopped · 1 refused, the reason is on standard error · 2 wrong settings
"""

_STATUS = """\
Shows every process of the relay in STANDPIPE_DATA_DIR with its state and its most telling numbers, and
the balance of them all: what came over the hosts' sockets, and where it is (docs/conservation.md).

exit code: 0 all are up, and no event is unaccounted for · 1 something is not, or no relay runs there
           2 wrong settings
"""

_STOP = """\
Stops the relay in STANDPIPE_DATA_DIR: it drains, and this command waits until nothing of it runs.

exit code: 0 it has ended · 1 none runs there, or it does not end · 2 wrong settings
"""

_HOSTS = """\
Lists the hosts of the relay in STANDPIPE_DATA_DIR: what is seen of each, at which level it is judged and
since when, and how many events passed although they did not follow (discontinuous) or failed the
inversion (waived, at the level observe).

exit code: 0 · 1 the database does not answer · 2 wrong settings
"""

_LEVEL = """\
Shows how a host is judged, or sets it; the relay follows within seconds.

  enforce   what fails a check is dropped; every host begins so
  observe   for a host without prevData: what fails only the inversion passes, marked and counted;
            signature, authority, size and structure are never waived

A host at observe moves up to enforce by itself, upon a commit, when nothing was waived for
STANDPIPE_OBSERVE_CLEAN_PERIOD. Nothing becomes observe by itself. To say a level again changes nothing.

exit code: 0 · 1 no such host, or the database does not answer · 2 wrong settings or words
"""

_REJECTS = """\
Shows the last messages that were dropped of a host, of an account, or of both together, newest first:
when, the reason with the ids of its rules (docs/spec.md), and what the message claims to be.
--frames writes the bytes as the host sent them, each to a file of its own.

exit code: 0 · 1 no such host, or the database does not answer · 2 wrong settings or words
"""
_LOG = """\
Looks into the log of the relay in STANDPIPE_DATA_DIR, or into a folder of segments. All of it is
read-only, beside a running relay or without one, and goes on behind damage, which it names.

exit code: 0 sound · 1 damage or a mismatch was found, or there is no log · 2 wrong settings or words
"""

_LOG_INFO = """\
Shows how large the log is, from which seq to which and from when to when it reaches, who claimed it,
which numbers were left out, and the age of the checkpoint. It reads little; `verify` reads all.

exit code: 0 · 1 damage was met, or there is no log · 2 wrong settings or words
"""

_LOG_VERIFY = """\
Reads the whole log: the CRC of every chunk, the chain from each to the next, that the numbers are
dense, that every row says what its frame says. Then holds PostgreSQL's accounts and host cursors, in one
snapshot, against what the log led to. An account whose beginning has left the log is compared as far as
the log can tell. The embedded database of a stopped relay is started for as long as it takes.
With --log-dir, as for a backup, the log alone is read.

exit code: 0 sound · 1 something was found, or the view could not be compared · 2 wrong settings or words
"""

_LOG_DUMP = """\
Prints one line for each event, in order of seq:
  seq, when it was read, kind, DID, rev, host.generation, the host's seq, marks (- for none)
--frames writes the messages as consumers get them, byte for byte, each to a file of its own.

exit code: 0 · 1 damage was met, or there is no log · 2 wrong settings or words
"""

_LOG_TAIL = """\
Prints the last events, as `dump` does; with -f also those to come, as each becomes durable, until Ctrl-C.

exit code: 0 · 1 damage was met, or there is no log · 2 wrong settings or words
"""

_PG = """\
Runs one of PostgreSQL's own programs (psql, pg_dump, pg_restore, ...) on the relay's database, be it
the embedded one or that of DATABASE_URL. When the relay is stopped, the embedded database is started for
as long as the program runs, and made when there is none.

exit code: the program's · 1 the database cannot be reached · 2 wrong settings, or no such program
"""
REJECTS_SHOWN: Final = 20
"""Rows that are shown when --limit does not say."""
TAIL_SHOWN: Final = 10
"""Events that `log tail` shows when -n does not say."""


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
    commands.add_parser(
        "stop", help="drain it, and wait for its end", description=_STOP, formatter_class=plain
    )
    listed = commands.add_parser(
        "hosts", help="list the hosts and their levels", description=_HOSTS, formatter_class=plain
    )
    listed.add_argument("--json", action="store_true", help="print one JSON array instead")
    level = commands.add_parser(
        "level", help="show or set how strictly a host is judged", description=_LEVEL,
        formatter_class=plain,
    )  # fmt: skip
    level.add_argument("host", metavar="HOST", help="its name, with the port if it has one")
    level.add_argument(
        "level", metavar="LEVEL", nargs="?", type=_level, help="enforce or observe; none: show it"
    )
    dropped = commands.add_parser(
        "rejects", help="show what was dropped, and why", description=_REJECTS,
        formatter_class=plain,
    )  # fmt: skip
    dropped.add_argument("host", metavar="HOST", nargs="?", help="who sent it")
    dropped.add_argument("--did", help="the account that it speaks of")
    dropped.add_argument(
        "--limit", type=_limit, default=REJECTS_SHOWN, help=f"so many at most; {REJECTS_SHOWN}"
    )
    dropped.add_argument("--frames", type=Path, metavar="DIR", help="write the frames there")
    dropped.add_argument("--json", action="store_true", help="print one JSON array instead")
    _add_log(commands)
    program = commands.add_parser(
        "pg", help="run a program of PostgreSQL on the database", description=_PG,
        formatter_class=plain, usage="standpipe pg PROGRAM ...",
    )  # fmt: skip
    program.add_argument("words", metavar="PROGRAM ...", nargs=argparse.REMAINDER)
    chosen = parser.parse_args(words)
    match chosen.command:
        case "log":
            return _log(chosen)
        case "pg":
            if not chosen.words:
                program.error("name a PROGRAM, such as psql")
            return embedded.run_program(chosen.words)
        case "run":
            return run.run()
        case "status":
            return status.status(as_json=chosen.json)
        case "stop":
            return stop.stop()
        case "hosts":
            return hosts.hosts(as_json=chosen.json)
        case "level":
            return hosts.level(chosen.host, chosen.level)
        case _:
            if chosen.host is None and chosen.did is None:
                dropped.error("name a HOST, or an account with --did")
            return rejects.rejects(
                chosen.host, chosen.did, chosen.limit, chosen.frames, as_json=chosen.json
            )


def _add_log(commands: _Commands) -> None:
    plain = argparse.RawDescriptionHelpFormatter
    described = {"info": _LOG_INFO, "verify": _LOG_VERIFY, "dump": _LOG_DUMP, "tail": _LOG_TAIL}
    helps = {
        "info": "show what it is made of",
        "verify": "check all of it, and the database against it",
        "dump": "print events",
        "tail": "print the last events, and those to come",
    }
    parser = commands.add_parser(
        "log", help="look into the log", description=_LOG, formatter_class=plain
    )
    inner = parser.add_subparsers(dest="tool", required=True, metavar="tool")
    tools = {}
    for name, text in described.items():
        tools[name] = inner.add_parser(
            name, help=helps[name], description=text, formatter_class=plain
        )
        tools[name].add_argument(
            "--log-dir", type=Path, metavar="DIR", help="a folder of segments; none: the relay's"
        )
    for name in ("info", "dump", "tail"):
        tools[name].add_argument("--json", action="store_true", help="print JSON instead")
    tools["verify"].add_argument(
        "--log-only", action="store_true", help="do not compare the database"
    )
    tools["dump"].add_argument("--from", dest="from_seq", type=_seq, metavar="SEQ")
    tools["dump"].add_argument("--to", dest="to_seq", type=_seq, metavar="SEQ")
    tools["dump"].add_argument("--limit", type=_seq, metavar="N", help="so many events at most")
    tools["dump"].add_argument("--frames", type=Path, metavar="DIR", help="write the frames there")
    tools["tail"].add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    tools["tail"].add_argument(
        "-n", type=_seq, default=TAIL_SHOWN, metavar="N", help=f"so many; {TAIL_SHOWN}"
    )


def _log(chosen: argparse.Namespace) -> int:
    match chosen.tool:
        case "info":
            return log.info(chosen.log_dir, as_json=chosen.json)
        case "verify":
            return log.verify(chosen.log_dir, view=not chosen.log_only)
        case "dump":
            return log.dump(
                chosen.log_dir, chosen.from_seq, chosen.to_seq, chosen.limit, chosen.frames,
                as_json=chosen.json,
            )  # fmt: skip
        case _:
            return log.tail(chosen.log_dir, chosen.n, follow=chosen.follow, as_json=chosen.json)


def _seq(word: str) -> int:
    if not (word.isascii() and word.isdigit() and 1 <= int(word) <= SEQ_MAX):
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number from 1")
    return int(word)


def _level(word: str) -> Level:
    try:
        return Level(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is neither enforce nor observe") from None


def _limit(word: str) -> int:
    if not (word.isascii() and word.isdigit() and 1 <= int(word) <= 1000):
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number from 1 to 1000")
    return int(word)


if __name__ == "__main__":
    sys.exit(main())
