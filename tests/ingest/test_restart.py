"""What does a restart ask the network for? For what has grown old, and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from common.database import connect, ensure_schema
from ingest import store
from tests.fix_loop import LoopRun
from tests.fix_postgres import Postgres
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import CountingWorker, ingest, until
from tests.simnet.config import NetworkConfig
from tests.simnet.faults import DirectoryFault
from tests.simnet.network import Network
from tests.simnet.truth import compare

CONFIG = NetworkConfig(
    hosts=2, accounts=40, records=20, genesis_share=0, web_accounts=True, legacy_share=0.3
)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that answers has all the time that a busy machine takes."""
    monkeypatch.setattr(store, "FIND_S", 60.0)
    monkeypatch.setattr(store, "CLOSING_S", 60.0)


def prepare(url: str) -> None:
    with closing(connect(url, "test")) as connection:
        ensure_schema(connection)


def make_old(url: str, dids: list[str]) -> None:
    with closing(connect(url, "test")) as connection:
        connection.execute(
            "UPDATE identity SET asked_at = asked_at - interval '25 hours' WHERE did = ANY(%s)",
            (dids,),
        )


def requests(network: Network) -> dict[str, int]:
    """How often each document was asked for: of the directory, and of the hosts themselves."""
    counted = dict(network.plc.requests)
    for account in network.accounts:
        if account.did.startswith("did:web:"):
            counted[account.did] = network.hosts[account.host].did_requests
    return {did: count for did, count in counted.items() if count}


def forget_requests(network: Network) -> None:
    network.plc.requests.clear()
    for host in network.hosts:
        host.did_requests = 0


def idle(worker: CountingWorker) -> bool:
    return worker.pipeline.held == worker.pipeline.in_flight == worker._resolver.open == 0


def test_a_restart_asks_only_for_what_has_grown_old(loop_run: LoopRun, postgres_url: str) -> None:
    prepare(postgres_url)

    async def story() -> None:
        async with Network(CONFIG) as network, FakePersist() as persist:
            urls = [host.url for host in network.hosts]
            async with ingest(persist, urls, network.plc_url, documents_url=postgres_url) as worker:
                for account in network.accounts:
                    network.commit(account)
                await until(lambda: len(persist.log) == 40)
                await until(lambda: idle(worker))
            assert requests(network) == {account.did: 1 for account in network.accounts}
            forget_requests(network)
            old = [account.did for account in network.accounts[::4]]
            make_old(postgres_url, old)
            async with ingest(persist, urls, network.plc_url, documents_url=postgres_url) as worker:
                for _ in range(3):
                    for account in network.accounts:
                        network.commit(account)
                await until(lambda: len(persist.log) == 160)
                await until(lambda: idle(worker))
                assert worker.drops == [] or worker.conserved()
            assert requests(network) == dict.fromkeys(old, 1)
            assert compare(network.truth, persist.frames()).ok
            # What was refreshed is kept as well.
            forget_requests(network)
            async with ingest(persist, urls, network.plc_url, documents_url=postgres_url) as worker:
                for account in network.accounts:
                    network.commit(account)
                await until(lambda: len(persist.log) == 200)
                await until(lambda: idle(worker))
            assert requests(network) == {}

    loop_run(story())


def test_what_changed_while_nobody_was_listening_is_looked_up_and_lost_by_nobody(
    loop_run: LoopRun, postgres_url: str
) -> None:
    prepare(postgres_url)

    async def story() -> None:
        async with Network(CONFIG) as network, FakePersist() as persist:
            urls = [host.url for host in network.hosts]
            async with ingest(persist, urls, network.plc_url, documents_url=postgres_url):
                for account in network.accounts:
                    network.commit(account)
                await until(lambda: len(persist.log) == 40)
            forget_requests(network)
            new_key, moved = network.accounts[10], network.accounts[11]
            new_key.new_key()
            network.publish(new_key)
            moved.host = 1 - moved.host
            moved.new_key()
            network.publish(moved)
            async with ingest(persist, urls, network.plc_url, documents_url=postgres_url) as worker:
                for account in network.accounts:
                    network.commit(account)
                await until(lambda: len(persist.log) == 80)
                await until(lambda: idle(worker))
            asked = requests(network)
            assert set(asked) == {new_key.did, moved.did}
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_with_the_database_away_a_restart_asks_the_network_and_events_go_on(
    loop_run: LoopRun, own_postgres: Postgres
) -> None:
    prepare(own_postgres.url)

    async def story() -> None:
        async with Network(CONFIG) as network, FakePersist() as persist:
            urls = [host.url for host in network.hosts]
            url = own_postgres.url
            async with ingest(persist, urls, network.plc_url, documents_url=url) as worker:
                for account in network.accounts[:20]:
                    network.commit(account)
                await until(lambda: len(persist.log) == 20)
                await asyncio.to_thread(own_postgres.stop)
                # While it is away, of accounts met for the first time and of others.
                for account in network.accounts[10:30]:
                    network.commit(account)
                await until(lambda: len(persist.log) == 40)
                await until(lambda: idle(worker))
            async with ingest(persist, urls, network.plc_url, documents_url=url) as worker:
                for account in network.accounts:
                    network.commit(account)
                await until(lambda: len(persist.log) == 80)
                await asyncio.to_thread(own_postgres.start)
                assert worker._store is not None
                await until(lambda: worker._store.unwritten == 0)  # type: ignore[union-attr]
            forget_requests(network)
            async with ingest(persist, urls, network.plc_url, documents_url=url) as worker:
                for account in network.accounts:
                    network.commit(account)
                await until(lambda: len(persist.log) == 120)
            assert requests(network) == {}
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_documents_that_all_grow_old_at_once_delay_no_event(
    loop_run: LoopRun, postgres_url: str
) -> None:
    """Lesson 10, with a directory that answers nobody meanwhile: not one event waits for it."""
    prepare(postgres_url)

    async def story() -> None:
        config = NetworkConfig(hosts=2, accounts=120, records=5, genesis_share=0)
        async with Network(config) as network, FakePersist() as persist:
            urls = [host.url for host in network.hosts]
            async with ingest(persist, urls, network.plc_url, documents_url=postgres_url):
                for account in network.accounts:
                    network.commit(account)
                await until(lambda: len(persist.log) == 120)
            make_old(postgres_url, [account.did for account in network.accounts])
            forget_requests(network)
            await network.plc.set_fault(DirectoryFault.SLOW)
            async with ingest(persist, urls, network.plc_url, documents_url=postgres_url) as worker:
                for _ in range(3):
                    for account in network.accounts:
                        network.commit(account)
                await until(lambda: len(persist.log) == 480)
                assert worker.pipeline.held == 0
                assert worker._resolver.open == 120
                # A quarter of those who ask are busy with that, and all others are free.
                assert network.plc.requests.total() <= 8
                await network.plc.set_fault(DirectoryFault.NONE)
                newcomer = network.new_account()
                await until(lambda: len(persist.log) == len(network.truth.entries))
                assert network.plc.requests[newcomer.did] >= 1
                await until(lambda: idle(worker))
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())
