"""Whatever can happen in any order, does: all orders of some events, two ingest processes, one persist.

A `World` is real pipelines and a real sequencer, joined in memory, and the streams of two hosts of
one account. `explore` walks through every world that can be reached, step by step:

    plc       the account's DID document changes: it names the new host, and the new key
    take      a process reads a host's next event
    emit      the old host says its next event (only if the story tells how its account is, each time)
    tell      the old host answers a process how the account is now
    begin     a process asks the directory, for a document that it needs
    fail      that question could not be answered, once (only if the story says so)
    answer    it is answered, with the document of when it was asked, or of now
    persist   the oldest event that a process has sent reaches persist
    reply     persist's oldest answer reaches a process

What is left out, since it adds no order of its own: an event reaches persist alone, as a batch of
several is taken in as if they came one by one; persist answers for each event, and has the account
in memory; a process sends what it has judged at once.

Worlds that look alike in everything that can matter later are visited once: times are compared as
"asked before or after it came", positions by their order. This is the only reduction, and it leaves
out no order, only its repetition.
"""

from __future__ import annotations

import gc
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

import ingest.pipeline as pipeline_module
from common.envelope import NEVER_SEEN, AccountState, Batch, Judged, Reply
from common.event import Event, decode
from common.verdict import Drop, DropReason
from ingest.account import Feed, Pending
from ingest.checked import Checked
from ingest.config import Limits
from ingest.did_document import Identity
from ingest.inquiry import Told
from ingest.judge import Source
from ingest.pipeline import Pipeline
from ingest.questions import Need
from persist.account import Accounts
from persist.duplicates import Duplicates
from persist.recall import Recalls
from persist.sequencer import Sequencer
from persist.tally import Tallies
from tests.ingest.balance import balance_of

OLD: Final = Source(1, "old.example.com")
NEW: Final = Source(2, "new.example.com")
LIMITS: Final = Limits(refresh_s=0.0, status_again_s=0.0)
Step = tuple[Any, ...]

_shared: dict[int, Any] = {}
"""Values that all worlds share, by number: what cannot be copied, and need not be."""
_numbers: dict[int, int] = {}


def share(value: Any) -> Any:
    """Have all worlds refer to this very value."""
    if id(value) not in _numbers:
        _numbers[id(value)] = len(_shared)
        _shared[len(_shared)] = value
    return value


def shared(number: int) -> Any:
    """The value of this number."""
    return _shared[number]


def _by_number(value: Any) -> tuple[Callable[[int], Any], tuple[int]]:
    return shared, (_numbers[id(share(value))],)


_decoded: dict[bytes, Any] = {}


def decode_once(raw: bytes) -> Any:
    """As `decode`; the same bytes give the same value."""
    if raw not in _decoded:
        _decoded[raw] = decode(raw)
    return _decoded[raw]


@dataclass
class Story:
    """What is to happen. Frames carry the seqs 1, 2, 3 … of their host.

    old, new: each a frame, and whether it is said only after the document has changed.
    before, after: the document. processes: which one reads the old host, and which the new one.
    known: of the account and its document before anything happens, frames of the old host.
    statuses: whether the account is active at the old host before it says anything, and after each
    of its events; empty where that does not matter, and everything is said when it is read.
    failures: how many questions may fail. patient: a question may be begun some time after it came
    up; otherwise at once, which leaves out that it may count for events that came in between.
    """

    did: str
    old: list[tuple[bytes, bool]]
    new: list[tuple[bytes, bool]]
    before: Identity
    after: Identity
    processes: tuple[int, int] = (0, 1)
    known: list[bytes] = field(default_factory=list)
    failures: int = 0
    patient: bool = True
    statuses: list[bool] = field(default_factory=list)


class _Pickler(pickle.Pickler):
    """Copies what may change; the rest goes by its number. Nothing depends on how often which step of
    the judge has run, so that is counted for all worlds together."""

    dispatch_table = dict.fromkeys((Event, Identity, Limits, Source, Checked, Story), _by_number)


def frozen(world: World) -> bytes:
    """A world, to be thawed as often as it is needed."""
    file = io.BytesIO()
    _Pickler(file, protocol=5).dump(world)
    return file.getvalue()


class Question:
    """One look-up of a process. asked_s: when it was begun, None before. identity: as it was then."""

    def __init__(self) -> None:
        self.asked_s: float | None = None
        self.identity: Identity | None = None


class Process:
    """One ingest process: a real pipeline, and what it has said and not been told yet."""

    def __init__(self, member: int) -> None:
        self.member = member
        self.question: Question | None = None
        self.inquiries: list[tuple[str, int]] = []
        self.sent: list[tuple[Judged, bytes]] = []
        self.replies: list[Reply] = []
        self.drops: list[tuple[int, int, DropReason]] = []
        self.pipeline = Pipeline(
            LIMITS,
            ask=self._ask,
            ask_status=self._ask_status,
            send=self._send,
            may_give_up=self._may_give_up,
            wake_after=self._wake_after,
            on_drop=self._dropped,
        )

    def _ask(self, _did: str, _host: int, _delay_s: float, _need: Need) -> None:
        if self.question is None:
            self.question = Question()

    def _ask_status(self, did: str, host: int) -> None:
        self.inquiries.append((did, host))

    def _send(self, judged: Judged, frame: bytes) -> None:
        self.sent.append((judged, frame))

    def _may_give_up(self, _did: str, _now_s: float) -> bool:
        return False

    def _wake_after(self, after_s: float) -> None:
        raise AssertionError(f"something waits for {after_s} s to pass")

    def _dropped(self, feed: Feed, drop: Drop, _event: Event | None, _raw: bytes) -> None:
        self.drops.append((feed.source.host, drop.seq, drop.reason))


