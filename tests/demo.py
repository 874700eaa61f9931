"""What does a relay do? The whole of it on loopback, beside a simulated network, to be watched.

    python -m tests.demo [--seconds 20]        (`make demo`)

Hosts, accounts on both curves, every kind of event, migrations, and events that must be dropped.
Without --seconds it runs until Ctrl-C. Exit 0 only when every valid event was delivered exactly
once, byte for byte, and no invalid one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.relay import Relay, alive
from tests.simnet import Consumer, Network, NetworkConfig, Report, compare
from tests.simnet.delivered import Delivered

HOSTS: Final = 5
ACCOUNTS: Final = 20
RATE: Final = 50.0
"""Events a second over all hosts."""
INVALID: Final = (
    "bad_signature", "foreign_commit", "damaged_block", "old_rev", "future_rev", "no_car_root",
)  # fmt: skip
"""What is said among the honest events, and must not come out."""
REREAD: Final = "duplicate"
"""Read twice, and delivered once: what a host sent comes again when another ingest process takes it over
before its cursor is in the database, or when it is connected to anew. How often is nobody's fault."""
SETTLE_S: Final = 15.0
"""How long the relay may take to deliver what was said, in seconds."""
FOREVER_S: Final = 3600.0
"""A demo that nobody stops ends by itself after an hour."""
KINDS: Final = ("commit", "sync", "identity", "account")


@dataclass(slots=True)
class Watch:
    """What the last look at the relay's processes showed."""

    numbers: dict[str, Counter[str]] = field(default_factory=dict)
    disk_bytes: int = 0

    def total(self, name: str, stage: str = "ingest") -> float:
        """Sum of one number, which has no labels, over the processes of a stage."""
        return sum(
            numbers[name] for process, numbers in self.numbers.items() if process.startswith(stage)
        )

    def unfinished(self) -> int:
        """Messages that were read and have no end yet."""
        return int(
            sum(map(self.total, ("standpipe_inbox", "standpipe_held", "standpipe_in_flight")))
        )

    def drops(self) -> dict[str, int]:
        """Drops by reason, over all ingest processes."""
        found: Counter[str] = Counter()
        for process, numbers in self.numbers.items():
            for key, value in numbers.items() if process.startswith("ingest") else ():
                if key.startswith("standpipe_dropped_total{") and value:
                    found[key.split('"')[1]] += int(value)
        return dict(found)


def look(relay: Relay) -> Watch:
    """Ask every process of the relay for its numbers; one that does not answer is left out."""
    watch = Watch()
    for name in ("persist", "ingest-0", "ingest-1", "broadcast-0"):
        if relay.run_file(name):
            with contextlib.suppress(OSError):
                watch.numbers[name] = Counter(relay.metrics(name))
    log = relay.data / "log"
    if log.is_dir():
        watch.disk_bytes = sum(path.stat().st_size for path in log.glob("*.seg"))
    return watch


async def at_rest(network: Network, relay: Relay) -> Watch:
    """The relay's numbers once every event has an end: forwarded, or dropped for a reason.

    It tells them now and then: what was dropped last is in none of them yet, and held no delivery up.
    """
    end = time.monotonic() + SETTLE_S
    wanted = sum(entry.drop is not None for entry in network.truth.entries)
    while True:
        watch = await asyncio.to_thread(look, relay)
        counted = sum(count for reason, count in watch.drops().items() if reason != REREAD)
        if (watch.unfinished() == 0 and counted >= wanted) or time.monotonic() > end:
            return watch
        await asyncio.sleep(0.1)


def picture(
    network: Network, delivered: Delivered, relay: Relay, watch: Watch, rate: float, past_s: float
) -> list[str]:
    """The lines that the terminal shows."""
    counts = network.truth.counts()
    said = {kind: counts.get(kind, 0) for kind in KINDS}
    hosts = "  ".join(f"{host.name.rpartition(':')[2]}:{host.head_seq}" for host in network.hosts)
    drops = "  ".join(f"{reason} {count}" for reason, count in sorted(watch.drops().items()))
    curves = Counter(account.key.curve.name for account in network.accounts)
    return [
        (
            f"standpipe demo   {past_s:5.0f} s   {rate:6.1f} events/s"
            f"   seq {watch.total('standpipe_durable_seq', 'persist'):.0f}"
            f"   on disk {watch.disk_bytes / 1e6:.1f} MB"
        ),
        (
            f"  said       {'  '.join(f'{kind} {count}' for kind, count in said.items())}"
            f"   accounts {dict(curves)}"
        ),
        f"  hosts      {hosts}   (port:seq)",
        (
            f"  delivered  {len(delivered.frames)} of {sum(said.values())} valid"
            f"   waiting for identities {watch.total('standpipe_held'):.0f}"
        ),
        f"  dropped    {drops or 'nothing yet'}",
        f"  stream     {relay.stream_url}?cursor=0",
        f"  try        {os.path.relpath(sys.executable)} -m websockets '{relay.stream_url}'",
    ]


