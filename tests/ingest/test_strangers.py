"""Documents of strangers: huge, slow, malformed, internal, somebody else's. Each costs its own DID only.

Lessons section 1, row "any DID": size and time caps, address check, the verdict is the DID's alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson
import pytest

from common import fetch
from common.fetch import Busy, Fetcher, FetchError
from common.rates import Rate
from common.sites import Sites
from ingest.config import ResolverLimits
from ingest.did_document import MAX_DOCUMENT_BYTES, Broken, Identity, NotFound, Outcome, Unavailable
from ingest.lookup import Lookup
from tests.fix_loop import LoopRun
from tests.ingest.fix_worker import LagMeter
from tests.ingest.test_questions import document_of

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
REQUEST_S = 0.4
"""For those who never come to an end; all others have the time that they have in production."""
SOON_S = 20.0
"""By then whoever has no end has been given up, in seconds, however little of the machine is ours."""


@asynccontextmanager
async def stranger(script: Script) -> AsyncIterator[int]:
    """A server that plays a script with each connection; its port."""
    open_: set[asyncio.StreamWriter] = set()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_.add(writer)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await script(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in open_:
            writer.close()
        await server.wait_closed()
        await asyncio.sleep(0)


def says(data: bytes) -> Script:
    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return script


def page(body: bytes, head: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One byte now and then: each is progress, and the whole never comes."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await writer.drain()


async def endless_head(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for n in range(1_000_000):
        writer.write(b"X-%d: x\r\n" % n)
        await writer.drain()
        if n % 100 == 0:
            await asyncio.sleep(0)


async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"
BOMB = b"\x1f\x8b\x08\x00" + b"\x00" * 64


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        pytest.param(trickle, Unavailable, id="a byte now and then"),
        pytest.param(endless, Unavailable, id="an endless body"),
        pytest.param(endless_head, Unavailable, id="endless headers"),
        pytest.param(silent, Unavailable, id="nothing at all"),
        pytest.param(says(b""), Unavailable, id="closes at once"),
        pytest.param(says(b"\x16\x03\x01\x02\x00garbage"), Unavailable, id="not HTTP"),
        pytest.param(says(b"HTTP/1.1 abc\r\n\r\n"), Unavailable, id="no status"),
        pytest.param(
            says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), Unavailable, id="long header"
        ),
        pytest.param(says(CUT), Unavailable, id="cut short"),
        pytest.param(
            says(page(b"x", b"200 OK\r\nTransfer-Encoding: chunked")), Unavailable, id="two lengths"
        ),
        pytest.param(says(page(b" " * (MAX_DOCUMENT_BYTES + 1))), Unavailable, id="too large"),
        pytest.param(
            says(page(BOMB, b"200 OK\r\nContent-Encoding: gzip")), Unavailable, id="compressed"
        ),
        pytest.param(says(page(b"<html>")), Unavailable, id="a page"),
        pytest.param(says(page(b"", b"500 No")), Unavailable, id="an error"),
        pytest.param(says(page(b"", b"204 Nothing")), Unavailable, id="nothing in it"),
        pytest.param(
            says(page(b"", b"301 Gone\r\nLocation: http://[::1")), Unavailable, id="no URL"
        ),
        pytest.param(
            says(page(b"", b"302 Found\r\nLocation: file:///etc/passwd")), Unavailable, id="a file"
        ),
        pytest.param(says(page(b"", b"302 Found\r\nLocation: ?again")), Unavailable, id="a loop"),
        pytest.param(says(page(b"", b"404 Not Found")), NotFound, id="not found"),
        pytest.param(says(page(b"", b"410 Gone")), NotFound, id="tombstone"),
        pytest.param(says(page(b"{}")), Broken, id="nobody's"),
        pytest.param(says(page(document_of("did:web:other.example.com"))), Broken, id="another's"),
    ],
)
def test_whatever_a_stranger_answers_has_an_outcome_in_time(
    loop_run: LoopRun, script: Script, kind: type[Outcome]
) -> None:
    async def story() -> None:
        async with (
            stranger(script) as port,
            Fetcher(allow_insecure=True) as fetcher,
            LagMeter() as lag,
        ):
            endless_ones = (trickle, endless, endless_head, silent)
            limits = ResolverLimits(request_s=REQUEST_S) if script in endless_ones else None
            lookup = Lookup(
                fetcher, limits or ResolverLimits(), plc_url="http://localhost:1",
                allow_insecure=True,
            )  # fmt: skip
            began_s = time.monotonic()
            found = await lookup.ask(f"did:web:localhost%3A{port}")
            assert isinstance(found, kind), found
            assert time.monotonic() - began_s < SOON_S
        assert lag.worst_s < 0.25

    loop_run(story())


def test_the_largest_document_that_may_be_is_read(loop_run: LoopRun) -> None:
    async def story() -> None:
        body = b""

        async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(page(body))

        async with stranger(script) as port, Fetcher(allow_insecure=True) as fetcher:
            did = f"did:web:localhost%3A{port}"
            document = orjson.loads(document_of(did))
            body = orjson.dumps(document)
            document["x"] = "x" * (MAX_DOCUMENT_BYTES - len(body) - len(',"x":""'))
            body = orjson.dumps(document)
            assert len(body) == MAX_DOCUMENT_BYTES
            lookup = Lookup(
                fetcher, ResolverLimits(), plc_url="http://localhost:1", allow_insecure=True
            )
            assert isinstance(await lookup.ask(did), Identity)

    loop_run(story())


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/x", "https://[::1]/x", "https://10.0.0.1/x", "https://169.254.169.254/x",
        "https://localhost/x", "http://example.com/x", "https://example.com:8443/x",
        "https://user@example.com/x", "https://0x7f000001/x", "https://2130706433/x",
        "https://017700000001/x", "https://[::ffff:127.0.0.1]/x", "ftp://example.com/x", "https:///x",
    ],
)  # fmt: skip
def test_an_internal_address_is_never_connected_to_however_it_is_written(
    loop_run: LoopRun, url: str
) -> None:
    async def story() -> None:
        async with Fetcher(allow_insecure=False) as fetcher:
            with pytest.raises(FetchError):
                await fetcher.get(url, trusted=False, max_bytes=100, limit_s=30.0, hops=0)

    loop_run(story())


def test_all_names_of_one_site_share_its_bound_and_so_does_what_is_redirected_to_it(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A domain that names thousands of hosts, all of which lead to one victim."""
    monkeypatch.setattr(fetch, "site_of", lambda host, port: "victim" if port else host)

    async def story() -> None:
        asked: list[int] = []

        async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(1)
            writer.write(page(b"{}"))

        async with stranger(script) as port, Fetcher(allow_insecure=True) as fetcher:
            sites = Sites(2, Rate(burst=5, every_s=3600.0))

            async def get() -> object:
                try:
                    return await fetcher.get(
                        f"http://127.0.0.1:{port}/", trusted=False, max_bytes=100, limit_s=30.0,
                        hops=1, sites=sites,
                    )  # fmt: skip
                except Busy as busy:
                    return busy

            answers = [await get() for _ in range(8)]
            assert [isinstance(answer, Busy) for answer in answers] == [False] * 5 + [True] * 3
            assert len(asked) == 5
            assert isinstance(answers[-1], Busy)
            assert answers[-1].after_s is not None
            assert 3000 < answers[-1].after_s <= 3600
            assert len(sites) == 0

    loop_run(story())


@pytest.mark.parametrize(
    ("head", "after_s"),
    [
        (b"429 Too Many Requests\r\nRetry-After: 7", 7.0),
        (b"429 Too Many Requests", None),
        (b"429 Too Many Requests\r\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT", None),
        (b"503 Service Unavailable\r\nRetry-After: 3", 3.0),
    ],
)
def test_too_many_requests_names_the_time_to_come_again(
    loop_run: LoopRun, head: bytes, after_s: float | None
) -> None:
    async def story() -> None:
        async with stranger(says(page(b"", head))) as port, Fetcher(allow_insecure=True) as fetcher:
            with pytest.raises(Busy) as busy:
                await fetcher.get(
                    f"http://127.0.0.1:{port}/", trusted=True, max_bytes=9, limit_s=30.0, hops=0
                )
            assert busy.value.after_s == after_s

    loop_run(story())
