"""What is done now and then, beside the flow of events, so that the disk and the next start are well?

    retention    segments that left the window go; what the next start needs stays
    reserve      on a disk that is nearly full the oldest go first, whoever needs them
    checkpoint   what is known of the log, beside it (persist.checkpoint)

Each fails alone: without a checkpoint a start takes longer, and nothing is kept from going on.
"""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import replace
from typing import Final

from persist.checkpoint import Checkpoint, KnownHost
from persist.checkpoint_file import write_checkpoint
from persist.config import Config
from persist.disk import Disk
from persist.duplicates import Duplicates
from persist.fence import Fence
from persist.reserve import is_low, missing_bytes
from persist.segment_log import SegmentLog
from persist.view import View
from persist.window_clock import WindowClock, known_s

log: Final = logging.getLogger(__name__)

FREE_SHARE: Final = 0.8
"""Share of the disk that is free for it at start which the log may take, when no size is set."""
SCANNED_EVENTS: Final = 20_000
"""How many events the next start has to read rows of, about: a stream that would make it more is
written into the checkpoint. At 5 kB each, 100 MB."""
LAGGING_MAX: Final = 50_000
"""Events of such streams that a checkpoint holds at most: 28 bytes and 1 µs of the loop each. The rest
is read from rows. A stream whose rows have left the log comes before that and is never left out."""
HOSTS_EVERY_S: Final = 60.0
"""How often the hosts are read anew for the checkpoint, in seconds; sooner when there is a new one."""


class Upkeep:
    """Looks after the log's folder. Owned by the thread that writes the log.

    hosts: as the database has them. disk_low: whether the disk has less room than its reserve.
    max_bytes: what the log may take. clock_suspect: whether ingest believes the system's clock wrong.
    """

    def __init__(
        self,
        config: Config,
        disk: Disk,
        segment_log: SegmentLog,
        duplicates: Duplicates,
        fence: Fence,
        view: View,
        hosts: list[KnownHost],
    ) -> None:
        self.hosts = hosts
        self.disk_low = False
        self.clock_suspect = False
        self._config = config
        self._disk = disk
        self._log = segment_log
        self._duplicates = duplicates
        self._fence = fence
        self._view = view
        window_s = config.replay_window_s
        self._clock = WindowClock(
            window_s,
            time.time(),
            time.monotonic(),
            known_s(segment_log.found_times_us, window_s),
        )
        self._scan_seq = 0
        self._written: Checkpoint | None = None
        self._retain_due_s = 0.0
        self._checkpoint_due_s = 0.0
        self._hosts_due_s = time.monotonic() + HOSTS_EVERY_S
        self.max_bytes = config.replay_bytes or self._free_share()

    def tick(self, now_s: float) -> bool:
        """Do what is due; returns whether `hosts` have to be read anew. now_s: a clock that only rises."""
        checkpoint_due = now_s >= self._checkpoint_due_s
        if checkpoint_due:
            self._checkpoint_due_s = now_s + self._config.checkpoint_s
            self.write_checkpoint()
        if now_s >= self._retain_due_s:
            self._retain_due_s = now_s + self._config.retain_every_s
            self.retain()
        if not checkpoint_due:
            return False
        known = {host.id for host in self.hosts}
        if now_s < self._hosts_due_s and all(c.host in known for c in self._duplicates.cursors()):
            return False
        self._hosts_due_s = now_s + HOSTS_EVERY_S
        return True

    def retain(self) -> None:
        """Drop what has left the window, or what the disk cannot hold."""
        config, usage = self._config, shutil.disk_usage(self._config.log_dir)
        must_free = missing_bytes(usage.total, usage.free, config.reserve_bytes)
        # What is not in PostgreSQL is in the log alone; so are the rows above the cursors, where
        # neither PostgreSQL nor the checkpoint has the cursors as they are now.
        keep_from = min(self._view.applied_seq + 1, max(self._view.scan_seq, self._scan_seq))
        oldest_seq = self._log.oldest_seq
        now_s = self._clock.now_s(time.time(), time.monotonic(), suspect=self.clock_suspect)
        dropped = self._log.retain(
            self.max_bytes, config.replay_window_s, now_s, keep_from, must_free
        )
        low = is_low(usage.total, usage.free, config.reserve_bytes, was_low=self.disk_low)
        if low is not self.disk_low:
            log.error(
                "the disk of %s has %d bytes free, %s", config.log_dir, usage.free,
                "less than its reserve: the oldest segments go first" if low else "enough again",
            )  # fmt: skip
        self.disk_low = low
        if dropped:
            log.info("dropped %d segments; the log begins at seq %d", dropped, self._log.oldest_seq)
        if keep_from < self._log.oldest_seq and dropped:
            log.error(
                "seqs %d to %d left the log, and the next start needs them: the database has not "
                "heard of all of them", max(keep_from, oldest_seq), self._log.oldest_seq - 1,
            )  # fmt: skip

    def write_checkpoint(self) -> None:
        """Write what is known, if that has changed. All that was logged so far is durable …"""
        durable_seq = self._log.durable_seq
        lagging = self._duplicates.lagging(
            durable_seq + 1 - SCANNED_EVENTS, LAGGING_MAX, self._log.oldest_seq
        )
        checkpoint = Checkpoint(
            self._log.epoch,
            time.time_ns() // 1000,
            durable_seq,
            self._view.applied_seq,
            # … but for a group that is open: its rows are read again.
            min(self._duplicates.scan_seq(durable_seq + 1, lagging), durable_seq + 1),
            self._duplicates.cursors(),
            self._fence.claims(),
            self.hosts,
            lagging,
        )
        if self._written is not None and replace(checkpoint, time_us=0) == self._written:
            return
        try:
            write_checkpoint(self._disk, self._config.log_dir, checkpoint)
        except OSError as error:
            log.error("the checkpoint cannot be written: %s", error)
            return
        self._written = replace(checkpoint, time_us=0)
        self._scan_seq = checkpoint.scan_seq

    def _free_share(self) -> int:
        free = shutil.disk_usage(self._config.log_dir).free
        return int((free + self._log.size_bytes) * FREE_SHARE)
