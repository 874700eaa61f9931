"""What does a running relay cost? CPU and memory of each of its processes, from /proc."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Final

from tests.relay import children_of

_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
STAGES: Final = ("ingest", "persist", "broadcast", "postgres", "supervisor")


def stage_of(pid: int) -> str | None:
    """Which stage a process belongs to, by its command line; None for one that just ended."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return None
    for stage in ("ingest", "persist", "broadcast"):
        if f"-m {stage}" in command:
            return stage
    return "postgres" if "postgres" in command else "supervisor"


def cpu_s(supervisor: int) -> dict[str, float]:
    """CPU seconds so far by stage: user and system, with what ended children used."""
    spent: dict[str, float] = defaultdict(float)
    for pid in [supervisor, *children_of(supervisor)]:
        stage = stage_of(pid)
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        # utime, stime; and of the children that were waited for: backends of PostgreSQL.
        reaped = fields[13:15] if stage == "postgres" else []
        ticks = sum(map(int, [*fields[11:13], *reaped]))
        if stage is not None:
            spent[stage] += ticks * _TICK_S
    return dict(spent)


def pss_bytes(supervisor: int) -> dict[str, int]:
    """Memory by stage: each shared page counted once, split among its users (PSS)."""
    held: dict[str, int] = defaultdict(int)
    for pid in [supervisor, *children_of(supervisor)]:
        stage = stage_of(pid)
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("Pss:") and stage is not None:
                held[stage] += int(line.split()[1]) * 1024
    return dict(held)
