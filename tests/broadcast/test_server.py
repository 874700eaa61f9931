"""broadcast.server: requests in any pieces, none of them slow for ever."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path

import pytest

from broadcast.config import HttpLimits
from broadcast.server import bind
from broadcast.subscriber import Subscriber
from broadcast.version import SERVER
from tests.broadcast.fakes import FakeLog, member_of, seqs, with_limits
from tests.broadcast.raw import Raw, handshake
from tests.fix_loop import LoopRun

CRAWL = b"POST /xrpc/com.atproto.sync.requestCrawl HTTP/1.1\r\nHost: relay\r\n"
BODY = b'{"hostname": "not a name"}'
WITH_LENGTH = CRAWL + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = (
    CRAWL
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"5\r\n"
    + BODY[:5]
    + b"\r\n%x;ext=1\r\n" % (len(BODY) - 5)
    + BODY[5:]
    + b"\r\n0\r\n\r\n"
)
LIVE = b"GET /_live HTTP/1.1\r\nHost: relay\r\n\r\n"
SLOW = HttpLimits(head_s=0.4, body_s=0.4, idle_s=5)


@pytest.mark.parametrize(
    "request_bytes",
    [pytest.param(WITH_LENGTH, id="with a length"), pytest.param(CHUNKED, id="chunked")],
)
def test_a_post_may_come_in_any_segments(
    loop_run: LoopRun, tmp_path: Path, request_bytes: bytes
) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            raw = await Raw.to(member.port)

            async def answered() -> None:
                response = await raw.response()
                assert response.status == 400
                # The whole body was read: half of it would not be JSON.
                body = json.loads(response.body)
                assert body["error"] == "InvalidRequest"
                assert body["message"].startswith("hostname is no host name")

            await raw.send(request_bytes, piece=1)
            await answered()
            for at in range(1, len(request_bytes)):
                await raw.send(request_bytes[:at])
                await asyncio.sleep(0)
                await raw.send(request_bytes[at:])
                await answered()
            # All coalesced: three requests in one segment, answered in order.
            await raw.send(request_bytes + LIVE + request_bytes)
            await answered()
            assert (await raw.response()).status == 200
            await answered()
            raw.cut()

    loop_run(story())


def test_a_request_and_a_handshake_may_come_together(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        log = FakeLog()
        log.append(1)
        async with member_of(log, tmp_path) as member:
            raw = await Raw.to(member.port)
            await raw.send(LIVE + handshake(b"?cursor=0"))
            assert (await raw.response()).status == 200
            assert (await raw.response(head_only=True)).status == 101
            assert (await raw.frame())[0] == 2
            raw.cut()

    loop_run(story())


@pytest.mark.parametrize(
    ("sent", "piecewise"),
    [
        pytest.param(b"", False, id="nothing at all"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n", False, id="half a head"),
        pytest.param(handshake()[:-2], False, id="half a handshake"),
        pytest.param(handshake()[:-2] + b"X: " + b"x" * 10_000, True, id="a head byte by byte"),
        pytest.param(LIVE + LIVE[:-2], False, id="half a second head"),
        pytest.param(
            LIVE + LIVE[:-2] + b"X: " + b"x" * 10_000, True, id="a second head byte by byte"
        ),
        pytest.param(LIVE + b"+" + LIVE[:-2], False, id="half a second head behind the first"),
        pytest.param(WITH_LENGTH[:-3], False, id="half a body"),
        pytest.param(CHUNKED[:-9], False, id="half a chunked body"),
        pytest.param(LIVE + CHUNKED[:-9], False, id="half a second body"),
    ],
)
def test_a_slow_request_is_cut_at_its_deadline(
    loop_run: LoopRun, tmp_path: Path, sent: bytes, piecewise: bool
) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, http_limits=SLOW) as member:
            raw = await Raw.to(member.port)
            began_s = asyncio.get_running_loop().time()
            together = sent.startswith(LIVE + b"+")
            if together:
                await raw.send(sent.replace(b"+", b""))
                assert (await raw.response()).status == 200
            elif sent.startswith(LIVE):
                await raw.send(LIVE)
                assert (await raw.response()).status == 200

            async def drip() -> None:
                rest = b"" if together else sent.removeprefix(LIVE)
                if not piecewise:
                    raw.writer.write(rest)
                    return
                for at in range(len(rest)):
                    raw.writer.write(rest[at : at + 1])
                    await asyncio.sleep(0.005)

            dripping = asyncio.create_task(drip())
            response = await raw.response()
            assert response.status == 408
            assert response.headers["connection"] == "close"
            assert json.loads(response.body)["error"] == "InvalidRequest"
            dripping.cancel()
            # Who goes on sending into a closed connection is reset.
            with contextlib.suppress(ConnectionResetError):
                assert await raw.ended() == b""
            assert 0.3 < asyncio.get_running_loop().time() - began_s < 5
            raw.cut()

    loop_run(story())


def test_an_idle_connection_is_kept_for_a_while_only(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        limits = HttpLimits(head_s=0.2, idle_s=1)
        async with member_of(FakeLog(), tmp_path, http_limits=limits) as member:
            raw = await Raw.to(member.port)
            loop = asyncio.get_running_loop()
            answered_s = began_s = loop.time()
            # Not once more where the test was held up: it is closed by then.
            while loop.time() - began_s < 0.8 and loop.time() - answered_s < 0.8:
                await raw.send(LIVE)
                assert (await raw.response()).status == 200
                answered_s = loop.time()
                await asyncio.sleep(0.4)  # longer than a head may take, but nothing has begun
            assert await raw.ended() == b""
            assert loop.time() - answered_s < 4
            raw.cut()

    loop_run(story())


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"GET /_live HTTP/1.1\r\n" + b"X: " + b"x" * 20_000, id="one long header"),
        pytest.param(
            b"GET /_live HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 5000 + b"\r\n", id="many headers"
        ),
        pytest.param(b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", id="a long path"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", id="a TLS hello"),
        pytest.param(b"nonsense\r\n\r\n", id="nonsense"),
    ],
)
def test_what_is_not_http_is_refused_and_closed(
    loop_run: LoopRun, tmp_path: Path, request_bytes: bytes
) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, http_limits=SLOW) as member:
            raw = await Raw.to(member.port)
            raw.writer.write(request_bytes)
            response = await raw.response()
            assert response.status in (400, 408)
            assert response.headers["server"] == SERVER
            assert json.loads(response.body)["error"] == "InvalidRequest"
            raw.cut()

    loop_run(story())


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_too_large_is_413(loop_run: LoopRun, tmp_path: Path, chunked: bool) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            raw = await Raw.to(member.port)
            if chunked:
                raw.writer.write(CRAWL + b"Transfer-Encoding: chunked\r\n\r\n")
                raw.writer.write((b"4000\r\n" + bytes(0x4000) + b"\r\n") * 30)
            else:
                raw.writer.write(CRAWL + b"Content-Length: 10000000\r\n\r\n" + bytes(200_000))
            response = await raw.response()
            assert response.status == 413
            assert json.loads(response.body)["error"] == "PayloadTooLarge"
            raw.cut()

    loop_run(story())


def test_half_a_handshake_byte_by_byte_harms_nobody(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, http_limits=HttpLimits(head_s=3.0)) as member:
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            slow = [await Raw.to(member.port) for _ in range(50)]
            async with member.stream() as stream:
                for at in range(60):
                    for raw in slow:
                        if not raw.writer.is_closing():
                            raw.writer.write(handshake()[at : at + 1])
                    member.emit(1)
                    assert await seqs(stream, 1) == [at + 1]
            # A test that was held up went on sending into closed connections, and those are reset.
            in_time = loop.time() - began_s < 3.0
            for raw in slow:
                with contextlib.suppress(*(() if in_time else (OSError, EOFError))):
                    assert (await raw.response()).status == 408
                raw.cut()

    loop_run(story())


def test_one_connection_too_many_is_closed_at_once(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, limits=with_limits(connections=3)) as member:
            held = [await Raw.to(member.port) for _ in range(3)]
            for raw in held:
                await raw.send(LIVE)
                assert (await raw.response()).status == 200
            extra = await Raw.to(member.port)
            with contextlib.suppress(ConnectionResetError):
                assert await extra.ended() == b""
            for raw in (*held, extra):
                raw.cut()

    loop_run(story())


def test_one_address_has_so_many_sockets_and_a_stream_is_none_of_them(
    loop_run: LoopRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadcast.client.is_public", lambda _address: True)

    async def story() -> None:
        limits = with_limits(address_connections=3)
        async with member_of(FakeLog(), tmp_path, limits=limits) as member:

            async def ask(head: bytes) -> Raw:
                raw = await Raw.to(member.port)
                await raw.send(head)
                assert (await raw.response(head_only=True)).status in (101, 200)
                return raw

            held = [await ask(handshake()) for _ in range(5)]
            held += [await ask(LIVE) for _ in range(3)]
            extra = await Raw.to(member.port)
            with contextlib.suppress(ConnectionResetError):
                assert await extra.ended() == b""
            held[-1].cut()
            sockets = member.worker.service.sockets
            while not sockets.enter("127.0.0.1"):
                await asyncio.sleep(0.005)
            sockets.leave("127.0.0.1")
            held.append(await ask(LIVE))
            for raw in (*held, extra):
                raw.cut()
            while sockets:
                await asyncio.sleep(0.005)

    loop_run(story())


def test_siblings_share_the_public_port_and_nobody_else_does() -> None:
    with bind("127.0.0.1", 0, shared=True) as first:
        port = first.getsockname()[1]
        first.listen()
        with bind("127.0.0.1", port, shared=True) as second:
            second.listen()
        with pytest.raises(OSError, match="in use"):
            bind("127.0.0.1", port, shared=False)


def test_every_address_means_both_families() -> None:
    with bind("", 0, shared=True) as listening:
        port = listening.getsockname()[1]
        listening.listen()
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        if listening.family == socket.AF_INET6:
            with socket.create_connection(("::1", port), timeout=5):
                pass


def test_what_is_written_leaves_at_once(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member, member.stream():
            (outlet,) = member.fanout.outlets()
            assert isinstance(outlet, Subscriber)
            sock = outlet._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    loop_run(story())


@pytest.mark.parametrize(
    ("host", "family"),
    [
        pytest.param("127.0.0.1", socket.AF_INET, id="an IPv4 address"),
        pytest.param("localhost", None, id="a name"),
    ],
)
def test_one_address_is_bound_as_given(host: str, family: int | None) -> None:
    with bind(host, 0, shared=True) as listening:
        assert family in (None, listening.family)
        assert listening.getsockname()[0] in ("127.0.0.1", "::1")
