"""How much room is kept on the log's disk, and how much of that is missing?

A disk that is full stops everything, PostgreSQL's own log too when it lies there. So the oldest
segments go first, before their time.
"""

from __future__ import annotations

from typing import Final

RESERVE_SHARE: Final = 0.02
"""Share of the disk that is kept free when no size is set."""
RESERVE_BYTES: Final = 1024**3
"""The least that is, in bytes: some minutes of the whole network, for whoever has to react."""
ENOUGH: Final = 1.25
"""How many times the reserve is enough again, so that the word does not change at each look."""


def reserve_of(total: int, reserve_bytes: int | None) -> int:
    """What is kept free, in bytes.

    Args:
        total: of the disk, in bytes.
        reserve_bytes: as set; None for RESERVE_SHARE, and RESERVE_BYTES at least.
    """
    if reserve_bytes is None:
        return max(RESERVE_BYTES, int(total * RESERVE_SHARE))
    return reserve_bytes


def missing_bytes(total: int, free: int, reserve_bytes: int | None) -> int:
    """What would have to be freed, in bytes; 0 when there is room. See `reserve_of`."""
    return max(0, reserve_of(total, reserve_bytes) - free)


def is_low(total: int, free: int, reserve_bytes: int | None, *, was_low: bool) -> bool:
    """Whether the disk counts as nearly full. was_low: whether it did when it was last looked at."""
    reserve = reserve_of(total, reserve_bytes)
    return free < (reserve * ENOUGH if was_low else reserve)
