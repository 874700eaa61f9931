"""What does it cost persist to make events durable, and how many can it number in a second?

Events of 5 kB go through the sequencer into groups as in production (500 kB each), and every group
is appended, checksummed, written, flushed and announced before the next: one thread, a real disk.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from common.envelope import NEVER_SEEN, Batch
from persist.account import Accounts
from persist.duplicates import Duplicates
from persist.fence import Fence
from persist.recall import Recalls
from persist.segment_log import SegmentLog
from persist.sequencer import Sequencer
from persist.tally import Tallies
from tests.persist.events import commit_over, did, judged

EVENTS: Final = 40_000
EVENT_BYTES: Final = 5_000
ACCOUNTS: Final = 2_000
BATCH_EVENTS: Final = 64
"""As ingest sends them in a rush."""
ROUNDS: Final = 3
_ROUTE: Final = b"ingest"
_MEMBER_EPOCH: Final = 1
WANTED_PER_S: Final = 30_000
WANTED_FLOORS: Final = 0.25


def batches(log_epoch: int, first: int, count: int) -> Iterator[Batch]:
    """Events of many accounts, each following from the one before of its account."""
    states = dict.fromkeys(range(ACCOUNTS), NEVER_SEEN)
    for start in range(first, first + count, BATCH_EVENTS):
        batch = Batch(0, _MEMBER_EPOCH, log_epoch=log_epoch)
        for position in range(start, start + BATCH_EVENTS):
            account = position % ACCOUNTS
            after = commit_over(states[account], position)
            event, frame = judged(
                position, account=did(account), state=states[account], after=after,
                fill=EVENT_BYTES,
            )  # fmt: skip
            states[account] = after
            batch.events.append(event)
            batch.frames.append(frame)
        yield batch


class Writer:
    """What persist's loop does with a group, without the sockets.

    durable_cpu_s, durable_s: CPU time and time that append and wait took, in seconds.
    """

    def __init__(self, log_dir: Path, first_seq: int = 1) -> None:
        self.log = SegmentLog(log_dir)
        accounts = Accounts()
        next_seq = self.log.claim("bench", first_seq)
        self.sequencer = Sequencer(
            next_seq, self.log.epoch, accounts, Duplicates(), Recalls(), Tallies(), Fence()
        )
        for number in range(ACCOUNTS):
            accounts.learn(did(number), NEVER_SEEN)
        self.durable_cpu_s = self.durable_s = 0.0

    def take(self, batch: Batch) -> None:
        """Number the events of a batch; full groups are made durable."""
        assert self.sequencer.admit(_ROUTE, batch)
        for _ in self.sequencer.take(_ROUTE, batch):
            self.commit()

    def commit(self) -> None:
        """Make the group durable."""
        group = self.sequencer.cut()
        cpu_s, began_s = time.thread_time(), time.perf_counter()
        chunk = self.log.append(group.rows, group.frames, time.time_ns() // 1000)
        self.log.wait(chunk.next_seq - 1)
        self.durable_cpu_s += time.thread_time() - cpu_s
        self.durable_s += time.perf_counter() - began_s


def measure() -> dict[str, Any]:
    """The best of some rounds, each in a log of its own."""
    rounds = [_round() for _ in range(ROUNDS)]
    return {
        "event_bytes": EVENT_BYTES,
        "events_per_s": max(each["events_per_s"] for each in rounds),
        **{
            name: min(each[name] for each in rounds)
            for name in ("durable_cpu_us", "durable_us", "cpu_us")
        },
        "rounds": rounds,
    }


def _round() -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="standpipe-bench-") as folder:
        writer = Writer(Path(folder))
        prepared = list(batches(writer.log.epoch, 1, EVENTS))
        cpu_s, began_s = time.thread_time(), time.perf_counter()
        for batch in prepared:
            writer.take(batch)
        writer.commit()
        elapsed_s, cpu_s = time.perf_counter() - began_s, time.thread_time() - cpu_s
        count = writer.log.durable_seq
        writer.log.close()
    assert count >= EVENTS, f"only {count} events came through"
    return {
        "events_per_s": count / elapsed_s,
        "durable_cpu_us": writer.durable_cpu_s / count * 1e6,
        "durable_us": writer.durable_s / count * 1e6,
        "cpu_us": cpu_s / count * 1e6,
    }


def lines(found: dict[str, Any], floor_us: float) -> Iterator[str]:
    """The figures for people."""
    yield f"making an event of {found['event_bytes']} bytes durable (append, CRC, write, flush, "
    yield f"announce): {found['durable_cpu_us']:.1f} µs CPU = "
    yield f"{found['durable_cpu_us'] / floor_us:.2f} F, wanted ≤ {WANTED_FLOORS:g} F"
    yield f"sequencing with a flush a group: {found['events_per_s']:,.0f} events/s, wanted ≥ "
    yield f"{WANTED_PER_S:,}; {found['cpu_us']:.1f} µs CPU an event, the disk included"
