"""Where is each event between its host's socket and the log, and what happens to it next?

    take ──▶ decode ──▶ number ──▶ judge ──▶ send ──▶ logged
                          │          │ ▲       │ ▲
                          │     look up│       │ sent back: newer state, judge again
                          ▼          ▼ │       ▼ │
                       dropped     waiting    in flight

Per DID and host strictly in order, otherwise freely: an event that must wait makes only the later
ones of its DID from its host wait. Between two hosts of one DID persist decides, by the state that
each verdict names. Every event ends in `_finish`, once, as forwarded or as dropped with a reason.

No I/O and no clock: time is handed in, questions and verdicts go out through two callbacks.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

from common.envelope import AccountState, HostCursor, Judged, Kind, base_of
from common.event import Event, Info, StreamError, decode
from common.verdict import Drop, DropReason
from ingest.account import Account, Accounts, Feed, Pending, Queue
from ingest.checked import Checked
from ingest.config import Limits
from ingest.judge import Accept, Known, NeedFreshIdentity, judge, judge_early
from ingest.questions import Need

KIND_LABELS: Final = {
    Kind.COMMIT: "commit",
    Kind.SYNC: "sync",
    Kind.IDENTITY: "identity",
    Kind.ACCOUNT: "account",
}


JUDGED_AT_ONCE: Final = 64
"""Events of one account that are judged in a row once they may be: thousands may have waited."""
_UNKNOWN: Final = (DropReason.UNKNOWN_OP, DropReason.UNKNOWN_TYPE)


class Counts:
    """What became of the messages, since the last time somebody took these numbers."""

    __slots__ = ("checked", "dropped", "forwarded", "received")

    def __init__(self) -> None:
        self.checked = Checked()
        self.received: Counter[str] = Counter()
        self.forwarded: Counter[str] = Counter()
        self.dropped: Counter[DropReason] = Counter()


class Pipeline:
    """All events of one ingest process that are under way."""

    def __init__(
        self,
        limits: Limits,
        *,
        epoch: int,
        ask: Callable[[str, int, float, Need], None],
        send: Callable[[Judged, bytes], None],
        may_give_up: Callable[[str, float], bool],
        on_drop: Callable[[Feed, Drop, Event | None, bytes], None] = lambda *_: None,
    ) -> None:
        """Nothing is under way yet.

        Args:
            epoch: of this process, see common.envelope.Batch.
            ask: look up the document of a DID, for a host, after so many seconds, for this need; the
                answer comes to `resolved` (or, one that was kept from before, to `remembered`), or,
                as often as it cannot be told, to `unresolved`. Asked again with a more urgent need.
            may_give_up: whether a DID that cannot be resolved is alone in that, by DID and time.
            send: one judged event and its frame to persist; the answer comes to `logged`,
                `duplicate` or `back`.
            on_drop: told of each drop, for the log and the reject ledger: whose it was, why, the
                event if it was legible, and the message's bytes, empty where they were not kept.
        """
        self._limits = limits
        self._epoch = epoch
        self._ask = ask
        self._send = send
        self._may_give_up = may_give_up
        self._on_drop = on_drop
        self._accounts = Accounts(limits.accounts)
        self._position = 0
        self._unjudged: OrderedDict[Account, None] = OrderedDict()
        """Accounts with events that need not wait any longer."""
        self._in_flight: dict[int, Pending] = {}
        self.in_flight_bytes = 0
        self.unfinished_bytes = 0
        self.held = 0
        self.finished = 0
        """Events that came to an end, ever: what a socket that waits for room looks at."""
        self.counts = Counts()

    @property
    def in_flight(self) -> int:
        """Events that were sent and not answered."""
        return len(self._in_flight)

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
            entry = feed.upstream.begin(decoded.seq)
            if entry is None:
                self.drop(feed, _repeated(feed, decoded.seq), raw, decoded)
                return None
            account = self._accounts.get(decoded.did)
            pending = Pending(decoded, feed, entry, account, now_s)
            feed.unfinished_bytes += pending.size
            self.unfinished_bytes += pending.size
            if (
                account.recalled
                or feed.source.host in account.queues
                or not self._settled(pending, now_s)
            ):
                self._hold(pending, now_s)
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
            self._progress(feed)
        self.drop(feed, drop, raw)

    # --- judging ---

    def _settled(self, pending: Pending, now_s: float) -> bool:
        """Judge an event → whether it has left; if not, a look-up is under way."""
        account, event = pending.account, pending.event
        identity = account.identity
        if identity is None:
            early = judge_early(event, account.state, now_s)
            if early is not None:
                self._finish_dropped(pending, early)
                return True
            # What was kept from before this event is no use where the event says that it changed.
            need = Need.NEWER if event.kind is Kind.IDENTITY else Need.FIRST
            self._look_up(pending, now_s, need)
            return False
        fresh = account.asked_s >= pending.received_s
        if event.kind is Kind.IDENTITY and not fresh:
            self._look_up(pending, now_s, Need.NEWER)
            return False
        verdict = judge(
            event,
            identity,
            account.state,
            pending.feed.source,
            now_s=now_s,
            fresh=fresh,
            checked=self.counts.checked,
        )
        if type(verdict) is Accept:
            self._forward(pending, verdict)
        elif isinstance(verdict, NeedFreshIdentity):
            self._look_up(pending, now_s, Need.NEWER)
            return False
        elif isinstance(verdict, Drop):
            self._finish_dropped(pending, verdict)
        if now_s - max(account.asked_s, account.tried_s) > self._limits.stale_s:
            # It goes on being used until the newer one is there.
            self._look_up(pending, now_s, Need.REFRESH)
        return True

    def _look_up(self, pending: Pending, now_s: float, need: Need) -> None:
        """Ask for the document of an event's account, not too soon after the last time.

        What needs the answer waits for it: dropping it instead would let a stranger's events
        use up the look-ups that the account's own need.
        """
        account, host = pending.account, pending.feed.source.host
        if host in account.asking and need >= account.need:
            return
        delay_s = 0.0
        if not account.asking:
            account.need = need
            delay_s = max(0.0, account.tried_s + self._limits.refresh_s - now_s)
            account.tried_s = now_s + delay_s
        account.need = min(need, account.need)
        # Another host may have asked, but it waits in its own line, which may be long.
        if host not in account.asking:
            account.asking += (host,)
        self._ask(account.did, host, delay_s, need)

    def _hold(self, pending: Pending, now_s: float) -> None:
        """Have an event wait behind those of its account from its host."""
        account, feed = pending.account, pending.feed
        queue = self._wait(pending)
        queue.events.append(pending)
        while queue.held_bytes > self._limits.did_held_bytes and len(queue.events) > 1:
            if not self._is_hopeless(account, now_s):
                break
            self._give_up(queue.events[0])
        while feed.held_bytes > self._limits.host_held_bytes and len(feed.held) > 1:
            oldest = next(iter(feed.held))
            if not self._is_hopeless(oldest.account, now_s):
                break
            self._give_up(oldest)

    def _is_hopeless(self, account: Account, now_s: float) -> bool:
        """Whether the document was asked for in vain, and not because nobody gets any."""
        return (
            account.failing_s > 0
            and now_s - account.failing_s >= self._limits.hopeless_s
            and self._may_give_up(account.did, now_s)
        )

    def _wait(self, pending: Pending) -> Queue:
        """Count an event as held → the queue that it has to be put in."""
        queues, feed, size = pending.account.queues, pending.feed, pending.size
        queue = queues.get(feed.source.host)
        if queue is None:
            queue = queues[feed.source.host] = Queue()
        queue.held_bytes += size
        feed.held_bytes += size
        feed.held[pending] = None
        self.held += 1
        return queue

    def _wait_no_more(self, pending: Pending) -> None:
        queues, feed, size = pending.account.queues, pending.feed, pending.size
        queue = queues[feed.source.host]
        # Nearly always the first.
        queue.events.remove(pending)
        if not queue.events:
            del queues[feed.source.host]
        queue.held_bytes -= size
        feed.held_bytes -= size
        del feed.held[pending]
        self.held -= 1

    def _give_up(self, pending: Pending) -> None:
        """Drop a waiting event whose document does not come."""
        self._wait_no_more(pending)
        reason = DropReason.IDENTITY_UNRESOLVED
        self._finish_dropped(pending, Drop(reason, "waited too long", pending.event.seq))

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
                if not self._settled(pending, now_s):
                    break
                self._wait_no_more(pending)

    @property
    def has_more(self) -> bool:
        """Whether there is something for `judge_more`."""
        return bool(self._unjudged)

    def judge_more(self, now_s: float) -> None:
        """Go on with an account of which more was waiting than could be judged in a row."""
        account, _ = self._unjudged.popitem(last=False)
        self._judge_waiting(account, now_s)

    # --- from the resolver ---

    def resolved(self, did: str, identity: Known, asked_s: float, now_s: float) -> None:
        """A DID's document was read, or conclusively is not there.

        Args: asked_s: when the question was asked, Unix seconds.
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
        return bool(account.asking)

    def unresolved(self, did: str, now_s: float) -> None:
        """It cannot be told now; the question stays open. Drops what has waited too long."""
        account = self._accounts.find(did)
        if account is None:
            return
        if account.failing_s == 0 or not self._may_give_up(did, now_s):
            # Time begins to count when the others get their answers; after an outage, from its end.
            account.failing_s = now_s
        for queue in list(account.queues.values()):
            while (
                queue.events
                and now_s - max(queue.events[0].received_s, account.failing_s) > self._limits.held_s
                and self._is_hopeless(account, now_s)
            ):
                self._give_up(queue.events[0])

    # --- to and from persist ---

    def _forward(self, pending: Pending, verdict: Accept) -> None:
        account, event, feed = pending.account, pending.event, pending.feed
        self._position += 1
        judged = Judged(
            self._position,
            feed.shard,
            self._epoch,
            event.kind,
            feed.source.host,
            feed.generation,
            event.seq,
            event.did,
            base_of(account.state),
            verdict.after,
            event.seq_start,
            event.seq_end,
            account.recall,
            int(pending.received_s * 1e6),
            verdict.marks,
        )
        account.state = verdict.after
        account.in_flight += 1
        pending.judged = judged
        self._in_flight[self._position] = pending
        self.in_flight_bytes += pending.size
        self._send(judged, event.raw)

    def logged(self, positions: list[int], now_s: float) -> None:
        """Persist has these on disk."""
        for position in positions:
            pending = self._answered(position)
            if pending is not None:
                self.counts.forwarded[KIND_LABELS[pending.event.kind]] += 1
                self._finish(pending)
                self._judge_recalled(pending.account, now_s)

    def duplicate(self, positions: list[int], now_s: float) -> None:
        """Persist had these on disk already, from before a crash or a resend."""
        for position in positions:
            pending = self._answered(position)
            if pending is not None:
                drop = Drop(DropReason.DUPLICATE, "in the log already", pending.event.seq)
                self._finish_dropped(pending, drop)
                self._judge_recalled(pending.account, now_s)

    def back(self, returned: list[tuple[int, AccountState]], now_s: float) -> None:
        """These were judged against a state that is not the newest, which comes with them."""
        for position, state in returned:
            pending = self._answered(position)
            if pending is not None:
                account = pending.account
                account.state = state
                account.recalled.append(pending)
                self._judge_recalled(account, now_s)

    def unanswered(self) -> list[tuple[Judged, bytes]]:
        """Everything in flight, in order of position: what a restarted persist has to be told."""
        return [
            (pending.judged, pending.event.raw)
            for pending in self._in_flight.values()
            if pending.judged is not None
        ]

    def _answered(self, position: int) -> Pending | None:
        pending = self._in_flight.pop(position, None)
        if pending is not None:
            pending.account.in_flight -= 1
            self.in_flight_bytes -= pending.size
        return pending

    def _judge_recalled(self, account: Account, now_s: float) -> None:
        """Once nothing of the account is in flight: judge again what came back, then the rest."""
        if account.in_flight or not account.recalled:
            return
        account.recall += 1
        recalled = sorted(account.recalled, key=_position_of, reverse=True)
        account.recalled = []
        for pending in recalled:
            self._wait(pending).events.appendleft(pending)
        self._judge_waiting(account, now_s)

    # --- the end of an event ---

    def _finish_dropped(self, pending: Pending, drop: Drop) -> None:
        self.drop(pending.feed, drop, pending.event.raw, pending.event)
        self._finish(pending)

    def _finish(self, pending: Pending) -> None:
        feed, size = pending.feed, pending.size
        feed.unfinished_bytes -= size
        self.unfinished_bytes -= size
        feed.upstream.finish(pending.entry)
        self._progress(feed)

    def _progress(self, feed: Feed) -> None:
        self.finished += 1
        if feed.backoff is not None:
            feed.backoff.progress()


def cursor_of(feed: Feed) -> HostCursor | None:
    """The cursor to save, if it has moved since the last time that this was asked."""
    finished = feed.upstream.finished_seq
    if finished is None or finished == feed.saved_seq:
        return None
    feed.saved_seq = finished
    return HostCursor(feed.source.host, feed.generation, finished)


def _repeated(feed: Feed, seq: int) -> Drop:
    """A number that does not rise. The one that the connection resumed at may come once more."""
    if seq == feed.resumed_at:
        feed.resumed_at = None
        return Drop(DropReason.DUPLICATE, "the event at the cursor", seq)
    return Drop(DropReason.SEQ_NOT_RISING, f"seq {seq} after {feed.upstream.last_seq}", seq)


def _position_of(pending: Pending) -> int:
    return pending.judged.position if pending.judged is not None else 0
