"""Holes of the log on a consumer's stream: told at the place, once, and the stream goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from websockets.asyncio.client import ClientConnection

from broadcast.chain import Broken
from broadcast.config import Limits
from broadcast.hole import Cause
from tests.broadcast.fakes import (
    FakeLog,
    Member,
    member_of,
    message_of,
    seqs,
    told_of,
    until,
    with_limits,
)
from tests.fix_loop import LoopRun

TINY_RING = with_limits(ring_bytes=1, slice_bytes=300, read_bytes=700)
"""All but the newest chunk is read from the log, a few chunks at a time."""


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log's head is looked at more often than each second."""
    monkeypatch.setattr("broadcast.worker._LOOK_S", 0.02)
    monkeypatch.setattr("broadcast.inlet._LOOK_AFTER_S", 0.1)


def messages(*seqs: int) -> list[bytes]:
    return [message_of(seq) for seq in seqs]


async def took(stream: ClientConnection, count: int) -> list[bytes | str]:
    """The next messages, as they came."""
    async with asyncio.timeout(20):
        return [await stream.recv() for _ in range(count)]


async def replayed(member: Member, cursor: int, last_seq: int) -> list[bytes | str]:
    """What a consumer with this cursor gets, up to and with an event."""
    got: list[bytes | str] = []
    async with member.stream(f"?cursor={cursor}") as stream, asyncio.timeout(20):
        while not got or got[-1] != message_of(last_seq):
            got.append(await stream.recv())
    return got


@pytest.mark.parametrize(
    "limits", [TINY_RING, with_limits()], ids=["from the log", "from the ring"]
)
def test_a_consumer_is_told_of_numbers_left_out_whatever_its_cursor(
    loop_run: LoopRun, tmp_path: Path, limits: Limits
) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path, limits=limits) as member:
            for _ in range(3):
                member.emit(2)
            member.publish(log.claim(skip=5))
            for _ in range(3):
                member.emit(2)
            await until(lambda: member.fanout.live_seq == 18)
            whole = [*messages(1, 2, 3, 4, 5, 6), told_of(7, 12), *messages(*range(12, 18))]
            for cursor in range(18):
                if cursor <= 7:
                    expected = whole[max(0, cursor - 1) :]
                elif cursor < 12:
                    expected = [told_of(cursor, 12), *messages(*range(12, 18))]
                else:
                    expected = messages(*range(cursor, 18))
                assert await replayed(member, cursor, 17) == expected

    loop_run(story())


