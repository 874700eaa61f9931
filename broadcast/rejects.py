"""Why was my commit dropped? Parameters and rows in, JSON values out.

    GET /rejects?host=…&did=…&limit=…&cursor=…          for everybody, without the frames
    GET /admin/rejects?host=…&did=…&limit=…&cursor=…    for the operator, with them

Newest first; a page's `cursor` leads to older ones. The shape is common.reject's, so that
`standpipe rejects --json` says the same.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from broadcast.xrpc import Query, invalid, parse_hostname
from common.reject import RejectRow, as_value
from common.syntax import Did

LIMIT: Final = 50
"""Rows of a page, when the request does not say."""
_NEWEST: Final = 2**63 - 1


class Asked(NamedTuple):
    """One request. host: in normal form. before: only rows with a lower number."""

    host: str | None
    did: Did | None
    limit: int
    before: int


def parse_public(query: Query) -> Asked:
    """The parameters of /rejects: a host, an account, or both.

    Raises:
        XrpcError: they make no sense.
    """
    host, did = query.text("host"), query.text("did")
    if host is None and did is None:
        raise invalid("host or did is missing")
    return Asked(
        None if host is None else parse_hostname(host),
        None if did is None else query.did(),
        query.limit(LIMIT),
        query.cursor() or _NEWEST,
    )


def parse_admin(query: Query) -> Asked:
    """The parameters of /admin/rejects: a host, whose kept frames are bounded; an account of it.

    Raises:
        XrpcError: they make no sense.
    """
    query.required("host")
    return parse_public(query)


def rejects_answer(rows: Sequence[RejectRow], limit: int, *, frames: bool) -> dict[str, Any]:
    """A page. `rows` may hold one more than `limit`, which tells that more follow.

    Args: frames: whether the frames belong to the answer, in base64, where they were kept.
    """
    rejects = []
    for row in rows[:limit]:
        value = as_value(row)
        if frames and row.frame is not None:
            value["frame"] = base64.b64encode(row.frame).decode()
        rejects.append(value)
    page: dict[str, Any] = {"rejects": rejects}
    if len(rows) > limit:
        page["cursor"] = str(rows[limit - 1].number)
    return page
