"""What time is it for the replay window, when the system's clock may be wrong?

A clock that jumps ahead makes no event older, and what has left the log does not come back. So this one
follows the system's clock only where that runs evenly; behind a jump ahead it goes on as if there had been
none, and likewise at a start, from where the log's times end. Once the system's clock has run evenly for
a whole window, all that the log had before has left it by its true age, the rest was written by the clock
as it is now: they are one again.

It is never ahead of the system's clock; where it is behind, events are kept for longer, as far as the
log's size allows. All times are handed in.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

log: Final = logging.getLogger(__name__)

JUMP_S: Final = 300.0
"""What two looks differ by more than this, in seconds, was not the clock being nudged into place."""
PAUSE_S: Final = 86_400.0
"""Between two segments less than this passes, in seconds: one that is in use is full sooner."""


def known_s(found_us: Sequence[int], window_s: float) -> float | None:
    """How late it is at least, as the times tell that a log was found with; None where it has none.

    A pause of more than a window, which would have emptied it, may be a jump: it is not counted.
    """
    if not found_us:
        return None
    pause_us = max(window_s, PAUSE_S) * 1e6
    steps_us = (after - before for before, after in pairwise(found_us))
    return (found_us[-1] - sum(step_us for step_us in steps_us if step_us > pause_us)) / 1e6


class WindowClock:
    """The time by which events leave the replay window."""

    def __init__(
        self, window_s: float, wall_s: float, steady_s: float, known_s: float | None
    ) -> None:
        """Args: known_s: see there; Unix seconds like wall_s. steady_s: of a clock that is never set."""
        self._window_s = window_s
        self._ahead_s = 0.0 if known_s is None else max(0.0, wall_s - known_s)
        self._offset_s = wall_s - steady_s
        self._even_since_s = steady_s
        if self._ahead_s > JUMP_S:
            log.warning(
                "the clock is %.0f s ahead of the log's last word on the time: until it has run "
                "evenly for the replay window, events are kept for that much longer", self._ahead_s,
            )  # fmt: skip

    def now_s(self, wall_s: float, steady_s: float, *, suspect: bool) -> float:
        """Unix seconds; 0, by which nothing is old, while somebody believes the clock wrong.

        Args: steady_s: of a clock that is never set.
        """
        step_s = wall_s - steady_s - self._offset_s
        self._offset_s += step_s
        if abs(step_s) > JUMP_S:
            self._ahead_s = max(0.0, self._ahead_s + step_s)
            self._even_since_s = steady_s
            log.error(
                "the clock was set by %+.0f s: until it has run evenly for the replay window, what "
                "leaves that by its age does so as if the clock were %.0f s behind",
                step_s, self._ahead_s,
            )  # fmt: skip
        elif suspect:
            self._even_since_s = steady_s
        elif self._ahead_s and steady_s - self._even_since_s >= self._window_s:
            log.info("the clock has run evenly for the replay window, which follows it again")
            self._ahead_s = 0.0
        return 0.0 if suspect else wall_s - self._ahead_s
