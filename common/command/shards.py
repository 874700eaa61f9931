"""Who reads which shards, and how much is that?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final

import orjson

from common.command.parsers import Commands, command, json_option
from common.command.session import Session, at_tables
from common.command.tables import Member, Shard
from common.command.words import age_text, table
from common.sharding import SHARD_COUNT, shard_of

_TEXT: Final = """\
Shows which ingest process reads which shards, on whichever machine it runs, what they cost it, and
whether it has renewed its leases. A host belongs to one shard, by its name; --of tells which.

  load    messages of usual size a second, averaged over about a minute; what shares are even by
  leases  how long they last unless they are renewed; every second each is renewed for 6 s
  seen    when the process last looked at the table

  standpipe shards
  standpipe shards --of pds.example.com

--json prints an object: processes (number, alive, seen_s, shards, hosts, load), shards (number, owner,
epoch, lease_s, hosts, load), unread (shards that nobody reads)

exit code: 0 every shard is read · 1 one is not, or the database does not answer · 2 wrong settings or words
"""


def register(commands: Commands) -> None:
    """Add `standpipe shards`."""
    parser = command(commands, "shards", "show who reads which hosts, and its load", _TEXT, _shards)
    parser.add_argument("--of", metavar="HOST", help="who reads this host")
    json_option(parser)


def _shards(chosen: argparse.Namespace) -> int:
    def work(session: Session) -> int:
        shards, members = session.tables.shards()
        if chosen.of is not None:
            number = shard_of(session.tables.host(chosen.of).hostname)
            shards = [shard for shard in shards if shard.number == number]
        if chosen.json:
            print(orjson.dumps(as_value(shards, members)).decode())
        else:
            print(as_text(shards, members))
        return 1 if _unread(shards) or not shards else 0

    return at_tables(work)


def as_value(shards: Sequence[Shard], members: Sequence[Member]) -> dict[str, Any]:
    """For programs."""
    return {
        "processes": [
            {
                "number": member.number,
                "alive": member.alive,
                "seen_s": round(member.seen_s, 1),
                "shards": len(its := _of(shards, member.number)),
                "hosts": sum(shard.hosts for shard in its),
                "load": round(sum(shard.load for shard in its), 3),
            }
            for member in members
        ],
        "shards": [shard._asdict() for shard in shards],
        "unread": _unread(shards),
    }


def as_text(shards: Sequence[Shard], members: Sequence[Member]) -> str:
    """For people: one line for each process that is alive or has shards, and what nobody reads."""
    if not shards:
        return "no ingest process has looked at the table of shards yet"
    rows = [("process", "seen", "leases", "load", "hosts", "shards")]
    for member in members:
        its = _of(shards, member.number)
        if not its and not member.alive:
            continue
        least_s = min((shard.lease_s for shard in its), default=0.0)
        rows.append((
            f"ingest-{member.number}",
            f"{age_text(member.seen_s)} ago",
            "-" if not its else f"{least_s:.1f} s" if least_s > 0 else "run out",
            f"{sum(shard.load for shard in its):,.1f}",
            f"{sum(shard.hosts for shard in its):,}",
            f"{len(its)}: {spans([shard.number for shard in its])}" if its else "0",
        ))  # fmt: skip
    unread = _unread(shards)
    told = f"nobody reads the shards {spans(unread)}" if unread else "every shard is read"
    if len(shards) < SHARD_COUNT and not unread:
        told = f"shard {spans([shard.number for shard in shards])} is read"
    return f"{table(rows)}\n\n{told}"


def spans(numbers: Sequence[int]) -> str:
    """Numbers that rise → 0-3 7 9-10."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][-1] == number - 1:
            found[-1] = [found[-1][0], number]
        else:
            found.append([number])
    return " ".join("-".join(map(str, span)) for span in found)


def _of(shards: Sequence[Shard], member: int) -> list[Shard]:
    return [shard for shard in shards if shard.owner == member]


def _unread(shards: Sequence[Shard]) -> list[int]:
    """Those whose lease has run out, or that nobody has."""
    return [shard.number for shard in shards if shard.owner is None or shard.lease_s <= 0]
