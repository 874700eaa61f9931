"""What does one delivery cost? One broadcaster, its log and persist's socket; consumers apart.

    python -m tests.broadcast.cost --consumers 50 --rate 600 --seconds 10 [--loop asyncio] [--profile]

Prints CPU of the broadcaster a delivery, with what it costs with no consumer taken off, and beside it
what the same writes cost a bare loop of `socket.send`: the kernel's part, which no program saves.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

import uvloop
import zmq

from broadcast.notice import websocket_frame
from broadcast.server import bind
from broadcast.worker import Worker
from common.chunk import ROW
from common.segments import SegmentReader
from common.transport import chunk_outlet
from persist.segment_log import SegmentLog
from tests.broadcast.fakes import NO_DATABASE, message_of, rows_of

EVENT_BYTES: Final = 5000
GROUP_S: Final = 0.003
"""As persist groups under load: one chunk about each 3 ms."""


def cpu_s(pid: int) -> float:
    """CPU of a process so far, all threads, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve(folder: Path, loop_name: str, *, profile: bool) -> None:
    """The broadcaster's process: prints its port, ends at SIGTERM."""

    async def story() -> None:
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        endpoint = f"ipc://{folder / 'chunks'}"
        worker = Worker(lambda: SegmentReader(folder / "log"), endpoint, NO_DATABASE)
        public = bind("127.0.0.1", 0, shared=True)
        await worker.run([public], stopping, lambda: print(public.getsockname()[1], flush=True))

    profiler = cProfile.Profile()
    with asyncio.Runner(
        loop_factory=uvloop.new_event_loop if loop_name == "uvloop" else None
    ) as runner:
        if profile:
            profiler.enable()
        runner.run(story())
    if profile:
        profiler.disable()
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(18)


class Writer:
    """The log and persist's end of the hop."""

    def __init__(self, folder: Path) -> None:
        self.log = SegmentLog(folder / "log")
        self.log.claim("cost")
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = chunk_outlet(self.context)
        self.socket.bind(f"ipc://{folder / 'chunks'}")

    def run(self, rate: float, seconds: float) -> int:
        """Events at a rate; returns how many."""
        sent, began_s = 0, time.monotonic()
        while (now_s := time.monotonic()) < began_s + seconds:
            due = int((now_s - began_s) * rate) - sent
            seqs = range(self.log.next_seq, self.log.next_seq + due)
            frames = [websocket_frame(message_of(seq, EVENT_BYTES)) for seq in seqs]
            rows = [ROW.pack(*row) for row in rows_of(frames)]
            chunk = self.log.append(rows, frames, int(time.time() * 1e6))
            self.log.wait(chunk.next_seq - 1)
            self.socket.send(chunk.raw)
            sent += due
            time.sleep(GROUP_S)
        return sent


def bare_send_us(consumers: int, size: int) -> float:
    """CPU of sending `size` bytes to each of some loopback sockets, in µs a send."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=consumers)
    ours = [socket.create_connection(listening.getsockname()) for _ in range(consumers)]
    theirs = [listening.accept()[0] for _ in range(consumers)]
    stop = False
    view = memoryview(bytearray(1 << 20))

    def drain() -> None:
        import select

        while not stop:
            for sock in select.select(theirs, [], [], 0.1)[0]:
                sock.recv_into(view)

    thread = threading.Thread(target=drain)
    thread.start()
    data = bytes(size)
    began_s, sends = time.thread_time(), 0
    for _ in range(200):
        for sock in ours:
            sock.sendall(data)
            sends += 1
        time.sleep(0.005)
    cost_us = (time.thread_time() - began_s) / sends * 1e6
    stop = True
    thread.join()
    for sock in (*ours, *theirs, listening):
        sock.close()
    return cost_us


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run all of it; returns the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = Writer(folder)
        command = [sys.executable, "-m", "tests.broadcast.cost", "--serve", name]
        command += ["--loop", options.loop, *(["--profile"] if options.profile else [])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as member:
            assert member.stdout is not None
            port = int(member.stdout.readline())
            writer.run(options.rate, 1.0)
            began_s = cpu_s(member.pid)
            idle_events = writer.run(options.rate, options.seconds / 2)
            idle_s = (cpu_s(member.pid) - began_s) / idle_events
            url = f"http://127.0.0.1:{port}/xrpc/com.atproto.sync.subscribeRepos"
            sink_command = [sys.executable, "-m", "tests.bench.sink", url]
            sink_command += ["--consumers", str(options.consumers)]
            with subprocess.Popen(
                sink_command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as sink:
                assert sink.stdout is not None
                assert sink.stdin is not None
                sink.stdout.readline()
                began_s, began_wall_s = cpu_s(member.pid), time.monotonic()
                events = writer.run(options.rate, options.seconds)
                busy_s, wall_s = cpu_s(member.pid) - began_s, time.monotonic() - began_wall_s
                time.sleep(0.3)
                sink.stdin.close()
                counted = json.loads(sink.stdout.readline())
            member.send_signal(signal.SIGTERM)
            member.wait(15)
        writer.log.close()
        writer.socket.close()
        writer.context.term()
    deliveries = counted["deliveries"]
    tick_bytes = int(EVENT_BYTES * options.rate * 0.005)
    return {
        "loop": options.loop,
        "consumers": options.consumers,
        "events": events,
        "lost": events * options.consumers - deliveries,
        "cut": counted["cut"],
        "share_of_a_core": round(busy_s / wall_s, 3),
        "us_a_delivery": round((busy_s - idle_s * events) / deliveries * 1e6, 3),
        "us_a_delivery_all": round(busy_s / deliveries * 1e6, 3),
        "us_an_event_without_consumers": round(idle_s * 1e6, 1),
        "kernel_us_a_delivery": round(
            bare_send_us(options.consumers, tick_bytes) / (options.rate * 0.005), 3
        ),
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--consumers", type=int, default=50)
    parser.add_argument("--rate", type=float, default=600.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve, options.loop, profile=options.profile)
    else:
        print(json.dumps(measure(options), indent=1))


if __name__ == "__main__":
    main()
