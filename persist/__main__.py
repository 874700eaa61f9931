"""The door of persist: `python -m persist`."""

from __future__ import annotations

import sys

import psycopg
import zmq

from common.database import SchemaMismatch
from common.log import Damaged, Fenced
from common.process import Fault, SyncContext, run_sync
from persist.config import Config
from persist.store import ViewWentBack
from persist.worker import Worker


def main(context: SyncContext) -> None:
    """Run until told to stop.

    Raises:
        Fault: what ends this process before that.
    """
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
    except (Damaged, Fenced, SchemaMismatch, ViewWentBack, psycopg.Error, zmq.ZMQError) as error:
        raise Fault(f"{type(error).__name__}: {error}") from error


if __name__ == "__main__":
    sys.exit(run_sync("persist", main))
