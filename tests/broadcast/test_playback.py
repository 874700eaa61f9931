"""broadcast.playback: the log off the loop, each reader in its own thread."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from broadcast.notice import websocket_frame
from broadcast.playback import Playback
from broadcast.ring import Slice
from common.log import Outdated
from tests.broadcast.fakes import FakeLog, message_of
from tests.fix_loop import LoopRun


def frames(*seqs: int) -> bytes:
    return b"".join(websocket_frame(message_of(seq)) for seq in seqs)


def test_frames_come_joined_from_the_seq_on(loop_run: LoopRun) -> None:
    async def story() -> None:
        log = FakeLog()
        for _ in range(3):
            log.append(3)
        playback = Playback(lambda: log, 2)
        assert await playback.read(1, 10**6) == Slice(frames(*range(1, 10)), 10, 9)
        assert await playback.read(5, 10**6) == Slice(frames(*range(5, 10)), 10, 5)
        assert await playback.read(5, 1) == Slice(frames(5, 6), 7, 2)
        assert await playback.read(10, 10**6) == Slice(b"", 10, 0)
        log.claim(skip=10)
        log.append(1)
        assert await playback.read(9, 10**6) == Slice(frames(9, 20), 21, 2)
        log.purge(8)
        with pytest.raises(Outdated):
            await playback.read(1, 10**6)
        playback.close()

    loop_run(story())


def test_no_reader_is_used_from_two_threads_and_none_from_the_loop(loop_run: LoopRun) -> None:
    async def story() -> None:
        used: dict[int, set[int]] = {}
        meet = threading.Barrier(2, timeout=10)

        class Watched(FakeLog):
            def read(self, from_seq: int, max_bytes: int) -> list[object]:  # type: ignore[override]
                used.setdefault(id(self), set()).add(threading.get_ident())
                meet.wait()
                return []

        opened: list[Watched] = []

        def open_reader() -> Watched:
            opened.append(Watched())
            return opened[-1]

        playback = Playback(open_reader, 2)  # type: ignore[arg-type]
        for _ in range(3):
            await asyncio.gather(playback.read(1, 1), playback.read(1, 1))
        assert len(used) == 2
        assert len(opened) == 3
        assert all(len(threads) == 1 for threads in used.values())
        assert threading.get_ident() not in set.union(*used.values())
        playback.close()

    loop_run(story())


def test_the_loops_reader_refuses_another_thread(loop_run: LoopRun) -> None:
    async def story() -> None:
        playback = Playback(FakeLog, 1)
        assert (playback.durable_seq, playback.oldest_seq) == (0, 1)
        with (
            ThreadPoolExecutor(1) as pool,
            pytest.raises(RuntimeError, match="from another thread"),
        ):
            pool.submit(lambda: playback.durable_seq).result()
        playback.close()

    loop_run(story())
