"""How often did each host's events pass without following, or only by its level's leave? And by how many
accounts has it grown?

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
    """How many more of `host`'s events there were of each; how many more accounts it has."""

    host: int
    discontinuous: int
    waived: int
    accounts: int = 0


class Tallies:
    """What has been counted since the last flush began."""

    def __init__(self) -> None:
        self._hosts: dict[int, tuple[int, int]] = {}
        self._accounts: dict[int, int] = {}

    def add(self, host: int, marks: int) -> None:
        """An event with these marks was given a seq. Source: S-DSY-04."""
        if marks & COUNTED:
            discontinuous, waived = self._hosts.get(host, (0, 0))
            self._hosts[host] = (
                discontinuous + bool(marks & _DISCONTINUOUS),
                waived + bool(marks & _WAIVED),
            )

    def count(self, host: int, accounts: int) -> None:
        """A host has so many accounts more."""
        self._accounts[host] = self._accounts.get(host, 0) + accounts

    def take(self) -> list[HostTally]:
        """All of it; from here on counting begins anew."""
        hosts, self._hosts = self._hosts, {}
        accounts, self._accounts = self._accounts, {}
        return [
            HostTally(host, *hosts.get(host, (0, 0)), accounts.get(host, 0))
            for host in dict.fromkeys((*hosts, *accounts))
        ]
