"""A log in memory, a persist that publishes it, and one broadcaster to look at from outside."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import cbor2
import pytest
import zmq
from websockets.asyncio.client import ClientConnection, connect

from broadcast.admin_api import Setup
from broadcast.config import STREAM_PATH, HttpLimits, Limits
from broadcast.crawl import Rules
from broadcast.fanout import Fanout
from broadcast.hole import Cause, Hole
from broadcast.inlet import Inlet
from broadcast.notice import encode_info, websocket_frame
from broadcast.server import bind
from broadcast.worker import Worker
from common.chunk import Chunk, ChunkKind, Row, encode_chunk
from common.log import Damaged, Outdated
from common.transport import chunk_outlet
from tests.broadcast.raw import Raw

QUICK: Final = Limits(tick_s=0.001, tick_max_s=0.001)
NO_DATABASE: Final = "postgresql://nobody@127.0.0.1:1/none?connect_timeout=1"
_HEADER: Final = cbor2.dumps({"t": "#commit", "op": 1}, canonical=True)


def message_of(seq: int, size: int = 100) -> bytes:
    """The message of one event: a header, and a payload that names its seq and has this size."""
    return _HEADER + cbor2.dumps({"seq": seq, "blocks": bytes(size)}, canonical=True)


def seq_of(message: bytes | str) -> int:
    """The seq that a message names."""
    assert isinstance(message, bytes)
    assert message.startswith(_HEADER), message[:40]
    seq: int = cbor2.loads(message[len(_HEADER) :])["seq"]
    return seq


def rows_of(frames: list[bytes]) -> list[Row]:
    """Rows for finished frames that lie back to back."""
    offsets = itertools.accumulate([0, *map(len, frames)])
    return [
        Row(offset, len(frame), 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, bytes(16))
        for offset, frame in zip(offsets, frames, strict=False)
    ]


def gap_of(first_seq: int, next_seq: int, cause: Cause = Cause.LEFT_OUT) -> bytes:
    """The frame that tells of a hole to who comes to `first_seq`."""
    return bytes(Hole(first_seq, next_seq, cause).frames_from(first_seq))


def told_of(first_seq: int, next_seq: int, cause: Cause = Cause.LEFT_OUT) -> bytes:
    """The message of the same."""
    words = f"seq {first_seq} to {next_seq - 1} are missing: {cause.value}"
    return encode_info("Gap", words)


def frame_of(seq: int, size: int = 100) -> bytes:
    """The finished frame of one event."""
    return websocket_frame(message_of(seq, size))


class FakeLog:
    """A log in memory; its readers fulfil common.log.LogReader in any thread."""

    def __init__(self, epoch: int = 1, first_seq: int = 1) -> None:
        self.epoch = epoch
        self.chunks: list[Chunk] = []
        self.next_seq = self.oldest_seq = first_seq
        self.crc = 0
        self.flags = 0
        """Of the chunks that are written from now on."""
        self.hidden: int | None = None
        """As long as it is set, readers see this as the durable seq."""
        self.damaged: list[tuple[int, int | None]] = []
        """Ranges that cannot be read: from where, and where it goes on, if that is known."""
        self.reads: list[int] = []
        self.before_read: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def append(self, events: int = 1, size: int = 100) -> Chunk:
        """One more chunk; without events it is a beat."""
        with self._lock:
            seqs = range(self.next_seq, self.next_seq + events)
            frames = [websocket_frame(message_of(seq, size)) for seq in seqs]
            return self._add(ChunkKind.GROUP, rows_of(frames), b"".join(frames))

    def claim(self, skip: int = 0) -> Chunk:
        """A new writer begins; it may leave numbers out."""
        with self._lock:
            self.epoch += 1
            self.next_seq += skip
            return self._add(ChunkKind.CLAIM, [], b"a new writer")

    def purge(self, until_seq: int) -> None:
        """Retention takes all chunks that end before `until_seq`."""
        with self._lock:
            while self.chunks and self.chunks[0].next_seq <= until_seq:
                self.oldest_seq = self.chunks.pop(0).next_seq

    @property
    def durable_seq(self) -> int:
        return self.next_seq - 1 if self.hidden is None else self.hidden

    def read(self, from_seq: int, max_bytes: int) -> list[Chunk]:
        self.before_read()
        with self._lock:
            self.reads.append(from_seq)
            if from_seq > self.durable_seq:
                return []
            if from_seq < self.oldest_seq:
                raise Outdated(self.oldest_seq)
            found: list[Chunk] = []
            next_seq = from_seq
            for chunk in self.chunks:
                if from_seq < chunk.next_seq <= self.durable_seq + 1 and max_bytes > 0:
                    if self._is_damaged(next_seq, chunk):
                        break
                    found.append(chunk)
                    next_seq = chunk.next_seq
                    max_bytes -= len(chunk.raw)
            if not found:
                self._check_damage(from_seq)
            return found

    def seq_at(self, time_s: float) -> int:
        raise NotImplementedError

    def close(self) -> None:
        pass

    def _is_damaged(self, from_seq: int, chunk: Chunk) -> bool:
        return any(
            from_seq < (until_seq or chunk.next_seq) and first_seq < chunk.next_seq
            for first_seq, until_seq in self.damaged
        )

    def _check_damage(self, from_seq: int) -> None:
        for first_seq, until_seq in self.damaged:
            if until_seq is None or from_seq < until_seq:
                words = f"{first_seq}.seg, byte 17: the CRC does not match"
                raise Damaged(words, first_seq, until_seq)

    def _add(self, kind: ChunkKind, rows: list[Row], frames: bytes) -> Chunk:
        now_us = int(time.time() * 1e6)
        chunk = encode_chunk(
            kind, self.epoch, self.next_seq, self.crc, now_us, rows, frames, self.flags
        )
        self.crc = chunk.crc
        self.next_seq = chunk.next_seq
        if chunk.count:
            self.chunks.append(chunk)
        return chunk


class Member:
    """One broadcaster in this loop, with a fake persist before it."""

    def __init__(self, log: FakeLog, folder: Path) -> None:
        self.log = log
        self.endpoint = f"ipc://{folder / 'chunks'}"
        self.port = 0
        self.private_port = 0
        self.worker: Worker
        self.stopping = asyncio.Event()
        self.running: asyncio.Task[None]
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._publisher: zmq.Socket[bytes] | None = None
        self._heard = b""
        """The message that it heard last."""

    @property
    def fanout(self) -> Fanout:
        """The member's consumers."""
        assert self.worker.service.fanout is not None
        return self.worker.service.fanout

    @property
    def inlet(self) -> Inlet:
        """Where its chunks come in."""
        assert self.worker._inlet is not None
        return self.worker._inlet

    def persist_up(self) -> None:
        """Persist begins to publish."""
        self._publisher = chunk_outlet(self._context)
        self._publisher.bind(self.endpoint)

    def persist_down(self) -> None:
        """Persist is gone."""
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None

    def publish(self, chunk: Chunk) -> None:
        """Send a chunk over the hop."""
        assert self._publisher is not None
        self._publisher.send(chunk.raw)

    def emit(self, events: int = 1, size: int = 100) -> None:
        """Make events durable and publish them."""
        self.publish(self.log.append(events, size))

    async def hears(self) -> None:
        """Beat until the member hears it, and has heard all of that: none comes late and says it again."""
        beats: list[bytes] = []

        def heard() -> bool:
            is_awake = self.worker.pulse.heard_s is not None
            if not is_awake or self._heard not in beats:
                beat = self.log.append(0)
                self.publish(beat)
                beats.append(beat.raw)
            return is_awake and self._heard == beats[-1]

        await until(heard)

    def listen(self) -> None:
        """Note what the worker hears; call before it runs."""
        hear = self.worker._on_message

        def note(parts: list[bytes]) -> None:
            hear(parts)
            self._heard = b"".join(parts)

        self.worker._on_message = note  # type: ignore[method-assign]

    def url(self, query: str = "") -> str:
        """The stream's URL."""
        return f"ws://127.0.0.1:{self.port}{STREAM_PATH}{query}"

    def stream(self, query: str = "", **more: Any) -> connect:
        """A consumer."""
        more = {"compression": None, "max_size": None, "proxy": None, **more}
        return connect(self.url(query), **more)

    def term(self) -> None:
        self.persist_down()
        self._context.term()


