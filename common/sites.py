"""May this stranger's site be asked now, or has it been asked enough?

Whoever owns a domain can name any number of hosts below it, and point or redirect all of them at
somebody else: each a did:web that costs its owner nothing and us a request. So what is limited is the
site, the last two labels of a name, first address and redirects alike. (Under a public suffix of two
labels, such as co.uk, strangers share a site; what it costs them is some seconds.)

No I/O, no clock.

Source: S-IDN-10, S-SEC-03.
"""

from __future__ import annotations

from collections import Counter

from common.addresses import is_address
from common.rates import Buckets, Rate


class Sites:
    """What is being asked of each site, and how much was."""

    def __init__(self, at_once: int, rate: Rate) -> None:
        """Args: at_once: requests to one site at a time. rate: of requests to one site."""
        self._at_once = at_once
        self._buckets = Buckets(rate)
        self._every_s = rate.every_s
        self._asked: Counter[str] = Counter()

    def __len__(self) -> int:
        """Sites that are being asked."""
        return len(self._asked)

    def enter(self, site: str, now_s: float) -> float:
        """Ask a site → 0, and `leave` has to be called; or so many seconds, to come again after."""
        if self._asked[site] >= self._at_once:
            return self._every_s
        due_s = self._buckets.take(site, now_s)
        if due_s > now_s:
            self._buckets.give_back(site)
            self._clear(site)
            return due_s - now_s
        self._asked[site] += 1
        return 0.0

    def leave(self, site: str) -> None:
        """A site is being asked no longer."""
        self._asked[site] -= 1
        self._clear(site)

    def _clear(self, site: str) -> None:
        if not self._asked[site]:
            del self._asked[site]


def site_of(host: str, port: int | None) -> str:
    """The site that a host belongs to. port: where it is not the scheme's own."""
    if is_address(host) or host == "localhost":
        return host if port is None else f"{host}:{port}"
    return ".".join(host.lower().rstrip(".").split(".")[-2:])
