"""Ingest and persist: what is sent back, restarted, silent, refused, and slow."""

from __future__ import annotations

import asyncio

import pytest

from common.envelope import AccountState, Kind, Mark
from ingest.outlet import Outlived
from tests.fix_loop import LoopRun
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import (
    LIMITS,
    CountingWorker,
    MemoryLeases,
    MemoryRejects,
    MemoryTable,
    ingest,
    until,
)
from tests.simnet.config import NetworkConfig
from tests.simnet.network import Network
from tests.simnet.truth import compare

SMALL = NetworkConfig(hosts=2, accounts=6, records=20, genesis_share=0)


def urls(network: Network) -> list[str]:
    return [host.url for host in network.hosts]


def idle(worker: CountingWorker) -> bool:
    return worker.pipeline.held == worker.pipeline.in_flight == 0


def test_a_restarted_ingest_learns_the_newest_states_and_repeats_nothing(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            for _ in range(3):
                for account in network.accounts:
                    network.commit(account)
            async with ingest(persist, urls(network), network.plc_url) as worker:
                await until(lambda: len(persist.log) == 18)
            # Another process, with an old cursor: it meets everything again.
            async with ingest(persist, urls(network), network.plc_url) as worker:
                for account in network.accounts:
                    network.commit(account)
                await until(lambda: len(persist.log) == 24 and idle(worker))
                assert worker.conserved()
                assert persist.duplicates or persist.sent_back
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_a_persist_that_dies_is_told_everything_again(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            async with ingest(persist, urls(network), network.plc_url) as worker:
                for round_ in range(6):
                    persist.silent = round_ % 2 == 0
                    for account in network.accounts:
                        network.commit(account)
                    await until(lambda: worker.pipeline.in_flight >= 1 or not persist.silent)
                    await asyncio.sleep(0.05)
                    persist.silent = False
                    await persist.restart()
                await until(lambda: len(persist.log) == 36 and idle(worker))
                assert worker.conserved()
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_what_was_logged_but_not_answered_is_not_logged_twice(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            async with ingest(persist, urls(network), network.plc_url) as worker:
                persist.hold_answers = True
                for account in network.accounts:
                    network.commit(account)
                await until(lambda: len(persist.log) == 6)
                assert worker.pipeline.in_flight == 6
                persist.hold_answers = False
                await persist.restart()
                await until(lambda: idle(worker))
                assert persist.duplicates == 6
                assert len(persist.log) == 6
                assert worker.conserved()

    loop_run(story())


def test_while_persist_is_away_reading_stops_at_the_bound_and_goes_on_after(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            host = network.hosts[0]
            accounts = [account for account in network.accounts if account.host == 0]
            async with ingest(
                persist, [host.url], network.plc_url,
                in_flight_bytes=50_000, host_high_bytes=100_000, host_low_bytes=50_000,
                process_low_bytes=1_000_000,
            ) as worker:  # fmt: skip
                persist.silent = True
                for number in range(1200):
                    network.commit(accounts[number % len(accounts)])
                    if number % 50 == 0:
                        await asyncio.sleep(0)
                subscription = worker.subscriptions[1]
                await until(lambda: subscription in worker.turns._paused)
                await asyncio.sleep(0.2)
                sent_bytes = sum(len(message) for message in host.messages)
                assert sent_bytes > 3_000_000
                assert subscription.unfinished_bytes < 1_000_000
                # What waited for its document when the bound was reached goes out above it.
                assert worker.pipeline.in_flight_bytes <= worker.pipeline.unfinished_bytes
                persist.silent = False
                await persist.restart()
                await until(lambda: len(persist.log) == 1200 and idle(worker))
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_no_more_than_the_bound_is_sent_to_a_persist_that_does_not_answer(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            async with ingest(
                persist, urls(network), network.plc_url, in_flight_bytes=30_000
            ) as worker:
                for account in network.accounts:
                    network.commit(account)
                await until(lambda: len(persist.log) == 6 and idle(worker))
                persist.hold_answers = True
                for _ in range(20):
                    for account in network.accounts:
                        network.commit(account)
                largest = max(len(m) for host in network.hosts for m in host.messages)
                await until(network.caught_up)
                await until(lambda: worker.pipeline.in_flight_bytes > 30_000)
                await asyncio.sleep(0.3)
                assert 30_000 < worker.pipeline.in_flight_bytes < 30_000 + 32 * largest
                assert worker.pipeline.in_flight < 120
                persist.answer()
                await until(lambda: len(persist.log) == 126 and idle(worker))
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_what_came_back_is_judged_against_the_newer_state(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            account = network.accounts[0]
            async with ingest(persist, urls(network), network.plc_url) as worker:
                network.commit(account)
                await until(lambda: len(persist.log) == 1)
                newest = persist.states[account.did]
                persist.states[account.did] = newest._replace(active=False, status="takendown")
                network.commit(account)
                # Its host, asked, knows nothing of that: see ingest.inquiry.
                await until(lambda: len(persist.log) == 3)
                ours, commit = (judged for judged, _frame in persist.log[1:])
                assert (ours.kind, ours.marks, ours.after.active) == (Kind.ACCOUNT, Mark.OURS, True)
                assert commit.kind == Kind.COMMIT
                assert commit.base.active
                assert persist.sent_back == 1
                assert worker.drops == []

    loop_run(story())


def test_a_flood_for_one_did_keeps_its_order_through_sendings_back(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            account = network.accounts[0]
            async with ingest(persist, urls(network), network.plc_url) as worker:
                for number in range(300):
                    network.commit(account)
                    if number % 7 == 0:
                        state = persist.states.get(account.did)
                        if state is not None:
                            # As if another process had said something of this account.
                            persist.states[account.did] = AccountState(
                                state.rev, state.data, state.commit, True, f"n{number}", 1
                            )
                    if number % 20 == 0:
                        await asyncio.sleep(0.01)
                await until(lambda: len(persist.log) == 300 and idle(worker))
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_an_outlived_process_ends(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with FakePersist() as persist:
            persist.refuses = True
            worker = CountingWorker(
                member=0, processes=1, endpoint=persist.endpoint, table=MemoryTable(),
                leases=MemoryLeases(), rejects=MemoryRejects(), plc_url="http://localhost:1", limits=LIMITS,
            )  # fmt: skip
            with pytest.raises(ExceptionGroup) as caught:
                await worker.run(asyncio.Event())
            assert caught.group_contains(Outlived)

    loop_run(story())


def test_a_fault_in_a_callback_ends_the_process(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            taken = asyncio.Event()

            def broken(*_: object) -> None:
                taken.set()
                raise ZeroDivisionError("a fault of ours")

            with pytest.raises(ExceptionGroup) as caught:
                async with ingest(persist, urls(network), network.plc_url) as worker:
                    worker.pipeline.take = broken  # type: ignore[method-assign, assignment]
                    network.commit(network.accounts[0])
                    await taken.wait()
            assert caught.group_contains(ZeroDivisionError)

    loop_run(story())


def test_a_frame_does_not_change_after_it_was_queued(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            async with ingest(persist, urls(network), network.plc_url) as worker:
                persist.hold_answers = True
                network.commit(network.accounts[0])
                await until(lambda: worker.pipeline.in_flight == 1)
                ((judged, frame),) = worker.pipeline.unanswered()
                # Nothing under way is shared with a buffer that somebody could still write to.
                assert type(frame) is bytes
                assert isinstance(judged, tuple)
                copy = bytes(bytearray(frame))
                network.commit(network.accounts[0])
                await until(lambda: worker.pipeline.in_flight == 2)
                assert frame == copy
                persist.answer()
                await until(lambda: idle(worker))

    loop_run(story())
