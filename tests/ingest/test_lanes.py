"""How many are asked at a time, when all is well and when the directory has had too many?"""

from __future__ import annotations

import asyncio

from ingest.lanes import Lane
from ingest.questions import Need, Question
from tests.fix_loop import LoopRun
from tests.ingest.fix_worker import until


class Workers:
    """Workers of a lane that each ask one question until they are told to stop."""

    def __init__(self, lane: Lane, count: int) -> None:
        self.lane = lane
        self.asking: list[Question] = []
        self.tasks = [asyncio.create_task(self._work()) for _ in range(count)]

    async def _work(self) -> None:
        while True:
            self.asking.append(await self.lane.get())

    def answer(self) -> None:
        self.lane.done(self.asking.pop(0))

    def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.lane.close()


def test_a_lane_narrows_pauses_and_widens_by_one_with_each_answer(loop_run: LoopRun) -> None:
    async def story() -> None:
        lane = Lane(8)
        workers = Workers(lane, 8)
        for host in range(40):
            lane.put(host, f"did:plc:{host}", Need.FIRST)
        await until(lambda: len(workers.asking) == 8)
        lane.narrow(0.05)
        assert lane.width == 0
        for _ in range(8):
            workers.answer()
        await asyncio.sleep(0)
        assert workers.asking == []
        await lane.open()
        for width in range(1, 8):
            await until(lambda: len(workers.asking) == width)  # noqa: B023
            assert lane.width == width
            lane.widen()
            workers.answer()
        await until(lambda: len(workers.asking) == 8)
        lane.widen()
        assert lane.width == 8
        while workers.asking:
            workers.answer()
            await asyncio.sleep(0.001)
        assert len(lane) == 0
        workers.stop()

    loop_run(story())


def test_the_longer_of_two_pauses_counts(loop_run: LoopRun) -> None:
    async def story() -> None:
        lane = Lane(2)
        now_s = asyncio.get_running_loop().time
        began_s = now_s()
        lane.narrow(0.2)
        lane.narrow(0.01)
        await lane.open()
        assert now_s() - began_s > 0.15
        lane.close()

    loop_run(story())
