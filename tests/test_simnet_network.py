"""Do the hosts speak as real ones do, and misbehave only as asked? Streams, cursors, faults."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

import aiohttp
import cbor2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from common.verdict import DropReason
from tests.fix_loop import LoopRun
from tests.simnet import Consumer, Network, NetworkConfig, Truth, compare
from tests.simnet.config import DEFAULT_MIX
from tests.simnet.faults import DirectoryFault
from tests.simnet.invalid import BAD_MESSAGES, INVALID
from tests.simnet.tls import Certificate
from tests.simnet.truth import open_frame

SMALL = NetworkConfig(hosts=2, accounts=6, records=20, settle_s=0.05, pause_s=0.05)


async def until(condition: Callable[[], bool], deadline_s: float = 30.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.005)


def fill(network: Network, count: int, host: int = 0) -> None:
    """So many commits from one host."""
    accounts = [account for account in network.accounts if account.host == host]
    for number in range(count):
        account = accounts[number % len(accounts)]
        if account.repo.rev is None:
            network._awake(account)
        network.commit(account)


def seqs(frames: list[bytes]) -> list[int]:
    """The numbers of frames."""
    return [open_frame(frame)[1]["seq"] for frame in frames]


async def get(url: str) -> tuple[int, Any]:
    """Status and JSON of a GET."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.json(content_type=None)


# Streams and cursors


