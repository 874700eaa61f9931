"""Which damaged ranges of the log has this process met? Each is told once, loudly, and counted.

It may be asked from any thread. It does not decide what becomes of a stream.
"""

from __future__ import annotations

import logging
from typing import Final

from broadcast import metrics
from common.log import Damaged

_REMEMBERED: Final = 1024
"""Ranges that are kept in mind; with more the disk is to be replaced, and a line twice is no loss."""
_log = logging.getLogger("standpipe")


class Damages:
    """The ranges met so far."""

    def __init__(self) -> None:
        self._met: dict[object, object] = {}

    def note(self, damage: Damaged, asked_seq: int) -> None:
        """Somebody who reads from `asked_seq` has met it."""
        # A range is known by its end: where it is entered depends on who asks.
        key = str(damage) if damage.until_seq is None else damage.until_seq
        if len(self._met) >= _REMEMBERED:
            self._met.clear()
        ours = object()
        # One step, so that of two threads that meet it at once one tells.
        if self._met.setdefault(key, ours) is not ours:
            return
        metrics.DAMAGED_RANGES.inc()
        fields = {
            "where": str(damage),
            "asked_seq": asked_seq,
            "from_seq": damage.from_seq,
            "until_seq": damage.until_seq,
        }
        _log.error("a part of the log is damaged", extra={"fields": fields})
