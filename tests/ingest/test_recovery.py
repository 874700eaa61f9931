"""When is what waited for the directory asked again? Soon, in order, and as fast as it answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from common.fetch import Busy, Fetched, FetchError
from common.rates import Rate
from common.steady import steady_s
from ingest.config import ResolverLimits
from ingest.did_document import Identity, NotFound, parse_document
from ingest.documents import Document
from ingest.judge import Known
from ingest.questions import Need
from ingest.resolver import Resolver
from tests.fix_loop import LoopRun
from tests.ingest.fix_worker import until
from tests.ingest.test_questions import document_of, plc


class Web:
    """All documents of the world. answer: what to do with a DID instead; asked: in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.under_way = 0
        self.most_at_once = 0
        self.answer: Callable[[str], Fetched] = good
        self.gate = asyncio.Event()
        self.gate.set()

    async def get(self, url: str, **_: Any) -> Fetched:
        did = url.rpartition("/")[2]
        self.asked.append(did)
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
            return self.answer(did)
        finally:
            self.under_way -= 1


def good(did: str) -> Fetched:
    return Fetched(200, document_of(did))


def down(_did: str) -> Fetched:
    raise FetchError("down")


class Shelf:
    """A store whose answers the test gives. holds: whether it looks for anything at all."""

    def __init__(self, *, holds: bool = True) -> None:
        self.holds = holds
        self.wanted: list[str] = []
        self.kept: list[Document] = []

    def find(self, did: str) -> bool:
        if self.holds:
            self.wanted.append(did)
        return self.holds

    def keep(self, document: Document) -> None:
        self.kept.append(document)


class Told:
    """A resolver at work, and what it told."""

    def __init__(self, web: Web, **limits: Any) -> None:
        self.answers: list[tuple[str, Known]] = []
        self.remembered: list[tuple[str, Known]] = []
        self.failures: Counter[str] = Counter()
        self.wanted = True
        self.resolver = Resolver(
            web,  # type: ignore[arg-type]
            ResolverLimits(**limits),
            plc_url="http://localhost:1",
            allow_insecure=True,
            on_resolved=lambda did, known, *_: self.answers.append((did, known)),
            on_remembered=lambda did, known, *_: self.remembered.append((did, known)),
            on_unresolved=lambda did, _: self.failures.update([did]),
            still_wanted=lambda _did: self.wanted,
        )

    def count(self) -> int:
        return len(self.answers)


@asynccontextmanager
async def asking(web: Web, **limits: Any) -> AsyncIterator[Told]:
    told = Told(web, **{"retry_first_s": 0.02, "probe_longest_s": 0.1, **limits})
    running = asyncio.create_task(told.resolver.run())
    try:
        yield told
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if error := (None if running.cancelled() else running.exception()):
            raise error


def test_after_an_outage_all_are_asked_again_at_once_in_order_of_age(loop_run: LoopRun) -> None:
    async def story() -> None:
        web = Web()
        # Whoever backs off by himself would not be back within this test.
        async with asking(web, retry_longest_s=3600.0, retry_first_s=0.05) as told:
            told.resolver.ask(plc(9999), 1)
            await until(lambda: told.count() == 1)
            web.answer = down
            for n in range(200):
                told.resolver.ask(plc(n), 1)
            await until(lambda: told.resolver.held == 200)
            failed = len(web.asked)
            await until(lambda: len(web.asked) > failed + 3)
            # While it is down it is only looked for, by a DID that it knew.
            assert set(web.asked[failed:]) == {plc(9999)}
            assert told.count() == 1
            web.asked.clear()
            web.most_at_once = 0
            web.answer = good
            await until(lambda: told.count() == 201)
            # Where it is asked for one that it knew, that is no question of anybody's.
            order = list(dict.fromkeys(did for did in web.asked if did != plc(9999)))
            assert order == [plc(n) for n in range(200)]
            assert told.resolver.open == told.resolver.held == 0

    loop_run(story())


