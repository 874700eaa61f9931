"""How often did each step of the judge run, and how did it end?

The steps of a kind run in order, and the first that fails ends the judging. So one addition for
each event is enough, at the place where its judging ended: a step has run as often as events
ended at it or behind it. Nothing is counted twice, and a step that never ran shows a zero.

No clock; the caller takes the numbers when it likes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from common.envelope import Kind

_KINDS: Final = max(Kind) + 1
_MAX_STEPS: Final = 32


class Result(IntEnum):
    """How a step ended: DROPPED, ASKED (for a newer document, or a status), WAIVED or PASSED."""

    DROPPED = 0
    ASKED = 1
    WAIVED = 2
    PASSED = 3


class Checked:
    """The steps that ran since the last `take`.

    Of the events that passed: surplus, the blocks that came for nothing; proven, the commits whose
    inversion was spared. The caller sets both back.
    """

    __slots__ = ("_ends", "_passed", "_waived", "proven", "surplus")

    def __init__(self) -> None:
        self.surplus = 0
        self.proven = 0
        self._ends = [[0] * (2 * _MAX_STEPS) for _ in range(_KINDS)]
        self._passed = [0] * _KINDS
        self._waived: dict[tuple[int, int], int] = {}

    def passed(self, kind: Kind) -> None:
        """Every step of an event has passed."""
        self._passed[kind] += 1

    def ended(self, kind: Kind, at: int, result: Result) -> None:
        """The step number `at` of its kind's list ended the judging, DROPPED or ASKED."""
        self._ends[kind][2 * at + result] += 1

    def waived(self, kind: Kind, at: int) -> None:
        """The step number `at` failed, and the judging went on."""
        self._waived[kind, at] = self._waived.get((kind, at), 0) + 1

    def take(self, kind: Kind, steps: int) -> list[dict[Result, int]]:
        """For each of a kind's `steps` steps how often it ended how; the counting begins anew."""
        ends, behind = self._ends[kind], self._passed[kind]
        found: list[dict[Result, int]] = []
        for at in range(steps - 1, -1, -1):
            dropped, asked = ends[2 * at], ends[2 * at + 1]
            waived = self._waived.pop((kind, at), 0)
            found.append(
                {
                    Result.DROPPED: dropped,
                    Result.ASKED: asked,
                    Result.WAIVED: waived,
                    Result.PASSED: behind - waived,
                }
            )
            behind += dropped + asked
        self._ends[kind] = [0] * (2 * _MAX_STEPS)
        self._passed[kind] = 0
        return found[::-1]
