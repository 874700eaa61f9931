"""Who is looked up when, for whom, and what becomes of the answers?

    ask ──▶ store: kept from before? ──▶ on_remembered
     │            no, or a newer one is needed
     ▼
    line of each host ──▶ worker: look up ──▶ conclusive: on_resolved, and kept in the store
          ▲                        │
          ├── back-off of its own ─┤ it cannot be told: on_unresolved
          └──────── outage ────────┘ nor can anybody else: again as soon as somebody can be

One question for each DID at a time, however many hosts ask. The directory has workers of its own, so
that slow did:web hosts keep nobody else waiting. What was asked stays asked until somebody needs it
no longer.

Source: S-IDN-04, S-IDN-09, S-IDN-10; lessons 9, 10, 42.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from itertools import count
from random import Random
from typing import Protocol

from common.fetch import Busy, Fetcher
from common.rates import Buckets
from common.steady import steady_s
from common.syntax import PLC_METHOD
from ingest import metrics
from ingest.backoff import Backoff
from ingest.config import ResolverLimits
from ingest.did_document import Broken, Identity, Unavailable
from ingest.documents import Document
from ingest.judge import Known
from ingest.lanes import Lane
from ingest.lookup import Lookup, Told
from ingest.outage import Outage
from ingest.questions import Need, Question


class Kept(Protocol):
    """Where documents are kept. See ingest.store.Store."""

    def find(self, did: str) -> bool:
        """Look for what is kept of a DID → whether `Resolver.found` will be told."""

    def keep(self, document: Document) -> None:
        """Keep a document."""


class _State(Enum):
    """Where an open question is."""

    KEPT = "the store looks for it"
    OPEN = "it stands in line, or waits for its time"
    ASKED = "it is being asked"
    HELD = "it waits for the directory to come back"


class _Open:
    """An open question. number: the lower, the older. tried: let go in an outage, in vain.

    needs: of the hosts that ask. due_s: when each may ask at the earliest, by the loop's clock.
    lined: the hosts in whose line it stands. timers: of those that wait for their time.
    """

    __slots__ = (
        "backoff", "did", "due_s", "lined", "needs", "number", "state", "timers", "tried",
    )  # fmt: skip

    def __init__(self, did: str, number: int, backoff: Backoff) -> None:
        self.did = did
        self.number = number
        self.backoff = backoff
        self.tried = 0
        self.state = _State.OPEN
        self.needs: dict[int, Need] = {}
        self.due_s: dict[int, float] = {}
        self.lined: set[int] = set()
        self.timers: dict[int, asyncio.TimerHandle] = {}

    @property
    def is_plc(self) -> bool:
        """Whether the directory is asked."""
        return self.did.startswith(PLC_METHOD)

    def stand_nowhere(self) -> None:
        """Leave all lines (their entries mean nothing any more), and stop all timers."""
        for timer in self.timers.values():
            timer.cancel()
        self.timers.clear()
        self.lined.clear()


class Resolver:
    """Looks up DIDs for one process."""

    def __init__(
        self,
        fetcher: Fetcher,
        limits: ResolverLimits,
        *,
        plc_url: str,
        allow_insecure: bool,
        on_resolved: Callable[[str, Known, float, float], None],
        on_unresolved: Callable[[str, float], None],
        still_wanted: Callable[[str], bool],
        on_remembered: Callable[[str, Known, float, float], None] | None = None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is answered until `run`; `store` may be set before.

        Args:
            on_resolved: DID, what it says, when it was asked, now; steady seconds.
            on_remembered: the same of a document that the store kept.
            on_unresolved: DID, now. still_wanted: whether to go on asking.
            after: called after each answer has been dealt with.
        """
        self._limits = limits
        self._lookup = Lookup(fetcher, limits, plc_url=plc_url, allow_insecure=allow_insecure)
        self._on_resolved = on_resolved
        self._on_remembered = on_remembered or on_resolved
        self._on_unresolved = on_unresolved
        self._still_wanted = still_wanted
        self._after = after
        self._plc = Lane(limits.plc_workers)
        self._web = Lane(limits.web_workers)
        self._open: dict[str, _Open] = {}
        self._backing_off: set[str] = set()
        """did:plcs that wait for a back-off of their own."""
        self._firsts = Buckets(limits.first_rate)
        self._outage = Outage()
        self._outage_began = asyncio.Event()
        self._answered = 0
        """Answers of the directory, ever."""
        self._numbers = count()
        self._random = Random()
        self._probe_backoff = Backoff(limits.retry_first_s, limits.probe_longest_s, self._random)
        self.store: Kept | None = None

    async def run(self) -> None:
        """Answer questions until cancelled; open ones stay unanswered."""
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(self._limits.plc_workers):
                    workers.create_task(self._work(self._plc))
                for _ in range(self._limits.web_workers):
                    workers.create_task(self._work(self._web))
                workers.create_task(self._probe())
        finally:
            for question in self._open.values():
                question.stand_nowhere()
            self._plc.close()
            self._web.close()

    @property
    def open(self) -> int:
        """Questions that are open."""
        return len(self._open)

    @property
    def held(self) -> int:
        """Questions that wait for the directory to come back."""
        return len(self._outage)

    def ask(self, did: str, host: int, delay_s: float = 0.0, need: Need = Need.FIRST) -> None:
        """Look a DID up after so many seconds, for a host; once until it is answered or withdrawn.

        Where another host has asked already it is one question, that stands in both lines. A host
        asks again only with a more urgent need.
        """
        due_s = asyncio.get_running_loop().time() + delay_s
        question = self._open.get(did)
        if question is not None:
            if question.needs.get(host, len(Need)) <= need:
                return
            question.needs[host] = need
            question.due_s[host] = due_s
            if question.state is not _State.KEPT:
                self._wait_for_token(question, host)
            if question.state is _State.OPEN:
                self._stand_in_line(question, host)
            return
        limits = self._limits
        backoff = Backoff(limits.retry_first_s, limits.retry_longest_s, self._random)
        question = self._open[did] = _Open(did, next(self._numbers), backoff)
        question.needs[host] = need
        question.due_s[host] = due_s
        if need is Need.FIRST and self.store is not None and self.store.find(did):
            question.state = _State.KEPT
            return
        self._ask_network(question)

    def found(self, did: str, document: Document | None) -> None:
        """The store has looked for a DID; None: it knows nothing, or does not answer."""
        question = self._open.get(did)
        if question is None or question.state is not _State.KEPT:
            return
        if document is None:
            self._ask_network(question)
            return
        del self._open[did]
        if question.is_plc and isinstance(document.known, Identity):
            self._lookup.directory.knows(did)
        self._on_remembered(did, document.known, document.asked_s, steady_s())
        self._after()

    def may_give_up(self, did: str, now_s: float) -> bool:
        """Whether a DID that cannot be resolved is alone in that; of a did:web it always is."""
        if not did.startswith(PLC_METHOD):
            return True
        # Everybody's turn has come by then, twice.
        recovery_s = 2 * (self._limits.retry_longest_s + self._limits.request_s)
        if did in self._outage:
            return False
        return not self._lookup.directory.has_failed_within(recovery_s, now_s)

    # --- lines ---

    def _lane(self, question: _Open) -> Lane:
        return self._plc if question.is_plc else self._web

    def _ask_network(self, question: _Open) -> None:
        """Nothing is kept of it."""
        for host in question.needs:
            self._wait_for_token(question, host)
        self._stand_in_lines(question)

    def _wait_for_token(self, question: _Open, host: int) -> None:
        """A host has so many DIDs looked up that nobody has met before, and no more at a time."""
        if question.needs[host] is Need.FIRST:
            due_s = self._firsts.take(host, asyncio.get_running_loop().time())
            question.due_s[host] = max(due_s, question.due_s[host])

    def _stand_in_lines(self, question: _Open) -> None:
        question.state = _State.OPEN
        for host in question.needs:
            self._stand_in_line(question, host)

    def _stand_in_line(self, question: _Open, host: int) -> None:
        """Put a question in a host's line, now or when its time has come."""
        timer = question.timers.pop(host, None)
        if timer is not None:
            timer.cancel()
        loop = asyncio.get_running_loop()
        if question.due_s[host] <= loop.time():
            self._put(question, host)
        else:
            question.timers[host] = loop.call_at(question.due_s[host], self._put, question, host)

    def _put(self, question: _Open, host: int) -> None:
        question.timers.pop(host, None)
        question.lined.add(host)
        self._lane(question).put(host, question.did, question.needs[host])

    async def _work(self, lane: Lane) -> None:
        while True:
            turn = await lane.get()
            question = self._of(turn)
            if question is not None:
                question.state = _State.ASKED
                question.stand_nowhere()
                self._backing_off.discard(question.did)
                await self._answer(question, lane)
            lane.done(turn)

    def _of(self, turn: Question) -> _Open | None:
        """The question whose turn has come, unless it was asked from another line meanwhile."""
        question = self._open.get(turn.did)
        if question is None or question.state is not _State.OPEN or turn.host not in question.lined:
            return None
        return question

    # --- answers ---

    async def _answer(self, question: _Open, lane: Lane) -> None:
        did = question.did
        asked_s = steady_s()
        try:
            outcome = await self._lookup.ask(did)
        except Busy as busy:
            metrics.lookups["busy"].inc()
            self._come_later(question, lane, busy)
            return
        now_s = steady_s()
        if isinstance(outcome, Unavailable):
            metrics.lookups["unavailable"].inc()
            self._failed(question, now_s)
            self._after()
            return
        metrics.lookups[_label(outcome)].inc()
        # First, as the answer may bring up the next question about the same DID.
        del self._open[did]
        if self.store is not None and not isinstance(self._lookup.url(did), Broken):
            self.store.keep(Document(did, outcome, asked_s))
        self._on_resolved(did, outcome, asked_s, now_s)
        if question.is_plc:
            lane.widen()
            self._directory_answers()
        self._after()

    def _failed(self, question: _Open, now_s: float) -> None:
        """It cannot be told now."""
        did = question.did
        self._on_unresolved(did, now_s)
        if not self._still_wanted(did):
            del self._open[did]
        elif question.is_plc and self._lookup.directory.fails(now_s):
            # The first ones to fail did not know yet that they are not alone.
            for other in (did, *self._backing_off):
                self._hold(self._open[other])
            self._backing_off.clear()
        else:
            self._back_off(question, question.backoff.next_s())

    def _come_later(self, question: _Open, lane: Lane, busy: Busy) -> None:
        """Whoever was asked has too many questions: of the directory that is everybody's matter."""
        after_s = min(busy.after_s or 0.0, self._limits.busy_longest_s)
        if question.is_plc:
            self._lookup.directory.refused(steady_s())
            self._hold(question)
            lane.narrow(max(after_s, self._probe_backoff.next_s()))
            return
        self._on_unresolved(question.did, steady_s())
        if not self._still_wanted(question.did):
            del self._open[question.did]
        else:
            self._back_off(question, max(after_s, question.backoff.next_s()))
        self._after()

    def _back_off(self, question: _Open, after_s: float) -> None:
        due_s = asyncio.get_running_loop().time() + after_s
        for host in question.needs:
            question.due_s[host] = max(due_s, question.due_s[host])
        if question.is_plc:
            self._backing_off.add(question.did)
        self._stand_in_lines(question)

    # --- the directory as a whole ---

    def _hold(self, question: _Open) -> None:
        question.state = _State.HELD
        question.stand_nowhere()
        self._outage.hold(question.did, question.tried, question.number)
        self._outage_began.set()

    def _release(self, dids: list[str]) -> None:
        for did in dids:
            question = self._open[did]
            question.tried += 1
            question.due_s = dict.fromkeys(question.needs, 0.0)
            self._stand_in_lines(question)

    def _directory_answers(self) -> None:
        """Somebody was told: others that wait may try."""
        self._answered += 1
        self._probe_backoff.progress()
        self._release(self._outage.release())

    async def _probe(self) -> None:
        """While questions wait for the directory, see again and again whether it is back."""
        while True:
            await self._outage_began.wait()
            answered = self._answered
            await asyncio.sleep(self._probe_backoff.next_s())
            await self._plc.open()
            if not self._outage:
                self._outage_began.clear()
                continue
            if self._answered > answered:
                # Each answer lets others go; it is back, as far as that can be known.
                continue
            told = await self._lookup.ask_for_known()
            if told is Told.FOUND:
                self._release(self._outage.release())
            elif told is Told.FAILED:
                self._lookup.directory.lost(steady_s())
            else:
                # Those known are no measure, and the oldest question has to find out.
                self._release(self._outage.release(1))


def _label(outcome: Known) -> str:
    if isinstance(outcome, Identity):
        return "found"
    return "broken" if isinstance(outcome, Broken) else "not_found"