def test_who_is_live_is_told_at_once_and_who_comes_later_is_not(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member, member.stream() as stream:
            member.emit(2)
            assert await seqs(stream, 2) == [1, 2]
            member.publish(log.claim(skip=5))
            assert await took(stream, 1) == [told_of(3, 8)]
            async with member.stream() as late, member.stream("?cursor=7") as within:
                assert await took(within, 1) == [told_of(7, 8)]
                member.emit(1)
                for each in (stream, late, within):
                    assert await took(each, 1) == messages(8)

    loop_run(story())


def test_a_first_seq_that_is_not_1_is_no_hole(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        log = FakeLog(first_seq=5000)
        async with member_of(log, tmp_path, persist=False) as member:
            await until(lambda: member.worker.service.fanout)
            async with member.stream() as live, member.stream("?cursor=0") as whole:
                member.persist_up()
                member.publish(log.claim())
                await member.hears()
                member.emit(1)
                for stream in (live, whole):
                    assert await took(stream, 1) == messages(5000)

    loop_run(story())


def test_a_claim_whose_message_was_lost_is_not_waited_for(
    loop_run: LoopRun, tmp_path: Path, often: None
) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member, member.stream() as stream:
            member.emit(2)
            assert await seqs(stream, 2) == [1, 2]
            log.claim(skip=5)
            # A beat behind it is all that comes: nobody is left behind the log for that.
            await member.hears()
            assert await took(stream, 1) == [told_of(3, 8)]
            assert member.inlet.next_seq == 8
            log.claim(skip=2)
            # And when not even that comes, the look at the log's head is enough.
            assert await took(stream, 1) == [told_of(8, 10)]

    loop_run(story())


@pytest.mark.parametrize("cursor", [0, 3, 4, 5, 9])
def test_a_damaged_range_is_told_to_who_replays_it_and_to_no_other(
    loop_run: LoopRun, tmp_path: Path, cursor: int
) -> None:
    async def story() -> None:
        log = FakeLog()
        for _ in range(6):
            log.append(2)
        log.damaged = [(5, 9)]
        async with member_of(log, tmp_path) as member, member.stream() as other:
            before = messages(*range(max(1, cursor), 5))
            behind = messages(*range(max(9, cursor), 13))
            told = [told_of(max(cursor, 5), 9, Cause.DAMAGED)] if cursor < 9 else []
            assert await replayed(member, cursor, 12) == [*before, *told, *behind]
            member.emit(1)
            assert await took(other, 1) == messages(13)

    loop_run(story())


def test_damage_and_left_out_numbers_side_by_side_are_told_one_after_the_other(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        log.append(2)
        log.append(2)
        log.claim(skip=4)
        log.append(2)
        log.damaged = [(3, 5)]
        async with member_of(log, tmp_path) as member:
            told = [told_of(3, 5, Cause.DAMAGED), told_of(5, 9)]
            expected = [*messages(1, 2), *told, *messages(9, 10)]
            assert await replayed(member, 1, 10) == expected

    loop_run(story())


def test_a_place_in_the_ring_is_served_though_the_log_is_damaged_there(
    loop_run: LoopRun, tmp_path: Path
) -> None:
    async def story() -> None:
        log = FakeLog()
        log.append(4)
        async with member_of(log, tmp_path) as member:
            member.emit(4)
            await until(lambda: member.fanout.live_seq == 9)
            # The damage reaches into what this member holds.
            log.damaged = [(1, 8)]
            expected = [told_of(1, 5, Cause.DAMAGED), *messages(5, 6, 7, 8)]
            assert await replayed(member, 1, 8) == expected
            assert await replayed(member, 6, 8) == messages(6, 7, 8)

    loop_run(story())


@pytest.mark.parametrize("until_seq", [7, None], ids=["end known", "end unknown"])
def test_a_member_that_meets_damage_while_it_fills_a_gap_goes_on_behind_it(
    loop_run: LoopRun, tmp_path: Path, until_seq: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadcast.inlet._ASK_AGAIN_S", 0.01)

    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member, member.stream() as stream:
            member.emit(2)
            for _ in range(2):
                log.append(2)  # durable, but its message never comes
            log.damaged = [(3, until_seq)]
            told = REGISTRY.get_sample_value("standpipe_damaged_ranges_total") or 0.0
            for _ in range(3):
                member.emit(2)
            expected = [*messages(1, 2), told_of(3, 7, Cause.DAMAGED), *messages(*range(7, 13))]
            assert await took(stream, 9) == expected
            assert REGISTRY.get_sample_value("standpipe_damaged_ranges_total") == told + 1
            assert not member.running.done()
            # Who replays gets the same bytes from this member.
            if until_seq is not None:
                assert await replayed(member, 1, 12) == expected
            log.damaged = []
            member.emit(1)
            assert await took(stream, 1) == messages(13)

    loop_run(story())


def test_damage_without_an_end_is_asked_again_and_may_be_mended(
    loop_run: LoopRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broadcast.inlet._ASK_AGAIN_S", 0.01)

    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member, member.stream() as stream:
            member.emit(2)
            assert await took(stream, 2) == messages(1, 2)
            log.append(2)
            log.damaged = [(3, None)]

            def mend() -> None:
                if len(log.reads) - begun >= 3:
                    log.damaged = []

            begun = len(log.reads)
            log.before_read = mend
            member.emit(1)
            assert await took(stream, 3) == messages(3, 4, 5)

    loop_run(story())


def test_while_persist_is_silent_damage_without_an_end_is_not_stepped_over(
    loop_run: LoopRun, tmp_path: Path, often: None
) -> None:
    async def story() -> None:
        log = FakeLog()
        async with member_of(log, tmp_path) as member, member.stream() as stream:
            member.emit(2)
            assert await took(stream, 2) == messages(1, 2)
            log.damaged = [(3, None)]
            log.append(2)
            begun = len(log.reads)
            await until(lambda: len(log.reads) > begun)
            log.damaged = []
            assert await took(stream, 2) == messages(3, 4)

    loop_run(story())


def test_a_log_that_was_replaced_under_the_process_ends_it(
    loop_run: LoopRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, often: None
) -> None:
    monkeypatch.setattr("broadcast.inlet._OTHER_LOG_S", 0.2)

    async def story() -> None:
        log, other = FakeLog(), FakeLog(epoch=2, first_seq=1000)
        async with member_of(log, tmp_path) as member:
            member.emit(2)
            await until(lambda: member.fanout.live_seq == 3)
            member.publish(other.claim())
            member.publish(other.append(1))
            with pytest.raises(Broken, match="seq 1000, but the log that is read here ends at 2"):
                await member.running
            member.running = asyncio.create_task(asyncio.sleep(0))

    loop_run(story())
