"""What does this process tell its operator, in the log and to Prometheus?

    dropped     each drop, as it happens: the first few of a second in the log, all of them to the ledger
    slowed      at each beat: which accounts are slowed, and which no longer
    numbers     at each beat: what became of every message, and how much there is of everything

It looks at the parts of the process, and moves nothing in them. No I/O and no clock.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Final

from common.conservation import Balance, serve
from common.event import Event
from common.verdict import Drop
from ingest import metrics
from ingest.account import Feed
from ingest.dialer import Dialer
from ingest.foreign import MOST_PERCENT
from ingest.lifecycle import State
from ingest.pipeline import Pipeline
from ingest.rejects import Ledger
from ingest.resolver import Resolver
from ingest.slowed import SlowedAccounts
from ingest.store import Store
from ingest.subscription import Subscription
from ingest.turns import Turns

DROPS_LOGGED_A_SECOND: Final = 20
_log = logging.getLogger("standpipe")


class Report:
    """What is told of one process at work."""

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        turns: Turns,
        resolver: Resolver,
        store: Store | None,
        dialer: Dialer,
        ledger: Ledger,
        subscriptions: Mapping[int, Subscription],
    ) -> None:
        """Args: subscriptions: to the hosts that are read, as they are at any time."""
        self._pipeline = pipeline
        self._turns = turns
        self._resolver = resolver
        self._store = store
        self._dialer = dialer
        self._ledger = ledger
        self._subscriptions = subscriptions
        self._slowed = SlowedAccounts()
        self._drops_to_log = DROPS_LOGGED_A_SECOND

    def balance(self) -> Balance:
        """What became of every message so far."""
        pipeline = self._pipeline
        return pipeline.counts.balance(
            inbox=self._turns.inbox, held=pipeline.held, in_flight=pipeline.in_flight
        )

    def dropped(
        self, feed: Feed, drop: Drop, event: Event | None, raw: bytes, wall_s: float
    ) -> None:
        """A message goes no further; see ingest.pipeline.Pipeline. wall_s: Unix seconds."""
        self._ledger.note(feed.source.host, drop, event, raw, wall_s)
        if self._drops_to_log > 0:
            self._drops_to_log -= 1
            _log.info(
                "dropped",
                extra={"fields": {
                    "reason": drop.reason.value, "host": feed.source.hostname,
                    "did": event.did if event is not None else "",
                    "seq": drop.seq, "detail": drop.detail,
                }},
            )  # fmt: skip

    def slowed(self, now_s: float) -> None:
        """Tell in the log which accounts are slowed, and which no longer. now_s: steady."""
        feeds = (host.feed for host in self._subscriptions.values())
        for slowed in self._slowed.look(feeds, now_s):
            _log.info(
                "account slowed no longer" if slowed.is_over
                else "account slowed: its commits wait so that the others of its host need not",
                extra={"fields": {
                    "did": slowed.did, "host": slowed.hostname, "seconds": round(slowed.seconds),
                    **({} if slowed.is_over else {
                        "waiting": slowed.waiting, "waiting_bytes": slowed.waiting_bytes,
                    }),
                }},
            )  # fmt: skip

    def numbers(self) -> None:
        """Hand the numbers to Prometheus."""
        serve(self.balance())
        metrics.add_counts(self._pipeline.counts)
        metrics.CLOCK_SUSPECT.set(self._pipeline.clock.suspect)
        ledger = self._ledger.counts
        for fate, counter in metrics.rejects.items():
            counter.inc(getattr(ledger, fate))
            setattr(ledger, fate, 0)
        metrics.REJECTS_WAITING.note(self._ledger.waiting_bytes)
        metrics.PAUSED.set(self._turns.paused)
        metrics.AHEAD.set(self._turns.ahead)
        metrics.add_slowed(self._turns.slowing)
        metrics.SLOWED.set(sum(len(host.feed.slowed) for host in self._subscriptions.values()))
        metrics.SLOWED_BYTES.note(self._pipeline.deferred_bytes)
        metrics.ACCOUNTS.set(self._pipeline.accounts)
        metrics.LOOKUPS_OPEN.set(self._resolver.open)
        if self._store is not None:
            metrics.UNWRITTEN.set(self._store.unwritten)
        metrics.LOOKUPS_HELD.set(self._resolver.held)
        metrics.IN_FLIGHT_BYTES.note(self._pipeline.in_flight_bytes)
        statuses = Counter(host.observed for host in self._subscriptions.values())
        for status in State:
            metrics.HOSTS.labels(status.value).set(statuses[status.value])
        feeds = [host.feed for host in self._subscriptions.values()]
        metrics.FOREIGN.set(sum(feed.foreign.percent > MOST_PERCENT for feed in feeds))
        metrics.DIALS_WAITING.set(self._dialer.waiting)
        metrics.DIALS_UNDER_WAY.set(self._dialer.under_way)
        self._drops_to_log = DROPS_LOGGED_A_SECOND
