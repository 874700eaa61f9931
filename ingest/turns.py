"""Whose message is judged next, and who may go on reading?

Hosts that have messages take turns, a few messages each, so that a flood from one delays the
others by one turn. After some milliseconds the loop gets its own. Sockets stop being read

    by bytes   a host's own, and, when all together hold too much, those that hold more than their share
    by rate    until a time, when a host has sent all that it may (ingest.limiter, ingest.slowing)
    by number  while too many of a host's events are finished above one that is not

and while it is for one of the last two, what was read already waits, too.

A turn begins at once after a silence. Otherwise it waits until the last one is `pace_s` ago, so
that what arrives meanwhile is judged in one go: the same commit costs 70 µs behind another one,
and twice to three times as much in a processor that has slept for two milliseconds.

The clock is handed in. The loop is reached through callbacks.

Source: S-RAT-06.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from common.limits import EventLimits
from ingest import metrics
from ingest.config import Limits
from ingest.pipeline import Pipeline
from ingest.slowing import Slowing
from ingest.subscription import Subscription

MESSAGES_A_TURN: Final = 16
BALANCE_S: Final = 0.02
"""How often at the most all hosts are looked at while none is paused, in seconds. A host over its
own bound is paused by itself, as soon as its messages arrive."""
SMALL_SHARE_BYTES: Final = 256_000
"""A host that holds no more than this is read on even while the process holds too much."""


class Turns:
    """The hosts that have messages waiting, and those that are not read at present."""

    def __init__(
        self,
        pipeline: Pipeline,
        limits: Limits,
        *,
        again: Callable[[float], None],
        done: Callable[[], None],
        wake_after: Callable[[float], None],
        now_s: Callable[[], float],
        spent_s: Callable[[], float],
    ) -> None:
        """Nobody waits yet.

        Args:
            again: have `take` called after so many seconds; 0: in the loop's next round.
            done: called after each turn; what has been judged may leave.
            wake_after: have `wake` called after so many seconds.
            now_s: the relay's steady clock. spent_s: a finer one, to measure turns with.
        """
        self._pipeline = pipeline
        self._limits = limits
        self._again = again
        self._done = done
        self._took_s = float("-inf")
        self._balanced_s = float("-inf")
        self._now_s = now_s
        self._spent_s = spent_s
        self._ready: deque[Subscription] = deque()
        self._paused: set[Subscription] = set()
        self._ahead: set[Subscription] = set()
        self._parked: set[Subscription] = set()
        """With messages, but out of turn."""
        self.slowing = Slowing(wake_after)
        self._scheduled = False
        self._blocked = False
        self.hosts: set[Subscription] = set()

    @property
    def paused(self) -> int:
        """Hosts that are read no further until they, or all, hold less."""
        return len(self._paused)

    @property
    def ahead(self) -> int:
        """Hosts that are read no further until their oldest event is finished."""
        return len(self._ahead)

    @property
    def inbox(self) -> int:
        """Messages that nobody has taken in hand yet."""
        return sum(len(host.inbox) for host in self.hosts)

    def has_messages(self, host: Subscription) -> None:
        """A host's inbox is no longer empty."""
        self._ready.append(host)
        self._schedule(max(0.0, self._took_s + self._limits.pace_s - self._spent_s()))

    def pause(self, host: Subscription) -> None:
        """A host holds too much: stop reading it until it does not."""
        host.pause()
        self._paused.add(host)

    def slow(self, host: Subscription, until_s: float, why: str) -> None:
        """Take nothing more from a host until then.

        Args: until_s: steady seconds. why: for those who look, see ingest.limiter.WHYS.
        """
        host.pause()
        self.slowing.slow(host, until_s, why, self._now_s())

    def set_limits(self, host: Subscription, limits: EventLimits) -> None:
        """A host has these limits; if they are others, what waited for the old ones goes on."""
        if host.feed.limiter.set(limits, self._now_s()):
            if self.slowing.end(host, self._now_s()):
                self._go_on(host)
            self._pipeline.hurry(host.feed)
            self._schedule()

    def wake(self) -> None:
        """The time has come that was asked for with `wake_after`."""
        for host in self.slowing.due(self._now_s()):
            self._go_on(host)

    def forget(self, host: Subscription) -> None:
        """A host is read no longer."""
        self.hosts.discard(host)
        self._paused.discard(host)
        self._ahead.discard(host)
        self._parked.discard(host)
        self.slowing.end(host, self._now_s())

    def take(self) -> None:
        """Judge messages until the turn is over."""
        self._scheduled = False
        now_s = self._now_s()
        self._took_s = self._spent_s()
        ends_s = self._took_s + self._limits.turn_s
        ready, pipeline, limits = self._ready, self._pipeline, self._limits
        while ready or pipeline.has_more:
            if pipeline.in_flight_bytes > limits.in_flight_bytes:
                # Persist is behind or away; its next answer goes on from here.
                self._blocked = True
                break
            if pipeline.has_more:
                pipeline.judge_more(now_s)
            if ready:
                self._take_of(ready.popleft(), now_s, ends_s)
            if (ready or pipeline.has_more) and self._spent_s() > ends_s:
                self._schedule()
                break
        self._done()
        # All hosts are looked at, so not with every turn, unless one of them waits to be read.
        if self._paused or self._took_s - self._balanced_s > BALANCE_S:
            self.balance()

    def _take_of(self, host: Subscription, now_s: float, ends_s: float) -> None:
        """Judge some messages of a host, and have it wait for its next turn, or out of turn."""
        if host in self.slowing.until_s or host in self._ahead:
            # It may have a new connection by now.
            host.pause()
            self._parked.add(host)
            return
        limiter, upstream = host.feed.limiter, host.feed.upstream
        wanted = min(MESSAGES_A_TURN, len(host.inbox))
        may = left = limiter.take(wanted, now_s)
        while left and host.inbox:
            left -= 1
            host.handle_one(now_s)
            if self._spent_s() > ends_s:
                break
        if left:
            limiter.give_back(left)
        if upstream.ahead > self._limits.ahead_events:
            host.pause()
            self._ahead.add(host)
        elif may < wanted and limiter.token_s(now_s) > 0:
            # Not if what was taken has turned out not to count.
            self.slow(host, *limiter.wait(now_s))
        if host.inbox:
            if host in self.slowing or host in self._ahead:
                self._parked.add(host)
            else:
                self._ready.append(host)

    def _go_on(self, host: Subscription) -> None:
        """One thing less keeps a host from being read."""
        if host in self.slowing or host in self._ahead:
            return
        if host not in self._paused:
            host.resume()
        if host in self._parked:
            self._parked.discard(host)
            if host.inbox:
                self._ready.append(host)
                self._schedule()

    def room(self) -> None:
        """Something was finished, or left: go on with what stood still for lack of room."""
        if self._blocked and self._pipeline.in_flight_bytes <= self._limits.in_flight_bytes:
            self._blocked = False
            self._schedule()
        elif self._pipeline.has_more:
            self._schedule()
        if self._paused or self._ahead:
            self.balance()

    def balance(self) -> None:
        """Stop reading the hosts that hold too much, and read on those that hold little again."""
        self._balanced_s = self._spent_s()
        limits = self._limits
        inbox_bytes = sum(host.inbox_bytes for host in self.hosts)
        total = self._pipeline.unfinished_bytes + inbox_bytes
        metrics.UNFINISHED.note(total)
        metrics.INBOX.note(inbox_bytes)
        spacious = total < limits.process_low_bytes
        share = limits.host_high_bytes if spacious else self._share()
        most = share if total > limits.process_high_bytes else limits.host_high_bytes
        for host in self.hosts:
            if host.unfinished_bytes > most:
                self.pause(host)
        self.slowing.hide(self._now_s())
        for host in list(self._ahead):
            if host.feed.upstream.ahead <= limits.ahead_events * 3 // 4:
                self._ahead.discard(host)
                self._go_on(host)
        if not self._paused:
            return
        for host in list(self._paused):
            held = host.unfinished_bytes
            if held <= SMALL_SHARE_BYTES or (
                held < limits.host_low_bytes and (spacious or held <= share * 3 // 4)
            ):
                self._paused.discard(host)
                self._go_on(host)

    def _share(self) -> int:
        """What each host may hold, in bytes, so that the process comes to its lower bound.

        Who holds less leaves the rest to the others: so those that fill the process stop, and
        nobody else.
        """
        # What waits for other accounts' sake is nobody's share, and has its own bounds.
        room = self._limits.process_low_bytes - self._pipeline.deferred_bytes
        sharing = len(self.hosts)
        for held in sorted(host.unfinished_bytes for host in self.hosts):
            if held * sharing > room:
                return max(SMALL_SHARE_BYTES, room // sharing)
            room -= held
            sharing -= 1
        return self._limits.host_high_bytes

    def _schedule(self, after_s: float = 0.0) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._again(after_s)
