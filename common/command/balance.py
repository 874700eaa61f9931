"""What do the balances of a relay's processes say together? Numbers in, sums out.

    read + originated = on disk + dropped + heeded + released + unread + inbox + held + in flight

is the sum over the ingest processes, each since its own start. What is in persist's hands is in flight
at an ingest process until that has its answer, so nothing of persist's is added. Between the two
holds, at every moment and across any restart: what ingest calls on disk by the persist that runs
now, that has written. Source: docs/conservation.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Numbers: TypeAlias = dict[str, dict[str, float]]
"""Metric → label value ("" without labels) → number."""

CAME: Final = ("read", "originated")
ENDED: Final = ("forwarded", "dropped", "heeded", "released", "unread")
NOW: Final = ("inbox", "held", "in_flight")


@dataclass(frozen=True, slots=True)
class Sums:
    """Of a whole relay. terms: over the ingest processes, by name, in the order of the equation.

    written: events that the running persist has put on disk. heard: how many of them ingest knows of.
    unaccounted: over all processes, and what was heard of and not written; 0 or a bug.
    """

    terms: dict[str, int]
    written: int
    heard: int
    unaccounted: int


def total(numbers: Numbers, metric: str) -> int:
    """Over all labels; 0 where a process has no such number."""
    return int(sum(numbers.get(metric, {}).values()))


def unaccounted(numbers: Numbers) -> int:
    """What one process cannot account for; 0 for one that keeps no balance."""
    return total(numbers, "standpipe_unaccounted")


def sums(processes: Sequence[Numbers]) -> Sums:
    """Of all processes that answered. persist's numbers are to be asked for after the others'."""
    ingest = [numbers for numbers in processes if "standpipe_read_total" in numbers]
    written, heard = _log(processes, ingest)
    terms = {name: _over(ingest, f"standpipe_{name}_total") for name in (*CAME, *ENDED)}
    terms |= {name: _over(ingest, f"standpipe_{name}") for name in NOW}
    lost = sum(unaccounted(numbers) for numbers in processes)
    return Sums(terms, written, heard, lost + max(0, heard - written))


def _over(processes: Iterable[Numbers], metric: str) -> int:
    return sum(total(numbers, metric) for numbers in processes)


def _log(processes: Iterable[Numbers], ingest: Iterable[Numbers]) -> tuple[int, int]:
    """What the running persist has written, and what ingest processes that hear it know of."""
    for persist in processes:
        if "standpipe_log_epoch" in persist and "standpipe_read_total" not in persist:
            epoch = total(persist, "standpipe_log_epoch")
            hearing = [n for n in ingest if total(n, "standpipe_log_epoch") == epoch]
            written = total(persist, "standpipe_log_epoch_events")
            return written, _over(hearing, "standpipe_log_epoch_events")
    return 0, 0
