"""When does each event reach a consumer that comes back at once, whatever is killed?

    python -m tests.bench.watch URL --consumers 8

Prints `ready` when all are connected; at end of input prints one JSON object and ends: for each
consumer its arrivals, (seconds of the machine's steady clock, seq), and when its connection broke.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Final

import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.simnet.truth import open_frame

RETRY_S: Final = 0.01
"""A consumer that is refused tries again after so long, in seconds."""


class Watcher:
    """One consumer: it keeps its cursor, and notes when each event came first."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.arrivals: list[tuple[float, int]] = []
        self.breaks: list[float] = []
        self._last_seq = 0

    async def run(self, url: str) -> None:
        """Read for as long as it takes."""
        while True:
            suffix = f"?cursor={self._last_seq}" if self._last_seq else ""
            try:
                async with connect(
                    url + suffix, compression=None, max_size=None, ping_interval=None,
                    close_timeout=0.1,
                ) as socket:  # fmt: skip
                    self.opened.set()
                    async for frame in socket:
                        assert isinstance(frame, bytes)
                        self._take(frame)
            except (OSError, ConnectionClosed, InvalidHandshake, EOFError):
                await asyncio.sleep(RETRY_S)
            self.breaks.append(time.monotonic())

    def _take(self, frame: bytes) -> None:
        seq = open_frame(frame)[1].get("seq")
        if seq is not None and seq > self._last_seq:
            self._last_seq = seq
            self.arrivals.append((time.monotonic(), seq))


async def main() -> None:
    """Listen until input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--consumers", type=int, default=8)
    options = parser.parse_args()
    watchers = [Watcher() for _ in range(options.consumers)]
    tasks = [asyncio.create_task(watcher.run(options.url)) for watcher in watchers]
    await asyncio.gather(*(watcher.opened.wait() for watcher in watchers))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    told = [{"arrivals": each.arrivals, "breaks": each.breaks} for each in watchers]
    print(json.dumps({"consumers": told}), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
