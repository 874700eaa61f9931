"""How are hosts and dropped messages told to an operator? Rows in, text out.

What a host has chosen is shown with its control characters made visible: a terminal obeys them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from common.reject import RejectRow, rules_of
from common.syntax import datetime_text
from common.verdict import Level


class Host(NamedTuple):
    """A row of the table `host`, as an operator looks at it; times in Unix seconds.

    wanted: 'active' or 'banned'. observed: what ingest sees. discontinuous, waived: events that passed
    all the same. waived_s: when the last was waived at this level. checked: commits at `observe` that
    passed since.
    """

    id: int
    hostname: str
    wanted: str
    observed: str
    level: str
    level_since_s: float
    discontinuous: int
    waived: int
    waived_s: float | None
    checked: int
    last_error: str | None


def visible(text: str) -> str:
    """A text that no terminal takes for a command."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as columns; the last column is as wide as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=True))]).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def duration_text(seconds: float) -> str:
    """Seconds → as a setting would say it: 72h, 1h30m, 45s."""
    whole = round(seconds)
    parts = ((whole // 3600, "h"), (whole // 60 % 60, "m"), (whole % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def rejects_text(rows: Sequence[RejectRow]) -> str:
    """Dropped messages, newest first, with the reason's rules; the detail stands below."""
    if not rows:
        return "nothing that was dropped is kept"
    lines = []
    for row in rows:
        rules = ", ".join(rules_of(row.reason)) or "no rule"
        claims = [f"#{row.kind}" if row.kind else "not legible"]
        if row.seq is not None:
            claims.append(f"seq {row.seq}")
        if row.rev:
            claims.append(f"rev {row.rev}")
        claims += [row.did or "no DID", f"{row.size:,} bytes"]
        lines += [
            f"{datetime_text(row.at_s)}  {row.reason} ({rules})  from {row.hostname or 'a host of old'}",
            f"    {visible(' · '.join(claims))}",
        ]
        if row.detail:
            lines.append(f"    {visible(row.detail)}")
    return "\n".join(lines)


def hosts_text(hosts: Sequence[Host]) -> str:
    """All hosts: what is wanted and seen of them, how they are judged, and what passed for it."""
    if not hosts:
        return "no hosts are known"
    head = ("host", "status", "level", "since", "discontinuous", "waived", "last error")
    rows = [head]
    for host in hosts:
        status = "banned" if host.wanted == "banned" else host.observed
        rows.append(
            (
                host.hostname,
                status,
                host.level,
                datetime_text(host.level_since_s),
                f"{host.discontinuous:,}",
                f"{host.waived:,}",
                visible(host.last_error or ""),
            )
        )
    return table(rows)


def host_value(host: Host) -> dict[str, Any]:
    """One host, for programs."""
    return {
        "host": host.hostname,
        "wanted": host.wanted,
        "observed": host.observed,
        "level": host.level,
        "level_since": datetime_text(host.level_since_s),
        "discontinuous": host.discontinuous,
        "waived": host.waived,
        "waived_at": datetime_text(host.waived_s) if host.waived_s is not None else None,
        "checked": host.checked,
        "last_error": host.last_error,
    }


def level_text(host: Host, clean_s: float) -> str:
    """How a host is judged, and what that means for it."""
    since = f"{host.hostname} is judged at {host.level} since {datetime_text(host.level_since_s)}"
    if host.level != Level.OBSERVE:
        return f"{since}: what fails a check is dropped"
    waived = "nothing was waived since"
    if host.waived_s is not None:
        waived = f"something was last waived at {datetime_text(host.waived_s)}"
    return (
        f"{since}: what fails only the inversion passes, marked\n"
        f"{waived}; {host.checked:,} commits have passed every check since then\n"
        f"it moves up to {Level.ENFORCE} by itself upon a commit, when nothing was waived for"
        f" {duration_text(clean_s)}"
    )


def changed_text(host: Host, before: Host) -> str:
    """What `standpipe level` has done."""
    if host.level == before.level:
        return f"{host.hostname} is at {host.level} already; nothing was changed"
    since = datetime_text(before.level_since_s)
    return f"{host.hostname} was at {before.level} since {since}, and is at {host.level} now"
