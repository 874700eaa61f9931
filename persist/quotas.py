"""How many accounts has each host, and how many may it have?

    new account ─▶ as many as its limit are live? ─▶ it is held `throttled`
    limit raised, or an account deleted or moved away ─▶ room ─▶ those held longest are released

Live are the accounts that are not deleted; those over the limit take no room. What was live before a
limit was lowered stays so. An account that moves to a full host is not held: it was somewhere before.

Numbers in, numbers out; who releases whom is persist/wishes.py's.

Source: S-RAT-05, S-RAT-07; reference relay, section 1.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from common.account_state import counts
from common.envelope import AccountState
from persist.checkpoint import KnownHost


class HostCount(NamedTuple):
    """Accounts of a host. live: all that are not deleted. over: those of them over its limit."""

    host: int
    live: int
    over: int


class Quotas:
    """All hosts."""

    def __init__(self) -> None:
        self._limits: dict[int, int] = {}
        self._live: dict[int, int] = {}
        self._over: dict[int, int] = {}

    def begin(self, found: Iterable[HostCount]) -> None:
        """What the database has before any event of this process."""
        for host, live, over in found:
            self._live[host] = live
            if over:
                self._over[host] = over

    def know(self, hosts: Iterable[KnownHost]) -> None:
        """What each may have now."""
        self._limits = {host.id: host.account_limit for host in hosts}

    def __contains__(self, host: int) -> bool:
        """Whether anything is known of it."""
        return host in self._limits

    def is_full(self, host: int) -> bool:
        """Whether one more account is one too many; a host that has no row has no limit."""
        limit = self._limits.get(host)
        return limit is not None and self._live.get(host, 0) - self._over.get(host, 0) >= limit

    def move(self, before: AccountState, after: AccountState) -> list[tuple[int, int]]:
        """An account's state has changed → how many more each host has."""
        was, now = counts(before), counts(after)
        if before.over_limit and was:
            self._over[was] = self._over.get(was, 0) - 1
            if self._over[was] <= 0:
                del self._over[was]
        if after.over_limit and now:
            self._over[now] = self._over.get(now, 0) + 1
        if was == now:
            return []
        changes = [(host, by) for host, by in ((was, -1), (now, 1)) if host]
        for host, by in changes:
            self._live[host] = self._live.get(host, 0) + by
        return changes

    def live(self, host: int) -> int:
        """Its accounts that are not deleted."""
        return self._live.get(host, 0)

    def room(self) -> Iterator[tuple[int, int]]:
        """Hosts with accounts over their limit that could be released now: (host, how many)."""
        for host, over in self._over.items():
            limit = self._limits.get(host)
            room = over if limit is None else min(over, limit - self._live.get(host, 0) + over)
            if room > 0:
                yield host, room
