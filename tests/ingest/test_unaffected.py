"""What do the hosts of other shards feel of it when a shard is lost, moves, or loses all its hosts at once? Nothing."""

from __future__ import annotations

import threading
from collections.abc import Collection
from math import inf

import pytest

from ingest import share
from ingest.hosts import HostRow
from tests.fix_loop import LoopRun
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import LagMeter, MemoryLeases, until
from tests.ingest.test_leases import Process, SavedTable, urls
from tests.pipeline.house import SpreadNetwork
from tests.simnet.account import Account
from tests.simnet.config import NetworkConfig
from tests.simnet.faults import HostFaults
from tests.simnet.host import Host
from tests.simnet.network import Network
from tests.simnet.truth import compare

NETWORK = NetworkConfig(hosts=24, accounts=24, records=8, genesis_share=0)
LAG_S = 0.25
one_loop = pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)


@pytest.fixture(autouse=True)
def nobody_takes_what_has_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a test wants it, however late a busy machine lets one of two renew its leases."""
    monkeypatch.setattr(share, "PATIENT_S", inf)


def speakers(network: Network, hosts: Collection[Host]) -> list[Account]:
    """The accounts of these hosts."""
    numbers = {host.index for host in hosts}
    return [account for account in network.accounts if account.host in numbers]


async def delivered(network: Network, persist: FakePersist, hosts: Collection[Host]) -> None:
    """Each account of these hosts says something, and it is in the log before the next one does."""
    for account in speakers(network, hosts):
        before = len(persist.log)
        network.commit(account)
        await until(lambda before=before: len(persist.log) > before)  # type: ignore[misc]


async def all_read(network: Network, persist: FakePersist, *processes: Process) -> None:
    """Every host is connected once, and what each says arrives."""
    await until(lambda: [host.connections for host in network.hosts] == [1] * len(network.hosts))
    await delivered(network, persist, network.hosts)
    await until(lambda: all(process.idle() for process in processes))


@one_loop
def test_while_a_shard_is_lost_and_moves_the_others_events_are_delivered(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with SpreadNetwork(NETWORK) as network, FakePersist() as persist:
            leases, table = MemoryLeases(), SavedTable(persist, urls(network))
            lost, other = (
                Process(persist, table, leases, network.plc_url, member) for member in (0, 1)
            )
            theirs, others = network.hosts[0::2], network.hosts[1::2]
            await all_read(network, persist, lost, other)
            before = [host.accepted for host in others]

            # Nobody reads them: their reader is gone, and somebody whom the test plays renews its leases.
            await lost.kill()
            for number, lease in leases.shards.items():
                if lease.owner == 0:
                    leases.shards[number] = lease._replace(expires_s=inf)
            await until(lambda: not any(host.connections for host in theirs))
            for account in speakers(network, theirs):
                network.commit(account)
            for _ in range(3):
                await delivered(network, persist, others)

            # On their way: another one has the leases, and the table is slow to tell which hosts are in them.
            wanted, gate = table.wanted, threading.Event()

            def slow() -> list[HostRow]:
                found = wanted()
                gate.wait(60)
                return found

            table.wanted = slow  # type: ignore[method-assign]
            monkeypatch.setattr(share, "PATIENT_S", 0.0)
            leases.members[0] = leases.members[0][0], 0.0
            for number, lease in leases.shards.items():
                if lease.owner == 0:
                    leases.shards[number] = lease._replace(expires_s=0.0)
            await until(lambda: len(other.worker.leases.readable) == len(leases.shards))
            for _ in range(3):
                await delivered(network, persist, others)
            assert not any(host.connections for host in theirs)

            wanted_events = len(persist.log) + len(speakers(network, theirs))
            gate.set()
            await until(lambda: len(persist.log) == wanted_events)
            await all_read(network, persist, other)
            assert [host.accepted for host in others] == before, "nobody was dialled again"
            await other.drain()
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_while_all_hosts_of_a_shard_are_lost_and_dialled_the_others_events_are_delivered(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        async with SpreadNetwork(NETWORK) as network, FakePersist() as persist:
            leases, table = MemoryLeases(), SavedTable(persist, urls(network))
            both = [Process(persist, table, leases, network.plc_url, member) for member in (0, 1)]
            dropped, others = network.hosts[0::2], network.hosts[1::2]
            await all_read(network, persist, *both)
            before = [host.accepted for host in others]
            enough = max(host.accepted for host in dropped) + 3

            for host in dropped:
                host.faults = HostFaults(close_on_accept=True)
                host.cut()
            async with LagMeter() as lag:
                # Each is dialled again, in vain, more than once.
                while min(host.accepted for host in dropped) < enough:
                    await delivered(network, persist, others)
            assert not any(host.connections for host in dropped)
            assert [host.accepted for host in others] == before, "nobody was dialled again"
            assert lag.worst_s < LAG_S

            for host in dropped:
                host.faults = HostFaults()
            await all_read(network, persist, *both)
            for process in both:
                await process.drain()
                assert process.worker.conserved()
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())
