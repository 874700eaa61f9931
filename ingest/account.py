"""What does this process know of one account, and what of it is under way?

    state      the newest that we know of; persist owns the truth and corrects it
    identity   what its DID document said, and when that was asked
    queues     its events that wait, apart for each host: the first for what its queue's cause says,
               the others behind it; a host that has no say over the account delays only itself
    recalled   what persist sent back, until all that is in flight has been answered

An account with nothing under way may be forgotten at any time. No I/O, no clock.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from enum import Enum
from typing import Protocol

from common.envelope import NEVER_SEEN, AccountState, Judged
from common.event import Event
from common.limits import TRUSTED, EventLimits
from common.verdict import DropReason
from ingest.config import EVENT_BYTES
from ingest.foreign import Foreign
from ingest.judge import Known, Source
from ingest.limiter import Limiter
from ingest.questions import Need
from ingest.upstream import Entry, Upstream


class Progress(Protocol):
    """Is told that something was achieved with a host."""

    def progress(self) -> None:
        """An event of it is in the log."""


class Cause(Enum):
    """What the first event of a queue waits for."""

    TURN = "to be judged"
    DOCUMENT = "its DID document"
    STATUS = "its host's word on whether it is active"
    RATE = "its turn among too many of its kind"
    CLOCK = "the time that it claims to be of"


class Feed:
    """One host as the pipeline sees it.

    shard: of the host. epoch: of the lease under which it is read. unfinished_bytes: taken from it
    and not finished. held: its events that wait, oldest first. backoff: told of progress.
    limiter: of all that it sends. limited_by: why it is not read just now, of ingest.limiter.WHYS, or None;
    limited_until_s: until when that is, steady seconds. slowed: the queues of accounts whose commits
    wait for the others' sake, and deferred_bytes: what those take, see ingest.fairness.
    released: it is read no longer, and nothing of it is under way. foreign: how much of what it says is of
    accounts of other hosts. work: what was read of it since that
    was asked last, see ingest.load.
    """

    __slots__ = (
        "backoff", "deferred_bytes", "epoch", "foreign", "generation", "held", "held_bytes", "limited_by",
        "limited_until_s", "limiter", "released", "resumed_at", "saved_seq", "shard", "slowed",
        "source", "unfinished_bytes", "upstream", "work",
    )  # fmt: skip

    def __init__(
        self,
        source: Source,
        generation: int,
        shard: int,
        cursor: int | None,
        backoff: Progress | None = None,
        *,
        epoch: int = 0,
        limits: EventLimits = TRUSTED,
    ) -> None:
        """Args: cursor: see ingest.upstream.Upstream. limits: of what it may send."""
        self.source = source
        self.generation = generation
        self.shard = shard
        self.epoch = epoch
        self.released = False
        self.upstream = Upstream(cursor)
        self.backoff = backoff
        self.unfinished_bytes = 0
        self.work = 0
        self.foreign = Foreign()
        self.held: OrderedDict[Pending, None] = OrderedDict()
        self.held_bytes = 0
        self.limiter = Limiter(limits)
        self.limited_by: str | None = None
        self.limited_until_s = 0.0
        self.slowed: dict[Account, Queue] = {}
        self.deferred_bytes = 0
        self.saved_seq = cursor
        """The cursor last told to persist."""
        self.resumed_at: int | None = None
        """The cursor that the current connection began at; that one number may repeat."""


class Pending:
    """One event between its host and the log.

    entry: its place in the host's stream, None of what we say ourselves.
    received_s: when its last byte was read, steady seconds. judged: as it was sent, None before.
    size: what it takes in memory, in bytes. deferred: it waits and does not count for its host yet, see
    ingest.fairness. due_s: before that it does not go on (see
    common.rates), 0 before that was asked. waived: see ingest.judge.Accept.
    """

    __slots__ = (
        "account", "deferred", "due_s", "entry", "event", "feed", "judged", "received_s", "size", "waived",
    )  # fmt: skip

    def __init__(
        self, event: Event, feed: Feed, entry: Entry | None, account: Account, received_s: float
    ) -> None:
        self.event = event
        self.feed = feed
        self.entry = entry
        self.account = account
        self.received_s = received_s
        self.size = len(event.raw) + EVENT_BYTES
        self.due_s = 0.0
        self.deferred = False
        self.judged: Judged | None = None
        self.waived: DropReason | None = None


class Queue:
    """Events of one account from one host that wait, oldest first.

    held_bytes: what they take; deferred_bytes: those of it that wait for other accounts' sake. cause: what the first waits for, and since_s: since when that.
    alarm_s: when it will be looked at again in any case.
    """

    __slots__ = ("alarm_s", "cause", "deferred_bytes", "events", "held_bytes", "since_s")

    def __init__(self, now_s: float) -> None:
        self.events: deque[Pending] = deque()
        self.held_bytes = 0
        self.deferred_bytes = 0
        self.cause = Cause.TURN
        self.since_s = now_s
        self.alarm_s = 0.0


class Account:
    """One DID. See the module's docstring.

    told_s: when persist told of `state`, steady seconds; 0 before any.
    asked_s: when the question was asked that `identity` answers, steady seconds; 0 before any.
    tried_s: when a question was last begun. asking: the hosts for which a look-up is under way.
    need: the most urgent one that it is for, while there is any. failing_s: since when it
    alone could not be told, steady seconds; 0 when it could. recall: see common.envelope.Judged.
    queues: by number of the host; none is empty. used: commits that count for it, as of used_s, steady
    seconds; see ingest.fairness.
    """

    __slots__ = (
        "asked_s", "asking", "did", "failing_s", "identity", "in_flight", "need", "queues", "recall",
        "recalled", "state", "told_s", "tried_s", "used", "used_s",
    )  # fmt: skip

    def __init__(self, did: str) -> None:
        self.did = did
        self.state: AccountState = NEVER_SEEN
        self.identity: Known | None = None
        self.told_s = 0.0
        self.asked_s = 0.0
        self.tried_s = 0.0
        self.asking: tuple[int, ...] = ()
        self.need = Need.FIRST
        self.failing_s = 0.0
        self.recall = 0
        self.in_flight = 0
        self.recalled: list[Pending] = []
        self.queues: dict[int, Queue] = {}
        self.used = 0.0
        self.used_s = 0.0

    @property
    def idle(self) -> bool:
        """Whether nothing of it is under way."""
        return not (self.in_flight or self.queues or self.recalled or self.asking)


class Accounts:
    """The accounts that this process remembers, the least recently used forgotten first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._by_did: OrderedDict[str, Account] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_did)

    def find(self, did: str) -> Account | None:
        """The account, if it is remembered."""
        return self._by_did.get(did)

    def get(self, did: str) -> Account:
        """The account, remembered or new; it becomes the most recently used."""
        account = self._by_did.get(did)
        if account is not None:
            self._by_did.move_to_end(did)
            return account
        account = self._by_did[did] = Account(did)
        if len(self._by_did) > self._capacity:
            self._forget(did)
        return account

    def _forget(self, newest: str) -> None:
        """Forget the least recently used one with nothing under way; but not `newest`."""
        # Those that cannot be forgotten now count as used; a few are looked at, at most.
        for _ in range(64):
            did, account = next(iter(self._by_did.items()))
            if did == newest:
                break
            if account.idle:
                del self._by_did[did]
                break
            self._by_did.move_to_end(did)
        self._by_did.move_to_end(newest)
