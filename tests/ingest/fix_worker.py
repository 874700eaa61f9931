"""One ingest process within the test's loop, between hosts that a test plays and a fake persist."""

from __future__ import annotations

import asyncio
import gc
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple, Self

import psycopg

from common.event import Event
from common.limits import TRUSTED_ACCOUNT_LIMIT
from common.reject import Reject
from common.sharding import SHARD_COUNT
from common.target import Target, parse_target
from common.telemetry import without_cpu_s
from common.verdict import Drop, DropReason
from ingest.account import Feed
from ingest.config import Limits, ResolverLimits
from ingest.hosts import HostRow, MovedUp
from ingest.lease_table import FRESH_S, Look, Wanted
from ingest.levels import Seen
from ingest.load import Said
from ingest.rejects import Tally
from ingest.share import LEASE_S, Me, Row
from ingest.worker import Worker
from tests.ingest.fix_persist import FakePersist

LIMITS = Limits(
    retry_first_s=0.05, retry_longest_s=0.4, retry_refused_s=0.3, beat_s=0.05, refresh_s=0.02,
    retry_slow_s=2.0, look_s=0.05, restart_look_s=0.1,
)  # fmt: skip
"""As in production, but quick to come again. What is under way has its time: a test that is not run for a
second dials and asks nobody twice."""
RESOLVER_LIMITS = ResolverLimits(retry_first_s=0.05, retry_longest_s=0.2)


class MemoryTable:
    """The table of hosts, without a database."""

    def __init__(self) -> None:
        self.rows: list[HostRow] = []
        self.seen: list[Seen] = []
        self.trusted: list[bool] = []
        self.named: list[str] = []
        self.versions = self.reads = 0

    def wanted(self) -> list[HostRow]:
        self.reads += 1
        return list(self.rows)

    def version(self) -> int:
        return self.versions

    def restart(self, host: int, generation: int, cursor: int | None) -> bool:
        for at, row in enumerate(self.rows):
            if (row.id, row.generation) == (host, generation):
                self.rows[at] = row._replace(
                    generation=generation + 1, cursor=cursor, restarts=row.restarts + 1
                )
                self.versions += 1
                return True
        return False

    def is_empty(self) -> bool:
        return not self.rows

    def add(
        self,
        targets: Iterable[Target],
        cursor: int | None,
        account_limit: int,
        *,
        trusted: bool = False,
        added_by: str = "settings",
    ) -> int:
        self.trusted.append(trusted)
        # Whatever is asked for: at the rate of others no simulated network would get anywhere.
        for target in targets:
            number = len(self.rows) + 1
            self.rows.append(
                HostRow(
                    number, target.hostname, target.tls, 1, cursor,
                    trusted=True, account_limit=TRUSTED_ACCOUNT_LIMIT,
                )
            )  # fmt: skip
        return len(self.rows)

    def trust(self, hostnames: Iterable[str]) -> list[str]:
        self.named += hostnames
        return []

    def note(self, seen: Iterable[Seen]) -> list[MovedUp]:
        self.seen += seen
        return []

    def close(self) -> None:
        pass


