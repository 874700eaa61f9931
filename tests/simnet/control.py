"""How does another process steer the network? One line in, one JSON line out.

A line is a JSON object with `do`, or words: `fault host=0 bytes_per_s=1000`. The same lines work
on standard input and on the loopback control port.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.simnet.account import Account
from tests.simnet.faults import DirectoryFault, HostFaults
from tests.simnet.load import RunResult
from tests.simnet.network import Network

Answer = dict[str, Any]
Arguments = dict[str, Any]


def parse_line(line: str) -> Arguments:
    """A command with its arguments; words take JSON values where they are any.

    Raises:
        ValueError: it is neither form.
    """
    if line.lstrip().startswith("{"):
        command = json.loads(line)
        if not isinstance(command.get("do"), str):
            raise ValueError('no "do" in the command')
        return dict(command)
    do, *words = line.split()
    command = {"do": do}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"{word!r} is not name=value")
        try:
            command[name] = json.loads(text)
        except json.JSONDecodeError:
            command[name] = text
    return command


class Control:
    """The commands; one instance for each network.

    running: the present load, or the last one. quitting: set by `quit`.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.quitting = asyncio.Event()
        self.running: asyncio.Task[RunResult] | None = None
        self._server: asyncio.Server | None = None
        self._commands: dict[str, Callable[..., Awaitable[Answer]]] = {
            "start": self.start,
            "stop": self.stop,
            "rate": self.rate,
            "wait": self.wait,
            "status": self.status,
            "prebuild": self.prebuild,
            "truth": self.truth,
            "summary": self.summary,
            "all": self.all,
            "flap": self.flap,
            "fault": self.fault,
            "host": self.host,
            "plc": self.plc,
            "invalid": self.invalid,
            "bad": self.bad,
            "migrate": self.migrate,
            "new_key": self.new_key,
            "quit": self.quit,
        }

    async def listen(self) -> int:
        """Open the control port on loopback; its number."""
        self._server = await asyncio.start_server(self.talk, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        """Cut the load short and close the port."""
        if self.running is not None:
            self.running.cancel()
            await asyncio.gather(self.running, return_exceptions=True)
        if self._server is not None:
            self._server.close()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the lines of one connection until it ends."""
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while line := await reader.readline():
                if line.strip():
                    writer.write(json.dumps(await self.obey(line.decode())).encode() + b"\n")
                    await writer.drain()
        writer.close()

    async def obey(self, line: str) -> Answer:
        """Carry out one line; whatever goes wrong is the answer's `error`."""
        try:
            command = parse_line(line)
            do = command.pop("do")
            if do not in self._commands:
                raise ValueError(f"unknown command {do!r}; known: {sorted(self._commands)}")
            return {"ok": True, **await self._commands[do](**command)}
        except Exception as error:
            return {"ok": False, "error": f"{type(error).__name__}: {error}"}

    # Load

    async def start(self, rate: float = 50.0, seconds: float = 20.0) -> Answer:
        """Begin the load."""
        if self.running is not None and not self.running.done():
            raise RuntimeError("it runs already")
        self.running = asyncio.create_task(self.network.run(rate, seconds))
        return {}

    async def stop(self) -> Answer:
        """End the load; answers when all of it has finished."""
        self.network.stop()
        return await self.wait()

    async def rate(self, rate: float) -> Answer:
        """Change the rate, in events per second."""
        self.network.set_rate(rate)
        return {}

    async def wait(self) -> Answer:
        """Answer when the load has ended."""
        if self.running is None:
            return {}
        result = await asyncio.shield(self.running)
        return {"events": result.events, "seconds": result.seconds}

    async def prebuild(self, count: int = 0, *, each: bool = False) -> Answer:
        """Sign commits for the next `start`; each: one of each account besides."""
        await self.network.prebuild(count)
        if each:
            await self.network.load.prebuild_each()
        return {"prebuilt": len(self.network.load.prebuilt)}

    async def status(self) -> Answer:
        """What has been said, and who listens."""
        hosts = [
            {
                "name": host.name,
                "seq": host.head_seq,
                "connections": host.connections,
                "accepted": host.accepted,
                "sent": host.sent,
                "caught_up": host.caught_up(),
            }
            for host in self.network.hosts
        ]
        return {
            "running": self.running is not None and not self.running.done(),
            "counts": self.network.truth.counts(),
            "hosts": hosts,
            "plc_requests": self.network.plc.requests.total(),
        }

    async def summary(self) -> Answer:
        """The same in a few numbers. connected: hosts with a reader. streams: open ones in all."""
        hosts = self.network.hosts
        return {
            "running": self.running is not None and not self.running.done(),
            "connected": sum(host.connections > 0 for host in hosts),
            "streams": sum(host.connections for host in hosts),
            "accepted": sum(host.accepted for host in hosts),
            "entries": len(self.network.truth.entries),
            "caught_up": all(host.caught_up() for host in hosts),
        }

    async def all(self, what: str) -> Answer:
        """cut, close or open every host at once."""
        for host in self.network.hosts:
            await self.host(host.index, what)
        return {}

    async def flap(self, every: int, reset_every_s: float | None) -> Answer:
        """Have each `every`-th host, from the last one on, cut its connections after a while; None: no longer."""
        for host in self.network.hosts[::-every]:
            host.faults.reset_every_s = reset_every_s
            if reset_every_s is not None:
                host.cut()
        return {}

    async def truth(self, path: str) -> Answer:
        """Write the ledger to a file."""
        self.network.truth.dump(Path(path))
        return {"entries": len(self.network.truth.entries), **self.network.truth.counts()}

    # Trouble

    async def fault(self, host: int, **switches: Any) -> Answer:
        """Set switches of `HostFaults`; without any: all off."""
        target = self.network.hosts[host]
        if not switches:
            target.faults = HostFaults()
        for name, value in switches.items():
            if name not in HostFaults.__slots__:
                raise ValueError(f"unknown fault {name!r}; known: {list(HostFaults.__slots__)}")
            setattr(target.faults, name, value)
        target.wake()
        return {}

    async def host(self, host: int, what: str, count: int = 1, data: str = "") -> Answer:
        """cut, close, open, repeat, regress, restart_seq, or raw (data in hex, past the framing)."""
        target = self.network.hosts[host]
        match what:
            case "cut":
                target.cut()
            case "close":
                await target.close()
            case "open":
                await target.start()
            case "repeat":
                target.repeat(count)
            case "regress":
                self.network.say_regressed(host, count)
            case "restart_seq":
                target.restart_seq()
            case "raw":
                target.write_raw(bytes.fromhex(data))
            case _:
                raise ValueError(f"unknown {what!r}")
        return {}

    async def plc(
        self, fault: str = "none", did: str | None = None, delay_s: float = 30.0
    ) -> Answer:
        """Let the directory misbehave."""
        self.network.plc.delay_s = delay_s
        await self.network.plc.set_fault(DirectoryFault(fault), did)
        return {}

    async def invalid(self, name: str, count: int = 1, did: str | None = None) -> Answer:
        """Say invalid events."""
        account = None if did is None else self._account(did)
        reasons = [self.network.say_invalid(name, account) for _ in range(count)]
        return {"reason": reasons[-1]}

    async def bad(self, name: str, host: int) -> Answer:
        """Say a message that ends the connection, and keep it in the backlog."""
        return {"reason": self.network.say_bad_message(name, host)}

    async def migrate(self, did: str | None = None, to: int | None = None) -> Answer:
        """Move an account; answers when it has arrived and its old host has spoken."""
        account = self._account(did) if did else self.network.any_account(settled=True)
        if to is None:
            to = (account.host + 1) % len(self.network.hosts)
        await self.network.migrate(account, to)
        return {"did": account.did, "to": to}

    async def new_key(self, did: str | None = None) -> Answer:
        """Change an account's key."""
        account = self._account(did) if did else self.network.any_account()
        await self.network.new_key(account)
        return {"did": account.did}

    async def quit(self) -> Answer:
        """End the process."""
        self.quitting.set()
        return {}

    def _account(self, did: str) -> Account:
        return next(account for account in self.network.accounts if account.did == did)
