"""What do the stories of this folder begin with? A network, a whole relay beside it, a consumer.

async with house(config, event_loop) as at_home:
    at_home.network.commit()
    await at_home.network.settled()
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from common.sharding import owner_of, shard_of
from common.verdict import DropReason
from tests.fix_net import free_port
from tests.relay import ROOT, Relay
from tests.simnet import Consumer, Network, NetworkConfig, Report, compare
from tests.simnet.delivered import Delivered

FLOW_S: Final = 120.0
"""How long what was said may take to come out, in seconds: a process may have to start for it, on a
machine that is slow and busy."""
STORY_S: Final = 1200.0
"""How long a story may take, in seconds, and a load that ends with its story. What hangs fails before, at
the wait that it hangs in; many waits that are slow are still no failure."""
INGEST: Final = 2
"""Ingest processes; hosts with an even number belong to the first, the others to the second."""


class SpreadNetwork(Network):
    """A network whose hosts are shared out evenly: host n belongs to ingest process n % INGEST."""

    def _make_hosts(self) -> None:
        super()._make_hosts()
        for host in self.hosts:
            while not host.port or self.member_of(host.index) != host.index % INGEST:
                host.port = free_port()

    def member_of(self, host: int) -> int:
        """The ingest process that reads a host, by number."""
        return owner_of(shard_of(self.hosts[host].name), INGEST)


@dataclass(slots=True)
class House:
    """A network, a relay that reads it, and a consumer of that relay."""

    network: SpreadNetwork
    relay: Relay
    consumer: Consumer
    live: Delivered

    def report(self) -> Report:
        """What came out, held against what was said."""
        return compare(self.network.truth, self.live.frames)

    async def numbers(self, *names: str) -> Counter[str]:
        """The numbers of some processes, added up."""
        return await asyncio.to_thread(self._numbers, names)

    def _numbers(self, names: Iterable[str]) -> Counter[str]:
        found: Counter[str] = Counter()
        for name in names:
            found.update(self.relay.metrics(name))
        return found

    def drops(self) -> Counter[DropReason]:
        """How often ingest gave each reason; those never given are left out. Blocks."""
        numbers = self._numbers(("ingest-0", "ingest-1"))
        counts = {
            reason: int(numbers[f'standpipe_dropped_total{{reason="{reason}"}}'])
            for reason in DropReason
        }
        return Counter({reason: count for reason, count in counts.items() if count})

    async def until(self, what: str, condition: Callable[[], Any], within_s: float = FLOW_S) -> Any:
        """Ask `condition`, in a thread, until it gives something true; that.

        Raises:
            AssertionError: it did not within so many seconds.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not (found := await asyncio.to_thread(condition)):
                    await asyncio.sleep(0.05)
                return found
        raise AssertionError(f"not within {within_s:g} s: {what}")

    def status(self) -> dict[str, Any]:
        """What `standpipe status --json` prints now. Blocks."""
        asked = subprocess.run(
            [sys.executable, "-m", "common.command", "status", "--json"],
            cwd=ROOT, env=self.relay.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        told: dict[str, Any] = json.loads(asked.stdout)
        assert (told["up"] and not told["unaccounted"]) is (asked.returncode == 0)
        return told


@asynccontextmanager
async def house(config: NetworkConfig, event_loop: str, **environ: str) -> AsyncIterator[House]:
    """A network and a relay that delivers; all of it ends with the context.

    Args: event_loop: of the relay's processes. environ: more settings.
    """
    async with SpreadNetwork(config) as network:
        relay = Relay(
            plc_url=network.plc_url,
            hosts=[host.url for host in network.hosts],
            environ={
                "STANDPIPE_EVENT_LOOP": event_loop,
                "STANDPIPE_INGEST_PROCESSES": str(INGEST),
                **environ,
            },
        )
        live = Delivered()
        async with relay, Consumer(relay.stream_url, keep=live.keep) as consumer:
            network.settled = live.settles(network, consumer, FLOW_S)
            yield House(network, relay, consumer, live)
