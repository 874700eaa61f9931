"""A persist that a test plays: a ROUTER that acknowledges, sends back, restarts, or stays silent.

It keeps a dense log of (judged, frame) in memory and the newest state of each DID, and checks
every event against it as the real one does; but simply, in one place, for a reader to see.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import cbor2
import zmq

from common.envelope import (
    NEVER_SEEN,
    AccountState,
    HostCursor,
    HostObservation,
    Judged,
    Mark,
    Reply,
    ShardClaim,
    base_of,
    decode_batch,
    encode_reply,
)
from common.transport import LoopSocket, batch_inlet


class FakePersist:
    """An async context manager; `endpoint` is where batches are taken.

    log: what was accepted, in order. states: the newest of each DID. silent: batches are read and
    forgotten, as if the process had died with them. refuses: every batch is refused.
    clock_suspect: as the last batch said. epochs: the highest of each shard that was heard of; what
    comes under a lower one is refused. lives: of each member, which life of it spoke last; an earlier one
    is refused. claims: all that were heard. unclaimed: events of others.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fake-persist-")
        self._path = Path(self._folder.name) / "batches"
        self.endpoint = f"ipc://{self._path}"
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.log: list[tuple[Judged, bytes]] = []
        self.states: dict[str, AccountState] = {}
        self.cursors: dict[int, HostCursor] = {}
        self.observations: dict[int, HostObservation] = {}
        self.sent_back = 0
        self.duplicates = 0
        self.batches = 0
        self.clock_suspect = False
        self.epochs: dict[int, int] = {}
        self.lives: dict[int, int] = {}
        self.claims: set[ShardClaim] = set()
        self.unclaimed = 0
        self.silent = False
        self.refuses = False
        self.hold_answers = False
        self.log_epoch = 1
        self._held: list[tuple[bytes, Reply]] = []
        self._recalls: dict[str, int] = {}
        self._seen: set[tuple[object, ...]] = set()
        self._socket: LoopSocket | None = None

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        self.context.term()
        self._folder.cleanup()

    def open(self) -> None:
        """Take batches."""
        socket = batch_inlet(self.context)
        socket.bind(self.endpoint)
        self._socket = LoopSocket(socket, on_message=self._received)

    def close(self) -> None:
        """Die: whatever was not answered is forgotten."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._held.clear()
        self._recalls.clear()
        self.lives.clear()

    async def restart(self) -> None:
        """Die, and come up again as another one that has read the log."""
        self.close()
        self.log_epoch += 1
        # ZeroMQ closes on a thread of its own; what it still does to the path must come first.
        await asyncio.sleep(0.05)
        self.open()

    def answer(self) -> None:
        """Send the answers that were held."""
        self.hold_answers = False
        held, self._held = self._held, []
        for peer, reply in held:
            self._reply(peer, reply)

    def frames(self) -> list[bytes]:
        """The accepted frames, with numbers of our own from 1 on."""
        return [
            frame[: judged.seq_start] + cbor2.dumps(number) + frame[judged.seq_end :]
            for number, (judged, frame) in enumerate(self.log, 1)
        ]

    def _received(self, parts: list[bytes]) -> None:
        self.batches += 1
        if self.silent:
            return
        peer, batch = parts[0], decode_batch(parts[1:])
        self.clock_suspect = batch.clock_suspect
        newest = self.lives[batch.member] = max(batch.epoch, self.lives.get(batch.member, 0))
        refused = self.refuses or batch.epoch < newest
        reply = Reply(self.log_epoch, len(self.log), refused=refused)
        if not refused:
            self.claims.update(batch.claims)
            reply.claimed = [c for c in batch.claims if self._holds(c.shard, c.epoch, reply)]
            for judged, frame in zip(batch.events, batch.frames, strict=True):
                self._judge(judged, frame, reply)
            for cursor in batch.cursors:
                if self._holds(cursor.shard, cursor.epoch, reply):
                    self.cursors[cursor.host] = cursor
            for observation in batch.observations:
                self.observations[observation.host] = observation
        if self.hold_answers and batch.events:
            self._held.append((peer, reply))
        else:
            self._reply(peer, reply)

    def _holds(self, shard: int, epoch: int, reply: Reply) -> bool:
        known = self.epochs.get(shard, 0)
        self.epochs[shard] = max(epoch, known)
        if epoch < known and (newest := ShardClaim(shard, known)) not in reply.outlived:
            reply.outlived.append(newest)
        return epoch >= known

    def _judge(self, judged: Judged, frame: bytes, reply: Reply) -> None:
        if not self._holds(judged.shard, judged.epoch, reply):
            return
        self.unclaimed += (judged.shard, judged.epoch) not in self.claims
        origin: tuple[object, ...] = (judged.host, judged.generation, judged.upstream_seq)
        if judged.marks & Mark.OURS:
            origin = ("ours", judged.host, judged.epoch, judged.position)
        if origin in self._seen:
            self.duplicates += 1
            reply.duplicate.append(judged.position)
            return
        newest = self.states.get(judged.did, NEVER_SEEN)
        expected = self._recalls.get(judged.did, 0)
        if judged.recall < expected or judged.base != base_of(newest):
            if judged.recall >= expected:
                self._recalls[judged.did] = judged.recall + 1
            self.sent_back += 1
            reply.back.append((judged.position, newest))
            return
        self._seen.add(origin)
        self.states[judged.did] = judged.after
        self.log.append((judged, frame))
        reply.logged.append(judged.position)

    def _reply(self, peer: bytes, reply: Reply) -> None:
        if self._socket is not None:
            try:
                self._socket.send([peer, *encode_reply(reply)])
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:  # it was killed
                    raise
