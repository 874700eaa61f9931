"""How are the log and its events told to an operator? Values in, text out.

What a host has chosen is shown with its control characters made visible: a terminal obeys them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from common.chunk import Row
from common.command.words import duration_text, visible
from common.envelope import Kind, Mark
from common.event import Event
from common.log_walk import Broken
from common.syntax import datetime_text

CLAIMS_SHOWN = 10


class Claim(NamedTuple):
    """Who took the log over. at_s: Unix seconds. seq: of the first event that was its own."""

    epoch: int
    at_s: float
    seq: int
    info: str


class Hole(NamedTuple):
    """Numbers that were left out for good, by a claim. from_seq: the first; until_seq: behind."""

    from_seq: int
    until_seq: int
    at_s: float


class Summary(NamedTuple):
    """What `standpipe log info` tells. Times in Unix seconds, None where there is no event.

    formats: versions of the chunks' format. head: whether there is a head file.
    checkpoint_age_s: None where there is none.
    """

    folder: str
    formats: Sequence[int]
    segments: int
    bytes: int
    head: bool
    epoch: int
    oldest_seq: int
    oldest_at_s: float | None
    durable_seq: int
    durable_at_s: float | None
    claims: Sequence[Claim]
    holes: Sequence[Hole]
    checkpoint_age_s: float | None
    damage: Sequence[Broken]


def summary_text(summary: Summary, now_s: float) -> str:
    """The lines of `standpipe log info`."""
    found = summary
    formats = " and ".join(map(str, found.formats)) or "none yet"
    lines = [
        f"log          {found.folder}",
        f"format       {formats}",
        f"size         {found.segments} segments, {found.bytes:,} bytes",
        f"oldest seq   {found.oldest_seq}{_at(found.oldest_at_s, now_s)}",
        f"durable seq  {found.durable_seq}{_at(found.durable_at_s, now_s)}",
        f"epoch        {found.epoch}",
    ]
    if not found.head:
        lines.append("head file    none: what lies in the segments is told, durable or not")
    age_s = found.checkpoint_age_s
    lines.append(f"checkpoint   {'none' if age_s is None else f'{duration_text(age_s)} old'}")
    hidden = len(found.claims) - CLAIMS_SHOWN
    lines += [f"claims       the last {CLAIMS_SHOWN} of {len(found.claims)}"] if hidden > 0 else []
    lines += [
        f"claim        epoch {claim.epoch}  {datetime_text(claim.at_s)}  from seq {claim.seq}"
        f"  by {visible(claim.info)}"
        for claim in found.claims[-CLAIMS_SHOWN:]
    ]
    lines += [
        f"hole         seqs {hole.from_seq} to {hole.until_seq - 1} were never given, or are lost:"
        f" left out at {datetime_text(hole.at_s)}"
        for hole in found.holes
    ]
    lines += [f"damage       {broken.text()}" for broken in found.damage]
    return "\n".join(lines)


def summary_value(summary: Summary) -> dict[str, Any]:
    """The same for scripts; times as the network writes them."""

    def at(at_s: float | None) -> str | None:
        return None if at_s is None else datetime_text(at_s)

    return {
        "folder": summary.folder,
        "formats": list(summary.formats),
        "segments": summary.segments,
        "bytes": summary.bytes,
        "head": summary.head,
        "epoch": summary.epoch,
        "oldest_seq": summary.oldest_seq,
        "oldest_at": at(summary.oldest_at_s),
        "durable_seq": summary.durable_seq,
        "durable_at": at(summary.durable_at_s),
        "checkpoint_age_s": summary.checkpoint_age_s,
        "claims": [{**claim._asdict(), "at_s": at(claim.at_s)} for claim in summary.claims],
        "holes": [{**hole._asdict(), "at_s": at(hole.at_s)} for hole in summary.holes],
        "damage": [broken.text() for broken in summary.damage],
    }


def event_line(seq: int, row: Row, event: Event | None) -> str:
    """One line for one event: seq, time, kind, DID, rev, host.generation, upstream seq, marks.

    event: None where the frame cannot be read; the row is told all the same.
    """
    return "  ".join(
        (
            str(seq),
            datetime_text(row.time_us / 1e6),
            Kind(row.kind).name.lower().ljust(8),
            event.did if event is not None else "?",
            (event.rev or "-") if event is not None else "?",
            f"{row.host}.{row.generation}",
            str(row.upstream_seq),
            ",".join(_marks(row)) or "-",
        )
    )


def event_value(seq: int, row: Row, event: Event | None) -> dict[str, Any]:
    """The same for scripts. did, rev, active, status: None where the frame cannot be read."""
    account = event is not None and event.kind == Kind.ACCOUNT
    return {
        "seq": seq,
        "time": datetime_text(row.time_us / 1e6),
        "kind": Kind(row.kind).name.lower(),
        "did": event.did if event is not None else None,
        "rev": event.rev if event is not None else None,
        "active": event.active if event is not None and account else None,
        "status": event.status if event is not None and account else None,
        "host": row.host,
        "generation": row.generation,
        "upstream_seq": row.upstream_seq,
        "shard": row.shard,
        "epoch": row.epoch,
        "position": row.position,
        "bytes": row.length,
        "marks": _marks(row),
    }


def _marks(row: Row) -> list[str]:
    return [mark.name.lower() for mark in Mark if row.flags & mark and mark.name]


def _at(at_s: float | None, now_s: float) -> str:
    if at_s is None:
        return ""
    return f"  {datetime_text(at_s)}  {duration_text(max(0.0, now_s - at_s))} ago"
