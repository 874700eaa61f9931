"""Which addresses has a name, and may they be connected to?

    resolve ─▶ cache ─▶ the same name asked already? ─▶ line of its site ─▶ a thread: getaddrinfo
       ▲                                                                          │
       └──────── addresses that were checked, to be connected to as they are ◀────┘

The system's resolver knows no loop: whoever asks it waits, for half a minute where a name server is
silent. So each name that is looked up has a thread to itself, and the loop none of the wait. Threads
are bounded, and so is a site's share of them: somebody whose name servers are silent holds up his own
names alone. A thread that is stuck ends with the process, not before it.

What is given out was checked after DNS, and the caller connects to that and asks no second time: a
name that changes its answer between the check and the connection gains nothing.

This module does not know what is connected to, nor how.

Source: S-SEC-01, S-SEC-02, S-SEC-03; lessons 10 and 33.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from common.addresses import is_public
from common.sites import site_of
from common.steady import steady_s
from common.telemetry import counter, gauge

LOOKUP_S: Final = 10.0
"""How long a caller waits for a name, in seconds: two attempts of the system's resolver."""
FOUND_S: Final = 60.0
"""How long addresses are remembered, in seconds. The system does not tell how long they are good for; a
host that moves is found again within a minute."""
FAILED_S: Final = 5.0
"""How long it is remembered that a name has none, in seconds."""
THREADS: Final = 64
"""Names looked up at a time."""
SITE_THREADS: Final = 8
"""Of these, names of one site (common/sites.py)."""
KEPT_MAX: Final = 10_000
"""Names remembered, about 500 bytes each."""
ADDRESSES_MAX: Final = 8
"""Addresses of one name that count, the system's first ones. An answer holds thousands: each would be tried
in turn, ten seconds and more for one that is silent, and all of them be remembered."""
LINE_MAX: Final = 5_000
"""Names that wait for a thread."""

LOOKUPS: Final = counter(
    "standpipe_dns_lookups", "Names asked of the resolver, by outcome.", ["outcome"]
)
CACHED: Final = counter("standpipe_dns_cached", "Names that were remembered, found or not.")
IN_FLIGHT: Final = gauge("standpipe_dns_in_flight", "Names that a thread waits for.")
IN_LINE: Final = gauge("standpipe_dns_in_line", "Names that wait for a thread.")
_lookups: Final = {
    outcome: LOOKUPS.labels(outcome) for outcome in ("found", "failed", "late", "refused")
}


class Address(NamedTuple):
    """One address of a name. family: socket.AF_INET or AF_INET6. host: in digits."""

    family: int
    host: str