@contextlib.asynccontextmanager
async def member_of(
    log: FakeLog,
    folder: Path,
    *,
    limits: Limits = QUICK,
    http_limits: HttpLimits | None = None,
    database_url: str = NO_DATABASE,
    persist: bool = True,
    open_reader: Callable[[], Any] | None = None,
    admin_passwords: tuple[str, ...] = (),
    admin: Setup | None = None,
    crawl: Rules | None = None,
    trusted_proxies: tuple[str, ...] = (),
    port: int = 0,
    log_dir: Path | None = None,
) -> AsyncIterator[Member]:
    """A running broadcaster; ends drained.

    With the port of another one, in the same folder, and without a persist of its own: its sibling.
    """
    member = Member(log, folder)
    if persist:
        member.persist_up()
    member.worker = Worker(
        open_reader or (lambda: log), member.endpoint, database_url, limits, http_limits,
        admin or Setup(passwords=admin_passwords), crawl, trusted_proxies, log_dir,
    )  # fmt: skip
    member.listen()
    public, private = bind("127.0.0.1", port, shared=True), bind("127.0.0.1", 0, shared=False)
    member.port, member.private_port = public.getsockname()[1], private.getsockname()[1]
    ready = asyncio.Event()
    member.running = asyncio.create_task(
        member.worker.run([public, private], member.stopping, ready.set)
    )
    try:
        waiter = asyncio.ensure_future(ready.wait())
        await asyncio.wait([waiter, member.running], return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if persist:
            await member.hears()
        yield member
        member.stopping.set()
        await member.running
    finally:
        if not member.running.done():
            member.stopping.set()
            with contextlib.suppress(BaseException):
                await member.running
        member.term()
        while Raw.opened:
            Raw.opened.pop().cut()
        await asyncio.sleep(0)


async def until(condition: Callable[[], Any], within_s: float = 30.0, what: str = "") -> None:
    """Wait, in a loop, until `condition` holds."""
    ends_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends_s, f"not within {within_s} s: {what or condition}"
        await asyncio.sleep(0.005)


async def seqs(stream: ClientConnection, count: int) -> list[int]:
    """The seqs of the next events."""
    async with asyncio.timeout(20):
        return [seq_of(await stream.recv()) for _ in range(count)]


def with_limits(**changes: Any) -> Limits:
    """The quick limits, changed."""
    return dataclasses.replace(QUICK, **changes)


@pytest.fixture
def log() -> FakeLog:
    """An empty log."""
    return FakeLog()