class World:
    """See the module's docstring. log: (host, seq, judged) in order."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.now_s = 1_000.0
        self.changed = False
        self.failures = 0
        self.processes = [Process(member) for member in sorted(set(story.processes))]
        self.feeds = [Feed(OLD, 1, 5, 0), Feed(NEW, 1, 6, 0)]
        self.taken = [0, 0]
        self.emitted = 0
        self.log: list[Judged] = []
        self.sequencer = Sequencer(1, 1, Accounts(), Duplicates(), Recalls(), Tallies())
        for frame in story.known:
            self._hear_quietly(frame)

    @property
    def identity(self) -> Identity:
        """What the directory would say now."""
        return self.story.after if self.changed else self.story.before

    def reader(self, host: int) -> Process:
        """Who reads the old host (0), or the new one (1)."""
        return self.processes[self.story.processes[host]]

    def steps(self) -> Iterator[Step]:
        """All that can happen next."""
        story = self.story
        if not self.changed:
            yield ("plc",)
        if story.statuses and self.emitted < len(story.old):
            yield ("emit",)
        for host, stream in enumerate((story.old, story.new)):
            if story.statuses and self.taken[0] >= self.emitted:
                continue
            if self.taken[host] < len(stream) and (self.changed or not stream[self.taken[host]][1]):
                yield ("take", host)
        for number, process in enumerate(self.processes):
            question = process.question
            if question is not None:
                if question.asked_s is None:
                    yield ("begin", number)
                else:
                    yield ("answer", number, "now")
                    if question.identity is not self.identity:
                        yield ("answer", number, "then")
                    if self.failures < story.failures:
                        yield ("fail", number)
            if process.inquiries:
                yield ("tell", number)
            if process.sent:
                yield ("persist", number)
            if process.replies:
                yield ("reply", number)

    def take_step(self, step: Step) -> None:
        """One of these."""
        self.now_s += 1.0
        match step:
            case ("plc",):
                self.changed = True
            case ("take", host):
                frame = (self.story.old, self.story.new)[host][self.taken[host]][0]
                self.taken[host] += 1
                assert self.reader(host).pipeline.take(self.feeds[host], frame, self.now_s) is None
            case ("emit",):
                self.emitted += 1
            case ("tell", number):
                did, host = self.processes[number].inquiries.pop(0)
                active = self.story.statuses[self.emitted]
                told = Told(known=True, active=active, status=None, asked_s=self.now_s)
                self.processes[number].pipeline.told(did, host, told, self.now_s)
            case ("begin", number):
                question = self.processes[number].question
                assert question is not None
                question.asked_s, question.identity = self.now_s, self.identity
            case ("answer", number, which):
                self._answer(self.processes[number], which)
            case ("fail", number):
                process = self.processes[number]
                self.failures += 1
                process.pipeline.unresolved(self.story.did, self.now_s)
                process.question = Question()
                if not process.pipeline.still_wanted(self.story.did):
                    process.question = None
            case ("persist", number):
                self._persist(self.processes[number])
            case ("reply", number):
                self._reply(self.processes[number])
            case _:
                raise ValueError(step)
        for process in self.processes:
            while process.pipeline.has_more:
                process.pipeline.judge_more(self.now_s)
        if not self.story.patient:
            self._begin_all()
        self._check_conservation()

    def _begin_all(self) -> None:
        for process in self.processes:
            question = process.question
            if question is not None and question.asked_s is None:
                question.asked_s, question.identity = self.now_s, self.identity

    def _answer(self, process: Process, which: str) -> None:
        question = process.question
        assert question is not None
        assert question.asked_s is not None
        # First, as in the resolver: the answer may bring up the next question.
        process.question = None
        identity = self.identity if which == "now" else question.identity
        assert identity is not None
        process.pipeline.resolved(self.story.did, identity, question.asked_s, self.now_s)

    def _persist(self, process: Process) -> None:
        judged, frame = process.sent.pop(0)
        route = bytes([process.member])
        batch = Batch(process.member, 1, [judged], [frame], log_epoch=1)
        sequencer = self.sequencer
        assert sequencer.admit(route, batch)
        assert not list(sequencer.take(route, batch))
        for did in sequencer.wanted:
            assert not list(sequencer.resolve(did, NEVER_SEEN))
        sequencer.wanted.clear()
        reply = sequencer.cut().replies[route]
        self.log += [judged] * len(reply.logged)
        process.replies.append(reply)

    def _reply(self, process: Process) -> None:
        reply = process.replies.pop(0)
        # In the order of ingest.outlet.
        process.pipeline.logged(reply.logged, self.now_s)
        process.pipeline.duplicate(reply.duplicate, self.now_s)
        process.pipeline.back(reply.back, self.now_s)

    def _hear_quietly(self, frame: bytes) -> None:
        """The old host has said this before the story begins, and all has come to rest."""
        process = self.reader(0)
        self.now_s += 1.0
        assert process.pipeline.take(self.feeds[0], frame, self.now_s) is None
        self.now_s += 1.0
        if process.question is not None:
            process.question = None
            process.pipeline.resolved(self.story.did, self.identity, self.now_s, self.now_s)
        while process.sent:
            self._persist(process)
            self._reply(process)
        assert process.pipeline.held == process.pipeline.in_flight == 0
        assert not process.drops

    @property
    def state(self) -> AccountState:
        """What persist knows of the account."""
        return self.sequencer._accounts.get(self.story.did) or NEVER_SEEN

    def _check_conservation(self) -> None:
        for process in self.processes:
            assert balance_of(process.pipeline).unaccounted == 0

    def look(self) -> tuple[Any, ...]:
        """All that can matter for what happens later, or has been checked by then."""
        return (
            self.changed,
            self.failures,
            *self.taken,
            self.emitted,
            tuple((judged.host, judged.upstream_seq, judged.marks) for judged in self.log),
            tuple(self._look_at(process) for process in self.processes),
        )

    def _look_at(self, process: Process) -> tuple[Any, ...]:
        pipeline, question = process.pipeline, process.question
        account = pipeline._accounts.find(self.story.did)
        replies = tuple(
            (tuple(reply.logged), tuple(reply.duplicate), tuple(reply.back))
            for reply in process.replies
        )
        if account is None:
            return ()
        sent = list(pipeline._in_flight._sent.values())
        order = {p.judged.position: at for at, p in enumerate(sent) if p.judged is not None}
        begun_s = None if question is None else question.asked_s

        def seen(pending: Pending) -> tuple[Any, ...]:
            return (
                pending.feed.source.host,
                pending.event.seq,
                account.asked_s >= pending.received_s,
                begun_s is not None and begun_s >= pending.received_s,
            )

        return (
            account.state,
            account.identity is self.story.after,
            account.identity is None,
            account.asking,
            account.need,
            account.recall,
            account.failing_s > 0,
            tuple(map(seen, account.recalled)),
            tuple(
                (host, queue.cause.name, tuple(map(seen, queue.events)))
                for host, queue in account.queues.items()
            ),
            tuple((*seen(p), p.judged.base, p.judged.recall) for p in sent if p.judged is not None),
            tuple(order[judged.position] for judged, _frame in process.sent),
            tuple(
                tuple(order.get(position, -1) for position in (*logged, *duplicate))
                + tuple((order.get(position, -1), state) for position, state in back)
                for logged, duplicate, back in replies
            ),
            None if question is None else (begun_s is None, question.identity is self.story.after),
            len(process.inquiries),
            tuple(
                (told.active, told.asked_s >= pending.received_s)
                for told in pipeline._settling._inquiries._told.values()
                for queue in account.queues.values()
                for pending in queue.events
            ),
            tuple(process.drops),
        )


LEFT_BEHIND: Final = 200
"""Worlds visited until those that were left are collected: each is full of cycles."""


@contextmanager
def _no_collector() -> Iterator[None]:
    """`explore` collects by itself, and looks only at what is new: all the rest is there to stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


