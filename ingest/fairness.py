"""Which commits of an account wait, so that the others of its host do not?

    its first ones in a while   (a moment's share)   go on
    then, up to its burst                            go on while half of its host's second is left
    then                                             while half of the second, the hour and the day
                                                     is left, or one now and then of its own

So one user's import has all that the others leave, and half of every window stays theirs. What waits
(Cause.RATE, ingest.waiting) does not count against its host until it goes on, or it would use up in
its queue what the others need. Nothing is dropped: the bytes that wait are bounded, for a host and
for the process, and beyond that the oldest goes on for each that comes.

The account's number is kept with the account, and only what is sent to persist counts: who sends
commits of a stranger's account costs it nothing. No I/O, no clock; times are steady.

Source: S-RAT-01; lessons section 3, complaint 4.
"""

from __future__ import annotations

from typing import Final

from ingest.account import Feed, Pending
from ingest.config import Limits
from ingest.limiter import Limiter

AGAIN_S: Final = 0.05
"""An account that waits is looked at again after so long at the soonest, in seconds."""
AT_ONCE: Final = 20
"""With more accounts of a host waiting than this, each is looked at less often in proportion."""
FULL_BYTES: Final = 64_000
"""With so little room left the oldest goes on."""


class Fairness:
    """The accounts of all hosts of one process. deferred_bytes: what waits and does not count yet."""

    def __init__(self, limits: Limits) -> None:
        """Nothing waits yet."""
        self._host_bytes = limits.host_deferred_bytes
        self._process_bytes = limits.process_deferred_bytes
        self.deferred_bytes = 0

    def due_s(self, pending: Pending, now_s: float) -> float:
        """When a commit may go on: `now_s` or before, or later; then it is to be asked again."""
        account, limiter = pending.account, pending.feed.limiter
        if account.used <= limiter.account_free and not pending.deferred:
            return now_s
        passed_s = now_s - account.used_s
        used = min(account.used, limiter.account_burst) - passed_s * limiter.account_per_s
        if self._is_full(pending.feed):
            return now_s
        # What did not count when it was read needs a token now.
        wait_s = limiter.token_s(now_s) if pending.deferred else 0.0
        if used > limiter.account_free:
            wait_s = max(wait_s, _wait_s(limiter, used, now_s))
        if wait_s <= 0:
            return now_s
        again_s = AGAIN_S * max(1.0, len(pending.feed.slowed) / AT_ONCE)
        return now_s + max(wait_s, again_s)

    def goes_on(self, pending: Pending) -> None:
        """A commit goes on now, or is no more: if it did not count for its host, it does now."""
        if pending.deferred:
            self.let_go(pending)
            pending.feed.limiter.spend(1)

    def sent(self, pending: Pending, now_s: float) -> None:
        """A commit was sent for the first time: it counts for its account."""
        account, limiter = pending.account, pending.feed.limiter
        used = account.used - (now_s - account.used_s) * limiter.account_per_s
        # What it took beyond its burst nobody else wanted.
        used = used + 1 if used > 0 else 1.0
        account.used = min(used, limiter.account_burst)
        account.used_s = now_s

    def defer(self, pending: Pending) -> bool:
        """A commit has to wait: it does not count for now → False where there is no room for that."""
        feed, size = pending.feed, pending.size
        if (
            feed.deferred_bytes + size > self._host_bytes
            or self.deferred_bytes + size > self._process_bytes
        ):
            return False
        pending.deferred = True
        feed.deferred_bytes += size
        pending.account.queues[feed.source.host].deferred_bytes += size
        self.deferred_bytes += size
        feed.limiter.give_back(1)
        return True

    def let_go(self, pending: Pending) -> None:
        """What was put off waits no longer."""
        if pending.deferred:
            pending.deferred = False
            feed = pending.feed
            feed.deferred_bytes -= pending.size
            pending.account.queues[feed.source.host].deferred_bytes -= pending.size
            self.deferred_bytes -= pending.size

    def _is_full(self, feed: Feed) -> bool:
        return (
            feed.deferred_bytes + FULL_BYTES > self._host_bytes
            or self.deferred_bytes + FULL_BYTES > self._process_bytes
        )


def _wait_s(limiter: Limiter, used: float, now_s: float) -> float:
    """How long an account that has used so much waits, if nobody else takes anything meanwhile."""
    wait_s = limiter.spare_s(now_s, long=False)
    over = used - (limiter.account_burst - 1)
    if over > 0:
        spare_s = limiter.spare_s(now_s, long=True)
        wait_s = max(wait_s, min(spare_s, over / limiter.account_per_s))
    return wait_s
