"""Which sealed segments have left the replay window?

Whole segments go, from the front: when their last event is older than the window, or while the
log is larger than its share of the disk. What a later start needs, since PostgreSQL does not have
it, stays all the same; unless the disk itself is nearly full. The active segment is not in the
list and never goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.chunk import SEQ_MAX


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
    active_base: int,
    active_bytes: int,
    *,
    max_bytes: int,
    oldest_us: int,
    keep_from: int = SEQ_MAX,
    must_free_bytes: int = 0,
    measure: Callable[[Sealed], int],
) -> int:
    """How many segments go, counted from the front.

    Args:
        sealed: in order of seq.
        active_base, active_bytes: the seq that the active segment begins at, and its size.
        max_bytes: what all may take together, in bytes.
        oldest_us: events written before it have left the window, Unix microseconds.
        keep_from: what holds this seq or a later one stays …
        must_free_bytes: … unless so many bytes are needed at once.
        measure: finds a segment's `last_us` where it is not known; asked only when it matters.
    """
    total = active_bytes + sum(segment.size_bytes for segment in sealed)
    ends = [*(segment.base for segment in sealed), active_base][1:]
    freed = 0
    for count, (segment, end) in enumerate(zip(sealed, ends, strict=True)):
        if freed >= must_free_bytes:
            if end > keep_from:
                return count
            if total <= max_bytes and not _is_old(segment, oldest_us, measure):
                return count
        total -= segment.size_bytes
        freed += segment.size_bytes
    return len(sealed)


def _is_old(segment: Sealed, oldest_us: int, measure: Callable[[Sealed], int]) -> bool:
    if segment.first_us >= oldest_us:
        return False
    if segment.last_us is None:
        segment.last_us = measure(segment)
    return segment.last_us < oldest_us
