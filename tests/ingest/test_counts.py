"""Is what an event carries counted with it, once, and only where it is so?"""

from __future__ import annotations

from common.envelope import Kind, Mark
from common.verdict import DropReason
from ingest.counts import Counts


def test_marks_are_counted_of_what_has_them_alone() -> None:
    counts = Counts()
    counts.forward(Kind.COMMIT, 0, None)
    counts.forward(Kind.SYNC, int(Mark.DISCONTINUOUS), None)
    counts.forward(Kind.COMMIT, int(Mark.WAIVED), DropReason.PREV_DATA_MISSING)
    assert counts.forwarded == {"commit": 2, "sync": 1}
    assert counts.discontinuous == 1
    assert counts.waived == {DropReason.PREV_DATA_MISSING: 1}
