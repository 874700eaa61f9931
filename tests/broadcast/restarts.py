"""Does anybody notice when one of two broadcasters is restarted on purpose?

    python -m tests.broadcast.restarts --restarts 10 --rate 150 [--consumers 50] [--retire 0.5]

Two real processes on one port. One is told to end and started again, over and over, while clients
connect all the time and consumers stay on the stream, coming back at once with what they were told.
Prints what became of each connection, and whether any consumer missed or doubled an event.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import uvloop
import zmq
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from broadcast.config import RETIRE_S, STREAM_PATH, HttpLimits
from broadcast.server import bind
from broadcast.worker import Worker
from common.chunk import ROW
from common.segments import SegmentReader
from common.transport import chunk_outlet
from persist.segment_log import SegmentLog
from tests.broadcast.fakes import NO_DATABASE, frame_of, rows_of, seq_of
from tests.broadcast.raw import handshake

WRITE_S: Final = 0.005
GIVE_UP_S: Final = 120
"""For a process to end, however little of the machine it has."""
LAST_SEQ: Final = "restarting; last seq "
"""How a broadcaster that ends says good-bye: the documented form of its close frame's reason."""


def serve(folder: Path, port: int, retire_s: float) -> None:
    """One broadcaster's process: prints its port once it serves, ends at SIGTERM."""

    async def story() -> None:
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        worker = Worker(
            lambda: SegmentReader(folder / "log"), f"ipc://{folder / 'chunks'}", NO_DATABASE,
            http_limits=HttpLimits(retire_s=retire_s),
        )  # fmt: skip
        public = bind("127.0.0.1", port, shared=True)
        await worker.run([public], stopping, lambda: print(public.getsockname()[1], flush=True))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())


def start(folder: Path, port: int, retire_s: float) -> tuple[subprocess.Popen[str], int]:
    """Start one, and wait until it serves; returns its port too."""
    command = [sys.executable, "-m", "tests.broadcast.restarts", "--serve", str(folder)]
    member = subprocess.Popen(  # ended by its caller
        [*command, "--port", str(port), "--retire", str(retire_s)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert member.stdout is not None
    return member, int(member.stdout.readline())


def answered(status: str, again: str) -> str:
    """A status, with what it asks for: a broadcaster that ends says sooner than one that begins."""
    return f"{status}, again in {again} s" if again else status


class Stage:
    """The log, its writer, and all that comes to the port."""

    def __init__(self, folder: Path) -> None:
        self.log = SegmentLog(folder / "log")
        self.log.claim("restarts")
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = chunk_outlet(self.context)
        self.socket.bind(f"ipc://{folder / 'chunks'}")
        self.port = 0
        self.ending = False
        self.consuming = 0
        self.became: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.slowest_s = 0.0

    def write(self) -> None:
        """One more event."""
        frame = frame_of(self.log.next_seq)
        rows = [ROW.pack(*row) for row in rows_of([frame])]
        chunk = self.log.append(rows, [frame], int(time.time() * 1e6))
        self.log.wait(chunk.next_seq - 1)
        self.socket.send(chunk.raw)

    async def writes(self) -> None:
        """Events, until all consumers have seen the end."""
        while not self.ending or self.consuming:
            self.write()
            await asyncio.sleep(WRITE_S)

    async def visits(self, rate: float) -> None:
        """Clients that connect, ask for the stream, and leave with the answer."""
        async with asyncio.TaskGroup() as group:
            while not self.ending:
                group.create_task(self.visit())
                await asyncio.sleep(1 / rate)

    async def visit(self) -> None:
        """One of them."""
        began_s = time.monotonic()
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(30):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(handshake())
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                again = head.partition("\r\nretry-after: ")[2].partition("\r\n")[0]
                status = answered(head.split()[1], again)
        except (OSError, EOFError, TimeoutError) as error:
            status = type(error).__name__
        finally:
            if writer is not None:
                writer.transport.abort()
        self.became[status] += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)

    async def consume(self, number: int) -> None:
        """One consumer, from the first event to the end, over every good-bye."""
        next_seq = 1
        self.consuming += 1
        while not self.ending:
            url = f"ws://127.0.0.1:{self.port}{STREAM_PATH}?cursor={max(0, next_seq - 1)}"
            try:
                async with connect(url, compression=None, proxy=None) as stream:
                    while True:
                        seq = seq_of(await stream.recv())
                        if seq > next_seq:
                            self.wrong.append(f"{number} missed {next_seq} to {seq - 1}")
                        elif seq < next_seq - 1:
                            self.wrong.append(f"{number} got {seq} again")
                        next_seq = max(next_seq, seq + 1)
                        if self.ending:
                            break
            except ConnectionClosed as gone:
                reason = "" if gone.rcvd is None else gone.rcvd.reason
                self.closed[f"{gone.rcvd and gone.rcvd.code} {reason.rstrip('0123456789')}"] += 1
                if reason != f"{LAST_SEQ}{next_seq - 1}":
                    self.wrong.append(f"{number} had {next_seq - 1}, and was told {reason!r}")
            except InvalidStatus as error:
                again = error.response.headers.get("Retry-After", "")
                what = answered(str(error.response.status_code), again)
                self.closed[f"on coming back: {what}"] += 1
            except (OSError, EOFError, TimeoutError) as error:
                self.closed[f"on coming back: {type(error).__name__}"] += 1
        self.consuming -= 1


async def measure(
    folder: Path, *, restarts: int, rate: float, consumers: int, retire_s: float
) -> dict[str, Any]:
    """Run all of it; returns what happened."""
    stage = Stage(folder)
    stage.write()
    members: list[subprocess.Popen[str]] = []
    try:
        for _ in range(2):
            member, stage.port = await asyncio.to_thread(start, folder, stage.port, retire_s)
            members.append(member)
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.writes())
            group.create_task(stage.visits(rate))
            for number in range(consumers):
                group.create_task(stage.consume(number))
            await asyncio.sleep(0.3)
            for number in range(restarts):
                old = members[number % 2]
                old.send_signal(signal.SIGTERM)
                await asyncio.to_thread(old.wait, GIVE_UP_S)
                assert old.stdout is not None
                old.stdout.close()
                new, _port = await asyncio.to_thread(start, folder, stage.port, retire_s)
                members[number % 2] = new
                await asyncio.sleep(0.3)
            stage.ending = True
    finally:
        for member in members:
            member.send_signal(signal.SIGTERM)
        for member in members:
            with contextlib.suppress(subprocess.TimeoutExpired):
                member.wait(GIVE_UP_S)
            if member.stdout is not None:
                member.stdout.close()
        stage.log.close()
        stage.socket.close()
        stage.context.term()
    return {
        "restarts": restarts,
        "connections": sum(stage.became.values()),
        "became": dict(stage.became),
        "slowest_s": round(stage.slowest_s, 2),
        "streams_closed": dict(stage.closed),
        "wrong": stage.wrong,
        "events": stage.log.next_seq - 1,
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--rate", type=float, default=150.0, help="connections a second")
    parser.add_argument("--consumers", type=int, default=50)
    parser.add_argument("--retire", type=float, default=RETIRE_S, help="0: as without any drain")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve, options.port, options.retire)
        return
    with tempfile.TemporaryDirectory() as name:
        found = asyncio.run(
            measure(
                Path(name), restarts=options.restarts, rate=options.rate,
                consumers=options.consumers, retire_s=options.retire,
            )
        )  # fmt: skip
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
