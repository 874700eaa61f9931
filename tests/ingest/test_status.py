"""Asking real hosts how an account is: answers, silence, refusals, and a whole process that does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson

from common.envelope import Kind, Mark
from common.event import Event, decode
from common.fetch import Fetcher
from common.rates import Rate
from common.target import Target
from ingest.config import StatusLimits
from ingest.inquiry import Told
from ingest.status import StatusDesk
from tests.fix_loop import LoopRun
from tests.ingest.fix_host import RawHost, Visit
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import ingest, until
from tests.simnet.config import NetworkConfig
from tests.simnet.network import Network

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
LIMITS = StatusLimits(request_s=30.0, retry_first_s=0.02, tries=3)
"""No request ends for its time: how often a host was asked is counted here."""


def answering(*answers: tuple[int, Any]) -> tuple[RawHost, list[bytes]]:
    """A host that gives these answers, the last one for ever; and the requests that it gets."""
    requests: list[bytes] = []

    async def script(visit: Visit) -> None:
        requests.append(await visit.read_request())
        code, body = answers[min(len(requests), len(answers)) - 1]
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        visit.say(b"HTTP/1.1 %d So\r\nContent-Length: %d\r\n" % (code, len(data)))
        visit.say(b"Location: http://localhost:1/\r\nConnection: close\r\n\r\n" + data)
        await visit.writer.drain()

    return RawHost(script), requests


async def silent(visit: Visit) -> None:
    await visit.read_request()
    await visit.until_gone()


class Desk:
    """A desk at work. told: its answers."""

    def __init__(self, desk: StatusDesk, told: list[tuple[str, int, Told]]) -> None:
        self.ask = desk.ask
        self.told = told


@asynccontextmanager
async def desk(*hosts: RawHost | None, limits: StatusLimits = LIMITS) -> AsyncIterator[Desk]:
    """Asks these hosts, which have the numbers 1, 2, 3 …; None is one that is gone."""
    told: list[tuple[str, int, Told]] = []

    def target_of(number: int) -> Target | None:
        host = hosts[number - 1]
        return None if host is None else Target(f"localhost:{host.port}", tls=False)

    async with Fetcher(allow_insecure=False) as fetcher:
        statuses = StatusDesk(
            fetcher,
            limits,
            target_of=target_of,
            on_told=lambda did, host, answer, _now_s: told.append((did, host, answer)),
        )
        running = asyncio.create_task(statuses.run())
        try:
            yield Desk(statuses, told)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def run(loop_run: LoopRun, story: Callable[[], Awaitable[None]]) -> None:
    loop_run(story())  # type: ignore[arg-type]


def test_a_host_is_asked_and_its_answer_told(loop_run: LoopRun) -> None:
    async def story() -> None:
        host, requests = answering((200, {"did": DID, "active": False, "status": "takendown"}))
        async with host, desk(host) as asked:
            asked.ask(DID, 1)
            await until(lambda: asked.told)
            ((did, number, told),) = asked.told
            assert (did, number, told.known, told.active, told.status) == (
                DID, 1, True, False, "takendown",
            )  # fmt: skip
            asked_for = requests[0].split(b" ")[1].replace(b"%3A", b":").decode()
            assert asked_for == f"/xrpc/com.atproto.sync.getRepoStatus?did={DID}"

    loop_run(story())


def test_a_host_that_cannot_answer_now_is_asked_again(loop_run: LoopRun) -> None:
    async def story() -> None:
        host, requests = answering((500, {}), (429, {}), (200, {"did": DID, "active": True}))
        async with host, desk(host) as asked:
            asked.ask(DID, 1)
            await until(lambda: asked.told)
            assert asked.told[0][2].active
            assert len(requests) == 3

    loop_run(story())


def test_a_host_that_says_nothing_of_use_is_not_asked_for_ever(loop_run: LoopRun) -> None:
    async def story() -> None:
        for answer in [
            (302, {"did": DID, "active": True}),
            (200, b"x" * 100_000),
            (200, {"did": "did:plc:other", "active": True}),
            (501, {"error": "MethodNotImplemented"}),
        ]:
            host, requests = answering(answer)
            async with host, desk(host) as asked:
                asked.ask(DID, 1)
                await until(lambda: asked.told)
                ((_did, _number, told),) = asked.told
                assert not told.known
                assert len(requests) == LIMITS.tries

    loop_run(story())


def test_a_host_that_is_gone_is_not_waited_for(loop_run: LoopRun) -> None:
    async def story() -> None:
        async with desk(None) as asked:
            asked.ask(DID, 1)
            await until(lambda: asked.told)
            assert not asked.told[0][2].known

    loop_run(story())


def test_a_host_that_keeps_silent_keeps_no_other_waiting(loop_run: LoopRun) -> None:
    async def story() -> None:
        good, _ = answering((200, {"did": DID, "active": True}))
        async with RawHost(silent) as mute, good, desk(mute, good) as asked:
            for number in range(100):
                asked.ask(f"{DID[:-3]}{number:03}", 1)
            await asyncio.sleep(0)
            asked.ask(DID, 2)
            await until(lambda: asked.told)
            assert asked.told[0][1] == 2
            assert asked.told[0][2].active

    loop_run(story())


def test_a_host_is_asked_no_faster_than_it_bears(loop_run: LoopRun) -> None:
    async def story() -> None:
        host, requests = answering((400, {"error": "RepoNotFound"}))
        limits = replace(LIMITS, host_rate=Rate(burst=3, every_s=0.1))
        async with host, desk(host, limits=limits) as asked:
            started_s = asyncio.get_running_loop().time()
            for number in range(6):
                asked.ask(f"{DID}{number}", 1)
            await until(lambda: len(asked.told) == 6)
            assert asyncio.get_running_loop().time() - started_s > 0.29
            assert len(requests) == 6
            assert all(told.known and not told.active for _did, _host, told in asked.told)

    loop_run(story())


def test_accounts_whose_return_was_missed_go_on_after_one_question_each(loop_run: LoopRun) -> None:
    """Lesson 46, with a whole ingest process: the `#account` of their return never comes."""

    async def story() -> None:
        config = NetworkConfig(hosts=2, accounts=40, records=10, genesis_share=0)
        async with Network(config) as network, FakePersist() as persist:
            async with ingest(persist, [h.url for h in network.hosts], network.plc_url) as worker:
                for account in network.accounts:
                    network.commit(account)
                    network.say(account.host, account.set_status("deactivated"))
                await until(lambda: len(persist.log) == 80)
                for account in network.accounts:
                    account.set_status(None)
                    for _ in range(3):
                        network.commit(account)
                await until(lambda: len(persist.log) == 80 + 160, worker.reasons)
                assert worker.drops == []
                marks = Counter(judged.marks for judged, _frame in persist.log)
                assert marks == {0: 200, int(Mark.OURS): 40}
                for account in network.accounts:
                    said = [judged for judged, _ in persist.log if judged.did == account.did]
                    assert [(judged.kind, judged.marks) for judged in said[2:]] == [
                        (Kind.ACCOUNT, Mark.OURS), *[(Kind.COMMIT, 0)] * 3,
                    ]  # fmt: skip
                    assert persist.states[account.did].active
                for frame in persist.frames()[80:]:
                    assert isinstance(decode(frame), Event)

    loop_run(story())


def test_an_account_that_is_inactive_at_its_host_stays_so(loop_run: LoopRun) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=1, accounts=3, records=10, genesis_share=0)
        async with Network(config) as network, FakePersist() as persist:
            async with ingest(persist, [h.url for h in network.hosts], network.plc_url) as worker:
                account, other = network.accounts[:2]
                network.say(account.host, account.set_status("takendown"))
                await until(lambda: len(persist.log) == 1)
                for _ in range(50):
                    network.commit(account)
                network.commit(other)
                await until(lambda: len(worker.drops) == 50 and len(persist.log) == 2)
                assert {reason.value for reason in worker.reasons()} == {"account_inactive"}
                assert worker.conserved()

    loop_run(story())


def test_the_pauses_before_a_host_is_asked_again_grow(loop_run: LoopRun) -> None:
    async def story() -> None:
        loop, asked_s = asyncio.get_running_loop(), []

        async def script(visit: Visit) -> None:
            await visit.read_request()
            asked_s.append(loop.time())
            visit.say(b"HTTP/1.1 500 So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await visit.writer.drain()

        host = RawHost(script)
        limits = StatusLimits(request_s=30.0, retry_first_s=0.1, tries=3)
        async with host, desk(host, limits=limits) as asked:
            asked.ask(DID, 1)
            await until(lambda: asked.told)
        first, second, third = asked_s
        assert second - first >= 0.1
        assert third - second >= 0.2

    loop_run(story())
