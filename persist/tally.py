"""How often did each host's events pass without following, or only by its level's leave?

Counted as events are given their seqs, written with the view's next flush, in the transaction that
says how far the view has come: so each is counted once, whatever is killed between.

Source: S-DSY-04.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from common.envelope import Mark

_DISCONTINUOUS: Final = int(Mark.DISCONTINUOUS)
_WAIVED: Final = int(Mark.WAIVED)
COUNTED: Final = _DISCONTINUOUS | _WAIVED
"""Marks that are counted here."""


class HostTally(NamedTuple):
    """How many more of `host`'s events there were of each."""

    host: int
    discontinuous: int
    waived: int


class Tallies:
    """What has been counted since the last flush began."""

    def __init__(self) -> None:
        self._hosts: dict[int, tuple[int, int]] = {}

    def add(self, host: int, marks: int) -> None:
        """An event with these marks was given a seq. Source: S-DSY-04."""
        if marks & COUNTED:
            discontinuous, waived = self._hosts.get(host, (0, 0))
            self._hosts[host] = (
                discontinuous + bool(marks & _DISCONTINUOUS),
                waived + bool(marks & _WAIVED),
            )

    def take(self) -> list[HostTally]:
        """All of it; from here on counting begins anew."""
        hosts, self._hosts = self._hosts, {}
        return [HostTally(host, *counts) for host, counts in hosts.items()]
