"""What may a host's operator know of it here? Rows in, one JSON value out.

    GET /hosts/NAME        docs/host-data.md has every field, and the answer to "why am I not read?"

Everything that the relay knows of the host and that is the host's own business: how it is connected,
how far it is read, what slows it, how many accounts of how many it has, what was dropped and why. What
a host chose itself, as the words of an error, is bounded and printable.

This module does not know HTTP or the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from common.limits import event_limits
from common.reject import rules_of
from common.syntax import datetime_text

THROTTLED_SHOWN: Final = 20
"""DIDs of throttled accounts that are named, the first to be released first."""
THROTTLED_COUNTED: Final = 10_000
"""As far as they are counted."""
WORDS: Final = 300
"""Characters of a text that the host may have had a hand in."""
_QUOTAS: Final = {"second": "a second", "hour": "an hour", "day": "a day"}
"""Of the words of `limited_by`, those that are the host's own quota. Source: common/schema.sql."""


class HostFacts(NamedTuple):
    """One host's row. Times are Unix seconds; the rest as in common/schema.sql, table `host`."""

    number: int
    hostname: str
    wanted: str
    observed: str
    last_error: str | None
    generation: int
    cursor: int | None
    accounts: int
    account_limit: int
    trusted: bool
    per_second: int | None
    per_hour: int | None
    per_day: int | None
    connected: bool
    changed_at_s: float | None
    failures: int
    next_dial_at_s: float | None
    last_event_at_s: float | None
    last_seq: int | None
    events: int
    limited_by: str | None
    limited_until_s: float | None
    restarts: int
    level: str
    level_since_s: float
    discontinuous: int
    waived: int
    waived_at_s: float | None
    checked: int
    alias_of: str | None
    added_by: str
    added_at_s: float
    slowed: int = 0


class Dropped(NamedTuple):
    """How often a message of a host was dropped for one reason, ever; when that was last."""

    reason: str
    times: int
    last_at_s: float


class Throttled(NamedTuple):
    """Accounts of a host that are over its limit. dids: the first of them."""

    number: int
    dids: Sequence[str]


NOBODY: Final = Throttled(0, ())


def status_of(
    wanted: str,
    observed: str,
    limited_until_s: float | None,
    *,
    domain_banned: bool,
    now_s: float,
) -> str:
    """The word of com.atproto.sync.defs#hostStatus for a host.

    What is observed may be old, where nobody reads the host any more; an end that is known is not.
    Source: S-HST-01, S-HST-02.
    """
    if wanted == "banned" or domain_banned:
        return "banned"
    if observed == "throttled" and limited_until_s is not None and limited_until_s <= now_s:
        return "active"
    return observed


def host_data(
    host: HostFacts,
    drops: Sequence[Dropped],
    throttled: Throttled,
    *,
    domain: str | None,
    now_s: float,
) -> dict[str, Any]:
    """The whole answer. domain: whose ban concerns the host; None: no domain's. What is not known is left out."""
    status = status_of(
        host.wanted,
        host.observed,
        host.limited_until_s,
        domain_banned=domain is not None,
        now_s=now_s,
    )
    # Whoever is banned is read by nobody, and so nobody says that the connection is gone.
    connected = host.connected and status != "banned"
    waits = not connected and status != "banned"
    return {
        "hostname": host.hostname,
        "status": status,
        "summary": summary(host, domain, now_s),
        **_known(aliasOf=host.alias_of, bannedDomain=domain),
        "connection": {
            "connected": connected,
            "failures": host.failures,
            **_known(
                since=_time(host.changed_at_s),
                lastError=_words(host.last_error),
                nextDialAt=_time(host.next_dial_at_s if waits else None),
            ),
        },
        "stream": {
            **_known(
                cursor=host.cursor,
                lastSeq=host.last_seq,
                behind=_behind(host),
                lastEventAt=_time(host.last_event_at_s),
            ),
            "events": host.events,
            "generation": host.generation,
            "restarts": host.restarts,
        },
        "limits": _limits(host, now_s),
        "accounts": {
            "count": host.accounts,
            "limit": host.account_limit,
            "throttled": throttled.number,
            "throttledDids": list(throttled.dids),
        },
        "validation": {
            "level": host.level,
            "since": datetime_text(host.level_since_s),
            "discontinuous": host.discontinuous,
            "waived": host.waived,
            "checked": host.checked,
            **_known(waivedAt=_time(host.waived_at_s)),
        },
        "drops": {
            "total": sum(drop.times for drop in drops),
            "byReason": [_drop(drop) for drop in drops],
            "newest": f"/rejects?host={quote(host.hostname)}",
        },
        "addedAt": datetime_text(host.added_at_s),
        "addedBy": host.added_by,
    }


def summary(host: HostFacts, domain: str | None, now_s: float) -> str:
    """One sentence for the host's operator: is it read, and if not, why not?"""
    if host.wanted == "banned":
        return "The operator of this relay has banned this host."
    if domain is not None:
        return f"The operator of this relay has banned the domain {domain}, and all hosts below it."
    if host.alias_of is not None:
        return f"This is another name of {host.alias_of}, which is read under that name alone."
    if host.connected:
        if _is_limited(host, now_s):
            each = _QUOTAS.get(host.limited_by or "")
            if each is None:
                return "Connected, and read at a measured pace until it has caught up."
            until = _time(host.limited_until_s)
            return f"Connected, and slowed by its limit of events {each}" + (
                f" until {until}." if until else "."
            )
        behind = _behind(host)
        return "Connected." if not behind else f"Connected, {behind} events behind."
    why = _words(host.last_error)
    text = f"Not connected: {why}." if why else "Not connected."
    if host.next_dial_at_s is not None and host.next_dial_at_s > now_s:
        return f"{text} It is dialled again at {_time(host.next_dial_at_s)}; requestCrawl does that at once."
    return f"{text} It is dialled again by itself."


def _limits(host: HostFacts, now_s: float) -> dict[str, Any]:
    limits = event_limits(
        host.account_limit,
        trusted=host.trusted,
        per_second=host.per_second,
        per_hour=host.per_hour,
        per_day=host.per_day,
    )
    value: dict[str, Any] = {
        "perSecond": limits.per_second,
        "perHour": limits.per_hour,
        "perDay": limits.per_day,
        "trusted": host.trusted,
    }
    if _is_limited(host, now_s):
        value |= {"limitedBy": host.limited_by} | _known(limitedUntil=_time(host.limited_until_s))
    if host.slowed:
        value["slowedAccounts"] = host.slowed
    return value


def _is_limited(host: HostFacts, now_s: float) -> bool:
    """Whether something slows it now; no end may be known."""
    return host.limited_by is not None and (host.limited_until_s or now_s) >= now_s


def _behind(host: HostFacts) -> int | None:
    """How many numbers of the host's lie between what was read last and what is done."""
    if host.last_seq is None or host.cursor is None:
        return None
    return max(0, host.last_seq - host.cursor)


def _drop(drop: Dropped) -> dict[str, Any]:
    return {
        "reason": drop.reason,
        "count": drop.times,
        "lastAt": datetime_text(drop.last_at_s),
        "rules": rules_of(drop.reason),
    }


def _time(at_s: float | None) -> str | None:
    return None if at_s is None else datetime_text(at_s)


def _words(text: str | None) -> str | None:
    """What a host may have had a hand in: one line, bounded, nothing that moves a cursor."""
    if text is None:
        return None
    return "".join(char if char.isprintable() else " " for char in text[:WORDS]).strip()


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
