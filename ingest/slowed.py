"""Which accounts are slowed, since when, and when is that over? For the operator's log.

    feeds, looked at now and then ──▶ begun: did, host, how much waits · over: after so long

An account whose commits wait for a moment only is not worth a line; nor are more lines than a reader
reads: those left out are told at a later look, if it still goes on. No I/O, no clock; times are steady.

Source: lessons section 3, complaint 4.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from ingest.account import Feed

WORTH_S: Final = 5.0
"""After so long it is told of an account that it is slowed, in seconds."""
LINES: Final = 10
"""Told at one look, at most."""
TOLD_MAX: Final = 1_000
"""Accounts whose end is told, too."""


class Slowed(NamedTuple):
    """What is told of one account. waiting: events of it that wait. seconds: since it was slowed."""

    did: str
    hostname: str
    is_over: bool
    seconds: float
    waiting: int = 0
    waiting_bytes: int = 0


class SlowedAccounts:
    """What was told of the accounts of one process."""

    def __init__(self) -> None:
        """Nothing was told."""
        self._told: dict[tuple[int, str], tuple[float, str]] = {}

    def look(self, feeds: Iterable[Feed], now_s: float) -> list[Slowed]:
        """What is to be told now."""
        found: list[Slowed] = []
        now: set[tuple[int, str]] = set()
        for feed in feeds:
            for account, queue in feed.slowed.items():
                key = feed.source.host, account.did
                now.add(key)
                seconds = now_s - queue.since_s
                if key in self._told or seconds < WORTH_S or len(found) >= LINES:
                    continue
                if len(self._told) < TOLD_MAX:
                    self._told[key] = queue.since_s, feed.source.hostname
                    found.append(
                        Slowed(
                            account.did, feed.source.hostname, is_over=False, seconds=seconds,
                            waiting=len(queue.events), waiting_bytes=queue.held_bytes,
                        )
                    )  # fmt: skip
        for key in [key for key in self._told if key not in now][:LINES]:
            since_s, hostname = self._told.pop(key)
            found.append(Slowed(key[1], hostname, is_over=True, seconds=now_s - since_s))
        return found