class Screen:
    """Draws the picture in place on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self._drawn = 0
        self._spoke_s = 0.0

    def show(self, lines: list[str]) -> None:
        """Replace what was shown last."""
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns
            up = f"\x1b[{self._drawn}F" if self._drawn else ""
            sys.stdout.write(up + "".join(f"\x1b[2K{line[: width - 1]}\n" for line in lines))
            self._drawn = len(lines)
        elif time.monotonic() - self._spoke_s > 5:
            self._spoke_s = time.monotonic()
            sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


async def every_kind(network: Network) -> None:
    """Make sure that even a short demo has seen everything once."""
    for change in (network.say_sync, network.change_handle, network.new_account):
        change()
    network.commit(writes=5)
    mover = next(a for a in network.accounts if a.active and not a.resting and not a.moving)
    await network.migrate(mover, (mover.host - 1) % HOSTS)
    await network.new_key(network.any_account(settled=True))
    await network.deactivate(network.any_account(settled=True))
    for name in INVALID:
        network.say_invalid(name)


async def demo(seconds: float | None) -> int:
    """Run it; the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    config = NetworkConfig(
        hosts=HOSTS, accounts=ACCOUNTS, invalid_share=0.03, invalid=INVALID, max_seconds=FOREVER_S
    )
    print("building a network of 5 hosts, and starting the relay beside it …", flush=True)
    async with Network(config) as network:
        relay = Relay(plc_url=network.plc_url, hosts=[host.url for host in network.hosts])
        delivered = Delivered()
        async with relay, Consumer(relay.stream_url, keep=delivered.keep) as consumer:
            network.settled = delivered.settles(network, consumer, SETTLE_S)
            await flow(network, relay, delivered, stop, seconds)
            with contextlib.suppress(TimeoutError):
                await network.settled()
            watch = await at_rest(network, relay)
        code = summary(network, compare(network.truth, delivered.frames), watch, consumer)
        left = [pid for pid in relay.seen if alive(pid)]
        print(f"processes left: {len(left)}")
        return code or bool(left)


async def flow(
    network: Network, relay: Relay, delivered: Delivered, stop: asyncio.Event, seconds: float | None
) -> None:
    """Let the network live, and show it, until it is time or somebody stops it."""
    screen, began = Screen(), time.monotonic()
    load = asyncio.create_task(network.run(RATE, seconds or FOREVER_S))
    kinds = asyncio.create_task(every_kind(network))
    ended = asyncio.create_task(_first(stop.wait(), load))
    before, before_s = 0, began
    while not ended.done():
        watch = await asyncio.to_thread(look, relay)
        now, count = time.monotonic(), len(delivered.frames)
        rate = (count - before) / (now - before_s) if now > before_s else 0.0
        before, before_s = count, now
        screen.show(picture(network, delivered, relay, watch, rate, now - began))
        await asyncio.wait([ended], timeout=1)
    network.stop()
    await load
    await kinds


async def _first(stop: Awaitable[Any], load: asyncio.Task[Any]) -> None:
    waiting = asyncio.ensure_future(stop)
    await asyncio.wait([waiting, load], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


def summary(network: Network, report: Report, watch: Watch, consumer: Consumer) -> int:
    """Print what happened, each thing counted; 1 when anything is not as it must be."""
    counts = network.truth.counts()
    names = Counter(entry.name for entry in network.truth.entries if entry.name)
    invalid = {name: names[name] for name in INVALID}
    moved = names["late_old_host"]
    curves = Counter(account.key.curve.name for account in network.accounts)
    print("\n--- summary")
    print(f"hosts {len(network.hosts)}, accounts {len(network.accounts)}, curves {dict(curves)}")
    print(f"said      {', '.join(f'{kind} {counts.get(kind, 0)}' for kind in KINDS)}")
    print(f"migrations {moved}")
    print(f"invalid   {', '.join(f'{name} {count}' for name, count in invalid.items())}")
    print(f"dropped   {', '.join(f'{k} {v}' for k, v in sorted(watch.drops().items()))}")
    print(
        f"delivered {report.received} of {report.expected}: missing {report.missing}, "
        f"doubled {report.doubled}, altered {report.altered}, out of order {report.out_of_order}, "
        f"invalid {report.invalid_delivered}, unknown {report.extra}; "
        f"connection breaks {consumer.breaks}"
    )
    print(f"on disk   {watch.disk_bytes / 1e6:.1f} MB, durable seq "
          f"{watch.total('standpipe_durable_seq', 'persist'):.0f}")  # fmt: skip
    for fault, examples in report.examples.items():
        print(f"{fault}: {examples}")
    said = Counter(_reason(str(e.drop)) for e in network.truth.entries if e.drop is not None)
    counted: Counter[str] = Counter()
    for reason, count in watch.drops().items():
        if reason != REREAD:
            counted[_reason(reason)] += count
    wrong = {k: (said[k], counted[k]) for k in said | counted if said[k] != counted[k]}
    never = [kind for kind in KINDS if not counts.get(kind)]
    never += [name for name, count in invalid.items() if not count]
    never += ["migration"] * (not moved)
    if watch.unfinished():
        print(f"received, and neither forwarded nor dropped: {watch.unfinished()}")
    if wrong:
        print(f"drops counted under another reason (reason: said, counted): {wrong}")
    if never:
        print(f"did not happen: {never}")
    good = report.ok and not wrong and not never and not watch.unfinished()
    print("every valid event was delivered exactly once, and no invalid one" if good else "FAILED")
    return 0 if good else 1


def _reason(reason: str) -> str:
    """A stranger's commit waits for a newer document; by then the account may have moved on."""
    return "foreign or old" if reason in ("host_not_authoritative", "rev_not_newer") else reason


def main() -> int:
    """The door."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, help="end by itself after so long")
    return asyncio.run(demo(parser.parse_args().seconds))


if __name__ == "__main__":
    sys.exit(main())
