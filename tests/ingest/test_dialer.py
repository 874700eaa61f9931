"""The line of all hosts, within a loop; its order and its rate are in the host bench."""

from __future__ import annotations

import asyncio
from functools import partial
from random import Random

from ingest.dialer import Dialer
from ingest.dials import Dials, Urgency
from ingest.lifecycle import Signal
from tests.fix_loop import LoopRun


def line(a_second: float = 1e6, at_once: int = 1) -> Dialer:
    return Dialer(Dials(a_second, Random(1), at_once), lambda: 1)


class Turns:
    """Hosts that take their turns, and hold them until they are let go."""

    def __init__(self, dialer: Dialer) -> None:
        self.dialer = dialer
        self.order: list[int] = []
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.ends: dict[int, asyncio.Event] = {}

    def begin(self, host: int, urgency: Urgency = Urgency.FIRST, size: int = 0) -> None:
        self.ends[host] = asyncio.Event()
        self.tasks[host] = asyncio.create_task(self._take(host, urgency, size))

    async def _take(self, host: int, urgency: Urgency, size: int) -> None:
        async with self.dialer.turn(host, urgency, size):
            self.order.append(host)
            await self.ends[host].wait()

    async def until(self, *order: int) -> None:
        async with asyncio.timeout(60):
            while self.order != list(order):
                await asyncio.sleep(0.001)


def test_the_next_one_comes_when_a_turn_ends_in_the_order_of_urgency(loop_run: LoopRun) -> None:
    async def story() -> None:
        turns = Turns(line())
        turns.begin(1)
        await turns.until(1)
        for host, urgency, size in (
            (2, Urgency.AGAIN, 9), (3, Urgency.FIRST, 1), (4, Urgency.FIRST, 5), (5, Urgency.ASKED, 0),
        ):  # fmt: skip
            turns.begin(host, urgency, size)
        await asyncio.sleep(0.01)
        assert turns.order == [1]
        assert (turns.dialer.waiting, turns.dialer.under_way) == (4, 1)
        for host in (1, 5, 4, 3, 2):
            turns.ends[host].set()
        await turns.until(1, 5, 4, 3, 2)
        await asyncio.gather(*turns.tasks.values())
        assert (turns.dialer.waiting, turns.dialer.under_way) == (0, 0)

    loop_run(story())


def test_who_is_asked_for_while_it_waits_comes_next(loop_run: LoopRun) -> None:
    async def story() -> None:
        turns = Turns(line())
        for host in (1, 2, 3):
            turns.begin(host, Urgency.AGAIN)
        await turns.until(1)
        turns.dialer.hasten(3)
        turns.dialer.hasten(99)
        for host in (1, 3, 2):
            turns.ends[host].set()
        await turns.until(1, 3, 2)

    loop_run(story())


def test_who_goes_away_leaves_its_place_in_the_line_and_among_those_under_way(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        turns = Turns(line())
        for host in (1, 2, 3):
            turns.begin(host)
        await turns.until(1)
        turns.tasks[2].cancel()
        turns.tasks[1].cancel()
        await turns.until(1, 3)
        assert (turns.dialer.waiting, turns.dialer.under_way) == (0, 1)
        turns.tasks[3].cancel()
        await asyncio.gather(*turns.tasks.values(), return_exceptions=True)
        assert turns.dialer.under_way == 0

    loop_run(story())


def test_the_rate_is_kept(loop_run: LoopRun) -> None:
    async def story() -> None:
        loop, turns = asyncio.get_running_loop(), Turns(line(a_second=100.0, at_once=100))
        since_s = loop.time()
        for host in range(31):
            turns.begin(host)
        async with asyncio.timeout(60):
            while len(turns.order) < 31:
                await asyncio.sleep(0.001)
        # What a late loop makes up for is a tenth of a second.
        assert loop.time() - since_s >= 0.3 - 0.1
        for end in turns.ends.values():
            end.set()

    loop_run(story())


def call(called: list[tuple[int, Signal]], host: int, signal: Signal) -> None:
    """Take down whom is told what."""
    called.append((host, signal))


def test_who_comes_back_calls_those_that_were_lost_with_it(loop_run: LoopRun) -> None:
    async def story() -> None:
        dialer, called = line(), list[tuple[int, Signal]]()
        now_s = dialer.now_s()
        dialer.now_s = lambda: now_s  # type: ignore[method-assign]
        calls = [partial(call, called, host) for host in range(4)]
        for host in range(4):
            dialer.join(host, calls[host], now_s)
        for host in range(3):
            dialer.lost(host)
        now_s += 3_600
        dialer.part(2, calls[2])
        dialer.part(1, calls[2])  # Of a life before: the host is read anew by now.
        dialer.back(0)
        assert called == [(1, Signal.SOONER)]

    loop_run(story())
