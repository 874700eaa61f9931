"""How does a subscription wait for its turn to be dialled?

    async with dialer.turn(host, urgency, size):   in the line, then one of those under way
        …DNS, TCP, TLS, handshake…

The order, the rate and the bound are ingest.dials', what hosts have in common is ingest.fates'; this adds
the clock and the waiting. Source: lessons 16, 43 and 44.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from ingest.dials import Dials, Urgency
from ingest.fates import Fates
from ingest.lifecycle import Signal


class Dialer:
    """The line of one process, within its loop."""

    def __init__(self, dials: Dials, members: Callable[[], int]) -> None:
        """Args: members: processes that dial, ourselves among them. Call the rest within the loop."""
        self._loop = asyncio.get_running_loop()
        self._fates = Fates()
        self._calls: dict[int, Callable[[Signal], None]] = {}
        self._dials = dials
        self._members = members
        self._allowed: dict[int, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Hosts in the line."""
        return self._dials.waiting

    @property
    def under_way(self) -> int:
        """Hosts that are being dialled."""
        return self._dials.under_way

    def now_s(self) -> float:
        """The loop's clock."""
        return self._loop.time()

    def join(self, host: int, call: Callable[[Signal], None], alive_s: float | None) -> None:
        """A host is read from now on.

        Args: call: what tells it of others. alive_s: when it was last heard, None: never.
        """
        self._calls[host] = call
        if alive_s is not None:
            self._fates.know(host, alive_s)

    def part(self, host: int, call: Callable[[Signal], None]) -> None:
        """It is read no longer by who gave this; another may read it by now."""
        if self._calls.get(host) == call:
            del self._calls[host]
            self._fates.forget(host)

    def lost(self, host: int) -> float:
        """A host does not answer → how long it may wait at most, in seconds."""
        return self._fates.lost(host, self.now_s())

    def back(self, host: int) -> None:
        """A host has answered: those that were lost with it are told."""
        for other in self._fates.back(host, self.now_s()):
            if other in self._calls:
                self._calls[other](Signal.SOONER)

    @asynccontextmanager
    async def turn(self, host: int, urgency: Urgency, size: int) -> AsyncIterator[None]:
        """Wait for the turn; it lasts until the end of the block."""
        allowed = self._allowed[host] = self._loop.create_future()
        self._dials.ask(host, urgency, size)
        try:
            self._go_on()
            await allowed
            yield
        finally:
            # A later one of the same host may have taken the place.
            if self._allowed.get(host) in (None, allowed):
                self._allowed.pop(host, None)
                self._dials.leave(host)
            self._go_on()

    def hasten(self, host: int) -> None:
        """Somebody has asked for a host that is in the line."""
        allowed = self._allowed.get(host)
        if allowed is not None and not allowed.done():
            self._dials.ask(host, Urgency.ASKED)
            self._go_on()

    def _go_on(self) -> None:
        loop = self._loop
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while (due_s := self._dials.due_s()) is not None:
            if due_s > loop.time():
                self._timer = loop.call_at(due_s, self._go_on)
                return
            host = self._dials.take(loop.time(), self._members())
            allowed = self._allowed.get(host) if host is not None else None
            if host is not None and (allowed is None or allowed.done()):
                self._dials.leave(host)
            elif allowed is not None:
                allowed.set_result(None)
