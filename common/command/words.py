"""How do tables, times and what strangers wrote look on a terminal? Values in, text out.

What a host has chosen is shown with its control characters made visible: a terminal obeys them.
"""

from __future__ import annotations

from collections.abc import Sequence

from common.syntax import datetime_text


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


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Names and what they say; further lines of it stand below its first one."""
    width = max(len(name) for name, _ in rows)
    below = "\n" + " " * (width + 2)
    return "\n".join(
        f"{name.ljust(width)}  {text.replace(chr(10), below)}".rstrip() for name, text in rows
    )


def duration_text(seconds: float) -> str:
    """Seconds → as a setting would say it: 72h, 1h30m, 45s."""
    whole = round(seconds)
    parts = ((whole // 3600, "h"), (whole // 60 % 60, "m"), (whole % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def age_text(seconds: float) -> str:
    """Seconds → in two units at most: 3d04h, 2h05m, 1m09s, 12s."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def ago(at_s: float | None, now_s: float) -> str:
    """How long ago something was, in Unix seconds; None: it never was."""
    return "never" if at_s is None else f"{age_text(now_s - at_s)} ago"


def moment(at_s: float | None) -> str | None:
    """A time, in Unix seconds, for programs."""
    return None if at_s is None else datetime_text(at_s)
