"""Which hosts send what is long past, and how fast are they read?

    rev of each event ─▶ long ago, many times in a row: the host catches up
                              └─▶ a token of its own, and one of all such hosts ─▶ none there: wait

A host that announces itself, comes back, or counts anew is read from its first event on, which may be
millions ago. All that is true of it matters, and none of it is urgent: so it is read slowly, and who says
what happens now is not delayed. An import, or one account that moves, is not enough to be slowed.

Values and `now_s` in, values out. What it takes to be read no further is ingest.slowing's.

Source: design section 3, "First contact"; lesson 41.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from common.rates import Buckets, Rate
from common.syntax import tid_text

LONG_AGO_S: Final = 600.0
"""What is older is no longer news, in seconds."""
IN_A_ROW: Final = 64
"""So many such events in a row, and the host catches up."""
WAIT_S: Final = 0.25
"""A wait is so long at least, in seconds: what gathers meanwhile is read in one go."""
HOST_RATE: Final = Rate(burst=2_000, every_s=1 / 250)
"""Events of one host: a million an hour, beyond a first few that cost nobody anything."""
PROCESS_RATE: Final = Rate(burst=2_000, every_s=1 / 500)
"""Of all that catch up in one process: an eighth of what one can judge, so that live hosts have the rest."""


class CatchUp:
    """The budget of one process."""

    def __init__(self, host: Rate = HOST_RATE, process: Rate = PROCESS_RATE) -> None:
        """Args: host: of each. process: of all together."""
        self._hosts = Buckets(host)
        self._all = Buckets(process)
        self._in_a_row: dict[Hashable, int] = {}
        self._long_ago = ""
        self._until_s = 0.0

    def is_behind(self, host: Hashable) -> bool:
        """Whether a host catches up."""
        return self._in_a_row.get(host, 0) >= IN_A_ROW

    def note(self, host: Hashable, rev: str, now_s: float, wall_s: float) -> float | None:
        """A host has sent an event with this rev → until when it waits, None: it does not.

        Args: wall_s: Unix seconds.
        """
        if now_s >= self._until_s:
            # TIDs sort as text in time order; the border is moved once a second.
            self._until_s = now_s + 1.0
            self._long_ago = tid_text(max(0, int((wall_s - LONG_AGO_S) * 1e6)) << 10)
        if rev >= self._long_ago:
            if self._in_a_row:
                self.forget(host)
            return None
        row = self._in_a_row[host] = self._in_a_row.get(host, 0) + 1
        if row < IN_A_ROW:
            return None
        until_s = max(self._hosts.take(host, now_s), self._all.take(None, now_s))
        return max(until_s, now_s + WAIT_S) if until_s > now_s else None

    def forget(self, host: Hashable) -> None:
        """A host has caught up, or is read no longer."""
        self._in_a_row.pop(host, None)
