"""wss: the right certificate is read, every wrong one refused and shown."""

from __future__ import annotations

import ssl

import pytest

from ingest.hosts import HostRow
from tests.fix_loop import LoopRun
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import MemoryTable, ingest, until
from tests.simnet.config import NetworkConfig
from tests.simnet.network import Network
from tests.simnet.tls import Certificate


def test_only_the_right_certificate_is_accepted(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = tuple(Certificate)

    async def story() -> None:
        config = NetworkConfig(
            hosts=len(kinds), accounts=len(kinds), records=20, genesis_share=0, tls=kinds
        )
        async with Network(config) as network, FakePersist() as persist:
            # As an operator does it; read by the one context that all hosts share.
            monkeypatch.setenv("SSL_CERT_FILE", str(network.ca_file))
            for account in network.accounts:
                network.commit(account)
            async with ingest(
                persist,
                [host.url for host in network.hosts],
                network.plc_url,
                tls=ssl.create_default_context(),
            ) as worker:
                wrong = list(worker.subscriptions.values())[1:]
                await until(lambda: len(persist.log) == 1)
                await until(lambda: all(host.last_error for host in wrong))
                for kind, host in zip(kinds[1:], wrong, strict=True):
                    assert "certificate refused" in (host.last_error or ""), (kind, host.last_error)
                    assert not host.connected
                words = " ".join(host.last_error or "" for host in wrong)
                assert "expired" in words
                assert "self" in words
                assert "localhost" in words
            assert len(persist.log) == 1

    loop_run(story())


def test_all_hosts_of_a_process_share_one_context(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trust store for each connection was more than a gigabyte over all hosts of another relay."""
    made: list[ssl.SSLContext] = []
    make = ssl.create_default_context

    def counted() -> ssl.SSLContext:
        made.append(make())
        return made[-1]

    async def story() -> None:
        table = MemoryTable()
        for number in range(1, 31):
            table.rows.append(HostRow(number, f"localhost:{number}", True, 1, 0))
        async with (
            FakePersist() as persist,
            ingest(persist, [], "http://localhost:1", table=table) as worker,
        ):
            await until(lambda: len(worker.subscriptions) == 30)
            await until(lambda: all(host.last_error for host in worker.subscriptions.values()))
            assert len(made) == 1
            assert {id(host._tls) for host in worker.subscriptions.values()} == {id(made[0])}

    monkeypatch.setattr(ssl, "create_default_context", counted)
    loop_run(story())
