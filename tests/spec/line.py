"""What does the relay do with what it hears? One account through ingest's pipeline and the log.

Both are the real ones; the documents, the hosts' answers, the disk and the time are the test's.
What ingest sends is sequenced, and answered, as soon as it is sent, unless it is `held_up`.
"""

from __future__ import annotations

import heapq
from dataclasses import replace
from random import Random
from typing import Any

from common.envelope import AccountState, Batch, Judged
from common.event import Event as ReadEvent
from common.verdict import Drop, DropReason
from ingest.account import Feed
from ingest.backoff import Backoff
from ingest.config import Limits
from ingest.did_document import NotFound
from ingest.inquiry import Told
from ingest.judge import Known, Source
from ingest.pipeline import Pipeline
from persist.account import Accounts
from persist.duplicates import Duplicates
from persist.recall import Recalls
from persist.sequencer import Sequencer
from persist.tally import Tallies
from tests.ingest.balance import balance_of
from tests.simnet.events import Event
from tests.spec.scene import PDS, Scene

LOG_EPOCH = 7


class Persist:
    """The log's side: gives numbers, and owns the newest state.

    sent: what is in the log. tallies: what was counted for each host.
    """

    def __init__(self, state: AccountState) -> None:
        self.accounts = Accounts()
        self.view = state
        self.sent: list[Judged] = []
        self.frames: list[bytes] = []
        self.tallies = Tallies()
        self._sequencer = Sequencer(
            1, LOG_EPOCH, self.accounts, Duplicates(), Recalls(), self.tallies
        )

    def state(self, did: str) -> AccountState:
        """The account's newest state."""
        return self.accounts.get(did) or self.view

    def take(self, line: Line, batch: Batch) -> None:
        """Sequence a batch, and let its sender have the answer."""
        sequencer, route = self._sequencer, str(batch.member).encode()
        assert sequencer.admit(route, batch)
        for _ in sequencer.take(route, batch):
            raise AssertionError("a group is full")
        wanted, sequencer.wanted = sequencer.wanted, []
        for did in wanted:
            for _ in sequencer.resolve(did, self.view):
                raise AssertionError("a group is full")
        reply = sequencer.cut().replies[route]
        of_position = {
            judged.position: (judged, frame)
            for judged, frame in zip(batch.events, batch.frames, strict=True)
        }
        for position in reply.logged:
            judged, frame = of_position[position]
            self.sent.append(judged)
            self.frames.append(frame)
        line.pipeline.logged(reply.logged, line.now_s)
        line.pipeline.duplicate(reply.duplicate, line.now_s)
        line.pipeline.back(reply.back, line.now_s)


class Line:
    """One ingest process, and what it hears of one account.

    directory_is_down: nobody's documents can be had. held_up: what is sent does not arrive yet.
    asked: DIDs whose document was asked for. asked_status: accounts, each with the host that was
    asked for its status. drops: what went no further.
    """

    def __init__(
        self,
        *,
        scene: Scene | None = None,
        persist: Persist | None = None,
        member: int = 1,
        **changed: Any,
    ) -> None:
        """Args: changed: of ingest.config.Limits."""
        self.scene = scene or Scene()
        self.persist = persist or Persist(self.scene.state)
        self.member = member
        self.now_s = self.scene.now_s
        self.held_up = False
        self.directory_is_down = False
        self.asked: list[str] = []
        self.asked_status: list[tuple[str, int]] = []
        self.drops: list[Drop] = []
        self._outbox: list[tuple[Judged, bytes]] = []
        self._seqs: dict[int, int] = {}
        self._feeds: dict[int, Feed] = {}
        self._alarms: list[float] = []
        self.pipeline = Pipeline(
            replace(Limits(), **changed),
            ask=lambda did, _host, _delay_s, _need: self.asked.append(did),
            ask_status=lambda did, host: self.asked_status.append((did, host)),
            send=lambda judged, raw: self._outbox.append((judged, raw)),
            may_give_up=lambda _did, _now_s: not self.directory_is_down,
            wake_after=lambda delay_s: heapq.heappush(self._alarms, self.now_s + delay_s),
            on_drop=self._on_drop,
        )

    @property
    def sent(self) -> list[Judged]:
        """What is in the log, in order."""
        return self.persist.sent

    @property
    def state(self) -> AccountState:
        """The account's newest state, as persist has it."""
        return self.persist.state(self.scene.account.did)

    @property
    def reasons(self) -> list[DropReason]:
        """Why what was dropped was dropped."""
        return [drop.reason for drop in self.drops]

    def take(self, event: Event, source: Source = PDS) -> None:
        """A host says something."""
        host = source.host
        seq = self._seqs[host] = self._seqs.get(host, 0) + 1
        if host not in self._feeds:
            self._feeds[host] = Feed(
                source, 1, host, 0, Backoff(1.0, 60.0, Random(1)), epoch=self.member
            )
        self.now_s += 0.001
        assert self.pipeline.take(self._feeds[host], event.frame(seq), self.now_s) is None
        self.deliver()

    def answer(self, known: Known | None = None) -> None:
        """The document is there: today's, or what it is said to be."""
        self.now_s += 0.001
        found = known or self.scene.identity()
        self.pipeline.resolved(self.scene.account.did, found, self.now_s, self.now_s)
        self.deliver()

    def remembers(self, known: Known, asked_s: float) -> None:
        """The document was kept from before."""
        self.pipeline.remembered(self.scene.account.did, known, asked_s, self.now_s)
        self.deliver()

    def fails(self) -> None:
        """The document cannot be had now."""
        self.pipeline.unresolved(self.scene.account.did, self.now_s)
        self.deliver()

    def answer_not_found(self) -> None:
        """The directory says that there is no such DID."""
        self.answer(NotFound("tombstoned"))

    def status(
        self, *, active: bool = False, status: str | None = None, known: bool = True
    ) -> None:
        """The host that was asked last answers."""
        did, host = self.asked_status[-1]
        self.now_s += 0.001
        told = Told(known=known, active=active, status=status, asked_s=self.now_s)
        self.pipeline.told(did, host, told, self.now_s)
        self.deliver()

    def passes(self, seconds: float) -> None:
        """Time goes by; whoever wanted to be woken is."""
        until_s = self.now_s + seconds
        while self._alarms and self._alarms[0] <= until_s:
            self.now_s = max(self.now_s, heapq.heappop(self._alarms))
            self.pipeline.wake(self.now_s)
            while self.pipeline.has_more:
                self.pipeline.judge_more(self.now_s)
            self.deliver()
        self.now_s = until_s

    def deliver(self, most: int = 1_000) -> None:
        """What was sent reaches the log, so many at a time; and nothing is unaccounted for."""
        while self._outbox and not self.held_up:
            outbox, self._outbox = self._outbox[:most], self._outbox[most:]
            events, frames = [judged for judged, _ in outbox], [raw for _, raw in outbox]
            batch = Batch(self.member, self.member, events, frames, log_epoch=LOG_EPOCH)
            self.persist.take(self, batch)
            self._check_conservation()
        self._check_conservation()

    def _check_conservation(self) -> None:
        assert balance_of(self.pipeline).unaccounted == 0

    def _on_drop(self, _feed: Feed, drop: Drop, _event: ReadEvent | None, _raw: bytes) -> None:
        self.drops.append(drop)
