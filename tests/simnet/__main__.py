"""python -m tests.simnet: the network as a process of its own.

The first line on standard output is a JSON object with every address; the last one, when the load
has ended, counts what was said. It ends by itself, on `quit`, on a signal, and with its parent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any, Final

import uvloop

from tests.simnet.config import DEFAULT_MIX, STEADY_MIX, NetworkConfig
from tests.simnet.control import Control
from tests.simnet.network import Network
from tests.simnet.tls import Certificate

PR_SET_PDEATHSIG: Final = 1


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simnet", description=__doc__)
    add = parser.add_argument
    add("--hosts", type=int, default=5)
    add("--accounts", type=int, default=20, help="in all")
    add("--records", type=int, default=2000, help="of each account at the beginning")
    add("--seed", type=int, default=1)
    add("--rate", type=float, default=50.0, help="events per second over all hosts")
    add("--seconds", type=float, default=20.0, help="length of the load")
    add("--prebuild", type=int, default=0, help="commits signed before the first line is printed")
    add("--invalid-share", type=float, default=0.0)
    add("--genesis-share", type=float, default=0.1)
    add("--p256-share", type=float, default=0.5)
    add("--settle", type=float, default=1.0, help="rest before a change of identity, seconds")
    add("--web-accounts", action="store_true", help="one did:web account a host")
    add("--lean", action="store_true", help="hosts that are cheap enough for thousands")
    add("--large-hosts", type=int, default=0, help="have the accounts beyond one a host")
    add("--commits-only", action="store_true", help="nothing but commits and syncs")
    add("--tls", default="", help=f"for the hosts in turn: {[*Certificate]} or empty, or all-good")
    add(
        "--start",
        choices=("now", "connected", "control"),
        default="now",
        help="when the load begins; connected: once every host has a reader",
    )
    add("--truth", type=Path, help="file for the ledger, written when the load has ended")
    add("--linger", type=float, default=0.0, help="seconds to stay after the load")
    add("--lifetime", type=float, default=3600.0, help="seconds until it ends in any case")
    return parser.parse_args(arguments)


def config_of(options: argparse.Namespace) -> NetworkConfig:
    """The network that the command line asks for."""
    kinds = options.tls.split(",") if options.tls else []
    if options.tls.startswith("all-"):
        kinds = [options.tls.removeprefix("all-")] * options.hosts
    return NetworkConfig(
        seed=options.seed,
        hosts=options.hosts,
        accounts=options.accounts,
        records=options.records,
        invalid_share=options.invalid_share,
        genesis_share=options.genesis_share,
        p256_share=options.p256_share,
        settle_s=options.settle,
        web_accounts=options.web_accounts,
        large_hosts=options.large_hosts,
        lean=options.lean,
        tls=tuple(Certificate(kind) if kind else None for kind in kinds),
        mix=STEADY_MIX if options.commits_only else DEFAULT_MIX,
    )


def say(answer: dict[str, Any]) -> None:
    """One JSON line on standard output."""
    print(json.dumps(answer), flush=True)


async def live(options: argparse.Namespace) -> None:
    """Open the network, carry out the load, stay as long as asked."""
    async with Network(config_of(options)) as network:
        await network.prebuild(options.prebuild)
        control = Control(network)
        port = await control.listen()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, control.quitting.set)
        hosts = [{"name": h.name, "url": h.url, "stream": h.stream_url} for h in network.hosts]
        say(
            {
                "event": "ready",
                "pid": os.getpid(),
                "plc_url": network.plc_url,
                "hosts": hosts,
                "control_port": port,
                "ca_file": None if network.ca_file is None else str(network.ca_file),
            }
        )
        tasks = [asyncio.create_task(load(options, network, control))]
        if stat.S_ISFIFO(os.fstat(0).st_mode) or stat.S_ISSOCK(os.fstat(0).st_mode):
            tasks.append(asyncio.create_task(listen_to_stdin(control)))
        try:
            async with asyncio.timeout(options.lifetime):
                await control.quitting.wait()
        except TimeoutError:
            say({"event": "lifetime_over"})
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        await control.close()


async def load(options: argparse.Namespace, network: Network, control: Control) -> None:
    """The load of the command line, then the end; under `--start control` nothing."""
    try:
        if options.start == "control":
            return
        if options.start == "connected":
            while not all(host.connections for host in network.hosts):
                await asyncio.sleep(0.02)
        await control.start(options.rate, options.seconds)
        result = await control.wait()
        if options.truth is not None:
            network.truth.dump(options.truth)
        say({"event": "done", **result, "counts": network.truth.counts()})
        await asyncio.sleep(options.linger)
        control.quitting.set()
    except Exception:
        control.quitting.set()
        raise


async def listen_to_stdin(control: Control) -> None:
    """Obey the lines on standard input; its end means nothing."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(0), "rb")
    )
    with contextlib.closing(transport):
        while line := await reader.readline():
            if line.strip():
                say(await control.obey(line.decode()))


def main() -> None:
    """The door."""
    options = parse_arguments(sys.argv[1:])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    uvloop.run(live(options))


if __name__ == "__main__":
    main()
