"""Is every event that comes to a broadcaster in exactly one place, at every moment?"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from broadcast import inlet as inlet_module
from broadcast import worker as worker_module
from broadcast.fanout import Fanout
from broadcast.health import Pulse
from broadcast.inlet import Inlet
from broadcast.playback import Playback
from common.telemetry import Telemetry
from tests.broadcast.fakes import QUICK, FakeLog, member_of, seqs, until
from tests.conserved import Numbers, balance_errors, fallen, scrape
from tests.fix_loop import LoopRun


async def tell(rng: Random) -> Counter[str]:
    """A random story of a hop that loses, doubles and garbles → what was met."""
    log, met, failures = FakeLog(epoch=2), Counter[str](), list[BaseException]()
    outlived = FakeLog(epoch=1)
    outlived.append(2)
    playback = Playback(lambda: log, 1)
    fanout = Fanout(playback, QUICK)
    inlet = Inlet(playback, fanout.live_seq, Pulse(), fanout.publish, failures.append)

    def hear(raw: bytes) -> None:
        inlet.on_message([raw])

    def step() -> None:
        choice = rng.random()
        if choice < 0.35:
            hear(log.append(rng.randrange(4)).raw)
        elif choice < 0.5:
            log.append(rng.randrange(1, 4))  # lost on the way
        elif choice < 0.6 and log.chunks:
            hear(rng.choice(log.chunks[-5:]).raw)
        elif choice < 0.65:
            hear(log.append(1).raw[:40])
        elif choice < 0.7:
            hear(outlived.chunks[0].raw)
        elif choice < 0.75:
            log.claim(skip=rng.choice([0, 7]))
        elif choice < 0.8:
            # What is published is on disk, but this reader does not see it yet.
            log.hidden = None if log.hidden is not None else log.durable_seq
        else:
            inlet.look()

    def check() -> None:
        balance = inlet.balance(fanout.published)
        assert balance.unaccounted == 0, balance
        met.update(name for name in ("held", "in_flight") if getattr(balance, name))

    for _ in range(120):
        step()
        check()
        if rng.random() < 0.3:
            await until(lambda: inlet._filling is None)
            check()
    log.hidden = None
    while inlet.next_seq < log.next_seq:
        hear(log.append(1).raw)
        await until(lambda: inlet._filling is None)
    check()
    assert failures == []
    balance = inlet.balance(fanout.published)
    assert balance.forwarded == {"event": sum(chunk.count for chunk in log.chunks)}
    met.update(balance.dropped)
    playback.close()
    return met


def test_after_every_step_of_any_story_every_event_is_in_one_place(
    loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inlet_module, "PENDING_BYTES", 2000)
    monkeypatch.setattr(inlet_module, "_LOOK_AFTER_S", 0.0)
    met: Counter[str] = Counter()

    async def story() -> None:
        for seed in range(8):
            met.update(await tell(Random(seed)))

    loop_run(story())
    assert set(met) == {"held", "in_flight", "seen", "unreadable", "let_go"}
    assert all(met.values()), met


def test_every_scrape_of_a_broadcaster_at_work_has_its_remainder_at_0(
    loop_run: LoopRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that there is a new balance for nearly every scrape.
    monkeypatch.setattr(worker_module, "_LOOK_S", 0.005)
    telemetry = Telemetry("broadcast-0", tmp_path / "broadcast-0.json", "127.0.0.1", 0)
    telemetry.start()
    seen: list[Numbers] = []

    def told() -> set[float]:
        return {numbers["standpipe_forwarded_total"]["event"] for numbers in seen}

    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member, member.stream() as stream:

            def scrape_often() -> None:
                ends_s = time.monotonic() + 30
                while len(seen) < 100 or (len(told()) <= 10 and time.monotonic() < ends_s):
                    seen.append(scrape(telemetry.metrics_port))

            scraping = asyncio.create_task(asyncio.to_thread(scrape_often))
            while not scraping.done():
                member.emit(2)
                log.append(1)  # shows as a gap
                await asyncio.sleep(0.001)
            await scraping
            member.emit(1)
            assert await seqs(stream, log.durable_seq) == list(range(1, log.next_seq))
            await until(lambda: scrape_forwarded(telemetry.metrics_port) == log.durable_seq)

    try:
        loop_run(story())
    finally:
        telemetry.close()
    # Before the log can be read there is no balance.
    assert [error for numbers in seen for error in balance_errors(numbers)] == []
    assert [fall for before, after in pairwise(seen) for fall in fallen(before, after)] == []
    assert len(told()) > 10


def scrape_forwarded(port: int) -> float:
    return scrape(port)["standpipe_forwarded_total"]["event"]
