"""broadcast.subscriber: the handshake in any pieces, control frames, and every way a stream ends."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from websockets.exceptions import ConnectionClosed

from broadcast.subscriber import Subscriber
from broadcast.version import SERVER
from tests.broadcast.fakes import (
    FakeLog,
    Member,
    member_of,
    message_of,
    seq_of,
    seqs,
    until,
    with_limits,
)
from tests.broadcast.raw import Raw, handshake, masked
from tests.fix_loop import LoopRun

BINARY, CLOSE, PING, PONG = 2, 8, 9, 10
FUTURE = bytes.fromhex("a1626f7020")
OUTDATED = bytes.fromhex("a261746523696e666f626f7001")


def is_info(message: str | bytes) -> bool:
    return isinstance(message, bytes) and message.startswith(OUTDATED)


def is_error(message: str | bytes) -> bool:
    return isinstance(message, bytes) and message.startswith(FUTURE)


def dropped(reason: str) -> float:
    value = REGISTRY.get_sample_value("standpipe_consumers_dropped_total", {"reason": reason})
    return value or 0.0


# --- the handshake ---


@pytest.mark.parametrize("split", ["bytes", "every offset", "coalesced"])
def test_the_handshake_may_come_in_any_segments(
    loop_run: LoopRun, tmp_path: Path, split: str
) -> None:
    head = handshake(b"?cursor=0")

    async def story() -> None:
        log = FakeLog()
        log.append(1)
        async with member_of(log, tmp_path) as member:

            async def check(*pieces: bytes) -> None:
                raw = await Raw.to(member.port)
                for piece in pieces:
                    await raw.send(piece)
                    await asyncio.sleep(0)
                assert (await raw.response(head_only=True)).status == 101
                assert await raw.frame() == (BINARY, message_of(1))
                raw.cut()

            if split == "bytes":
                await check(*[head[at : at + 1] for at in range(len(head))])
            elif split == "every offset":
                for at in range(1, len(head)):
                    await check(head[:at], head[at:])
            else:
                raw = await Raw.to(member.port)
                # Handshake, a whole ping, and the beginning of another one in one segment.
                ping = masked(PING, b"second")
                await raw.send(head + masked(PING, b"first") + ping[:3])
                assert (await raw.response(head_only=True)).status == 101
                got = [await raw.frame(), await raw.frame()]
                assert (BINARY, message_of(1)) in got
                assert (PONG, b"first") in got
                await raw.send(ping[3:])
                assert await raw.frame() == (PONG, b"second")
                raw.cut()

    loop_run(story())


def test_the_101_says_who_we_are_and_selects_nothing(loop_run: LoopRun, tmp_path: Path) -> None:
    more = (
        b"Origin: https://elsewhere.example\r\nSec-WebSocket-Protocol: xrpc.v1.json, xrpc.v0.cbor\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    )

    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            raw = await Raw.to(member.port)
            await raw.send(handshake(more=more))
            response = await raw.response(head_only=True)
            assert response.status == 101
            assert response.headers["server"] == SERVER
            assert response.headers["sec-websocket-accept"] == "ICX+Yqv66kxgM0FcWaLWlFLwTAI="
            assert "sec-websocket-protocol" not in response.headers
            assert "sec-websocket-extensions" not in response.headers
            raw.cut()

    loop_run(story())


@pytest.mark.parametrize(
    ("request_bytes", "status", "error", "header"),
    [
        pytest.param(
            handshake(b"?cursor=-1"), 400, "InvalidRequest", None, id="a negative cursor is 400"
        ),
        pytest.param(
            handshake(b"?cursor=garbage"), 400, "InvalidRequest", None, id="garbage is 400"
        ),
        pytest.param(
            handshake(b"?cursor=1&cursor=2"), 400, "InvalidRequest", None, id="two cursors are 400"
        ),
        pytest.param(
            handshake(b"?cursor=9223372036854775808"), 400, "InvalidRequest", None,
            id="a cursor beyond 64 bits is 400",
        ),
        pytest.param(
            handshake(method=b"POST"), 405, "MethodNotAllowed", ("allow", "GET"),
            id="POST is 405 even with an upgrade",
        ),
        pytest.param(
            handshake(method=b"HEAD"), 405, "", ("allow", "GET"), id="HEAD is 405",
        ),
        pytest.param(
            handshake(method=b"OPTIONS"), 405, "MethodNotAllowed", ("allow", "GET"),
            id="OPTIONS that is no preflight is 405",
        ),
        pytest.param(
            handshake().replace(b"Upgrade: websocket\r\n", b""), 426, "UpgradeRequired",
            ("upgrade", "websocket"), id="no Upgrade header is 426",
        ),
        pytest.param(
            handshake().replace(b"Connection: Upgrade\r\n", b""), 426, "UpgradeRequired",
            ("upgrade", "websocket"), id="no Connection: Upgrade is 426",
        ),
        pytest.param(
            handshake().replace(b"Upgrade: websocket", b"Upgrade: h2c"), 426, "UpgradeRequired",
            ("upgrade", "websocket"), id="another upgrade is 426",
        ),
        pytest.param(
            handshake().replace(b"Version: 13", b"Version: 12"), 426, "InvalidRequest",
            ("sec-websocket-version", "13"), id="another version is told ours",
        ),
        pytest.param(
            handshake().replace(b"Key: AAAA", b"Key: A"), 400, "InvalidRequest", None,
            id="a short key is 400",
        ),
        pytest.param(
            handshake(more=b"Content-Length: 5\r\n"), 400, "InvalidRequest", None,
            id="a handshake with a body is 400",
        ),
        pytest.param(
            handshake().replace(b"subscribeRepos", b"subscribeRepos/"), 404, "XRPCNotSupported",
            None, id="a trailing slash is another path",
        ),
        pytest.param(
            handshake().replace(b"/xrpc/", b"/relay/xrpc/"), 404, "NotFound", None,
            id="a prefix is another path",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_upgraded_is_told_why(
    loop_run: LoopRun, tmp_path: Path,
    request_bytes: bytes, status: int, error: str, header: tuple[str, str] | None,
) -> None:  # fmt: skip
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            raw = await Raw.to(member.port)
            await raw.send(request_bytes)
            response = await raw.response(head_only=request_bytes.startswith(b"HEAD"))
            assert response.status == status
            assert response.headers["server"] == SERVER
            assert response.headers["access-control-allow-origin"] == "*"
            assert response.headers["content-type"] == "application/json"
            if error:
                assert json.loads(response.body)["error"] == error
                assert json.loads(response.body)["message"]
            if header is not None:
                assert response.headers[header[0]] == header[1]
            raw.cut()

    loop_run(story())


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(b"Connection: keep-alive\r\n", id="a second Connection header"),
        pytest.param(b"X-Forwarded-For: 192.0.2.1\r\n", id="a forwarding header"),
    ],
)
def test_harmless_headers_do_no_harm(loop_run: LoopRun, tmp_path: Path, more: bytes) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            for head in (handshake(more=more), handshake(b"?x=1&limit=%20", more)):
                raw = await Raw.to(member.port)
                await raw.send(head.replace(b"Upgrade: websocket", b"upgrade: WebSocket"))
                assert (await raw.response(head_only=True)).status == 101
                raw.cut()

    loop_run(story())


def test_one_stream_too_many_is_refused(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, limits=with_limits(consumers=1)) as member:
            async with member.stream():
                raw = await Raw.to(member.port)
                await raw.send(handshake())
                response = await raw.response()
                assert (response.status, response.headers["retry-after"]) == (503, "5")
                assert json.loads(response.body)["error"] == "ServiceUnavailable"
                raw.cut()
            await until(lambda: member.fanout.streams == 0)
            async with member.stream():
                pass

    loop_run(story())


def test_one_address_has_so_many_streams_and_others_are_served(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        limits = with_limits(address_consumers=2)
        async with member_of(
            FakeLog(), tmp_path, limits=limits, trusted_proxies=("127.0.0.1",)
        ) as member:

            async def ask(address: bytes) -> tuple[int, Raw]:
                raw = await Raw.to(member.port)
                more = b"X-Forwarded-For: %s\r\n" % address if address else b""
                await raw.send(handshake(more=more))
                return (await raw.response(head_only=True)).status, raw

            held = [await ask(b"8.8.8.8") for _ in range(2)]
            # The proxy itself, and our own network, may be many.
            held += [await ask(b"8.8.4.4"), *[await ask(b"10.1.2.3") for _ in range(4)]]
            held += [await ask(b"") for _ in range(4)]
            assert {status for status, _ in held} == {101}
            raw = await Raw.to(member.port)
            await raw.send(handshake(more=b"X-Forwarded-For: 8.8.8.8\r\n"))
            refused = await raw.response()
            assert (refused.status, refused.headers["retry-after"]) == (429, "5")
            assert json.loads(refused.body)["error"] == "RateLimitExceeded"
            held[0][1].cut()
            await until(lambda: member.fanout.streams == len(held) - 1)
            again, one_more = await ask(b"8.8.8.8")
            assert again == 101
            for each in (raw, one_more, *[raw for _, raw in held]):
                each.cut()
            await until(lambda: not member.worker.service.streams)

    loop_run(story())


# --- cursors on the wire ---


def test_a_future_cursor_gets_one_error_frame_and_the_end(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        log.append(4)
        async with member_of(log, tmp_path) as member:
            raw = await Raw.to(member.port)
            await raw.send(handshake(b"?cursor=5"))
            assert (await raw.response(head_only=True)).status == 101
            opcode, message = await raw.frame()
            assert (opcode, message[:5]) == (BINARY, FUTURE)
            assert b"eerrorlFutureCursor" in message
            opcode, payload = await raw.frame()
            assert (opcode, payload[:2], payload[2:]) == (CLOSE, b"\x03\xf0", b"FutureCursor")
            member.emit(3)
            await raw.send(masked(CLOSE, b"\x03\xf0"))
            assert await raw.ended() == b""
            raw.cut()
            assert member.fanout.streams == 0

    loop_run(story())


def test_an_outdated_cursor_is_told_first_and_then_gets_the_whole_window(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        for _ in range(10):
            log.append(1)
        log.purge(6)
        assert log.oldest_seq == 6
        async with member_of(log, tmp_path) as member:
            async with member.stream("?cursor=3") as stream:
                first = await stream.recv()
                assert isinstance(first, bytes)
                assert first.startswith(OUTDATED)
                assert b"dname" in first
                assert await seqs(stream, 5) == [6, 7, 8, 9, 10]
                member.emit(1)
                assert await seqs(stream, 1) == [11]
            async with member.stream("?cursor=5") as stream:
                assert await seqs(stream, 5) == [6, 7, 8, 9, 10]
            async with member.stream("?cursor=0") as stream:
                assert await seqs(stream, 5) == [6, 7, 8, 9, 10]

    loop_run(story())


def test_an_outdated_cursor_is_told_even_when_nothing_is_left(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        log.append(1)
        log.append(1)
        log.purge(100)
        async with member_of(log, tmp_path) as member, member.stream("?cursor=1") as stream:
            assert is_info(await stream.recv())
            member.emit(1)
            assert await seqs(stream, 1) == [3]

    loop_run(story())


@pytest.mark.parametrize(
    ("query", "told"),
    [
        pytest.param("?cursor=0", False, id="the whole window"),
        pytest.param("?cursor=2", True, id="a seq that is gone by then"),
        pytest.param("?cursor=5", False, id="the last seq that is gone by then"),
    ],
)
def test_retention_that_is_quicker_than_the_first_read_moves_the_start(
    loop_run: LoopRun, tmp_path: Path, query: str, told: bool
) -> None:
    async def story() -> None:
        log = FakeLog()
        for _ in range(10):
            log.append(1)
        log.before_read = lambda: log.purge(6)
        async with member_of(log, tmp_path) as member, member.stream(query) as stream:
            if told:
                assert is_info(await stream.recv())
            assert await seqs(stream, 5) == [6, 7, 8, 9, 10]

    loop_run(story())


def test_a_reader_of_the_log_never_shows_what_is_not_durable(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        for _ in range(10):
            log.append(1)
        log.hidden = 7
        async with member_of(log, tmp_path, persist=False) as member:
            await until(lambda: member.worker.service.fanout is not None)
            async with member.stream("?cursor=1") as stream:
                assert await seqs(stream, 7) == [1, 2, 3, 4, 5, 6, 7]
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(stream.recv(), 0.1)
            async with member.stream("?cursor=8") as stream:
                assert is_error(await stream.recv())

    loop_run(story())


# --- what a consumer says ---


def test_a_ping_is_answered_and_messages_are_stepped_over(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            raw = await Raw.to(member.port)
            await raw.send(handshake())
            await raw.response(head_only=True)
            await raw.send(masked(1, b"\xff not even text") + masked(2, b"x" * 5000))
            await raw.send(masked(2, b"a", fin=False) + masked(0, b"b", fin=False))
            await raw.send(masked(PING, b"there?"), piece=1)
            assert await raw.frame() == (PONG, b"there?")
            member.emit(1)
            assert await raw.frame() == (BINARY, message_of(1))
            raw.cut()

    loop_run(story())


def test_an_endless_message_is_stepped_over_in_bounded_memory(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        limits = with_limits(heard_bytes=1_000_000)
        async with member_of(FakeLog(), tmp_path, limits=limits) as member:
            raw = await Raw.to(member.port)
            await raw.send(handshake())
            await raw.response(head_only=True)
            await raw.send(masked(2, b"", fin=False))
            for _ in range(40):
                await raw.send(masked(0, bytes(20_000), fin=False))
            await raw.send(masked(PING, b""))
            assert await raw.frame() == (PONG, b"")
            (outlet,) = member.fanout.outlets()
            assert isinstance(outlet, Subscriber)
            assert len(outlet._conn.reader.buffer) < 70_000
            assert not outlet._conn.events
            raw.cut()

    loop_run(story())


def test_a_frame_without_end_is_closed_with_1009(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            before = dropped("bad_frame")
            raw = await Raw.to(member.port)
            await raw.send(handshake())
            await raw.response(head_only=True)
            await raw.send(masked(2, bytes(100_000))[:100])
            opcode, payload = await raw.frame()
            assert (opcode, payload[:2]) == (CLOSE, b"\x03\xf1")
            assert await raw.ended() == b""
            assert dropped("bad_frame") == before + 1
            raw.cut()

    loop_run(story())


def test_a_flood_is_read_at_a_fixed_rate_and_delays_nobody(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member, member.stream() as stream:
            raw = await Raw.to(member.port)
            await raw.send(handshake())
            await raw.response(head_only=True)
            raw.writer.write(masked(PING, b"") * 2_000_000)
            await asyncio.sleep(0.05)
            for count in range(1, 51):
                # All of it happens in this thread; what others take of the machine is no delay of ours.
                began_s = time.thread_time()
                member.emit(1)
                assert await seqs(stream, 1) == [count]
                assert time.thread_time() - began_s < 0.25
            pongs = 0
            while pongs < 2000:
                opcode, _payload = await raw.frame()
                pongs += opcode == PONG
            raw.cut()

    loop_run(story())


def test_pings_of_a_consumer_that_reads_nothing_pile_up_nowhere(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            raw = await blocked_consumer(member)
            (outlet,) = member.fanout.outlets()
            assert isinstance(outlet, Subscriber)
            held = outlet._transport.get_write_buffer_size()
            for number in range(500):
                await raw.send(masked(PING, b"%d" % number))
            await until(lambda: outlet._owed_pong[2:] == b"499")
            assert outlet._transport.get_write_buffer_size() == held
            raw.read_on()
            while (await raw.frame()) != (PONG, b"499"):
                pass
            raw.cut()

    loop_run(story())


def test_a_consumers_close_is_answered(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            raw = await Raw.to(member.port)
            await raw.send(handshake())
            await raw.response(head_only=True)
            await raw.send(masked(CLOSE, b"\x03\xe8bye"))
            assert await raw.frame() == (CLOSE, b"\x03\xe8bye")
            assert await raw.ended() == b""
            assert member.fanout.streams == 0
            raw.cut()

    loop_run(story())


# --- slow consumers ---


async def blocked_consumer(member: Member, query: bytes = b"") -> Raw:
    """A consumer that reads nothing, and events until its socket is full."""
    raw = await Raw.to(member.port, receive_bytes=4096)
    await raw.send(handshake(query))
    await raw.response(head_only=True)
    raw.stop_reading()
    fanout = member.fanout
    async with asyncio.timeout(20):
        while not any(outlet.blocked for outlet in fanout.outlets()):
            member.emit(5, size=50_000)
            await asyncio.sleep(0.002)
    return raw


def test_a_consumer_that_never_reads_costs_nobody_anything(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        limits = with_limits(stall_s=30.0, ring_bytes=2_000_000)
        async with member_of(log, tmp_path, limits=limits) as member:
            stuck = await blocked_consumer(member)
            (outlet,) = member.fanout.outlets()
            assert isinstance(outlet, Subscriber)
            place = outlet.consumer.next_seq
            bound = limits.high_water_bytes + limits.slice_bytes + 1_000_000
            async with member.stream(f"?cursor={log.next_seq - 1}") as stream:
                first = log.next_seq - 1
                assert await seqs(stream, 1) == [first]
                for _ in range(100):
                    member.emit(5, size=20_000)
                assert await seqs(stream, 500) == list(range(first + 1, first + 501))
                # It has not moved, and holds no more than a slice above its mark.
                assert outlet.consumer.next_seq == place
                assert outlet._transport.get_write_buffer_size() < bound
                assert member.fanout._ring.held_bytes < 3_000_000
            stuck.cut()
            await until(lambda: member.fanout.streams == 0)

    loop_run(story())


def test_a_consumer_that_reads_again_goes_on_from_its_place(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        limits = with_limits(ring_bytes=1_000_000)
        async with member_of(log, tmp_path, limits=limits) as member:
            raw = await blocked_consumer(member)
            for _ in range(60):
                member.emit(5, size=20_000)
            await asyncio.sleep(0.05)
            raw.read_on()
            for seq in range(1, log.next_seq):
                opcode, message = await raw.frame()
                assert (opcode, seq_of(message)) == (BINARY, seq)
            member.emit(1)
            assert seq_of((await raw.frame())[1]) == log.next_seq - 1
            assert log.reads
            raw.cut()

    loop_run(story())


def test_too_slow_is_told_on_a_frame_with_all_that_was_promised(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        limits = with_limits(stall_s=0.5, grace_s=10.0)
        async with member_of(log, tmp_path, limits=limits) as member:
            before = dropped("too_slow")
            raw = await blocked_consumer(member)
            await until(lambda: member.fanout.streams == 0)
            assert dropped("too_slow") == before + 1
            raw.read_on()
            last = 0
            while True:
                opcode, message = await raw.frame()
                assert opcode == BINARY
                if message.startswith(FUTURE):
                    break
                assert seq_of(message) == last + 1
                last += 1
            assert b"eerroroConsumerTooSlow" in message
            opcode, payload = await raw.frame()
            assert (opcode, payload[:2]) == (CLOSE, b"\x03\xf0")
            assert payload[2:].decode() == f"ConsumerTooSlow; last seq {last}"
            await raw.send(masked(CLOSE, payload[:2]))
            assert await raw.ended() == b""
            raw.cut()
            # With that cursor there is no gap.
            async with member.stream(f"?cursor={last}") as stream:
                assert await seqs(stream, 1) == [last]

    loop_run(story())


def test_who_does_not_read_its_farewell_is_cut(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        limits = with_limits(stall_s=0.3, grace_s=0.2)
        async with member_of(FakeLog(), tmp_path, limits=limits) as member:
            raw = await blocked_consumer(member)
            (outlet,) = member.fanout.outlets()
            assert isinstance(outlet, Subscriber)
            await until(lambda: outlet not in outlet._connections)
            raw.cut()

    loop_run(story())


def test_a_place_that_left_the_retained_log_is_too_slow(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        log = FakeLog()
        limits = with_limits(ring_bytes=1_000_000)
        async with member_of(log, tmp_path, limits=limits) as member:
            before = dropped("outdated")
            raw = await blocked_consumer(member)
            for _ in range(60):
                member.emit(5, size=20_000)
            await asyncio.sleep(0.05)
            log.purge(log.next_seq - 10)
            raw.read_on()
            while not (frame := await raw.frame())[1].startswith(FUTURE):
                pass
            assert b"eerroroConsumerTooSlow" in frame[1]
            assert (await raw.frame())[1][:2] == b"\x03\xf0"
            assert dropped("outdated") == before + 1
            raw.cut()

    loop_run(story())


def test_a_silent_consumer_is_asked_and_let_go_when_it_does_not_answer(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        limits = with_limits(ping_s=0.1, stall_s=1.0, grace_s=0.2)
        async with member_of(FakeLog(), tmp_path, limits=limits) as member:
            before = dropped("gone")
            raw = await Raw.to(member.port)
            await raw.send(handshake())
            await raw.response(head_only=True)
            opcode, payload = await raw.frame()
            assert (opcode, len(payload)) == (PING, 4)
            opcode, payload = await raw.frame()
            assert (opcode, payload[:2]) == (CLOSE, b"\x03\xf3")
            assert await raw.ended() == b""
            assert dropped("gone") == before + 1
            raw.cut()

    loop_run(story())


def test_a_consumer_that_answers_pings_stays(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        limits = with_limits(ping_s=0.1, stall_s=1.2)
        async with member_of(FakeLog(), tmp_path, limits=limits) as member:
            raw = await Raw.to(member.port)
            await raw.send(handshake())
            await raw.response(head_only=True)
            for _ in range(3):
                opcode, payload = await raw.frame()
                assert opcode == PING
                await raw.send(masked(PONG, payload))
            assert member.fanout.streams == 1
            raw.cut()

    loop_run(story())


def test_a_damaged_range_ends_only_who_asks_for_it(loop_run: LoopRun, tmp_path: Path) -> None:
    from common.log import Damaged

    async def story() -> None:
        log = FakeLog()
        log.append(3)
        async with member_of(log, tmp_path) as member, member.stream() as other:

            def broken() -> None:
                raise Damaged("00001.seg, byte 17: the CRC does not match")

            log.before_read = broken
            async with member.stream("?cursor=1") as stream:
                with pytest.raises(ConnectionClosed) as closed:
                    await stream.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1011
            member.emit(1)
            assert await seqs(other, 1) == [4]

    loop_run(story())


def test_thousands_of_comings_and_goings_leave_nobody_behind(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        log.append(3)
        async with member_of(log, tmp_path) as member:

            async def visit(number: int) -> None:
                raw = await Raw.to(member.port)
                await raw.send(handshake(b"?cursor=%d" % (number % 4)))
                await raw.response(head_only=True)
                seq = seq_of((await raw.frame())[1])
                assert seq == max(1, number % 4)
                if number % 3 == 0:
                    await raw.send(masked(CLOSE, b""))
                if number % 3 == 1:
                    raw.writer.write_eof()
                raw.cut()

            for start in range(0, 600, 50):
                member.emit(1)
                await asyncio.gather(*[visit(number) for number in range(start, start + 50)])
            fanout = member.fanout
            await until(lambda: fanout.streams == 0)
            assert not fanout._live
            assert not fanout._ahead

    loop_run(story())
