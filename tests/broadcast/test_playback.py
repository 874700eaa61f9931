"""broadcast.playback: the log off the loop, each reader in its own thread."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import REGISTRY

from broadcast.hole import Cause
from broadcast.playback import Playback
from broadcast.ring import Slice
from common.log import Damaged, Outdated
from tests.broadcast.fakes import FakeLog, frame_of, gap_of
from tests.fix_loop import LoopRun

ALL = 10**6


def frames(*seqs: int) -> bytes:
    return b"".join(frame_of(seq) for seq in seqs)


def metered() -> float:
    return REGISTRY.get_sample_value("standpipe_damaged_ranges_total") or 0.0


def test_frames_come_joined_from_the_seq_on(loop_run: LoopRun) -> None:
    async def story() -> None:
        log = FakeLog()
        for _ in range(3):
            log.append(3)
        playback = Playback(lambda: log, 2)
        assert await playback.read(1, ALL, ALL) == Slice(frames(*range(1, 10)), 10, 9)
        assert await playback.read(5, ALL, ALL) == Slice(frames(*range(5, 10)), 10, 5)
        assert await playback.read(5, 1, ALL) == Slice(frames(5, 6), 7, 2)
        assert await playback.read(10, ALL, ALL) == Slice(b"", 10, 0)
        log.purge(8)
        with pytest.raises(Outdated):
            await playback.read(1, ALL, ALL)
        playback.close()

    loop_run(story())


def test_what_a_claim_left_out_is_told_between_the_frames(loop_run: LoopRun) -> None:
    async def story() -> None:
        log = FakeLog()
        log.append(3)
        log.claim(skip=10)
        playback = Playback(lambda: log, 2)
        # Durable, and nothing there: the hole is the end of the log.
        assert await playback.read(4, ALL, ALL) == Slice(gap_of(4, 14), 14, 0)
        assert await playback.read(6, ALL, 12) == Slice(gap_of(6, 12), 12, 0)
        assert await playback.read(14, ALL, ALL) == Slice(b"", 14, 0)
        log.append(1)
        log.claim(skip=5)
        log.append(2)
        whole = frames(3) + gap_of(4, 14) + frames(14) + gap_of(15, 20) + frames(20, 21)
        assert await playback.read(3, ALL, ALL) == Slice(whole, 22, 4)
        within = gap_of(9, 14) + frames(14) + gap_of(15, 20) + frames(20, 21)
        assert await playback.read(9, ALL, ALL) == Slice(within, 22, 3)
        playback.close()

    loop_run(story())


def test_a_damaged_range_is_told_and_stepped_over(loop_run: LoopRun) -> None:
    async def story() -> None:
        log = FakeLog()
        for _ in range(4):
            log.append(3)
        log.damaged = [(4, 7)]
        playback = Playback(lambda: log, 2)
        told = metered()
        assert await playback.read(2, ALL, ALL) == Slice(frames(2, 3), 4, 2)
        assert await playback.read(4, ALL, ALL) == Slice(gap_of(4, 7, Cause.DAMAGED), 7, 0)
        assert await playback.read(5, ALL, ALL) == Slice(gap_of(5, 7, Cause.DAMAGED), 7, 0)
        # Whoever holds what lies behind is not told that it is missing.
        assert await playback.read(4, ALL, 6) == Slice(gap_of(4, 6, Cause.DAMAGED), 6, 0)
        assert await playback.read(7, ALL, ALL) == Slice(frames(*range(7, 13)), 13, 6)
        assert metered() == told + 1
        log.damaged += [(10, None)]
        for _ in range(2):
            with pytest.raises(Damaged):
                await playback.read(10, ALL, ALL)
        assert metered() == told + 2
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
            await asyncio.gather(playback.read(1, 1, ALL), playback.read(1, 1, ALL))
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
