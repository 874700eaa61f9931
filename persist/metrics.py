"""Which numbers does persist report? Each is listed here once.

What became of each event is one balance: persist.fates, common.conservation.
"""

from __future__ import annotations

from typing import Final

from common.telemetry import counter, gauge, high_water, histogram

REFUSED_LINKS: Final = counter(
    "standpipe_refused_links",
    "Connections from other machines that were refused: no_key (none, or not for ours), unknown_key.",
    ["reason"],
)
for _reason in ("no_key", "unknown_key"):
    REFUSED_LINKS.labels(_reason)


class Metrics:
    """The numbers of this stage; set per group or per second, never per event."""

    def __init__(self) -> None:
        self.refused_batches = counter(
            "standpipe_refused_batches_total", "Batches from ingest processes that were outlived."
        )
        self.lost_replies = counter(
            "standpipe_lost_replies_total", "Replies to ingest processes that were gone."
        )
        self.durable_seq = gauge("standpipe_durable_seq", "The last seq that is on disk.")
        self.oldest_seq = gauge("standpipe_oldest_seq", "The first seq that is kept.")
        self.log_bytes = gauge("standpipe_log_bytes", "Size of all segments, in bytes.")
        self.disk_low = gauge(
            "standpipe_disk_low", "1 while the log's disk has less room than its reserve."
        )
        self.log_limit_bytes = gauge(
            "standpipe_log_limit_bytes", "What the log may take, in bytes."
        )
        self.view_applied_seq = gauge(
            "standpipe_view_applied_seq", "The seq up to which PostgreSQL has the accounts."
        )
        self.accounts = gauge("standpipe_accounts_in_memory", "Accounts whose state is in memory.")
        self.upstream_seqs = gauge(
            "standpipe_upstream_seqs_in_memory", "Logged events above their host's cursor."
        )
        self.recalls = gauge("standpipe_recalls", "Accounts of which a judged-again event is due.")
        self.fsync_s = histogram(
            "standpipe_fsync_seconds", "Writing and flushing one group.",
            buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0),
        )  # fmt: skip
        self.group_events = histogram(
            "standpipe_group_events", "Events in one group.",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
        )  # fmt: skip
        self.group_bytes = high_water("persist_group_bytes")
        self.waiting_events = high_water("persist_waiting_events")
