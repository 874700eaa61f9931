"""Which figures does persist run with? Those that are settings, and those that are choices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.database import database_url
from common.paths import Paths
from common.settings import Settings


@dataclass(frozen=True, slots=True)
class Config:
    """One persist process.

    log_dir: the segments. batches_endpoint, chunks_endpoint: ZeroMQ addresses.
    database_url: of PostgreSQL. replay_window_s: how long events are kept, in seconds.
    replay_bytes: how large the log may grow; None for FREE_SHARE of the disk.
    reserve_bytes: what is kept free on its disk; None for persist.reserve's share of that.
    initial_seq: the first seq of an empty log; a lower log goes on from there.
    batches_bind, curve_dir: where other machines come in, and the folder of the keys.
    strict_start: rather not start than go on over something that was lost.
    group_s: the distance of two groups, in seconds: what an event may wait so that many share one
        flush. After a longer silence the first event waits for nothing.
    checkpoint_s: how often the checkpoint beside the log is written while something changes.
    beat_s: an idle log writes an empty chunk so often, in seconds: silence means trouble.
    retain_every_s: how often segments are looked through for what has left the window.
    drain_quiet_s, drain_s: after SIGTERM batches are taken until none came for so long, at most
        so long: what ingest had sent is answered, so that its cursors are right.
    flush_patience_s: how long the last flush may take; what it misses is caught up from the log.
    """

    log_dir: Path
    batches_endpoint: str
    chunks_endpoint: str
    database_url: str
    replay_window_s: float
    replay_bytes: int | None = None
    reserve_bytes: int | None = None
    batches_bind: str = ""
    curve_dir: Path | None = None
    strict_start: bool = False
    initial_seq: int = 1
    group_s: float = 0.004
    beat_s: float = 1.0
    retain_every_s: float = 30.0
    checkpoint_s: float = 5.0
    drain_quiet_s: float = 0.1
    drain_s: float = 0.5
    flush_patience_s: float = 5.0

    @classmethod
    def of(cls, settings: Settings, paths: Paths) -> Config:
        """From the relay's settings."""
        return cls(
            log_dir=paths.log_dir,
            batches_endpoint=paths.batches_endpoint,
            chunks_endpoint=paths.chunks_endpoint,
            database_url=database_url(settings, paths),
            replay_window_s=settings.replay_window_s,
            replay_bytes=settings.replay_bytes,
            reserve_bytes=settings.log_reserve_bytes,
            batches_bind=settings.batches_bind,
            curve_dir=settings.curve_dir,
            strict_start=settings.strict_start,
            initial_seq=settings.initial_seq,
        )
