"""How long does persist take to start on a long log? From its first instruction to its first answer.

    1,600 segments of 64 MB: all but the last two are sparse files whose first chunks are real, so
    that 100 GB take a few MB of disk; the last two are written as persist writes them, and full.

PostgreSQL runs already and has the log's end; which events are logged is read from the rows of the last
segment. What catching the view up costs is part of a kill, see tests/bench/kills.py.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import zmq

from common.chunk import ChunkKind, encode_chunk
from common.database import connect, ensure_schema
from common.envelope import Batch, encode_batch
from common.paths import Paths
from common.segment_files import HEAD_NAME, HeadFile, segment_path
from common.transport import batch_outlet
from persist.segment_log import SEGMENT_BYTES
from tests.bench.durability import ACCOUNTS, EVENT_BYTES, Writer, batches
from tests.fix_net import free_port
from tests.fix_postgres import Postgres
from tests.relay import ROOT

SEGMENTS: Final = 1_600
STARTS: Final = 5
WANTED_S: Final = 5.0
_SEGMENT_EVENTS: Final = SEGMENT_BYTES // EVENT_BYTES
_START_S: Final = 120.0


def measure() -> dict[str, Any]:
    """Seconds until persist answers, of several starts, the first one with a cold log."""
    server = Postgres()
    try:
        server.start()
        with tempfile.TemporaryDirectory(prefix="standpipe-bench-") as folder:
            Path(folder).chmod(0o755)
            paths = Paths(Path(folder) / "data")
            paths.prepare()
            durable_seq = write_log(paths.log_dir)
            with contextlib.closing(connect(server.url, "bench")) as connection:
                ensure_schema(connection)
                connection.execute(
                    "INSERT INTO relay (name, value) VALUES ('applied_seq', %s), ('scan_seq', %s)",
                    (durable_seq, durable_seq - _SEGMENT_EVENTS),
                )
            starts = [_start_s(paths, server.url) for _ in range(STARTS)]
            apparent = sum(path.stat().st_size for path in paths.log_dir.iterdir())
            real = sum(path.stat().st_blocks * 512 for path in paths.log_dir.iterdir())
    finally:
        server.remove()
    return {
        "segments": SEGMENTS,
        "log_bytes": apparent,
        "disk_bytes": real,
        "starts_s": starts,
    }


def write_log(log_dir: Path) -> int:
    """Make the log; its durable seq."""
    sparse = SEGMENTS - 2
    writer = Writer(log_dir, 1 + sparse * _SEGMENT_EVENTS)
    for batch in batches(writer.log.epoch, 1, 2 * _SEGMENT_EVENTS - ACCOUNTS):
        writer.take(batch)
    writer.commit()
    durable_seq = writer.log.durable_seq
    writer.log.close()
    for number in range(sparse):
        _write_sparse(log_dir, 1 + number * _SEGMENT_EVENTS)
    with contextlib.closing(HeadFile(log_dir / HEAD_NAME, writable=True)) as head:
        head.oldest_seq = 1
    return durable_seq


def _write_sparse(log_dir: Path, first_seq: int) -> None:
    """A segment that begins with a real chunk and ends, a hole later, where a full one would."""
    path = segment_path(log_dir, first_seq)
    now_us = time.time_ns() // 1000
    path.write_bytes(encode_chunk(ChunkKind.GROUP, 1, first_seq, 0, now_us, [], b"").raw)
    os.truncate(path, SEGMENT_BYTES)


def _start_s(paths: Paths, database_url: str) -> float:
    """One start: seconds until an ingest process that waits for it has its first answer."""
    environment = {
        "PATH": os.environ["PATH"],
        "STANDPIPE_DATA_DIR": str(paths.data_dir),
        "STANDPIPE_METRICS_PORT": "0",
        "STANDPIPE_BIND": f"127.0.0.1:{free_port()}",
        "STANDPIPE_REPLAY_BYTES": "1000G",
        "DATABASE_URL": database_url,
    }
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        outlet = stack.enter_context(batch_outlet(context, 0))
        outlet.setsockopt(zmq.IMMEDIATE, 1)
        outlet.connect(paths.batches_endpoint)
        began_s = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "persist"], cwd=ROOT, env=environment,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert outlet.poll(int(_START_S * 1000), zmq.POLLOUT), "persist cannot be reached"
            outlet.send_multipart(encode_batch(Batch(0, time.time_ns() // 1_000_000)))
            assert outlet.poll(int(_START_S * 1000)), "persist does not answer"
            return time.monotonic() - began_s
        finally:
            process.terminate()
            output, _ = process.communicate(timeout=60)
            assert process.returncode == 0, output


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The figures for people."""
    starts_s = found["starts_s"]
    yield f"start with {found['log_bytes'] / 1e9:.0f} GB of log in {found['segments']:,} segments "
    yield f"({found['disk_bytes'] / 1e6:.0f} MB of it real): {statistics.median(starts_s):.2f} s "
    yield f"until persist answers, worst {max(starts_s):.2f} of {len(starts_s)}; wanted ≤ {WANTED_S:g}"
