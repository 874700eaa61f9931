"""Which hosts does this process read now, and how strictly does it judge them?

Those of the shards that are its own to read (ingest.leases). The table of hosts is read when an operator
has changed anything (common/control.py), when a shard has come, and now and then: hosts that are new are
begun with, from their cursor as it is then; those that an operator no longer wants are let go; levels and
limits are taken over; who is asked for is dialled. What was seen of hosts at `observe` is written down
there, too; some may move up for it.

While the database is away the hosts known so far go on being read. How a host is read is its
subscription's matter, and when it is dialled its dialer's.

Source: S-HST-03, S-HST-06, S-HST-07; design section 3, "Validation level per host", and section 6.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Final, TypeVar

import psycopg

from common.control import LOOK_S
from common.envelope import HostObservation
from common.fetch import FetchError
from common.verdict import Level
from ingest import metrics
from ingest.account import Feed
from ingest.asker import Asker
from ingest.hosts import HostRow, Table
from ingest.levels import Watch
from ingest.lifecycle import Signal, State
from ingest.subscription import Subscription

HOSTS_AGAIN_S: Final = 5.0
"""How often the table of hosts is read when nothing is said to have changed, in seconds."""
BEGUN_AT_ONCE: Final = 50
"""Hosts that are begun with before the loop gets its turn, some 2 ms."""
SEEDING_SHARD: Final = 0
"""Who reads this shard sees to it that there are hosts."""
AGAIN_SOON_S: Final = 0.5
"""The same while there is none to read, as another process may be about to put them in; and while the
database is away."""
SAY_AGAIN_S: Final = 10.0
_log = logging.getLogger("standpipe")
_T = TypeVar("_T")


class Fleet:
    """The hosts of one process. subscriptions: to those that are read, by number of the host."""

    def __init__(
        self,
        table: Table,
        watch: Watch,
        *,
        readable: Callable[[], Mapping[int, int]],
        seed: Callable[[], Awaitable[None]],
        begin: Callable[[HostRow, int], Subscription],
        end: Callable[[Collection[Subscription]], None],
        changed: Callable[[Subscription, HostRow], None],
        unread: Callable[[HostObservation], None],
    ) -> None:
        """Nothing is read until `run`.

        Args:
            table: of the hosts; asked by a thread of its own, closed when `run` ends. watch: of those at `observe`.
            readable: the shards whose hosts are to be read, each with the epoch of its lease. Who has
                SEEDING_SHARD of them seeds.
            seed: put the hosts in the table that were named, or that another relay lists.
            begin: make the subscription to a host, under this epoch. end: told of those that are let go.
            changed: told of a host that is read, and of its row that is another now.
            unread: told what is seen of a host that is not to be read.
        """
        self._table = table
        self._watch = watch
        self._readable = readable
        self._seed = seed
        self._subscribe = begin
        self._end = end
        self._changed = changed
        self._unread = unread
        self._rows: dict[int, HostRow] = {}
        """Of the hosts that are read, as they were taken over."""
        self._resting: dict[int, tuple[int, HostObservation]] = {}
        """What was told of hosts that are not to be read, with their shards: ours."""
        self._anew: set[int] = set()
        """Hosts whose numbers have begun anew, which the table does not know yet."""
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._retiring: dict[int, Subscription] = {}
        """Read no longer, and not finished."""
        self._asker: Asker | None = None
        self._soon = asyncio.Event()
        self._stopped = False
        self.subscriptions: dict[int, Subscription] = {}

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Follow the table until cancelled; the hosts are read as tasks of `group`."""
        seeded = False
        said_s = 0.0
        self._asker = Asker("hosts", self._table.close)
        try:
            while True:
                pause_s = AGAIN_SOON_S
                try:
                    # Before the rows are read: nobody but us moves the cursors of these from here on.
                    self._soon.clear()
                    shards = self._readable()
                    if SEEDING_SHARD in shards and not seeded:
                        await self._seed()
                        seeded = True
                    await self._note_levels()
                    await self._note_restarts()
                    # Before them, too: what changes meanwhile is read the next time.
                    version = await self.ask(self._table.version)
                    rows = await self.ask(self._table.wanted)
                    await self._follow(group, rows, shards)
                    if self.subscriptions:
                        pause_s = HOSTS_AGAIN_S
                    await self._until_changed(version, pause_s)
                    continue
                except (psycopg.Error, FetchError) as error:
                    if time.monotonic() - said_s > SAY_AGAIN_S:
                        said_s = time.monotonic()
                        _log.warning(
                            "waiting for the list of hosts",
                            extra={"fields": {"error": str(error).strip()[:300]}},
                        )
                await self._pause(AGAIN_SOON_S)
        finally:
            self._asker.end()

    async def _until_changed(self, version: int, pause_s: float) -> None:
        """Until an operator has changed something, there is more to read, or it is time.

        Raises:
            psycopg.Error: see ingest.hosts.Table.
        """
        ends_s = time.monotonic() + pause_s
        while (left_s := ends_s - time.monotonic()) > 0 and not self._soon.is_set():
            await self._pause(min(LOOK_S, left_s))
            if not self._soon.is_set() and await self.ask(self._table.version) != version:
                return

    async def _pause(self, pause_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._soon.wait()

    async def ask(self, question: Callable[[], _T]) -> _T:
        """What the table gives or raises, asked by the one thread that has its connection; see `run`."""
        assert self._asker is not None
        return await self._asker.ask(question)

    def look_again(self) -> None:
        """Another shard may be read: look at once."""
        self._soon.set()

    def began_anew(self, subscription: Subscription) -> None:
        """The numbers of a host have begun anew: it is to be read under its next generation."""
        self._anew.add(subscription.feed.source.host)
        self._soon.set()

    def retire(self, shards: Collection[int]) -> list[Subscription]:
        """Read the hosts of these no longer → their subscriptions, to be finished and ended."""
        retired = {h: s for h, s in self.subscriptions.items() if s.feed.shard in shards}
        for host, subscription in retired.items():
            self._tasks.pop(host).cancel()
            del self.subscriptions[host]
            self._rows.pop(host, None)
            subscription.close()
        # Whoever reads these shards next tells it himself.
        self._resting = {h: told for h, told in self._resting.items() if told[0] not in shards}
        self._retiring.update(retired)
        return list(retired.values())

    def let_go(self, shards: Collection[int]) -> None:
        """Have nothing more to do with the hosts of these, now."""
        self.retire(shards)
        self.end([s for s in self._retiring.values() if s.feed.shard in shards])

    def end(self, retired: Collection[Subscription]) -> None:
        """Have nothing more to do with hosts that are read no longer; those let go of since, left out."""
        gone = [s for s in retired if self._retiring.get(s.feed.source.host) is s]
        for subscription in gone:
            del self._retiring[subscription.feed.source.host]
        self._end(gone)

    async def stop(self) -> None:
        """Read no host any longer."""
        self._stopped = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _note_levels(self) -> None:
        """Write down what was seen of hosts at `observe`; some may move up for it."""
        seen = self._watch.take()
        try:
            moved = await self.ask(partial(self._table.note, seen)) if seen else []
        except psycopg.Error:
            self._watch.give_back(seen)
            raise
        for hostname, checked in moved:
            _log.info(
                "host moved up to enforce: nothing was waived for the clean period",
                extra={"fields": {"host": hostname, "checked": checked}},
            )

    async def _follow(
        self, group: asyncio.TaskGroup, rows: list[HostRow], shards: Mapping[int, int]
    ) -> None:
        """Args: shards: that were readable before the rows were read."""
        self._watch.hosts(row.id for row in rows if row.level is Level.OBSERVE)
        wanted = {row.id: row for row in rows if _why_not(row) is None}
        gone = [
            host
            for host, subscription in self.subscriptions.items()
            if host not in wanted or _is_another(subscription, wanted[host])
        ]
        for host in gone:
            if host not in wanted:
                self.subscriptions[host].stir(Signal.FORBIDDEN)
            self._tasks.pop(host).cancel()
            self._rows.pop(host, None)
        ended = [self.subscriptions.pop(host) for host in gone]
        self._end(ended)
        rested = self._resting
        self._tell_unread(rows, shards, [s.feed.source.host for s in ended])
        for host, subscription in self.subscriptions.items():
            row = wanted[host]
            was = self._rows.get(host, row)
            self._rows[host] = row
            if _wish(was) != _wish(row):
                self._take_over(subscription, was, row)
        new = [row for row in wanted.values() if row.shard in shards and row.id not in self._tasks]
        # The first to get in line is dialled at once, so that the largest should be.
        new.sort(key=lambda row: (-row.accounts, -row.events, row.id))
        for begun, row in enumerate(new, 1):
            epoch = shards[row.shard]
            # The row is no good any more once the shard was let go, whoever has it now.
            if self._stopped or self._readable().get(row.shard) != epoch:
                continue
            self._rows[row.id] = row
            subscription = self.subscriptions[row.id] = self._subscribe(row, epoch)
            if row.id in rested:
                subscription.stir(Signal.ASKED)
            self._tasks[row.id] = group.create_task(subscription.run(), name=f"host {row.hostname}")
            if begun % BEGUN_AT_ONCE == 0:
                await asyncio.sleep(0)
                if self._soon.is_set():
                    # More to read: with its rows, as they are now.
                    return

    def _take_over(self, subscription: Subscription, was: HostRow, row: HostRow) -> None:
        """Something else is wanted of a host that is read."""
        _set_level(subscription.feed, row.level)
        if was.dial_asked != row.dial_asked:
            subscription.stir(Signal.ASKED)
        self._changed(subscription, row)

    def _tell_unread(
        self, rows: Collection[HostRow], shards: Mapping[int, int], ended: Collection[int]
    ) -> None:
        """What is seen of hosts that an operator does not want to be read, once for each."""
        for host in set(ended) - {row.id for row in rows}:
            # Deleted: nobody is shown it, and it is not connected when it comes back.
            self._unread(HostObservation(host, State.IDLE.value, None))
        resting = {}
        for row in rows:
            why = _why_not(row)
            if why is not None and row.shard in shards:
                seen = _resting(row, why)
                resting[row.id] = row.shard, seen
                if row.id not in self._resting:
                    self._unread(seen)
        self._resting = resting

    async def _note_restarts(self) -> None:
        """Begin the next generation of the hosts that need one."""
        while self._anew:
            host = self._anew.pop()
            subscription = self.subscriptions.get(host)
            if subscription is None:
                continue
            generation = subscription.feed.generation
            try:
                begun = await self.ask(partial(self._table.restart, host, generation, 0))
            except psycopg.Error:
                self._anew.add(host)
                raise
            if begun:
                metrics.RESTARTS.inc()
                _log.warning(
                    "host's numbers have begun anew: it is read from its first event on, as another generation",
                    extra={"fields": {
                        "host": subscription.feed.source.hostname, "generation": generation + 1,
                        "cursor": subscription.feed.upstream.last_seq,
                    }},
                )  # fmt: skip


def _wish(row: HostRow) -> tuple[object, ...]:
    """What an operator wants of a host that is read; the rest of its row is observed."""
    return (
        row.level, row.account_limit, row.trusted, row.per_second, row.per_hour, row.per_day,
        row.dial_asked,
    )  # fmt: skip


def _why_not(row: HostRow) -> str | None:
    """Why a host is not to be read; None: it is."""
    if row.banned:
        return "banned"
    return f"another name of {row.alias_of}" if row.alias_of else None


def _resting(row: HostRow, why: str) -> HostObservation:
    state = State.BANNED if row.banned else State.IDLE
    return HostObservation(row.id, state.value, why, events=row.events, restarts=row.restarts)


def _is_another(subscription: Subscription, row: HostRow) -> bool:
    """Whether what is read is not what the row says now: an operator, or persist, has changed it.

    Under a generation that is over events would be logged that come again under the new one.
    """
    now = row.hostname, row.tls, row.generation
    target, feed = subscription.target, subscription.feed
    was = feed.source.hostname, target.tls, feed.generation
    if was == now:
        return False
    _log.warning(
        "host is another now, and read anew from the cursor of its row",
        extra={"fields": {
            "id": row.id, "host": row.hostname, "tls": row.tls, "generation": row.generation,
            "was": was, "cursor": row.cursor,
        }},
    )  # fmt: skip
    return True


def _set_level(feed: Feed, level: Level) -> None:
    """Judge what comes from a host as its level says; what was judged stays as it is."""
    if feed.source.level != level:
        _log.info(
            "host is judged at another level",
            extra={"fields": {
                "host": feed.source.hostname, "now": level.value,
                "was": feed.source.level.value,
            }},
        )  # fmt: skip
        feed.source = feed.source._replace(level=level)
