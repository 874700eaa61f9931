"""What is kept of a message that was dropped, and how is it told?

    ingest ── Reject ──▶ table `reject` ── RejectRow ──▶ broadcast, `standpipe rejects`

Shapes and words; who writes and who reads has statements of its own.
"""

from __future__ import annotations

from typing import Any, Final, LiteralString, NamedTuple

from common.syntax import datetime_text
from common.verdict import RULES, DropReason


class Reject(NamedTuple):
    """One dropped message, to be kept.

    host: number of the host that sent it. at_s: when it was dropped, Unix seconds.
    kind, did, rev, seq: as the message claims; None where that is not legible.
    size: of the frame, in bytes. frame: as it came, None when it was too much to keep.
    """

    host: int
    at_s: float
    reason: DropReason
    detail: str
    kind: str | None
    did: str | None
    rev: str | None
    seq: int | None
    size: int
    frame: bytes | None


class RejectRow(NamedTuple):
    """One dropped message, as it was kept.

    number: rises with time. hostname: None when the host's row is gone. reason: of a release that
    may not be this one. frame: None when it was not kept, or not asked for. Else as `Reject`.
    """

    number: int
    hostname: str | None
    at_s: float
    reason: str
    detail: str
    kind: str | None
    did: str | None
    rev: str | None
    seq: int | None
    size: int
    frame: bytes | None = None


COLUMNS: Final[LiteralString] = (
    "r.id, h.hostname, extract(epoch FROM r.at)::float8, r.reason, r.detail, r.kind, r.did, r.rev,"
    " r.seq, r.size"
)
"""The fields of a RejectRow but for the frame, of `reject r LEFT JOIN host h ON h.id = r.host_id`."""


def rules_of(reason: str) -> list[str]:
    """The ids of the rules that a reason stands for; none for a reason this release lacks."""
    try:
        return list(RULES[DropReason(reason)])
    except (ValueError, KeyError):
        return []


def as_value(row: RejectRow) -> dict[str, Any]:
    """One row as everybody may read it; what is not known is left out."""
    value: dict[str, Any] = {"id": str(row.number), "at": datetime_text(row.at_s)}
    told = {"host": row.hostname, "did": row.did, "kind": row.kind, "seq": row.seq, "rev": row.rev}
    value |= {name: given for name, given in told.items() if given is not None}
    value["reason"] = row.reason
    value["rules"] = rules_of(row.reason)
    value["detail"] = row.detail
    value["bytes"] = row.size
    return value
