"""One whole ingest process against a simulated network: what goes in, and what comes out."""

from __future__ import annotations

import asyncio
import copy
import resource
from collections import Counter
from contextlib import AsyncExitStack
from functools import partial

import cbor2

from common.event import Event, decode
from common.verdict import DropReason
from tests.fix_loop import LoopRun
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import CountingWorker, LagMeter, ingest, until
from tests.interop.vectors import needs_network, network_documents, network_frames
from tests.simnet.config import NetworkConfig
from tests.simnet.faults import HostFaults
from tests.simnet.host import Host
from tests.simnet.network import Network
from tests.simnet.plc import Directory
from tests.simnet.truth import compare


async def finished(network: Network, worker: CountingWorker) -> None:
    """Until whatever has been said has come to its end."""
    said = {number: host.head_seq for number, host in enumerate(network.hosts, 1)}
    feeds = {number: worker.subscriptions[number].feed for number in said}
    await until(
        lambda: all((feeds[n].upstream.finished_seq or 0) >= seq for n, seq in said.items()),
        lambda: {n: (seq, feeds[n].upstream.finished_seq) for n, seq in said.items()},
    )


def test_a_whole_network_goes_through_without_loss_or_double(loop_run: LoopRun) -> None:
    async def story() -> None:
        config = NetworkConfig(
            hosts=3, accounts=12, records=50, invalid_share=0.2, pause_s=0.05, web_accounts=True,
        )  # fmt: skip
        async with Network(config) as network, FakePersist() as persist:
            async with ingest(persist, [h.url for h in network.hosts], network.plc_url) as worker:
                network.settled = partial(finished, network, worker)
                await network.run(rate=150, seconds=3)
                expected = len(list(network.truth.valid))
                await until(
                    lambda: (
                        len(persist.log) >= expected
                        and len(worker.drops) >= len(list(network.truth.invalid))
                        and worker.pipeline.held == worker.pipeline.in_flight == 0
                    ),
                    lambda: f"{len(persist.log)} of {expected} came out: {worker.reasons()}",
                )
                assert worker.conserved()
            report = compare(network.truth, persist.frames())
            assert report.ok, report
            wanted = Counter(entry.drop for entry in network.truth.invalid)
            given = worker.reasons()
            # A foreign commit waits for a look at the document; its account may have moved on by
            # then, and it is a replay as well.
            either = (DropReason.HOST_NOT_AUTHORITATIVE, DropReason.REV_NOT_NEWER)
            assert sum(given.pop(r, 0) for r in either) == sum(wanted.pop(r, 0) for r in either)
            assert wanted
            assert given == wanted

    loop_run(story())


def test_a_host_that_resets_every_second_delays_nobody_else(loop_run: LoopRun) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=3, accounts=9, records=20, genesis_share=0)
        async with Network(config) as network, FakePersist() as persist:
            network.hosts[0].faults = HostFaults(reset_every_s=0.2)
            async with ingest(persist, [h.url for h in network.hosts], network.plc_url) as worker:
                for _ in range(20):
                    for account in network.accounts:
                        network.commit(account)
                    await asyncio.sleep(0.05)
                await until(lambda: len(persist.log) == 180)
                assert network.hosts[0].accepted > 2
                assert network.hosts[1].accepted == 1
                assert worker.conserved()
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_an_exploding_frame_from_one_host_delays_no_other_and_costs_no_memory(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=3, accounts=6, records=20, genesis_share=0)
        async with Network(config) as network, FakePersist() as persist:
            async with (
                ingest(persist, [h.url for h in network.hosts], network.plc_url) as worker,
                LagMeter() as lag,
            ):
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                for _ in range(5):
                    network.say_bad_message("explosive", 0)
                    for account in network.accounts:
                        network.commit(account)
                    await asyncio.sleep(0.05)
                await until(lambda: len(persist.log) == 30)
                assert worker.reasons()[DropReason.MALFORMED_FRAME] >= 5
                grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
                assert grown_kb < 200_000
                assert lag.worst_s < 0.25

    loop_run(story())


@needs_network
def test_the_real_frames_come_out_as_they_came_but_for_their_seq(loop_run: LoopRun) -> None:
    """Their documents name hosts on loopback instead of the real ones; nothing else is changed."""

    async def story() -> None:
        documents = network_documents()
        by_host: dict[str, list[bytes]] = {}
        for raw in network_frames():
            event = decode(raw)
            assert isinstance(event, Event)
            endpoint = documents[event.did]["service"][0]["serviceEndpoint"]
            by_host.setdefault(endpoint.removeprefix("https://"), []).append(raw)
        plc = Directory()
        async with FakePersist() as persist, AsyncExitStack() as stack:
            await plc.start()
            stack.push_async_callback(plc.close)
            hosts = [Host(n, lambda _did: None) for n in range(len(by_host))]
            for host, raws in zip(hosts, by_host.values(), strict=True):
                await host.start()
                stack.push_async_callback(host.close)
                for raw in raws:
                    event = decode(raw)
                    assert isinstance(event, Event)
                    document = copy.deepcopy(documents[event.did])
                    document["service"][0]["serviceEndpoint"] = host.url
                    plc.documents[event.did] = document
                    host.messages.append(raw)
                    host._seqs.append(event.seq)
                # Its cursors mean what its events say: who comes back with one is given what follows.
                assert host._seqs == sorted(set(host._seqs))
                host._next_seq = host._seqs[-1] + 1
            async with ingest(persist, [h.url for h in hosts], plc.url) as worker:
                await until(
                    lambda: len(persist.log) == 100,
                    lambda: f"{len(persist.log)} came out: {worker.reasons()}",
                )
                assert worker.conserved()
        came = sorted(network_frames())
        assert sorted(frame for _judged, frame in persist.log) == came
        for judged, frame in persist.log:
            head, tail = frame[: judged.seq_start], frame[judged.seq_end :]
            assert cbor2.loads(frame[judged.seq_start : judged.seq_end]) == judged.upstream_seq
            body = cbor2.loads((head + b"\x18\x2a" + tail)[15:])
            assert {**body, "seq": 0} == {**cbor2.loads(frame[15:]), "seq": 0}

    loop_run(story())
