"""A host at its limits on real sockets: slowed and shown as such, nothing lost, and set free at once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from common.limits import event_limits
from tests.fix_loop import LoopRun
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import CountingWorker, MemoryTable, ingest, until
from tests.simnet.account import Account
from tests.simnet.config import NetworkConfig
from tests.simnet.network import Network
from tests.simnet.truth import compare

SOON_S = 20.0
"""What takes less than a second where this machine does nothing else, in seconds. Without an account's share
another's event waits for a minute here, and without a look at the limits a host waits for its day; with the
clock in hand, test_fairness.py asks for half a second."""


def quiet(**changed: Any) -> NetworkConfig:
    """A host whose accounts say nothing by themselves."""
    return NetworkConfig(hosts=1, records=20, genesis_share=0, p256_share=0, **changed)


class Limited(MemoryTable):
    """A table whose hosts are ordinary ones, with some limits of their own."""

    def __init__(self, **limits: int) -> None:
        super().__init__()
        self._limits = limits

    def add(self, *given: Any, **named: Any) -> int:
        added = super().add(*given, **named)
        self.change(trusted=False, account_limit=100, **self._limits)
        return added

    def change(self, **values: Any) -> None:
        """What an operator does."""
        self.rows = [row._replace(**values) for row in self.rows]
        self.versions += 1


def only_host(worker: CountingWorker) -> Any:
    [host] = worker.subscriptions.values()
    return host


async def import_of(network: Network, account: Account, commits: int) -> None:
    """Many commits of one account, as fast as its host can make them."""
    for number in range(commits):
        network.commit(account)
        if number % 50 == 0:
            await asyncio.sleep(0)


def test_a_host_over_its_limit_is_slowed_loses_nothing_and_is_shown_with_an_end(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        table = Limited(per_second=60)
        async with Network(quiet(accounts=20)) as network, FakePersist() as persist:
            async with ingest(
                persist, [network.hosts[0].url], network.plc_url, table=table
            ) as worker:
                await until(lambda: only_host(worker).connected)
                began_s, began_us = time.monotonic(), time.time() * 1e6
                for number in range(360):
                    network.commit(network.accounts[number % 20])
                await until(
                    lambda: 1 in persist.observations and persist.observations[1].limited_by
                )
                assert len(persist.log) < 360
                seen = persist.observations[1]
                assert seen.limited_by == "second"
                assert began_us < seen.limited_until_us < time.time() * 1e6 + 2e6
                # It says more than its messages are read: what is not read stays on its side.
                await until(lambda: len(persist.log) == 360)
                assert time.monotonic() - began_s > 300 / 60 * 0.95
                await until(lambda: persist.observations[1].limited_by is None)
                assert worker.conserved()
                assert worker.reasons() == {}
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_one_accounts_import_is_slowed_and_no_other_and_raised_limits_set_it_free(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        table = Limited()
        async with Network(quiet(accounts=2)) as network, FakePersist() as persist:
            async with ingest(
                persist, [network.hosts[0].url], network.plc_url, table=table
            ) as worker:
                await until(lambda: only_host(worker).connected)
                importer, other = network.accounts
                await import_of(network, importer, 3000)
                host = only_host(worker)
                await until(lambda: host.feed.slowed)
                # What came at once was over the limit of a second for a moment; that is shown for a while.
                await until(lambda: host.feed.limited_by is None)
                for number in range(10):
                    said_s = time.monotonic()
                    network.commit(other)
                    await until(lambda: logged(persist, other) == number + 1)  # noqa: B023
                    assert time.monotonic() - said_s < SOON_S
                    # It has a second's limit at once, and at most that again in each.
                    assert logged(persist, importer) < 1500
                    assert [account.did for account in host.feed.slowed] == [importer.did]
                    assert host.feed.limited_by is None
                    await asyncio.sleep(0.05)
                table.change(trusted=True)
                raised_s = time.monotonic()
                await until(lambda: host.feed.limiter.limits == event_limits(100, trusted=True))
                assert time.monotonic() - raised_s < SOON_S
                await until(lambda: logged(persist, importer) == 3000)
                # Fifty a second of it would have taken half a minute.
                assert time.monotonic() - raised_s < 15.0
                assert not host.feed.slowed
                assert worker.conserved()
                assert worker.reasons() == {}
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_a_host_that_waits_for_its_day_is_set_free_banned_or_given_away_without_waiting(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        table = Limited(per_day=10)
        async with Network(quiet(accounts=20)) as network, FakePersist() as persist:
            async with ingest(
                persist, [network.hosts[0].url], network.plc_url, table=table
            ) as worker:
                await until(lambda: only_host(worker).connected)
                for number in range(40):
                    network.commit(network.accounts[number % 20])
                await until(lambda: only_host(worker).feed.limited_by == "day")
                await until(lambda: len(persist.log) == 10)
                asked_s = time.monotonic()
                table.change(per_day=20)
                await until(lambda: len(persist.log) == 20)
                assert time.monotonic() - asked_s < SOON_S
                await until(lambda: only_host(worker).feed.limited_by == "day")
                asked_s = time.monotonic()
                table.change(wanted="banned")
                await until(lambda: not worker.subscriptions)
                assert time.monotonic() - asked_s < SOON_S
                assert worker.conserved()
                table.change(wanted="active", per_day=None)
                await until(lambda: len(persist.log) == 40)
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def logged(persist: FakePersist, account: Account) -> int:
    return sum(judged.did == account.did for judged, _frame in persist.log)
