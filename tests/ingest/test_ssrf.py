"""A host whose name leads into our own network, or changes where it leads, or sends us elsewhere.

Lessons section 1, row "any host"; S-SEC-01. The same for documents: test_strangers; for who asks to be
crawled: tests/broadcast/test_crawl_bounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from common import names as names_module
from common.names import FOUND_S, Names
from common.target import Target
from ingest.config import Limits
from ingest.connection import Connection, ConnectionFailed
from ingest.reach import reach
from tests.fix_loop import LoopRun
from tests.ingest.fix_host import RawHost, Visit
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import ingest, until

NAME = "pds.brightworld.dev"
INSIDE, OUTSIDE = "127.0.0.1", "127.0.0.2"
"""Both are ours; the second counts as one of the internet here."""


class Dns:
    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.asked = 0

    def __call__(self, *_: object, **__: object) -> list[object]:
        self.asked += 1
        return [(socket.AF_INET, 1, 6, "", (address, 0)) for address in self.addresses]


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Dns:
    fake = Dns()
    monkeypatch.setattr(socket, "getaddrinfo", fake)
    monkeypatch.setattr(names_module, "is_public", lambda host: host == OUTSIDE)
    return fake


@asynccontextmanager
async def both() -> AsyncIterator[tuple[int, Counter[str]]]:
    """A port at both addresses → how often somebody came to which."""
    came: Counter[str] = Counter()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came[writer.get_extra_info("sockname")[0]] += 1
        visit = Visit(reader, writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await visit.shake()
            await visit.until_gone()
        writer.close()
        gone.release()

    gone = asyncio.Semaphore(0)

    one = await asyncio.start_server(serve, INSIDE, 0)
    port = one.sockets[0].getsockname()[1]
    two = await asyncio.start_server(serve, OUTSIDE, port)
    try:
        yield port, came
    finally:
        for server in (one, two):
            server.close()
            await server.wait_closed()
        for _ in range(came.total()):
            await gone.acquire()
        await asyncio.sleep(0)


async def dial(names: Names, port: int, *, internal: bool = False) -> None:
    target = Target(f"{NAME}:{port}", tls=False)
    connection = Connection(target.stream_uri(None), lambda _: None, ping_s=30.0)
    try:
        await reach(
            connection, target, Limits(), names=names, tls=ssl.create_default_context(),
            internal=internal,
        )  # fmt: skip
    finally:
        connection.fail("done")
        connection.close()


def test_a_name_that_leads_inside_is_not_dialled(loop_run: LoopRun, dns: Dns) -> None:
    async def story() -> None:
        async with both() as (port, came):
            dns.addresses = [INSIDE]
            with pytest.raises(ConnectionFailed, match="no public address"):
                await dial(Names(), port)
            assert not came
            # But where the operator allows it.
            await dial(Names(), port, internal=True)
            assert came == {INSIDE: 1}

    loop_run(story())


def test_a_name_that_leads_inside_as_well_is_dialled_outside(loop_run: LoopRun, dns: Dns) -> None:
    async def story() -> None:
        async with both() as (port, came):
            dns.addresses = [INSIDE, OUTSIDE, INSIDE]
            await dial(Names(), port)
            assert came == {OUTSIDE: 1}

    loop_run(story())


def test_a_name_that_changes_its_answer_is_dialled_where_it_was_checked(
    loop_run: LoopRun, dns: Dns
) -> None:
    """Rebinding."""

    async def story() -> None:
        now = [0.0]
        names = Names(now_s=lambda: now[0])
        async with both() as (port, came):
            dns.addresses = [OUTSIDE]
            await dial(names, port)
            dns.addresses = [INSIDE]
            await dial(names, port)
            assert (came, dns.asked) == ({OUTSIDE: 2}, 1)
            now[0] += FOUND_S
            with pytest.raises(ConnectionFailed, match="no public address"):
                await dial(names, port)
            assert (came, dns.asked) == ({OUTSIDE: 2}, 2)

    loop_run(story())


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_a_redirect_of_the_stream_is_not_followed(loop_run: LoopRun, status: str) -> None:
    async def elsewhere(visit: Visit) -> None:
        await visit.shake()
        await visit.until_gone()

    async def story() -> None:
        async with FakePersist() as persist, RawHost(elsewhere) as inside:

            async def redirect(visit: Visit) -> None:
                await visit.read_request()
                where = f"ws://localhost:{inside.port}/xrpc/com.atproto.sync.subscribeRepos"
                visit.say(
                    f"HTTP/1.1 {status}\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode()
                )
                await visit.until_gone()

            async with (
                RawHost(redirect) as host,
                ingest(
                    persist, [host.url], "http://localhost:1",
                    retry_first_s=60.0, retry_longest_s=60.0,
                ) as worker,
            ):  # fmt: skip
                await until(lambda: worker.subscriptions[1].last_error)
                assert status[:3] in (worker.subscriptions[1].last_error or "")
                assert not worker.subscriptions[1].connected
            assert (host.visits, inside.visits) == (1, 0)

    loop_run(story())
