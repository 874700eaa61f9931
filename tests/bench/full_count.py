"""What does the full count cost? 2,800 hosts on real sockets, 100,000 accounts, and a connection over TLS.

    python -m tests.bench.full_count

The story is tests/fullcount/story.py. Times include whatever else the machine does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, Final

import uvloop

from tests.fullcount.story import Figures, Size, run

ACCOUNTS: Final = 100_000
MIB: Final = 2**20
KIB: Final = 2**10


def measure() -> dict[str, Any]:
    """The figures of the whole story, and of the one over TLS until all are connected."""

    def say(text: str) -> None:
        print(f"full count: {text} (load {os.getloadavg()[0]:.1f})", file=sys.stderr, flush=True)

    plain = uvloop.run(run(Size(accounts=ACCOUNTS, deadline_s=600), say))
    over_tls = uvloop.run(run(Size(accounts=Size().hosts, tls=True, only_connect=True), say))
    return {"plain": plain.as_dict(), "tls": over_tls.as_dict(), "load": os.getloadavg()[0]}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The figures for people."""
    plain, over_tls = Figures(**found["plain"]), Figures(**found["tls"])
    memory = {stage: size / MIB for stage, size in plain.busy.items()}
    report = plain.report
    yield f"| the full count: {plain.hosts:,} hosts, {ACCOUNTS:,} accounts | measured | wanted |"
    yield "| --- | --- | --- |"
    yield f"| all connected, from the moment they were added | {plain.added_s:.0f} s | ≤ 90 s |"
    yield f"| all connected, from the cold start of the relay, under load | {plain.cold_s:.0f} s | |"
    yield f"| all dropped at once, and back | {plain.back_s:.0f} s | |"
    yield f"| a plain connection in ingest | {plain.connection_bytes / KIB:.1f} KiB | ≤ 40 KiB |"
    yield f"| a connection over TLS in ingest | {over_tls.connection_bytes / KIB:.1f} KiB | ≤ 110 KiB |"
    yield (
        f"| memory of everything (PSS) | {sum(memory.values()):.0f} MiB: "
        + ", ".join(f"{stage} {size:.0f}" for stage, size in memory.items())
        + " | ≤ 1,024 MiB |"
    )
    yield f"| `/_health`, p99, worst, other than 200 | {plain.health_p99_s * 1e3:.0f} ms, {plain.health_max_s * 1e3:.0f} ms, {plain.health_wrong} | < 1 s |"
    yield f"| a ban takes effect | {plain.ban_s:.2f} s | ≤ 1 s |"
    yield f"| a limit takes effect | {plain.limit_s:.2f} s | ≤ 1 s |"
    yield f"| a takedown takes effect | {plain.takedown_s:.2f} s | ≤ 1 s |"
    yield f"| first events of accounts nobody has met | {plain.first_per_s:.0f}/s | |"
    yield (
        f"| added latency while a tenth flaps, the others' events | p50 {plain.late_p50_s * 1e3:.0f} ms, "
        f"p99 {plain.late_p99_s * 1e3:.0f} ms | |"
    )
    yield (
        f"| CPU of an event at {plain.events_per_s:.0f}/s | {sum(plain.cpu_us.values()):.0f} µs: "
        + ", ".join(f"{stage} {cost:.0f}" for stage, cost in plain.cpu_us.items())
        + " | |"
    )
    yield f"| descriptors of all processes, in order of the story | {', '.join(map(str, plain.files))} | flat |"
    yield (
        f"| events said, delivered exactly once | {plain.events:,}, "
        f"{report['received'] - report['doubled'] - report['extra']:,} | all |"
    )


if __name__ == "__main__":
    print("\n".join(lines(measure())))