def test_the_directory_comes_back_to_few_questions_and_then_twice_as_many(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        web = Web()
        async with asking(web) as told:
            told.resolver.ask(plc(9999), 1)
            await until(lambda: told.count() == 1)
            web.answer = down
            for n in range(100):
                told.resolver.ask(plc(n), 1)
            await until(lambda: told.resolver.held == 100)
            await until(lambda: web.under_way == 0)
            web.answer = good
            web.gate.clear()
            web.asked.clear()
            # The one that looks for it, and nobody else yet.
            await until(lambda: web.under_way == 1)
            assert web.asked == [plc(9999)]
            web.gate.set()
            await until(lambda: told.count() == 101)

    loop_run(story())


def test_a_directory_that_comes_and_goes_loses_no_question(loop_run: LoopRun) -> None:
    async def story() -> None:
        web = Web()
        flaps = 0

        def flapping(did: str) -> Fetched:
            nonlocal flaps
            flaps += 1
            return good(did) if flaps // 12 % 2 else down(did)

        web.answer = flapping
        async with asking(web, retry_longest_s=0.2) as told:
            for n in range(150):
                told.resolver.ask(plc(n), n % 3)
            await until(lambda: told.count() == 150)
            assert {did for did, _known in told.answers} == {plc(n) for n in range(150)}
            assert {type(known) for _did, known in told.answers} == {Identity}

    loop_run(story())


def test_a_few_that_never_can_be_told_stand_in_nobodys_way(loop_run: LoopRun) -> None:
    async def story() -> None:
        web = Web()
        poison = {plc(n) for n in range(6)}
        web.answer = lambda did: down(did) if did in poison else good(did)
        async with asking(web, retry_longest_s=0.1) as told:
            told.resolver.ask(plc(9999), 1)
            await until(lambda: told.count() == 1)
            for n in range(6):
                told.resolver.ask(plc(n), 1)
            await until(lambda: told.resolver.held == 6)
            for n in range(6, 60):
                told.resolver.ask(plc(n), 1)
                await until(lambda: told.count() == n - 4)  # noqa: B023
            # They go on being asked for.
            before = told.failures.total()
            await until(lambda: told.failures.total() > before + 12)
            web.answer = good
            await until(lambda: told.count() == 61)

    loop_run(story())


def test_those_that_never_can_be_told_do_not_keep_those_behind_them_from_trying(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        web = Web()
        poison = {plc(n) for n in range(10)}
        async with asking(web, retry_longest_s=0.1) as told:
            told.resolver.ask(plc(9999), 1)
            await until(lambda: told.count() == 1)
            web.answer = down
            for n in range(60):
                told.resolver.ask(plc(n), 1)
            await until(lambda: told.resolver.held == 60)
            # The oldest ten stay as they are, and are the first to be tried.
            web.answer = lambda did: down(did) if did in poison else good(did)
            await until(lambda: told.count() == 51)

    loop_run(story())


def test_nobody_was_ever_found_and_the_oldest_question_finds_out(loop_run: LoopRun) -> None:
    async def story() -> None:
        web = Web()
        web.answer = down
        # The first ones believe that they are alone, and would be back in an hour.
        async with asking(web, retry_first_s=3600.0, retry_longest_s=3600.0) as told:
            for n in range(50):
                told.resolver.ask(plc(n), 1)
            await until(lambda: told.resolver.held >= 48)
            # However long it lasts, and though nothing was asked lately: their turn has not come.
            waiting = next(iter(told.resolver._outage._held))
            assert not told.resolver.may_give_up(waiting, steady_s() + 1e6)
            web.answer = good
            await until(lambda: told.count() == 50)

    loop_run(story())


def test_too_many_requests_is_a_pause_for_all_and_no_failure_of_any(loop_run: LoopRun) -> None:
    async def story() -> None:
        web = Web()
        refused: list[str] = []

        def busy(did: str) -> Fetched:
            refused.append(did)
            raise Busy("status 429", 0.3)

        async with asking(web) as told:
            told.resolver.ask(plc(9999), 1)
            await until(lambda: told.count() == 1)
            web.answer = busy
            now_s = asyncio.get_running_loop().time
            for n in range(100):
                told.resolver.ask(plc(n), 1)
            began_s = now_s()
            await until(lambda: told.resolver._plc.width == 0)
            # Those that were under way.
            assert len(refused) <= 32
            seen = len(web.asked)
            web.answer = good
            await until(lambda: len(web.asked) > seen)
            assert now_s() - began_s > 0.25
            await until(lambda: told.count() == 101)
            assert not told.failures
            assert told.resolver._plc.width == 32
            assert not told.resolver.may_give_up(plc(1), steady_s())

    loop_run(story())


def test_a_pause_of_years_is_cut_short(loop_run: LoopRun) -> None:
    async def story() -> None:
        web = Web()

        def busy(_did: str) -> Fetched:
            raise Busy("status 503", 1e9)

        web.answer = busy
        async with asking(web, busy_longest_s=0.05) as told:
            told.resolver.ask(plc(1), 1)
            await until(lambda: len(web.asked) == 1)
            web.answer = good
            await until(lambda: told.count() == 1)

    loop_run(story())


def test_one_site_that_wants_to_be_left_alone_backs_off_alone(loop_run: LoopRun) -> None:
    async def story() -> None:
        web = Web()

        def busy(did: str) -> Fetched:
            if "busy" in did:
                raise Busy("status 429", 0.1)
            return Fetched(404, b"")

        web.answer = busy
        async with asking(web) as told:
            original = web.get

            async def get(url: str, **more: Any) -> Fetched:
                # did:web addresses end alike; the name is what tells them apart.
                return await original(url.removesuffix("/.well-known/did.json"), **more)

            web.get = get  # type: ignore[method-assign]
            told.resolver.ask("did:web:busy.org", 1)
            await until(lambda: told.failures["did:web:busy.org"] > 0)
            told.resolver.ask("did:web:fine.org", 1)
            await until(lambda: told.count() == 1)
            assert told.answers == [("did:web:fine.org", NotFound("status 404"))]
            assert told.resolver._web.width == 16
            assert told.resolver.held == 0

    loop_run(story())


def test_a_withdrawn_question_is_asked_no_more(loop_run: LoopRun) -> None:
    async def story() -> None:
        web = Web()
        web.answer = down
        async with asking(web) as told:
            told.wanted = False
            for n in range(50):
                told.resolver.ask(plc(n), 1, need=Need.REFRESH)
            await until(lambda: told.resolver.open == 0)
            assert told.resolver.held == 0
            assert len(web.asked) == 50

    loop_run(story())


# --- what was kept ---


def test_what_is_kept_is_told_and_nobody_is_asked(loop_run: LoopRun) -> None:
    async def story() -> None:
        web = Web()
        async with asking(web) as told:
            told.resolver.store = shelf = Shelf()
            told.resolver.ask(plc(1), 1)
            told.resolver.ask(plc(1), 2)
            told.resolver.ask(plc(2), 1)
            assert shelf.wanted == [plc(1), plc(2)]
            told.resolver.found(plc(1), Document(plc(1), NotFound("404"), 5.0))
            assert told.remembered == [(plc(1), NotFound("404"))]
            told.resolver.found(plc(2), None)
            await until(lambda: told.count() == 1)
            assert web.asked == [plc(2)]
            assert [document.did for document in shelf.kept] == [plc(2)]
            # An answer that comes twice, or late, is none.
            told.resolver.found(plc(1), None)
            told.resolver.found(plc(2), None)
            assert told.resolver.open == 0

    loop_run(story())


def test_whom_the_store_knows_the_directory_has_known(loop_run: LoopRun) -> None:
    """After a restart into an outage nobody was found yet by this process."""

    async def story() -> None:
        web = Web()
        async with asking(web) as told:
            told.resolver.store = Shelf()
            told.resolver.ask(plc(1), 1)
            known = parse_document(document_of(plc(1)), plc(1), allow_insecure=True)
            assert isinstance(known, Identity)
            told.resolver.found(plc(1), Document(plc(1), known, 5.0))
            web.answer = down
            told.resolver.store = None
            told.resolver.ask(plc(2), 1)
            await until(lambda: told.resolver.held == 1)
            assert not told.resolver.may_give_up(plc(2), steady_s())
            web.answer = good
            await until(lambda: told.count() == 1)

    loop_run(story())


def test_who_needs_a_newer_one_does_not_ask_what_is_kept(loop_run: LoopRun) -> None:
    async def story() -> None:
        web = Web()
        async with asking(web) as told:
            told.resolver.store = shelf = Shelf()
            told.resolver.ask(plc(1), 1, need=Need.NEWER)
            told.resolver.ask(plc(2), 1, need=Need.REFRESH)
            await until(lambda: told.count() == 2)
            assert shelf.wanted == []

    loop_run(story())


def test_a_store_that_is_away_keeps_nobody_waiting(loop_run: LoopRun) -> None:
    async def story() -> None:
        web = Web()
        async with asking(web) as told:
            told.resolver.store = Shelf(holds=False)
            told.resolver.ask(plc(1), 1)
            await until(lambda: told.count() == 1)
            assert told.remembered == []

    loop_run(story())


def test_a_did_of_no_known_method_is_neither_asked_for_nor_kept(loop_run: LoopRun) -> None:
    async def story() -> None:
        web = Web()
        async with asking(web) as told:
            told.resolver.store = shelf = Shelf(holds=False)
            told.resolver.ask("did:key:zQ3sh", 1)
            await until(lambda: told.count() == 1)
            assert web.asked == []
            assert shelf.kept == []

    loop_run(story())


@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
def test_ten_thousand_old_documents_keep_a_new_question_waiting_for_none_of_them(
    loop_run: LoopRun,
) -> None:
    """Lesson 10: an expiry storm. What counts is who is asked for next, not how long it takes."""

    async def story() -> None:
        web = Web()
        async with asking(web, plc_workers=8) as told:
            web.gate.clear()
            for n in range(10_000):
                told.resolver.ask(plc(n), 1, need=Need.REFRESH)
            # A quarter of the workers is all they get.
            await until(lambda: web.under_way == 2)
            told.resolver.ask(plc(20_000), 1, need=Need.FIRST)
            told.resolver.ask(plc(20_001), 1, need=Need.NEWER)
            # One of the ten thousand becomes urgent: an event waits for it.
            told.resolver.ask(plc(9_000), 1, need=Need.NEWER)
            await until(lambda: web.under_way == 5)
            assert web.asked[2:] == [plc(20_000), plc(20_001), plc(9_000)]
            web.gate.set()
            await until(lambda: told.count() == 10_002, within_s=100.0)
            assert len(web.asked) == 10_002

    loop_run(story(), 120.0)


def test_an_entry_left_in_a_line_asks_nothing_before_its_time(loop_run: LoopRun) -> None:
    async def story() -> None:
        web = Web()
        async with asking(web, plc_workers=1) as told:
            web.gate.clear()
            told.resolver.ask(plc(50), 3)
            await until(lambda: web.under_way == 1)
            # One question in two lines; as soon as it is answered through the first, the second
            # host has the next question about the same DID, for later.
            told.resolver.ask(plc(1), 1)
            told.resolver.ask(plc(1), 2)
            told.resolver.ask(plc(2), 2)

            def resolved(did: str, known: Known, *_: float) -> None:
                told.answers.append((did, known))
                if did == plc(1):
                    told.resolver.ask(plc(1), 2, delay_s=3600.0, need=Need.NEWER)

            told.resolver._on_resolved = resolved
            web.gate.set()
            await until(lambda: told.count() == 3)
            assert sorted(web.asked) == sorted([plc(50), plc(1), plc(2)])
            assert told.resolver.open == 1

    loop_run(story())


def test_each_host_asks_when_its_own_time_has_come(loop_run: LoopRun) -> None:
    async def story() -> None:
        web = Web()
        async with asking(web) as told:
            # One host has used up its share of look-ups; another asks for the same account.
            told.resolver.ask(plc(1), 1, delay_s=3600.0, need=Need.NEWER)
            told.resolver.ask(plc(2), 1, delay_s=3600.0, need=Need.NEWER)
            told.resolver.ask(plc(1), 2, need=Need.NEWER)
            await until(lambda: told.count() == 1)
            assert web.asked == [plc(1)]
            # The late entry of the first host's line means nothing for the next question.
            told.resolver.ask(plc(1), 1, delay_s=3600.0, need=Need.NEWER)
            told.resolver.ask(plc(3), 1)
            await until(lambda: told.count() == 2)
            assert web.asked == [plc(1), plc(3)]
            assert told.resolver.open == 2

    loop_run(story())


def test_a_directory_that_loses_its_mind_for_a_moment_drops_nobody(loop_run: LoopRun) -> None:
    """It says "not found" once, and is itself again before anybody can hold that against it."""

    async def story() -> None:
        web = Web()
        async with asking(web) as told:
            told.resolver.ask(plc(1), 1)
            await until(lambda: told.count() == 1)
            for number, nothing in enumerate((Fetched(404, b""), Fetched(200, b"{}")), 2):
                moments = iter([nothing])
                web.answer = lambda did: next(moments, None) or good(did)  # noqa: B023
                told.resolver.ask(plc(number), 1)
                await until(lambda: told.count() == number)  # noqa: B023
                assert isinstance(told.answers[-1][1], Identity)
            web.answer = lambda did: Fetched(410, b"") if did == plc(4) else good(did)
            told.resolver.ask(plc(4), 1)
            await until(lambda: told.count() == 4)
            assert told.answers[-1][1] == NotFound("status 410")

    loop_run(story())


def test_a_did_that_fails_among_cached_documents_is_not_taken_for_alone(loop_run: LoopRun) -> None:
    """Most were found lately, and hardly anybody asks now: one known before shows that it is down."""

    async def story() -> None:
        web = Web()
        async with asking(web, retry_longest_s=3600.0) as told:
            for n in range(30):
                told.resolver.ask(plc(n), 1)
            await until(lambda: told.count() == 30)
            web.answer = down
            told.resolver.ask(plc(100), 1)
            await until(lambda: told.failures[plc(100)] == 1)
            assert not told.resolver.may_give_up(plc(100), steady_s())
            assert told.resolver.held == 1
            web.answer = good
            await until(lambda: told.count() == 31)
            web.answer = lambda did: down(did) if did == plc(200) else good(did)
            told.resolver.ask(plc(200), 1)
            await until(lambda: told.failures[plc(200)] == 1)
            assert told.resolver.held == 0
            later_s = steady_s() + 10 * 3600.0
            assert told.resolver.may_give_up(plc(200), later_s)

    loop_run(story())


def test_a_host_that_makes_up_dids_waits_for_them_and_nobody_else_does(loop_run: LoopRun) -> None:
    async def story() -> None:
        web = Web()
        async with asking(web, first_rate=Rate(burst=20, every_s=60.0)) as told:
            for n in range(1000):
                told.resolver.ask(plc(n), 1)
            await until(lambda: told.count() == 20)
            for n in range(2000, 2010):
                told.resolver.ask(plc(n), 2)
            # One of those that were made up is real after all, and its own host asks for it.
            told.resolver.ask(plc(999), 2, need=Need.NEWER)
            # What is there already may be looked up again: the bucket is for new ones.
            told.resolver.ask(plc(1), 1, need=Need.NEWER)
            await until(lambda: told.count() == 32)
            assert len(web.asked) == 32
            assert told.resolver.open == 979
            # A second host that makes up the same ones has no more of them asked for.
            for n in range(100, 900):
                told.resolver.ask(plc(n), 3)
            await until(lambda: told.count() == 52)
            told.resolver.ask(plc(5000), 4)
            await until(lambda: told.count() == 53)
            assert len(web.asked) == 53

    loop_run(story())
