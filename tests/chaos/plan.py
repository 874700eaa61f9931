"""Which faults happen, in which order, and did each of them? Drawn from a seed; no clock, no process.

    era 0                              era 1
    kill, kill, stop, point, … kill supervisord │ kill, kill, … kill supervisord │ …
    broadcast-0 is spared                       │ broadcast-1 is spared          │ …

An era ends when supervisord is killed, and everything with it. In each era one broadcaster is spared,
so that whoever reads from it has a connection that nothing cuts: that is a consumer that stayed. The
next era spares another one, so that each of them is killed.

A plan that was carried out is worth as much as its proofs: `missing` tells of every fault without one,
and of a plan in which nothing was to happen.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from tests.chaos.points import Order, Point

SUPERVISORD: Final = "supervisord"
AT_ONCE: Final = 0.2
"""How often a fault comes with the one before, as a share."""
PAUSE_S: Final = 1.5
"""Between two faults that do not come at once, in seconds, on average; drawn exponentially."""
PAUSE_MAX_S: Final = 5.0
STOP_S: Final = (0.5, 3.0)
"""How long a process that is stopped stands still, in seconds; no lease expires so soon."""

CHAINS: Final[tuple[tuple[Order, ...], ...]] = (
    (Order(Point.HALF_WRITTEN, 5), Order(Point.TRUNCATED)),
    (Order(Point.WRITTEN, 5), Order(Point.REWRITTEN)),
    (Order(Point.SYNCED, 5), Order(Point.EPOCH_RAISED)),
    (Order(Point.ANNOUNCED, 5), Order(Point.CLAIM_WRITTEN)),
    (Order(Point.PUBLISHED, 5), Order(Point.CAUGHT_UP)),
    (Order(Point.ANSWERED, 5),),
    (Order(Point.FLUSHED),),
    (Order(Point.ROLL_CREATED),),
)
"""Named points that follow from each other; each of them is a death of persist."""


class Way(StrEnum):
    """KILL: SIGKILL. STOP: SIGSTOP, and SIGCONT later. OUTLIVE: SIGSTOP for an ingest process, and
    SIGCONT when others have its leases. POINT: persist kills itself where it is told."""

    KILL = "kill"
    STOP = "stop"
    OUTLIVE = "outlive"
    POINT = "point"


class Fault(NamedTuple):
    """after_s: the pause before it. for_s: how long a STOP lasts. orders: of a POINT, in turn."""

    number: int
    after_s: float
    way: Way
    victim: str
    for_s: float = 0.0
    orders: tuple[Order, ...] = ()

    @property
    def deaths(self) -> int:
        """How many processes die by it; supervisord's children are not counted."""
        return {Way.KILL: 1, Way.POINT: len(self.orders)}.get(self.way, 0)

    def __str__(self) -> str:
        what = {
            Way.STOP: f" for {self.for_s:.1f} s",
            Way.POINT: ": " + ", then ".join(f"{o.point} ({o.times})" for o in self.orders),
        }.get(self.way, "")
        return f"fault {self.number}: {self.way} {self.victim}{what}"


class Era(NamedTuple):
    """spared: the broadcaster that nothing happens to. faults: the last kills supervisord, unless
    the plan ends."""

    spared: str
    faults: tuple[Fault, ...]


class Plan(NamedTuple):
    """seed: of everything in it."""

    seed: int
    eras: tuple[Era, ...]

    @property
    def faults(self) -> list[Fault]:
        """All of them, in order."""
        return [fault for era in self.eras for fault in era.faults]

    @property
    def deaths(self) -> int:
        """How many processes are killed."""
        return sum(fault.deaths for fault in self.faults)


class Size(NamedTuple):
    """eras: at least as many as there are broadcasters. kills: beside those of supervisord.
    stops, outlived, points: so many."""

    eras: int
    kills: int
    stops: int
    outlived: int
    points: int


def draw(seed: int, size: Size, processes: Sequence[str]) -> Plan:
    """A plan in which each process is killed at least once, and supervisord between the eras.

    Args:
        processes: all but supervisord: "persist", "ingest-0", …, "broadcast-0", …, "postgres".

    Raises:
        ValueError: so few eras or kills that one would be left out.
    """
    rng = random.Random(seed)
    broadcasters = [name for name in processes if name.startswith("broadcast")]
    if size.eras < len(broadcasters) or len(broadcasters) < 2 or size.kills < len(processes):
        raise ValueError("not every process could be killed, with one broadcaster spared")
    spared = [broadcasters[era % len(broadcasters)] for era in range(size.eras)]
    bare: list[list[Fault]] = [[] for _ in range(size.eras)]

    def put(fault: Fault, *, era: int | None = None) -> None:
        eras = [i for i, name in enumerate(spared) if name != fault.victim]
        bare[rng.choice(eras) if era is None else era].append(fault)

    for name in processes:
        put(Fault(0, 0.0, Way.KILL, name))
    for _ in range(size.kills - len(processes)):
        put(Fault(0, 0.0, Way.KILL, rng.choice(processes)))
    for _ in range(size.stops):
        who = rng.choice((*processes, SUPERVISORD))
        put(Fault(0, 0.0, Way.STOP, who, for_s=rng.uniform(*STOP_S)))
    chains = [*CHAINS]
    rng.shuffle(chains)
    for each in range(size.points):
        chain = chains[each % len(chains)]
        put(Fault(0, 0.0, Way.POINT, "persist", orders=chain))
    ingest = [name for name in processes if name.startswith("ingest")]
    for each in range(size.outlived):
        put(Fault(0, 0.0, Way.OUTLIVE, ingest[each % len(ingest)]))
    eras = []
    number = 0
    for i, faults in enumerate(bare):
        rng.shuffle(faults)
        if i < size.eras - 1:
            faults.append(Fault(0, 0.0, Way.KILL, SUPERVISORD))
        timed = []
        for fault in faults:
            number += 1
            timed.append(fault._replace(number=number, after_s=_pause_s(rng)))
        eras.append(Era(spared[i], tuple(timed)))
    return Plan(seed, tuple(eras))


def _pause_s(rng: random.Random) -> float:
    if rng.random() < AT_ONCE:
        return 0.0
    return min(rng.expovariate(1 / PAUSE_S), PAUSE_MAX_S)


class Proof(NamedTuple):
    """That a fault happened. began_s, proved_s: after the start of the plan. pid: whom it met.
    shown: what was seen of it, in words."""

    began_s: float
    proved_s: float
    pid: int
    shown: str


class Record:
    """What was carried out of a plan, and what shows it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.proofs: dict[int, Proof] = {}
        self._began_s: dict[int, float] = {}

    def begin(self, fault: Fault, now_s: float) -> None:
        """Whoever carries the plan out comes to this fault."""
        self._began_s[fault.number] = now_s

    def prove(self, fault: Fault, now_s: float, pid: int, shown: str) -> None:
        """This fault happened."""
        assert shown
        self.proofs[fault.number] = Proof(self._began_s[fault.number], now_s, pid, shown)

    def missing(self) -> list[str]:
        """What did not happen although it was planned; empty when the run is worth something."""
        if not self.plan.deaths:
            return ["nothing was injected"]
        return [
            f"{fault}: nothing shows that it happened"
            for fault in self.plan.faults
            if fault.number not in self.proofs
        ]

    def lines(self) -> list[str]:
        """What happened, fault by fault."""
        return [
            f"{proof.began_s:5.1f} to {proof.proved_s:5.1f} s | {fault} | pid {proof.pid}: {proof.shown}"
            for fault in self.plan.faults
            if (proof := self.proofs.get(fault.number)) is not None
        ]
