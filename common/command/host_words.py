"""How is a host told to an operator: in a list, by itself, as JSON? Rows in, text and values out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from common.command.words import ago, duration_text, moment, pairs, table, visible
from common.limits import EventLimits, event_limits
from common.syntax import datetime_text
from common.verdict import Level


class Host(NamedTuple):
    """A row of the table `host`, whose columns common/schema.sql explains; times in Unix seconds.

    foreign_percent: of its last events, those of accounts of other hosts. banned_domain: the banned domain
    that it is in.
    """

    id: int
    hostname: str
    tls: bool
    wanted: str
    observed: str
    connected: bool
    changed_s: float | None
    failures: int
    next_dial_s: float | None
    last_error: str | None
    last_event_s: float | None
    last_seq: int | None
    cursor: int | None
    generation: int
    restarts: int
    events: int
    accounts: int
    account_limit: int
    per_second: int | None
    per_hour: int | None
    per_day: int | None
    limited_by: str | None
    limited_until_s: float | None
    trusted: bool
    level: str
    level_since_s: float
    discontinuous: int
    waived: int
    waived_s: float | None
    checked: int
    added_by: str
    created_s: float
    server_did: str | None
    alias_of: str | None
    alerts_silenced: bool
    foreign_percent: int
    banned_domain: str | None

    @property
    def status(self) -> str:
        """What it is now: banned by its operator, or as it is seen."""
        banned = self.wanted == "banned" or self.banned_domain is not None
        return "banned" if banned else self.observed

    @property
    def limits(self) -> EventLimits:
        """How much it may send."""
        return event_limits(
            self.account_limit, trusted=self.trusted,
            per_second=self.per_second, per_hour=self.per_hour, per_day=self.per_day,
        )  # fmt: skip


class Dropped(NamedTuple):
    """How many messages of a host were dropped for one reason, ever."""

    reason: str
    number: int
    last_s: float

    def value(self) -> dict[str, Any]:
        """For programs."""
        return {"reason": self.reason, "count": self.number, "last_at": moment(self.last_s)}


def hosts_text(hosts: Sequence[Host], now_s: float) -> str:
    """All hosts: what is wanted and seen of them, and how they are judged."""
    if not hosts:
        return "no hosts are known"
    head = (
        "host", "status", "level", "last event", "accounts", "discontinuous", "waived",
        "limited", "last error",
    )  # fmt: skip
    rows = [
        (
            visible(host.hostname),
            host.status,
            host.level,
            ago(host.last_event_s, now_s),
            f"{host.accounts:,}/{host.account_limit:,}",
            f"{host.discontinuous:,}",
            f"{host.waived:,}",
            host.limited_by or "-",
            visible(host.last_error or ""),
        )
        for host in hosts
    ]
    return table([head, *rows])


def host_text(host: Host, drops: Sequence[Dropped], now_s: float, clean_s: float) -> str:
    """All that is known of one host. clean_s: the clean period, in seconds."""
    rows = [
        ("host", f"{visible(host.hostname)}{'' if host.tls else ' (without TLS)'}"),
        ("status", host.status + _why_banned(host)),
        ("connected", _connected(host, now_s)),
        ("last event", f"{ago(host.last_event_s, now_s)}, seq {_number(host.last_seq)}"),
        ("cursor", _cursor_text(host)),
        ("events", f"{host.events:,} since its process began"),
        ("accounts", f"{host.accounts:,} of {host.account_limit:,}"),
        ("limits", limits_line(host)),
        ("limited now", _limited(host, now_s)),
        ("trusted", "yes" if host.trusted else "no"),
        ("judged", level_text(host, clean_s)),
        ("passed", f"{host.discontinuous:,} discontinuous, {host.waived:,} waived"),
        ("dropped", _drops(drops, now_s)),
        ("added", f"{datetime_text(host.created_s)} by {host.added_by}"),
        ("calls itself", visible(host.server_did or "not known")),
    ]  # fmt: skip
    if host.foreign_percent:
        words = f"{host.foreign_percent} % of its last events were of accounts of other hosts"
        rows.append(("foreign", words))
    if host.alias_of is not None:
        rows.append(("alias of", visible(host.alias_of)))
    if host.alerts_silenced:
        rows.append(("alerts", "silenced"))
    if host.last_error is not None:
        rows.append(("last error", visible(host.last_error)))
    return pairs(rows)


def limits_line(host: Host) -> str:
    """What a host may send, and which of it was set by hand."""
    names = ("a second", "an hour", "a day")
    own = (host.per_second, host.per_hour, host.per_day)
    return ", ".join(
        f"{number:,} {name}{'' if mine is None else ' (set)'}"
        for name, number, mine in zip(names, host.limits, own, strict=True)
    )


def host_value(host: Host) -> dict[str, Any]:
    """One host, for programs."""
    return {
        "host": host.hostname,
        "tls": host.tls,
        "status": host.status,
        "wanted": host.wanted,
        "observed": host.observed,
        "banned_domain": host.banned_domain,
        "connected": host.connected,
        "changed_at": moment(host.changed_s),
        "failures": host.failures,
        "next_dial_at": moment(host.next_dial_s),
        "last_error": host.last_error,
        "last_event_at": moment(host.last_event_s),
        "last_seq": host.last_seq,
        "cursor": host.cursor,
        "generation": host.generation,
        "restarts": host.restarts,
        "events": host.events,
        "accounts": host.accounts,
        "account_limit": host.account_limit,
        **host.limits._asdict(),
        "limited_by": host.limited_by,
        "limited_until": moment(host.limited_until_s),
        "trusted": host.trusted,
        "level": host.level,
        "level_since": moment(host.level_since_s),
        "discontinuous": host.discontinuous,
        "waived": host.waived,
        "waived_at": moment(host.waived_s),
        "checked": host.checked,
        "added_by": host.added_by,
        "added_at": moment(host.created_s),
        "server_did": host.server_did,
        "alias_of": host.alias_of,
        "alerts_silenced": host.alerts_silenced,
        "foreign_percent": host.foreign_percent,
    }


def level_text(host: Host, clean_s: float) -> str:
    """How a host is judged, and what that means for it."""
    since = f"at {host.level} since {datetime_text(host.level_since_s)}"
    if host.level != Level.OBSERVE:
        return f"{since}: what fails a check is dropped"
    waived = "nothing was waived since"
    if host.waived_s is not None:
        waived = f"something was last waived at {datetime_text(host.waived_s)}"
    return (
        f"{since}: what fails only the inversion passes, marked;\n"
        f"{waived}; {host.checked:,} commits have passed every check since then;\n"
        f"it moves up to {Level.ENFORCE} by itself upon a commit, when nothing was waived for"
        f" {duration_text(clean_s)}"
    )


_LIMITED: Final = {"second": "by the second", "hour": "by the hour", "day": "by the day",
                   "catch_up": "while it catches up"}  # fmt: skip


def _limited(host: Host, now_s: float) -> str:
    if host.limited_by is None:
        return "no"
    until = ""
    if host.limited_until_s is not None and host.limited_until_s > now_s:
        until = f", for {duration_text(host.limited_until_s - now_s)} more"
    return _LIMITED.get(host.limited_by, host.limited_by) + until


def _why_banned(host: Host) -> str:
    return f", as all of {host.banned_domain}" if host.banned_domain is not None else ""


def _connected(host: Host, now_s: float) -> str:
    if host.connected:
        return f"yes, since {datetime_text(host.changed_s)}" if host.changed_s else "yes"
    told = f"no, {host.failures:,} attempts since the last progress" if host.failures else "no"
    if host.next_dial_s is not None:
        told += f", the next in {duration_text(max(0.0, host.next_dial_s - now_s))}"
    return told


def _cursor_text(host: Host) -> str:
    cursor = "live" if host.cursor is None else f"{host.cursor:,}"
    told = f"{cursor}, generation {host.generation}"
    return f"{told}, its numbers began again {host.restarts} times" if host.restarts else told


def _number(number: int | None) -> str:
    return "none" if number is None else f"{number:,}"


def _drops(drops: Sequence[Dropped], now_s: float) -> str:
    told = [f"{d.number:,} {d.reason}, last {ago(d.last_s, now_s)}" for d in drops]
    return "\n".join(told) or "nothing"
