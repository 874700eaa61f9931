"""Each step on the way to a host has a limit of its own, and a failure says which it was."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Self, cast

import pytest
from websockets.utils import accept_key

from common.names import Address, Names, NoAddress
from common.target import Target
from ingest.config import Limits
from ingest.connection import Connection, ConnectionFailed
from ingest.reach import reach
from ingest.splitter import Message
from tests.fix_loop import LoopRun
from tests.ingest.fix_host import RawHost, Visit
from tests.ingest.test_splitter import ws

LIMITS = Limits(dns_s=0.2, tcp_s=5.0, tls_s=0.2, handshake_s=0.2)


class Told:
    """Names that a test answers."""

    def __init__(self, *hosts: str, answer: Callable[[], Awaitable[None]] | None = None) -> None:
        self._found = tuple(Address(socket.AF_INET, host) for host in hosts)
        self._answer = answer
        self.internal: list[bool] = []

    async def resolve(self, name: str, *, internal: bool = False) -> tuple[Address, ...]:
        self.internal.append(internal)
        if self._answer is not None:
            await self._answer()
        return self._found


async def reached(
    told: Told, port: int, *, tls: bool = False, limits: Limits = LIMITS
) -> Connection:
    """A connection whose handshake is done. Raises: ConnectionFailed."""
    target = Target(f"host.example:{port}", tls)
    connection = Connection(target.stream_uri(None), lambda _messages: None, ping_s=9.0)
    try:
        await reach(
            connection, target, limits,
            names=cast(Names, told), tls=ssl.create_default_context(), internal=True,
        )  # fmt: skip
    except ConnectionFailed:
        connection.fail("not reached")
        raise
    return connection


async def hang() -> None:
    await asyncio.sleep(30)


async def no_address() -> None:
    raise NoAddress("host.example: unknown")


async def shake(visit: Visit) -> None:
    await visit.shake()
    await visit.until_gone()


async def say_nothing(visit: Visit) -> None:
    await visit.until_gone()


@pytest.mark.parametrize(
    ("script", "told", "tls", "why"),
    [
        pytest.param(shake, Told(answer=hang), False, "DNS: timed out", id="name servers silent"),
        pytest.param(shake, Told(answer=no_address), False, "DNS: .*unknown", id="no such name"),
        pytest.param(shake, Told(), False, "DNS: no address", id="no address"),
        pytest.param(say_nothing, Told("127.0.0.1"), True, "TCP and TLS: ", id="no TLS"),
        pytest.param(say_nothing, Told("127.0.0.1"), False, "handshake: timed out", id="no answer"),
    ],
)
def test_a_step_that_takes_too_long_is_named(
    loop_run: LoopRun, script: Callable[[Visit], Awaitable[None]], told: Told, tls: bool, why: str
) -> None:
    async def story() -> None:
        async with RawHost(script) as host:
            with pytest.raises(ConnectionFailed, match=why):
                async with asyncio.timeout(20):
                    await reached(told, host.port, tls=tls)

    loop_run(story())


def test_a_port_that_is_closed_is_told_as_such(loop_run: LoopRun) -> None:
    async def story() -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionFailed, match="TCP: Connection"):
                await reached(Told("127.0.0.1"), held.getsockname()[1], limits=Limits())

    loop_run(story())


def test_another_address_is_tried_when_one_refuses(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with RawHost(shake) as host:
            connection = await reached(Told("127.0.0.2", "127.0.0.1"), host.port, limits=Limits())
            assert connection.opened.done()
            connection.close()

    loop_run(story())


class LateHost:
    """A host that answers the handshake, with a message behind it, while we are held up; in a thread of its own."""

    def __init__(self) -> None:
        self.asked, self.may_answer, self.answered, self.over = (
            threading.Event() for _ in range(4)
        )
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.may_answer.set()
        self.over.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        with self._listener.accept()[0] as stream:
            request = b""
            while b"\r\n\r\n" not in request:
                request += stream.recv(4096)
            key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0].decode()
            self.asked.set()
            self.may_answer.wait(20)
            stream.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n" + ws(b"said")
            )
            self.answered.set()
            self.over.wait(60)


def test_an_answer_that_comes_in_the_round_in_which_its_time_ends_is_one(loop_run: LoopRun) -> None:
    """Or else it is dialled again, and read over two connections: the first is open, and nobody's."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        heard: list[Message] = []
        with LateHost() as host:
            target = Target(f"host.example:{host.port}", tls=False)
            connection = Connection(target.stream_uri(None), heard.extend, ping_s=9.0)
            reaching = asyncio.create_task(
                reach(
                    connection, target, LIMITS, names=cast(Names, Told("127.0.0.1")),
                    tls=ssl.create_default_context(), internal=True,
                )
            )  # fmt: skip
            await asyncio.to_thread(host.asked.wait, 20)
            # Now the loop is away, until both are there: the answer, and the end of the time for it.
            ends_s = loop.time() + LIMITS.handshake_s
            host.may_answer.set()
            host.answered.wait(20)
            while time.monotonic() <= ends_s:
                pass
            try:
                await reaching
            except ConnectionFailed:
                assert not heard, "given up, and read all the same"
            else:
                assert connection.opened.done()
                while not heard:
                    await asyncio.sleep(0)
                assert heard == [b"said"]
            connection.fail("the test is over")

    loop_run(story())
