"""common.names: silent name servers hold up their own names alone, and what is given out was checked."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from common import names
from common.fetch import Fetcher, FetchError
from common.names import ADDRESSES_MAX, FAILED_S, FOUND_S, Address, Names, NoAddress
from tests.fix_loop import LoopRun
from tests.fix_net import free_port
from tests.ingest.fix_worker import LagMeter, until

PUBLIC = "93.184.216.34"


class FakeDns:
    """What the system's resolver says. silent: names of which it says nothing until `end`."""

    def __init__(self) -> None:
        self.answers: dict[str, list[str]] = {}
        self.asked: Counter[str] = Counter()
        self.end = threading.Event()

    def __call__(self, host: str, *_: object, **__: object) -> list[object]:
        self.asked[host] += 1
        if host.startswith("silent"):
            self.end.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "nobody answers")
        if host not in self.answers:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, 1, 6, "", (address, 0))
            for address in self.answers[host]
        ]


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDns]:
    fake = FakeDns()
    monkeypatch.setattr(socket, "getaddrinfo", fake)
    yield fake
    fake.end.set()


async def why(names: Names, name: str, *, internal: bool = False) -> str:
    with pytest.raises(NoAddress) as error:
        await names.resolve(name, internal=internal)
    return str(error.value)


def test_a_name_is_asked_once_for_all_who_want_it_and_remembered_for_a_while(
    loop_run: LoopRun, dns: FakeDns
) -> None:
    now = [100.0]
    dns.answers["pds.example"] = [PUBLIC, "2606:2800:220:1::1", PUBLIC]

    async def story() -> None:
        names = Names(now_s=lambda: now[0])
        both = Address(socket.AF_INET, PUBLIC), Address(socket.AF_INET6, "2606:2800:220:1::1")
        found = await asyncio.gather(*[names.resolve("pds.example") for _ in range(50)])
        assert found == [both] * 50
        assert dns.asked["pds.example"] == 1
        now[0] += FOUND_S - 0.1
        assert await names.resolve("pds.example") == both
        assert dns.asked["pds.example"] == 1
        now[0] += 0.2
        dns.answers["pds.example"] = ["1.1.1.1"]
        assert await names.resolve("pds.example") == (Address(socket.AF_INET, "1.1.1.1"),)
        assert dns.asked["pds.example"] == 2

        assert await why(names, "none.example") == "none.example: no such name"
        now[0] += FAILED_S - 0.1
        await why(names, "none.example")
        assert dns.asked["none.example"] == 1
        now[0] += 0.2
        await why(names, "none.example")
        assert dns.asked["none.example"] == 2

    loop_run(story())


def test_what_is_remembered_is_bounded(loop_run: LoopRun, dns: FakeDns) -> None:
    dns.answers.update({f"{n}.example": [PUBLIC] for n in range(30)})

    async def story() -> None:
        names = Names(kept_max=10)
        for n in range(30):
            await names.resolve(f"{n}.example")
        assert len(names) == 10
        await names.resolve("29.example")
        assert dns.asked["29.example"] == 1
        await names.resolve("0.example")
        assert dns.asked["0.example"] == 2

    loop_run(story())


def test_a_name_with_thousands_of_addresses_has_a_few(loop_run: LoopRun, dns: FakeDns) -> None:
    dns.answers["pds.example"] = [f"93.184.{at // 250}.{at % 250}" for at in range(4_000)]

    async def story() -> None:
        found = await Names().resolve("pds.example")
        assert [address.host for address in found] == dns.answers["pds.example"][:ADDRESSES_MAX]

    loop_run(story())


@pytest.mark.parametrize(
    ("addresses", "given"),
    [
        pytest.param([PUBLIC], [PUBLIC], id="of the internet"),
        pytest.param(["10.0.0.1", PUBLIC, "127.0.0.1"], [PUBLIC], id="of which one is inside"),
        pytest.param(["127.0.0.1"], [], id="ours"),
        pytest.param(["169.254.169.254"], [], id="the cloud's own"),
        pytest.param(["::1"], [], id="ours, in the new form"),
        pytest.param(["::ffff:10.0.0.1"], [], id="inside, dressed up"),
        pytest.param(["fd00::1"], [], id="of a private network"),
    ],
)
def test_only_addresses_of_the_internet_are_given_out(
    loop_run: LoopRun, dns: FakeDns, addresses: list[str], given: list[str]
) -> None:
    dns.answers["pds.example"] = addresses

    async def story() -> None:
        names = Names()
        if given:
            found = await names.resolve("pds.example")
            assert [address.host for address in found] == given
        else:
            assert await why(names, "pds.example") == "pds.example has no public address"
        # Who may go inside gets all of them, of the same answer.
        found = await names.resolve("pds.example", internal=True)
        assert [address.host for address in found] == addresses
        assert dns.asked["pds.example"] == 1

    loop_run(story())


def test_a_silent_name_server_delays_neither_the_loop_nor_other_names(
    loop_run: LoopRun, dns: FakeDns
) -> None:
    """Lessons 10 and 33."""
    dns.answers["good.example"] = dns.answers["other.bad.example"] = [PUBLIC]

    async def story() -> None:
        names = Names(threads=8, site_threads=3, limit_s=0.4)
        async with LagMeter() as lag:
            silent = [asyncio.create_task(why(names, f"silent{n}.bad.example")) for n in range(20)]
            await until(lambda: names.in_flight == 3)
            # However long a busy machine takes for those that are answered.
            names._limit_s = 60.0
            assert await names.resolve("good.example")
            # Everything that runs on the loop's own threads goes on, too.
            assert await asyncio.to_thread(lambda: 5) == 5
            told = await asyncio.gather(*silent)
            assert all("no answer of the name servers within" in words for words in told)
            # Those whose turn never came are no longer waited for; those that are stuck still are.
            assert dns.asked.total() == 4
            began_s = time.perf_counter()
            assert "no answer" in await why(names, "silent0.bad.example")
            assert time.perf_counter() - began_s < 30
            assert dns.asked["silent0.bad.example"] == 1
        assert lag.worst_s < 0.25
        # At last they answer: it is remembered, and the site's other names have their turn.
        dns.end.set()
        await until(lambda: names.in_flight == 0)
        assert await why(names, "silent0.bad.example") == "silent0.bad.example: nobody answers"
        assert dns.asked["silent0.bad.example"] == 1
        assert await names.resolve("other.bad.example")

    loop_run(story())


