"""How do the parts of persist turn together? The one loop that joins edges to cores.

    start   database → log claimed → view caught up → sockets bound
    loop    wait → batches and answers → group → chunk flushed → published → replies
    stop    what ingest still sends is answered → last flush of the view → everything closed

The loop is one thread and waits in one place. Only the two store threads wait for PostgreSQL.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import zmq

from common.chunk import CLOCK_SUSPECT, DATABASE_AWAY, DISK_LOW, EVENTS_HELD
from common.conservation import serve
from common.curve import server_keys
from common.envelope import Batch, UnknownVersion
from common.process import SAY_AGAIN_S, Fault
from persist.account import Accounts
from persist.config import Config
from persist.disk import Disk
from persist.duplicates import Duplicates
from persist.group import Group
from persist.hidden_file import HiddenFile
from persist.inlet import Inlet, Others
from persist.local import Word
from persist.metrics import Metrics
from persist.opening import take_over
from persist.outlet import Outlet
from persist.recall import Recalls
from persist.segment_log import SegmentLog
from persist.sequencer import Sequencer
from persist.store_thread import (
    Failed,
    Flushed,
    Found,
    HostsAsked,
    HostsFound,
    Lookup,
    RoomFound,
    StoreThread,
)
from persist.suspicion import Suspicions
from persist.tally import Tallies
from persist.upkeep import Upkeep
from persist.view import View
from persist.wishes import Wanted, Wishes

log: Final = logging.getLogger(__name__)

BATCHES_A_TURN: Final = 64
"""Batches taken before the clock is looked at again."""
DATABASE_ASKED_S: Final = 2.0
"""How often PostgreSQL is asked whether it is there while nothing else is, in seconds. Without, a
relay whose accounts are all in memory would take it for well. Source: lesson 8."""
DATABASE_AWAY_S: Final = 3.0
"""What PostgreSQL has not answered for so long makes it count as away, in seconds."""
TICK_S: Final = 0.25
"""How often the loop looks at what is due when nothing comes, in seconds."""


class Worker:
    """The persist process, between its settings and its end. Owned by one thread."""

    def __init__(
        self, config: Config, stopping: threading.Event, *, disk: Disk | None = None
    ) -> None:
        """Nothing is opened before `start`. stopping: set when the loop shall drain and return."""
        self._config = config
        self._stopping = stopping
        self._metrics = Metrics()
        self._accounts = Accounts()
        self._recalls = Recalls()
        self._tallies = Tallies()
        self._suspicions = Suspicions()
        self._flags = 0
        self._disk = disk or Disk()
        self._log = SegmentLog(config.log_dir, disk=self._disk, strict=config.strict_start)
        self._open = contextlib.ExitStack()
        self._inlet: Inlet
        self._outlet: Outlet
        self._sequencer: Sequencer
        self._duplicates: Duplicates
        self._view: View
        self._upkeep: Upkeep
        self._wishes: Wishes
        self._hidden: HiddenFile
        # One for lookups, so that no event waits behind a flush; one for flushes.
        self._finder: StoreThread
        self._writer: StoreThread
        self._last_us = 0
        self._group_ends_s: float | None = None
        self._grouped_s = float("-inf")
        self._beat_due_s = 0.0
        self._ask_due_s = 0.0
        self._tick_due_s = 0.0
        self._heard_s = 0.0
        self._name_due_s = 0.0

    def start(self) -> bool:
        """Open everything; False when told to stop before that was done.

        Raises:
            Whatever persist.opening.take_over does.
        """
        config = self._config
        self._open.callback(self._log.close)
        opened = take_over(config, self._log, self._stopping, self._disk)
        if opened is None:
            return False
        next_seq, applied_seq, duplicates = opened.next_seq, opened.applied_seq, opened.duplicates
        # Times in the log do not go back, whatever the clock did since.
        self._last_us = self._log.last_time_us
        self._duplicates = duplicates
        self._view = View(self._accounts, duplicates, self._tallies, applied_seq)
        self._sequencer = Sequencer(
            next_seq, self._log.epoch, self._accounts, duplicates, self._recalls, self._tallies,
            opened.fence, opened.quotas,
        )  # fmt: skip
        self._wishes = Wishes(opened.quotas)
        self._hidden = opened.hidden
        self._wishes.know(opened.hosts, opened.hidden.told.domains)
        serve(self._sequencer.balance())
        self._upkeep = Upkeep(
            config, self._disk, self._log, duplicates, opened.fence, self._view, opened.hosts
        )
        self._metrics.log_limit_bytes.set(self._upkeep.max_bytes)
        self._finder = StoreThread(config.database_url, "persist finder", applied_seq)
        self._open.callback(self._finder.close)
        self._writer = StoreThread(config.database_url, "persist writer", applied_seq)
        self._open.callback(self._writer.close)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._open.callback(context.term)
        self._outlet = Outlet(context, config.chunks_endpoint)
        self._open.callback(self._outlet.close)
        others = None
        if config.batches_bind and config.curve_dir is not None:
            others = Others(config.batches_bind, server_keys(config.curve_dir))
        self._inlet = Inlet(context, config.batches_endpoint, others)
        self._open.callback(self._inlet.close)
        log.info(
            "the log goes on at seq %d", next_seq,
            extra={"fields": {"epoch": self._log.epoch, "oldest_seq": self._log.oldest_seq,
                              "log_bytes": self._log.size_bytes,
                              "limit_bytes": self._upkeep.max_bytes}},
        )  # fmt: skip
        return True

    def run(self, wakeup_fd: int) -> None:
        """Work until told to stop, then drain. After `start`.

        Args:
            wakeup_fd: becomes readable when `stopping` was set.

        Raises:
            Fault: the disk or a store thread has failed.
            Fenced: another writer has claimed the log.
        """
        resting, poller = zmq.Poller(), zmq.Poller()
        for each in (resting, poller):
            each.register(self._finder.wakeup_fd, zmq.POLLIN)
            each.register(self._writer.wakeup_fd, zmq.POLLIN)
            each.register(wakeup_fd, zmq.POLLIN)
        poller.register(self._inlet.socket, zmq.POLLIN)
        while not self._stopping.is_set():
            # A group that is due later takes all that comes until then in one go: to be woken for
            # each batch costs more than the batch.
            self._turn(poller if self._group_ends_s is None else resting)
        poller.unregister(wakeup_fd)
        self._drain(poller)

    def close(self) -> None:
        """Close everything that was opened; twice does no harm."""
        self._open.close()

    # --- the loop ---

    def _turn(self, poller: zmq.Poller) -> None:
        now_s = time.monotonic()
        until_s = self._tick_due_s if self._group_ends_s is None else self._group_ends_s
        if self._wishes.waiting:
            until_s = now_s
        # Full milliseconds, upwards: downwards would spin through the last one.
        ready = {handle for handle, _ in poller.poll(max(0, math.ceil((until_s - now_s) * 1000)))}
        for thread in (self._finder, self._writer):
            if thread.wakeup_fd in ready:
                self._take_answers(thread)
        now_s = time.monotonic()
        if self._wishes.waiting:
            self._obey()
        if self._inlet.socket in ready or (self._group_ends_s or now_s + 1) <= now_s:
            self._take_batches()
        group = self._sequencer.group
        if group.rows:
            if self._group_ends_s is None:
                # At once after a silence; else so that the groups keep their distance.
                self._group_ends_s = max(now_s, self._grouped_s + self._config.group_s)
            if now_s >= self._group_ends_s:
                self._commit()
        elif group.replies:
            # Nothing in it waits for the disk.
            self._answer(self._sequencer.cut())
        if not self._sequencer.group.rows and self._flags != self._flags_at(now_s):
            # Said at once; a group that is on its way says it too.
            self._write(Group())
        if now_s >= self._tick_due_s:
            self._tick(now_s)

    def _take_batches(self) -> None:
        for _ in range(BATCHES_A_TURN):
            try:
                received = self._inlet.receive()
            except UnknownVersion as error:
                self._misunderstood(error)
                continue
            if received is None:
                return
            route, batch = received
            if not self._sequencer.admit(route, batch):
                self._metrics.refused_batches.inc()
                continue
            self._hear(route, batch, time.monotonic())
            self._commit_when_full(self._sequencer.take(route, batch))
        self._look_up()

    def _misunderstood(self, error: UnknownVersion) -> None:
        """Name what another release says; it says it again until it is replaced."""
        now_s = time.monotonic()
        if now_s >= self._name_due_s:
            self._name_due_s = now_s + SAY_AGAIN_S
            log.error("an ingest process was not understood, and waits: %s", error)

    def _hear(self, route: bytes, batch: Batch, now_s: float) -> None:
        for cursor in self._sequencer.cursors(route, batch):
            self._view.say_done(cursor)
        for seen in batch.observations:
            self._view.observe(seen)
        self._suspicions.hear(batch.member, now_s, suspect=batch.clock_suspect)
        if batch.events:
            self._heard_s = now_s

    def _commit_when_full(self, steps: Iterator[None]) -> None:
        for _ in steps:
            self._commit()
        self._look_up()

    def _look_up(self) -> None:
        sequencer = self._sequencer
        if sequencer.wanted:
            self._finder.ask(Lookup(sequencer.wanted, sequencer.unknown_host))
            sequencer.wanted, sequencer.unknown_host = [], False
            self._metrics.waiting_events.note(sequencer.waiting_events)

    def _take_answers(self, thread: StoreThread) -> None:
        for result in thread.results():
            if isinstance(result, Found):
                if result.hosts is not None:
                    self._wishes.know(result.hosts, self._wishes.domains)
                for did, state in result.states.items():
                    self._commit_when_full(self._sequencer.resolve(did, state))
                self._metrics.waiting_events.note(self._sequencer.waiting_events)
            elif isinstance(result, HostsFound):
                self._upkeep.hosts = result.hosts
            elif isinstance(result, Wanted):
                self._wishes.heard(result)
                if result.hosts is not None:
                    self._upkeep.hosts = result.hosts
            elif isinstance(result, RoomFound):
                self._wishes.found(result.dids)
            elif isinstance(result, Flushed):
                self._view.end()
                self._wishes.applied(self._view.applied_seq)
                self._finder.confirm(self._view.applied_seq)
                self._metrics.view_applied_seq.set(self._view.applied_seq)
            elif isinstance(result, Failed):
                raise result.error

    def _obey(self) -> None:
        """Say what the operator wants said, a little at a time."""
        sequencer, time_us = self._sequencer, time.time_ns() // 1000
        for order in self._wishes.take():
            sequencer.order(order.did, order.word, time_us)
            if order.word is Word.RELEASE:
                self._wishes.released(sequencer.next_seq - 1)
        self._look_up()

    def _look_at_wishes(self, now_s: float) -> None:
        """Ask what is wanted, and keep it beside the log once it was said there."""
        busy = self._sequencer.waiting_orders > 0
        # What is to be said of one takedown is said before it is known that all was.
        if not self._sequencer.group.rows:
            version = self._wishes.settled(busy=busy)
            if version is not None:
                unwanted = {
                    h.hostname: h.wanted for h in self._wishes.hosts if h.wanted != "active"
                }
                self._change_hidden(
                    lambda: self._hidden.settle(version, self._wishes.domains, unwanted)
                )
        question = self._wishes.ask(now_s, self._view.applied_seq, busy=busy)
        if question is not None:
            self._finder.ask(question)

    def _change_hidden(self, change: Callable[[], None]) -> None:
        try:
            change()
        except OSError as error:
            raise Fault(f"cannot write in {self._config.log_dir}: {error}") from error

    def _commit(self) -> None:
        """Write the group, and only then say so, to whomever."""
        self._group_ends_s = None
        self._grouped_s = time.monotonic()
        group = self._sequencer.cut()
        if group.hides:
            # Order: broadcasters know whom to hide before they can hear of it.
            self._change_hidden(lambda: self._hidden.change(group.hides))
            self._wishes.said(group.hides, self._sequencer.next_seq - 1)
        self._write(group)
        self._answer(group)
        # Now or never: whatever has changed accounts is on disk.
        self._flush_view(time.monotonic())

    def _write(self, group: Group) -> None:
        """Make a group durable and publish it; an empty one is a beat.

        Raises:
            Fault: the disk refuses; nothing of the group was published.
        """
        metrics = self._metrics
        began_s = time.perf_counter()
        # Times in the log do not go back, whatever the clock does: they are searched.
        self._last_us = max(self._last_us, time.time_ns() // 1000)
        flags = self._flags_at(time.monotonic())
        if (flags ^ self._flags) & CLOCK_SUSPECT:
            doubted = flags & CLOCK_SUSPECT
            log.warning("our clock is %s", "doubted by ingest" if doubted else "believed again")
        try:
            chunk = self._log.append(group.rows, group.frames, self._last_us, flags)
            # Order: flushed and announced first …
            self._log.wait(chunk.next_seq - 1)
        except OSError as error:
            raise Fault(
                f"cannot write the log in {self._config.log_dir}: {error}; nothing behind seq "
                f"{self._log.durable_seq} was published"
            ) from error
        metrics.fsync_s.observe(time.perf_counter() - began_s)
        # … then counted as such, so that nobody can have heard of more than this process shows …
        self._sequencer.fates.wrote(group)
        serve(self._sequencer.balance())
        # … then published; replies are the caller's, after this.
        self._outlet.publish(chunk)
        self._flags = flags
        self._beat_due_s = time.monotonic() + self._config.beat_s
        if chunk.count:
            metrics.group_events.observe(chunk.count)
            metrics.group_bytes.note(group.size)
            metrics.group_bytes.note(0)
            metrics.durable_seq.set(self._log.durable_seq)

    def _flags_at(self, now_s: float) -> int:
        """The flags of a chunk that is written now."""
        flags = CLOCK_SUSPECT if self._suspicions.any(now_s) else 0
        if self._upkeep.disk_low:
            flags |= DISK_LOW
        if self._finder.waited_s(now_s) >= DATABASE_AWAY_S:
            return flags | DATABASE_AWAY | (EVENTS_HELD if self._sequencer.waiting_events else 0)
        if self._writer.waited_s(now_s) >= DATABASE_AWAY_S:
            flags |= DATABASE_AWAY
        return flags

    def _answer(self, group: Group) -> None:
        epoch, durable_seq = self._log.epoch, self._log.durable_seq
        for route, reply in group.replies.items():
            reply.log_epoch = epoch
            reply.durable_seq = durable_seq
            self._inlet.send(route, reply)

    def _tick(self, now_s: float) -> None:
        self._tick_due_s = now_s + TICK_S
        self._inlet.send_again()
        if now_s >= self._beat_due_s and not self._sequencer.group.rows:
            self._write(Group())
        self._flush_view(now_s)
        self._look_at_wishes(now_s)
        if now_s >= self._ask_due_s and not self._finder.waited_s(now_s):
            self._ask_due_s = now_s + DATABASE_ASKED_S
            self._finder.ask(Lookup([]))
        self._upkeep.clock_suspect = self._suspicions.any(now_s)
        if self._upkeep.tick(now_s) and not self._finder.waited_s(now_s):
            self._finder.ask(HostsAsked())
        metrics = self._metrics
        metrics.disk_low.set(self._upkeep.disk_low)
        metrics.oldest_seq.set(self._log.oldest_seq)
        metrics.log_bytes.set(self._log.size_bytes)
        metrics.accounts.set(len(self._accounts))
        metrics.upstream_seqs.set(len(self._duplicates))
        metrics.recalls.set(len(self._recalls))
        serve(self._sequencer.balance())
        if self._inlet.lost_replies:
            metrics.lost_replies.inc(self._inlet.lost_replies)
            self._inlet.lost_replies = 0

    def _flush_view(self, now_s: float) -> None:
        # Order: a group that is not on disk yet has changed accounts already; it goes first.
        if self._sequencer.group.rows or not self._view.due(now_s, self._log.durable_seq):
            return
        self._writer.ask(self._view.begin(now_s, self._log.durable_seq))

    # --- the end ---

    def _drain(self, poller: zmq.Poller) -> None:
        """Answer what ingest had sent, tell PostgreSQL the rest."""
        began_s = self._heard_s = time.monotonic()
        config = self._config
        while (now_s := time.monotonic()) < began_s + config.drain_s:
            if now_s >= self._heard_s + config.drain_quiet_s:
                break
            self._tick_due_s = min(self._tick_due_s, now_s + config.drain_quiet_s)
            self._turn(poller)
        self._commit()
        give_up_s = time.monotonic() + config.flush_patience_s
        while not self._view.clean(self._log.durable_seq) and time.monotonic() < give_up_s:
            if not self._view.flushing:
                self._writer.ask(self._view.begin(time.monotonic(), self._log.durable_seq))
            poller.poll(50)
            self._take_answers(self._finder)
            self._take_answers(self._writer)
            if self._sequencer.group.replies:
                self._commit()
        if not self._view.clean(self._log.durable_seq):
            log.warning(
                "the database is away; seqs %d to %d will be caught up from the log",
                self._view.applied_seq + 1, self._log.durable_seq,
            )  # fmt: skip
        self._upkeep.write_checkpoint()
