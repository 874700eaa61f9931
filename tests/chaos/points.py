"""Where in its work can persist be told to die? The named points, and how one is ordered.

Orders stand in a file, one a line: `SIGNAL TIMES POINT`. The persist that runs obeys the first one: it
sends itself that signal at the TIMES-th passing of that point, after it has struck the line out.
"""

from __future__ import annotations

import signal
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

ORDERS: Final = "orders"
"""Name of the file with the orders."""
TRACE: Final = "trace"
"""Name of the file with what was done, in order; see tests/chaos/order.py."""


class Point(StrEnum):
    """A moment between two steps; each is told by the step that was just done.

    Of a group of events: HALF_WRITTEN, WRITTEN, SYNCED, ANNOUNCED, PUBLISHED, ANSWERED. Of the view
    with the hosts' cursors: FLUSHING (nothing was sent yet), FLUSHED (committed, not confirmed).
    """

    HALF_WRITTEN = "half written"
    WRITTEN = "written"
    SYNCED = "synced"
    ANNOUNCED = "announced"
    PUBLISHED = "published"
    ANSWERED = "answered"
    FLUSHING = "flushing"
    FLUSHED = "flushed"
    ROLL_CLOSED = "roll: closed"
    ROLL_CREATED = "roll: created"
    ROLL_NAMED = "roll: named"
    OLDEST_MOVED = "retention: oldest moved"
    REMOVED = "retention: removed"
    TRUNCATED = "recovery: truncated"
    REWRITTEN = "recovery: rewritten"
    EPOCH_RAISED = "recovery: epoch raised"
    CLAIM_WRITTEN = "recovery: claim written"
    CAUGHT_UP = "recovery: caught up"
    CHECKPOINT_CREATED = "checkpoint: created"
    CHECKPOINT_WRITTEN = "checkpoint: written"
    CHECKPOINT_SYNCED = "checkpoint: synced"
    CHECKPOINT_RENAMED = "checkpoint: renamed"
    CHECKPOINT_NAMED = "checkpoint: named"


class Order(NamedTuple):
    """Die at the `times`-th passing of `point`; or, with SIGSTOP, stand still there."""

    point: Point
    times: int = 1
    sign: signal.Signals = signal.SIGKILL


def read_orders(folder: Path) -> list[Order]:
    """The orders that are not obeyed yet."""
    try:
        lines = (folder / ORDERS).read_text().splitlines()
    except FileNotFoundError:
        return []
    parts = [line.split(" ", 2) for line in lines]
    return [Order(Point(point), int(times), signal.Signals[sign]) for sign, times, point in parts]


def write_orders(folder: Path, orders: list[Order]) -> None:
    """Replace all orders; whoever reads meanwhile sees the old ones or the new ones."""
    new = folder / f"{ORDERS}.new"
    new.write_text("".join(f"{order.sign.name} {order.times} {order.point}\n" for order in orders))
    new.replace(folder / ORDERS)
