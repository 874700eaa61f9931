"""Does a lean host say what a host says? Cursors, pings, faults, TLS, its few HTTP answers."""

from __future__ import annotations

import asyncio
import socket
import ssl
import urllib.request

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake

from tests.fix_loop import LoopRun
from tests.simnet import Consumer, Network, NetworkConfig, compare
from tests.simnet.lean import LeanHost
from tests.simnet.tls import Certificate


def network(hosts: int = 1, *, tls: bool = False) -> Network:
    kinds = (Certificate.GOOD,) * hosts if tls else ()
    return Network(NetworkConfig(hosts=hosts, accounts=hosts, records=5, lean=True, tls=kinds))


@pytest.mark.parametrize("tls", [False, True])
def test_a_reader_gets_everything_once_through_cuts_and_a_closed_port(
    loop_run: LoopRun,
    tls: bool,
) -> None:
    async def story() -> None:
        async with network(tls=tls) as net:
            (host,) = net.hosts
            assert type(host) is LeanHost
            context = ssl.create_default_context(cafile=net.ca_file) if tls else None
            frames: list[bytes] = []
            reader = Consumer(host.stream_url, 0, tls=context, keep=frames.append)
            async with reader:
                net.commit()
                await reader.wait_for(lambda: len(frames) == len(net.truth.entries))
                host.cut()
                net.commit()
                await host.close()
                net.commit()
                while host.connections:
                    await asyncio.sleep(0)
                # Nobody listens there, and nobody else gets the port.
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection("127.0.0.1", host.port)
                with socket.socket() as other, pytest.raises(OSError, match="in use"):
                    other.bind(("127.0.0.1", host.port))
                await host.start()
                await reader.wait_for(lambda: len(frames) >= len(net.truth.entries))
                assert host.caught_up()
            # A relay's number is unique in all; so is that of the one host.
            assert compare(net.truth, frames).ok

    loop_run(story())


def test_a_lean_host_answers_pings_and_closes(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with network() as net:
            async with connect(net.hosts[0].stream_url) as line:
                await asyncio.wait_for(await line.ping(b"there?"), 10)
            assert line.close_code is not None
            while net.hosts[0].connections:
                await asyncio.sleep(0)

    loop_run(story())


def test_a_lean_host_misbehaves_on_demand(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with network() as net:
            host = net.hosts[0]
            async with connect(f"{host.stream_url}?cursor=99") as line:
                assert b"FutureCursor" in await asyncio.wait_for(line.recv(decode=False), 10)
            host.faults.reset_every_s = 0.01
            async with connect(host.stream_url) as line:
                await asyncio.wait_for(line.wait_closed(), 10)
            host.faults.reset_every_s = None
            host.faults.close_on_accept = True
            with pytest.raises((InvalidHandshake, OSError, EOFError)):
                await connect(host.stream_url)
            host.faults.close_on_accept = False
            host.faults.silent_handshake = True
            with pytest.raises(TimeoutError):
                await connect(host.stream_url, open_timeout=0.05)

    loop_run(story())


def test_a_lean_host_describes_itself(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with network() as net:
            url = f"{net.hosts[0].url}/xrpc/com.atproto.server.describeServer"

            def ask() -> bytes:
                with urllib.request.urlopen(url, timeout=10) as answer:
                    body: bytes = answer.read()
                return body

            assert b'"did": "did:web:localhost' in await asyncio.to_thread(ask)

    loop_run(story())
