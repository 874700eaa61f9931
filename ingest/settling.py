"""What becomes of one event when it is looked at: does it leave, or what does it wait for?

    too many of its kind?  no document?  ──▶ judge ──▶ Accept             sent to persist
                                                 ├───▶ Drop               finished; or, if it is from
                                                 │                        the future, it may wait
                                                 ├───▶ NeedFreshIdentity  look up, and wait
                                                 └───▶ NeedStatus         ask its host, and wait

An event that waits is looked at again, from the top, when what it waits for may be there. What it
is that must be asked is asked here; who waits where, and how long, is ingest.waiting's.

No I/O, no clock; times are steady (common.steady), only `clock` knows the system's.

Source: S-IDN-09, S-IDN-10, S-AUT-03, S-ACC-09, S-ACC-16 to 19, S-SYN-10, S-IDE-03, S-IDE-09.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from common.envelope import Kind, Mark
from common.rates import Buckets, EventRates
from common.verdict import Drop, DropReason
from ingest.account import Cause, Pending
from ingest.clock import Clock
from ingest.config import Limits
from ingest.counts import Counts
from ingest.did_document import NotFound
from ingest.fairness import Fairness
from ingest.in_flight import InFlight
from ingest.inquiry import Inquiries, Told
from ingest.judge import (
    Accept,
    Known,
    NeedFreshIdentity,
    NeedStatus,
    Verdict,
    counts_as_deleted,
    judge,
    judge_early,
)
from ingest.node_memory import NodeMemory
from ingest.originated import account_event
from ingest.questions import Need

_COMMIT: Final = Kind.COMMIT
_OURS: Final = int(Mark.OURS)
LOCAL_KNOWN_S: Final = 0.5
"""How long persist's word that this relay holds an account back is believed, in seconds. What is dropped
for it never reaches persist, so that an account which was released would never be heard of: after
so long the next event goes there as if there were no such word, and comes back if there is. One
event of such an account in so many seconds costs a judging."""


class Settling:
    """Looks at the events of one process, one at a time."""

    def __init__(
        self,
        limits: Limits,
        counts: Counts,
        clock: Clock,
        in_flight: InFlight,
        memory: NodeMemory | None,
        fairness: Fairness,
        *,
        ask: Callable[[str, int, float, Need], None],
        ask_status: Callable[[str, int], None],
        began: Callable[[Pending], None],
        dropped: Callable[[Pending, Drop], None],
    ) -> None:
        """Args: began: told of a message that we say ourselves. dropped: told of the end of an
        event; the others: see ingest.pipeline.Pipeline.
        """
        self._limits = limits
        self._counts = counts
        self._clock = clock
        self._in_flight = in_flight
        self._memory = memory
        self._fairness = fairness
        self._ask = ask
        self._began = began
        self._finish_dropped = dropped
        self._inquiries = Inquiries(ask_status, limits.status_again_s)
        self._rates = EventRates(limits.account_rates, limits.host_rates)
        self._refreshes = Buckets(limits.refresh_rate)

    def told(self, did: str, host: int, told: Told) -> None:
        """A host was asked how an account is, and has answered, or does not."""
        self._inquiries.told(did, host, told)

    def given_up(self, pending: Pending) -> None:
        """An event that waited for its turn among too many will not have it."""
        if pending.due_s:
            event = pending.event
            self._rates.give_back(event.kind, event.did, pending.feed.source.host)

    def settle(self, pending: Pending, now_s: float) -> Cause | None:
        """Judge an event → None when it has left; else what it waits for, which is under way."""
        account, event, host = pending.account, pending.event, pending.feed.source.host
        state = account.state
        if state.local is not None and now_s - account.told_s > LOCAL_KNOWN_S:
            account.state = state._replace(local=None)
        if event.kind is not _COMMIT:
            # S-SYN-10, S-IDE-09, S-ACC-19. Asked once, however often it is judged.
            if not pending.due_s:
                pending.due_s = self._rates.take(event.kind, event.did, host, now_s)
            if pending.due_s > now_s:
                if self._waits_too_long(pending):
                    self.given_up(pending)
                    drop = Drop(DropReason.RATE_LIMITED, "would wait too long", event.seq)
                    self._finish_dropped(pending, drop)
                    return None
                return Cause.RATE
        elif pending.judged is None:
            pending.due_s = self._fairness.due_s(pending, now_s)
            if pending.due_s > now_s:
                return Cause.RATE
            self._fairness.goes_on(pending)
        identity = account.identity
        if identity is None:
            early = judge_early(event, account.state, self._clock.wall_s(now_s))
            if early is not None:
                return self._dropped(pending, early, now_s)
            # What was kept from before this event is no use where the event says that it changed.
            need = Need.NEWER if event.kind is Kind.IDENTITY else Need.FIRST
            return self._look_up(pending, now_s, need)
        fresh = account.asked_s >= pending.received_s
        # S-IDE-03.
        if event.kind is Kind.IDENTITY and not fresh:
            return self._look_up(pending, now_s, Need.NEWER)
        clock = self._clock
        verdict: Verdict = judge(
            event,
            identity,
            account.state,
            pending.feed.source,
            now_s=now_s + clock.distance_s,
            fresh=fresh,
            asked=False,
            memory=self._memory,
            checked=self._counts.checked,
        )
        if type(verdict) is NeedStatus:
            told = self._inquiries.answer(event.did, host, pending.received_s)
            if told is None:
                self._inquiries.ask(event.did, host)
                return Cause.STATUS
            self._adopt(pending, told, now_s)
            verdict = self._judge_again(pending, identity, now_s, fresh=fresh)
        cause = None
        if type(verdict) is Accept:
            if event.rev is not None:
                clock.is_not_ahead(host, event.rev, now_s)
            if event.kind is _COMMIT and pending.judged is None:
                self._fairness.sent(pending, now_s)
            self._in_flight.send(pending, verdict, clock.distance_s)
        elif type(verdict) is NeedFreshIdentity:
            return self._look_up(pending, now_s, Need.NEWER)
        else:
            assert type(verdict) is Drop
            cause = self._dropped(pending, verdict, now_s)
        if type(identity) is NotFound and fresh:
            self._bury(pending, identity, now_s)
        if now_s - max(account.asked_s, account.tried_s) > self._limits.stale_s:
            # It goes on being used until the newer one is there.
            self._look_up(pending, now_s, Need.REFRESH)
        return cause

    def _waits_too_long(self, pending: Pending) -> bool:
        """Whether an event that is no commit goes rather than keep its host's cursor behind for it.

        The newest #account stays, as it is how the account is (S-ACC-19).
        """
        if pending.due_s - pending.received_s <= self._limits.rate_s:
            return False
        if pending.event.kind is not Kind.ACCOUNT:
            return True
        queue = pending.account.queues.get(pending.feed.source.host)
        return queue is not None and any(
            other.event.kind is Kind.ACCOUNT and other is not pending for other in queue.events
        )

    def _judge_again(
        self, pending: Pending, identity: Known, now_s: float, *, fresh: bool
    ) -> Verdict:
        """With what the account's host has said."""
        return judge(
            pending.event,
            identity,
            pending.account.state,
            pending.feed.source,
            now_s=self._clock.wall_s(now_s),
            fresh=fresh,
            asked=True,
            memory=self._memory,
            checked=self._counts.checked,
        )

    def _dropped(self, pending: Pending, drop: Drop, now_s: float) -> Cause | None:
        """An event is to be dropped; but one from the future only if that is its host's fault."""
        if drop.reason is DropReason.REV_IN_FUTURE and self._clock.bears(
            pending.feed.source.host, now_s, self._limits.grace_s
        ):
            return Cause.CLOCK
        self._finish_dropped(pending, drop)
        return None

    def _look_up(self, pending: Pending, now_s: float, need: Need) -> Cause:
        """Ask for the document of an event's account, not too soon after the last time.

        What needs the answer waits for it: dropping it instead would let a stranger's events
        use up the look-ups that the account's own need.
        """
        account, host = pending.account, pending.feed.source.host
        if host in account.asking and need >= account.need:
            return Cause.DOCUMENT
        delay_s = 0.0
        if not account.asking:
            account.need = need
            begin_s = max(now_s, account.tried_s + self._limits.refresh_s)
            if need is Need.NEWER:
                begin_s = max(begin_s, self._refreshes.take(host, now_s))
            delay_s = begin_s - now_s
            account.tried_s = begin_s
        account.need = min(need, account.need)
        # Another host may have asked, but it waits in its own line, which may be long.
        if host not in account.asking:
            account.asking += (host,)
        self._ask(account.did, host, delay_s, need)
        return Cause.DOCUMENT

    def _adopt(self, pending: Pending, told: Told, now_s: float) -> None:
        """Say what the host says of an account, if that is new. Source: S-ACC-09, S-ACC-18.

        No word from the host leaves the status as it is (S-ACC-17), and so does a bare "no".
        """
        state = pending.account.state
        if told.known and (told.active or told.status not in (None, state.status)):
            self._originate(pending, now_s, active=told.active, status=told.status)

    def _bury(self, pending: Pending, identity: Known, now_s: float) -> None:
        """A tombstoned DID counts as deleted, and that is said. Source: S-ACC-16, S-ACC-09."""
        if counts_as_deleted(pending.event.did, identity, pending.account.state):
            self._originate(pending, now_s, active=False, status="deleted")

    def _originate(
        self, pending: Pending, now_s: float, *, active: bool, status: str | None
    ) -> None:
        """Say ourselves how an event's account is. Whatever is sent later goes out behind it."""
        account, feed, clock = pending.account, pending.feed, self._clock
        event = account_event(account.did, active=active, status=status, wall_s=clock.wall_s(now_s))
        # Not a number of its own: it names the event that made us ask.
        event.seq = pending.event.seq
        ours = Pending(event, feed, None, account, now_s)
        self._began(ours)
        self._counts.originated["account"] += 1
        after = account.state._replace(active=active, status=status)
        self._in_flight.send(ours, Accept(after, _OURS), clock.distance_s)
