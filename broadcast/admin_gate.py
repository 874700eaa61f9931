"""May this address try a password, and how many wrong ones has it had?

    request ─▶ may_try ─▶ the password ─▶ right: in        wrong: `wrong`, 401
                  └─▶ 429 with the time to come again, and nothing is looked at

Each address has a bucket of wrong passwords, and all have one together. Once that of all is empty,
an address that has had a wrong one is refused at once; one that never had is always looked at. So who
knows the password gets in, whatever others try.

Each broadcaster counts for itself: with n of them somebody may try n times as often.

No I/O, no clock: times are handed in, seconds of one steady clock.

Source: lessons §1, admin brute force.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from broadcast.client import site
from common.rates import Buckets, Rate

OF_ADDRESS: Final = Rate(burst=10, every_s=30.0)
"""Wrong passwords of one address: ten at once, then two a minute."""
OF_ALL: Final = Rate(burst=1000, every_s=1.0)
"""Of all addresses together, before each has one try only."""
_ADDRESSES_MAX: Final = 50_000
_ALL: Final = ""


class Gate:
    """Who has tried wrong passwords."""

    def __init__(self, of_address: Rate = OF_ADDRESS, of_all: Rate = OF_ALL) -> None:
        self._of_address = Buckets(of_address, _ADDRESSES_MAX)
        self._of_all = Buckets(of_all)
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._forget_s = of_address.burst * of_address.every_s

    def may_try(self, address: str, now_s: float) -> float:
        """How long this address has to wait before its password is looked at, in seconds; 0: not."""
        name = site(address)
        if name not in self._seen:
            return 0.0
        wait_s = _when(self._of_address, name, now_s) - now_s
        return max(wait_s, _when(self._of_all, _ALL, now_s) - now_s)

    def wrong(self, address: str, now_s: float) -> None:
        """A wrong password came from this address."""
        name = site(address)
        self._of_address.take(name, now_s)
        if _when(self._of_all, _ALL, now_s) <= now_s:  # no debt, or one attack would last for days
            self._of_all.take(_ALL, now_s)
        self._seen[name] = now_s
        self._seen.move_to_end(name)
        while len(self._seen) > _ADDRESSES_MAX or self._oldest_s() < now_s - self._forget_s:
            self._seen.popitem(last=False)

    def _oldest_s(self) -> float:
        return next(iter(self._seen.values()))


def _when(buckets: Buckets, name: str, now_s: float) -> float:
    """When a token would be there, without taking one."""
    ready_s = buckets.take(name, now_s)
    buckets.give_back(name)
    return ready_s