def test_what_became_of_each_name_is_counted(loop_run: LoopRun, dns: FakeDns) -> None:
    dns.answers["good.example"] = [PUBLIC]

    def counted() -> dict[str, float]:
        found = {str(key): child._value.get() for key, child in names._lookups.items()}
        cached: float = names.CACHED._value.get()
        in_flight: float = names.IN_FLIGHT._value.get()
        return {**found, "cached": cached, "in_flight": in_flight}

    async def story() -> None:
        few = Names(limit_s=60.0)
        before = counted()
        for _ in range(3):
            await few.resolve("good.example")
        await why(few, "none.example")
        few._limit_s = 0.05
        assert "no answer of the name servers within 0.05 s" in await why(few, "silent.example")
        assert counted()["in_flight"] == before["in_flight"] + 1
        dns.end.set()
        await until(lambda: few.in_flight == 0)
        few.close()
        await why(few, "more.example")
        after = counted()
        assert {name: after[name] - before[name] for name in before} == {
            "found": 1, "failed": 1, "late": 1, "refused": 1, "cached": 2, "in_flight": 0,
        }  # fmt: skip

    loop_run(story())


def test_sites_take_turns_when_threads_are_few(loop_run: LoopRun, dns: FakeDns) -> None:
    dns.answers.update({f"{n}.many.example": [PUBLIC] for n in range(30)})
    dns.answers["one.other"] = [PUBLIC]

    async def story() -> None:
        names = Names(threads=1)
        many = [asyncio.create_task(names.resolve(f"{n}.many.example")) for n in range(30)]
        await asyncio.sleep(0)
        await names.resolve("one.other")
        assert list(dns.asked).index("one.other") <= 2
        await asyncio.gather(*many)

    loop_run(story())


def test_who_gives_up_leaves_the_line(loop_run: LoopRun, dns: FakeDns) -> None:
    async def story() -> None:
        names = Names(threads=1)
        tasks = [asyncio.create_task(names.resolve(f"silent{n}.example")) for n in range(5)]
        await until(lambda: names.in_flight == 1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        dns.end.set()
        await until(lambda: names.in_flight == 0)
        assert dns.asked.total() == 1

    loop_run(story())


def test_a_line_that_is_full_refuses(
    loop_run: LoopRun, dns: FakeDns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "LINE_MAX", 2)

    async def story() -> None:
        few = Names(threads=1)
        tasks = [asyncio.create_task(few.resolve(f"silent{n}.example")) for n in range(3)]
        await until(lambda: few.in_flight == 1)
        assert "too many names" in await why(few, "good.example")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    loop_run(story())


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64 + ".example", "\udcff.example"])
def test_what_is_no_name_has_no_address(loop_run: LoopRun, name: str) -> None:
    async def story() -> None:
        assert await why(Names(), name)

    loop_run(story())


def test_a_thread_that_waits_for_a_name_server_does_not_keep_the_process() -> None:
    code = (
        "import asyncio, socket, time\n"
        "from common.names import Names\n"
        "socket.getaddrinfo = lambda *_, **__: time.sleep(60)\n"
        "async def story():\n"
        "    task = asyncio.create_task(Names().resolve('silent.example'))\n"
        "    await asyncio.sleep(0.1)\n"
        "asyncio.run(story())\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert ended.returncode == 0


def test_a_name_that_changes_its_answer_gains_nothing(
    loop_run: LoopRun, dns: FakeDns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebinding: what was checked is connected to, and nobody asks for the name again."""
    monkeypatch.setattr(names, "is_public", lambda host: host == "127.0.0.2")
    monkeypatch.setattr(Fetcher, "_check", lambda *_: None)
    asked_of: list[str] = []

    async def story() -> None:
        now = [100.0]

        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked_of.append(writer.get_extra_info("sockname")[0])
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            writer.close()

        port = free_port()
        outside = await asyncio.start_server(serve, "127.0.0.2", port)
        inside = await asyncio.start_server(serve, "127.0.0.1", port)
        dns.answers["rebinding.example"] = ["127.0.0.1", "127.0.0.2"]
        async with Fetcher(allow_insecure=False) as fetcher:
            fetcher.names._now_s = lambda: now[0]

            async def get() -> int:
                url = f"http://rebinding.example:{port}/"
                got = await fetcher.get(url, trusted=False, max_bytes=9, limit_s=60.0, hops=0)
                return got.status

            assert await get() == 200
            dns.answers["rebinding.example"] = ["127.0.0.1"]
            assert await get() == 200
            assert asked_of == ["127.0.0.2"] * 2
            assert dns.asked["rebinding.example"] == 1
            now[0] += FOUND_S
            with pytest.raises(FetchError, match="no public address"):
                await get()
            assert asked_of == ["127.0.0.2"] * 2
        for server in (inside, outside):
            server.close()
            await server.wait_closed()

    loop_run(story())
