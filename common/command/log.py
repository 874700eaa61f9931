"""What does the log hold, is it sound, and what has just come? Read-only, beside a relay or without.

    standpipe log info          ─▶ log_look.py ~  ─▶ log_words.py
    standpipe log dump | tail   ─▶ log_print.py ~ ─▶ log_words.py      (common/log_walk.py ~ reads)
    standpipe log verify        ─▶ python -m persist.verify, a process of its own

Nothing here takes a lock or makes a file in the log's folder.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import orjson

from common.chunk import SEQ_MAX, UnknownFormat
from common.command import embedded
from common.command.log_look import look
from common.command.log_print import Printer, events, follow
from common.command.log_words import summary_text, summary_value
from common.command.parsers import Commands, command, group, json_option, whole
from common.command.run import PROJECT
from common.command.session import read_settings, say
from common.log_walk import read_told
from common.paths import Paths
from common.process import EXIT_FAULT, EXIT_SETTINGS
from common.segment_files import list_segments
from common.settings import load_settings

SHOWN: Final = 10
"""Events that `log tail` shows when -n does not say."""
_TEXT: Final = """\
Looks into the log of the relay in STANDPIPE_DATA_DIR, or into a folder of segments. All of it is
read-only, beside a running relay or without one, and goes on behind damage, which it names.

exit code: 0 sound · 1 damage or a mismatch was found, or there is no log · 2 wrong settings or words
"""
_INFO: Final = """\
Shows how large the log is, from which seq to which and from when to when it reaches, who claimed it,
which numbers were left out, and the age of the checkpoint. It reads little; `verify` reads all.

--json prints one object with the keys folder, formats, segments, bytes, head, epoch, oldest_seq, oldest_at,
durable_seq, durable_at, checkpoint_age_s, claims, holes, damage

exit code: 0 · 1 damage was met, or there is no log · 2 wrong settings or words
"""
_VERIFY: Final = """\
Reads the whole log: the CRC of every chunk, the chain from each to the next, that the numbers are
dense, that every row says what its frame says. Then holds PostgreSQL's accounts and host cursors, in one
snapshot, against what the log led to. An account whose beginning has left the log is compared as far as
the log can tell. The embedded database of a stopped relay is started for as long as it takes.
With --log-dir, as for a backup, the log alone is read.

--json prints one object, at the end, with the keys sound, findings, damage, mismatches, notes, events, bytes,
view: an object with the keys accounts, in_part, left, lost, cursors, cursors_above, null where it was not
compared. Of damage and mismatches it has the first 200.

exit code: 0 sound · 1 something was found, or the view could not be compared · 2 wrong settings or words
"""
_DUMP: Final = """\
Prints one line for each event, in order of seq:
  seq, when it was read, kind, DID, rev, host.generation, the host's seq, marks (- for none)
--frames writes the messages as consumers get them, byte for byte, each to a file of its own.

--json prints one object a line with the keys seq, time, kind, did, rev, active, status, host, generation,
upstream_seq, shard, epoch, position, bytes, marks

exit code: 0 · 1 damage was met, or there is no log · 2 wrong settings or words
"""
_TAIL: Final = """\
Prints the last events, as `dump` does; with -f also those to come, as each becomes durable, until Ctrl-C.

--json prints one object a line with the keys seq, time, kind, did, rev, active, status, host, generation,
upstream_seq, shard, epoch, position, bytes, marks

