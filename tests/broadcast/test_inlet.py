"""broadcast.inlet and its socket: what arrives together is taken together, in order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import zmq

from broadcast.config import Limits
from broadcast.worker import Worker
from common.transport import LoopSocket, chunk_inlet, chunk_outlet
from tests.broadcast.fakes import NO_DATABASE, FakeLog, member_of, seqs, until
from tests.fix_loop import LoopRun

PAUSE_S: Final = 1.0
"""Longer than it takes to send 200 messages, in seconds."""


def test_a_paced_socket_takes_the_first_at_once_and_the_rest_together(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        outlet, inlet = chunk_outlet(context), chunk_inlet(context)
        outlet.bind(f"ipc://{tmp_path / 'x'}")
        inlet.connect(f"ipc://{tmp_path / 'x'}")
        came: list[bytes | None] = []
        """The messages in order; None is a pause."""
        came_s: list[float] = []
        pause_s = 0.01

        def on_message(parts: list[bytes]) -> None:
            came.append(parts[0])
            came_s.append(loop.time())

        def pace_s() -> float:
            came.append(None)
            return pause_s

        paced = LoopSocket(inlet, on_message=on_message, pace_s=pace_s)
        try:
            while not came:  # until the subscription has arrived
                outlet.send(b"hello")
                await asyncio.sleep(0.005)
            outlet.send(b"begin")
            await until(lambda: b"begin" in came)
            await until(lambda: paced._listening and paced._pause is None)
            came.clear()
            came_s.clear()
            pause_s = PAUSE_S
            outlet.send(b"first")
            await until(lambda: came)
            assert came == [b"first", None]
            numbers = [b"%d" % number for number in range(200)]
            for number, message in enumerate(numbers):
                outlet.send(message)
                if number % 50 == 0:
                    await asyncio.sleep(0.005)
            await until(lambda: len(came_s) == 201)
            # A turn takes 64 at most, but the turns follow each other without a pause.
            assert came == [b"first", None, *numbers, None]
            assert came_s[1] - came_s[0] >= 0.95 * PAUSE_S
            # And after a silence, the next one is taken at once again.
            await until(lambda: paced._listening and paced._pause is None)
            came.clear()
            outlet.send(b"last")
            await until(lambda: came)
            assert came == [b"last", None]
        finally:
            # A context that is not ended would block whoever collects it.
            paced.close()
            outlet.close()
            context.term()

    loop_run(story())


def test_the_pace_grows_with_the_streams_up_to_its_most(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        limits = Limits(tick_s=0.001, tick_stream_s=0.001, tick_max_s=0.0035)
        idle = Worker(FakeLog, "ipc://nowhere", NO_DATABASE, limits)
        assert idle._pace_s() == 0.001
        async with member_of(FakeLog(), tmp_path, limits=limits) as member:
            assert member.worker._pace_s() == 0.001
            async with member.stream(), member.stream():
                await until(lambda: member.fanout.streams == 2)
                assert member.worker._pace_s() == 0.003
                async with member.stream():
                    await until(lambda: member.fanout.streams == 3)
                    assert member.worker._pace_s() == 0.0035

    loop_run(story())


def test_a_message_that_is_no_chunk_is_counted_and_shows_as_a_gap(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member, member.stream() as stream:
            torn = log.append(2)
            assert member._publisher is not None
            member._publisher.send(torn.raw[:50])
            member._publisher.send(b"")
            member.emit(1)
            assert await seqs(stream, 3) == [1, 2, 3]

    loop_run(story())


def test_what_an_outlived_writer_says_is_no_sign_of_life(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        log = FakeLog(epoch=5)
        async with member_of(log, tmp_path) as member:
            await member.hears()
            heard_s = member.worker.pulse.heard_s
            stale = FakeLog(epoch=2)
            for _ in range(3):
                member.publish(stale.append(1))
            member.inlet.on_message([stale.append(0).raw])
            assert member.worker.pulse.heard_s == heard_s

    loop_run(story())
