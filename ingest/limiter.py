"""How many messages may a host send now, and when more?

    second ─┐ each a bucket: as many tokens as its limit, and the limit again in each window.
    hour   ─┼─ A message takes one of each; none there: the host is not read until there is.
    day    ─┘

So in any stretch of time no more than the limit and its share of that stretch, and with demand no
less; who has used up his day goes on at a day's pace, and waits for no midnight. Times are steady
seconds. What is waited for comes in parts, or a slow host would be woken for each message.

An account of the host has a share of that (ingest.fairness). Nothing here knows what a message is, or
whose, and nothing here waits. No I/O, no clock. Nothing outlives the process: see docs/limits.md.

Source: S-RAT-05, S-RAT-06.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from common.limits import TRUSTED, EventLimits

WINDOWS: Final = ("second", "hour", "day")
CATCH_UP: Final = "catch_up"
"""Not a window: the budget for what hosts said before we asked (ingest.catch_up)."""
WHYS: Final = (*WINDOWS, CATCH_UP)
"""What a host may be slowed by."""
_WINDOW_S: Final = (1.0, 3600.0, 86_400.0)
_PART_S: Final = (0.02, 60.0, 300.0)
"""A wait is so long at least, in seconds: what gathers meanwhile is read in one go."""
LONGEST_S: Final = 86_400.0
"""A host whose limit is nothing is looked at again after so long, in seconds."""
_LOOK_S: Final = 1.0
"""The hour's and the day's tokens come back so often, in seconds."""
_NEARLY: Final = 0.002
"""A token counts as there when so little of it is missing: seconds since 1970 have no places for more,
at thousands of tokens a second."""


class Wait(NamedTuple):
    """until_s: when more may be read. why: the window that is used up."""

    until_s: float
    why: str


class Limiter:
    """The buckets of one host.

    account_free, account_burst, account_per_s: what one account may take; see ingest.fairness.
    """

    __slots__ = (
        "_at_s", "_hour", "_left", "_looked_s", "_per_s", "_second", "_second_limit", "_second_per_s",
        "_today", "account_burst", "account_free", "account_per_s", "limits",
    )  # fmt: skip

    def __init__(self, limits: EventLimits = TRUSTED) -> None:
        """All buckets are full."""
        # Tokens that are gone: these come back, whatever the size of the bucket becomes.
        self._second = self._hour = self._today = 0.0
        self._at_s = self._looked_s = 0.0
        self.limits = limits
        self._size()

    def set(self, limits: EventLimits, now_s: float) -> bool:
        """Other limits from now on → whether they are others. What was used stays used."""
        if limits == self.limits:
            return False
        self._refill(now_s)
        self.limits = limits
        self._second = min(self._second, limits.per_second)
        self._hour = min(self._hour, limits.per_hour)
        self._today = min(self._today, limits.per_day)
        self._size()
        return True

    def _size(self) -> None:
        self._per_s = [limit / window for limit, window in zip(self.limits, _WINDOW_S, strict=True)]
        second, hour, day = self.limits
        self._second_limit, self._second_per_s = second + _NEARLY, self._per_s[0]
        self._left = min(hour - self._hour, day - self._today) + _NEARLY
        self.account_burst = max(1.0, min(hour / 4, second * 10.0))
        self.account_free = min(second / 2, self.account_burst)
        self.account_per_s = self.account_burst / 3600

    def take(self, messages: int, now_s: float) -> int:
        """So many are there → how many of them may be taken now, and count as taken."""
        passed_s = now_s - self._at_s
        if passed_s > 0:
            self._at_s = now_s
            used = self._second - passed_s * self._second_per_s
            self._second = used if used > 0 else 0.0
        left = self._left
        if left < messages or now_s - self._looked_s > _LOOK_S:
            # The long windows are looked at now and then: it is the price of one look for each message.
            self._refill(now_s)
            left = self._left
        left = min(left, self._second_limit - self._second)
        if left < messages:
            messages = int(left) if left > 0 else 0
        self._second += messages
        self._left -= messages
        self._hour += messages
        self._today += messages
        return messages

    def spend(self, messages: int) -> None:
        """So many were taken without being asked for; the next ones wait for it."""
        self._second += messages
        self._left -= messages
        self._hour += messages
        self._today += messages

    def give_back(self, messages: int) -> None:
        """So many that were taken do not count, or not now."""
        self._second = max(0.0, self._second - messages)
        self._left += messages
        self._hour = max(0.0, self._hour - messages)
        self._today = max(0.0, self._today - messages)

    def wait(self, now_s: float) -> Wait:
        """With no room: when there is some."""
        self._refill(now_s)
        until_s, why = now_s, WINDOWS[0]
        for name, limit, used, per_s, part_s in zip(
            WINDOWS, self.limits, self._used(), self._per_s, _PART_S, strict=True
        ):
            missing = used - (limit - 1)
            if missing > _NEARLY:
                # A limit below one never has a whole token.
                wait_s = max(missing / per_s, part_s) if limit >= 1 else LONGEST_S
                if now_s + wait_s > until_s:
                    until_s, why = now_s + wait_s, name
        return Wait(until_s, why)

    def token_s(self, now_s: float) -> float:
        """How long until one message may be taken, if nobody else takes any; 0: now."""
        self._refill(now_s)
        longest_s = 0.0
        for limit, used, per_s in zip(self.limits, self._used(), self._per_s, strict=True):
            missing = used - (limit - 1)
            if missing > _NEARLY:
                longest_s = max(longest_s, missing / per_s if limit >= 1 else LONGEST_S)
        return longest_s

    def spare_s(self, now_s: float, *, long: bool) -> float:
        """How long until more than half of each window is left; 0: it is.

        Args: long: whether of the hour and the day, too; else of the second alone.
        """
        self._refill(now_s)
        longest_s = 0.0
        for limit, used, per_s in zip(self.limits, self._used(), self._per_s, strict=True):
            missing = used - limit / 2
            if missing > _NEARLY:
                longest_s = max(longest_s, missing / per_s if limit > 0 else LONGEST_S)
            if not long:
                break
        return longest_s

    def _used(self) -> tuple[float, float, float]:
        return self._second, self._hour, self._today

    def _refill(self, now_s: float) -> None:
        if now_s > self._at_s:
            used = self._second - (now_s - self._at_s) * self._second_per_s
            self._second = used if used > 0 else 0.0
            self._at_s = now_s
        if now_s > self._looked_s:
            passed_s, self._looked_s = now_s - self._looked_s, now_s
            _, hour, day = self._per_s
            used = self._hour - passed_s * hour
            self._hour = used if used > 0 else 0.0
            used = self._today - passed_s * day
            self._today = used if used > 0 else 0.0
            _, hour_limit, day_limit = self.limits
            self._left = min(hour_limit - self._hour, day_limit - self._today) + _NEARLY
