"""How is a relay's state told: as a table for people, as one value for programs?

Values in, text out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from common.command.balance import CAME, ENDED, NOW, Numbers, Sums, sums, total, unaccounted
from common.command.words import age_text
from common.conservation import NAMES

WANTED: Final = (
    *NAMES,
    "standpipe_hosts",
    "standpipe_durable_seq",
    "standpipe_log_bytes",
    "standpipe_head_seq",
    "standpipe_consumers",
    "standpipe_delivered_total",
    "standpipe_loop_lag_seconds",
    "process_resident_memory_bytes",
    "standpipe_queue_peak",
)
"""The numbers that are asked for."""
_SUMS: Final = {
    "received": "standpipe_received_total",
    "said itself": "standpipe_originated_total",
    "forwarded": "standpipe_forwarded_total",
    "dropped": "standpipe_dropped_total",
    "heeded": "standpipe_heeded_total",
    "released": "standpipe_released_total",
    "held": "standpipe_held",
    "in flight": "standpipe_in_flight",
    "unaccounted": "standpipe_unaccounted",
    "durable seq": "standpipe_durable_seq",
    "log bytes": "standpipe_log_bytes",
    "head seq": "standpipe_head_seq",
    "consumers": "standpipe_consumers",
    "delivered": "standpipe_delivered_total",
}
"""What is shown, in this order, where a process has it."""
_SPLIT: Final = {"dropped": "standpipe_dropped_total", "hosts": "standpipe_hosts"}
"""What is shown by label too."""
_RARE: Final = frozenset(("said itself", "heeded", "released"))
"""What is shown only where there is any."""
_WORDS: Final = {"originated": "said itself", "forwarded": "on disk", "in_flight": "in flight"}
"""What the terms of the relay's balance are called, where not by their names."""


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
        """Whether supervisord answers and every process but the spares runs and tells its numbers."""
        meant = [process for process in self.processes if process.state != "spare"]
        return (
            self.problem is None
            and bool(meant)
            and all(process.state == "running" and _tells(process) for process in meant)
        )

    @property
    def balance(self) -> Sums:
        """Over all processes that tell their numbers."""
        return sums([p.numbers for p in self.processes if p.numbers is not None])


def as_value(relay: Relay) -> dict[str, Any]:
    """For programs: every number that was found."""
    balance = relay.balance
    return {
        "up": relay.up,
        "unaccounted": balance.unaccounted,
        "balance": balance.terms | {"written": balance.written, "heard": balance.heard},
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
                "unaccounted": unaccounted(process.numbers or {}),
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
            age_text(process.up_s) if process.pid else "-",
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
    return "\n".join([*lines, "", _balance(relay.balance), _flow(relay)])


def _tells(process: Process) -> bool:
    return process.name == "postgres" or process.numbers is not None


def _told(numbers: Numbers | None) -> str:
    if numbers is None:
        return ""
    parts = []
    for word, metric in _SUMS.items():
        if metric in numbers and (word not in _RARE or total(numbers, metric)):
            parts.append(f"{word} {_short(total(numbers, metric))}")
        if word in _SPLIT and (split := _split(numbers.get(metric, {}))):
            parts[-1] += f" ({split})"
    if split := _split(numbers.get(_SPLIT["hosts"], {})):
        parts.append(f"hosts: {split}")
    return " · ".join(parts)


def _split(values: dict[str, float]) -> str:
    """The labels that have a number, the largest first."""
    some = sorted(((n, label) for label, n in values.items() if n), reverse=True)
    return ", ".join(f"{label} {_short(number)}" for number, label in some)


def _balance(balance: Sums) -> str:
    """What came over all hosts' sockets, and where it is."""

    def side(names: tuple[str, ...]) -> str:
        return " + ".join(
            f"{_WORDS.get(name, name)} {_short(balance.terms[name])}" for name in names
        )

    return f"{side(CAME)} = {side((*ENDED, *NOW))} · unaccounted {_short(balance.unaccounted)}"


def _flow(relay: Relay) -> str:
    """How far the stages are apart."""
    numbers = [process.numbers for process in relay.processes if process.numbers is not None]
    heads = [total(each, "standpipe_head_seq") for each in numbers if "standpipe_head_seq" in each]
    durable_seq = sum(total(each, "standpipe_durable_seq") for each in numbers)
    behind = max(0, durable_seq - min(heads)) if heads else 0
    consumers = sum(total(each, "standpipe_consumers") for each in numbers)
    balance = relay.balance
    return (
        f"written by this persist {_short(balance.written)},"
        f" heard of by ingest {_short(balance.heard)} · broadcast behind the log by {_short(behind)}"
        f" · consumers {_short(consumers)}"
    )


def _memory(numbers: Numbers | None) -> str:
    held = (numbers or {}).get("process_resident_memory_bytes", {}).get("")
    return f"{held / 2**20:.0f} MiB" if held else "-"


def _short(number: float) -> str:
    return f"{number:,.0f}"
