"""Is what the segment files hold durable, dense and repaired after every way to end?"""

from __future__ import annotations

import os
from pathlib import Path

from common.log import LogReader, LogWriter
from common.segment_files import LOCK_NAME
from common.segments import SegmentReader
from persist.segment_log import SegmentLog
from tests.log_contract import TIME_US, LogContract


def small(place: Path) -> SegmentLog:
    """A log that rolls about each 4 kB."""
    return SegmentLog(place, segment_bytes=4096, now=lambda: TIME_US / 1e6 - 1)


class TestSegmentLog(LogContract):
    """The contract, on segment files."""

    def writer(self, place: Path) -> LogWriter:
        return small(place)

    def reader(self, place: Path) -> LogReader:
        return SegmentReader(place)

    def crash(self, log: LogWriter) -> None:
        assert isinstance(log, SegmentLog)
        log._release()

    def lose_lock(self, place: Path) -> None:
        os.unlink(place / LOCK_NAME)
