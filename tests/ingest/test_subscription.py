"""Hosts that misbehave on the wire: each is refused, told, backed off from, and harms nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import cbor2
import pytest

from common.verdict import DropReason
from ingest.lifecycle import Phase
from ingest.subscription import ANEW_EVENTS
from tests.fix_loop import LoopRun
from tests.ingest.fix_host import RawHost, Visit
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import (
    LIMITS,
    CountingWorker,
    LagMeter,
    MemoryTable,
    ingest,
    until,
)
from tests.ingest.test_splitter import ws
from tests.simnet.config import NetworkConfig
from tests.simnet.faults import HostFaults
from tests.simnet.host import Host, wire
from tests.simnet.invalid import BAD_MESSAGES
from tests.simnet.network import Network
from tests.simnet.truth import compare

SMALL = NetworkConfig(hosts=2, accounts=4, records=20, genesis_share=0)


def settled(network: Network, persist: FakePersist, worker: CountingWorker) -> Callable[[], bool]:
    """Whether every valid event so far is in the log, and nothing is under way."""
    return lambda: (
        len(persist.log) >= len(list(network.truth.valid))
        and worker.pipeline.held == worker.pipeline.in_flight == 0
    )


def told(network: Network, persist: FakePersist) -> Callable[[], str]:
    return lambda: f"{len(persist.log)} of {len(list(network.truth.valid))} in the log"


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_a_bad_message_costs_its_host_one_connection_and_is_then_passed(
    loop_run: LoopRun, name: str
) -> None:
    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            bad, good = network.hosts
            urls = [bad.url, good.url]
            async with (
                ingest(persist, urls, network.plc_url) as worker,
                LagMeter() as lag,
            ):
                for account in network.accounts:
                    network.commit(account)
                await until(settled(network, persist, worker), told(network, persist))
                reason = network.say_bad_message(name, 0)
                for account in network.accounts:
                    network.commit(account)
                await until(settled(network, persist, worker), told(network, persist))
                assert worker.reasons()[reason] >= 1
                # The oversize message is passed over at once; the others end one connection each.
                assert bad.accepted == (1 if name == "oversize" else 2)
                assert good.accepted == 1
                if name != "oversize":
                    assert reason.value in (worker.subscriptions[1].last_error or "")
                assert worker.conserved()
                assert lag.worst_s < 0.25
            assert compare(network.truth, persist.frames()).ok

    loop_run(story())


def test_several_bad_messages_in_a_row_are_each_passed(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            async with ingest(persist, [network.hosts[0].url], network.plc_url) as worker:
                account = next(a for a in network.accounts if a.host == 0)
                network.commit(account)
                await until(settled(network, persist, worker))
                for name in ("no_cbor", "torn_frame", "text_frame", "trailing_byte"):
                    network.say_bad_message(name, 0)
                network.commit(account)
                await until(settled(network, persist, worker))
                assert network.hosts[0].accepted == 5
                assert worker.conserved()

    loop_run(story())


def test_nothing_but_bad_messages_is_no_hot_loop(loop_run: LoopRun) -> None:
    async def script(visit: Visit) -> None:
        await visit.shake()
        visit.say(ws(b"not cbor, and another one each time: %d" % host.visits))
        await visit.until_gone()

    async def story() -> None:
        async with FakePersist() as persist, host:
            async with ingest(
                persist, [host.url], "http://localhost:1", retry_first_s=0.1, retry_longest_s=0.4
            ) as worker:
                await asyncio.sleep(1.5)
                assert host.visits <= 9
                await until(lambda: worker.reasons()[DropReason.MALFORMED_FRAME] >= 3)

    host = RawHost(script)
    loop_run(story())


async def refuse_404(visit: Visit) -> None:
    await visit.read_request()
    visit.say(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5000000\r\n\r\nnothing here")
    await visit.until_gone()


async def redirect(visit: Visit) -> None:
    await visit.read_request()
    visit.say(b"HTTP/1.1 302 Found\r\nLocation: ws://localhost:1/\r\nContent-Length: 0\r\n\r\n")
    await visit.until_gone()


async def no_http(visit: Visit) -> None:
    visit.say(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    await visit.until_gone()


async def wrong_accept(visit: Visit) -> None:
    await visit.read_request()
    visit.say(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
              b"Connection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n")  # fmt: skip
    await visit.until_gone()


async def endless_headers(visit: Visit) -> None:
    await visit.read_request()
    visit.say(b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: " + b"y" * 100_000)
    await visit.until_gone()


async def silent(visit: Visit) -> None:
    await visit.until_gone()


async def slow_bytes(visit: Visit) -> None:
    await visit.read_request()
    for byte in visit.accept():
        visit.say(bytes([byte]))
        await visit.writer.drain()
        await asyncio.sleep(0.05)


async def closes_at_once(visit: Visit) -> None:
    visit.writer.transport.abort()


async def is_a_relay(visit: Visit) -> None:
    await visit.shake("Server: other/1.0 (atproto-relay)")
    await visit.until_gone()


async def compresses(visit: Visit) -> None:
    await visit.shake("Sec-WebSocket-Extensions: permessage-deflate")
    await visit.until_gone()


async def masks(visit: Visit) -> None:
    await visit.shake()
    visit.say(b"\x82\x81\0\0\0\0x")
    await visit.until_gone()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param(refuse_404, "404", id="404 with an endless body"),
        pytest.param(redirect, "302", id="a redirect"),
        pytest.param(no_http, "handshake", id="another protocol"),
        pytest.param(wrong_accept, "Sec-WebSocket-Accept", id="a wrong key"),
        pytest.param(endless_headers, "endless", id="endless headers"),
        pytest.param(silent, "timed out", id="no answer"),
        pytest.param(slow_bytes, "timed out", id="an answer of a byte now and then"),
        pytest.param(closes_at_once, "", id="a reset"),
        pytest.param(is_a_relay, "relay", id="another relay"),
        pytest.param(compresses, "extension", id="an extension nobody asked for"),
        pytest.param(masks, "masked", id="masked frames"),
    ],
)
def test_a_host_that_shakes_no_hands_is_told_and_backed_off_from(
    loop_run: LoopRun, script: Callable[[Visit], Awaitable[None]], words: str
) -> None:
    async def story() -> None:
        async with FakePersist() as persist, RawHost(script) as host:
            # Who does answer is not to be cut short.
            handshake_s = 0.3 if words == "timed out" else LIMITS.handshake_s
            async with ingest(
                persist, [host.url], "http://localhost:1",
                handshake_s=handshake_s, offline_failures=2,
            ) as worker:  # fmt: skip
                subscription = worker.subscriptions[1]
                await until(lambda: subscription.last_error and host.visits >= 2)
                assert words in (subscription.last_error or "")
                await until(
                    lambda: subscription.observed == "offline", lambda: subscription.observed
                )
                await until(lambda: 1 in persist.observations and persist.observations[1].error)
                assert words in (persist.observations[1].error or "")

    loop_run(story())


def test_a_host_that_resets_every_time_is_asked_less_and_less_often(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with FakePersist() as persist, RawHost(closes_at_once) as host:
            async with ingest(
                persist, [host.url], "http://localhost:1", retry_first_s=0.1, retry_longest_s=60.0
            ):
                await asyncio.sleep(2.0)
                # 0.1, 0.2, 0.4, 0.8, 1.6 … seconds, each halved at most.
                assert host.visits <= 7
                await until(lambda: host.visits >= 3)

    loop_run(story())


def test_a_connection_that_opens_is_no_progress_but_a_finished_event_is(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            host = network.hosts[0]
            host.faults = HostFaults(disconnect_after=1)
            account = next(a for a in network.accounts if a.host == 0)
            for _ in range(12):
                network.commit(account)
            async with ingest(
                persist, [host.url], network.plc_url, retry_first_s=0.1, retry_longest_s=60.0
            ) as worker:
                # Each connection brings one event; without the reset this would take 100 s at least.
                await until(settled(network, persist, worker))
                assert host.accepted >= 12

    loop_run(story())


def test_any_segmentation_of_handshake_and_frames_will_do(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            for account in network.accounts:
                if account.host == 0:
                    network.commit(account)
            stream = b"".join(wire(message) for message in network.hosts[0].messages)
            expected = len(network.hosts[0].messages)

            async def byte_by_byte(visit: Visit) -> None:
                await visit.read_request()
                data = visit.accept() + stream
                for at in range(len(data)):
                    visit.say(data[at : at + 1])
                    if at % 64 == 0 or at < 400:
                        await visit.writer.drain()
                        await asyncio.sleep(0)
                await visit.until_gone()

            async def at_once(visit: Visit) -> None:
                await visit.read_request()
                visit.say(visit.accept() + stream)
                await visit.until_gone()

            for script in (byte_by_byte, at_once):
                persist.log.clear()
                persist.states.clear()
                persist._seen.clear()
                # The name that the documents give to these accounts' host.
                async with RawHost(script) as host:
                    for account in network.accounts:
                        document = account.document(host.url)
                        network.plc.documents[account.did] = document
                    async with ingest(persist, [host.url], network.plc_url):
                        await until(lambda: len(persist.log) == expected)

    loop_run(story())


def test_a_half_open_connection_is_found_and_a_quiet_one_is_kept(loop_run: LoopRun) -> None:
    async def never_answers(visit: Visit) -> None:
        await visit.shake()
        await asyncio.sleep(60)

    async def story() -> None:
        async with FakePersist() as persist, RawHost(never_answers) as dead:
            quiet = Host(0, lambda _did: None)
            await quiet.start()
            async with ingest(
                persist, [dead.url, quiet.url], "http://localhost:1", ping_s=0.5
            ) as worker:
                await until(lambda: dead.visits >= 2)
                assert "pong" in (worker.subscriptions[1].last_error or "")
                assert quiet.accepted == 1
                assert worker.subscriptions[2].connected
            await quiet.close()

    loop_run(story())


def error_frame(name: str) -> bytes:
    return ws(cbor2.dumps({"op": -1}) + cbor2.dumps({"error": name, "message": "so it is"}))


@pytest.mark.parametrize("name", ["SomethingElse", "ConsumerTooSlow"])
def test_an_error_frame_is_shown_and_hurried_only_when_it_was_our_fault(
    loop_run: LoopRun, name: str
) -> None:
    async def script(visit: Visit) -> None:
        await visit.shake()
        visit.say(error_frame(name))
        await visit.until_gone()

    async def story() -> None:
        async with FakePersist() as persist, RawHost(script) as host:
            async with ingest(
                persist, [host.url], "http://localhost:1", cursor=7, retry_refused_s=600.0
            ) as worker:
                life = worker.subscriptions[1].life
                if name == "ConsumerTooSlow":
                    await until(lambda: worker.balance().heeded["error"] >= 3)
                else:
                    await until(lambda: life.phase is Phase.WAITING)
                    assert life.next_dial_s - worker._dialer.now_s() > 200
                    await until(lambda: 1 in persist.observations and persist.observations[1].error)
                    assert persist.observations[1].status == "idle"
                    assert host.visits == worker.balance().heeded["error"] == 1
                assert f"error frame {name}" in (worker.subscriptions[1].last_error or "")
                assert worker.subscriptions[1].feed.upstream.last_seq == 7
                assert worker.conserved()

    loop_run(story())


def test_a_host_whose_numbers_begin_anew_is_read_as_another_generation(loop_run: LoopRun) -> None:
    """Lesson: a restored PDS refuses the cursor for ever. Three looks, and it is read from its first event."""

    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            host = network.hosts[0]
            account = next(a for a in network.accounts if a.host == 0)
            for _ in range(3):
                network.commit(account)
            table = MemoryTable()
            async with ingest(
                persist, [host.url], network.plc_url, cursor=999, table=table
            ) as worker:
                await until(settled(network, persist, worker), told(network, persist))
                assert host.requests[:4] == [*["/xrpc/com.atproto.sync.subscribeRepos?cursor=999"] * 3,
                                             "/xrpc/com.atproto.sync.subscribeRepos?cursor=0"]  # fmt: skip
                assert table.rows[0].generation == 2
                assert table.rows[0].restarts == 1
                assert {judged.generation for judged, _frame in persist.log} == {2}
                await until(lambda: persist.observations[1].restarts == 1)
                await until(lambda: persist.observations[1].status == "active")
                assert worker.conserved()

    loop_run(story())


def test_a_host_that_counts_anew_without_a_word_is_found_by_its_revs(loop_run: LoopRun) -> None:
    """Newer revs under numbers that were used before; what is only sent again has old ones."""

    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            host = network.hosts[0]
            account = next(a for a in network.accounts if a.host == 0)
            async with ingest(persist, [host.url], network.plc_url, restart_look_s=0.5) as worker:
                for _ in range(20):
                    network.commit(account)
                await until(lambda: len(persist.log) == 20)
                host.repeat(ANEW_EVENTS)
                await until(lambda: worker.reasons()[DropReason.SEQ_NOT_RISING] == ANEW_EVENTS)
                first = worker.subscriptions[1]
                assert first.life.looks == 0
                host.restart_seq()
                for _ in range(ANEW_EVENTS):
                    network.commit(account)
                await until(lambda: first.life.looks == 1)
                assert "newer revs" in (first.last_error or "")
                await until(lambda: len(persist.log) == 20 + ANEW_EVENTS)
                assert [judged.generation for judged, _frame in persist.log][20:] == [
                    2
                ] * ANEW_EVENTS
                assert worker.conserved()

    loop_run(story())


def test_an_info_is_counted_and_the_stream_goes_on(loop_run: LoopRun) -> None:
    async def story() -> None:
        config = NetworkConfig(
            hosts=1, accounts=2, records=20, genesis_share=0, backlog_bytes=20_000
        )
        async with Network(config) as network, FakePersist() as persist:
            for _ in range(30):
                network.commit()
            async with ingest(persist, [network.hosts[0].url], network.plc_url, cursor=1) as worker:
                await until(lambda: network.hosts[0].caught_up() and len(persist.log) > 2)
                await until(lambda: worker.pipeline.held == worker.pipeline.in_flight == 0)
                assert worker.conserved()
                assert worker.balance().heeded["info"] == 1

    loop_run(story())


def test_a_reconnect_resumes_at_the_last_event_and_repeats_nothing(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network, FakePersist() as persist:
            host = network.hosts[0]
            async with ingest(persist, [host.url], network.plc_url) as worker:
                account = next(a for a in network.accounts if a.host == 0)
                for _ in range(5):
                    for _ in range(5):
                        network.commit(account)
                    await until(settled(network, persist, worker))
                    seen = host.head_seq
                    host.requests.clear()
                    host.cut()
                    await until(lambda: len(host.requests) == 1)
                    assert host.requests[-1].endswith(f"?cursor={seen}")
            assert compare(network.truth, persist.frames()).missing == 0
            assert len(persist.log) == host.head_seq
            # At the end the cursor is told to persist.
            await until(lambda: persist.cursors[1].seq == host.head_seq)

    loop_run(story())


def test_an_unnamed_relay_is_told_who_asks(loop_run: LoopRun) -> None:
    requests: list[bytes] = []

    async def script(visit: Visit) -> None:
        requests.append(await visit.read_request())
        visit.say(visit.accept())
        await visit.until_gone()

    async def story() -> None:
        async with FakePersist() as persist, RawHost(script) as host:
            async with ingest(persist, [host.url], "http://localhost:1", cursor=None):
                await until(lambda: requests)
        (request,) = requests
        assert request.startswith(b"GET /xrpc/com.atproto.sync.subscribeRepos HTTP/1.1\r\n")
        assert b"atproto-relay" in request
        assert b"permessage-deflate" not in request

    loop_run(story())


def test_without_permission_a_host_at_our_own_address_is_not_dialled(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with FakePersist() as persist, RawHost(silent) as host:
            async with ingest(
                persist,
                [f"http://127.0.0.1:{host.port}"],
                "http://localhost:1",
                allow_insecure=False,
            ) as worker:
                await until(lambda: worker.subscriptions[1].last_error)
                assert "no public address" in (worker.subscriptions[1].last_error or "")
                assert host.visits == 0

    loop_run(story())
