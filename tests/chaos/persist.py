"""python -m tests.chaos.persist: the persist that it is, but it can be told where to die.

It writes down each step whose place in the order matters (see tests/chaos/order.py), and kills
itself at the point that the first of its orders names. CHAOS_FOLDER: where trace and orders are.
CHAOS_SEGMENT_BYTES: the size of a segment, so that rolls come often. CHAOS_LOG_BYTES: what the log
may grow to, so that retention comes often, looked at ten times a second.

Nothing of the product knows of this: the classes that do the steps are replaced from outside.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson

import persist.__main__ as door
import persist.segment_log
import persist.store_thread
import persist.worker
from common.chunk import Chunk, ChunkError, ChunkKind, decode_chunk
from common.envelope import Mark, Reply
from common.process import run_sync
from common.segment_files import SUFFIX, HeadFile
from persist.config import Config
from persist.disk import Disk
from persist.inlet import Inlet
from persist.outlet import Outlet
from persist.segment_log import SegmentLog
from persist.store import Store
from persist.view import Changes
from persist.worker import Worker
from tests.chaos.points import TRACE, Order, Point, read_orders, write_orders

FOLDER = Path(os.environ["CHAOS_FOLDER"])


class Chaos:
    """What is written down, and where it ends. Used by all threads of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._trace = os.open(FOLDER / TRACE, flags, 0o644)
        self._order: Order | None = None
        self._left = 0
        self.serving = False
        self.tell("life", os.getpid())

    def tell(self, *line: object) -> None:
        """Write one line; it survives the death of this process."""
        os.write(self._trace, orjson.dumps(line) + b"\n")

    def ordered(self, point: Point) -> bool:
        """Whether the time to die has come, at this passing of `point`."""
        with self._lock:
            orders = read_orders(FOLDER)
            if not orders or orders[0].point is not point:
                return False
            if self._order != orders[0]:
                self._order, self._left = orders[0], orders[0].times
            self._left -= 1
            if self._left:
                return False
            write_orders(FOLDER, orders[1:])
            return True

    def passes(self, point: Point) -> None:
        """This is `point`: die here if that is ordered."""
        if self.ordered(point):
            self.die(point)

    def die(self, point: Point) -> None:
        """Kill this process."""
        self.tell("died", point)
        os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait()  # another thread may be the one that ends


chaos = Chaos()


