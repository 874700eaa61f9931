"""Which events wait, until when, and which of them goes when they are too many?

An event waits in the queue of its account and its host, and with it only what came behind it
there. What the first one of a queue waits for (its cause) says what happens at the bounds:

    DOCUMENT   nobody gets documents: the host is read no further. Only this DID gets none: its
               oldest goes, as IDENTITY_UNRESOLVED
    STATUS     the host does not say how the account is: its oldest goes, as ACCOUNT_INACTIVE
    RATE       the account's host says too much: as RATE_LIMITED goes the oldest that is neither a
               commit nor the newest #account, also of those that would wait too long
               (ingest.settling). Commits wait (ingest.fairness), and none goes
    CLOCK      it shows whose clock is wrong within seconds, and if it is ours nothing may be
               lost: the host is read no further
    TURN       as CLOCK: it is judged as soon as the others had their turn, or persist has answered

"Is read no further" is ingest.turns', which looks at the unfinished bytes. Alarms are kept here
and go off elsewhere. No I/O, no clock; times are steady.

Source: S-IDN-10, S-SYN-10, S-IDE-09, S-ACC-19; lessons 9 and 42.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count, islice
from typing import Final

from common.envelope import Kind
from common.syntax import WEB_METHOD
from common.verdict import Drop, DropReason
from ingest.account import Account, Cause, Feed, Pending, Queue
from ingest.config import Limits
from ingest.fairness import Fairness

CLOCK_AGAIN_S: Final = 1.0
"""How often an event from the future is held against the clock again, in seconds."""
_EARLY_S: Final = 0.01
"""So much too early a timer may go off, in seconds: uvloop's count whole milliseconds."""
_OLDEST_LOOKED_AT: Final = 64
"""Among so many of a host's oldest one is looked for that may go, at its bound."""


