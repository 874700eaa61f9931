"""May this happen now, or when?

A bucket of so many tokens, one more each so many seconds. Who takes one that is not there yet is
told when it will be, and it is kept for him: the next one comes after it. So what waits is woken
once, at its time, and nobody is asked twice.

A bucket is one number, the time at which it will be full again; full ones are forgotten, which
changes nothing. No I/O, no clock.

Source: S-SYN-10, S-IDE-09, S-ACC-19, S-IDN-10.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final, NamedTuple

BUCKETS_MAX: Final = 50_000
"""Buckets remembered, about 200 bytes each. Beyond it the longest untouched one counts as full: who
fills them all with names of his own still has the one of his host."""
_LOOKED_AT: Final = 2
"""Old buckets looked at with each new one."""


class Rate(NamedTuple):
    """A bucket's size. burst: tokens in a full one. every_s: one more, in seconds."""

    burst: int
    every_s: float


class Buckets:
    """Buckets of one size, by name. Times are seconds of one steady clock."""

    __slots__ = ("_burst_s", "_every_s", "_full_s", "_limit")

    def __init__(self, rate: Rate, limit: int = BUCKETS_MAX) -> None:
        self._every_s = rate.every_s
        self._burst_s = rate.every_s * (rate.burst - 1)
        self._limit = limit
        self._full_s: dict[Hashable, float] = {}

    def __len__(self) -> int:
        return len(self._full_s)

    def take(self, name: Hashable, now_s: float) -> float:
        """Take a token → when it is there, in seconds: `now_s`, or later."""
        full_s = max(self._full_s.pop(name, now_s), now_s)
        self._full_s[name] = full_s + self._every_s
        if len(self._full_s) > 1:
            self._forget(now_s)
        return max(now_s, full_s - self._burst_s)

    def give_back(self, name: Hashable) -> None:
        """What a token was taken for will not happen."""
        full_s = self._full_s.get(name)
        if full_s is not None:
            self._full_s[name] = full_s - self._every_s

    def _forget(self, now_s: float) -> None:
        """Let go of the longest untouched ones that are full, or are too many."""
        for _ in range(_LOOKED_AT):
            name, full_s = next(iter(self._full_s.items()))
            if full_s > now_s and len(self._full_s) <= self._limit:
                return
            del self._full_s[name]
            if not self._full_s:
                return


class EventRates:
    """How often an account's host may say what is not a commit, in buckets of each kind.

    One for each account and host, so that nobody can use up what is another's; and one for each
    host, so that a host gains nothing by naming many accounts.
    Source: S-SYN-10, S-IDE-09, S-ACC-19.
    """

    __slots__ = ("_accounts", "_hosts")

    def __init__(self, account: Mapping[int, Rate], host: Mapping[int, Rate]) -> None:
        """Args: account, host: for each kind."""
        self._accounts = {kind: Buckets(rate) for kind, rate in account.items()}
        self._hosts = {kind: Buckets(rate) for kind, rate in host.items()}

    def take(self, kind: int, did: str, host: int, now_s: float) -> float:
        """An event of this kind wants to go on → when it may: `now_s`, or later."""
        return max(
            self._accounts[kind].take((did, host), now_s), self._hosts[kind].take(host, now_s)
        )

    def give_back(self, kind: int, did: str, host: int) -> None:
        """One that had to wait will not go on."""
        self._accounts[kind].give_back((did, host))
        self._hosts[kind].give_back(host)
