"""Does every broadcaster hide what is taken down, from every place, and show it again?"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import pytest

from broadcast.curtain import Curtain
from broadcast.ring import Ring
from common.chunk import Chunk, ChunkKind, Row, account_key
from common.envelope import Kind, Mark
from common.hidden import HIDDEN_NAME, Hidden, HiddenError, encode_hidden
from tests.broadcast.fakes import (
    FakeLog,
    Member,
    frame_of,
    member_of,
    rows_of,
    seqs,
    until,
    with_limits,
)
from tests.fix_loop import LoopRun

BAD: Final = "did:plc:bad"
GOOD: Final = "did:plc:good"
TAKEN: Final = int(Mark.OURS | Mark.LOCAL | Mark.TAKEN_DOWN)
LIFTED: Final = int(Mark.OURS | Mark.LOCAL)
TINY: Final = with_limits(ring_bytes=1)
"""A window of one chunk: whoever is not at the head reads the log."""


def tell(log: FakeLog, *events: tuple[str, Kind, int]) -> Chunk:
    """One more chunk: (account, kind, marks) of each event."""
    with log._lock:
        frames = [frame_of(seq) for seq in range(log.next_seq, log.next_seq + len(events))]
        rows: list[Row] = [
            row._replace(kind=kind, flags=marks, account=account_key(account))
            for row, (account, kind, marks) in zip(rows_of(frames), events, strict=True)
        ]
        return log._add(ChunkKind.GROUP, rows, b"".join(frames))


def hide(folder: Path, **seq_of: int) -> None:
    """As persist does: the file is replaced as a whole."""
    names = {"bad": BAD, "good": GOOD}
    told = Hidden(1, {names[n]: (seq, account_key(names[n])) for n, seq in seq_of.items()})
    new = folder / "new"
    new.write_bytes(encode_hidden(told))
    new.replace(folder / HIDDEN_NAME)


@pytest.fixture(autouse=True)
def nobody_is_hidden(tmp_path: Path) -> None:
    """Persist writes the file at each start."""
    hide(tmp_path)


def history(log: FakeLog) -> list[int]:
    """Chunks of both accounts, one with the bad one alone, and words of the relay; the good one's."""
    commit = Kind.COMMIT
    tell(log, (GOOD, commit, 0), (BAD, commit, 0), (GOOD, commit, 0))
    tell(log, (BAD, commit, 0), (BAD, Kind.IDENTITY, 0), (BAD, commit, 0))
    tell(log, (BAD, Kind.SYNC, 0))
    tell(log, (BAD, Kind.ACCOUNT, 0), (GOOD, commit, 0), (BAD, commit, 0))
    return [1, 3, 9]


async def replayed(member: Member, cursor: int, last: int) -> list[int]:
    """The seqs that a consumer gets from a cursor on, up to `last`."""
    found: list[int] = []
    async with member.stream(f"?cursor={cursor}") as stream:
        while not found or found[-1] < last:
            found += await seqs(stream, 1)
    return found


@pytest.mark.parametrize("window", [TINY, with_limits()], ids=["log", "window"])
def test_from_every_place_every_broadcaster_leaves_out_the_same(
    tmp_path: Path, loop_run: LoopRun, window: object
) -> None:
    log = FakeLog()

    async def story() -> None:
        limits = {"limits": window, "log_dir": tmp_path}
        (tmp_path / "other").mkdir()
        async with (
            member_of(log, tmp_path, **limits) as one,  # type: ignore[arg-type]
            member_of(log, tmp_path / "other", **limits) as other,  # type: ignore[arg-type]
        ):
            members = one, other
            async with one.stream() as live, other.stream() as live_too:
                shown = history(log)
                for chunk in log.chunks[-4:]:
                    for member in members:
                        member.publish(chunk)
                assert await seqs(live, 10) == await seqs(live_too, 10) == list(range(1, 11))
                hide(tmp_path, bad=11)
                # The relay's word; the host's word of it, which is held; an identity, which may pass.
                taken = tell(log, (BAD, Kind.ACCOUNT, TAKEN), (BAD, Kind.ACCOUNT, int(Mark.HELD)),
                             (BAD, Kind.IDENTITY, 0), (GOOD, Kind.COMMIT, 0))  # fmt: skip
                for member in members:
                    member.publish(taken)
                assert await seqs(live, 3) == await seqs(live_too, 3) == [11, 13, 14]
                shown += [11, 13, 14]
                for member in members:
                    for cursor in range(15):
                        expected = [seq for seq in shown if seq >= cursor]
                        assert await replayed(member, cursor, 14) == expected, cursor
                hide(tmp_path)
                lifted = tell(log, (BAD, Kind.ACCOUNT, LIFTED))
                for member in members:
                    member.publish(lifted)
                assert await seqs(live, 1) == await seqs(live_too, 1) == [15]
                everything = [seq for seq in range(1, 16) if seq != 12]
                for member in members:
                    assert await replayed(member, 0, 15) == everything
                    assert await replayed(member, 5, 15) == [seq for seq in everything if seq >= 5]

    loop_run(story())


