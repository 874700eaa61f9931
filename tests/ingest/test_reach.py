"""Each step on the way to a host has a limit of its own, and a failure says which it was."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from common.names import Address, Names, NoAddress
from common.target import Target
from ingest.config import Limits
from ingest.connection import Connection, ConnectionFailed
from ingest.reach import reach
from tests.fix_loop import LoopRun
from tests.ingest.fix_host import RawHost, Visit

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
