"""How is a relay's state told: as a table for people, as one value for programs?

Values in, text out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Numbers: TypeAlias = dict[str, dict[str, float]]
"""Metric → label value ("" without labels) → number."""

WANTED: Final = (
    "standpipe_received_total",
    "standpipe_forwarded_total",
    "standpipe_dropped_total",
    "standpipe_held",
    "standpipe_in_flight",
    "standpipe_hosts",
    "standpipe_durable_seq",
    "standpipe_logged_total",
    "standpipe_log_bytes",
    "standpipe_head_seq",
    "standpipe_consumers",
    "standpipe_delivered_total",
    "standpipe_loop_lag_seconds",
    "process_resident_memory_bytes",
)
"""The numbers that are asked for."""
_SUMS: Final = {
    "received": "standpipe_received_total",
    "forwarded": "standpipe_forwarded_total",
    "dropped": "standpipe_dropped_total",
    "held": "standpipe_held",
    "in flight": "standpipe_in_flight",
    "durable seq": "standpipe_durable_seq",
    "logged": "standpipe_logged_total",
    "log bytes": "standpipe_log_bytes",
    "head seq": "standpipe_head_seq",
    "consumers": "standpipe_consumers",
    "delivered": "standpipe_delivered_total",
}
"""What is shown, in this order, where a process has it."""
_SPLIT: Final = {"dropped": "standpipe_dropped_total", "hosts": "standpipe_hosts"}
"""What is shown by label too."""
_OF_THE_CONNECTION: Final = frozenset(("info", "error"))
"""Kinds of received messages that are no events, and so are neither forwarded nor dropped."""


@dataclass(slots=True)
class Process:
    """One process. up_s: since when it runs. problem: why its numbers are missing, if they are."""

    name: str
    state: str
    pid: int
    up_s: float
    numbers: Numbers | None
    problem: str | None


@dataclass(slots=True)
class Relay:
    """One relay. owner: pid of the supervisor that its lock names; None when nobody holds it."""

    data_dir: str
    port: int
    owner: int | None
    problem: str | None
    processes: list[Process]

    @property
    def up(self) -> bool:
        """Whether supervisord answers and every process runs and tells its numbers."""
        return (
            self.problem is None
            and bool(self.processes)
            and all(process.state == "running" and _tells(process) for process in self.processes)
        )


def as_value(relay: Relay) -> dict[str, Any]:
    """For programs: every number that was found."""
    return {
        "up": relay.up,
        "data_dir": relay.data_dir,
        "port": relay.port,
        "supervisor": relay.owner,
        "problem": relay.problem,
        "processes": [
            {
                "name": process.name,
                "state": process.state,
                "pid": process.pid,
                "up_s": round(process.up_s, 1),
                "problem": process.problem,
                "numbers": process.numbers,
            }
            for process in relay.processes
        ],
    }


def as_text(relay: Relay) -> str:
    """For people: one line a process, then the sums."""
    by = f"under process {relay.owner}" if relay.owner else "no process holds its lock"
    lines = [f"relay in {relay.data_dir}, port {relay.port}, {by}"]
    if relay.problem:
        lines.append(relay.problem)
    if not relay.processes:
        return "\n".join([*lines, "nothing runs here"])
    rows = [("process", "state", "pid", "up", "memory", "")]
    rows += [
        (
            process.name,
            process.state,
            str(process.pid or "-"),
            _age(process.up_s) if process.pid else "-",
            _memory(process.numbers),
            process.problem or _told(process.numbers),
        )
        for process in relay.processes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines.append("")
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:5], widths, strict=True)]
        lines.append("  ".join([*cells, row[5]]).rstrip())
    return "\n".join([*lines, "", _sums(relay)])


def _tells(process: Process) -> bool:
    return process.name == "postgres" or process.numbers is not None


def _told(numbers: Numbers | None) -> str:
    if numbers is None:
        return ""
    parts = []
    for word, metric in _SUMS.items():
        if metric in numbers:
            parts.append(f"{word} {_short(_sum(numbers[metric]))}")
        if word in _SPLIT and (split := _split(numbers.get(metric, {}))):
            parts[-1] += f" ({split})"
    if split := _split(numbers.get(_SPLIT["hosts"], {})):
        parts.append(f"hosts: {split}")
    return " · ".join(parts)


def _sum(values: dict[str, float]) -> float:
    """Over all labels, but for what is no event."""
    return sum(number for label, number in values.items() if label not in _OF_THE_CONNECTION)


def _split(values: dict[str, float]) -> str:
    """The labels that have a number, the largest first."""
    some = sorted(((n, label) for label, n in values.items() if n), reverse=True)
    return ", ".join(f"{label} {_short(number)}" for number, label in some)


def _sums(relay: Relay) -> str:
    def total(metric: str) -> float:
        return sum(
            _sum(process.numbers.get(metric, {}))
            for process in relay.processes
            if process.numbers is not None
        )

    heads = [
        sum(process.numbers["standpipe_head_seq"].values())
        for process in relay.processes
        if process.numbers is not None and "standpipe_head_seq" in process.numbers
    ]
    behind = total("standpipe_durable_seq") - min(heads) if heads else 0.0
    return (
        f"received {_short(total('standpipe_received_total'))}"
        f" = forwarded {_short(total('standpipe_forwarded_total'))}"
        f" + dropped {_short(total('standpipe_dropped_total'))}"
        f" + held {_short(total('standpipe_held'))}"
        f" + in flight {_short(total('standpipe_in_flight'))}"
        f" · broadcast behind the log by {_short(max(0.0, behind))}"
        f" · consumers {_short(total('standpipe_consumers'))}"
    )


def _memory(numbers: Numbers | None) -> str:
    held = (numbers or {}).get("process_resident_memory_bytes", {}).get("")
    return f"{held / 2**20:.0f} MiB" if held else "-"


def _short(number: float) -> str:
    return f"{number:,.0f}"


def _age(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