class TracedDisk(Disk):
    """The real disk; segments only."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._claimed = False
        self._rolling = False
        self._unsynced_events = False

    def open(self, path: Path, *, create: bool) -> int:
        fd = super().open(path, create=create)
        if path.name.endswith(SUFFIX):
            self._names[fd] = path.name
            if create:
                chaos.tell("create", path.name)
                if self._claimed:
                    self._rolling = True
                    chaos.passes(Point.ROLL_CREATED)
        return fd

    def write(self, fd: int, data: bytes, offset: int) -> None:
        if fd not in self._names:
            super().write(fd, data, offset)
            return
        chunks = _chunks(data)
        events = sum(chunk.count for chunk in chunks)
        if events and self._claimed and chaos.ordered(Point.HALF_WRITTEN):
            super().write(fd, data[: len(data) // 2], offset)
            chaos.die(Point.HALF_WRITTEN)
        super().write(fd, data, offset)
        for chunk in chunks:
            rows = [
                [row.host, 0 if row.flags & Mark.OURS else row.upstream_seq, row.position]
                for row in chunk.rows()
            ]
            chaos.tell("write", self._names[fd], chunk.first_seq, rows)
        if chunks[0].kind is ChunkKind.CLAIM:
            chaos.passes(Point.CLAIM_WRITTEN)
            self._claimed = True
        elif not self._claimed:
            chaos.passes(Point.REWRITTEN)
        elif events:
            self._unsynced_events = True
            chaos.passes(Point.WRITTEN)

    def sync(self, fd: int) -> None:
        super().sync(fd)
        if fd in self._names:
            chaos.tell("sync", self._names[fd])
            if self._unsynced_events:
                self._unsynced_events = False
                chaos.passes(Point.SYNCED)

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        chaos.tell("folder")
        if self._rolling:
            self._rolling = False
            chaos.passes(Point.ROLL_NAMED)

    def truncate(self, fd: int, length: int) -> None:
        super().truncate(fd, length)
        if fd in self._names:
            chaos.tell("truncate", self._names[fd])
            chaos.passes(Point.TRUNCATED)

    def remove(self, path: Path) -> None:
        if not path.name.endswith(SUFFIX):
            super().remove(path)
            return
        chaos.tell("remove", path.name)
        super().remove(path)
        chaos.passes(Point.REMOVED)

    def close(self, fd: int) -> None:
        name = self._names.pop(fd, None)
        super().close(fd)
        if name is not None and chaos.serving:
            chaos.passes(Point.ROLL_CLOSED)


def _chunks(data: bytes) -> list[Chunk]:
    found = []
    at = 0
    while at < len(data):
        try:
            found.append(decode_chunk(data, at))
        except ChunkError as error:
            raise AssertionError(f"what is written to a segment is no chunk: {error}") from error
        at += len(found[-1].raw)
    return found


_DURABLE_SEQ: property = vars(HeadFile)["durable_seq"]
_OLDEST_SEQ: property = vars(HeadFile)["oldest_seq"]
_EPOCH: property = vars(HeadFile)["epoch"]


class TracedHead(HeadFile):
    """The head file, told before each cell moves."""

    @property
    def durable_seq(self) -> int:
        return super().durable_seq

    @durable_seq.setter
    def durable_seq(self, value: int) -> None:
        rises = value > super().durable_seq
        if rises:
            chaos.tell("announce", value)
        _DURABLE_SEQ.__set__(self, value)
        if rises and chaos.serving:
            chaos.passes(Point.ANNOUNCED)

    @property
    def oldest_seq(self) -> int:
        return super().oldest_seq

    @oldest_seq.setter
    def oldest_seq(self, value: int) -> None:
        moves = 0 < super().oldest_seq < value
        _OLDEST_SEQ.__set__(self, value)
        chaos.tell("oldest", value)
        if moves:
            chaos.passes(Point.OLDEST_MOVED)

    @property
    def epoch(self) -> int:
        return super().epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        _EPOCH.__set__(self, value)
        chaos.tell("epoch", value)
        chaos.passes(Point.EPOCH_RAISED)


class TracedOutlet(Outlet):
    """To the broadcasters."""

    def publish(self, chunk: Chunk) -> None:
        if chunk.count:
            chaos.tell("publish", chunk.first_seq, chunk.next_seq)
        super().publish(chunk)
        if chunk.count:
            chaos.passes(Point.PUBLISHED)


class TracedInlet(Inlet):
    """To ingest."""

    def send(self, route: bytes, reply: Reply) -> None:
        if reply.logged or reply.duplicate:
            chaos.tell("reply", reply.durable_seq, reply.logged, reply.duplicate)
        super().send(route, reply)
        if reply.logged:
            chaos.passes(Point.ANSWERED)


class TracedStore(Store):
    """To PostgreSQL."""

    def flush(self, changes: Changes) -> None:
        cursors = [[cursor.host, cursor.seq] for cursor in changes.cursors]
        chaos.tell("flush", changes.applied_seq, cursors)
        if cursors:
            chaos.passes(Point.FLUSHING)
        super().flush(changes)
        if not chaos.serving:
            chaos.passes(Point.CAUGHT_UP)
        elif cursors:
            chaos.passes(Point.FLUSHED)


class ChaosWorker(Worker):
    """The worker, with the steps above."""

    def __init__(self, config: Config, stopping: threading.Event, **given: Any) -> None:
        if (log_bytes := os.environ.get("CHAOS_LOG_BYTES")) is not None:
            config = replace(config, replay_bytes=int(log_bytes), retain_every_s=0.1)
        super().__init__(config, stopping, **{"disk": TracedDisk(), **given})

    def start(self) -> bool:
        chaos.serving = super().start()
        return chaos.serving

    def close(self) -> None:
        chaos.serving = False
        super().close()


def _replace(module: Any, name: str, new: Callable[..., Any]) -> None:
    """Put another class in a module's place for it; a name that is gone is told at once."""
    assert hasattr(module, name), f"{module.__name__} has no {name} any more"
    setattr(module, name, new)


if __name__ == "__main__":
    segment_bytes = os.environ.get("CHAOS_SEGMENT_BYTES")
    if segment_bytes is not None:
        _replace(
            persist.worker, "SegmentLog", partial(SegmentLog, segment_bytes=int(segment_bytes))
        )
    _replace(persist.segment_log, "HeadFile", TracedHead)
    _replace(persist.worker, "Outlet", TracedOutlet)
    _replace(persist.worker, "Inlet", TracedInlet)
    _replace(persist.worker, "Store", TracedStore)
    _replace(persist.store_thread, "Store", TracedStore)
    _replace(door, "Worker", ChaosWorker)
    sys.exit(run_sync("persist", door.main))
