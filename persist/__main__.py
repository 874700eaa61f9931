"""The door of persist: `python -m persist`."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import Final

import psycopg
import zmq

from common.chunk import UnknownFormat
from common.database import SchemaMismatch
from common.log import Damaged, Fenced
from common.process import Fault, SyncContext, run_sync
from persist.config import Config
from persist.opening import Refused
from persist.store import ViewWentBack
from persist.worker import Worker

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""Source: mallopt(3)."""


def main(context: SyncContext) -> None:
    """Run until told to stop.

    Raises:
        Fault: what ends this process before that.
    """
    _keep_buffers()
    # The store threads compute for milliseconds at a time; the sequencer shall not wait so long.
    sys.setswitchinterval(0.0005)
    try:
        worker = Worker(Config.of(context.settings, context.paths), context.stopping)
        try:
            if worker.start():
                context.ready()
                worker.run(context.wakeup.fileno())
        finally:
            worker.close()
    except (
        Damaged, Fenced, Refused, UnknownFormat, SchemaMismatch, ViewWentBack, psycopg.Error,
        zmq.ZMQError,
    ) as error:  # fmt: skip
        raise Fault(f"{type(error).__name__}: {error}") from error


def _keep_buffers() -> None:
    """Have the allocator keep what a group needs, instead of giving it back after each one.

    Half a megabyte that is mapped, cleared and unmapped again some hundred times a second costs
    as much as everything else that is done with an event.
    """
    with contextlib.suppress(OSError, AttributeError):  # another libc has no such call
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, 64 * 1024 * 1024)
        libc.mallopt(_M_MMAP_THRESHOLD, 16 * 1024 * 1024)


if __name__ == "__main__":
    sys.exit(run_sync("persist", main))
