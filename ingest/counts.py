"""How many of what: what the pipeline counts between two looks of somebody."""

from __future__ import annotations

from collections import Counter
from typing import Final

from common.envelope import Kind, Mark
from common.verdict import DropReason
from ingest.checked import Checked

KIND_LABELS: Final = {
    Kind.COMMIT: "commit",
    Kind.SYNC: "sync",
    Kind.IDENTITY: "identity",
    Kind.ACCOUNT: "account",
}
_DISCONTINUOUS: Final = int(Mark.DISCONTINUOUS)


class Counts:
    """What became of the messages, since the last time somebody took these numbers.

    received, originated, forwarded: by kind; originated is what the relay says itself.
    discontinuous, waived: of what was forwarded.
    released: of received, what was let go unfinished with its host, for the shard's next owner.
    """

    __slots__ = (
        "checked", "discontinuous", "dropped", "forwarded", "originated", "received", "released",
        "waived",
    )  # fmt: skip

    def __init__(self) -> None:
        self.checked = Checked()
        self.received: Counter[str] = Counter()
        self.originated: Counter[str] = Counter()
        self.forwarded: Counter[str] = Counter()
        self.dropped: Counter[DropReason] = Counter()
        self.released: Counter[str] = Counter()
        self.discontinuous = 0
        self.waived: Counter[DropReason] = Counter()

    def forward(self, kind: Kind, marks: int, waived: DropReason | None) -> None:
        """An event is on disk, with these marks."""
        self.forwarded[KIND_LABELS[kind]] += 1
        if marks:
            if marks & _DISCONTINUOUS:
                self.discontinuous += 1
            if waived is not None:
                self.waived[waived] += 1
