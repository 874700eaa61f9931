"""How does persist begin where the log ends, with nothing known but the log, its checkpoint and PostgreSQL?

    cursors of PostgreSQL and of the checkpoint, rows of the log    → Duplicates
    leases of PostgreSQL, epochs of the checkpoint, rows of the log → Fence
    applied_seq of PostgreSQL, the log's tail                       → the view, written before anything
                                                                      is served: states, and what is
                                                                      counted per host

PostgreSQL may be an older backup, or new: then the checkpoint knows more, and the log is read from
further back. It reads the log and asks the store; what follows from that is persist/replay.py's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from common.account_state import counts
from common.chunk import Chunk, Row
from common.envelope import AccountState, HostCursor, Mark
from common.log import Damaged, LogReader
from persist.checkpoint import Checkpoint
from persist.duplicates import Duplicates
from persist.fence import Fence
from persist.replay import Logged, open_chunk, replay
from persist.store import Store
from persist.tally import Tallies
from persist.view import Changes

log: Final = logging.getLogger(__name__)

READ_BYTES: Final = 8 * 1024 * 1024
"""How much of the log is taken in hand at once, in bytes."""
SAID_EVERY_EVENTS: Final = 1_000_000
"""How often a long way is reported, in events."""


class Start(NamedTuple):
    """What is known besides PostgreSQL, see persist.opening.

    strangers: numbers of hosts of which the log, up to now, says nothing: it meant others by them.
    """

    checkpoint: Checkpoint | None = None
    strangers: frozenset[int] = frozenset()


class CaughtUp(NamedTuple):
    """What the log has. applied_seq: PostgreSQL has all of it up to there."""

    duplicates: Duplicates
    applied_seq: int


class _Rows:
    """What is remembered of the rows that were read."""

    def __init__(self, duplicates: Duplicates, fence: Fence, start: Start) -> None:
        self.duplicates = duplicates
        self.highest_host = 0
        self.generations: dict[int, int] = dict.fromkeys(start.strangers, 0)
        for cursor in start.checkpoint.cursors if start.checkpoint is not None else ():
            if cursor.host in start.strangers:
                self.generations[cursor.host] = cursor.generation
        self._fence = fence

    def take(self, row: Row, seq: int) -> bool:
        """One row; False when its host is not whom the database means by that number."""
        host = row.host
        self._fence.passes(row.shard, row.epoch)
        self.highest_host = max(host, self.highest_host)
        if host in self.generations:
            self.generations[host] = max(row.generation, self.generations[host])
            return False
        if row.flags & Mark.OURS:
            self.duplicates.add_ours(host, row.epoch, row.position)
        else:
            self.duplicates.add(host, row.generation, row.upstream_seq, row.account, seq)
        return True


def catch_up(
    store: Store,
    reader: LogReader,
    stopped: Callable[[], bool],
    fence: Fence,
    start: Start = Start(),  # noqa: B008 - frozen
    *,
    strict: bool = False,
) -> CaughtUp | None:
    """Bring PostgreSQL up to the log's durable end.

    None when `stopped` said so before: what was done by then need not be done again.

    Args:
        fence: is told of every owner that has written.
        strict: refuse a log of which something is gone or damaged.

    Raises:
        Damaged: the log is, and the start is strict or cannot go on behind it; or a frame is not
            what its row says.
        psycopg.Error: the database is away, or refuses; nothing is half done.
    """
    applied_seq, scan_seq = store.read_positions()
    durable_seq = reader.durable_seq
    duplicates = Duplicates()
    for cursor in store.read_cursors():
        duplicates.advance(cursor)
    newer: list[HostCursor] = []
    if start.checkpoint is not None:
        cursors = (c for c in start.checkpoint.cursors if c.host not in start.strangers)
        newer = [cursor for cursor in cursors if duplicates.advance(cursor)]
        # What lies above both has a seq above both.
        scan_seq = max(scan_seq, start.checkpoint.scan_seq)
        for stream in start.checkpoint.lagging:
            if stream.host not in start.strangers:
                duplicates.recall(stream)
    oldest_seq = reader.oldest_seq
    what = left_unapplied(applied_seq, reader)
    if what is not None:
        if strict:
            raise Damaged(what, applied_seq + 1, oldest_seq)
        log.error("%s; the next commit of such an account is discontinuous, and passes", what)
    seq = max(min(scan_seq, applied_seq + 1), oldest_seq, 1)
    behind = applied_seq < durable_seq
    if behind:
        log.info("catching the database up from seq %d to %d", applied_seq, durable_seq)
    rows = _Rows(duplicates, fence, start)
    said_seq = seq
    while seq <= durable_seq:
        if stopped():
            return None
        try:
            chunks = reader.read(seq, READ_BYTES)
        except Damaged as damage:
            if strict or damage.until_seq is None:
                raise
            log.error("%s; what these seqs said of accounts is lost", damage)
            seq = damage.until_seq
            continue
        if not chunks:
            break
        events, tallies = [], Tallies()
        for chunk in chunks:
            events += _take_chunk(chunk, rows, applied_seq, tallies)
        seq = chunks[-1].next_seq
        if events:
            applied_seq = seq - 1
            states = replay(events, store.find_states, _counting(tallies))
            scan_seq = duplicates.scan_seq(seq)
            store.flush(Changes(states, [], [], applied_seq, scan_seq, tallies.take()))
        if seq >= said_seq + SAID_EVERY_EVENTS:
            said_seq = seq
            log.info("the log is read up to seq %d of %d", seq, durable_seq)
    applied_seq = max(applied_seq, durable_seq)
    store.part_hosts(rows.generations, rows.highest_host)
    store.flush(Changes([], newer, [], applied_seq, duplicates.scan_seq(durable_seq + 1)))
    if behind:
        log.info("the database has everything up to seq %d", applied_seq)
    return CaughtUp(duplicates, applied_seq)


def left_unapplied(applied_seq: int, reader: LogReader) -> str | None:
    """What left the log before a database that has it up to `applied_seq` was told, in words."""
    oldest_seq = reader.oldest_seq
    if not applied_seq + 1 < oldest_seq <= reader.durable_seq:
        return None
    return (
        f"seqs {applied_seq + 1} to {oldest_seq - 1} left the log before the database had them: "
        f"what they said of accounts is lost"
    )


def _counting(tallies: Tallies) -> Callable[[AccountState, AccountState], None]:
    """Counts with which host an account was, and is. Source: S-RAT-07."""

    def moved(before: AccountState, after: AccountState) -> None:
        was, now = counts(before), counts(after)
        if was != now:
            for host, by in ((was, -1), (now, 1)):
                if host:
                    tallies.count(host, by)

    return moved


def _take_chunk(chunk: Chunk, rows: _Rows, applied_seq: int, tallies: Tallies) -> list[Logged]:
    """The events that the database lacks, and what is remembered of all."""
    ours = []
    for seq, row in enumerate(chunk.rows(), chunk.first_seq):
        ours.append(rows.take(row, seq))
        if seq > applied_seq and ours[-1]:
            tallies.add(row.host, row.flags)
    if chunk.next_seq - 1 <= applied_seq:
        return []
    return [
        # A number that means somebody else now says nothing of who speaks for the account.
        logged if ours[logged.seq - chunk.first_seq] else logged._replace(host=0)
        for logged in open_chunk(chunk, applied_seq)
    ]
