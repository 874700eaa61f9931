"""Who is not read until when, and why?

    slow(host, until, why) ──▶ its socket rests, its messages stay where they are ──▶ due: read on

For whoever finds that a host has to wait: its limits (ingest.limiter), or the budget of what it said
long ago. The last word counts. Everybody sees it on the host's feed, a little longer than it lasts: a host
at its limit waits a moment, many times a second, and would be shown now as limited and now as not.

No I/O, no clock; times are steady. Who is woken, and what is read first, is ingest.turns'.

Source: S-RAT-06; lessons section 3, complaints 1 and 4.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import count
from math import ceil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ingest.subscription import Subscription

SHOWN_S: Final = 1.0
"""So long after its end a wait is shown, in seconds."""


class Slowing:
    """The hosts of one process that wait for a time.

    until_s: of each that waits. waited_s: seconds that hosts have waited, by why, since somebody took these numbers.
    """

    def __init__(self, wake_after: Callable[[float], None]) -> None:
        """Nobody waits. wake_after: have `due` asked after so many seconds."""
        self._wake_after = wake_after
        self.until_s: dict[Subscription, float] = {}
        self._since_s: dict[Subscription, float] = {}
        self._shown: set[Subscription] = set()
        self._alarms: list[tuple[float, int, Subscription]] = []
        self._numbers = count()
        self._armed_s = float("inf")
        self.waited_s: defaultdict[str, float] = defaultdict(float)

    def __contains__(self, host: Subscription) -> bool:
        """Whether a host waits."""
        return host in self.until_s

    def slow(self, host: Subscription, until_s: float, why: str, now_s: float) -> None:
        """Have a host wait. Args: why: see ingest.limiter.WHYS."""
        self._end(host, now_s)
        self.until_s[host] = until_s
        self._since_s[host] = now_s
        self._shown.add(host)
        feed = host.feed
        feed.limited_by = why
        # Whole seconds: what is shown is written down for each change.
        feed.limited_until_s = float(ceil(until_s))
        heapq.heappush(self._alarms, (until_s, next(self._numbers), host))
        self._arm(now_s)

    def end(self, host: Subscription, now_s: float) -> bool:
        """Have a host wait no longer → whether it did. Nothing more is shown of it."""
        waited = self._end(host, now_s)
        self._shown.discard(host)
        host.feed.limited_by = None
        host.feed.limited_until_s = 0.0
        return waited

    def due(self, now_s: float) -> list[Subscription]:
        """The hosts whose time has come."""
        due = []
        alarms = self._alarms
        while alarms and alarms[0][0] <= now_s:
            until_s, _, host = heapq.heappop(alarms)
            if self.until_s.get(host) == until_s:
                self._end(host, now_s)
                due.append(host)
        # However early this timer went off: another one is needed for what is left.
        self._armed_s = float("inf")
        self._arm(now_s)
        return due

    def hide(self, now_s: float) -> None:
        """Show no longer what ended a while ago."""
        for host in list(self._shown):
            if host not in self.until_s and host.feed.limited_until_s + SHOWN_S < now_s:
                self.end(host, now_s)

    def counts(self) -> Counter[str]:
        """Hosts that are shown as slowed, by why."""
        return Counter(host.feed.limited_by or "" for host in self._shown)

    def _end(self, host: Subscription, now_s: float) -> bool:
        if self.until_s.pop(host, None) is None:
            return False
        since_s = self._since_s.pop(host)
        self.waited_s[host.feed.limited_by or ""] += max(0.0, now_s - since_s)
        return True

    def _arm(self, now_s: float) -> None:
        alarms = self._alarms
        while alarms and self.until_s.get(alarms[0][2]) != alarms[0][0]:
            heapq.heappop(alarms)
        if alarms and alarms[0][0] < self._armed_s:
            self._armed_s = alarms[0][0]
            self._wake_after(max(0.0, self._armed_s - now_s))
