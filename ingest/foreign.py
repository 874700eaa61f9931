"""How much of what a host says is of accounts of other hosts?

A relay among the hosts says everything a second time, and so does another name of a host: all of it is
dropped, for no document names them. Most relays say that they are one and are not read; this finds the others, by
what they say. It is told and nothing is done about it: a host that all its accounts have just left looks the
same, and its limits bound what either costs.

No I/O, no clock. Source: lesson 40.
"""

from __future__ import annotations

from typing import Final

WINDOW_EVENTS: Final = 2_000
"""Once so many have ended, the older ones count half."""
FEW_EVENTS: Final = 100
"""Of fewer nothing is said."""
MOST_PERCENT: Final = 50
"""Whoever has a larger share is counted as one that is no host of what it says."""


class Foreign:
    """The last events of one host."""

    __slots__ = ("_ended", "_foreign")

    def __init__(self) -> None:
        self._ended = 0
        self._foreign = 0

    def ended(self) -> None:
        """An event is in the log, or was dropped."""
        self._ended += 1
        if self._ended >= WINDOW_EVENTS:
            self._ended //= 2
            self._foreign //= 2

    def dropped(self) -> None:
        """It was of an account of another host."""
        self._foreign += 1

    @property
    def percent(self) -> int:
        """The share of these, rounded down."""
        return 0 if self._ended < FEW_EVENTS else 100 * self._foreign // self._ended