exit code: 0 · 1 damage was met, or there is no log · 2 wrong settings or words
"""


def register(commands: Commands) -> None:
    """Add `standpipe log`."""
    inner = group(commands, "log", "look into the log", _TEXT)
    seq = whole(1, SEQ_MAX)
    info = command(inner, "info", "show what it is made of", _INFO, _info)
    sentence = "check all of it, and the database against it"
    verify = command(inner, "verify", sentence, _VERIFY, _verify)
    dump = command(inner, "dump", "print events", _DUMP, _dump)
    tail = command(inner, "tail", "print the last events, and those to come", _TAIL, _tail)
    for parser in (info, verify, dump, tail):
        parser.add_argument(
            "--log-dir", type=Path, metavar="DIR", help="a folder of segments; none: the relay's"
        )
    json_option(info)
    json_option(verify)
    for parser in (dump, tail):
        json_option(parser, "object a line")
    verify.add_argument("--log-only", action="store_true", help="do not compare the database")
    dump.add_argument("--from", dest="from_seq", type=seq, metavar="SEQ", help="the first one")
    dump.add_argument("--to", dest="to_seq", type=seq, metavar="SEQ", help="the last one")
    dump.add_argument("--limit", type=seq, metavar="N", help="so many events at most")
    dump.add_argument("--frames", type=Path, metavar="DIR", help="write the frames there")
    tail.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    tail.add_argument("-n", type=seq, default=SHOWN, metavar="N", help=f"so many; {SHOWN}")


def _info(chosen: argparse.Namespace) -> int:

    def work(folder: Path) -> int:
        summary = look(folder)
        if chosen.json:
            print(orjson.dumps(summary_value(summary)).decode())
        else:
            print(summary_text(summary, time.time()))
        return EXIT_FAULT if summary.damage else 0

    return _on_log(chosen.log_dir, work)


def _dump(chosen: argparse.Namespace) -> int:
    frames = chosen.frames

    def work(folder: Path) -> int:
        if frames is not None:
            frames.mkdir(parents=True, exist_ok=True)
        printer = Printer(as_json=chosen.json, frames=frames)
        oldest_seq = next(iter(list_segments(folder)), 1)
        if chosen.from_seq is not None and chosen.from_seq < oldest_seq:
            say(f"seq {chosen.from_seq} has left the log, which begins at {oldest_seq}")
        for seq, row, opened, message in events(folder, chosen.from_seq or 1, printer):
            if (chosen.to_seq is not None and seq > chosen.to_seq) or (
                printer.events == chosen.limit
            ):
                break
            printer.event(seq, row, opened, message)
        if frames is not None:
            say(f"{printer.events} frames written to {frames}")
        return printer.code

    return _on_log(chosen.log_dir, work)


def _tail(chosen: argparse.Namespace) -> int:

    def work(folder: Path) -> int:
        printer = Printer(as_json=chosen.json)
        told = read_told(folder)
        begin = told.durable_seq or max(list_segments(folder), default=1)
        last = deque(events(folder, max(1, begin - chosen.n + 1), printer), maxlen=chosen.n)
        for each in last:
            printer.event(*each)
        if chosen.follow:
            with contextlib.suppress(KeyboardInterrupt):
                follow(folder, max(printer.last_seq, told.durable_seq) + 1, printer)
        return printer.code

    return _on_log(chosen.log_dir, work, waits=chosen.follow)


def _verify(chosen: argparse.Namespace) -> int:

    def work(folder: Path) -> int:
        words = [sys.executable, "-m", "persist.verify", "--log-dir", str(folder.absolute())]
        if chosen.json:
            words.append("--json")
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        if chosen.log_only or chosen.log_dir is not None:
            return _verifier(words, environment)
        settings = load_settings(os.environ)
        try:
            with embedded.database(settings, Paths.of(settings)) as url:
                # Not among the words, which everybody on the machine can read.
                return _verifier([*words, "--view"], {**environment, "STANDPIPE_DATABASE_URL": url})
        except embedded.NoDatabase as error:
            code = _verifier(words, environment)
            say(f"the view was not compared: {error}")
            return code or EXIT_FAULT

    return _on_log(chosen.log_dir, work)


def _verifier(words: list[str], environment: dict[str, str]) -> int:
    with subprocess.Popen(words, env=environment, cwd=PROJECT) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            return process.wait()


def _on_log(log_dir: Path | None, work: Callable[[Path], int], *, waits: bool = False) -> int:
    """Do something with the log's folder; returns the exit code.

    Args:
        log_dir: None: the one of the relay of the environment. waits: for a log to begin there.
    """
    if log_dir is None:
        settings = read_settings()
        if settings is None:
            return EXIT_SETTINGS
        log_dir = Paths.of(settings).log_dir
    if not waits and not list_segments(log_dir):
        say(f"there is no log in {log_dir}")
        return EXIT_FAULT
    try:
        return work(log_dir)
    except BrokenPipeError:
        raise
    except (OSError, UnknownFormat) as error:
        say(str(error))
        return EXIT_FAULT
