"""Whose question comes next, however many others a host has."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ingest.config import ResolverLimits
from ingest.fetch import Fetched, FetchError
from ingest.questions import Questions
from ingest.resolver import Resolver
from tests.fix_loop import LoopRun
from tests.ingest.fix_worker import until


def taken(questions: Questions) -> list[tuple[int, str]]:
    """All that may be asked now, each asked at once and done."""
    found = []
    while (question := questions.next()) is not None:
        found.append(question)
        questions.done(question[0])
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
    assert questions.next() == (2, "b")
    assert questions.next() is None
    questions.done(1)
    assert questions.next() == (1, "a6")


def test_who_has_the_fewest_being_asked_comes_first() -> None:
    questions = Questions(8)
    for n in range(4):
        questions.put(1, f"a{n}")
        questions.put(2, f"b{n}")
    assert questions.next() == (1, "a0")
    assert questions.next() == (2, "b0")
    questions.done(2)
    assert questions.next() == (2, "b1")


def test_a_single_asker_serves_everybody() -> None:
    questions = Questions(1)
    questions.put(1, "a")
    questions.put(2, "b")
    assert questions.next() == (1, "a")
    questions.done(1)
    assert questions.next() == (2, "b")


class SlowFetcher:
    """Documents that take a while, and some that never come. asked: in order."""

    def __init__(self, *never: str) -> None:
        self.asked: list[str] = []
        self._never = never

    async def get(self, url: str, **_: Any) -> Fetched:
        self.asked.append(url)
        if any(word in url for word in self._never):
            await asyncio.sleep(0.5)
            raise FetchError("timed out")
        await asyncio.sleep(0.01)
        return Fetched(200, b"{}")


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
        for n in range(2000):
            told.resolver.ask(plc(n), 1)
        running = asyncio.create_task(told.resolver.run())
        await until(lambda: len(told.answers) > 10)
        told.resolver.ask(plc(5000), 2)
        # The same DID as somebody else's last one: it is asked in this host's own time.
        told.resolver.ask(plc(1999), 2)
        before = len(told.answers)
        await until(lambda: {plc(5000), plc(1999)} <= set(told.answers))
        assert len(told.answers) - before < 40
        await until(lambda: len(told.answers) == 2001)
        assert len(set(told.answers)) == 2001
        running.cancel()

    loop_run(story())


def test_documents_that_never_come_delay_no_other_hosts_question(loop_run: LoopRun) -> None:
    async def story() -> None:
        told = Story(SlowFetcher("never"), web_workers=4, retry_first_s=0.01, retry_longest_s=0.02)
        for n in range(200):
            told.resolver.ask(f"did:web:never{n}.org", 1)
        running = asyncio.create_task(told.resolver.run())
        await asyncio.sleep(0)
        for n in range(20):
            began_s = time.monotonic()
            told.resolver.ask(f"did:web:good{n}.org", 2)
            await until(lambda: len(told.answers) == n + 1)  # noqa: B023
            assert time.monotonic() - began_s < 0.4
        running.cancel()

    loop_run(story())
