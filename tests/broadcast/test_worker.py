"""broadcast.worker: a whole member, from persist's chunks to consumers and to its end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from websockets.exceptions import ConnectionClosed, InvalidStatus

from broadcast.chain import Broken
from common.chunk import (
    CLOCK_SUSPECT,
    DATABASE_AWAY,
    DISK_LOW,
    EVENTS_HELD,
    ChunkKind,
    encode_chunk,
)
from tests.broadcast.fakes import FakeLog, member_of, seq_of, seqs, told_of, until, with_limits
from tests.fix_loop import LoopRun


async def fetch(port: int, path: str) -> tuple[int, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(body)


def test_a_live_consumer_gets_what_is_new(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        log = FakeLog()
        log.append(5)
        async with member_of(log, tmp_path) as member, member.stream() as stream:
            member.emit(3)
            member.emit(2)
            assert await seqs(stream, 5) == [6, 7, 8, 9, 10]

    loop_run(story())


def test_replay_hands_over_to_live_without_gap_or_double(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        log = FakeLog()
        for _ in range(300):
            log.append(3, size=2000)
        # The ring holds little, so that log, ring and live all take part.
        limits = with_limits(ring_bytes=100_000, read_bytes=50_000, slice_bytes=20_000)
        async with member_of(log, tmp_path, limits=limits) as member:
            streams = [await member.stream(f"?cursor={cursor}") for cursor in (0, 1, 450, 899)]

            async def emit() -> None:
                for _ in range(300):
                    member.emit(2, size=2000)
                    await asyncio.sleep(0)

            emitting = asyncio.create_task(emit())
            for stream, first in zip(streams, (1, 1, 450, 899), strict=True):
                assert await seqs(stream, 1501 - first) == list(range(first, 1501))
                await stream.close()
            await emitting

    loop_run(story())


def test_every_consumer_gets_the_same_bytes_in_the_same_order(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member:
            streams = [await member.stream() for _ in range(5)]
            for _ in range(100):
                member.emit(2, size=500)
            got = [[await stream.recv() for _ in range(200)] for stream in streams]
            assert [seq_of(message) for message in got[0]] == list(range(1, 201))
            assert all(each == got[0] for each in got)
            for stream in streams:
                await stream.close()

    loop_run(story())


def test_chunks_that_persist_did_not_bring_come_from_the_log(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member, member.stream() as stream:
            for number in range(200):
                chunk = log.append(2)
                if number % 3 == 0:
                    member.publish(chunk)
            member.emit(1)
            assert await seqs(stream, 401) == list(range(1, 402))

    loop_run(story())


def test_a_burst_that_fills_the_waiting_room_is_read_from_the_log(
    loop_run: LoopRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadcast.inlet.PENDING_BYTES", 5000)

    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member, member.stream() as stream:
            held = asyncio.get_running_loop().create_future()
            reading = member.inlet._playback.read_stretch

            async def slowly(seq: int, max_bytes: int, until_seq: int) -> Any:
                await held
                return await reading(seq, max_bytes, until_seq)

            monkeypatch.setattr(member.inlet._playback, "read_stretch", slowly)
            log.append(1)
            for _ in range(100):
                member.emit(1)
            await until(lambda: member.inlet._filling is not None)
            await until(lambda: member.inlet._pending_bytes < 4000)
            held.set_result(None)
            member.emit(1)
            assert await seqs(stream, 102) == list(range(1, 103))

    loop_run(story())


def test_the_last_chunk_before_a_silence_is_not_lost(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member, member.stream() as stream:
            member.emit(1)
            log.append(2)  # durable, but its message never comes
            assert await seqs(stream, 3) == [1, 2, 3]

    loop_run(story())


def test_persist_may_start_again_under_a_stream(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member, member.stream() as stream:
            member.emit(2)
            assert await seqs(stream, 2) == [1, 2]
            member.persist_down()
            log.append(2)  # durable when it was killed, never published
            log.claim()
            member.persist_up()
            member.emit(2)
            assert await seqs(stream, 4) == [3, 4, 5, 6]
            await member.hears()
            member.publish(log.claim(skip=5))
            member.emit(1)
            assert await stream.recv() == told_of(7, 12)
            assert await seqs(stream, 1) == [12]

    loop_run(story())


def test_numbers_that_a_claim_left_out_are_looked_for_once(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    def fills() -> float:
        return REGISTRY.get_sample_value("standpipe_gap_fills_total") or 0.0

    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member, member.stream() as stream:
            member.emit(2)
            assert await seqs(stream, 2) == [1, 2]
            before = fills()
            member.publish(log.claim(skip=5))
            assert await stream.recv() == told_of(3, 8)
            for _ in range(5):
                await member.hears()
            member.emit(1)
            assert await seqs(stream, 1) == [8]
            assert fills() == before + 1

    loop_run(story())


def test_a_member_that_ends_takes_no_new_streams(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            member.worker.service.draining = member.worker.pulse.draining = True
            with pytest.raises(InvalidStatus) as refused:
                await member.stream()
            assert refused.value.response.status_code == 503
            assert (await fetch(member.port, "/_health"))[1]["reason"] == "ending"

    loop_run(story())


def test_a_log_that_contradicts_itself_ends_the_process(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member:
            member.emit(3)
            await until(lambda: member.fanout.live_seq == 4)
            member.publish(FakeLog(epoch=5).append(1))
            with pytest.raises(Broken):
                await member.running
            member.running = asyncio.create_task(asyncio.sleep(0))

    loop_run(story())


def test_a_cursor_ahead_of_this_member_waits_for_it(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member:
            member.emit(2)
            await until(lambda: member.fanout.live_seq == 3)
            late = [log.append(3), log.append(3)]
            async with member.stream("?cursor=7") as stream:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(stream.recv(), 0.1)
                for chunk in late:
                    member.publish(chunk)
                assert await seqs(stream, 2) == [7, 8]
                member.emit(1)
                assert await seqs(stream, 1) == [9]

    loop_run(story())


def test_before_there_is_a_log_streams_are_told_to_come_back(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path, persist=False) as member:
            status, body = await fetch(member.port, "/_health")
            assert (status, body["message"]) == (503, "the log is not there yet")
            assert (await fetch(member.port, "/_live"))[0] == 200
            with pytest.raises(InvalidStatus) as refused:
                await member.stream()
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["Retry-After"] == "5"
            member.persist_up()
            await member.hears()
            await until(lambda: member.worker.service.fanout)
            async with member.stream() as stream:
                member.emit(1)
                assert await seqs(stream, 1) == [1]

    loop_run(story())


def test_a_log_without_its_writer_can_be_replayed_but_is_not_healthy(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        log.append(5)
        async with member_of(log, tmp_path, persist=False) as member:
            await until(lambda: member.worker.service.fanout)
            async with member.stream("?cursor=0") as stream:
                assert await seqs(stream, 5) == [1, 2, 3, 4, 5]
            status, body = await fetch(member.port, "/xrpc/_health")
            assert (status, body["message"]) == (503, "nothing has come from persist yet")
            assert body["error"] == "Unhealthy"

    loop_run(story())


def test_health_is_ok_while_persist_is_heard(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            for port in (member.port, member.private_port):
                for path in ("/_health", "/xrpc/_health"):
                    status, body = await fetch(port, path)
                    assert (status, body["status"]) == (200, "ok")
            member.worker.pulse.heard_s -= 6  # type: ignore[operator]
            assert (await fetch(member.port, "/_health"))[0] == 503

    loop_run(story())


def test_a_clock_that_is_doubted_makes_health_red_and_stops_nothing(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member, member.stream() as stream:
            log.flags = CLOCK_SUSPECT
            await member.hears()
            status, body = await fetch(member.port, "/_health")
            assert (status, body["error"], body["reason"]) == (503, "Unhealthy", "clock")
            member.emit(1)
            assert await seqs(stream, 1) == [1]
            assert (await fetch(member.port, "/_health"))[1]["reason"] == "clock"
            # What an outlived writer says of it does not count.
            log.flags = 0
            member.publish(log.claim())
            await member.hears()
            late = encode_chunk(ChunkKind.GROUP, 1, 2, 0, 1, [], b"", CLOCK_SUSPECT)
            member.inlet.on_message([late.raw])
            assert not member.worker.pulse.clock_suspect
            assert (await fetch(member.port, "/_health"))[0] == 200

    loop_run(story())


def test_without_the_database_it_is_degraded_and_red_once_events_wait_for_it(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member, member.stream() as stream:
            log.flags = DATABASE_AWAY
            await member.hears()
            status, body = await fetch(member.port, "/_health")
            assert (status, body["status"], body["reason"]) == (200, "degraded", "database")
            log.flags = DATABASE_AWAY | EVENTS_HELD
            await member.hears()
            status, body = await fetch(member.port, "/_health")
            assert (status, body["error"], body["reason"]) == (503, "Unhealthy", "database")
            member.emit(1)
            assert await seqs(stream, 1) == [1]
            log.flags = 0
            await member.hears()
            status, body = await fetch(member.port, "/_health")
            assert (status, body["status"]) == (200, "ok")

    loop_run(story())


def test_a_disk_that_is_low_is_told_in_health_and_stops_nothing(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member, member.stream() as stream:
            log.flags = DISK_LOW
            await member.hears()
            status, body = await fetch(member.port, "/_health")
            assert (status, body["status"], body["reason"]) == (200, "degraded", "disk")
            member.emit(1)
            assert await seqs(stream, 1) == [1]

    loop_run(story())


def test_the_database_is_asked_on_a_clock_of_its_own(
    loop_run: LoopRun, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadcast.worker.DATABASE_CHECK_S", 0.02)

    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, database_url=postgres_url) as member:
            pulse = member.worker.pulse
            # Nobody asks for anything, and nothing happens.
            for _ in range(3):
                before_s = pulse.database_s
                await until(lambda: pulse.database_s != before_s)  # noqa: B023 - awaited here
            assert (await fetch(member.port, "/_health"))[1]["status"] == "ok"
        monkeypatch.setattr("broadcast.health.DATABASE_SILENCE_S", 0.3)
        monkeypatch.setattr("broadcast.store.DATABASE_WAIT_S", 0.05)
        async with member_of(FakeLog(), tmp_path) as member, member.stream() as stream:
            pulse = member.worker.pulse
            began_s = pulse.database_s
            assert began_s is not None
            loop = asyncio.get_running_loop()
            # It was asked a few times by then, and that alone is no answer.
            await until(lambda: loop.time() - began_s > 0.8)
            status, body = await fetch(member.port, "/_health")
            assert (status, body["status"], body["reason"]) == (200, "degraded", "database")
            member.emit(1)
            assert await seqs(stream, 1) == [1]

    loop_run(story())


def test_the_end_tells_each_consumer_its_last_seq_on_a_frame(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member, member.stream() as stream:
            member.emit(3)
            await until(lambda: member.fanout.live_seq == 4)
            began_s = asyncio.get_running_loop().time()
            member.stopping.set()
            assert await seqs(stream, 3) == [1, 2, 3]
            with pytest.raises(ConnectionClosed) as closed:
                await stream.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
            assert closed.value.rcvd.reason == "restarting; last seq 3"
            await member.running
            assert asyncio.get_running_loop().time() - began_s < 5
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", member.port)

    loop_run(story())


def test_the_end_does_not_wait_for_a_consumer_that_never_reads(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        limits = with_limits(drain_s=0.3, slice_bytes=100_000, high_water_bytes=100_000)
        async with member_of(log, tmp_path, limits=limits) as member:
            reader, writer = await asyncio.open_connection("127.0.0.1", member.port, limit=1024)
            writer.write(
                b"GET /xrpc/com.atproto.sync.subscribeRepos HTTP/1.1\r\nHost: x\r\n"
                b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            while not any(outlet.blocked for outlet in member.fanout.outlets()):
                member.emit(10, size=100_000)
                await asyncio.sleep(0.01)
            began_s = asyncio.get_running_loop().time()
            member.stopping.set()
            await member.running
            assert asyncio.get_running_loop().time() - began_s < 3
            writer.transport.abort()

    loop_run(story())
