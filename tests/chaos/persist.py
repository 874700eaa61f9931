"""python -m tests.chaos.persist: the persist that it is, but it can be told where to die.

It writes down each step whose place in the order matters (see tests/chaos/order.py), and kills
itself at the point that the first of its orders names. CHAOS_FOLDER: where trace and orders are.
CHAOS_SEGMENT_BYTES: the size of a segment, so that rolls come often. CHAOS_LOG_BYTES: what the log
may grow to, so that retention comes often, looked at ten times a second.

Nothing of the product knows of this: the methods that do the steps are replaced from outside.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson

import persist.__main__ as door
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
NEW_CHECKPOINT = "checkpoint.new"


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

    def ordered(self, point: Point) -> signal.Signals | None:
        """The signal whose time has come, at this passing of `point`."""
        with self._lock:
            orders = read_orders(FOLDER)
            if not orders or orders[0].point is not point:
                return None
            if self._order != orders[0]:
                self._order, self._left = orders[0], orders[0].times
            self._left -= 1
            if self._left:
                return None
            self._order = None
            write_orders(FOLDER, orders[1:])
            return orders[0].sign

    def passes(self, point: Point) -> None:
        """This is `point`: obey what is ordered for it."""
        sign = self.ordered(point)
        if sign is not None:
            self.obey(point, sign)

    def obey(self, point: Point, sign: signal.Signals) -> None:
        """Die here, or stand still until somebody lets this process go on."""
        self.tell("died" if sign == signal.SIGKILL else "stood", point)
        os.kill(os.getpid(), sign)
        if sign == signal.SIGKILL:
            threading.Event().wait()  # another thread may be the one that ends


chaos = Chaos()


class TracedDisk(Disk):
    """The real disk; told of segments and of the checkpoint, not of the segments' indexes."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._claimed = False
        self._unsynced_events = False
        # What the next sync of the folder makes durable, if it is worth a point.
        self._to_be_named: Point | None = None

    def open(self, path: Path, *, create: bool) -> int:
        fd = super().open(path, create=create)
        if path.name.endswith(SUFFIX):
            self._names[fd] = path.name
            if create:
                chaos.tell("create", path.name)
                if self._claimed:
                    self._to_be_named = Point.ROLL_NAMED
                    chaos.passes(Point.ROLL_CREATED)
        elif path.name == NEW_CHECKPOINT:
            self._names[fd] = path.name
            chaos.passes(Point.CHECKPOINT_CREATED)
        return fd

    def write(self, fd: int, data: bytes, offset: int) -> None:
        name = self._names.get(fd)
        if name is None:
            super().write(fd, data, offset)
        elif name == NEW_CHECKPOINT:
            from persist.checkpoint import decode_checkpoint

            super().write(fd, data, offset)
            said = decode_checkpoint(data)
            cursors = [[cursor.host, cursor.seq] for cursor in said.cursors]
            chaos.tell("checkpoint", said.durable_seq, said.applied_seq, cursors)
            chaos.passes(Point.CHECKPOINT_WRITTEN)
        else:
            self._write_segment(fd, name, data, offset)

    def _write_segment(self, fd: int, name: str, data: bytes, offset: int) -> None:
        chunks = _chunks(data)
        events = sum(chunk.count for chunk in chunks)
        if events and self._claimed and (sign := chaos.ordered(Point.HALF_WRITTEN)):
            super().write(fd, data[: len(data) // 2], offset)
            chaos.obey(Point.HALF_WRITTEN, sign)
        super().write(fd, data, offset)
        for chunk in chunks:
            rows = [
                [row.host, 0 if row.flags & Mark.OURS else row.upstream_seq, row.position]
                for row in chunk.rows()
            ]
            chaos.tell("write", name, chunk.first_seq, rows)
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
        name = self._names.get(fd)
        if name is None:
            return
        chaos.tell("sync", name)
        if name == NEW_CHECKPOINT:
            chaos.passes(Point.CHECKPOINT_SYNCED)
        elif self._unsynced_events:
            self._unsynced_events = False
            chaos.passes(Point.SYNCED)

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        chaos.tell("folder")
        point, self._to_be_named = self._to_be_named, None
        if point is not None:
            chaos.passes(point)

    def truncate(self, fd: int, length: int) -> None:
        super().truncate(fd, length)
        if fd in self._names:
            chaos.tell("truncate", self._names[fd])
            chaos.passes(Point.TRUNCATED)

    def rename(self, path: Path, target: Path) -> None:
        if path.name == NEW_CHECKPOINT:
            chaos.tell("rename", path.name)
        super().rename(path, target)
        if path.name == NEW_CHECKPOINT:
            self._to_be_named = Point.CHECKPOINT_NAMED
            chaos.passes(Point.CHECKPOINT_RENAMED)

    def remove(self, path: Path) -> None:
        if not path.name.endswith(SUFFIX):
            super().remove(path)
            return
        chaos.tell("remove", path.name)
        super().remove(path)
        chaos.passes(Point.REMOVED)

    def close(self, fd: int) -> None:
        name = self._names.pop(fd, "")
        super().close(fd)
        if name.endswith(SUFFIX) and chaos.serving:
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


def replace_method(owner: type | ModuleType, name: str, make: Callable[[Any], Any]) -> None:
    """Put another method, or property, in the place of one; one that is gone is told at once."""
    setattr(owner, name, make(vars(owner)[name]))


def traced_durable_seq(cell: property) -> property:
    def move(head: HeadFile, value: int) -> None:
        rises = value > head.durable_seq
        if rises:
            chaos.tell("announce", value)
        cell.__set__(head, value)
        if rises and chaos.serving:
            chaos.passes(Point.ANNOUNCED)

    return cell.setter(move)


def traced_oldest_seq(cell: property) -> property:
    def move(head: HeadFile, value: int) -> None:
        moves = 0 < head.oldest_seq < value
        cell.__set__(head, value)
        chaos.tell("oldest", value)
        if moves:
            chaos.passes(Point.OLDEST_MOVED)

    return cell.setter(move)


def traced_epoch(cell: property) -> property:
    def move(head: HeadFile, value: int) -> None:
        cell.__set__(head, value)
        chaos.tell("epoch", value)
        chaos.passes(Point.EPOCH_RAISED)

    return cell.setter(move)


def traced_publish(publish: Callable[..., None]) -> Callable[..., None]:
    def traced(outlet: Outlet, chunk: Chunk) -> None:
        if chunk.count:
            chaos.tell("publish", chunk.first_seq, chunk.next_seq)
        publish(outlet, chunk)
        if chunk.count:
            chaos.passes(Point.PUBLISHED)

    return traced


def traced_send(send: Callable[..., None]) -> Callable[..., None]:
    def traced(inlet: Inlet, route: bytes, reply: Reply) -> None:
        if reply.logged or reply.duplicate:
            chaos.tell("reply", reply.durable_seq, reply.logged, reply.duplicate)
        send(inlet, route, reply)
        if reply.logged:
            chaos.passes(Point.ANSWERED)

    return traced


def traced_flush(flush: Callable[..., None]) -> Callable[..., None]:
    def traced(store: Store, changes: Changes, *given: Any, **named: Any) -> None:
        cursors = [[cursor.host, cursor.seq] for cursor in changes.cursors]
        chaos.tell("flush", changes.applied_seq, cursors)
        if cursors and chaos.serving:
            chaos.passes(Point.FLUSHING)
        flush(store, changes, *given, **named)
        if not chaos.serving:
            chaos.passes(Point.CAUGHT_UP)
        elif cursors:
            chaos.passes(Point.FLUSHED)

    return traced


class ChaosWorker(Worker):
    """The worker, with the steps above."""

    def __init__(self, config: Config, stopping: threading.Event, **given: Any) -> None:
        config = replace(config, checkpoint_s=0.5)
        if (log_bytes := os.environ.get("CHAOS_LOG_BYTES")) is not None:
            config = replace(config, replay_bytes=int(log_bytes), retain_every_s=0.1)
        super().__init__(config, stopping, **{"disk": TracedDisk(), **given})

    def start(self) -> bool:
        chaos.serving = super().start()
        return chaos.serving

    def close(self) -> None:
        chaos.serving = False
        super().close()


if __name__ == "__main__":
    if (segment_bytes := os.environ.get("CHAOS_SEGMENT_BYTES")) is not None:
        defaults = SegmentLog.__init__.__kwdefaults__
        assert defaults is not None
        defaults["segment_bytes"] = int(segment_bytes)
    replace_method(HeadFile, "durable_seq", traced_durable_seq)
    replace_method(HeadFile, "oldest_seq", traced_oldest_seq)
    replace_method(HeadFile, "epoch", traced_epoch)
    replace_method(Outlet, "publish", traced_publish)
    replace_method(Inlet, "send", traced_send)
    replace_method(Store, "flush", traced_flush)
    replace_method(door, "Worker", lambda _worker: ChaosWorker)
    sys.exit(run_sync("persist", door.main))
