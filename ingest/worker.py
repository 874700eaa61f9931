"""One ingest process: the one place where edges meet cores.

    leases ─▶ fleet ─▶ subscriptions ─▶ turns ─▶ pipeline ─▶ outlet ─▶ persist
                                              ▲ │  │
                                              │ ▼  └─▶ ledger ─▶ keeper ─▶ reject table
                                      resolver, status desk

It ends drained: sockets closed first, then what is in flight is waited for, then the cursors are
told, then the leases are given up. Any part that ends by itself ends the process, loudly.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Callable, Collection, Iterable
from random import Random
from typing import Final

import zmq

from common.conservation import Balance
from common.curve import ClientKeys
from common.envelope import HostCursor, HostObservation, Judged
from common.event import Event
from common.fetch import Fetcher
from common.names import Names
from common.steady import distance_s, steady_s
from common.target import Target
from common.verdict import Drop
from ingest.account import Feed
from ingest.catch_up import CatchUp
from ingest.config import Limits, ResolverLimits, StatusLimits
from ingest.dialer import Dialer
from ingest.dials import Dials
from ingest.faults import stay_sound
from ingest.fleet import Fleet
from ingest.hosts import HostRow, Table
from ingest.judge import Source
from ingest.lease_table import Table as LeaseTable
from ingest.leases import Leases
from ingest.levels import Watch
from ingest.limiter import CATCH_UP
from ingest.load import Work
from ingest.node_memory import NodeMemory
from ingest.observed import Observed, newest_rev_of, standing_of
from ingest.outlet import Outlet
from ingest.pipeline import Pipeline, cursor_of
from ingest.questions import Need
from ingest.reject_table import Keeper
from ingest.reject_table import Table as Rejects
from ingest.rejects import Ledger
from ingest.report import Report
from ingest.resolver import Resolver
from ingest.seed import seed
from ingest.share import Me
from ingest.status import StatusDesk
from ingest.store import Store
from ingest.subscription import Subscription
from ingest.turns import Turns

DRAIN_S: Final = 10.0
"""How long a drain waits for persist to answer, in seconds; what is unanswered comes again."""
FAREWELL_S: Final = 1.0
RETIRE_S: Final = 3.0
"""How long hosts that go to another process are finished for, in seconds; what is not, comes again."""
_log = logging.getLogger("standpipe")


class Worker:
    """One ingest process at work."""

    def __init__(
        self,
        *,
        member: int,
        processes: int,
        endpoint: str,
        keys: ClientKeys | None = None,
        table: Table,
        leases: LeaseTable,
        rejects: Rejects,
        plc_url: str,
        hosts: tuple[str, ...] = (),
        relay_url: str = "",
        allow_insecure: bool = False,
        account_limit: int = 100,
        limits: Limits | None = None,
        resolver_limits: ResolverLimits | None = None,
        status_limits: StatusLimits | None = None,
        documents_url: Callable[[], str] | None = None,
        tls: ssl.SSLContext | None = None,
        dials_per_second: float = 50.0,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is opened until `run`.

        Args:
            member: number of this process. processes: how many there are, most likely.
            endpoint: where persist takes batches. keys: where that is another machine. table: of the hosts; closed at the end.
            leases: of the shards; closed at the end. rejects: where dropped messages are kept; closed at the end.
            documents_url: of the database that keeps documents, asked late; None: nothing is kept.
            dials_per_second: of all processes together. ready: called when everything is open.
        """
        self._member = member
        self._endpoint = endpoint
        self._keys = keys
        self._table = table
        self._plc_url = plc_url
        self._named = hosts
        self._relay_url = relay_url
        self._allow_insecure = allow_insecure
        self._account_limit = account_limit
        self._limits = limits or Limits()
        self._resolver_limits = resolver_limits or ResolverLimits()
        self._status_limits = status_limits or StatusLimits()
        self._documents_url = documents_url
        self._tls = tls or ssl.create_default_context()
        self._names = Names()
        """Of the hosts alone: what DIDs name delays no dial."""
        self._ready = ready
        self._random = Random()
        self._dials_per_second = dials_per_second
        self._observed = Observed()
        self._catch_up = CatchUp(self._limits.catch_up_host, self._limits.catch_up_process)
        self._unread: list[HostObservation] = []
        """What is to be told of hosts that are not to be read."""
        self.ledger = Ledger()
        self._keeper = Keeper(self.ledger, rejects)
        self._watch = Watch()
        self.fleet = Fleet(
            table,
            self._watch,
            readable=self._readable,
            seed=self._seed,
            begin=self._begin,
            end=self._end,
            changed=self._changed,
            unread=self._unread.append,
        )
        self.leases = Leases(
            leases,
            Me(member, 0, processes),
            begun=self._begun,
            taken=self._claim,
            claimed=self.fleet.look_again,
            lost=self._shards_lost,
            retire=self._retire,
            worked=self._worked,
            reaches_persist=lambda: self.outlet.connected,
            look_s=self._limits.look_s,
        )

    @property
    def subscriptions(self) -> dict[int, Subscription]:
        """To the hosts that are read now, by number."""
        return self.fleet.subscriptions

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until `stopping`, then drain.

        Raises:
            ExceptionGroup: a fault of ours, or ingest.outlet.Outlived.
        """
        self._loop = asyncio.get_running_loop()
        dials = Dials(self._dials_per_second, self._random, self._limits.dials_at_once)
        self._dialer = Dialer(dials, lambda: self.leases.members)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            async with Fetcher(allow_insecure=self._allow_insecure) as fetcher:
                self._fetcher = fetcher
                self.pipeline = Pipeline(
                    self._limits,
                    ask=self._ask,
                    ask_status=self._ask_status,
                    send=self._send,
                    may_give_up=self._may_give_up,
                    wake_after=self._wake_after,
                    memory=NodeMemory(),
                    on_drop=self._dropped,
                )
                self._resolver = Resolver(
                    fetcher,
                    self._resolver_limits,
                    plc_url=self._plc_url,
                    allow_insecure=self._allow_insecure,
                    on_resolved=self.pipeline.resolved,
                    on_unresolved=self.pipeline.unresolved,
                    still_wanted=self.pipeline.still_wanted,
                    on_remembered=self.pipeline.remembered,
                    after=self._room,
                )
                self._statuses = StatusDesk(
                    fetcher,
                    self._status_limits,
                    target_of=self._target_of,
                    on_told=self.pipeline.told,
                    after=self._room,
                )
                self.turns = Turns(
                    self.pipeline,
                    self._limits,
                    again=self._take_soon,
                    done=self._turn_done,
                    wake_after=self._wake_turns_after,
                    now_s=steady_s,
                    spent_s=time.perf_counter,
                )
                self.outlet = Outlet(
                    context,
                    self._endpoint,
                    keys=self._keys,
                    member=self._member,
                    limits=self._limits,
                    pipeline=self.pipeline,
                    on_reply=self._room,
                    on_claimed=self.leases.claimed,
                    on_outlived=self.leases.outlived,
                )
                self._open_store()
                self._report = Report(
                    pipeline=self.pipeline,
                    turns=self.turns,
                    resolver=self._resolver,
                    store=self._store,
                    dialer=self._dialer,
                    ledger=self.ledger,
                    subscriptions=self.subscriptions,
                )
                try:
                    await self._work(stopping)
                finally:
                    self.outlet.close()
                    if self._store is not None:
                        await self._store.close()
        finally:
            context.term()

    def _open_store(self) -> None:
        self._store: Store | None = None
        if self._documents_url is not None:
            name = f"ingest-{self._member:02d} documents"
            self._store = Store(self._documents_url, name, self._resolver.found)
            self._resolver.store = self._store

    # The parts know each other only through these, as each is made when others are not yet.

    def _ask(self, did: str, host: int, delay_s: float, need: Need) -> None:
        self._resolver.ask(did, host, delay_s, need)

    def _ask_status(self, did: str, host: int) -> None:
        self._statuses.ask(did, host)

    def _target_of(self, host: int) -> Target | None:
        subscription = self.subscriptions.get(host)
        return None if subscription is None else subscription.target

    def _wake_after(self, after_s: float) -> None:
        self._loop.call_later(after_s, self._wake)

    def _wake(self) -> None:
        self.pipeline.wake(steady_s())
        self._room()

    def _send(self, judged: Judged, frame: bytes) -> None:
        self._watch.note(judged)
        self.outlet.add(judged, frame)

    def _may_give_up(self, did: str, now_s: float) -> bool:
        return self._resolver.may_give_up(did, now_s)

    def _room(self) -> None:
        self.turns.room()

    def _take_soon(self, after_s: float) -> None:
        if after_s > 0:
            self._loop.call_later(after_s, self.turns.take)
        else:
            self._loop.call_soon(self.turns.take)

    def _wake_turns_after(self, after_s: float) -> None:
        self._loop.call_later(after_s, self.turns.wake)

    def _turn_done(self) -> None:
        self.outlet.flush()

    def _dropped(self, feed: Feed, drop: Drop, event: Event | None, raw: bytes) -> None:
        self._report.dropped(feed, drop, event, raw, time.time())

    async def _work(self, stopping: asyncio.Event) -> None:
        self._ready()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._resolver.run(), name="resolver"),
                group.create_task(self._statuses.run(), name="statuses"),
                group.create_task(self._beat(), name="beat"),
                group.create_task(self._keeper.run(), name="rejects"),
                group.create_task(self.leases.run(group), name="leases"),
                group.create_task(self.fleet.run(group), name="hosts"),
                group.create_task(self._stay_member(), name="membership"),
                group.create_task(stay_sound(), name="faults"),
            ]
            await stopping.wait()
            await self._drain()
            for task in tasks:
                task.cancel()

    async def _stay_member(self) -> None:
        await self.outlet.refused

    async def _drain(self) -> None:
        self.leases.settle()
        await self.fleet.stop()
        self.outlet.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while self.pipeline.in_flight and self.outlet.connected:
                    await self.outlet.next_answer()
        self._report.numbers()
        self.outlet.beat(self._cursors(), self._observations())
        # The socket does not linger: wait for the answer, which persist gives at once, if it lives.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self.outlet.next_answer()
        await self.leases.leave()
        await self._keeper.end()

    # --- shards ---

    def _readable(self) -> dict[int, int]:
        return self.leases.readable

    def _begun(self, instance: int) -> None:
        self.outlet.begin(instance)

    def _claim(self) -> None:
        self.outlet.claim(self.leases.held)

    def _shards_lost(self, shards: Collection[int]) -> None:
        self.outlet.claim(self.leases.held)
        self.fleet.let_go(shards)

    def _worked(self) -> dict[int, Work]:
        """What was done for each shard since this was asked last."""
        done: dict[int, Work] = {}
        for subscription in self.subscriptions.values():
            feed = subscription.feed
            work, hosts = done.get(feed.shard, Work(0, 0))
            done[feed.shard] = Work(work + feed.work, hosts + 1)
            feed.work = 0
        return done

    async def _retire(self, shards: Collection[int]) -> None:
        """Read the hosts of these no longer, finish what is under way, and tell how far that came."""
        retired = self.fleet.retire(shards)
        for subscription in retired:
            self.turns.forget(subscription)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETIRE_S):
                while self.outlet.connected and any(_is_busy(h.feed) for h in retired):
                    await self.outlet.next_answer()
        if self.outlet.connected:
            self.outlet.beat(_cursors_of(retired), [])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await self.outlet.next_answer()
        self.fleet.end(retired)

    # --- hosts ---

    async def _seed(self) -> None:
        await seed(
            self._table,
            self._fetcher,
            named=self._named,
            relay_url=self._relay_url,
            allow_insecure=self._allow_insecure,
            account_limit=self._account_limit,
            ask=self.fleet.ask,
        )

    def _begin(self, row: HostRow, epoch: int) -> Subscription:
        source = Source(row.id, row.hostname, row.level)
        feed = Feed(source, row.generation, row.shard, row.cursor, epoch=epoch, limits=row.limits)
        feed.upstream.newest_rev = newest_rev_of(row)
        subscription = Subscription(
            Target(row.hostname, row.tls),
            feed,
            self.pipeline,
            self._limits,
            names=self._names,
            tls=self._tls,
            allow_insecure=self._allow_insecure,
            has_messages=self.turns.has_messages,
            holds_too_much=self.turns.pause,
            dialer=self._dialer,
            began_anew=self.fleet.began_anew,
            behind=self._behind,
            random=self._random,
            standing=standing_of(row, self._loop.time(), time.time()),
            moved=self.leases.has_moved(row.shard),
        )
        self.turns.hosts.add(subscription)
        return subscription

    def _behind(self, subscription: Subscription, now_s: float) -> None:
        """An event of a host is in hand: one that says what is long past is slowed for the others."""
        upstream = subscription.feed.upstream
        rev, upstream.last_rev = upstream.last_rev, ""
        if not rev:
            return
        until_s = self._catch_up.note(subscription.feed.source.host, rev, now_s, time.time())
        if until_s is not None:
            self.turns.slow(subscription, until_s, CATCH_UP)

    def _changed(self, subscription: Subscription, row: HostRow) -> None:
        """Something else is wanted of a host that is read."""
        self.turns.set_limits(subscription, row.limits)

    def _end(self, subscriptions: Collection[Subscription]) -> None:
        if not subscriptions:
            return
        for subscription in subscriptions:
            subscription.close()
            self.turns.forget(subscription)
            self._observed.forget(subscription.feed.source.host)
            self._catch_up.forget(subscription.feed.source.host)
        self.pipeline.release({host.feed for host in subscriptions}, steady_s())
        self._room()

    # --- what is said of it all ---

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._limits.beat_s)
            self._look_at_clock()
            self.outlet.beat(self._cursors(), self._observations())
            self.turns.balance()
            self._report.slowed(steady_s())
            self._report.numbers()

    def _look_at_clock(self) -> None:
        """Take note of a clock that was set, and tell when it is believed wrong."""
        clock = self.pipeline.clock
        clock.set(distance_s())
        was_suspect = clock.suspect
        if clock.is_suspect(steady_s()) is not was_suspect:
            _log.warning(
                "our clock is wrong: most hosts are ahead of it" if clock.suspect
                else "our clock agrees with the hosts again"
            )  # fmt: skip

    def _cursors(self) -> list[HostCursor]:
        if not self.outlet.connected:
            return []
        return _cursors_of(self.subscriptions.values())

    def _observations(self) -> list[HostObservation]:
        """What has changed of what is seen of the hosts."""
        if not self.outlet.connected:
            return []
        # Order: a host may be read again that was not, and not the other way round.
        unread = self._unread.copy()
        self._unread.clear()
        now_s = steady_s(), self._loop.time(), time.time()
        return unread + self._observed.changed(self.subscriptions.values(), *now_s)

    def balance(self) -> Balance:
        """What became of every message so far; once this runs."""
        return self._report.balance()


def _is_busy(feed: Feed) -> bool:
    """Whether something of a host may be finished soon; what is slowed waits for longer than others."""
    return feed.unfinished_bytes > feed.deferred_bytes


def _cursors_of(hosts: Iterable[Subscription]) -> list[HostCursor]:
    """The cursors of these that have moved since they were told last."""
    cursors = (cursor_of(host.feed) for host in hosts)
    return [cursor for cursor in cursors if cursor is not None]
