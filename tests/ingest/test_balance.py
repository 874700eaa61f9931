"""Is every message that comes over a host's socket in exactly one place, at every moment?"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from common.conservation import Reading
from common.telemetry import Telemetry
from ingest.account import Feed
from ingest.pipeline import Pipeline
from tests.common.commits import frame
from tests.conserved import Numbers, balance_errors, fallen, scrape
from tests.fix_loop import LoopRun
from tests.ingest import test_pipeline
from tests.ingest.balance import balance_of
from tests.ingest.fix_host import RawHost, Visit
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import ingest, until
from tests.ingest.test_pipeline import NEW_PDS, PDS, Story, account, commit, did_of, identity
from tests.ingest.test_splitter import ws
from tests.simnet.config import NetworkConfig
from tests.simnet.invalid import BAD_MESSAGES
from tests.simnet.network import Network

_CALLS: Final = frozenset((
    "take", "drop", "judge_more", "wake", "resolved", "remembered", "unresolved", "told", "logged",
    "duplicate", "back", "release",
))  # fmt: skip
"""Whatever moves an event."""


class Looked:
    """A pipeline of which the balance is asked after each call."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._pipeline, name)
        if name not in _CALLS:
            return found

        def call(*args: Any) -> Any:
            given = found(*args)
            assert balance_of(self._pipeline).unaccounted == 0, name
            return given

        return call


class LookedStory(Story):
    """A story that is looked at after every step."""

    def __init__(self, **changed: Any) -> None:
        super().__init__(**changed)
        self.pipeline = Looked(self.pipeline)  # type: ignore[assignment]


def test_after_every_step_of_any_story_every_event_is_in_one_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(test_pipeline, "Story", LookedStory)
    test_pipeline.test_random_stories_keep_order_and_lose_nothing()


def test_hosts_that_are_let_go_in_any_story_leave_nothing_unaccounted_for() -> None:
    met: Counter[str] = Counter()
    for seed in range(20):
        met.update(tell(Random(seed)))
    names = (
        "released", "forwarded", "originated", "duplicate", "seq_not_rising", "rev_invalid",
        "malformed_frame", "rev_not_newer",
    )  # fmt: skip
    assert all(met[name] for name in names), met


def tell(rng: Random) -> Counter[str]:
    """Two hosts speak for four accounts, and are let go and begun with again → what was met."""
    story = LookedStory(refresh_s=0.0)
    pipeline = story.pipeline
    feeds = [story.feed, Feed(NEW_PDS, 1, 6, 0, epoch=9)]
    seqs, revs = [0, 0], [1] * 4

    def speak() -> None:
        at, who = rng.randrange(2), rng.randrange(4)
        seqs[at] += rng.random() < 0.9
        revs[who] += rng.choice([0, 1, 1])
        raws = [
            commit(seqs[at], revs[who], did_of(who)),
            identity(seqs[at], did_of(who)),
            account(seqs[at], did_of(who), active=False, status="deactivated"),
            commit(seqs[at], revs[who], did_of(who))[:-3],
            frame(seq=seqs[at], rev="no"),
        ]
        story.now_s += 0.001
        pipeline.take(feeds[at], rng.choices(raws, [6, 1, 1, 1, 1])[0], story.now_s)

    def let_go() -> None:
        at = rng.randrange(2)
        pipeline.release({feeds[at]}, story.now_s)
        feeds[at] = Feed((PDS, NEW_PDS)[at], 1, 5 + at, seqs[at], epoch=feeds[at].epoch + 1)

    def answer() -> None:
        if not story.sent:
            return
        judged, _raw = story.sent.pop(rng.randrange(min(3, len(story.sent))))
        answers: list[tuple[Callable[[Any, float], None], Any]] = [
            (pipeline.logged, [judged.position]),
            (pipeline.logged, [judged.position, judged.position]),
            (pipeline.duplicate, [judged.position]),
            (pipeline.back, [(judged.position, judged.after)]),
        ]
        tell_of, what = rng.choice(answers)
        tell_of(what, story.now_s)

    def look_up() -> None:
        if story.asked:
            did, _delay_s = story.asked.pop(0)
            story.resolve(did)
        elif story.asked_status:
            did, host = rng.choice(story.asked_status)
            story.tell(did, host, active=rng.random() < 0.7)

    for _ in range(200):
        rng.choices([speak, look_up, answer, let_go], [5, 3, 4, 0.4])[0]()
    balance = pipeline.counts.balance(inbox=0, held=pipeline.held, in_flight=pipeline.in_flight)
    met: Counter[str] = Counter(balance.dropped)
    for name in ("released", "forwarded", "originated"):
        met[name] = sum(getattr(balance, name).values())
    return met


