"""Where is each event between its host's socket and the log, and what happens to it next?

    take ──▶ decode ──▶ number ──▶ judge ──▶ send ──▶ logged
                          │          │ ▲       │ ▲
                          │     wait │ │       │ sent back: newer state, judge again
                          ▼          ▼ │       ▼ │
                       dropped      held     in flight

Per DID and host strictly in order, otherwise freely: an event that must wait, for whatever cause
(ingest.waiting), makes only the later ones of its DID from its host wait. Between two hosts of one
DID persist decides, by the state that each verdict names. Every event ends in `_finish`, once, as
forwarded or as dropped with a reason, or is let go with its host, unfinished, for another process to
read again (`release`); so does what the relay says itself (ingest.originated). What of it is under way is `held` or `in_flight`: the balance (common.conservation) shows one that is neither.

No I/O and no clock: time is handed in, questions and verdicts go out through callbacks. All times
are steady (common.steady); only `clock` knows how far the system's clock is from that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final

from common.envelope import NEVER_SEEN, AccountState, HostCursor, Judged
from common.event import Event, Info, StreamError, decode
from common.verdict import Drop, DropReason
from ingest.account import Account, Accounts, Cause, Feed, Pending
from ingest.clock import Clock
from ingest.config import Limits
from ingest.counts import KIND_LABELS, Counts
from ingest.fairness import Fairness
from ingest.in_flight import InFlight
from ingest.inquiry import Told
from ingest.judge import Known
from ingest.node_memory import NodeMemory
from ingest.questions import Need
from ingest.settling import Settling
from ingest.waiting import Waiting

JUDGED_AT_ONCE: Final = 64
"""Events of one account that are judged in a row once they may be: thousands may have waited."""
_UNKNOWN: Final = (DropReason.UNKNOWN_OP, DropReason.UNKNOWN_TYPE)


class Pipeline:
    """All events of one ingest process that are under way."""

    def __init__(
        self,
        limits: Limits,
        *,
        ask: Callable[[str, int, float, Need], None],
        ask_status: Callable[[str, int], None],
        send: Callable[[Judged, bytes], None],
        may_give_up: Callable[[str, float], bool],
        wake_after: Callable[[float], None],
        memory: NodeMemory | None = None,
        on_drop: Callable[[Feed, Drop, Event | None, bytes], None] = lambda *_: None,
    ) -> None:
        """Nothing is under way yet.

        Args:
            ask: look up the document of a DID, for a host, after so many seconds, for this need; the
                answer comes to `resolved` (or, one that was kept from before, to `remembered`), or,
                as often as it cannot be told, to `unresolved`. Asked again with a more urgent need.
            ask_status: ask a host how an account is; the answer always comes, to `told`.
            may_give_up: whether a DID that cannot be resolved is alone in that, by DID and time.
            wake_after: call `wake` after so many seconds.
            memory: of nodes of sound trees; nothing depends on it but the time that judging takes.
            send: one judged event and its frame to persist; the answer comes to `logged`,
                `duplicate` or `back`.
            on_drop: told of each drop, for the log and the reject ledger: whose it was, why, the
                event if it was legible, and the message's bytes, empty where they were not kept.
        """
        self._limits = limits
        self._may_give_up = may_give_up
        self._on_drop = on_drop
        self._accounts = Accounts(limits.accounts)
        self._fairness = Fairness(limits)
        self._waiting = Waiting(
            limits,
            self._fairness,
            may_give_up=may_give_up,
            give_up=self._given_up,
            wake_after=wake_after,
        )
        self.counts = Counts()
        self.clock = Clock()
        self._in_flight = InFlight(send)
        self._settling = Settling(
            limits,
            self.counts,
            self.clock,
            self._in_flight,
            memory,
            self._fairness,
            ask=ask,
            ask_status=ask_status,
            began=self._began,
            dropped=self._finish_dropped,
        )
        self._unjudged: OrderedDict[Account, None] = OrderedDict()
        """Accounts with events that need not wait any longer."""
        self._recalled = 0
        self.unfinished_bytes = 0
        self.finished = 0
        """Events that came to an end, ever: what a socket that waits for room looks at."""

    @property
    def held(self) -> int:
        """Events that wait, or came back and wait for the others of their account to do so."""
        return self._waiting.held + self._recalled

    @property
    def in_flight(self) -> int:
        """Events that were sent and not answered."""
        return len(self._in_flight)

    @property
    def deferred_bytes(self) -> int:
        """What waits for the sake of other accounts takes. See ingest.fairness."""
        return self._fairness.deferred_bytes

    @property
    def in_flight_bytes(self) -> int:
        """What those take."""
        return self._in_flight.bytes

    @property
    def accounts(self) -> int:
        """Accounts that are remembered."""
        return len(self._accounts)

    # --- from a host ---

    def take(self, feed: Feed, raw: bytes, now_s: float) -> Info | StreamError | Drop | None:
        """One binary message of a host.

        Returns what concerns the connection: an info, an error frame, or a message that could not
        be read at all; None for everything else, which is the pipeline's to finish.
        """
        decoded = decode(raw)
        counts = self.counts
        if type(decoded) is Event:
            counts.received[KIND_LABELS[decoded.kind]] += 1
            entry = feed.upstream.begin(decoded.seq, decoded.rev)
            if entry is None:
                self.drop(feed, _repeated(feed, decoded.seq), raw, decoded)
                return None
            account = self._accounts.get(decoded.did)
            pending = Pending(decoded, feed, entry, account, now_s)
            self._began(pending)
            if feed.source.host in account.queues:
                if self._waiting.put(pending, None, now_s):
                    self._unjudged[account] = None
                return None
            cause = Cause.TURN if account.recalled else self._settling.settle(pending, now_s)
            if cause is not None:
                self._waiting.put(pending, cause, now_s)
            return None
        if isinstance(decoded, Drop):
            counts.received["unknown" if decoded.reason in _UNKNOWN else "malformed"] += 1
            if decoded.seq:
                self._drop_numbered(feed, decoded, raw)
                return None
            self.drop(feed, decoded, raw)
            return decoded if decoded.reason is DropReason.MALFORMED_FRAME else None
        if isinstance(decoded, Info):
            counts.received["info"] += 1
            return decoded
        assert isinstance(decoded, StreamError)
        counts.received["error"] += 1
        return decoded

    def _began(self, pending: Pending) -> None:
        pending.feed.unfinished_bytes += pending.size
        self.unfinished_bytes += pending.size

    def drop(self, feed: Feed, drop: Drop, raw: bytes = b"", event: Event | None = None) -> None:
        """Count a message that goes no further. See `on_drop`."""
        self.counts.dropped[drop.reason] += 1
        self._on_drop(feed, drop, event, raw)

    def _drop_numbered(self, feed: Feed, drop: Drop, raw: bytes) -> None:
        """A message that is no event, but has a number: the cursor may pass it."""
        entry = feed.upstream.begin(drop.seq)
        if entry is None:
            drop = _repeated(feed, drop.seq)
        else:
            feed.upstream.finish(entry)
            self.finished += 1
        self.drop(feed, drop, raw)

    # --- waiting ---

    def _given_up(self, pending: Pending, drop: Drop) -> None:
        """An event has waited too long, or too many do."""
        if drop.reason is DropReason.RATE_LIMITED:
            self._settling.given_up(pending)
        unresolved = drop.reason is DropReason.IDENTITY_UNRESOLVED
        if not unresolved or pending.account.identity is not None:
            # Who stood behind it may not need what it waited for.
            self._unjudged[pending.account] = None
        self._finish_dropped(pending, drop)

    def _judge_waiting(self, account: Account, now_s: float) -> None:
        """Judge what waits, in each host's order, until one has to go on waiting.

        After some of them the others get their turn, and `judge_more` goes on.
        """
        left = JUDGED_AT_ONCE
        for queue in list(account.queues.values()):
            while queue.events and not account.recalled:
                if not left:
                    self._unjudged[account] = None
                    return
                left -= 1
                pending = queue.events[0]
                cause = self._settling.settle(pending, now_s)
                if cause is not None:
                    self._waiting.waits_for(queue, cause, now_s)
                    break
                self._waiting.remove(pending)

    def hurry(self, feed: Feed) -> None:
        """The limits of a host are others now: look at all of it that they slow."""
        self._unjudged.update(dict.fromkeys(feed.slowed))

    @property
    def has_more(self) -> bool:
        """Whether there is something for `judge_more`."""
        return bool(self._unjudged)

    def judge_more(self, now_s: float) -> None:
        """Go on with an account of which more was waiting than could be judged in a row."""
        account, _ = self._unjudged.popitem(last=False)
        self._judge_waiting(account, now_s)

    def wake(self, now_s: float) -> None:
        """The time has come that was asked for with `wake_after`."""
        self._unjudged.update(dict.fromkeys(self._waiting.due(now_s)))

    # --- from the resolver ---

    def resolved(self, did: str, identity: Known, asked_s: float, now_s: float) -> None:
        """A DID's document was read, or conclusively is not there.

        Args: asked_s: when the question was asked.
        """
        account = self._accounts.find(did)
        if account is None:
            return
        account.identity = identity
        account.asked_s = asked_s
        # One that was kept was asked for long ago: the next question need not wait.
        account.tried_s = min(account.tried_s, asked_s)
        account.asking = ()
        account.failing_s = 0.0
        self._judge_waiting(account, now_s)

    def remembered(self, did: str, identity: Known, asked_s: float, now_s: float) -> None:
        """What a DID's document said when somebody asked before any event now waiting came.

        It decides nothing that takes a newer one, whatever the clock said then. See `resolved`.
        """
        account = self._accounts.find(did)
        if account is None:
            return
        for queue in account.queues.values():
            asked_s = min(asked_s, queue.events[0].received_s - 0.001)
        self.resolved(did, identity, asked_s, now_s)

    def still_wanted(self, did: str) -> bool:
        """Whether anything waits for a DID's document; if not, the question is withdrawn."""
        account = self._accounts.find(did)
        if account is None:
            return False
        if not account.queues:
            if account.asking:
                # A refresh that failed is due again soon, not after another whole age.
                account.tried_s -= self._limits.stale_s - self._limits.stale_again_s
            account.asking = ()
            account.failing_s = 0.0
        return bool(account.asking)

    def unresolved(self, did: str, now_s: float) -> None:
        """It cannot be told now; the question stays open. Drops what has waited too long."""
        account = self._accounts.find(did)
        if account is None:
            return
        if account.failing_s == 0 or not self._may_give_up(did, now_s):
            # Time begins to count when the others get their answers; after an outage, from its end.
            account.failing_s = now_s
        self._waiting.expire(account, now_s)

    # --- from the host, asked ---

    def told(self, did: str, host: int, told: Told, now_s: float) -> None:
        """A host was asked how an account is, and has answered, or does not."""
        self._settling.told(did, host, told)
        account = self._accounts.find(did)
        if account is not None:
            self._judge_waiting(account, now_s)

    # --- from persist ---

    def logged(self, positions: list[int], now_s: float) -> None:
        """Persist has these on disk."""
        for position in positions:
            pending = self._in_flight.answered(position)
            if pending is not None:
                assert pending.judged is not None
                self.counts.forward(pending.event.kind, pending.judged.marks, pending.waived)
                self._progress(pending)
                self._finish(pending)
                self._judge_recalled(pending.account, now_s)

    def duplicate(self, positions: list[int], now_s: float) -> None:
        """Persist had these on disk already, from before a crash or a resend."""
        for position in positions:
            pending = self._in_flight.answered(position)
            if pending is not None:
                self._progress(pending)
                self._finish_duplicate(pending)
                self._judge_recalled(pending.account, now_s)

    def back(self, returned: list[tuple[int, AccountState]], now_s: float) -> None:
        """These were judged against a state that is not the newest, which comes with them."""
        for position, state in returned:
            pending = self._in_flight.answered(position)
            if pending is not None:
                account = pending.account
                account.state = state
                account.told_s = now_s
                account.recalled.append(pending)
                self._recalled += 1
                self._judge_recalled(account, now_s)

    def unanswered(self) -> list[tuple[Judged, bytes]]:
        """Everything in flight, in order of position: what a restarted persist has to be told."""
        return self._in_flight.unanswered()

    def _judge_recalled(self, account: Account, now_s: float) -> None:
        """Once nothing of the account is in flight: judge again what came back, then the rest."""
        if account.in_flight or not account.recalled:
            return
        account.recall += 1
        still = (pending for pending in account.recalled if not pending.feed.released)
        recalled = sorted(still, key=_position_of, reverse=True)
        account.recalled = []
        self._recalled -= len(recalled)
        for pending in recalled:
            if pending.entry is None:
                # What we said of an outdated state; whether it is still to be said shows anew.
                self._finish_duplicate(pending)
            else:
                self._waiting.put_back(pending, now_s)
        self._judge_waiting(account, now_s)

    # --- hosts that are read no longer ---

    def release(self, feeds: Collection[Feed], now_s: float) -> None:
        """Let go of these hosts, and of all that is unfinished of them: their next owner reads it again.

        Nothing more may be taken from them. What persist still answers about them is nobody's.
        """
        for feed in feeds:
            feed.released = True
            for pending in list(feed.held):
                self._waiting.remove(pending)
                self._count_released(pending)
        for account in self._in_flight.recalling():
            # They stay where they are until all of the account is answered, which is its turn to go on.
            for pending in account.recalled:
                if pending.feed in feeds:
                    self._recalled -= 1
                    self._count_released(pending)
        accounts: dict[Account, None] = {}
        for pending in self._in_flight.withdraw():
            self._count_released(pending)
            accounts[pending.account] = None
        for account in accounts:
            # Whether what was sent got into the log is not known: the next one begins with nothing, is
            # sent back, and brings the newest state.
            account.state = NEVER_SEEN
            self._judge_recalled(account, now_s)

    def _count_released(self, pending: Pending) -> None:
        self.counts.released[KIND_LABELS[pending.event.kind]] += 1
        pending.feed.unfinished_bytes -= pending.size
        self.unfinished_bytes -= pending.size

    # --- the end of an event ---

    def _finish_duplicate(self, pending: Pending) -> None:
        drop = Drop(DropReason.DUPLICATE, "in the log already", pending.event.seq)
        if pending.entry is None:
            # Of our own nobody is told: no host sent it.
            self.counts.dropped[drop.reason] += 1
            self._finish(pending)
        else:
            self._finish_dropped(pending, drop)

    def _finish_dropped(self, pending: Pending, drop: Drop) -> None:
        self.drop(pending.feed, drop, pending.event.raw, pending.event)
        if drop.reason is DropReason.HOST_NOT_AUTHORITATIVE:
            pending.feed.foreign.dropped()
        self._finish(pending)

    def _finish(self, pending: Pending) -> None:
        feed, size = pending.feed, pending.size
        feed.unfinished_bytes -= size
        self.unfinished_bytes -= size
        if pending.entry is not None:
            feed.upstream.finish(pending.entry)
            feed.foreign.ended()
            self.finished += 1

    def _progress(self, pending: Pending) -> None:
        """An event has passed every check, and is on disk. What we say ourselves is no host's merit."""
        backoff = pending.feed.backoff
        if backoff is not None and pending.entry is not None:
            backoff.progress()


def cursor_of(feed: Feed) -> HostCursor | None:
    """The cursor to save, if it has moved since the last time that this was asked."""
    finished = feed.upstream.finished_seq
    if finished is None or finished == feed.saved_seq:
        return None
    feed.saved_seq = finished
    return HostCursor(feed.source.host, feed.generation, finished, feed.shard, feed.epoch)


def _repeated(feed: Feed, seq: int) -> Drop:
    """A number that does not rise. The one that the connection resumed at may come once more."""
    if seq == feed.resumed_at:
        feed.resumed_at = None
        return Drop(DropReason.DUPLICATE, "the event at the cursor", seq)
    return Drop(DropReason.SEQ_NOT_RISING, f"seq {seq} after {feed.upstream.last_seq}", seq)


def _position_of(pending: Pending) -> int:
    return pending.judged.position if pending.judged is not None else 0
