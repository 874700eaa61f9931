"""A process of the relay that does nothing but begin, and end as it is told.

    python -m tests.running.worker ingest [--member n]

What it does in between, by the variable WORKER: wait (for the end; default), raise, return, stuck
(blocks the loop once, for long enough to be told), deaf (never drains).
"""

from __future__ import annotations

import asyncio
import os
import sys
import time

from common import process


async def work(context: process.Context) -> None:
    how = os.environ.get("WORKER", "wait")
    context.ready()
    if how == "raise":
        raise RuntimeError("a fault of ours")
    if how == "return":
        return
    if how == "stuck":
        await asyncio.sleep(0.2)
        time.sleep(0.4)
    await context.stopping.wait()
    if how == "deaf":
        await asyncio.Event().wait()


def sync_work(context: process.SyncContext) -> None:
    context.ready()
    if os.environ.get("WORKER") == "raise":
        raise RuntimeError("a fault of ours")
    while not context.stopping.is_set():
        context.wakeup.setblocking(True)
        context.wakeup.recv(1)


if __name__ == "__main__":
    stage = sys.argv.pop(1)
    if stage == "persist":
        sys.exit(process.run_sync(stage, sync_work))
    sys.exit(process.run(stage, work))