class MemoryLeases:
    """The tables of leases, without a database; several processes may share one.

    now_s: the database's clock, which a test may turn. started_s: when it started, the same.
    away: whether it does not answer. shards: number → [owner, instance, epoch, expires_at].
    members: number → [instance, seen_at]. said: of each shard, by its last owner. A time of infinity is one that somebody whom the test plays
    renews all the time.
    """

    def __init__(self, lease_s: float = LEASE_S, clock: Callable[[], float] = time.time) -> None:
        self._lease_s = lease_s
        self._clock = clock
        self.started_s = 0.0
        self.away = False
        self.members: dict[int, tuple[int, float]] = {}
        ends_s = clock() + lease_s
        self.shards = {shard: Lease(None, None, 0, ends_s) for shard in range(SHARD_COUNT)}
        self.said: dict[int, Said] = {}

    def choose(self, member: int) -> int:
        now_s = self._now()
        known = [lease.instance or 0 for lease in self.shards.values() if lease.owner == member]
        known.append(self.members.get(member, (0, 0.0))[0])
        instance = max(int(now_s * 1000), max(known) + 1)
        self.members[member] = instance, self.members.get(member, (0, 0.0))[1]
        return instance

    def look(self, me: Me, said: Mapping[int, Said] | None = None) -> Look:
        now_s = self._now()
        if self.members.get(me.member, (0, 0.0))[0] <= me.instance:
            self.members[me.member] = me.instance, now_s
        for shard, lease in self.shards.items():
            if (lease.owner, lease.instance) == (me.member, me.instance):
                self.shards[shard] = lease._replace(expires_s=now_s + self._lease_s)
                if said is not None and shard in said:
                    self.said[shard] = said[shard]
        rows = [
            Row(
                shard, lease.owner, lease.instance, lease.epoch, self._past_s(lease, now_s),
                *self.said.get(shard, ()),
            )
            for shard, lease in self.shards.items()
        ]  # fmt: skip
        live = {
            member
            for member, (_, seen_s) in self.members.items()
            if abs(now_s - seen_s) < self._lease_s or seen_s == inf
        }
        return Look(rows, frozenset(live), now_s, self.started_s)

    def take(self, me: Me, wanted: Sequence[Wanted], looked_s: float) -> dict[int, int]:
        now_s = self._now()
        taken = {}
        for shard, epoch, above in wanted:
            lease = self.shards[shard]
            free = lease.owner in (None, me.member) or self._past_s(lease, now_s) >= 0
            if lease.epoch == epoch and free and now_s < looked_s + FRESH_S:
                new = taken[shard] = max(lease.epoch + 1, above + 1, int(now_s * 1000))
                self.shards[shard] = Lease(me.member, me.instance, new, now_s + self._lease_s)
        return taken

    def give(self, me: Me, leases: Mapping[int, int]) -> None:
        for shard, epoch in leases.items():
            if self.shards[shard][:3] == (me.member, me.instance, epoch):
                self.shards[shard] = Lease(None, None, epoch, self._now())

    def leave(self, me: Me) -> None:
        now_s = self._now()
        for shard, lease in self.shards.items():
            if lease[:2] == (me.member, me.instance):
                self.shards[shard] = lease._replace(expires_s=now_s + self._lease_s / 2)
        if self.members.get(me.member, (0, 0.0))[0] == me.instance:
            self.members[me.member] = me.instance, 0.0

    def close(self) -> None:
        pass

    def _past_s(self, lease: Lease, now_s: float) -> float:
        left_s = lease.expires_s - now_s
        return -left_s if left_s == inf else max(-left_s, left_s - 2 * self._lease_s)

    def _now(self) -> float:
        if self.away:
            raise psycopg.OperationalError("the database is away")
        return self._clock()


class Lease(NamedTuple):
    """A row of the table `shard`, in memory. expires_s: by its clock."""

    owner: int | None
    instance: int | None
    epoch: int
    expires_s: float


class MemoryRejects:
    """The table of dropped messages, without a database or bounds."""

    def __init__(self) -> None:
        self.rows: list[Reject] = []

    def write(self, rejects: Sequence[Reject]) -> None:
        self.rows += rejects

    def count(self, tallies: Sequence[Tally]) -> None:
        pass

    def forget_old(self) -> None:
        pass

    def close(self) -> None:
        pass