def explore(story: Story, check: Callable[[World], None], most: int) -> tuple[int, int]:
    """Walk through all worlds of a story; `check` those in which nothing can happen any more.

    Returns how many worlds there are, and how many of them are ends.

    Raises:
        AssertionError: one is wrong, or there are more than `most`; with the steps that led there.
    """
    with pytest.MonkeyPatch.context() as patch, _no_collector():
        patch.setattr(pipeline_module, "decode", decode_once)
        first = World(story)
        ends = visited = 0
        came_from: dict[tuple[Any, ...], tuple[tuple[Any, ...], Step] | None] = {first.look(): None}
        to_visit = [(first.look(), list(first.steps()), frozen(first))]
        while to_visit:
            look, steps, frost = to_visit.pop()
            visited += 1
            if visited % LEFT_BEHIND == 0:
                gc.collect(0)
            step: Step | None = None
            try:
                if not steps:
                    ends += 1
                    check(pickle.loads(frost))
                for step in steps:
                    world = pickle.loads(frost)
                    world.take_step(step)
                    reached = world.look()
                    if reached not in came_from:
                        came_from[reached] = look, step
                        assert len(came_from) <= most, f"more than {most} worlds"
                        to_visit.append((reached, list(world.steps()), frozen(world)))
            except AssertionError as error:
                path = [] if step is None else [step]
                at = came_from[look]
                while at is not None:
                    path.append(at[1])
                    at = came_from[at[0]]
                said = "\n  ".join(map(str, reversed(path)))
                raise AssertionError(f"{error}\nafter\n  {said}") from error
        return len(came_from), ends
