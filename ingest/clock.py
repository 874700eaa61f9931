"""Do hosts write revs from the future, or is it our clock that is behind?

One host ahead of everybody is that host's fault. When most of the hosts that are heard are ahead
at once, the fault is ours, and nothing may be dropped for it. What says that a host's clock agrees
with ours is a rev of about now; an old one, of a backlog that is being read, says nothing.

    host was right lately      a rev of its from the future is a lie, and dropped at once
    most hosts are not         our clock is suspect: all such revs are held for as long as it is
    else                       held for a short grace, so that others are heard too; then dropped,
                               and later ones at once until the host has been quiet for a window

Most are: at least SUSPICIOUS_HOSTS, and more than half of those heard within WINDOW_S; where two
hosts are heard at all, both. One host alone can never be told from a liar. A clock of ours that is
ahead of the hosts' drops nothing: it lets a host be wrong by as much more, that is all.

Durations are not measured by the clock in question: `now_s` is steady, and of the system's clock,
which may be set at any time, only the distance from that is kept. No I/O.

Source: S-VAL-10, S-REV-04.
"""

from __future__ import annotations

from typing import Final

from common.syntax import tid_text

WINDOW_S: Final = 60.0
"""How long what a host said of the time counts, in seconds: long enough that the hosts of a small
network, which say something every few seconds, are heard together."""
SUSPICIOUS_HOSTS: Final = 3
"""So many must be ahead at once: two belong to one person more easily than three, and this is
beside the need to be more than half."""
NEAR_S: Final = 60.0
"""A rev so close to our clock says that the two agree, in seconds. Well below what is borne ahead of
it (ingest.steps.REV_SKEW_S): a clock that drifts is disbelieved before anything is held against it."""
STEP_S: Final = 1.0
"""A clock that moves by more against the steady one was set, in seconds; by less it is slewed."""
AGAIN_S: Final = 1.0
"""How often at most all hosts are counted, in seconds, and how often it is noted that one is right."""


class Clock:
    """What the hosts of one process say of the time."""

    def __init__(self) -> None:
        self.distance_s = 0.0
        """How far the system's clock is ahead of the steady one, in seconds."""
        self._ahead: dict[int, tuple[float, float]] = {}
        """Hosts that were ahead within the window: the first time, and the last."""
        self._right: dict[int, float] = {}
        """Hosts that were right, and when they last were."""
        self._near = ("", "")
        self._near_s = self._counted_s = float("-inf")
        self.suspect = False
        """What `is_suspect` said last."""

    def wall_s(self, now_s: float) -> float:
        """Steady time → Unix seconds by the system's clock."""
        return now_s + self.distance_s

    def set(self, distance_s: float) -> None:
        """How far the system's clock is ahead of the steady one, in seconds.

        Once it was set, what hosts were heard to say before tells nothing.
        """
        if abs(distance_s - self.distance_s) > STEP_S:
            self._ahead.clear()
            self._right.clear()
            self._near_s = self._counted_s = float("-inf")
        self.distance_s = distance_s

    def bears(self, host: int, now_s: float, grace_s: float) -> bool:
        """A rev of this host lies in the future → whether it may wait until it does not.

        Source: S-VAL-10, where the fault is its host's.
        """
        if now_s - self._right.get(host, float("-inf")) <= WINDOW_S:
            return False
        first_s, last_s = self._ahead.get(host, (now_s, float("-inf")))
        if now_s - last_s > WINDOW_S:
            first_s = now_s
            # One more: it may be the one that tells.
            self._counted_s = float("-inf")
        self._ahead[host] = first_s, now_s
        return self.is_suspect(now_s) or now_s - first_s < grace_s

    def is_not_ahead(self, host: int, rev: str, now_s: float) -> None:
        """A rev of this host that does not. Cheap: a host is noted once a second at most."""
        if now_s - self._right.get(host, float("-inf")) < AGAIN_S:
            return
        if abs(now_s - self._near_s) > AGAIN_S:
            # TIDs sort as text in time order.
            self._near_s = now_s
            self._near = self._tid(now_s - NEAR_S), self._tid(now_s + NEAR_S)
        if self._near[0] <= rev <= self._near[1]:
            self._right[host] = now_s

    def is_suspect(self, now_s: float) -> bool:
        """Whether it is ours that is wrong."""
        if abs(now_s - self._counted_s) >= AGAIN_S:
            self._counted_s = now_s
            self.suspect = bool(self._ahead) and self._counts_as_suspect(now_s)
        return self.suspect

    def _counts_as_suspect(self, now_s: float) -> bool:
        since_s = now_s - WINDOW_S
        self._ahead = {host: times for host, times in self._ahead.items() if times[1] >= since_s}
        self._right = {host: at_s for host, at_s in self._right.items() if at_s >= since_s}
        ahead = len(self._ahead.keys() - self._right.keys())
        heard = len(self._ahead.keys() | self._right.keys())
        return ahead * 2 > heard and (ahead >= SUSPICIOUS_HOSTS or ahead == heard == 2)

    def _tid(self, now_s: float) -> str:
        return tid_text(max(0, int(self.wall_s(now_s) * 1e6)) << 10)
