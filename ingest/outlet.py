"""How do judged events reach persist, and its answers come back?

    claim, add ─▶ batch (3 ms, 64 events or 500 kB) ─▶ DEALER ─▶ persist
    pipeline ◀── logged, duplicate, back ─────────────────────── persist
    leases ◀──── claimed, outlived ───────────────────────────── persist

Nothing is sent before the database has said which life of this process it is (`begin`). Until a new
connection has been greeted and answered nothing else is sent: only the answer tells
whether persist is another one than before. Then all claims go first, and behind them everything
unanswered, in order. A connection to another machine may break while both live, and take with it what
was under way: whenever it is back all this begins anew.

Whatever is not answered stays in the pipeline; nothing here is the only copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import zmq

from common.curve import ClientKeys
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
from common.steady import steady_s
from common.transport import LinkEvent, LoopSocket, batch_outlet, link_event, monitor
from ingest import metrics
from ingest.config import Limits
from ingest.pipeline import Pipeline

KNOCK_AGAIN_S: Final = 5.0
"""Who was refused for his key comes again after so long, in seconds: it may have been let in since."""
SAY_AGAIN_S: Final = 10.0
_REFUSALS: Final = {
    LinkEvent.REFUSED: "persist does not know our key: put it into its clients folder",
    LinkEvent.FAILED: "persist's machine does not answer to the key that we have of it",
}
_log = logging.getLogger("standpipe")


class Outlived(Exception):
    """Persist refuses this process: another one with its number has taken over."""


class Outlet:
    """The way to persist, of one process."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        keys: ClientKeys | None = None,
        member: int,
        limits: Limits,
        pipeline: Pipeline,
        on_reply: Callable[[], None],
        on_claimed: Callable[[list[ShardClaim]], None],
        on_outlived: Callable[[list[ShardClaim]], None],
    ) -> None:
        """Connect; call from within the loop. Nothing is sent until `begin`.

        Args:
            keys: where persist is on another machine. member: see common.envelope.Batch.
            on_reply: called after the pipeline has been told of an answer.
            on_claimed, on_outlived: told what an answer says of shards.
        """
        self._member = member
        self._epoch = 0
        self._limits = limits
        self._pipeline = pipeline
        self._on_reply = on_reply
        self._on_claimed = on_claimed
        self._on_outlived = on_outlived
        self._claims: set[ShardClaim] = set()
        self._confirmed: set[ShardClaim] = set()
        """Of these, what this persist is known to have heard."""
        self._loop = asyncio.get_running_loop()
        self._batch = Batch(member, self._epoch)
        self._batch_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._queue: deque[list[bytes]] = deque()
        self._greeted = False
        self._greeting_sent = False
        self._log_epoch: int | None = None
        self._replied_s = self._loop.time()
        self._answered = asyncio.Event()
        self.refused: asyncio.Future[None] = self._loop.create_future()
        """Fails with Outlived when persist refuses this process."""
        self._endpoint = endpoint
        self._closed = False
        self._said_s = float("-inf")
        socket = batch_outlet(context, member, keys)
        # While persist is away nothing is queued for it: what is sent first then must be a greeting.
        socket.setsockopt(zmq.IMMEDIATE, 1)
        self._link: LoopSocket | None = None
        if keys is not None:
            self._link = LoopSocket(monitor(socket), on_message=self._linked)
        socket.connect(endpoint)
        self._zmq = socket
        self._socket = LoopSocket(
            socket, on_message=self._received, on_writable=self._became_writable
        )

    def begin(self, epoch: int) -> None:
        """Greet persist, and say what there is to say from now on. epoch: see common.envelope.Batch."""
        self._epoch = self._batch.epoch = epoch
        self._greet()

    @property
    def connected(self) -> bool:
        """Whether persist has answered since the connection last broke."""
        return self._greeted

    def claim(self, leases: Mapping[int, int]) -> None:
        """Speak for these shards, under these epochs, and for no others."""
        self._claims = {ShardClaim(*lease) for lease in leases.items()}
        self._confirmed &= self._claims
        if self._greeted:
            self._say_claims()

    def add(self, judged: Judged, frame: bytes) -> None:
        """Send one judged event, soon."""
        self._batch.events.append(judged)
        self._batch.frames.append(frame)
        self._batch_bytes += len(frame)
        if (
            len(self._batch.events) >= self._limits.batch_events
            or self._batch_bytes >= self._limits.batch_bytes
        ):
            self._close_batch()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._limits.batch_s, self._close_batch)

    def beat(self, cursors: list[HostCursor], observations: list[HostObservation]) -> None:
        """Send what there is to say of hosts, and ask for a sign of life."""
        self._close_batch()
        if self._greeted:
            # With the claims that are not answered, which were said before.
            claims = sorted(self._claims - self._confirmed)
            self._put(
                Batch(self._member, self._epoch, [], [], cursors, observations, claims=claims)
            )
            silent_s = self._loop.time() - self._replied_s
            if silent_s > self._limits.silent_s:
                _log.warning(
                    "persist does not answer", extra={"fields": {"silent_s": round(silent_s)}}
                )
        else:
            # The last greeting may have been lost with the persist that it reached.
            self._greeting_sent = False
            self._greet()

    async def next_answer(self) -> None:
        """Wait for the next answer, or for the loss of persist."""
        self._answered.clear()
        await self._answered.wait()

    def flush(self) -> None:
        """Send what has been added, now."""
        self._close_batch()

    def close(self) -> None:
        """Let go of the socket."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._closed = True
        if self._link is not None:
            self._zmq.disable_monitor()
            self._link.close()
        self._socket.close()

    def _close_batch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._batch.events:
            return
        batch, self._batch, self._batch_bytes = self._batch, Batch(self._member, self._epoch), 0
        # Before the greeting is answered it would have to be sent again anyway.
        if self._greeted:
            self._put(batch)

    def _say_claims(self) -> None:
        claims = sorted(self._claims - self._confirmed)
        if claims:
            self._put(Batch(self._member, self._epoch, claims=claims))

    def _put(self, batch: Batch) -> None:
        # A persist that took over unnoticed sees that this was not meant for it.
        batch.log_epoch = self._log_epoch or 0
        batch.clock_suspect = self._pipeline.clock.suspect
        self._queue.append(encode_batch(batch))
        self._flush()

    def _flush(self) -> None:
        while self._queue:
            if not self._socket.send(self._queue[0]):
                self._lost()
                return
            self._queue.popleft()

    def _lost(self) -> None:
        """There is no room, or nobody: begin anew with a greeting."""
        if self._greeted:
            # Also for supervisord: it starts a child that has died when its poll of a second ends, or
            # at once when another one has said something.
            _log.warning("persist takes nothing: it is away, or far behind")
        self._greeted = self._greeting_sent = False
        self._queue.clear()
        self._answered.set()

    def _became_writable(self) -> None:
        if not self._greeted:
            self._greeting_sent = False
            self._greet()

    # --- another machine ---

    def _linked(self, parts: list[bytes]) -> None:
        """ZeroMQ says what becomes of the connection."""
        event = link_event(parts)
        if event is LinkEvent.UP:
            metrics.LINKS.inc()
            self._lost()
            self._greet()
        elif event is LinkEvent.DOWN:
            self._lost()
        else:
            metrics.REFUSED_LINKS.labels(event.value).inc()
            now_s = self._loop.time()
            if now_s - self._said_s >= SAY_AGAIN_S:
                self._said_s = now_s
                _log.warning(_REFUSALS[event], extra={"fields": {"persist": self._endpoint}})
            if event is LinkEvent.REFUSED:
                # ZeroMQ takes that for the last word.
                self._loop.call_later(KNOCK_AGAIN_S, self._knock)

    def _knock(self) -> None:
        if not self._closed:
            with contextlib.suppress(zmq.ZMQError):
                self._zmq.disconnect(self._endpoint)
            self._zmq.connect(self._endpoint)

    def _greet(self) -> None:
        if self._epoch and not self._greeting_sent:
            self._greeting_sent = self._socket.send(encode_batch(Batch(self._member, self._epoch)))

    def _received(self, parts: list[bytes]) -> None:
        reply = decode_reply(parts)
        if reply.refused:
            if not self.refused.done():
                self.refused.set_exception(Outlived("persist refuses this process"))
            return
        self._replied_s = self._loop.time()
        self._answered.set()
        self._pipeline.counts.hear(reply.log_epoch)
        self._tell(reply)
        if not self._greeted or reply.log_epoch != self._log_epoch:
            self._log_epoch = reply.log_epoch
            self._greeted = self._greeting_sent = True
            self._send_again()
        self._on_reply()

    def _tell(self, reply: Reply) -> None:
        now_s = steady_s()
        if reply.logged:
            self._pipeline.logged(reply.logged, now_s)
        if reply.duplicate:
            self._pipeline.duplicate(reply.duplicate, now_s)
        if reply.back:
            self._pipeline.back(reply.back, now_s)
        if reply.outlived:
            self._on_outlived(reply.outlived)
        if reply.claimed:
            self._confirmed.update(self._claims.intersection(reply.claimed))
            self._on_claimed(reply.claimed)

    def _send_again(self) -> None:
        """All claims, and everything unanswered, in order; whatever waited to be sent is among it."""
        self._queue.clear()
        self._batch, self._batch_bytes = Batch(self._member, self._epoch), 0
        self._confirmed.clear()
        self._say_claims()
        unanswered = self._pipeline.unanswered()
        if unanswered:
            _log.info("sending again", extra={"fields": {"events": len(unanswered)}})
        for judged, frame in unanswered:
            self.add(judged, frame)
        self._close_batch()