def test_a_long_range_that_is_hidden_ends_no_stream(tmp_path: Path, loop_run: LoopRun) -> None:
    log = FakeLog()

    async def story() -> None:
        tell(log, (GOOD, Kind.COMMIT, 0))
        for _ in range(200):
            tell(log, *[(BAD, Kind.COMMIT, 0)] * 20)
        hide(tmp_path, bad=10_000)
        limits = with_limits(ring_bytes=1, read_bytes=4_000)
        async with member_of(log, tmp_path, limits=limits, log_dir=tmp_path) as member:
            async with member.stream("?cursor=0") as stream, member.stream("?cursor=77") as within:
                assert await seqs(stream, 1) == [1]
                await until(lambda: member.fanout.outlets()[0].consumer.next_seq == 4_002)
                member.publish(tell(log, (BAD, Kind.COMMIT, 0)))
                member.publish(tell(log, (GOOD, Kind.COMMIT, 0)))
                assert await seqs(stream, 1) == await seqs(within, 1) == [4_003]

    loop_run(story())


def test_what_was_read_before_a_takedown_is_not_delivered_behind_it(
    tmp_path: Path, loop_run: LoopRun
) -> None:
    log = FakeLog()

    async def story() -> None:
        shown = history(log)
        reading, go_on = threading.Event(), threading.Event()
        async with member_of(log, tmp_path, limits=TINY, log_dir=tmp_path) as member:
            slice_ = member.fanout.playback._slice
            done = threading.Event()

            def sliced(*given: int) -> object:
                # As it was before: what is hidden is looked at, and then the takedown comes.
                found = slice_(*given)
                if not done.is_set():
                    done.set()
                    reading.set()
                    assert go_on.wait(20)
                return found

            member.fanout.playback._slice = sliced  # type: ignore[method-assign, assignment]
            async with member.stream("?cursor=0") as stream:
                await until(reading.is_set)
                hide(tmp_path, bad=11)
                member.publish(tell(log, (BAD, Kind.ACCOUNT, TAKEN)))
                await until(lambda: member.fanout.playback.curtain.turn == 1)
                go_on.set()
                assert await seqs(stream, 4) == [*shown, 11]

    loop_run(story())


def test_a_broadcaster_that_begins_knows_whom_to_hide(tmp_path: Path, loop_run: LoopRun) -> None:
    log = FakeLog()

    async def story() -> None:
        shown = history(log)
        hide(tmp_path, bad=11)
        async with member_of(log, tmp_path, log_dir=tmp_path) as member:
            member.publish(tell(log, (GOOD, Kind.COMMIT, 0)))
            assert await replayed(member, 0, 11) == [*shown, 11]

    loop_run(story())


def test_nothing_is_served_before_it_is_known_whom_to_hide(
    tmp_path: Path, loop_run: LoopRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log was restored without the file that says so."""
    log = FakeLog()
    looks: list[None] = []
    look = Curtain.look
    (tmp_path / HIDDEN_NAME).unlink()
    monkeypatch.setattr(Curtain, "look", lambda self: looks.append(look(self)))

    async def story() -> None:
        shown = history(log)
        async with member_of(log, tmp_path, log_dir=tmp_path, persist=False) as member:
            await until(lambda: len(looks) > 3)
            assert member.worker.service.fanout is None
            hide(tmp_path, bad=11)
            await until(lambda: member.worker.service.fanout is not None)
            assert await replayed(member, 0, shown[-1]) == shown

    loop_run(story())


def test_a_takedown_is_heeded_though_its_event_is_late(tmp_path: Path, loop_run: LoopRun) -> None:
    log = FakeLog()

    async def story() -> None:
        shown = history(log)
        async with member_of(log, tmp_path, log_dir=tmp_path) as member:
            hide(tmp_path, bad=11)
            await until(lambda: member.fanout.playback.curtain.turn == 1)
            assert await replayed(member, 0, shown[-1]) == shown

    loop_run(story())


def test_a_file_that_is_damaged_later_leaves_what_was_known_and_one_at_the_start_ends_it(
    tmp_path: Path,
) -> None:
    curtain = Curtain(tmp_path)
    curtain.look()
    assert not curtain.hidden
    hide(tmp_path, bad=5)
    curtain.look()
    assert curtain.hidden == {account_key(BAD): 5}
    (tmp_path / HIDDEN_NAME).write_bytes(b"spoiled")
    curtain.look()
    assert curtain.hidden == {account_key(BAD): 5}
    with pytest.raises(HiddenError):
        Curtain(tmp_path).look()
    hide(tmp_path, bad=5, good=7)
    curtain.look()
    assert len(curtain.hidden) == 2
    assert curtain.turn == 2


def test_the_file_is_read_only_when_it_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        reads.append(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    hide(tmp_path, bad=5)
    curtain = Curtain(tmp_path)
    for _ in range(3):
        curtain.look()
    assert len(reads) == 1


def test_the_window_forgets_what_it_joined_before_a_takedown(tmp_path: Path) -> None:
    log = FakeLog()
    history(log)
    curtain = Curtain(tmp_path)
    ring = Ring(1, 1 << 20, curtain)
    for chunk in log.chunks:
        ring.append(chunk)
    assert ring.take(1, 11, 1 << 20).events == 10
    assert ring.take(1, 11, 1 << 20) is ring.take(1, 11, 1 << 20)
    hide(tmp_path, bad=11)
    curtain.look()
    assert ring.take(1, 11, 1 << 20).events == 3
