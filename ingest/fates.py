"""What does one host's failure or return say of others?

    most hosts are down    the fault is likely ours: a few go on asking often, for all of them
    one comes back         those that were lost together with it are asked soon, spread over minutes

So hosts that have been away for a day are back within minutes, and nobody is asked often for it. What
counts is who was alive lately: a network has many hosts that are gone for good.

Values and `now_s` in, values out. Source: lesson 44.
"""

from __future__ import annotations

from math import inf
from typing import Final

LATELY_S: Final = 7 * 86_400.0
"""Who was alive within so long of the last sign of life of any host counts."""
TOGETHER_S: Final = 600.0
"""Hosts lost within so long of each other may have been lost for one reason."""
AWAY_S: Final = 600.0
"""The return of a host that was away for less says nothing of others."""
CALL_AGAIN_S: Final = 900.0
"""So long a host that was called for is not called for again."""
PROBES: Final = 10
"""Hosts that go on asking in an outage."""
PROBE_S: Final = 120.0
"""How often they do, at least."""


class Fates:
    """The hosts of one process, by number."""

    def __init__(self) -> None:
        """No host is known."""
        self._alive_s: dict[int, float] = {}
        self._newest_s = -inf
        self._lost_s: dict[int, float] = {}
        self._called_s: dict[int, float] = {}
        self._probes: set[int] = set()
        self._counted_s = -inf
        self._is_outage = False

    def know(self, host: int, alive_s: float) -> None:
        """A host was alive at that time, as is written."""
        self._alive_s[host] = max(alive_s, self._alive_s.get(host, -inf))
        self._newest_s = max(self._newest_s, alive_s)

    def forget(self, host: int) -> None:
        """A host is read no longer."""
        self._alive_s.pop(host, None)
        self._lost_s.pop(host, None)
        self._called_s.pop(host, None)
        self._probes.discard(host)

    def lost(self, host: int, now_s: float) -> float:
        """A host does not answer → how long it may wait at most, in seconds."""
        self._lost_s.setdefault(host, now_s)
        if not self.is_outage(now_s) or host not in self._alive_s:
            self._probes.discard(host)
            return inf
        if host not in self._probes and len(self._probes) < PROBES:
            self._probes.add(host)
        return PROBE_S if host in self._probes else inf

    def back(self, host: int, now_s: float) -> list[int]:
        """A host has answered → those to be asked soon."""
        self.know(host, now_s)
        self._probes.discard(host)
        self._called_s.pop(host, None)
        lost_s = self._lost_s.pop(host, now_s)
        if now_s - lost_s < AWAY_S:
            return []
        called = [
            other
            for other, at_s in self._lost_s.items()
            if abs(at_s - lost_s) <= TOGETHER_S
            and now_s - self._called_s.get(other, -inf) > CALL_AGAIN_S
        ]
        self._called_s.update(dict.fromkeys(called, now_s))
        return called

    def is_outage(self, now_s: float) -> bool:
        """Whether most of those that were alive lately are down. Looked at anew each ten seconds."""
        if now_s - self._counted_s >= 10.0:
            self._counted_s = now_s
            since_s = self._newest_s - LATELY_S
            lately = [host for host, alive_s in self._alive_s.items() if alive_s >= since_s]
            down = sum(host in self._lost_s for host in lately)
            self._is_outage = bool(lately) and 2 * down >= len(lately)
            if not self._is_outage:
                self._probes.clear()
        return self._is_outage
