"""How much later does an event come from the relay than from its host? One process sees both.

    python -m tests.bench.tap RELAY_URL HOST_URL…

It subscribes to the relay and to every host, and notes when each frame arrives from either. Prints
`ready`; at end of input prints one JSON object and ends. What is measured is the relay's own share:
one clock, one reader, and the same work for both.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import uvloop
from websockets.asyncio.client import connect

KEY_BYTES = 120
"""The end of a commit frame holds its commit CID and prevData, which name it; in bytes."""


async def note(url: str, seen: dict[bytes, float], opened: asyncio.Event) -> None:
    """Write down when each frame of a stream arrives, in seconds."""
    async with connect(url, max_size=None, compression=None, ping_interval=None) as socket:
        opened.set()
        async for frame in socket:
            seen.setdefault(bytes(frame[-KEY_BYTES:]), time.monotonic())  # type: ignore[arg-type]


async def main() -> None:
    """Listen until input ends."""
    relay: dict[bytes, float] = {}
    hosts: dict[bytes, float] = {}
    opened = [asyncio.Event() for _ in sys.argv[1:]]
    tasks = [
        asyncio.create_task(note(url, relay if number == 0 else hosts, opened[number]))
        for number, url in enumerate(sys.argv[1:])
    ]
    await asyncio.gather(*(event.wait() for event in opened))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    late_ms = sorted((relay[key] - at) * 1000 for key, at in hosts.items() if key in relay)
    print(
        json.dumps(
            {
                "events": len(late_ms),
                "missing": len(hosts) - len(late_ms),
                **{
                    f"p{part}_ms": late_ms[min(len(late_ms) - 1, len(late_ms) * part // 100)]
                    for part in (50, 90, 99)
                    if late_ms
                },
                "max_ms": late_ms[-1] if late_ms else None,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    uvloop.run(main())
