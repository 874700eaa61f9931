"""Which hosts does this process read now, and how strictly does it judge them?

Those of the shards that are its own to read (ingest.leases). The table of hosts is read again and
again, and whenever a shard has come: hosts that are new are begun with, a few dozen a second, from
their cursor as it is then; those that an operator no longer wants are let go, and levels are taken
over. What was seen of hosts at `observe` is written down there, too; some may move up for it.

While the database is away the hosts known so far go on being read. How a host is read is its
subscription's matter.

Source: S-HST-03, S-HST-07; design section 3, "Validation level per host".
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

from common.fetch import FetchError
from common.verdict import Level
from ingest.account import Feed
from ingest.asker import Asker
from ingest.hosts import HostRow, Table
from ingest.levels import Watch
from ingest.subscription import Subscription

HOSTS_AGAIN_S: Final = 5.0
"""How often the table of hosts is read, in seconds."""
DIALS_A_SECOND: Final = 50.0
"""New hosts are dialled at this rate, so that a start does not dial thousands at once."""
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
    ) -> None:
        """Nothing is read until `run`.

        Args:
            table: of the hosts; asked by a thread of its own, closed when `run` ends. watch: of those at `observe`.
            readable: the shards whose hosts are to be read, each with the epoch of its lease. Who has
                SEEDING_SHARD of them seeds.
            seed: put the hosts in the table that were named, or that another relay lists.
            begin: make the subscription to a host, under this epoch. end: told of those that are let go.
        """
        self._table = table
        self._watch = watch
        self._readable = readable
        self._seed = seed
        self._subscribe = begin
        self._end = end
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
                    rows = [row for row in await self.ask(self._table.wanted) if not row.banned]
                    await self._follow(group, rows, shards)
                    if self.subscriptions:
                        pause_s = HOSTS_AGAIN_S
                except (psycopg.Error, FetchError) as error:
                    if time.monotonic() - said_s > SAY_AGAIN_S:
                        said_s = time.monotonic()
                        _log.warning(
                            "waiting for the list of hosts",
                            extra={"fields": {"error": str(error).strip()[:300]}},
                        )
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._soon.wait()
        finally:
            self._asker.end()

    async def ask(self, question: Callable[[], _T]) -> _T:
        """What the table gives or raises, asked by the one thread that has its connection; see `run`."""
        assert self._asker is not None
        return await self._asker.ask(question)

    def look_again(self) -> None:
        """Another shard may be read: look at once."""
        self._soon.set()

    def retire(self, shards: Collection[int]) -> list[Subscription]:
        """Read the hosts of these no longer → their subscriptions, to be finished and ended."""
        retired = {h: s for h, s in self.subscriptions.items() if s.feed.shard in shards}
        for host, subscription in retired.items():
            self._tasks.pop(host).cancel()
            del self.subscriptions[host]
            subscription.close()
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
        wanted = {row.id: row for row in rows}
        gone = [
            host
            for host, subscription in self.subscriptions.items()
            if host not in wanted or _is_another(subscription, wanted[host])
        ]
        for host in gone:
            self._tasks.pop(host).cancel()
        self._end([self.subscriptions.pop(host) for host in gone])
        for host, subscription in self.subscriptions.items():
            _set_level(subscription.feed, wanted[host].level)
        for row in rows:
            epoch = shards.get(row.shard)
            if epoch is None or row.id in self._tasks:
                continue
            # The row is no good any more once the shard was let go, whoever has it now.
            if self._stopped or self._readable().get(row.shard) != epoch:
                continue
            subscription = self.subscriptions[row.id] = self._subscribe(row, epoch)
            self._tasks[row.id] = group.create_task(subscription.run(), name=f"host {row.hostname}")
            await asyncio.sleep(1 / DIALS_A_SECOND)
            if self._soon.is_set():
                # More to read: with its rows, as they are now.
                return


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
