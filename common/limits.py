"""How much may a host send, and how many accounts may it have?

The reference relay's formulas, so that an operator's numbers keep their meaning; each can be set for a
host by itself. Who reaches a limit is slowed by not being read, and loses nothing.

Source: S-RAT-05, S-RAT-06.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

TRUSTED_ACCOUNT_LIMIT: Final = 10_000_000
"""The account limit of a host that is trusted, when it is added."""


class EventLimits(NamedTuple):
    """Events that a host may send, of all kinds."""

    per_second: int
    per_hour: int
    per_day: int


TRUSTED: Final = EventLimits(5_000, 50_000_000, 500_000_000)


def event_limits(
    account_limit: int,
    *,
    trusted: bool,
    per_second: int | None = None,
    per_hour: int | None = None,
    per_day: int | None = None,
) -> EventLimits:
    """What a host may send, with its operator's own numbers where they are set."""
    limits = (
        TRUSTED
        if trusted
        else EventLimits(
            50 + account_limit // 1000, 2_500 + account_limit, 20_000 + 10 * account_limit
        )
    )
    return EventLimits(
        limits.per_second if per_second is None else per_second,
        limits.per_hour if per_hour is None else per_hour,
        limits.per_day if per_day is None else per_day,
    )


def is_trusted(hostname: str, domains: Iterable[str]) -> bool:
    """Whether one of `domains` names a host: a name; *.name, all below it; or *, every host."""
    return any(
        hostname.endswith(domain[1:]) if domain.startswith("*") else hostname == domain
        for domain in map(str.lower, domains)
    )
