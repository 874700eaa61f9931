"""Whatever happens to processes, clocks and the database: two owners are never both heard by persist.

Stories are drawn: starts, kills, ends, pauses in which a process goes on sending what it believes, clocks of
the database and of a process that jump, a database that does not answer, that stands still, that is started
anew. What is decided is the real plan() and Contact, who is heard the real Fence; the table is the one in memory,
which has the same contract as PostgreSQL's (test_lease_table.py). When it is calm again every shard is
owned within bounded time, the loads are even, and nothing moves any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from common.sharding import SHARD_COUNT
from ingest.lease_table import Wanted
from ingest.load import Said
from ingest.share import (
    LATE_S,
    LEASE_S,
    LOOK_S,
    MOVES_AT_ONCE,
    PATIENT_S,
    TOLERANCE,
    Contact,
    Me,
    plan,
)
from persist.fence import Fence
from tests.ingest.fix_worker import MemoryLeases

MEMBERS: Final = 6
OWNED_S: Final = 3 * LEASE_S + PATIENT_S + LATE_S + 2 * LOOK_S
"""When it is calm every shard has an owner after so long, even where the clock was set back before."""
SPREAD_S: Final = OWNED_S + 3.0 * LOOK_S * SHARD_COUNT / MOVES_AT_ONCE
"""By then what has to move has moved, a few at a time."""


class Process:
    """What one process knows and does: ingest.leases, without threads, and what it sends to persist."""

    def __init__(self, world: World, me: Me) -> None:
        self.world = world
        self.me = me
        self.contact = Contact()
        self.held: dict[int, int] = {}
        self.giving: dict[int, int] = {}
        self.above: dict[int, int] = {}
        self.due_s = world.now_s
        self.skew_s = 0.0
        self.paused = False

    def send(self) -> None:
        """Claim, and send events, for all that it believes to have; told of those it has lost."""
        for shard, epoch in list(self.held.items()):
            if not self.world.heard(self, shard, epoch):
                self.above[shard] = self.world.fence.epochs[shard]
                del self.held[shard]
                self.giving.pop(shard, None)

    def turn(self) -> None:
        world, table = self.world, self.world.table
        self.due_s = world.now_s + LOOK_S
        if self.paused or world.still:
            return
        if table.away:
            self.contact.lost()
            return
        now_s = world.now_s + self.skew_s
        table.give(self.me, self.giving)
        for shard in self.giving:
            del self.held[shard]
        self.giving = {}
        look = table.look(self.me, {n: Said(world.loads[n], 1) for n in self.held})
        self.contact.heard(now_s, look.at_s, look.started_s)
        ours = {(row.number, row.epoch) for row in look.rows if row.instance == self.me.instance}
        self.held = {shard: epoch for shard, epoch in self.held.items() if (shard, epoch) in ours}
        unbroken_s = self.contact.unbroken_s(now_s)
        what = plan(self.me, look.rows, look.members, self.held, self.giving, unbroken_s)
        wanted = [Wanted(s, look.rows[s].epoch, self.above.get(s, 0)) for s in what.take]
        if wanted:
            self.held |= table.take(self.me, wanted, look.at_s)
        self.giving = {shard: self.held[shard] for shard in what.give}


class World:
    """The processes, their table, persist's fence, and a ledger of who was heard."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now_s = 1_000_000.0
        self.turned_s = 0.0
        self.still = False
        self.table = MemoryLeases(clock=lambda: self.now_s + self.turned_s)
        self.fence = Fence()
        self.loads = {n: 10 * random.paretovariate(1.5) for n in range(SHARD_COUNT)}
        self.running: dict[int, Process] = {}
        self.speaks: dict[tuple[int, int], int] = {}
        """By shard and epoch: which life of which process."""
        self.newest: dict[int, int] = {}
        self.moves: Counter[int] = Counter()

    def heard(self, process: Process, shard: int, epoch: int) -> bool:
        """Whether persist takes it; two owners are never both taken."""
        if not self.fence.passes(shard, epoch):
            return False
        life = process.me.instance
        assert self.speaks.setdefault((shard, epoch), life) == life, "two owners under one epoch"
        assert epoch >= self.newest.get(shard, 0), "an owner that was outlived is heard again"
        if epoch > self.newest.get(shard, 0):
            self.newest[shard] = epoch
            self.moves[shard] += 1
        return True

    def start(self, member: int) -> None:
        """A life of its own, also where there is one of that number: supervisord was killed, perhaps."""
        instance = self.table.choose(member) if not self.table.away else None
        if instance is not None and not self.still:
            self.running[member] = Process(self, Me(member, instance, 2))

    def pass_s(self, seconds: float) -> None:
        ends_s = self.now_s + seconds
        while self.running:
            process = min(self.running.values(), key=lambda each: each.due_s)
            if process.due_s > ends_s:
                break
            self.now_s = max(self.now_s, process.due_s)
            if not process.paused or self.random.random() < 0.5:
                process.send()
            process.turn()
            process.send()
        self.now_s = ends_s

    def calm(self) -> None:
        self.table.away = self.still = False
        for process in self.running.values():
            process.paused = False
        if not self.running:
            self.start(0)

    def owners(self) -> dict[int, int]:
        """Who has what, as they believe; nobody has one of another's."""
        found: dict[int, int] = {}
        for member, process in self.running.items():
            for shard in process.held:
                assert shard not in found
                found[shard] = member
        return found

    def uneven(self) -> bool:
        """Whether loads are further apart than they have to be."""
        carried = {m: sum(self.loads[n] for n in p.held) for m, p in self.running.items()}
        gap = max(carried.values()) - min(carried.values())
        fair = sum(carried.values()) / len(carried)
        most = self.running[max(carried, key=carried.__getitem__)]
        fitting = sum(self.loads[n] for n in most.held if self.loads[n] <= 0.7 * gap)
        return gap > (TOLERANCE + 0.05) * fair and fitting > (TOLERANCE / 2 + 0.05) * fair


