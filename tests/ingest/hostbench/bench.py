"""How do thousands of hosts behave over days, in seconds?

    Script (when is a host up? what does it do when dialled?)
        ▲                                   │
        └── Bench: a heap of what is due ───┘──▶ Lifecycle of each host, Dials and Fates of each process

As ingest.subscription and ingest.dialer do it, without their waiting: what is under test are the cores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random
from typing import Final

from ingest.dials import Dials, Urgency
from ingest.fates import Fates
from ingest.lifecycle import FAILURES, Delays, Lifecycle, Phase, Signal

DIAL_S: Final = 0.2
TIMEOUT_S: Final = 10.0
STOOD_S: Final = 300.0


@dataclass
class Script:
    """One host. Times in seconds of the bench's clock.

    down: from when to when it does not answer. holds_s: how long its connections stand. speaks: whether
    an event comes of each. says: what it says instead, with the signal that this is. silent: a dial of it
    times out rather than being refused.
    """

    down: tuple[tuple[float, float], ...] = ()
    holds_s: float = inf
    speaks: bool = True
    says: Signal | None = None
    silent: bool = False
    accounts: int = 0

    def is_up(self, at_s: float) -> bool:
        """Whether it answers."""
        return not any(since_s <= at_s < until_s for since_s, until_s in self.down)

    def goes_down_s(self, after_s: float) -> float:
        """When it stops to answer next."""
        return min((since for since, _ in self.down if since >= after_s), default=inf)


@dataclass
class Host:
    """A host, as the process that reads it knows it."""

    number: int
    script: Script
    life: Lifecycle
    process: Process
    dialled: bool = False
    dials: list[float] = field(default_factory=list)
    opened_s: list[float] = field(default_factory=list)
    restarts: int = 0
    connection: int = 0
    """Which one it is: what was planned for an earlier one no longer counts."""


@dataclass
class Process:
    """One ingest process."""

    dials: Dials
    fates: Fates = field(default_factory=Fates)
    looks_s: float = inf
    """When it looks at its line next."""


class Bench:
    """A network of scripts, and the processes that read it."""

    def __init__(
        self,
        scripts: list[Script],
        *,
        processes: int = 4,
        a_second: float = 50.0,
        at_once: int = 200,
        delays: Delays | None = None,
        seed: int = 1,
    ) -> None:
        self.random = Random(seed)
        self.now_s = 0.0
        self.dials_s: list[float] = []
        self.most_under_way = 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self.processes = [Process(Dials(a_second, self.random, at_once)) for _ in range(processes)]
        self._delays = delays or Delays()
        self.hosts: list[Host] = []
        for number, script in enumerate(scripts):
            life = Lifecycle(self._delays, self.random)
            host = Host(number, script, life, self.processes[number % processes])
            self.hosts.append(host)
            self._queue(host)

    @property
    def connected(self) -> int:
        """Hosts whose connection stands."""
        return sum(host.life.connected for host in self.hosts)

    def states(self) -> Counter[str]:
        """How many hosts are seen to be what."""
        return Counter(host.life.observed.value for host in self.hosts)

    def busiest_second(self, since_s: float = 0.0) -> int:
        """The most dials within any second."""
        dials = [at_s for at_s in self.dials_s if at_s >= since_s]
        most, first = 0, 0
        for last, at_s in enumerate(dials):
            while dials[first] <= at_s - 1.0:
                first += 1
            most = max(most, last - first + 1)
        return most

    def run(self, until_s: float, *, stop: Callable[[], bool] = lambda: False) -> None:
        """Turn the clock on; earlier when `stop` says so."""
        while self._due and self._due[0][0] <= until_s and not stop():
            self.now_s, _number, what = heappop(self._due)
            what()
        if not stop():
            self.now_s = until_s

    def tell(self, host: Host, signal: Signal) -> None:
        """A signal to a host; what it orders is done."""
        failed = signal in FAILURES
        slowest_s = host.process.fates.lost(host.number, self.now_s) if failed else inf
        orders = host.life.on(signal, self.now_s, slowest_s)
        if orders.cut:
            host.connection += 1
            host.process.dials.leave(host.number)
        if orders.leave:
            host.process.dials.leave(host.number)
        host.restarts += orders.restart
        if orders.queue:
            self._queue(host)
        elif host.life.phase is Phase.WAITING:
            self._wake_at(host, host.life.next_dial_s)
        self._look_soon(host.process)

    def begin_again(self, host: Host) -> None:
        """A host that was forbidden is wanted again, as ingest.fleet does it."""
        host.life = Lifecycle(self._delays, self.random)
        self.tell(host, Signal.ASKED)

    def at(self, at_s: float, what: Callable[[], None]) -> None:
        """Have something happen."""
        heappush(self._due, (at_s, next(self._numbers), what))

    def _wake_at(self, host: Host, due_s: float) -> None:
        def wake() -> None:
            if host.life.phase is Phase.WAITING and host.life.next_dial_s == due_s:
                self.tell(host, Signal.DUE)

        self.at(due_s, wake)

    def _queue(self, host: Host) -> None:
        urgency = Urgency.AGAIN if host.dialled else Urgency.FIRST
        if host.life.urgent:
            urgency = Urgency.ASKED
        host.process.dials.ask(host.number, urgency, host.script.accounts)
        self._look_soon(host.process)

    def _look_soon(self, process: Process) -> None:
        due_s = process.dials.due_s()
        if due_s is not None and max(due_s, self.now_s) < process.looks_s:
            process.looks_s = max(due_s, self.now_s)
            self.at(process.looks_s, lambda: self._look(process))

    def _look(self, process: Process) -> None:
        process.looks_s = inf
        taken = process.dials.take(self.now_s, len(self.processes))
        if taken is not None:
            self._dial(self.hosts[taken])
        self.most_under_way = max(self.most_under_way, process.dials.under_way)
        self._look_soon(process)

    def _dial(self, host: Host) -> None:
        host.dialled = True
        host.dials.append(self.now_s)
        self.dials_s.append(self.now_s)
        self.tell(host, Signal.ALLOWED)
        number = host.connection
        takes_s = DIAL_S
        if host.script.silent and not host.script.is_up(self.now_s):
            takes_s = TIMEOUT_S
        self.at(self.now_s + takes_s, lambda: self._answered(host, number))

    def _answered(self, host: Host, number: int) -> None:
        if number != host.connection:
            return
        host.process.dials.leave(host.number)
        if not host.script.is_up(self.now_s):
            self.tell(host, Signal.FAILED)
            return
        if host.script.says is Signal.IS_RELAY:
            self.tell(host, Signal.IS_RELAY)
            return
        host.opened_s.append(self.now_s)
        self.tell(host, Signal.OPENED)
        for other in host.process.fates.back(host.number, self.now_s):
            self.tell(self.hosts[other], Signal.SOONER)
        if host.script.says is not None:
            self.tell(host, host.script.says)
            return
        if host.script.speaks:
            self.tell(host, Signal.PROGRESS)
        ends_s = min(self.now_s + host.script.holds_s, host.script.goes_down_s(self.now_s))
        if ends_s < inf:
            self.at(ends_s, lambda: self._ended(host, number))

    def _ended(self, host: Host, number: int) -> None:
        if number == host.connection:
            if self.now_s - host.opened_s[-1] >= STOOD_S:
                host.life.progress()
            self.tell(host, Signal.LOST)
