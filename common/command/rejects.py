"""What was dropped of a host or an account, and why? And the frames, as files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson

from common.command.parsers import Commands, command, did, json_option, limit_option
from common.command.session import Session, at_tables, say
from common.command.words import visible
from common.reject import RejectRow, as_value, rules_of
from common.syntax import datetime_text

SHOWN: Final = 20
_TEXT: Final = """\
Shows the last messages that were dropped of a host, of an account, or of both together, newest first:
when, the reason with the ids of its rules (docs/spec.md), and what the message claims to be.
--frames writes the bytes as the host sent them, each to a file of its own.

--json prints an array of objects with the keys id, at, reason, rules, detail, bytes and, where they are
known, host, did, kind, seq, rev

exit code: 0 · 1 no such host, or the database does not answer · 2 wrong settings or words
"""


def register(commands: Commands) -> None:
    """Add `standpipe rejects`."""
    parser = command(commands, "rejects", "show what was dropped, and why", _TEXT, _rejects)
    parser.add_argument("host", metavar="HOST", nargs="?", help="who sent it")
    parser.add_argument("--did", type=did, metavar="DID", help="the account that it speaks of")
    limit_option(parser, SHOWN)
    parser.add_argument("--frames", type=Path, metavar="DIR", help="write the frames there")
    json_option(parser, "array")


def _rejects(chosen: argparse.Namespace) -> int:
    if chosen.host is None and chosen.did is None:
        chosen.parser.error("name a HOST, or an account with --did")

    def work(session: Session) -> int:
        tables = session.tables
        host = tables.host(chosen.host) if chosen.host is not None else None
        rows = tables.rejects(host, chosen.did, chosen.limit, frames=chosen.frames is not None)
        if chosen.json:
            print(orjson.dumps([as_value(row) for row in rows]).decode())
        else:
            print(rejects_text(rows))
        if chosen.frames is not None:
            written = write_frames(rows, chosen.frames)
            say(f"{written} of {len(rows)} frames written to {chosen.frames}")
        return 0

    return at_tables(work)


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


def write_frames(rows: Sequence[RejectRow], folder: Path) -> int:
    """Write the frames that were kept, each as it came from the host → how many.

    Raises:
        OSError: the folder cannot be made, or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = [row for row in rows if row.frame is not None]
    for row in kept:
        assert row.frame is not None
        (folder / f"{row.number}-{row.reason}.frame").write_bytes(row.frame)
    return len(kept)
