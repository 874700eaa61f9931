"""Which sealed segments have left the replay window?

Whole segments go, from the front: when their last event is older than the window, or while the
log is larger than its share of the disk. The active segment is not in the list and never goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Sealed:
    """A segment that is written no more.

    base: the seq it begins at. first_us: when its first chunk was written.
    last_us: when its last events were, 0 when it has none; None until it was measured.
    """

    base: int
    size_bytes: int
    first_us: int
    last_us: int | None


def leaving(
    sealed: Sequence[Sealed],
    active_bytes: int,
    *,
    max_bytes: int,
    oldest_us: int,
    measure: Callable[[Sealed], int],
) -> int:
    """How many segments go, counted from the front.

    Args:
        sealed: in order of seq.
        active_bytes: size of the active segment.
        max_bytes: what all may take together, in bytes.
        oldest_us: events written before it have left the window, Unix microseconds.
        measure: finds a segment's `last_us` where it is not known; asked only when it matters.
    """
    total = active_bytes + sum(segment.size_bytes for segment in sealed)
    count = 0
    for segment in sealed:
        if total <= max_bytes:
            if segment.first_us >= oldest_us:
                break
            if segment.last_us is None:
                segment.last_us = measure(segment)
            if segment.last_us >= oldest_us:
                break
        total -= segment.size_bytes
        count += 1
    return count