class Waiting:
    """The events that wait, of one process."""

    def __init__(
        self,
        limits: Limits,
        fairness: Fairness,
        *,
        may_give_up: Callable[[str, float], bool],
        give_up: Callable[[Pending, Drop], None],
        wake_after: Callable[[float], None],
    ) -> None:
        """Nothing waits yet.

        Args:
            may_give_up: whether a DID that cannot be resolved is alone in that, by DID and time.
            give_up: told of what waits no longer since it is too much.
            wake_after: have `due` asked after so many seconds.
        """
        self._limits = limits
        self._fairness = fairness
        self._may_give_up = may_give_up
        self._give_up = give_up
        self._wake_after = wake_after
        self.held = 0
        self._alarms: list[tuple[float, int, Account]] = []
        self._numbers = count()
        self._armed_s = float("inf")

    # --- in and out ---

    def put(self, pending: Pending, cause: Cause | None, now_s: float) -> bool:
        """An event has to wait, behind those that do already → whether the first may go on for it.

        Args: cause: what for, if it is the first; None if there are others, whatever theirs is.
        """
        account, feed = pending.account, pending.feed
        queue = self._count(pending, now_s)
        queue.events.append(pending)
        if cause is not None:
            self.waits_for(queue, cause, now_s)
        full = False
        if account in feed.slowed and pending.event.kind is Kind.COMMIT:
            full = not self._fairness.defer(pending)
        if self._is_long(queue):
            self._shorten(queue, account, now_s)
        if feed.held_bytes - feed.deferred_bytes > self._limits.host_held_bytes:
            self._relieve(feed, now_s)
        return full

    def put_back(self, pending: Pending, now_s: float) -> None:
        """An event that had left has to be judged again, before those that wait."""
        queue = self._count(pending, now_s)
        queue.events.appendleft(pending)
        self.waits_for(queue, Cause.TURN, now_s)

    def remove(self, pending: Pending) -> None:
        """An event need not wait any longer."""
        queues, feed, size = pending.account.queues, pending.feed, pending.size
        queue = queues[feed.source.host]
        self._fairness.let_go(pending)
        # Nearly always the first.
        queue.events.remove(pending)
        if not queue.events:
            del queues[feed.source.host]
            feed.slowed.pop(pending.account, None)
        queue.held_bytes -= size
        feed.held_bytes -= size
        del feed.held[pending]
        self.held -= 1

    def waits_for(self, queue: Queue, cause: Cause, now_s: float) -> None:
        """What the first of a queue waits for now. Sets an alarm where only time will tell."""
        if queue.cause is not cause:
            queue.cause = cause
            queue.since_s = now_s
        first = queue.events[0]
        if cause is Cause.RATE and first.event.kind is Kind.COMMIT:
            first.feed.slowed[first.account] = queue
        else:
            first.feed.slowed.pop(first.account, None)
        if cause is Cause.RATE:
            self._alarm(queue, first.due_s, now_s)
        elif cause is Cause.CLOCK:
            self._alarm(queue, now_s + CLOCK_AGAIN_S, now_s)

    def _count(self, pending: Pending, now_s: float) -> Queue:
        queues, feed, size = pending.account.queues, pending.feed, pending.size
        queue = queues.get(feed.source.host)
        if queue is None:
            queue = queues[feed.source.host] = Queue(now_s)
        queue.held_bytes += size
        feed.held_bytes += size
        feed.held[pending] = None
        self.held += 1
        return queue

    # --- alarms ---

    def _alarm(self, queue: Queue, due_s: float, now_s: float) -> None:
        if now_s < queue.alarm_s <= due_s:
            return
        queue.alarm_s = due_s
        heapq.heappush(self._alarms, (due_s, next(self._numbers), queue.events[0].account))
        self._arm(now_s)

    def due(self, now_s: float) -> list[Account]:
        """The accounts of which something waits whose time has come."""
        due = []
        while self._alarms and self._alarms[0][0] <= now_s:
            due.append(heapq.heappop(self._alarms)[2])
        if self._armed_s <= now_s + _EARLY_S:
            self._armed_s = float("inf")
        self._arm(now_s)
        return due

    def _arm(self, now_s: float) -> None:
        if self._alarms and self._alarms[0][0] < self._armed_s:
            self._armed_s = self._alarms[0][0]
            self._wake_after(max(0.0, self._armed_s - now_s))

    # --- too many, too long ---

    def expire(self, account: Account, now_s: float) -> None:
        """Drop what has waited too long for a document that does not come."""
        for queue in list(account.queues.values()):
            while (
                queue.events
                and queue.cause is Cause.DOCUMENT
                and now_s - max(queue.events[0].received_s, account.failing_s) > self._limits.held_s
                and self._is_hopeless(account, now_s)
            ):
                self._drop(queue.events[0], DropReason.IDENTITY_UNRESOLVED)
                if account.identity is not None:
                    # Those behind it may not need a newer document: they are looked at first.
                    break

    def _is_long(self, queue: Queue) -> bool:
        """Whether a queue is over its bound; what waits for other accounts' sake has another."""
        held_bytes = queue.held_bytes - queue.deferred_bytes
        return held_bytes > self._limits.did_held_bytes and len(queue.events) > 1

    def _shorten(self, queue: Queue, account: Account, now_s: float) -> None:
        """A queue is over its bound: make it shorter, if that is what its cause asks for."""
        while self._is_long(queue):
            reason = self._reason_to_drop(queue, account, now_s)
            if reason is None:
                return
            if reason is DropReason.RATE_LIMITED:
                least = _least_missed(queue)
                if least is None:
                    return
                self._drop(least, reason)
            else:
                self._drop(queue.events[0], reason)
                if reason is DropReason.IDENTITY_UNRESOLVED and account.identity is not None:
                    return

    def _relieve(self, feed: Feed, now_s: float) -> None:
        """A host is over its bound: drop its oldest of accounts that get no document."""
        while (
            feed.held_bytes - feed.deferred_bytes > self._limits.host_held_bytes
            and len(feed.held) > 1
        ):
            for oldest in islice(feed.held, _OLDEST_LOOKED_AT):
                queue = oldest.account.queues[feed.source.host]
                if queue.cause is Cause.DOCUMENT and self._may_go(queue, oldest.account, now_s):
                    break
            else:
                return
            self._drop(oldest, DropReason.IDENTITY_UNRESOLVED)

    def _reason_to_drop(self, queue: Queue, account: Account, now_s: float) -> DropReason | None:
        cause = queue.cause
        if cause is Cause.RATE:
            return DropReason.RATE_LIMITED
        if cause is Cause.DOCUMENT and self._is_hopeless(account, now_s):
            return DropReason.IDENTITY_UNRESOLVED
        if cause is Cause.STATUS and now_s - queue.since_s >= self._limits.hopeless_s:
            return DropReason.ACCOUNT_INACTIVE
        return None

    def _may_go(self, queue: Queue, account: Account, now_s: float) -> bool:
        """Whether the oldest of an account's events goes now that its host is over its bound.

        Of a did:web with more than its share it goes before its own host has answered at all: that one
        may be dead, and the others of this host must not stand still until this shows.
        """
        if account.did.startswith(WEB_METHOD) and queue.held_bytes > self._limits.did_held_bytes:
            return True
        return self._is_hopeless(account, now_s)

    def _is_hopeless(self, account: Account, now_s: float) -> bool:
        """Whether the document was asked for in vain, and not because nobody gets any."""
        return (
            account.failing_s > 0
            and now_s - account.failing_s >= self._limits.hopeless_s
            and self._may_give_up(account.did, now_s)
        )

    def _drop(self, pending: Pending, reason: DropReason) -> None:
        self.remove(pending)
        self._give_up(pending, Drop(reason, "waited too long", pending.event.seq))


def _least_missed(queue: Queue) -> Pending | None:
    """Of a queue with too much that is no commit: what goes first, if anything may.

    The newest #account stays, as it is how the account is (S-ACC-19), and so do commits: the host is
    read no further instead.
    """
    newest = next((p for p in reversed(queue.events) if p.event.kind is Kind.ACCOUNT), None)
    for pending in queue.events:
        if pending.event.kind is not Kind.COMMIT and pending is not newest:
            return pending
    return None
