"""What time is it in the simulated network? Strictly rising, near now, or fixed by the caller.

No two events share a time, so that a time names an `#identity`, `#account` or `#sync`.

Source: atproto TID specification.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

_ALPHABET: Final = "234567abcdefghijklmnopqrstuvwxyz"
FIXED_STEP_US: Final = 200
"""How far a fixed clock moves at each tick: less than making a commit takes."""


def tid(time_us: int, clock_id: int = 0) -> str:
    """The TID of a time in Unix microseconds."""
    number = time_us << 10 | clock_id
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(60, -1, -5))


def datetime_text(time_us: int) -> str:
    """A time in Unix microseconds as a lexicon datetime."""
    moment = datetime.fromtimestamp(time_us / 1e6, UTC).replace(microsecond=time_us % 1_000_000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Clock:
    """Unix microseconds that never repeat.

    start_us: None follows the machine's clock; a number starts there and steps evenly, so
        that two runs of one seed give the same bytes.
    """

    def __init__(self, start_us: int | None = None, now_s: Callable[[], float] = time.time) -> None:
        self._fixed = start_us is not None
        self._last_us = start_us or 0
        self._now_s = now_s

    def tick(self) -> int:
        """The next time, later than every one given before."""
        if self._fixed:
            self._last_us += FIXED_STEP_US
        else:
            self._last_us = max(self._last_us + 1, int(self._now_s() * 1e6))
        return self._last_us
