"""What does the log hold, is it sound, and what has just come? Read-only, beside a relay or without.

    standpipe log info | dump | tail ─▶ common/log_walk.py ─▶ log_words.py
    standpipe log verify             ─▶ python -m persist.verify, a process of its own

Nothing here takes a lock or makes a file in the log's folder.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import orjson

from common.chunk import ChunkKind, Row, UnknownFormat
from common.command import embedded
from common.command.control import read_settings, say
from common.command.log_words import (
    Claim,
    Hole,
    Summary,
    event_line,
    event_value,
    summary_text,
    summary_value,
)
from common.command.run import PROJECT
from common.envelope import Kind
from common.event import Event
from common.log import Damaged, Outdated
from common.log_walk import Broken, Found, Step, heads, read_told, walk
from common.logged import message_of, open_row
from common.paths import Paths
from common.process import EXIT_FAULT, EXIT_SETTINGS
from common.segment_files import HEAD_NAME, list_segments, segment_path
from common.segments import SegmentReader
from common.settings import load_settings

CHECKPOINT_NAME: Final = "checkpoint"
POLL_S: Final = 0.1
"""How often `tail -f` looks for what has become durable, in seconds."""
READ_BYTES: Final = 1 << 20


class Printer:
    """Prints events, and says what is damaged; `code` is the exit code that follows."""

    def __init__(self, *, as_json: bool, frames: Path | None = None) -> None:
        self.code = 0
        self.events = 0
        self.last_seq = 0
        self._as_json = as_json
        self._frames = frames

    def event(self, seq: int, row: Row, opened: Event | str, message: bytes) -> None:
        """Print one event. message: as consumers get it."""
        event = None if isinstance(opened, str) else opened
        if isinstance(opened, str):
            self.broken(opened)
        if self._as_json:
            print(orjson.dumps(event_value(seq, row, event)).decode())
        else:
            print(event_line(seq, row, event))
        if self._frames is not None:
            name = f"{seq}-{Kind(row.kind).name.lower()}.frame"
            (self._frames / name).write_bytes(message)
        self.events += 1
        self.last_seq = seq

    def broken(self, what: str) -> None:
        """Name damage."""
        sys.stdout.flush()
        say(what)
        self.code = EXIT_FAULT


def info(log_dir: Path | None, *, as_json: bool) -> int:
    """Print what the log is made of; returns the exit code."""

    def work(folder: Path) -> int:
        summary = look(folder)
        if as_json:
            print(orjson.dumps(summary_value(summary)).decode())
        else:
            print(summary_text(summary, time.time()))
        return EXIT_FAULT if summary.damage else 0

    return _on_log(log_dir, work)


def dump(
    log_dir: Path | None,
    from_seq: int | None,
    to_seq: int | None,
    limit: int | None,
    frames: Path | None,
    *,
    as_json: bool,
) -> int:
    """Print events in order of seq; returns the exit code.

    Args:
        from_seq, to_seq: the first and the last. frames: folder for the frames, each a file.
    """

    def work(folder: Path) -> int:
        if frames is not None:
            frames.mkdir(parents=True, exist_ok=True)
        printer = Printer(as_json=as_json, frames=frames)
        oldest_seq = next(iter(list_segments(folder)), 1)
        if from_seq is not None and from_seq < oldest_seq:
            say(f"seq {from_seq} has left the log, which begins at {oldest_seq}")
        for seq, row, opened, message in _events(folder, from_seq or 1, printer):
            if (to_seq is not None and seq > to_seq) or printer.events == limit:
                break
            printer.event(seq, row, opened, message)
        if frames is not None:
            say(f"{printer.events} frames written to {frames}")
        return printer.code

    return _on_log(log_dir, work)


def tail(log_dir: Path | None, count: int, *, follow: bool, as_json: bool) -> int:
    """Print the last events, and with `follow` what comes until Ctrl-C; returns the exit code."""

    def work(folder: Path) -> int:
        printer = Printer(as_json=as_json)
        told = read_told(folder)
        begin = told.durable_seq or max(list_segments(folder), default=1)
        last = deque(_events(folder, max(1, begin - count + 1), printer), maxlen=count)
        for each in last:
            printer.event(*each)
        if follow:
            with contextlib.suppress(KeyboardInterrupt):
                _follow(folder, max(printer.last_seq, told.durable_seq) + 1, printer)
        return printer.code

    return _on_log(log_dir, work, waits=follow)


def verify(log_dir: Path | None, *, view: bool) -> int:
    """Check the whole log, and PostgreSQL against it; returns the exit code.

    Args:
        log_dir: a folder of segments, which has no database; None: the relay's own.
    """

    def work(folder: Path) -> int:
        command = [sys.executable, "-m", "persist.verify", "--log-dir", str(folder.absolute())]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        if not view or log_dir is not None:
            return _verifier(command, environment)
        settings = load_settings(os.environ)
        try:
            with embedded.database(settings, Paths.of(settings)) as url:
                # Not among the words, which everybody on the machine can read.
                return _verifier(
                    [*command, "--view"], {**environment, "STANDPIPE_DATABASE_URL": url}
                )
        except embedded.NoDatabase as error:
            code = _verifier(command, environment)
            say(f"the view was not compared: {error}")
            return code or EXIT_FAULT

    return _on_log(log_dir, work)


def look(folder: Path) -> Summary:
    """What the segments are made of, by their heads: seconds, not minutes, for 100 GB."""
    told = read_told(folder)
    bases = list_segments(folder)
    sizes, formats = 0, set()
    claims: list[Claim] = []
    holes: list[Hole] = []
    damage: list[Broken] = []
    oldest_at_s = durable_at_s = None
    # A claim raises the epoch: only segments in which it rises are walked through.
    firsts = {base: _first(folder, base, damage) for base in bases}
    durable_seq = told.durable_seq
    for base, after in zip(bases, [*bases[1:], None], strict=True):
        with contextlib.suppress(FileNotFoundError):
            sizes += segment_path(folder, base).stat().st_size
        first, behind = firsts[base], firsts[after] if after is not None else None
        if first is None:
            continue
        formats.add(first.head.version)
        if oldest_at_s is None and (first.head.events or len(bases) > 1):
            oldest_at_s = first.head.time_us / 1e6
        calm = behind is not None and behind.head.epoch == first.head.epoch
        if calm and first.head.kind != ChunkKind.CLAIM:
            continue
        next_seq = base
        for step in _steps(folder, base, damage):
            head, at_s = step.head, step.head.time_us / 1e6
            if told.epoch and head.events and head.first_seq > told.durable_seq:
                break
            if head.kind == ChunkKind.CLAIM:
                info = step.info.decode(errors="replace")
                claims.append(Claim(head.epoch, at_s, head.first_seq, info))
                if head.first_seq > next_seq:
                    holes.append(Hole(next_seq, head.first_seq, at_s))
            next_seq = head.first_seq + head.events
            if head.events:
                oldest_at_s = oldest_at_s or at_s
                durable_at_s = at_s if after is None or next_seq <= durable_seq else durable_at_s
                if not told.epoch:
                    durable_seq = next_seq - 1
    if durable_at_s is None and len(bases) > 1 and firsts[bases[-1]] is not None:
        # The newest segment has no event yet.
        durable_at_s = _last_event_s(folder, bases[-2], damage)
    age_s = None
    with contextlib.suppress(FileNotFoundError):
        age_s = max(0.0, time.time() - (folder / CHECKPOINT_NAME).stat().st_mtime)
    return Summary(
        str(folder), sorted(formats), len(bases), sizes, (folder / HEAD_NAME).exists(),
        told.epoch or max((claim.epoch for claim in claims), default=0),
        told.oldest_seq or (bases[0] if bases else 1), oldest_at_s, durable_seq, durable_at_s,
        claims, holes, age_s, list(dict.fromkeys(damage)),
    )  # fmt: skip


def _first(folder: Path, base: int, damage: list[Broken]) -> Step | None:
    return next(_steps(folder, base, damage), None)


def _last_event_s(folder: Path, base: int, damage: list[Broken]) -> float | None:
    times = [step.head.time_us for step in _steps(folder, base, damage) if step.head.events]
    return times[-1] / 1e6 if times else None


def _steps(folder: Path, base: int, damage: list[Broken]) -> Iterator[Step]:
    """The heads of one segment; where it is broken it ends, and that is noted."""
    with contextlib.suppress(FileNotFoundError):
        for step in heads(folder, base):
            if isinstance(step, Broken):
                told = read_told(folder)
                # Behind what was announced a writer is at work, or was killed.
                if not told.epoch or step.from_seq <= told.durable_seq:
                    damage.append(step)
                return
            yield step


def _events(
    folder: Path, from_seq: int, printer: Printer
) -> Iterator[tuple[int, Row, Event | str, bytes]]:
    """Every event from a seq to the durable end; damage is named, and what lies behind it told."""
    told = read_told(folder)
    for found in walk(folder, from_seq, told.durable_seq if told.epoch else None):
        if isinstance(found, Found):
            chunk = found.chunk
            for seq, row in enumerate(chunk.rows(), chunk.first_seq):
                if seq >= from_seq:
                    yield seq, row, open_row(chunk, seq, row), message_of(chunk, row)
        elif found.retired:
            say(f"{found.file} has left the log meanwhile")
        else:
            printer.broken(found.text())


def _follow(folder: Path, next_seq: int, printer: Printer) -> None:
    """Print what becomes durable, until interrupted."""
    with contextlib.closing(SegmentReader(folder)) as reader:
        while True:
            try:
                chunks = reader.read(next_seq, READ_BYTES)
            except Outdated as error:
                say(f"seqs {next_seq} to {error.oldest_seq - 1} have left the log meanwhile")
                next_seq = error.oldest_seq
                continue
            except Damaged as error:
                printer.broken(str(error))
                next_seq = error.until_seq or reader.durable_seq + 1
                continue
            if not chunks:
                sys.stdout.flush()
                time.sleep(POLL_S)
            for chunk in chunks:
                for seq, row in enumerate(chunk.rows(), chunk.first_seq):
                    if seq >= next_seq:
                        printer.event(seq, row, open_row(chunk, seq, row), message_of(chunk, row))
                next_seq = max(next_seq, chunk.next_seq)


def _verifier(command: list[str], environment: dict[str, str]) -> int:
    with subprocess.Popen(command, env=environment, cwd=PROJECT) as process:
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
        code = work(log_dir)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read this has seen enough, such as `head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, UnknownFormat) as error:
        say(str(error))
        return EXIT_FAULT
    return code