class CountingWorker(Worker):
    """A worker that remembers what it dropped."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.drops: list[tuple[str, Drop]] = []

    def _dropped(self, feed: Feed, drop: Drop, event: Event | None, raw: bytes) -> None:
        self.drops.append((event.did if event is not None else "", drop))
        super()._dropped(feed, drop, event, raw)

    def reasons(self) -> Counter[DropReason]:
        """How often each reason was given."""
        return Counter(drop.reason for _did, drop in self.drops)

    def conserved(self) -> bool:
        """Whether every message has one fate."""
        return self.balance().unaccounted == 0


def to_read(table: MemoryTable) -> int:
    """Hosts that a process would read; none are known of a table that is not in memory."""
    rows = getattr(table, "rows", [])
    return sum(not row.banned and row.alias_of is None for row in rows)


@asynccontextmanager
async def ingest(
    persist: FakePersist,
    hosts: Iterable[str],
    plc_url: str,
    *,
    limits: Limits = LIMITS,
    resolver_limits: ResolverLimits = RESOLVER_LIMITS,
    tls: ssl.SSLContext | None = None,
    allow_insecure: bool = True,
    cursor: int | None = 0,
    named: tuple[str, ...] = (),
    documents_url: str | None = None,
    leases: MemoryLeases | None = None,
    table: MemoryTable | None = None,
    member: int = 0,
    processes: int = 1,
    **changed: Any,
) -> AsyncIterator[CountingWorker]:
    """A running worker that reads `hosts` from `cursor`; drained at the end.

    Args:
        changed: other limits than usual. named: hosts that it finds in its settings.
        documents_url: of the database that keeps documents; None: nothing is kept.
        leases: table of the shards; None: one that nobody else uses. table: of the hosts, the same.
        member, processes: its number; with more than one it does not come to read all hosts at once.
    """
    table = table or MemoryTable()
    table.add([parse_target(host, allow_insecure=True) for host in hosts], cursor, 100)
    worker = CountingWorker(
        member=member,
        processes=processes,
        endpoint=persist.endpoint,
        table=table,
        leases=leases or MemoryLeases(),
        rejects=MemoryRejects(),
        plc_url=plc_url,
        hosts=named,
        allow_insecure=allow_insecure,
        limits=replace(limits, **changed),
        resolver_limits=resolver_limits,
        documents_url=None if documents_url is None else lambda: documents_url,
        tls=tls,
    )
    stopping = asyncio.Event()
    running = asyncio.create_task(worker.run(stopping))
    try:
        if processes == 1:
            await until(lambda: running.done() or len(worker.subscriptions) == to_read(table))
        yield worker
    finally:
        stopping.set()
        await running


async def until(
    condition: Callable[[], object],
    what: Callable[[], object] = str,
    within_s: float = 60.0,
) -> None:
    """Wait for a condition, looking again in each round of the loop.

    Raises: AssertionError: it did not come true.
    """
    ends_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends_s, f"not within {within_s} s: {what()}"
        await asyncio.sleep(0.002)


class TurningClock:
    """Unix seconds that hardly pass while the loop does not turn: no lease runs out, and nobody is late,
    because the machine runs something else for a second. Made within the loop.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._now_s = time.time()
        self._ticked_s = self._loop.time()
        self._tick()

    def __call__(self) -> float:
        return self._now_s

    def _tick(self) -> None:
        before_s, self._ticked_s = self._ticked_s, self._loop.time()
        self._now_s += min(self._ticked_s - before_s, 0.05)
        self._loop.call_later(0.01, self._tick)


class LagMeter:
    """How long the loop was away at worst, in seconds, while this was open; of its own doing, as in
    common.telemetry.LoopLag: what the machine ran instead is not the relay's.

    What thousands of tests before have left is taken from the collector meanwhile, as a process of the
    relay does with what it has at its start: to walk through it took 0.4 s, and was measured here.
    """

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        gc.collect()
        gc.freeze()
        self._task = asyncio.create_task(self._measure())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        gc.unfreeze()

    async def _measure(self) -> None:
        while True:
            started_s, without_s = time.perf_counter(), without_cpu_s()
            await asyncio.sleep(0.005)
            lag_s = time.perf_counter() - started_s - 0.005
            self.worst_s = max(self.worst_s, lag_s - (without_cpu_s() - without_s))
