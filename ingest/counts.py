"""How many of what: what became of every message of one process.

Each end is counted where it happens. Whether all have one shows in the balance, which takes what is
still under way from those who hold it; see common.conservation.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from common.conservation import Balance, Logged, Reading, frozen
from common.envelope import Kind, Mark
from common.verdict import DropReason
from ingest.checked import Checked

KIND_LABELS: Final = {
    Kind.COMMIT: "commit",
    Kind.SYNC: "sync",
    Kind.IDENTITY: "identity",
    Kind.ACCOUNT: "account",
}
EVENTS: Final = tuple(KIND_LABELS.values())
OF_THE_CONNECTION: Final = ("info", "error")
"""Messages that are no events: they concern the connection, and are heeded."""
KINDS: Final = (*EVENTS, *OF_THE_CONNECTION, "unknown", "malformed")
_DISCONTINUOUS: Final = int(Mark.DISCONTINUOUS)


class Counts:
    """What became of the messages.

    Ever: read from sockets; unread, let go with their connection before they were taken in hand; by kind
    received, originated (what the relay says itself), forwarded, heeded (what concerns a connection),
    released (let go unfinished with its host, for the shard's next owner); dropped by reason.
    Since somebody took these numbers: discontinuous, waived, of what was forwarded; checked.
    """

    __slots__ = (
        "_before_writer", "_writer", "checked", "discontinuous", "dropped", "forwarded", "heeded",
        "originated", "read", "received", "released", "unread", "waived",
    )  # fmt: skip

    def __init__(self) -> None:
        self.checked = Checked()
        self.read = 0
        self.unread = 0
        self.received: Counter[str] = Counter()
        self.originated: Counter[str] = Counter()
        self.forwarded: Counter[str] = Counter()
        self.heeded: Counter[str] = Counter()
        self.dropped: Counter[DropReason] = Counter()
        self.released: Counter[str] = Counter()
        self.discontinuous = 0
        self.waived: Counter[DropReason] = Counter()
        self._writer = 0
        self._before_writer = 0

    def forward(self, kind: Kind, marks: int, waived: DropReason | None) -> None:
        """An event is on disk, with these marks."""
        self.forwarded[KIND_LABELS[kind]] += 1
        if marks:
            if marks & _DISCONTINUOUS:
                self.discontinuous += 1
            if waived is not None:
                self.waived[waived] += 1

    def hear(self, log_epoch: int) -> None:
        """What is forwarded from here on is on disk by this writer of the log."""
        if log_epoch != self._writer:
            self._writer = log_epoch
            self._before_writer = self.forwarded.total()

    def balance(self, *, inbox: int, held: int, in_flight: int) -> Balance:
        """All of it, as it is now.

        Args: what the inboxes, the queues and the way to persist hold, in messages.
        """
        return Balance(
            received=frozen(KINDS, self.received),
            forwarded=frozen(EVENTS, self.forwarded),
            dropped=frozen(DropReason, self.dropped),
            held=held,
            in_flight=in_flight,
            originated=frozen(("account",), self.originated),
            heeded=frozen(OF_THE_CONNECTION, self.heeded),
            released=frozen(EVENTS, self.released),
            reading=Reading(self.read, inbox, self.unread),
            logged=Logged(self._writer, self.forwarded.total() - self._before_writer),
        )
