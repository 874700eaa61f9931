"""Which shards are ours now, and who has to know of it?

    table ── choose, once ──▶ which life of our number this is: nothing is said to persist before
    table ── look, each second ──▶ share ──▶ take ──▶ claim at persist ──▶ claimed: their hosts are read
                                      └────▶ give ◀── their hosts are read no longer, all of it finished
    not ours by the table any more, or outlived, as persist says ──▶ let go of their hosts at once

Who does not reach persist renews nothing and takes nothing: what it reads would go nowhere, and another
may do better. A lease that could not be renewed is ours until somebody has taken it: while the database is away all
goes on. Persist's fence decides who is heard, whatever anybody here believes.

The table is asked on a thread of its own, so that one that does not answer holds up nothing.

Source: design section 3, "Which worker owns which host".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, TypeVar

import psycopg

from common.database import RETRY_S, Waiting
from common.envelope import ShardClaim
from common.steady import steady_s
from ingest import metrics
from ingest.asker import Asker
from ingest.lease_table import Look, Table, Wanted
from ingest.load import Averages, Work
from ingest.share import LOOK_S, Contact, Me, Plan, plan

APART_S: Final = 4.0
"""Who has not reached persist for so long is no owner any more, in seconds: longer than its restart."""
GREETING_S: Final = 0.05
"""How often it is looked whether persist has answered for the first time, in seconds."""
MOVING_FASTER: Final = 4.0
"""While shards are on their way the table is looked at so many times as often."""
MOVED_S: Final = 10.0
"""So long after a shard came its hosts are dialled as such that have moved, in seconds."""
LEAVE_S: Final = 2.0
"""How long the end of the process waits for the database to hear of it, in seconds."""
_log = logging.getLogger("standpipe")
_T = TypeVar("_T")


class Leases:
    """The leases of one process.

    held: shards that are ours by the table, with the leases' epochs. members: processes that live.
    """

    def __init__(
        self,
        table: Table,
        me: Me,
        *,
        begun: Callable[[int], None],
        taken: Callable[[], None],
        claimed: Callable[[], None],
        lost: Callable[[Collection[int]], None],
        retire: Callable[[Collection[int]], Awaitable[None]],
        worked: Callable[[], Mapping[int, Work]] = dict,
        reaches_persist: Callable[[], bool] = lambda: True,
        look_s: float = LOOK_S,
    ) -> None:
        """Nothing is asked until `run`.

        Args:
            table: closed at the end. me: its instance is the table's to choose.
            begun: told which instance this is, once. taken: told when shards were added to `held`.
            claimed: told when some of them may be read. lost: told of some that are ours no longer.
            retire: read these no longer and finish what is under way of them.
            reaches_persist: whether persist answers us. worked: what was done for each shard since this was asked last.
            look_s: how often the table is looked at, in seconds.
        """
        self._table = table
        self._me = me
        self._taken = taken
        self._on_begun = begun
        self._on_claimed = claimed
        self._lost = lost
        self._retire = retire
        self._worked = worked
        self._reaches_persist = reaches_persist
        self._reached_s = float("-inf")
        self._moved_s: dict[int, float] = {}
        self._averages = Averages()
        self._look_s = look_s
        self._contact = Contact()
        self._waiting = Waiting("the database, for the leases")
        self._asker: Asker | None = None
        self._above: dict[int, int] = {}
        """The highest epoch that persist has told of, by shard."""
        self._claimed: set[int] = set()
        self._giving: set[int] = set()
        self._retired: set[int] = set()
        self._soon = asyncio.Event()
        self._begun = False
        self._settled = False
        self._leaving = False
        self.held: dict[int, int] = {}
        self.members = 1

    @property
    def readable(self) -> dict[int, int]:
        """The shards whose hosts are ours to read, with the leases' epochs."""
        return {
            shard: self.held[shard] for shard in sorted(self._claimed) if shard not in self._giving
        }

    def has_moved(self, shard: int) -> bool:
        """Whether its hosts were connected to another process until a moment ago."""
        return steady_s() - self._moved_s.get(shard, float("-inf")) < MOVED_S

    # --- from persist ---

    def claimed(self, claims: Iterable[ShardClaim]) -> None:
        """Persist hears nobody else on these."""
        new = {c.shard for c in claims if self.held.get(c.shard) == c.epoch} - self._claimed
        if new:
            self._claimed |= new
            self._on_claimed()

    def outlived(self, claims: Iterable[ShardClaim]) -> None:
        """Persist has heard of later owners of these."""
        gone = set()
        for shard, epoch in claims:
            self._above[shard] = max(epoch, self._above.get(shard, 0))
            if self.held.get(shard, epoch) < epoch:
                gone.add(shard)
        if gone:
            self._let_go(sorted(gone), "a later owner has spoken")
            # Where the table has been set back it is still ours there: taken anew, with a higher epoch.
            self._soon.set()

    # --- with the table ---

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Follow the table until cancelled; shards are given up in tasks of `group`."""
        self._asker = Asker(f"ingest-{self._me.member} leases", self._table.close)
        try:
            while not self._leaving:
                try:
                    pause_s = await self._round(group)
                except psycopg.Error as error:
                    self._contact.lost()
                    self._waiting.still(error)
                    pause_s = RETRY_S
                else:
                    self._waiting.over()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._soon.wait()
                self._soon.clear()
        finally:
            self._asker.end()

    def settle(self) -> None:
        """Take and give nothing more; what is ours goes on being renewed."""
        self._settled = True

    async def leave(self) -> None:
        """Give up all leases, if the database answers soon. Nothing is taken after this."""
        self._leaving = self._settled = True
        self._soon.set()
        if self._asker is not None and self._begun:
            with contextlib.suppress(TimeoutError, psycopg.Error):
                async with asyncio.timeout(LEAVE_S):
                    await self._ask(lambda: self._table.leave(self._me))

    async def _round(self, group: asyncio.TaskGroup) -> float:
        """Look, take and give → after how many seconds to look again."""
        if not self._begun:
            await self._begin()
        if self._reaches_persist():
            self._reached_s = steady_s()
        elif steady_s() - self._reached_s > APART_S:
            self._contact.lost()
            return self._look_s if self.held else min(GREETING_S, self._look_s)
        me, table = self._me, self._table
        if self._retired:
            await self._give_back()
        said = self._averages.say(steady_s(), self._worked())
        look = await self._ask(lambda: table.look(me, said))
        self._contact.heard(steady_s(), look.at_s, look.started_s)
        self.members = max(1, len(look.members))
        self._compare(look)
        what = plan(
            me,
            look.rows,
            look.members,
            self.held,
            self._giving,
            self._contact.unbroken_s(steady_s()),
        )
        if what.take and not self._settled:
            await self._take(look, what)
        if what.give and not self._settled:
            self._giving.update(what.give)
            group.create_task(self._give(what.give), name="shards given up")
        on_the_way = self._giving or any(row.given for row in look.rows)
        return self._look_s / MOVING_FASTER if on_the_way else self._look_s

    async def _begin(self) -> None:
        member = self._me.member
        instance = await self._ask(lambda: self._table.choose(member))
        self._me = self._me._replace(instance=instance)
        self._begun = True
        self._on_begun(instance)

    def _compare(self, look: Look) -> None:
        """Let go of what the table says is not ours."""
        ours = {
            (row.number, row.epoch)
            for row in look.rows
            if row.owner == self._me.member and row.instance == self._me.instance
        }
        gone = [shard for shard, epoch in self.held.items() if (shard, epoch) not in ours]
        if gone:
            self._let_go(gone, "not ours by the table")

    async def _take(self, look: Look, what: Plan) -> None:
        rows = {row.number: row for row in look.rows}
        wanted = [
            Wanted(shard, rows[shard].epoch, self._above.get(shard, 0)) for shard in what.take
        ]
        taken = await self._ask(lambda: self._table.take(self._me, wanted, look.at_s))
        if not taken:
            return
        self.held.update(taken)
        for shard in taken:
            self._averages.take_over(shard, rows[shard].load)
        others = [s for s in taken if rows[s].owner not in (None, self._me.member)]
        now_s = steady_s()
        self._moved_s |= {s: now_s for s in taken if s in others or rows[s].given}
        metrics.TAKEOVERS.inc(len(others))
        metrics.SHARDS.set(len(self.held))
        _log.info(
            "shards taken",
            extra={"fields": {"count": len(taken), "of_others": len(others),
                              "now": len(self.held)}},
        )  # fmt: skip
        self._taken()

    async def _give(self, shards: Sequence[int]) -> None:
        """Finish what is under way of some shards, and have the next round give them back."""
        await self._retire(shards)
        self._retired.update(shard for shard in shards if shard in self._giving)
        self._soon.set()

    async def _give_back(self) -> None:
        leases = {shard: self.held[shard] for shard in sorted(self._retired)}
        self._retired.clear()
        try:
            await self._ask(lambda: self._table.give(self._me, leases))
        except psycopg.Error:
            # Then they stay ours: their hosts are read again.
            self._giving.difference_update(leases)
            self._on_claimed()
            raise
        self._let_go([shard for shard in leases if shard in self.held], "given up for balance")

    def _let_go(self, shards: Collection[int], why: str) -> None:
        for shard in shards:
            del self.held[shard]
        self._averages.forget(shards)
        self._claimed.difference_update(shards)
        self._giving.difference_update(shards)
        self._retired.difference_update(shards)
        metrics.RELEASES.inc(len(shards))
        metrics.SHARDS.set(len(self.held))
        _log.info(
            "shards let go",
            extra={"fields": {"count": len(shards), "why": why, "now": len(self.held)}},
        )
        self._lost(shards)

    async def _ask(self, question: Callable[[], _T]) -> _T:
        assert self._asker is not None
        return await self._asker.ask(question)