# --- in the process ---


def test_what_is_let_go_with_its_connection_has_an_end_too(loop_run: LoopRun) -> None:
    """Behind a message that ends the connection others have been read; they come again."""

    async def script(visit: Visit) -> None:
        await visit.shake()
        if host.visits == 1:
            visit.say(ws(b"not cbor") + ws(b"behind it") * 5)
        await visit.until_gone()

    async def story() -> None:
        async with (
            FakePersist() as persist,
            host,
            ingest(persist, [host.url], "http://localhost:1") as worker,
        ):
            await until(lambda: host.visits >= 2)
            balance = worker.balance()
            assert balance.reading == Reading(read=6, inbox=0, unread=5)
            assert balance.received["malformed"] == balance.dropped["malformed_frame"] == 1
            assert balance.unaccounted == 0

    host = RawHost(script)
    loop_run(story())


def test_what_waits_in_the_inbox_of_a_host_that_is_let_go_has_an_end_too(loop_run: LoopRun) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=1, accounts=2, records=20, genesis_share=0)
        async with Network(config) as network, FakePersist() as persist:
            # Nothing is taken in hand: what is in flight is said to be too much.
            async with ingest(
                persist, [network.hosts[0].url], network.plc_url, in_flight_bytes=-1
            ) as worker:
                for _ in range(5):
                    network.commit()
                await until(lambda: worker.balance().reading == Reading(5, 5, 0))
                assert worker.balance().unaccounted == 0
                worker.fleet.let_go({worker.subscriptions[1].feed.shard})
                assert worker.balance().reading == Reading(5, 0, 5)
                assert worker.balance().unaccounted == 0

    loop_run(story())


def test_what_each_persist_has_on_disk_is_told_apart(loop_run: LoopRun) -> None:
    """Across a restart of persist, which begins to count at 0."""

    async def story() -> None:
        config = NetworkConfig(hosts=1, accounts=2, records=20, genesis_share=0)
        async with Network(config) as network, FakePersist() as persist:

            def heard(epoch: int, events: int) -> Callable[[], bool]:
                return lambda: worker.balance().logged == (epoch, events)

            async with ingest(persist, [network.hosts[0].url], network.plc_url) as worker:
                await until(heard(1, 0))
                for _ in range(4):
                    network.commit()
                await until(heard(1, 4), lambda: worker.balance().logged)
                await persist.restart()
                await until(heard(2, 0), lambda: worker.balance().logged)
                network.commit()
                await until(heard(2, 1), lambda: worker.balance().logged)
                assert worker.balance().forwarded["commit"] == 5

    loop_run(story())


def test_every_scrape_of_an_ingest_at_work_has_its_remainder_at_0(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    telemetry = Telemetry("ingest-0", tmp_path / "ingest-0.json", "127.0.0.1", 0)
    telemetry.start()
    seen: list[Numbers] = []

    async def story() -> None:
        config = NetworkConfig(
            hosts=2, accounts=8, records=20, invalid_share=0.2, settle_s=0.5, pause_s=0.05
        )
        async with Network(config) as network, FakePersist() as persist:
            urls = [host.url for host in network.hosts]
            # So that there is a new balance for nearly every scrape.
            async with ingest(persist, urls, network.plc_url, beat_s=0.005) as worker:

                def scrape_often() -> None:
                    seen.extend(scrape(telemetry.metrics_port) for _ in range(200))

                scraping = asyncio.create_task(asyncio.to_thread(scrape_often))
                bad = iter(BAD_MESSAGES)
                while not scraping.done():
                    for each in network.accounts:
                        network.commit(each)
                    if (name := next(bad, None)) is not None:
                        network.say_bad_message(name, 0)
                    await asyncio.sleep(0.02)
                await scraping
                await until(lambda: worker.pipeline.held == worker.pipeline.in_flight == 0)
                await until(worker.conserved)

    try:
        loop_run(story())
    finally:
        telemetry.close()
    assert [error for numbers in seen for error in balance_errors(numbers)] == []
    assert [fall for before, after in pairwise(seen) for fall in fallen(before, after)] == []
    assert len({sum(numbers["standpipe_received_total"].values()) for numbers in seen}) > 10
