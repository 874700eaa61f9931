"""What does an event cost? The relay's processes measured whole, beside the floor of the same run.

    python -m tests.bench [--seconds 15]        (`make bench`)

    steps       CPU of each step of judging, and the floor F (tests/bench/floor.py)
    judging     CPU of the whole judge, with a memory and without (tests/bench/judging.py)
    steady      1,000 events/s, 20 hosts: CPU by stage, added latency, memory
    deliveries  50 consumers at 600 and at 1,000 events/s: CPU of a delivery
    rush        as fast as it goes
    accounts    memory of an account, a million of them (tests/bench/memory.py)
    durability  persist's CPU for making an event durable; how many it numbers in a second
    long log    a start with 100 GB of log
    kills       how long a consumer waits when a process is killed; --kills of each
    pages       a page of listRepos over a million accounts (tests/bench/pages.py)
    full count  2,800 hosts on real sockets (tests/bench/full_count.py); with --only, these two alone

Hosts, directory and consumers are processes of their own and are not counted. Prints a table, and the
same as JSON with --json. It judges nothing: the figures are for people, kept in docs/bench.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from common.segments import SegmentReader
from tests.bench import durability, full_count, judging, kills, long_log, pages
from tests.bench.floor import measure, prepared
from tests.bench.memory import account_memory, lines
from tests.bench.processes import STAGES, cpu_s, pss_bytes
from tests.bench.running import Simnet, listener
from tests.relay import Relay, wait_for

CONSUMERS: Final = 50
STEADY_RATE: Final = 1000.0
DELIVERY_RATES: Final = {"50 at 600/s": 600.0, "50 at 1,000/s": 1000.0}
RUSH_RATE: Final = 20_000.0
RUSH_EVENTS: Final = 30_000
PARTS: Final = {"pages": pages, "full_count": full_count}
"""Parts that can be had alone."""
VIEW_S: Final = 2.5
"""After which PostgreSQL has been told of everything, in seconds."""


def load(relay: Relay, simnet: Simnet, rate: float, events: int) -> dict[str, Any]:
    """Say `events` commits at `rate`; wait until all are on disk; CPU by stage and speed."""
    assert relay.process is not None
    pid = relay.process.pid
    simnet.do("prebuild", count=events)
    # Looked up in the log's own small file: a scrape costs the scraped process milliseconds.
    log = SegmentReader(relay.data / "log")
    before = log.durable_seq
    spent, began = cpu_s(pid), time.monotonic()
    simnet.do("start", rate=rate, seconds=600)
    count = simnet.do("wait")["events"]

    wait_for(f"{count} events to be durable", lambda: log.durable_seq - before >= count, 120)
    elapsed = time.monotonic() - began
    log.close()
    # PostgreSQL is written behind the log, once a second: what this load owes it belongs to it.
    time.sleep(VIEW_S)
    after = cpu_s(pid)
    applied = relay.metrics("persist")["standpipe_view_applied_seq"]
    assert applied >= before + count, f"the view stands at {applied}"
    cost = {stage: (after[stage] - spent.get(stage, 0)) / count * 1e6 for stage in STAGES}
    return {
        "events": count,
        "events_per_s": count / elapsed,
        "cpu_us": cost,
        "cpu_us_all": sum(cost.values()),
        "pss_mib": {stage: size / 2**20 for stage, size in pss_bytes(pid).items()},
    }


def run(seconds: float, repeats: int) -> dict[str, Any]:
    """Every part in turn; all figures. repeats: kills of each stage."""
    items = asyncio.run(prepared())
    floor, steps = measure(items)
    frame_bytes = sum(len(item.raw) for item in items) / len(items)
    blocks = sum(len(item.car.blocks) for item in items) / len(items)
    results: dict[str, Any] = {
        "python": platform.python_version(),
        "commit": {"bytes": frame_bytes, "blocks": blocks},
        "floor_us": floor,
        "steps": {step.name: step.cost_us for step in steps},
    }
    results["judging"] = judging.measure()
    simnet = Simnet()
    try:
        hosts = [host["url"] for host in simnet.ready["hosts"]]
        streams = [host["stream"] for host in simnet.ready["hosts"]]
        with Relay(plc_url=simnet.ready["plc_url"], hosts=hosts) as relay:
            load(relay, simnet, STEADY_RATE, 1000)  # identities resolved, caches warm
            with listener("tap", relay.stream_url, *streams) as latency:
                results["steady"] = load(relay, simnet, STEADY_RATE, int(STEADY_RATE * seconds))
            results["steady"]["latency"] = latency
            for name, rate in DELIVERY_RATES.items():
                sinks = ("sink", relay.stream_url, "--consumers", str(CONSUMERS))
                tap = listener("tap", relay.stream_url, *streams)
                with tap as late, listener(*sinks) as deliveries:
                    part = load(relay, simnet, rate, int(rate * seconds))
                cpu_us = part["cpu_us"]["broadcast"] * part["events"]
                part["delivery_us"] = cpu_us / (deliveries["deliveries"] + part["events"])
                results[name] = part | {"sink": deliveries, "latency": late}
            results["rush"] = load(relay, simnet, RUSH_RATE, RUSH_EVENTS)
        results["kills"] = kills.measure(simnet, repeats)
    finally:
        simnet.close()
    results["accounts"] = account_memory()
    results["durability"] = durability.measure()
    results["long_log"] = long_log.measure()
    for name, whole in PARTS.items():
        results[name] = whole.measure()
    results["floor_us_after"] = measure(items)[0]
    return results


def table(results: dict[str, Any]) -> Iterator[str]:
    """The figures for people."""
    floor = (results["floor_us"] + results["floor_us_after"]) / 2
    commit = results["commit"]
    yield f"Python {results['python']}; a commit has {commit['bytes']:.0f} bytes, "
    yield f"{commit['blocks']:.1f} blocks. F = {floor:.1f} µs "
    yield f"({results['floor_us']:.1f} before, {results['floor_us_after']:.1f} after the load)."
    yield ""
    yield "| step | µs CPU | × F |"
    yield "| --- | --- | --- |"
    for name, cost in results["steps"].items():
        yield f"| {name} | {cost:.1f} | {cost / floor:.2f} |"
    yield ""
    yield from judging.lines(results["judging"])
    yield ""
    yield "| load | events/s | " + " | ".join(STAGES) + " | all | all × F | persist × F |"
    yield "| --- | --- |" + " --- |" * (len(STAGES) + 3)
    for name in ("steady", *DELIVERY_RATES, "rush"):
        part = results[name]
        cells = " | ".join(f"{part['cpu_us'][stage]:.1f}" for stage in STAGES)
        yield (
            f"| {name} | {part['events_per_s']:.0f} | {cells} | {part['cpu_us_all']:.1f} "
            f"| {part['cpu_us_all'] / floor:.2f} | {part['cpu_us']['persist'] / floor:.2f} |"
        )
    yield ""
    for name in ("steady", *DELIVERY_RATES):
        latency = results[name]["latency"]
        yield f"added latency, {name}: p50 {latency['p50_ms']:.1f} ms, "
        yield f"p99 {latency['p99_ms']:.1f} ms, most {latency['max_ms']:.1f} ms "
        yield f"({latency['events']} events, {latency['missing']} missing)"
    for name in DELIVERY_RATES:
        part = results[name]
        yield f"a delivery, {name}: {part['delivery_us']:.2f} µs, the broadcaster's own work included "
        yield f"({part['sink']['deliveries']} deliveries, {part['sink']['cut']} consumers cut)"
    memory = results["steady"]["pss_mib"]
    python = sum(size for stage, size in memory.items() if stage != "postgres")
    yield f"memory (PSS): all of Python {python:.0f} MiB; " + ", ".join(
        f"{stage} {memory[stage]:.0f}" for stage in STAGES
    )
    yield from lines(results["accounts"])
    yield from durability.lines(results["durability"], floor)
    yield from long_log.lines(results["long_log"])
    yield ""
    yield from kills.lines(results["kills"])
    for name, whole in PARTS.items():
        yield ""
        yield from whole.lines(results[name])


def main() -> int:
    """The door."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15, help="of each steady load")
    parser.add_argument("--kills", type=int, default=7, help="of each stage")
    parser.add_argument("--json", type=Path, help="also write every figure there")
    parser.add_argument("--only", choices=[*PARTS], help="this part alone")
    options = parser.parse_args()
    if options.only:
        only = PARTS[options.only]
        print("\n".join(only.lines(only.measure())))
        return 0
    results = run(options.seconds, options.kills)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    print("\n".join(table(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
