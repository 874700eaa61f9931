"""What the directory's answers come to, and that nothing is dropped while it fails."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from common.envelope import AccountState
from common.fetch import Fetcher, FetchError
from common.verdict import DropReason
from ingest.config import EVENT_BYTES, ResolverLimits
from ingest.did_document import Broken, Identity, NotFound, Outcome, Unavailable
from ingest.lookup import Lookup
from tests.fix_loop import LoopRun
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import LagMeter, ingest, until
from tests.simnet.config import NetworkConfig
from tests.simnet.faults import DirectoryFault
from tests.simnet.network import Network
from tests.simnet.truth import compare


def lookup(
    fetcher: Fetcher,
    plc_url: str,
    limits: ResolverLimits | None = None,
    *,
    allow_insecure: bool = True,
) -> Lookup:
    limits = limits or ResolverLimits()
    return Lookup(fetcher, limits, plc_url=plc_url, allow_insecure=allow_insecure)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (DirectoryFault.NONE, Identity),
        (DirectoryFault.NOT_FOUND, NotFound),
        (DirectoryFault.SERVER_ERROR, Unavailable),
        (DirectoryFault.SLOW, Unavailable),
        (DirectoryFault.HUGE, Unavailable),
        (DirectoryFault.MALFORMED, Unavailable),
        (DirectoryFault.DOWN, Unavailable),
    ],
)
def test_each_answer_of_the_directory_has_its_outcome(
    loop_run: LoopRun, fault: DirectoryFault, kind: type[Outcome]
) -> None:
    async def story() -> None:
        async with (
            Network(NetworkConfig(hosts=1, accounts=1, records=5)) as network,
            Fetcher(allow_insecure=True) as fetcher,
        ):
            await network.plc.set_fault(fault)
            # Nobody else is hurried: what is not told in time is unavailable, too.
            hurried = ResolverLimits(request_s=0.5) if fault is DirectoryFault.SLOW else None
            asker = lookup(fetcher, network.plc_url, hurried)
            found = await asker.ask(network.accounts[0].did)
            assert isinstance(found, kind), found

    loop_run(story())


def test_other_methods_and_odd_webs_are_broken_without_a_request(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Fetcher(allow_insecure=False) as fetcher:
            asker = lookup(fetcher, "http://localhost:1", allow_insecure=False)
            for did in ("did:key:zQ3sh", "did:web:localhost%3A80", "did:web:127.0.0.1"):
                assert isinstance(await asker.ask(did), Broken)

    loop_run(story())


def test_a_sudden_majority_of_not_found_is_no_verdict(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with (
            Network(NetworkConfig(hosts=1, accounts=12, records=5)) as network,
            Fetcher(allow_insecure=True) as fetcher,
        ):
            asker = lookup(fetcher, network.plc_url)
            dids = [account.did for account in network.accounts]
            assert isinstance(await asker.ask(dids[0]), Identity)
            await network.plc.set_fault(DirectoryFault.NOT_FOUND)
            outcomes = [await asker.ask(did) for did in dids[1:]]
            assert {type(outcome) for outcome in outcomes} == {Unavailable}
            # Strangers that nobody knows do not make a directory suspect that still knows others.
            await network.plc.set_fault(DirectoryFault.NONE)
            for n in range(12):
                found = await asker.ask("did:plc:" + "abcdefghijkl"[n] * 24)
                assert isinstance(found, NotFound)
            # Nor does the one that was found last, and has been deleted since.
            assert isinstance(await asker.ask(dids[1]), Identity)
            del network.plc.documents[dids[1]]
            assert isinstance(await asker.ask(dids[1]), NotFound)
            assert isinstance(await asker.ask("did:plc:" + "m" * 24), NotFound)

    loop_run(story())


def test_a_document_is_followed_but_not_into_our_own_network(loop_run: LoopRun) -> None:
    async def story() -> None:
        seen: list[str] = []

        async def answer(request: web.Request) -> web.Response:
            seen.append(request.path)
            if request.path.startswith("/loop"):
                raise web.HTTPFound("/loop")
            if request.path.startswith("/move"):
                raise web.HTTPFound("/there")
            if request.path.startswith("/address"):
                raise web.HTTPFound(f"http://127.0.0.1:{port}/inside")
            if request.path.startswith("/name"):
                raise web.HTTPFound("https://localhost/inside")
            return web.Response(body=b"{}")

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        base = f"http://127.0.0.1:{port}"
        try:
            await checks(base)
        finally:
            await runner.cleanup()
        assert "/inside" not in seen

    async def checks(base: str) -> None:

        async def get(fetcher: Fetcher, path: str, *, trusted: bool = True) -> bytes:
            fetched = await fetcher.get(
                base + path, trusted=trusted, max_bytes=100, limit_s=30.0, hops=2
            )
            return fetched.body

        async with Fetcher(allow_insecure=True) as open_, Fetcher(allow_insecure=False) as closed:
            assert await get(open_, "/move") == b"{}"
            with pytest.raises(FetchError, match="redirects"):
                await get(open_, "/loop")
            # The operator's own address may be anything; where it leads to may not.
            assert await get(closed, "/direct") == b"{}"
            for path, words in (
                ("/address", "https"),
                ("/move", "https"),
                ("/name", "no public address"),
            ):
                with pytest.raises(FetchError, match=words):
                    await get(closed, path)
            with pytest.raises(FetchError, match="https"):
                await get(closed, "/direct", trusted=False)

    loop_run(story())


# --- the whole process while the directory fails ---

OUTAGE = NetworkConfig(hosts=2, accounts=12, records=20, genesis_share=0)


@pytest.mark.parametrize(
    "fault",
    [
        DirectoryFault.DOWN,
        DirectoryFault.SERVER_ERROR,
        DirectoryFault.SLOW,
        DirectoryFault.HUGE,
        DirectoryFault.MALFORMED,
    ],
)
def test_while_the_directory_fails_events_are_held_and_then_go_on_in_order(
    loop_run: LoopRun, fault: DirectoryFault
) -> None:
    async def story() -> None:
        async with Network(OUTAGE) as network, FakePersist() as persist:
            await network.plc.set_fault(fault)
            async with ingest(
                persist, [host.url for host in network.hosts], network.plc_url,
                # Who is late when the directory is back is not taken for alone: for a minute.
                resolver_limits=ResolverLimits(
                    request_s=0.2, retry_first_s=0.05, retry_longest_s=30.0, probe_longest_s=0.1
                ),
                did_held_bytes=1000, host_held_bytes=10_000, held_s=0.2, hopeless_s=1.0,
            ) as worker:  # fmt: skip
                for _ in range(3):
                    for account in network.accounts:
                        network.commit(account)
                await until(lambda: worker.pipeline.held == 36)
                await asyncio.sleep(1.5)
                assert worker.reasons() == {}
                assert persist.log == []
                assert worker.conserved()
                await network.plc.set_fault(DirectoryFault.NONE)
                await until(lambda: len(persist.log) == 36)
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_when_all_are_not_found_though_one_was_nothing_is_dropped(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(OUTAGE) as network, FakePersist() as persist:
            first, *others = network.accounts
            async with ingest(
                persist, [host.url for host in network.hosts], network.plc_url
            ) as worker:
                network.commit(first)
                await until(lambda: len(persist.log) == 1)
                await network.plc.set_fault(DirectoryFault.NOT_FOUND)
                for account in others:
                    network.commit(account)
                await until(lambda: worker.pipeline.held + len(worker.drops) == len(others))
                # Not even the first one is believed: the directory does not find `first` either.
                assert worker.drops == []
                await network.plc.set_fault(DirectoryFault.NONE)
                await until(lambda: len(persist.log) == len(network.accounts))

    loop_run(story())


@pytest.mark.parametrize(
    "fault", [DirectoryFault.SERVER_ERROR, DirectoryFault.HUGE, DirectoryFault.SLOW]
)
def test_one_did_that_fails_costs_its_own_oldest_events_only(
    loop_run: LoopRun, fault: DirectoryFault
) -> None:
    async def story() -> None:
        async with Network(OUTAGE) as network, FakePersist() as persist:
            bad, *good = network.accounts
            await network.plc.set_fault(fault, bad.did)
            async with (
                ingest(
                    persist, [host.url for host in network.hosts], network.plc_url,
                    # However late the others are told: nothing is dropped for two of these pauses.
                    resolver_limits=ResolverLimits(
                        request_s=0.3, retry_first_s=0.05, retry_longest_s=0.2
                    ),
                    did_held_bytes=5_000 + 3 * EVENT_BYTES, hopeless_s=0.0,
                ) as worker,
                LagMeter() as lag,
            ):  # fmt: skip
                for _ in range(10):
                    network.commit(bad)
                for account in good:
                    network.commit(account)
                await until(lambda: len(persist.log) == len(good))
                await until(lambda: worker._resolver._open[bad.did].backoff.failures > 1)
                said = 10
                while worker.reasons()[DropReason.IDENTITY_UNRESOLVED] <= 3:
                    # With each that comes it is looked at, and nothing goes while others fail as well.
                    network.commit(bad)
                    said += 1
                    await asyncio.sleep(0.1)
                assert {did for did, _drop in worker.drops} == {bad.did}
                assert lag.worst_s < 0.25
                network.plc.faults.clear()
                await until(lambda: worker.pipeline.held == worker.pipeline.in_flight == 0)
                assert len(persist.log) + len(worker.drops) == len(good) + said
                assert worker.conserved()
            # The newest of it came through.
            last = [judged for judged, _frame in persist.log if judged.did == bad.did][-1]
            assert last.after.rev == bad.repo.rev
            assert isinstance(last.after, AccountState)

    loop_run(story())


def test_concurrent_events_of_one_did_ask_once(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(OUTAGE) as network, FakePersist() as persist:
            account = network.accounts[0]
            for _ in range(30):
                network.commit(account)
            async with ingest(persist, [host.url for host in network.hosts], network.plc_url):
                await until(lambda: len(persist.log) == 30)
            assert network.plc.requests[account.did] == 1

    loop_run(story())
