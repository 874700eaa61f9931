"""What became of every event that came to persist?

Each end is counted where it happens. Whether all have one shows in the balance, which takes what is
still under way from the sequencer; see common.conservation.
"""

from __future__ import annotations

from typing import Final

from common.conservation import Balance, Logged
from common.envelope import Kind
from persist.group import Group

_KINDS: Final = tuple(kind.name.lower() for kind in Kind)


class Fates:
    """What became of every event that was received since the start, each counted where it happens.

    written: on disk, by number of the kind. back: to be judged again. outlived: of an earlier owner of
    its shard. unheard: sent before its sender knew of this persist. refused: its process was
    outlived. abandoned: so it was, while the event waited. said: by persist itself, never
    received.
    """

    __slots__ = (
        "abandoned", "back", "duplicate", "outlived", "received", "refused", "said",
        "unheard", "written",
    )  # fmt: skip

    def __init__(self) -> None:
        self.received = 0
        self.written = [0, 0, 0, 0, 0]
        self.duplicate = 0
        self.back = 0
        self.outlived = 0
        self.unheard = 0
        self.refused = 0
        self.abandoned = 0
        self.said = 0

    def wrote(self, group: Group) -> None:
        """A group is on disk."""
        for kind, count in enumerate(group.kinds):
            self.written[kind] += count

    def balance(self, log_epoch: int, *, held: int, in_flight: int) -> Balance:
        """Where every event is. held: they wait. in_flight: they are in the group. log_epoch: of our log."""
        return Balance(
            received={"event": self.received},
            forwarded=dict(zip(_KINDS, self.written[1:], strict=True)),
            dropped={
                "duplicate": self.duplicate,
                "sent_back": self.back,
                "outlived": self.outlived,
                "unheard": self.unheard,
                "refused": self.refused,
                "abandoned": self.abandoned,
            },
            held=held,
            originated={"account": self.said},
            in_flight=in_flight,
            logged=Logged(log_epoch, sum(self.written)),
        )
