"""Whose question comes next, however many others a host has."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from common.fetch import Fetched, FetchError
from ingest.config import ResolverLimits
from ingest.questions import Need, Question, Questions
from ingest.resolver import Resolver
from tests.fix_loop import LoopRun
from tests.ingest.fix_worker import until
from tests.ingest.test_did_document import MULTIKEY


def taken(questions: Questions) -> list[tuple[int, str]]:
    """All that may be asked now, each asked at once and done."""
    found = []
    while (question := questions.next()) is not None:
        found.append((question.host, question.did))
        questions.done(question)
    return found


def test_hosts_take_turns_and_each_keeps_its_order() -> None:
    questions = Questions(4)
    for n in range(4):
        questions.put(1, f"a{n}")
    questions.put(2, "b0")
    questions.put(2, "b1")
    assert len(questions) == 6
    order = taken(questions)
    assert [did for host, did in order if host == 1] == ["a0", "a1", "a2", "a3"]
    assert [did for host, did in order if host == 2] == ["b0", "b1"]
    assert {did for _host, did in order[:4]} == {"a0", "b0", "a1", "b1"}
    assert len(questions) == 0


def test_the_last_quarter_of_the_askers_is_no_single_hosts() -> None:
    questions = Questions(8)
    for n in range(20):
        questions.put(1, f"a{n}")
    asked = []
    while (question := questions.next()) is not None:
        asked.append(question)
    assert len(asked) == 6
    questions.put(2, "b")
    assert questions.next() == Question(2, "b")
    assert questions.next() is None
    questions.done(asked[0])
    assert questions.next() == Question(1, "a6")


def test_who_has_the_fewest_being_asked_comes_first() -> None:
    questions = Questions(8)
    for n in range(4):
        questions.put(1, f"a{n}")
        questions.put(2, f"b{n}")
    assert questions.next() == Question(1, "a0")
    assert questions.next() == Question(2, "b0")
    questions.done(Question(2, "b0"))
    assert questions.next() == Question(2, "b1")


def test_a_single_asker_serves_everybody() -> None:
    questions = Questions(1)
    questions.put(1, "a")
    questions.put(2, "b")
    assert questions.next() == Question(1, "a")
    questions.done(Question(1, "a"))
    assert questions.next() == Question(2, "b")


def test_what_nobody_waits_for_comes_last_and_takes_a_quarter_at_most() -> None:
    questions = Questions(8)
    for n in range(20):
        questions.put(n, f"old{n}", Need.REFRESH)
    first = [questions.next() for _ in range(3)]
    assert [question is not None and question.refresh for question in first] == [True, True, False]
    questions.put(1, "new", Need.NEWER)
    questions.put(1, "unknown", Need.FIRST)
    assert questions.next() == Question(1, "new")
    assert questions.next() == Question(1, "unknown")
    assert questions.next() is None


def test_what_nobody_waits_for_is_asked_in_the_end_however_much_others_wait_for() -> None:
    questions = Questions(4)
    for n in range(40):
        questions.put(1, f"new{n}", Need.FIRST)
    questions.put(1, "old", Need.REFRESH)
    assert questions.next() == Question(1, "old", refresh=True)
    assert questions.next() == Question(1, "new0")


class SlowFetcher:
    """Documents that take a while, and some that never come. asked: in order.

    hanging: who waits for one that never comes, until `give_up`.
    """

    def __init__(self, *never: str) -> None:
        self.asked: list[str] = []
        self.hanging: list[asyncio.Future[None]] = []
        self._never = never

    def give_up(self) -> None:
        for waiting in self.hanging:
            waiting.set_exception(FetchError("timed out"))
        self.hanging.clear()

    async def get(self, url: str, **_: Any) -> Fetched:
        self.asked.append(url)
        if any(word in url for word in self._never):
            self.hanging.append(asyncio.get_running_loop().create_future())
            await self.hanging[-1]
        await asyncio.sleep(0.01)
        return Fetched(200, document_of(url.rpartition("/")[2]))


def document_of(did: str) -> bytes:
    """A good document of a DID."""
    service = {
        "id": "#atproto_pds", "type": "AtprotoPersonalDataServer",
        "serviceEndpoint": "https://pds.example.com",
    }  # fmt: skip
    method = {
        "id": f"{did}#atproto", "type": "Multikey", "controller": did,
        "publicKeyMultibase": MULTIKEY,
    }  # fmt: skip
    return orjson.dumps({"id": did, "verificationMethod": [method], "service": [service]})


class Story:
    """A resolver at work between a fetcher and the answers."""

    def __init__(self, fetcher: SlowFetcher, **limits: Any) -> None:
        self.answers: list[str] = []
        self.resolver = Resolver(
            fetcher,  # type: ignore[arg-type]
            ResolverLimits(**limits),
            plc_url="http://localhost:1",
            allow_insecure=True,
            on_resolved=lambda did, *_: self.answers.append(did),
            on_unresolved=lambda *_: None,
            still_wanted=lambda _did: True,
        )


def plc(number: int) -> str:
    return "did:plc:" + "".join("abcdefghij"[int(digit)] for digit in f"{number:024d}")


def test_a_flood_of_unknown_dids_delays_no_other_hosts_question(loop_run: LoopRun) -> None:
    async def story() -> None:
        fetcher = SlowFetcher()
        told = Story(fetcher, plc_workers=4)
        for n in range(600):
            told.resolver.ask(plc(n), 1)
        running = asyncio.create_task(told.resolver.run())
        await until(lambda: len(told.answers) > 10)
        told.resolver.ask(plc(5000), 2)
        # The same DID as somebody else's last one: it is asked in this host's own time.
        told.resolver.ask(plc(599), 2)
        before = len(told.answers)
        await until(lambda: {plc(5000), plc(599)} <= set(told.answers))
        assert len(told.answers) - before < 40
        await until(lambda: len(told.answers) == 601)
        assert len(set(told.answers)) == 601
        running.cancel()

    loop_run(story())


def test_documents_that_never_come_delay_no_other_hosts_question(loop_run: LoopRun) -> None:
    async def story() -> None:
        fetcher = SlowFetcher("never")
        told = Story(fetcher, web_workers=4, retry_first_s=0.01, retry_longest_s=0.02)
        for n in range(200):
            told.resolver.ask(f"did:web:never{n}.org", 1)
        running = asyncio.create_task(told.resolver.run())
        for n in range(20):
            # As many hang as may of one host. They end when they are told to, and are asked again.
            await until(lambda: len(fetcher.hanging) == 3)
            told.resolver.ask(f"did:web:good{n}.org", 2)
            await until(lambda: len(told.answers) == n + 1)  # noqa: B023
            fetcher.give_up()
        running.cancel()

    loop_run(story())


def test_a_refresh_that_has_ended_makes_room_for_the_next() -> None:
    questions = Questions(4)
    for number in range(20):
        questions.put(1, f"did:{number}", Need.REFRESH)
    asked = []
    while (question := questions.next()) is not None:
        asked.append(question.did)
        questions.done(question)
    assert asked == [f"did:{number}" for number in range(20)]