class NoAddress(OSError):
    """This name has no address that may be connected to; the message says why."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.EADDRNOTAVAIL, message)

    def __str__(self) -> str:
        return str(self.strerror)


_Found = tuple[Address, ...] | str
"""Addresses, or why there are none."""


class _Lookup:
    """A name that is being looked up. callers: who wait. due_s: when they no longer do."""

    __slots__ = ("callers", "due_s", "found", "name", "site")

    def __init__(self, name: str, due_s: float, found: asyncio.Future[_Found]) -> None:
        self.name = name
        self.site = site_of(name, None)
        self.due_s = due_s
        self.callers = 0
        self.found = found


class Names:
    """The names that one process looks up, for one purpose."""

    def __init__(
        self,
        threads: int = THREADS,
        site_threads: int = SITE_THREADS,
        *,
        limit_s: float = LOOKUP_S,
        kept_max: int = KEPT_MAX,
        now_s: Callable[[], float] = steady_s,
    ) -> None:
        """Call `resolve` from one loop alone. Defaults: see the constants above."""
        self._threads = threads
        self._site_threads = site_threads
        self._limit_s = limit_s
        self._kept_max = kept_max
        self._now_s = now_s
        self._kept: dict[str, tuple[_Found, float]] = {}
        """What was found, and until when that counts; the oldest first."""
        self._open: dict[str, _Lookup] = {}
        self._lines: dict[str, deque[_Lookup]] = {}
        """Of each site that has to wait; who has waited longest is first."""
        self._in_line = 0
        self._busy: Counter[str] = Counter()
        self._closed = False

    def __len__(self) -> int:
        """Names remembered."""
        return len(self._kept)

    @property
    def in_flight(self) -> int:
        """Threads that wait for an answer."""
        return self._busy.total()

    async def resolve(self, name: str, *, internal: bool = False) -> tuple[Address, ...]:
        """The addresses of a name, in the system's order: those of the public internet.

        Args:
            internal: any address will do, for whom an operator has allowed it.

        Raises:
            NoAddress: there is none, or no answer in time.
        """
        kept = self._kept.get(name)
        if kept is not None and kept[1] > self._now_s():
            CACHED.inc()
            found = kept[0]
        else:
            found = await self._look_up(name)
        if isinstance(found, str):
            raise NoAddress(f"{name}: {found}")
        if not internal:
            found = tuple(address for address in found if is_public(address.host))
        if not found:
            raise NoAddress(f"{name} has no public address")
        return found

    def close(self) -> None:
        """Take no more answers; threads that still wait end by themselves, or with the process."""
        self._closed = True
        IN_FLIGHT.dec(self.in_flight)
        self._busy.clear()
        self._count(-self._in_line)
        self._lines.clear()

    async def _look_up(self, name: str) -> _Found:
        loop = asyncio.get_running_loop()
        lookup = self._open.get(name)
        if lookup is None:
            if self._closed or self._in_line >= LINE_MAX:
                _lookups["refused"].inc()
                return "too many names are being looked up"
            lookup = _Lookup(name, loop.time() + self._limit_s, loop.create_future())
            self._open[name] = lookup
            self._lines.setdefault(lookup.site, deque()).append(lookup)
            self._count(1)
            self._begin()
        lookup.callers += 1
        try:
            # Who comes late waits no longer than the first one did: for a silent server, not at all.
            async with asyncio.timeout_at(lookup.due_s):
                return await asyncio.shield(lookup.found)
        except TimeoutError:
            return f"no answer of the name servers within {self._limit_s:g} s"
        finally:
            lookup.callers -= 1
            self._forget(lookup)

    def _count(self, more: int) -> None:
        self._in_line += more
        IN_LINE.inc(more)

    def _forget(self, lookup: _Lookup) -> None:
        """Take a name that nobody waits for any more out of its line."""
        line = self._lines.get(lookup.site)
        if line is not None and not lookup.callers and lookup in line:
            line.remove(lookup)
            self._count(-1)
            if not line:
                del self._lines[lookup.site]
            del self._open[lookup.name]

    def _begin(self) -> None:
        """Give free threads to those who wait, one site after the other."""
        free = self._threads - self.in_flight
        for site in list(self._lines) if free else ():
            if not free:
                return
            if self._busy[site] >= self._site_threads:
                continue
            line = self._lines.pop(site)
            lookup = line.popleft()
            if line:
                self._lines[site] = line  # at the end: the others come first
            self._count(-1)
            IN_FLIGHT.inc()
            self._busy[site] += 1
            free -= 1
            loop = asyncio.get_running_loop()
            threading.Thread(
                target=self._ask, args=(loop, lookup), name=f"dns {lookup.name}"[:15], daemon=True
            ).start()

    def _ask(self, loop: asyncio.AbstractEventLoop, lookup: _Lookup) -> None:
        """In a thread of its own."""
        found = _system(lookup.name)
        with contextlib.suppress(RuntimeError):  # the loop has ended before
            loop.call_soon_threadsafe(self._answered, lookup, found)

    def _answered(self, lookup: _Lookup, found: _Found) -> None:
        if self._closed:
            return
        late = asyncio.get_running_loop().time() > lookup.due_s
        _lookups["late" if late else "failed" if isinstance(found, str) else "found"].inc()
        IN_FLIGHT.dec()
        self._busy[lookup.site] -= 1
        if not self._busy[lookup.site]:
            del self._busy[lookup.site]
        del self._open[lookup.name]
        self._keep(lookup.name, found)
        if not lookup.found.done():
            lookup.found.set_result(found)
        self._begin()

    def _keep(self, name: str, found: _Found) -> None:
        now_s = self._now_s()
        self._kept.pop(name, None)
        self._kept[name] = found, now_s + (FAILED_S if isinstance(found, str) else FOUND_S)
        while len(self._kept) > self._kept_max:
            del self._kept[next(iter(self._kept))]


def _system(name: str) -> _Found:
    """What the system's resolver says. Waits as long as that does."""
    try:
        answers = socket.getaddrinfo(
            name, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
    except socket.gaierror as error:
        return str(error.strerror or error)
    except (OSError, UnicodeError) as error:
        return f"{type(error).__name__}: {error}"
    found = [
        Address(family, str(address[0]))
        for family, _type, _proto, _name, address in answers
        if family in (socket.AF_INET, socket.AF_INET6)
    ]
    return tuple(dict.fromkeys(found))[:ADDRESSES_MAX] or "no address"
