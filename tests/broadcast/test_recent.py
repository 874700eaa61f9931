"""broadcast.recent: one question for thousands of askers, and nothing old."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.recent import Recent
from tests.fix_loop import LoopRun


class Source:
    """What is asked; `gate` holds the answers back."""

    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def question(self) -> int:
        self.asked += 1
        number = self.asked
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return number


def test_all_who_ask_at_once_share_one_question(loop_run: LoopRun) -> None:
    async def story() -> None:
        source, recent = Source(), Recent[int]()
        source.gate.clear()
        asking = [asyncio.ensure_future(recent.ask("x", source.question)) for _ in range(1000)]
        await asyncio.sleep(0)
        asking[0].cancel()  # the one that began it goes away
        source.gate.set()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert answers[1:] == [1] * 999
        assert source.asked == 1

    loop_run(story())


def test_an_old_answer_is_asked_for_again(loop_run: LoopRun) -> None:
    async def story() -> None:
        source = Source()
        young, old = Recent[int](kept_s=3600), Recent[int](kept_s=0)
        assert [await young.ask("x", source.question) for _ in range(3)] == [1, 1, 1]
        assert await old.ask("x", source.question) == 2
        await asyncio.sleep(0.001)
        assert await old.ask("x", source.question) == 3

    loop_run(story())


def test_an_error_is_told_to_those_who_waited_and_kept_for_nobody(loop_run: LoopRun) -> None:
    async def story() -> None:
        source, recent = Source(), Recent[int](kept_s=3600)
        source.error = ValueError("away")
        results = await asyncio.gather(
            *[recent.ask("x", source.question) for _ in range(3)], return_exceptions=True
        )
        assert [str(result) for result in results] == ["away"] * 3
        source.error = None
        assert await recent.ask("x", source.question) == 2

    loop_run(story())


def test_no_more_answers_are_kept_than_there_is_room_for(loop_run: LoopRun) -> None:
    async def story() -> None:
        source, recent = Source(), Recent[int](kept_s=3600, most=2)
        for key in "abc":
            await recent.ask(key, source.question)
        assert await recent.ask("c", source.question) == 3
        assert await recent.ask("a", source.question) == 4

    loop_run(story())


def test_an_error_that_nobody_waits_for_is_no_fault(
    loop_run: LoopRun, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        source, recent = Source(), Recent[int]()
        source.gate.clear()
        asking = asyncio.ensure_future(recent.ask("x", source.question))
        await asyncio.sleep(0)
        asking.cancel()
        source.error = ValueError("away")
        source.gate.set()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.sleep(0.01)
        with pytest.raises(ValueError, match="away"):
            await recent.ask("y", source.question)

    loop_run(story())
    assert not caplog.records
