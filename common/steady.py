"""What time is it, by a clock that is never set?

The system's clock jumps when somebody or something sets it. What lasts (deadlines, rates, ages)
is measured here: Unix time as it was at the start of the process, and from there on evenly. What
other people's clocks are held against is the system's clock, wherever that stands now.

Unlike the bare monotonic clock its values are near to Unix time, so that they can be compared with
what an earlier process wrote down.
"""

from __future__ import annotations

import time
from typing import Final

_START_S: Final = time.time() - time.monotonic()


def steady_s() -> float:
    """Seconds since 1970, roughly; never set, never backwards."""
    return _START_S + time.monotonic()


def distance_s() -> float:
    """How far the system's clock is ahead of the steady one, in seconds."""
    return time.time() - steady_s()
