"""What do two looks at a relay, and a consumer in between, say together? Numbers in, one screen out.

    before ──── 15 s, a consumer of our own reads ────▶ after

Source: lesson 28: a rollback is judged by the same signals, taken in the same way, minutes apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from common.command.balance import Numbers, total
from common.command.probed import Probed
from common.command.report import Process, Relay
from common.command.words import age_text, pairs, visible

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """health: of /_health: its status, 0 where nobody answers, and what it says. seconds: between the two
    looks. pss_bytes: of all processes, PostgreSQL's too; None where that may not be seen.
    """

    health: tuple[int, dict[str, Any]]
    before: Relay
    after: Relay
    probed: Probed
    seconds: float
    pss_bytes: int | None

    @property
    def ok(self) -> bool:
        """Whether everything is as it should be."""
        sound = self.after.up and not self.after.balance.unaccounted
        return self.health[0] == 200 and sound and self.probed.connected and not self.probed.faults

    @property
    def durable(self) -> int:
        """Events that were put on disk in between."""
        return sum(
            _over(was, now, "standpipe_log_epoch_events")
            for was, now in self._pairs()
            if "standpipe_read_total" not in now
        )

    @property
    def read(self) -> int:
        """Messages that were read of hosts in between."""
        return sum(_over(was, now, "standpipe_read_total") for was, now in self._pairs())

    @property
    def drops(self) -> dict[str, int]:
        """Messages that were dropped in between, by reason, the most frequent first."""
        found: dict[str, int] = {}
        for was, now in self._pairs():
            if "standpipe_read_total" not in now:
                continue  # what persist drops was said before, or comes again
            for reason, number in now.get("standpipe_dropped_total", {}).items():
                more = int(number - was.get("standpipe_dropped_total", {}).get(reason, 0))
                found[reason] = found.get(reason, 0) + max(0, more)
        return dict(sorted(((r, n) for r, n in found.items() if n), key=lambda each: -each[1]))

    @property
    def reject_ratio(self) -> float | None:
        """Of what was read, how much was dropped; None where nothing was read."""
        return sum(self.drops.values()) / self.read if self.read else None

    @property
    def delivery_ratio(self) -> float | None:
        """Of the events from the first to the last that our consumer got, how many it got; 0 where events
        went to disk and it got none; None where there were none.
        """
        if self.probed.events:
            return self.probed.events / (self.probed.events + self.probed.missed)
        return 0.0 if self.durable else None

    @property
    def delivered(self) -> int:
        """Events that were handed to consumers in between, to each of them."""
        return sum(_over(was, now, "standpipe_delivered_total") for was, now in self._pairs())

    @property
    def consumers(self) -> int:
        """Open streams, without our own, which has ended."""
        return sum(total(p.numbers or {}, "standpipe_consumers") for p in self.after.processes)

    @property
    def behind(self) -> int:
        """Events between the log's end and the slowest broadcaster."""
        numbers = [process.numbers for process in self.after.processes if process.numbers]
        heads = [
            total(each, "standpipe_head_seq") for each in numbers if "standpipe_head_seq" in each
        ]
        durable_seq = sum(total(each, "standpipe_durable_seq") for each in numbers)
        return max(0, durable_seq - min(heads)) if heads else 0

    @property
    def high_water(self) -> dict[str, int]:
        """The highest depth of each queue at any process, since that process began."""
        found: dict[str, int] = {}
        for process in self.after.processes:
            for queue, peak in (process.numbers or {}).get("standpipe_queue_peak", {}).items():
                found[queue] = max(found.get(queue, 0), int(peak))
        return dict(sorted(found.items()))

    @property
    def rss_bytes(self) -> int:
        """Resident memory of the processes that tell theirs: all but PostgreSQL's."""
        return sum(map(_rss, self.after.processes))

    @property
    def restarted(self) -> list[str]:
        """Processes that began anew in between."""
        pids = {process.name: process.pid for process in self.before.processes}
        return [p.name for p in self.after.processes if p.pid != pids.get(p.name, p.pid)]

    def _pairs(self) -> Iterator[tuple[Numbers, Numbers]]:
        """The numbers of each process then and now; one that began anew began at nothing."""
        before = {(p.name, p.pid): p.numbers or {} for p in self.before.processes}
        for process in self.after.processes:
            if process.numbers is not None:
                yield before.get((process.name, process.pid), {}), process.numbers


