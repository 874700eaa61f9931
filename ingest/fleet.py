"""Which hosts does this process read now, and how strictly does it judge them?

The table of hosts is read again and again: hosts that are new in it are begun with, a few dozen a
second, those that an operator no longer wants are let go, and levels are taken over. What was seen
of hosts at `observe` is written down there, too; some may move up for it.

While the database is away the hosts known so far go on being read. How a host is read is its
subscription's matter.

Source: S-HST-03, S-HST-07; design section 3, "Validation level per host".
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

import psycopg

from common.verdict import Level
from ingest.account import Feed
from ingest.fetch import FetchError
from ingest.hosts import HostRow, Table, ours
from ingest.levels import Watch
from ingest.subscription import Subscription

HOSTS_AGAIN_S: Final = 5.0
"""How often the table of hosts is read, in seconds."""
DIALS_A_SECOND: Final = 50.0
"""New hosts are dialled at this rate, so that a start does not dial thousands at once."""
SAY_AGAIN_S: Final = 10.0
_log = logging.getLogger("standpipe")


class Fleet:
    """The hosts of one process. subscriptions: by number of the host."""

    def __init__(
        self,
        table: Table,
        watch: Watch,
        *,
        member: int,
        processes: int,
        seed: Callable[[], Awaitable[None]],
        begin: Callable[[HostRow], Subscription],
        end: Callable[[Subscription], None],
    ) -> None:
        """Nothing is read until `run`.

        Args:
            table: of the hosts; closed when `run` ends. watch: of those at `observe`.
            member, processes: number of this process, and of all; the first one seeds.
            seed: put the hosts in the table that were named, or that another relay lists.
            begin: make the subscription to a host. end: told of one that is let go.
        """
        self._table = table
        self._watch = watch
        self._member = member
        self._processes = processes
        self._seed = seed
        self._subscribe = begin
        self._end = end
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self.subscriptions: dict[int, Subscription] = {}

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Follow the table until cancelled; the hosts are read as tasks of `group`."""
        seeded = self._member != 0
        said_s = 0.0
        try:
            while True:
                try:
                    if not seeded:
                        await self._seed()
                        seeded = True
                    await self._note_levels()
                    rows = await asyncio.to_thread(self._table.wanted)
                    await self._follow(group, ours(rows, self._member, self._processes))
                except (psycopg.Error, FetchError) as error:
                    if time.monotonic() - said_s > SAY_AGAIN_S:
                        said_s = time.monotonic()
                        _log.warning(
                            "waiting for the list of hosts",
                            extra={"fields": {"error": str(error).strip()[:300]}},
                        )
                    if not self.subscriptions:
                        await asyncio.sleep(0.5)
                        continue
                await asyncio.sleep(HOSTS_AGAIN_S)
        finally:
            self._table.close()

    async def stop(self) -> None:
        """Read no host any longer."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _note_levels(self) -> None:
        """Write down what was seen of hosts at `observe`; some may move up for it."""
        seen = self._watch.take()
        try:
            moved = await asyncio.to_thread(self._table.note, seen) if seen else []
        except psycopg.Error:
            self._watch.give_back(seen)
            raise
        for hostname, checked in moved:
            _log.info(
                "host moved up to enforce: nothing was waived for the clean period",
                extra={"fields": {"host": hostname, "checked": checked}},
            )

    async def _follow(self, group: asyncio.TaskGroup, rows: list[HostRow]) -> None:
        self._watch.hosts(row.id for row in rows if row.level is Level.OBSERVE)
        wanted = {row.id: row for row in rows}
        for host in [host for host in self._tasks if host not in wanted]:
            self._tasks.pop(host).cancel()
            self._end(self.subscriptions.pop(host))
        for host, subscription in self.subscriptions.items():
            _set_level(subscription.feed, wanted[host].level)
        for row in rows:
            if row.id not in self._tasks:
                subscription = self.subscriptions[row.id] = self._subscribe(row)
                self._tasks[row.id] = group.create_task(
                    subscription.run(), name=f"host {row.hostname}"
                )
                await asyncio.sleep(1 / DIALS_A_SECOND)


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
