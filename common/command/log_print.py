"""How do events of the log come to a terminal, and damage beside them? Those that are there, and those to come."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson

from common.chunk import Row
from common.command.log_words import event_line, event_value
from common.command.session import say
from common.envelope import Kind
from common.event import Event
from common.log import Damaged, Outdated
from common.log_walk import Found, read_told, walk
from common.logged import message_of, open_row
from common.process import EXIT_FAULT
from common.segments import SegmentReader

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


def events(
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


def follow(folder: Path, next_seq: int, printer: Printer) -> None:
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