def kill(world: World, member: int, _s: float) -> None:
    world.running.pop(member, None)


def leave(world: World, member: int, _s: float) -> None:
    process = world.running.pop(member, None)
    if process is not None and not world.table.away and not world.still:
        world.table.leave(process.me)


def pause(world: World, member: int, _s: float) -> None:
    if member in world.running:
        world.running[member].paused ^= True


def clock_of_process(world: World, member: int, seconds: float) -> None:
    if member in world.running:
        world.running[member].skew_s += abs(seconds)  # it is steady: it may have been asleep


def clock_of_database(world: World, _member: int, seconds: float) -> None:
    world.turned_s += seconds


def away(world: World, _member: int, _s: float) -> None:
    world.table.away ^= True


def anew(world: World, _member: int, _s: float) -> None:
    world.table.away = False
    world.table.started_s += 1


def still(world: World, _member: int, _s: float) -> None:
    world.still ^= True


def begin(world: World, member: int, _s: float) -> None:
    world.start(member)


DEEDS: Final[list[Callable[[World, int, float], None]]] = [
    begin, begin, kill, leave, pause, clock_of_process, clock_of_database, away, anew, still,
]  # fmt: skip
stories = st.lists(
    st.tuples(
        st.sampled_from(DEEDS),
        st.integers(0, MEMBERS - 1),
        st.one_of(st.floats(-20, 20), st.sampled_from([-7200.0, -6.0, -3.5, 3.5, 6.5, 7200.0])),
        st.floats(0, 15),
    ),
    max_size=30,
)


def lived(story: list[Any], seed: int) -> World:
    world = World(Random(seed))
    world.start(0)
    for deed, member, seconds, wait_s in story:
        deed(world, member, seconds)
        world.pass_s(wait_s)
    world.calm()
    return world


@settings(max_examples=150, deadline=None)
@given(stories, st.integers(0, 2**32))
def test_two_owners_are_never_both_heard_and_when_calm_every_shard_is_owned(
    story: list[Any], seed: int
) -> None:
    world = lived(story, seed)
    world.pass_s(OWNED_S)
    assert len(set(world.owners()) | on_the_way(world)) == SHARD_COUNT
    # By whom persist hears.
    for process in world.running.values():
        assert all(world.fence.epochs[n] == epoch for n, epoch in process.held.items())


@settings(max_examples=60, deadline=None)
@given(stories, st.integers(0, 2**32))
def test_when_calm_the_loads_come_to_be_even_in_few_moves_and_nothing_goes_to_and_fro(
    story: list[Any], seed: int
) -> None:
    world = lived(story, seed)
    world.pass_s(OWNED_S)
    world.moves.clear()
    world.pass_s(SPREAD_S)
    assert len(world.owners()) == SHARD_COUNT
    assert not world.uneven()
    assert all(count == 1 for count in world.moves.values()), "one went to and fro"
    world.moves.clear()
    world.pass_s(SPREAD_S)
    assert world.moves == Counter()


def on_the_way(world: World) -> set[int]:
    """Given up by one, and not taken yet."""
    return {n for n, lease in world.table.shards.items() if lease.owner is None and lease.epoch}
