"""What does another relay's listHosts say of a host, and is it one to read? Answers in, verdicts out.

Source: com.atproto.sync.listHosts; the reference relay's pull-hosts.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from common.addresses import is_address
from common.target import BadTarget, Target, parse_target

TAKEN: Final = ("active", "idle")
"""Of the others nobody knows whether they live, or they are another operator's to judge."""


class Listed(NamedTuple):
    """One row, as far as it is what it should be."""

    hostname: str
    status: str
    seq: int | None


class Page(NamedTuple):
    """hosts: of one page. cursor: where the next one begins; None: there is none."""

    hosts: list[Listed]
    cursor: str | None


class BadPage(ValueError):
    """The answer is no page of hosts; the message says why."""


def parse_page(body: bytes) -> Page:
    """One answer.

    Raises:
        BadPage: see there.
    """
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadPage(f"it is no JSON: {error}") from None
    hosts = value.get("hosts") if isinstance(value, dict) else None
    if not isinstance(hosts, list):
        raise BadPage("it has no list of hosts")
    cursor = value.get("cursor")
    rows = [_row(each) for each in hosts if isinstance(each, dict)]
    return Page(rows, cursor if isinstance(cursor, str) and cursor and hosts else None)


def judge(host: Listed, *, allow_insecure: bool) -> Target | str:
    """Where the host is read; or why it is not, in a word or two."""
    if host.status not in TAKEN:
        return f"status={host.status}"
    if not host.seq or host.seq < 1:
        return "no-cursor"
    try:
        target = parse_target(host.hostname.lower(), allow_insecure=allow_insecure)
    except BadTarget:
        return "non-public"
    if not allow_insecure and (target.is_local or is_address(target.address[0])):
        return "non-public"
    return target


def _row(value: dict[str, Any]) -> Listed:
    hostname, status, seq = value.get("hostname"), value.get("status", "active"), value.get("seq")
    return Listed(
        hostname if isinstance(hostname, str) else "",
        status if isinstance(status, str) else "unknown",
        seq if type(seq) is int else None,
    )
