"""How does persist begin where the log ends, with nothing known but the log and PostgreSQL?

    cursors of PostgreSQL, rows of the log     → Duplicates
    leases of PostgreSQL, rows of the log      → Fence
    applied_seq of PostgreSQL, the log's tail  → the view, written before anything is served:
                                                 states, and what is counted per host

It reads the log and asks the store; what follows from that is persist/replay.py's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from common.envelope import Mark
from common.log import LogReader
from persist.duplicates import Duplicates
from persist.fence import Fence
from persist.replay import open_chunk, replay
from persist.store import Store
from persist.tally import Tallies
from persist.view import Changes

log: Final = logging.getLogger(__name__)

READ_BYTES: Final = 8 * 1024 * 1024
"""How much of the log is taken in hand at once, in bytes."""


def catch_up(
    store: Store, reader: LogReader, stopped: Callable[[], bool], fence: Fence
) -> tuple[Duplicates, int] | None:
    """Bring PostgreSQL up to the log's durable end; returns what is logged, and applied_seq.

    None when `stopped` said so before: what was done by then need not be done again. `fence` is told
    of every owner that has written.

    Raises:
        Damaged: the log is.
        psycopg.Error: the database is away, or refuses; nothing is half done.
    """
    applied_seq, scan_seq = store.read_positions()
    durable_seq = reader.durable_seq
    duplicates = Duplicates()
    cursors = store.read_cursors()
    for cursor in cursors:
        duplicates.advance(cursor)
    oldest_seq = reader.oldest_seq
    if applied_seq + 1 < oldest_seq <= durable_seq:
        log.error(
            "seqs %d to %d left the log before the database had them: what they said of accounts "
            "is lost", applied_seq + 1, oldest_seq - 1,
        )  # fmt: skip
    seq = max(min(scan_seq, applied_seq + 1), oldest_seq, 1)
    behind = applied_seq < durable_seq
    if behind:
        log.info("catching the database up from seq %d to %d", applied_seq, durable_seq)
    while chunks := reader.read(seq, READ_BYTES):
        if stopped():
            return None
        events, tallies = [], Tallies()
        for chunk in chunks:
            for at, row in enumerate(chunk.rows(), chunk.first_seq):
                fence.passes(row.shard, row.epoch)
                if row.flags & Mark.OURS:
                    duplicates.add_ours(row.host, row.epoch, row.position)
                else:
                    duplicates.add(row.host, row.generation, row.upstream_seq, row.account, at)
                if at > applied_seq:
                    tallies.add(row.host, row.flags)
            if chunk.next_seq - 1 > applied_seq:
                events += open_chunk(chunk, applied_seq)
        seq = chunks[-1].next_seq
        if events:
            applied_seq = seq - 1
            states = replay(events, store.find_states)
            scan_seq = duplicates.scan_seq(seq)
            store.flush(Changes(states, [], [], applied_seq, scan_seq, tallies.take()))
    if applied_seq >= durable_seq and behind:
        log.info("the database has everything up to seq %d", applied_seq)
    return duplicates, applied_seq
