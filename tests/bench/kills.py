"""How long does a consumer wait when a process is killed? A whole relay under load, kill after kill.

    persist      until an event comes that was not on disk when it died
    ingest       until each host has an event out that was read behind the kill; the slowest host
    broadcast    until each of its consumers, which comes back at once, has its next event; the slowest

Times are seconds of one steady clock, from the signal to the arrival at a consumer.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from common.paths import Paths
from common.segments import SegmentReader
from tests.bench.running import HOSTS, Simnet, listener
from tests.relay import Relay, wait_for

RATE: Final = 300.0
"""Events a second over all hosts: each says one about every 70 ms."""
CONSUMERS: Final = 8
REST_S: Final = 4.0
"""Between two kills, in seconds: what was killed is back, and all is quiet."""
TARGETS_S: Final = {"persist": 3.0, "ingest": 5.0, "broadcast": 1.0}
_ENVIRONMENT: Final = {"STANDPIPE_BROADCAST_PROCESSES": "2", "STANDPIPE_INGEST_PROCESSES": "2"}


@dataclass(slots=True)
class Kill:
    """One kill. stage, name: of what. at_s: when, by the steady clock; at_us: Unix microseconds.

    durable_seq: what was on disk when it was dead.
    """

    stage: str
    name: str
    at_s: float
    at_us: int
    durable_seq: int


def measure(simnet: Simnet, repeats: int) -> dict[str, list[float]]:
    """Seconds of each kill, by stage."""
    hosts = [host["url"] for host in simnet.ready["hosts"]]
    kills: list[Kill] = []
    with Relay(plc_url=simnet.ready["plc_url"], hosts=hosts, environ=_ENVIRONMENT) as relay:
        simnet.do("start", rate=RATE, seconds=1200)
        with contextlib.closing(SegmentReader(relay.data / "log")) as log:
            _settle(log)
            watch = listener("watch", relay.stream_url, "--consumers", str(CONSUMERS))
            with watch as seen:
                for number in range(repeats):
                    for stage in TARGETS_S:
                        _settle(log)
                        kills.append(_kill(relay, log, stage, number))
                _settle(log)
            simnet.do("stop")
            found: dict[str, list[float]] = {stage: [] for stage in TARGETS_S}
            for kill in kills:
                found[kill.stage].append(_waited_s(kill, seen["consumers"], log))
    return found


def _settle(log: SegmentReader) -> None:
    """Wait until events flow, and then a while longer."""
    before = log.durable_seq
    wait_for("events to flow", lambda: log.durable_seq > before + RATE, 60)
    time.sleep(REST_S)


def _kill(relay: Relay, log: SegmentReader, stage: str, number: int) -> Kill:
    name = stage if stage == "persist" else f"{stage}-{number % 2}"
    if stage == "ingest":
        name = f"ingest-{_busiest(relay, number % 2)}"
    at_s, at_us = time.monotonic(), time.time_ns() // 1000
    old = relay.kill(name)
    kill = Kill(stage, name, at_s, at_us, log.durable_seq)
    relay.wait_replaced(name, old)
    return kill


def _busiest(relay: Relay, otherwise: int) -> int:
    """The ingest process that holds the most shards; `otherwise` where nobody leases any."""
    url = Paths(relay.data).embedded_database_url
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT owner FROM shard WHERE owner IS NOT NULL GROUP BY owner"
            " ORDER BY count(*) DESC, owner LIMIT 1"
        ).fetchone()
    return int(row[0]) if row else otherwise


def _waited_s(kill: Kill, consumers: list[dict[str, Any]], log: SegmentReader) -> float:
    """How long the events of one kill were awaited, by the rule of its stage."""
    if kill.stage == "broadcast":
        return max(_returns(kill, consumers), default=0.0)
    stayed: list[tuple[float, int]]
    stayed = min(consumers, key=lambda consumer: len(consumer["breaks"]))["arrivals"]
    if kill.stage == "persist":
        return min(at_s for at_s, seq in stayed if seq > kill.durable_seq) - kill.at_s
    came = {seq: at_s for at_s, seq in stayed}
    return max(came[seq] for seq in _first_of_each_host(kill, log).values()) - kill.at_s


def _returns(kill: Kill, consumers: list[dict[str, Any]]) -> Iterator[float]:
    """Of each consumer that the kill has cut off: seconds until its next event."""
    for consumer in consumers:
        broken_s = [at_s for at_s in consumer["breaks"] if 0 <= at_s - kill.at_s < REST_S / 2]
        if broken_s:
            times = [at_s for at_s, _ in consumer["arrivals"]]
            yield times[bisect_right(times, broken_s[0])] - kill.at_s


def _first_of_each_host(kill: Kill, log: SegmentReader) -> dict[int, int]:
    """Host → seq of the first event that was read from it behind a kill."""
    first: dict[int, int] = {}
    seq = max(1, kill.durable_seq - int(RATE))
    while len(first) < HOSTS and (chunks := log.read(seq, 1 << 20)):
        for chunk in chunks:
            for at, row in enumerate(chunk.rows(), chunk.first_seq):
                if row.time_us > kill.at_us:
                    first.setdefault(row.host, at)
        seq = chunks[-1].next_seq
    assert len(first) == HOSTS, f"only {len(first)} hosts were heard of behind a kill"
    return first


def lines(found: dict[str, list[float]]) -> Iterator[str]:
    """The figures for people."""
    yield "| killed with -9 | kills | median, s | worst, s | wanted, s |"
    yield "| --- | --- | --- | --- | --- |"
    for stage, waited_s in found.items():
        median_s, worst_s = statistics.median(waited_s), max(waited_s)
        yield (
            f"| {stage} | {len(waited_s)} | {median_s:.2f} | {worst_s:.2f} "
            f"| ≤ {TARGETS_S[stage]:g} |"
        )