def snapshot_value(snap: Snapshot) -> dict[str, Any]:
    """For programs."""
    status, told = snap.health
    return {
        "ok": snap.ok,
        "health": {"code": status, **told},
        "seconds": round(snap.seconds, 3),
        "events": snap.durable,
        "fps": round(_rate(snap.durable, snap.seconds), 2),
        "delivery_ratio": snap.delivery_ratio,
        "delivered": snap.delivered,
        "consumers": snap.consumers,
        "behind": snap.behind,
        "read": snap.read,
        "reject_ratio": snap.reject_ratio,
        "drops": snap.drops,
        "high_water": snap.high_water,
        "rss_bytes": snap.rss_bytes,
        "pss_bytes": snap.pss_bytes,
        "up_s": round(max((p.up_s for p in snap.after.processes), default=0.0), 1),
        "restarted": snap.restarted,
        "unaccounted": snap.after.balance.unaccounted,
        "processes": {
            p.name: {"state": p.state, "up_s": round(p.up_s, 1), "rss_bytes": _rss(p)}
            for p in snap.after.processes
        },
        "faults": [*_problems(snap), *snap.probed.faults],
    }


def snapshot_text(snap: Snapshot) -> str:
    """For people: one screen."""
    status, told = snap.health
    health = told.get("status", "nobody answers") if status else "nobody answers"
    why = f": {told['message']}" if told.get("message") else ""
    rows = [
        ("relay", f"{'ok' if snap.ok else 'NOT OK'}: {snap.after.data_dir}, port {snap.after.port}"),
        ("health", visible(f"{health}{why}")),
        ("up", _up(snap)),
        ("events", (f"{_rate(snap.durable, snap.seconds):,.1f} a second became durable:"
                   f" {snap.durable:,} in {snap.seconds:.1f} s")),
        ("delivery", (f"{_percent(snap.delivery_ratio)} to a consumer of our own, of {snap.probed.events:,};"
                     f" {snap.consumers:,} others, {_rate(snap.delivered, snap.seconds):,.1f} a second in all")),
        ("behind", f"broadcast is behind the log by {snap.behind:,}"),
        ("rejects", f"{_percent(snap.reject_ratio)} of {snap.read:,} read{_drops(snap)}"),
        ("lost", f"unaccounted {snap.after.balance.unaccounted:,}"),
        ("memory", _memory(snap)),
        ("high water", "\n".join(f"{name} {peak:,}" for name, peak in snap.high_water.items()) or "-"),
    ]  # fmt: skip
    rows += [("fault", visible(fault)) for fault in (*_problems(snap), *snap.probed.faults)]
    return pairs(rows)


def _problems(snap: Snapshot) -> list[str]:
    after = snap.after
    found = [after.problem] if after.problem else []
    for process in after.processes:
        if process.state not in ("running", "spare"):
            found.append(f"{process.name} is {process.state}")
        elif process.problem:
            found.append(f"{process.name}: {process.problem}")
    return found


def _up(snap: Snapshot) -> str:
    processes = [process for process in snap.after.processes if process.state != "spare"]
    if not processes:
        return "nothing runs here"
    youngest = min(processes, key=lambda process: process.up_s)
    oldest_s = max(process.up_s for process in processes)
    told = (
        f"{age_text(oldest_s)}; the youngest process is {youngest.name}, {age_text(youngest.up_s)}"
    )
    return f"{told}; began anew meanwhile: {', '.join(snap.restarted)}" if snap.restarted else told


def _memory(snap: Snapshot) -> str:
    each = ", ".join(
        f"{process.name} {_rss(process) / _MIB:,.0f}"
        for process in snap.after.processes
        if _rss(process)
    )
    pss = (
        "" if snap.pss_bytes is None else f"PSS {snap.pss_bytes / _MIB:,.0f} MiB with PostgreSQL; "
    )
    return f"{pss}RSS {snap.rss_bytes / _MIB:,.0f} MiB without it{f' ({each})' if each else ''}"


def _drops(snap: Snapshot) -> str:
    told = ", ".join(f"{reason} {number:,}" for reason, number in list(snap.drops.items())[:3])
    return f": {told}" if told else ""


def _over(was: Numbers, now: Numbers, metric: str) -> int:
    """How much a counter rose; one that fell began anew."""
    before, after = total(was, metric), total(now, metric)
    return after - before if after >= before else after


def _rss(process: Process) -> int:
    return total(process.numbers or {}, "process_resident_memory_bytes")


def _rate(number: int, seconds: float) -> float:
    return number / seconds if seconds > 0 else 0.0


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{100 * ratio:.2f} %"
