"""A persist worker in a thread of the test, ingest processes and a broadcaster to talk to it."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import zmq

from common.chunk import Chunk, decode_chunk
from common.envelope import (
    Batch,
    HostCursor,
    HostObservation,
    Judged,
    Reply,
    ShardClaim,
    decode_reply,
    encode_batch,
)
from common.log import LogReader
from common.segments import SegmentReader
from common.transport import batch_outlet, chunk_inlet
from persist.config import Config
from persist.disk import Disk
from persist.worker import Worker

DEADLINE_S = 60.0
Context = zmq.Context[zmq.Socket[bytes]]


class Relay:
    """Folders and addresses of one persist, which may be started many times."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.config = Config(
            log_dir=folder / "log",
            batches_endpoint=f"ipc://{folder}/batches",
            chunks_endpoint=f"ipc://{folder}/chunks",
            database_url=database_url,
            replay_window_s=3600.0,
            replay_bytes=2**40,
        )

    @contextmanager
    def persist(self, disk: Disk | None = None) -> Iterator[Persist]:
        """A running persist; drained at the end unless it ended by itself."""
        persist = Persist(self.config, disk)
        try:
            yield persist
        finally:
            persist.stop()

    @contextmanager
    def reader(self) -> Iterator[LogReader]:
        """A reader of its log."""
        with closing(SegmentReader(self.config.log_dir)) as reader:
            yield reader

    def logged(self) -> list[tuple[int, int, int]]:
        """(seq, host, upstream seq) of every event in the log."""
        found = []
        with self.reader() as reader:
            seq = reader.oldest_seq
            while chunks := reader.read(seq, 1 << 20):
                for chunk in chunks:
                    found += [
                        (at, row.host, row.upstream_seq)
                        for at, row in enumerate(chunk.rows(), chunk.first_seq)
                    ]
                seq = chunks[-1].next_seq
        return found


@contextmanager
def relay(database_url: str) -> Iterator[Relay]:
    """A place for one relay; short enough for the sockets."""
    folder = Path(tempfile.mkdtemp(prefix="sp-"))
    try:
        yield Relay(folder, database_url)
    finally:
        shutil.rmtree(folder)


class Persist:
    """A worker in its own thread. error: what it raised, if it did."""

    def __init__(self, config: Config, disk: Disk | None = None) -> None:
        self.stopping = threading.Event()
        self.error: BaseException | None = None
        self.worker: Worker | None = None
        self._config = config
        self._disk = disk
        self._theirs, self._ours = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="persist")
        self._thread.start()

    def _run(self) -> None:
        try:
            # Made here: the worker belongs to the thread that runs it.
            self.worker = Worker(self._config, self.stopping, disk=self._disk)
            try:
                if self.worker.start():
                    self.worker.run(self._theirs.fileno())
            finally:
                self.worker.close()
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        """As SIGTERM does; returns when it has drained."""
        self.stopping.set()
        self._ours.send(b"!")
        self.join()
        self._ours.close()
        self._theirs.close()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "persist does not end"


class Ingest:
    """One ingest process, as persist sees it."""

    def __init__(self, config: Config, member: int = 0, epoch: int = 1) -> None:
        self._context: Context = zmq.Context()
        self._socket = batch_outlet(self._context, member)
        self._socket.connect(config.batches_endpoint)
        self.member = member
        self.epoch = epoch
        self.log_epoch = 0

    def send(
        self,
        *sent: tuple[Judged, bytes],
        cursors: tuple[HostCursor, ...] = (),
        observations: tuple[HostObservation, ...] = (),
        clock_suspect: bool = False,
        claims: tuple[ShardClaim, ...] = (),
    ) -> None:
        """Send one batch; the first one waits for persist to answer a greeting."""
        if sent and not self.log_epoch:
            self._put(Batch(self.member, self.epoch))
            assert self.reply(), "no answer to the greeting"
        batch = Batch(
            self.member,
            self.epoch,
            [event for event, _ in sent],
            [frame for _, frame in sent],
            list(cursors),
            list(observations),
            self.log_epoch,
            clock_suspect,
            list(claims),
        )
        self._put(batch)

    def reply(self, within_s: float = DEADLINE_S) -> Reply | None:
        """The next reply; None when there is none within that time."""
        if not self._socket.poll(int(within_s * 1000)):
            return None
        reply = decode_reply(self._socket.recv_multipart())
        self.log_epoch = reply.log_epoch
        return reply

    def until(self, heard: Callable[[Reply], bool]) -> Reply:
        """The next reply of which that is true; those before it are passed by."""
        ends_s = time.monotonic() + DEADLINE_S
        while (reply := self.reply(max(0.0, ends_s - time.monotonic()))) is not None:
            if heard(reply):
                return reply
        raise AssertionError("no such reply")

    def _put(self, batch: Batch) -> None:
        self._socket.send_multipart(encode_batch(batch), zmq.NOBLOCK)

    def ask(self, *sent: tuple[Judged, bytes], cursors: tuple[HostCursor, ...] = ()) -> Reply:
        """Send one batch and wait until each of its events is answered; all answers in one."""
        self.send(*sent, cursors=cursors)
        return self.answers({event.position for event, _ in sent})

    def answers(self, positions: set[int]) -> Reply:
        """Wait until each of these positions is answered; all answers in one."""
        ends_s = time.monotonic() + DEADLINE_S
        whole = Reply(0, 0)
        while True:
            reply = self.reply(ends_s - time.monotonic())
            assert reply is not None, f"no answer for {positions}"
            whole = replace(
                reply,
                logged=whole.logged + reply.logged,
                duplicate=whole.duplicate + reply.duplicate,
                back=whole.back + reply.back,
            )
            positions = positions - {*reply.logged, *reply.duplicate}
            positions = positions - {position for position, _ in reply.back}
            if not positions or reply.refused:
                return whole

    def close(self) -> None:
        """Let go at once."""
        self._socket.close()
        self._context.term()


class Broadcaster:
    """One broadcaster, as persist sees it."""

    def __init__(self, config: Config) -> None:
        self._context: Context = zmq.Context()
        self._socket = chunk_inlet(self._context)
        self._socket.connect(config.chunks_endpoint)

    def chunk(self, within_s: float = DEADLINE_S) -> Chunk | None:
        """The next chunk that was published; None when there is none within that time."""
        if not self._socket.poll(int(within_s * 1000)):
            return None
        (raw,) = self._socket.recv_multipart()
        return decode_chunk(raw)

    def close(self) -> None:
        """Let go at once."""
        self._socket.close()
        self._context.term()


def open_files() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))
