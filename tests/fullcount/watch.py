"""What do a consumer, a prober and a look at /proc see of a relay while the story goes on?"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Self

from tests.bench.processes import stage_of
from tests.relay import Relay, children_of

PROBE_S: Final = 0.2
"""How often `/_health` is asked, in seconds."""


class Probe(NamedTuple):
    """One question to `/_health`: when, how long it took, its HTTP status (0: no answer)."""

    at_s: float
    took_s: float
    status: int


class Prober:
    """Asks `/_health` all the time, in a thread of its own; a context manager."""

    def __init__(self, relay: Relay) -> None:
        self.probes: list[Probe] = []
        self._relay = relay
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prober")

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(PROBE_S):
            began = time.monotonic()
            status, _ = self._relay.get("/_health", timeout_s=5.0)
            self.probes.append(Probe(began, time.monotonic() - began, status))


class Memory(NamedTuple):
    """PSS by stage, in bytes."""

    by_stage: dict[str, int]

    @property
    def total(self) -> int:
        """Everything, PostgreSQL too."""
        return sum(self.by_stage.values())


def memory_of(relay: Relay) -> Memory:
    """What each stage holds now, each shared page split among its users."""
    assert relay.process is not None
    held: dict[str, int] = defaultdict(int)
    for pid in [relay.process.pid, *children_of(relay.process.pid)]:
        stage = stage_of(pid)
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:") and stage is not None:
                    held[stage] += int(line.split()[1]) * 1024
    return Memory(dict(held))


def files_of(relay: Relay) -> int:
    """Descriptors that all processes of Python hold open together."""
    assert relay.process is not None
    count = 0
    for pid in children_of(relay.process.pid):
        if stage_of(pid) in ("ingest", "persist", "broadcast"):
            with contextlib.suppress(OSError):
                count += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return count


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie; 0.0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


async def until(
    what: str, condition: Callable[[], bool], deadline_s: float, every_s: float = 0.25
) -> float:
    """Ask a blocking condition in a thread until it is true → seconds that took.

    Raises:
        TimeoutError: it was not in time.
    """
    began = time.monotonic()
    while not await asyncio.to_thread(condition):
        if time.monotonic() - began > deadline_s:
            raise TimeoutError(f"waited {deadline_s:g} s for {what}")
        await asyncio.sleep(every_s)
    return time.monotonic() - began