def test_cursor_gives_what_is_newer_and_then_what_happens(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            host = network.hosts[0]
            fill(network, 10)
            head = host.head_seq
            async with Consumer(host.stream_url, head - 4) as consumer:
                await consumer.wait_count(4)
                fill(network, 3)
                await consumer.wait_count(7)
                assert seqs(consumer.frames) == list(range(head - 3, head + 4))
            async with connect(f"{host.stream_url}?cursor={head}", compression=None) as connection:
                first = await connection.recv()
                assert isinstance(first, bytes)
                assert seqs([first]) == [head + 1]

    loop_run(story())


def test_consumer_hides_no_repetition_but_that_of_its_cursor(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            host = network.hosts[0]
            fill(network, 3)
            head = host.head_seq
            async with Consumer(host.stream_url, 0) as consumer:
                await consumer.wait_count(head)
                host.repeat(1)
                await consumer.wait_count(head + 1)
                assert seqs(consumer.frames)[-2:] == [head, head]
                (former,) = host.streams
                host.cut()
                await consumer.wait_for(lambda: consumer.breaks == 1)
                await until(lambda: host.connections == 1 and former not in host.streams)
                host.repeat(1)  # as a relay does, whose cursor is inclusive
                host.repeat(1)
                await consumer.wait_count(head + 2)
                fill(network, 1)
                await consumer.wait_count(head + 3)
                assert seqs(consumer.frames)[-3:] == [head, head, head + 1]

    loop_run(story())


def test_no_cursor_is_live_only(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            host = network.hosts[0]
            fill(network, 10)
            head = host.head_seq
            async with Consumer(host.stream_url, None) as consumer:
                await until(lambda: host.connections == 1)
                fill(network, 2)
                await consumer.wait_count(2)
                assert seqs(consumer.frames) == [head + 1, head + 2]

    loop_run(story())


def test_cursor_in_the_future_is_told_and_closed(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            fill(network, 2)
            host = network.hosts[0]
            future = f"{host.stream_url}?cursor={host.head_seq + 1}"
            for url, name in ((future, "FutureCursor"), (host.stream_url + "?cursor=x", "Invalid")):
                async with connect(url, compression=None) as connection:
                    frame = await connection.recv()
                    assert isinstance(frame, bytes)
                    assert frame.startswith(bytes.fromhex("a1626f7020a2656572726f72"))
                    assert name.encode() in frame
                    with pytest.raises(ConnectionClosed):
                        await connection.recv()
                    assert connection.close_code == 1008

    loop_run(story())


def test_backlog_is_bounded_and_the_gap_is_told(loop_run: LoopRun) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=1, accounts=2, records=20, backlog_bytes=50_000)
        async with Network(config) as network:
            fill(network, 60)
            host = network.hosts[0]
            async with Consumer(host.stream_url, 1) as consumer:
                await consumer.wait_for(
                    lambda: (
                        bool(consumer.frames) and seqs(consumer.frames[-1:]) == [host.head_seq]
                        if len(consumer.frames) > 1
                        else False
                    )
                )
                kind, body = open_frame(consumer.frames[0])
                assert (kind, body["name"]) == ("info", "OutdatedCursor")
                first = seqs(consumer.frames[1:2])[0]
                assert first > 2
                assert seqs(consumer.frames[1:]) == list(range(first, host.head_seq + 1))

    loop_run(story())


def test_host_answers_the_small_questions(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            host = network.hosts[0]
            account = network.any_account()
            network.commit(account)
            own = network.hosts[account.host]
            query = f"/xrpc/com.atproto.sync.getRepoStatus?did={quote(account.did)}"
            status, body = await get(own.url + query)
            assert (status, body["active"], body["rev"]) == (200, True, account.repo.rev)
            network.delete(account)
            assert (await get(own.url + query))[1] == {
                "did": account.did,
                "active": False,
                "status": "deleted",
            }
            other = network.hosts[1 - account.host]
            assert (await get(other.url + query))[0] == 400
            assert (await get(host.url + "/xrpc/_health"))[0] == 200
            described = await get(host.url + "/xrpc/com.atproto.server.describeServer")
            assert described[1]["did"] == f"did:web:localhost%3A{host.port}"
            assert (await get(host.url + "/nothing"))[0] == 404

    loop_run(story())


def test_did_web_account_is_served_by_its_host(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(NetworkConfig(hosts=2, accounts=4, records=5, web_accounts=True)) as net:
            host = net.hosts[1]
            status, body = await get(host.url + "/.well-known/did.json")
            assert status == 200
            assert body["id"] == net.accounts[1].did == f"did:web:localhost%3A{host.port}"
            assert body["service"][0]["serviceEndpoint"] == host.url

    loop_run(story())


# The directory


def test_directory_answers_documents_and_counts(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            account = network.accounts[0]
            for url in (account.did, quote(account.did, safe="")):
                status, body = await get(f"{network.plc_url}/{url}")
                assert (status, body["id"]) == (200, account.did)
                endpoint = body["service"][0]["serviceEndpoint"]
                assert endpoint == f"http://localhost:{network.hosts[account.host].port}"
            assert network.plc.requests[account.did] == 2
            assert (await get(f"{network.plc_url}/did:plc:nobody"))[0] == 404
            network.plc.documents[account.did] = None
            assert (await get(f"{network.plc_url}/{account.did}"))[0] == 404

    loop_run(story())


def test_directory_fails_as_asked(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            plc, url = network.plc, f"{network.plc_url}/{network.accounts[0].did}"
            await plc.set_fault(DirectoryFault.SERVER_ERROR)
            assert (await get(url))[0] == 500
            await plc.set_fault(DirectoryFault.NOT_FOUND)
            assert (await get(url))[0] == 404
            await plc.set_fault(DirectoryFault.MALFORMED)
            with pytest.raises(ValueError, match=r"Expecting|delimiter"):
                await get(url)
            await plc.set_fault(DirectoryFault.HUGE)
            assert len((await get(url))[1]["x"]) == 8_000_000
            plc.delay_s = 0.2
            await plc.set_fault(DirectoryFault.SLOW)
            begun = asyncio.get_running_loop().time()
            assert (await get(url))[0] == 200
            assert asyncio.get_running_loop().time() - begun >= 0.19
            await plc.set_fault(DirectoryFault.DOWN)
            with pytest.raises(aiohttp.ClientConnectorError):
                await get(url)
            await plc.set_fault(DirectoryFault.NONE)
            assert (await get(url))[0] == 200
            await plc.set_fault(DirectoryFault.NOT_FOUND, network.accounts[0].did)
            assert (await get(url))[0] == 404
            assert (await get(f"{network.plc_url}/{network.accounts[1].did}"))[0] == 200

    loop_run(story())


# Life and truth


async def lived(
    stack: AsyncExitStack, config: NetworkConfig, rate: float, seconds: float
) -> tuple[Network, list[bytes]]:
    """A network after a run, and what its hosts sent, merged in the order of the ledger."""
    network = await stack.enter_async_context(Network(config))
    consumers = [
        await stack.enter_async_context(Consumer(host.stream_url, 0)) for host in network.hosts
    ]
    await network.run(rate, seconds)
    for host, consumer in zip(network.hosts, consumers, strict=True):
        await consumer.wait_count(host.head_seq)
    by_number = [dict(zip(seqs(c.frames), c.frames, strict=True)) for c in consumers]
    return network, [by_number[entry.host][entry.seq] for entry in network.truth.entries]


def renumbered(frames: list[bytes], network: Network, invalid: bool = False) -> list[bytes]:
    """What a faultless relay would make of the frames: valid ones under numbers of its own."""
    made: list[bytes] = []
    for frame, entry in zip(frames, network.truth.entries, strict=True):
        if entry.drop is None or invalid:
            head = frame[: entry.seq_at]
            tail = frame[entry.seq_at + len(_integer(entry.seq)) :]
            made.append(head + _integer(1000 + len(made)) + tail)
    return made


def _integer(number: int) -> bytes:
    return cbor2.dumps(number)


def test_everything_happens_and_a_faultless_relay_is_found_faultless(loop_run: LoopRun) -> None:
    async def story() -> None:
        mix = dict.fromkeys(DEFAULT_MIX, 1.0)
        config = NetworkConfig(
            hosts=3,
            accounts=20,
            records=20,
            settle_s=0.05,
            pause_s=0.05,
            invalid_share=0.2,
            mix=mix,
            invalid=tuple(name for name in INVALID if name != "unknown_op"),
        )
        async with AsyncExitStack() as stack:
            network, frames = await lived(stack, config, 200, 1.5)
            counts = network.truth.counts()
            assert counts["commit"] > 20
            assert counts["sync"] > 5
            assert counts["identity"] > 5
            assert counts["account"] > 5
            assert sum(key.startswith("drop:") for key in counts) > 8
            assert any(entry.name == "late_old_host" for entry in network.truth.entries)
            report = compare(network.truth, renumbered(frames, network))
            assert report.ok, report
            assert report.received == report.expected == sum(1 for _ in network.truth.valid)

    loop_run(story())


def test_no_account_goes_where_what_was_said_of_it_in_vain_would_come_true(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        mix = {"commit": 1.0, "migrate": 1.0}
        config = NetworkConfig(
            hosts=2, accounts=6, records=5, settle_s=0.01, invalid_share=0.1, mix=mix
        )
        async with Network(config) as network:
            await network.run(200, 1.0)
            vain: set[tuple[str, int]] = set()
            for entry in network.truth.entries:
                if entry.drop is DropReason.HOST_NOT_AUTHORITATIVE:
                    vain.add((entry.did, entry.host))
                else:
                    assert entry.drop or (entry.did, entry.host) not in vain
            assert len(vain) > 3

    loop_run(story())


def test_each_kind_of_wrong_relay_is_found_out(loop_run: LoopRun) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=2, accounts=6, records=20, settle_s=0.05, invalid_share=0.3)
        async with AsyncExitStack() as stack:
            network, frames = await lived(stack, config, 200, 0.7)
            good = renumbered(frames, network)
            truth = network.truth

            def faults(made: list[bytes]) -> dict[str, int]:
                report = compare(truth, made).as_dict()
                plain = ("ok", "expected", "received", "examples")
                return {k: v for k, v in report.items() if v and k not in plain}

            assert faults(good) == {}
            assert faults(good[:5] + good[6:]) == {"missing": 1}
            doubled = faults([*good, _number(good[5], 5000)])
            assert doubled.pop("out_of_order", 0) in (0, 1)
            assert doubled == {"doubled": 1}
            assert faults([*good, good[-1]]) == {"doubled": 1, "seq_not_rising": 1}
            torn = bytearray(good[7])
            torn[-1] ^= 1
            changed = faults([*good[:7], bytes(torn), *good[8:]])
            assert changed in ({"altered": 1, "missing": 1}, {"unreadable": 1, "missing": 1})
            commits = [i for i, entry in enumerate(truth.valid) if entry.kind == "commit"]
            did = [entry.did for entry in truth.valid]
            later = next(i for i in commits for j in commits if i > j and did[i] == did[j])
            earlier = next(j for j in commits if did[j] == did[later])
            swapped = list(good)
            swapped[earlier] = _number(good[later], 1000 + earlier)
            swapped[later] = _number(good[earlier], 1000 + later)
            assert faults(swapped)["out_of_order"] >= 1
            everything = renumbered(frames, network, invalid=True)
            bad = sum(1 for _ in truth.invalid)
            assert bad > 5
            assert faults(everything) == {"invalid_delivered": bad}
            other = await stack.enter_async_context(Network(NetworkConfig(accounts=1, records=5)))
            other.commit(other.accounts[0])
            stranger = other.hosts[0].messages[-1]
            assert isinstance(stranger, bytes)
            assert faults([*good, _number(stranger, 9000)]) == {"extra": 1}
            assert faults([*good, b"\xff"]) == {"unreadable": 1}

    loop_run(story())


def _number(frame: bytes, seq: int) -> bytes:
    """A frame under another number."""
    old = open_frame(frame)[1]["seq"]
    mark = b"\x63seq"
    return frame.replace(mark + _integer(old), mark + _integer(seq), 1)


def test_replayed_commit_counts_as_doubled(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            network.commit(network.accounts[0])
            network.say_invalid("replayed", network.accounts[0])
            frames = [m for m in network.hosts[0].messages if isinstance(m, bytes)]
            assert compare(network.truth, frames).doubled == 1
            assert compare(network.truth, frames[:-1]).ok

    loop_run(story())


def test_ledger_survives_a_file(loop_run: LoopRun, tmp_path: Any) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            fill(network, 5)
            network.say_invalid("bad_signature")
            network.truth.dump(tmp_path / "truth.jsonl")
            loaded = Truth.load(tmp_path / "truth.jsonl")
            assert loaded.entries == network.truth.entries
            assert loaded.counts() == network.truth.counts()

    loop_run(story())


def test_migration_moves_key_host_and_chain(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            account = network.accounts[0]
            network.commit(account)
            before, key = account.repo, account.key
            calls = 0

            async def settled() -> None:
                nonlocal calls
                calls += 1
                assert account.did not in [e.did for e in network.truth.entries[seen:]] or calls > 1

            network.settled = settled
            seen = len(network.truth.entries)
            await network.migrate(account, 1)
            said = network.truth.entries[seen:]
            assert [(e.kind, e.host) for e in said] == [
                ("identity", 1),
                ("account", 1),
                ("identity", 1),
                ("sync", 1),
                ("commit", 1),
                ("account", 0),
                ("account", 0),
            ]
            wrong = [e.drop for e in said if e.drop is not None]
            assert wrong == [
                DropReason.SYNC_NOT_RESIGNED,
                *[DropReason.HOST_NOT_AUTHORITATIVE] * 2,
            ]
            message = network.hosts[1].messages[-1]
            assert isinstance(message, bytes)
            body = open_frame(message)[1]
            assert body["since"] == before.rev
            assert body["prevData"].value[1:] == before.data
            assert account.key.compressed != key.compressed
            document = network.plc.documents[account.did]
            assert document == account.document(network.hosts[1].url)
            assert calls == 2
            assert not account.resting
            assert not account.moving

    loop_run(story())


def test_what_is_imported_is_signed_by_the_former_key_under_another_rev(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            account = network.accounts[0]
            network.commit(account)
            before = account.repo
            await network.migrate(account, 1)
            kind, body = next(
                open_frame(message)
                for message in network.hosts[1].messages
                if isinstance(message, bytes) and open_frame(message)[0] == "sync"
            )
            assert kind == "sync"
            assert before.commit_block in body["blocks"]
            assert body["rev"] > str(before.rev)

    loop_run(story())


def test_a_silent_key_is_in_the_document_and_in_the_next_commit_and_nowhere_else(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            account = network.accounts[0]
            network.commit(account)
            key, seen = account.key, len(network.truth.entries)
            await network.silent_key(account)
            assert [e.kind for e in network.truth.entries[seen:]] == ["commit"]
            assert account.key.compressed != key.compressed
            document = network.plc.documents[account.did]
            assert document == account.document(network.hosts[account.host].url)

    loop_run(story())


def test_same_seed_and_clock_give_the_same_stream(loop_run: LoopRun) -> None:
    async def story() -> list[bytes | str]:
        config = NetworkConfig(hosts=1, accounts=4, records=30, start_us=1_760_000_000_000_000)
        async with Network(config) as network:
            await network.prebuild(20)
            await network.run(10_000, 2)
            return network.hosts[0].messages

    assert loop_run(story()) == loop_run(story())


def test_prebuilt_events_go_out_at_their_rate_and_only_once(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(NetworkConfig(hosts=2, accounts=4, records=10)) as network:
            await network.prebuild(100)
            count = len(network.load.prebuilt)
            assert not network.truth.entries
            with pytest.raises(RuntimeError, match="prebuilt"):
                network.commit(next(a for a in network.accounts if a.did == _first_did(network)))
            result = await network.run(200, 10)
            assert result.events == count == len(network.truth.entries)
            assert 0.3 < result.seconds < 10
            network.commit()

    loop_run(story())


def _first_did(network: Network) -> str:
    return network.load.prebuilt[-1][1].did


def test_a_run_that_is_held_up_says_neither_less_nor_more(loop_run: LoopRun) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=1, accounts=4, records=5, genesis_share=0, mix={"commit": 1.0})
        async with Network(config) as network:
            for hold_up_s in (0.0, 0.5):
                asyncio.get_running_loop().call_later(0.05, time.sleep, hold_up_s)
                result = await network.run(200, 0.2)
                assert 38 <= result.events <= 42

    loop_run(story())


def test_load_is_bounded(loop_run: LoopRun) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=1, accounts=2, records=5, max_events=10, max_rate=500)
        async with Network(config) as network:
            with pytest.raises(ValueError, match="rate"):
                await network.run(501, 1)
            with pytest.raises(ValueError, match="seconds"):
                await network.run(1, 1e6)
            await network.run(500, 0.3)
            assert 10 <= len(network.truth.entries) < 25

    loop_run(story())


@pytest.mark.parametrize("name", INVALID)
def test_each_invalid_event_can_be_said_and_read(name: str, loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            account = network.accounts[0]
            network.commit(account)
            state = account.repo
            reason = network.say_invalid(name, account)
            entry = network.truth.entries[-1]
            assert (entry.drop, entry.name) == (reason, name)
            assert account.repo == state
            message = network.hosts[entry.host].messages[-1]
            assert isinstance(message, bytes)
            assert len(message) < 5_000_000
            assert (entry.host != account.host) == INVALID[name].elsewhere
            network.commit(account)
            assert account.repo.rev is not None
            assert state.rev is not None
            assert account.repo.rev > state.rev

    loop_run(story())


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_each_bad_message_is_met_again_after_a_reconnect(name: str, loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            fill(network, 1)
            host = network.hosts[0]
            before = host.head_seq
            network.say_bad_message(name, 0)
            fill(network, 1)
            for _ in range(2):
                url = f"{host.stream_url}?cursor={before}"
                async with connect(url, compression=None, max_size=None) as connection:
                    bad, good = await connection.recv(), await connection.recv()
                assert bad == host.messages[-2]
                assert good == host.messages[-1]
            if name == "oversize":
                assert len(bad) > 5_000_000
            assert isinstance(bad, str) == (name == "text_frame")

    loop_run(story())


# Faults of hosts


def test_connection_is_cut_after_so_many_frames_and_nothing_is_lost(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            host = network.hosts[0]
            host.faults.disconnect_after = 3
            fill(network, 10)
            async with Consumer(host.stream_url, 0) as consumer:
                await consumer.wait_count(host.head_seq)
                assert seqs(consumer.frames) == list(range(1, host.head_seq + 1))
                assert consumer.breaks >= 3

    loop_run(story())


def test_one_cut_only_is_one_cut(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            host = network.hosts[0]
            host.faults.disconnect_after = 3
            host.faults.disconnect_once = True
            fill(network, 10)
            async with Consumer(host.stream_url, 0) as consumer:
                await consumer.wait_count(host.head_seq)
                assert consumer.breaks == 1

    loop_run(story())


def test_repeated_and_regressed_frames_carry_old_numbers(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            host = network.hosts[0]
            fill(network, 5)
            head = host.head_seq
            async with connect(host.stream_url, compression=None) as connection:
                await until(lambda: host.connections == 1)
                host.repeat(2)
                got = [await connection.recv() for _ in range(2)]
                assert got == host.messages[-2:]
                assert network.say_regressed(0, 3) is DropReason.SEQ_NOT_RISING
                frame = await connection.recv()
                assert isinstance(frame, bytes)
                assert open_frame(frame)[1]["seq"] == head - 3
                assert host.head_seq == head

    loop_run(story())


def test_seq_can_start_again(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            host = network.hosts[0]
            fill(network, 5)
            async with connect(host.stream_url, compression=None) as connection:
                await until(lambda: host.connections == 1)
                host.restart_seq()
                fill(network, 1)
                frame = await connection.recv()
                assert isinstance(frame, bytes)
                assert open_frame(frame)[1]["seq"] == 1

    loop_run(story())


def test_raw_bytes_and_frames_reach_the_wire(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            host = network.hosts[0]
            async with connect(host.stream_url, compression=None) as connection:
                await until(lambda: host.connections == 1)
                host.say_once("text")
                assert await connection.recv() == "text"
                host.write_raw(b"\xff" * 40)
                with pytest.raises(ConnectionClosed):
                    await connection.recv()
                assert connection.close_code == 1002 or connection.protocol.close_exc is not None
            assert host.head_seq == 0

    loop_run(story())


def test_slow_host_is_slow(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            host = network.hosts[0]
            host.faults.bytes_per_s = 20_000
            fill(network, 4)
            size = sum(len(message) for message in host.messages)
            begun = asyncio.get_running_loop().time()
            async with Consumer(host.stream_url, 0) as consumer:
                await consumer.wait_count(host.head_seq)
            took = asyncio.get_running_loop().time() - begun
            assert took > size / 20_000 * 0.6

    loop_run(story())


def test_silent_stream_stays_open_and_goes_on_later(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            host = network.hosts[0]
            host.faults.silent_stream = True
            async with Consumer(host.stream_url, 0) as consumer:
                await until(lambda: host.connections == 1)
                fill(network, 3)
                with pytest.raises(TimeoutError):
                    await consumer.wait_count(1, 0.2)
                assert host.connections == 1
                host.faults.silent_stream = False
                host.wake()
                await consumer.wait_count(host.head_seq)
                assert consumer.breaks == 0

    loop_run(story())


def test_silent_handshake_never_answers(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            host = network.hosts[0]
            host.faults.silent_handshake = True

            async def dial() -> None:
                await connect(host.stream_url, open_timeout=None)

            dialling = asyncio.create_task(dial())
            await until(lambda: host.accepted == 1)
            await asyncio.sleep(0.3)
            assert not dialling.done()
            assert host.connections == 0
            dialling.cancel()
            await asyncio.gather(dialling, return_exceptions=True)

    loop_run(story())


def test_accepted_connection_can_be_closed_at_once(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            host = network.hosts[0]
            host.faults.close_on_accept = True
            for _ in range(3):
                with pytest.raises((InvalidHandshake, ConnectionClosed, EOFError, OSError)):
                    async with connect(host.stream_url) as connection:
                        await connection.recv()
            assert host.accepted == 3

    loop_run(story())


def test_host_that_resets_again_and_again_loses_nothing(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            host = network.hosts[0]
            host.faults.reset_every_s = 0.05
            async with Consumer(host.stream_url, 0) as consumer:
                await consumer.wait_for(lambda: consumer.breaks >= 3)
                fill(network, 3)
                await consumer.wait_count(host.head_seq)
                assert seqs(consumer.frames) == list(range(1, host.head_seq + 1))

    loop_run(story())


def test_host_goes_away_and_returns_on_its_port(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(SMALL) as network:
            host = network.hosts[0]
            fill(network, 2)
            async with Consumer(host.stream_url, 0) as consumer:
                await consumer.wait_count(2)
                port = host.port
                await host.close()
                with pytest.raises(OSError, match=r"refused|Connect"):
                    await connect(host.stream_url)
                fill(network, 2)
                await host.start()
                assert host.port == port
                await consumer.wait_count(host.head_seq)
                assert network.hosts[0].caught_up()

    loop_run(story())


# TLS


@pytest.mark.parametrize("kind", Certificate)
def test_only_the_good_certificate_is_taken(kind: Certificate, loop_run: LoopRun) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=2, accounts=2, records=5, tls=(None, kind))
        async with Network(config) as network:
            host = network.hosts[1]
            assert host.url == f"https://localhost:{host.port}"
            assert network.ca_file is not None
            context = ssl.create_default_context(cafile=str(network.ca_file))
            fill(network, 2, host=1)
            if kind is Certificate.GOOD:
                async with Consumer(host.stream_url, 0, tls=context) as consumer:
                    await consumer.wait_count(host.head_seq)
            else:
                with pytest.raises(ssl.SSLCertVerificationError):
                    await connect(host.stream_url, ssl=context)
        assert not network.ca_file.exists()

    loop_run(story())
