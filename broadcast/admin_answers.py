"""How does the admin API show a host, an account, a consumer, a change? Rows in, JSON values out.

`pds_answer` and `consumer_answer` have the reference relay's names, which its tools read; the others
are ours.

Source: the reference relay's admin API.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from common.control import Audited
from common.limits import event_limits

SUCCESS: Final = {"success": "true"}
"""What a change is answered with; a text, as its tools know it."""
_WINDOWS_S: Final = (1, 3600, 86400)
NO_CURSOR: Final = -1
_NO_TIME: Final = "0001-01-01T00:00:00Z"
"""Go's zero time: its parsers take no empty text."""


class HostRow(NamedTuple):
    """One row of the table `host`; see common/schema.sql for each."""

    id: int
    hostname: str
    tls: bool
    created_at: datetime
    wanted: str
    observed: str
    last_error: str | None
    cursor: int | None
    generation: int
    account_limit: int
    trusted: bool
    level: str
    level_since: datetime
    per_second: int | None
    per_hour: int | None
    per_day: int | None
    added_by: str
    server_did: str | None
    alias_of: str | None
    alerts_silenced: bool
    alert_state: str
    alert_at: datetime | None
    connected: bool
    changed_at: datetime | None
    failures: int
    next_dial_at: datetime | None
    last_event_at: datetime | None
    last_seq: int | None
    events: int
    limited_by: str | None
    limited_until: datetime | None
    restarts: int
    accounts: int
    banned_domain: str | None
    """The domain by whose ban it is not read."""


class AccountRow(NamedTuple):
    """One row of the table `account`, with its host's name and whether it is taken down."""

    id: int
    did: str
    host: str | None
    active: bool
    status: str | None
    local: str | None
    takedown: bool
    rev: str | None
    desynchronized: bool


class ConsumerRow(NamedTuple):
    """One open stream. next_seq: what it gets next. head_seq: the newest event of this process."""

    id: int
    process: str
    address: str
    user_agent: str
    connected_at_s: float
    events: int
    sent_bytes: int
    next_seq: int
    head_seq: int
    state: str


def is_read(row: HostRow) -> bool:
    """Whether a host has a subscription, connected or waiting to be."""
    return row.wanted == "active" and row.banned_domain is None and row.alias_of is None


def pds_answer(row: HostRow) -> dict[str, Any]:
    """A host, as the reference relay's listing has it."""
    # Its rates are only known there while a host is subscribed.
    rates: Sequence[int] = event_limits_of(row) if is_read(row) else (-1, -1, -1)
    second, hour, day = (
        {"Max": rate, "Window": window_s} for rate, window_s in zip(rates, _WINDOWS_S, strict=True)
    )
    answer: dict[str, Any] = {
        "ID": row.id,
        "CreatedAt": time_text(row.created_at),
        "Host": row.hostname,
        "SSL": row.tls,
        "Cursor": NO_CURSOR if row.cursor is None else row.cursor,
        "Registered": is_read(row) and row.observed == "active",
        "Blocked": not_wanted(row),
        "CrawlRateLimit": 0,
        "RepoCount": row.accounts,
        "RepoLimit": row.account_limit,
        "HasActiveConnection": is_read(row) and row.connected,
        "EventsSeenSinceStartup": row.events,
        "PerSecondEventRate": second,
        "PerHourEventRate": hour,
        "PerDayEventRate": day,
        "UserCount": row.accounts,
        "AccountLimitAlertsSilenced": row.alerts_silenced,
        "AccountLimitAlertState": row.alert_state,
    }
    if row.alert_at is not None:
        answer["AccountLimitAlertSentAt"] = time_text(row.alert_at)
    return answer


def event_limits_of(row: HostRow) -> tuple[int, int, int]:
    """Events that a host may send a second, an hour and a day."""
    return event_limits(
        row.account_limit,
        trusted=row.trusted,
        per_second=row.per_second,
        per_hour=row.per_hour,
        per_day=row.per_day,
    )


def not_wanted(row: HostRow) -> bool:
    """Whether a host is banned, by name or below a domain."""
    return row.wanted == "banned" or row.banned_domain is not None


def host_answer(row: HostRow) -> dict[str, Any]:
    """A host, with everything that is known of it."""
    value = row._asdict() | {"status": "banned" if not_wanted(row) else row.observed}
    rates = zip(("per_second", "per_hour", "per_day"), event_limits_of(row), strict=True)
    value |= {
        "limits": dict(rates),
        "own_limits": {name: value.pop(name) for name in ("per_second", "per_hour", "per_day")},
    }
    return {
        key: time_text(what) if isinstance(what, datetime) else what for key, what in value.items()
    }


def account_answer(row: AccountRow) -> dict[str, Any]:
    """An account, as its host and this relay have it."""
    value = row._asdict()
    del value["id"]
    return value


def audit_answer(row: Audited) -> dict[str, Any]:
    """One change."""
    return row._asdict() | {"at": time_text(row.at)}


def consumer_answer(row: ConsumerRow) -> dict[str, Any]:
    """An open stream: the reference relay's fields, then ours."""
    return {
        "id": row.id,
        "remote_addr": row.address,
        "user_agent": row.user_agent,
        "events_consumed": row.events,
        "connected_at": time_text(datetime.fromtimestamp(row.connected_at_s, UTC)),
        "process": row.process,
        "state": row.state,
        "seq": row.next_seq - 1,
        "lag_events": max(0, row.head_seq - row.next_seq + 1),
        "bytes": row.sent_bytes,
    }


def silent_answer(process: str, why: str) -> dict[str, Any]:
    """In place of the consumers of a broadcaster that does not answer: a row that no tool stumbles over."""
    return {
        "id": 0,
        "remote_addr": "",
        "user_agent": "",
        "events_consumed": 0,
        "connected_at": _NO_TIME,
        "process": process,
        "error": why,
    }


def page(name: str, values: Sequence[Any], limit: int, cursors: Sequence[object]) -> dict[str, Any]:
    """A page of a listing. `values` may hold one more than `limit`, which tells that more follow.

    Args: cursors: of each value, where the next page begins behind it.
    """
    answer: dict[str, Any] = {name: list(values[:limit])}
    if len(values) > limit:
        answer["cursor"] = str(cursors[limit - 1])
    return answer


def time_text(at: datetime) -> str:
    """RFC 3339, in UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
