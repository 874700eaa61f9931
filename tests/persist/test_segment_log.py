"""Is what the segment files hold durable, dense and repaired after every way to end?"""

from __future__ import annotations

import errno
import functools
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from common.chunk import decode_chunk
from common.log import Damaged, Fenced, LogReader, LogWriter, Outdated
from common.segment_files import (
    HEAD_NAME,
    LOCK_NAME,
    RESTORED_NAME,
    HeadFile,
    index_path,
    list_indexes,
    list_segments,
    segment_path,
)
from common.segments import SegmentReader
from persist.disk import Disk
from persist.segment_log import SKIPPED_AFTER_LOSS, SegmentLog
from tests.log_contract import TIME_US, LogContract, event, events, pack, read_all, write
from tests.persist.disks import FullDisk, RecordingDisk
from tests.power.disk import QuickDisk


def small(place: Path, disk: Disk | None = None, *, strict: bool = False) -> SegmentLog:
    """A log that rolls about each 4 kB."""
    return SegmentLog(
        place, disk=disk, segment_bytes=4096, now=lambda: TIME_US / 1e6 - 1, strict=strict
    )


def crash(log: LogWriter) -> None:
    """Let go of descriptors, as the system does for a dead process; nothing is flushed."""
    assert isinstance(log, SegmentLog)
    log._release()


class TestSegmentLog(LogContract):
    """The contract, on segment files."""

    def writer(self, place: Path) -> LogWriter:
        return small(place)

    def reader(self, place: Path) -> LogReader:
        return SegmentReader(place)

    def crash(self, log: LogWriter) -> None:
        crash(log)

    def lose_lock(self, place: Path) -> None:
        (place / LOCK_NAME).unlink()


def filled(place: Path, groups: tuple[int, ...], disk: Disk | None = None) -> SegmentLog:
    log = small(place, disk)
    log.claim("first")
    for count in groups:
        write(log, count)
    return log


def last_segment(place: Path) -> Path:
    return segment_path(place, list_segments(place)[-1])


def everything(place: Path, from_seq: int = 1) -> list[tuple[int, bytes]]:
    with closing(SegmentReader(place)) as reader:
        return read_all(reader, from_seq)


def numbered(*seqs: int) -> list[tuple[int, bytes]]:
    return [(seq, event(seq)) for seq in seqs]


def set_announced(place: Path, durable_seq: int) -> None:
    """What the head file says, as of an earlier moment: a power cut leaves it behind the log."""
    head = HeadFile(place / HEAD_NAME, writable=True)
    head.durable_seq = durable_seq
    head.close()


# --- a backup ---


def test_a_log_from_a_backup_goes_on_far_above_once(tmp_path: Path) -> None:
    """The numbers behind its end were given, by the log that was lost."""
    with closing(filled(tmp_path, (2, 1))):
        pass
    (tmp_path / HEAD_NAME).unlink()
    (tmp_path / RESTORED_NAME).touch()
    far = 3 + SKIPPED_AFTER_LOSS
    with closing(small(tmp_path)) as log:
        assert log.claim("restored") == far
        write(log, 1)
    assert not (tmp_path / RESTORED_NAME).exists()
    with closing(small(tmp_path)) as log:
        assert log.claim("again", skipped=10 * SKIPPED_AFTER_LOSS) == far + 1
    assert everything(tmp_path) == numbered(1, 2, 3, far)


def test_a_claim_of_a_backup_that_is_cut_short_is_made_again(tmp_path: Path) -> None:
    with closing(filled(tmp_path, (2, 1))):
        pass
    (tmp_path / RESTORED_NAME).touch()
    log = small(tmp_path, FullDisk(0))
    with pytest.raises(OSError, match="No space"):
        log.claim("restored")
    crash(log)
    with closing(small(tmp_path)) as log:
        assert log.claim("again", skipped=2 * SKIPPED_AFTER_LOSS) == 3 + 2 * SKIPPED_AFTER_LOSS


# --- torn tails ---


def test_a_tail_torn_at_any_byte_is_cut_and_its_numbers_are_given_again(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    log = filled(whole, (2, 1))
    size = last_segment(whole).stat().st_size
    frames = [event(4), event(5)]
    log.append(pack(frames), frames, TIME_US)
    crash(log)
    torn = tmp_path / "torn"
    for cut in range(size, last_segment(whole).stat().st_size):
        shutil.copytree(whole, torn)
        os.truncate(last_segment(torn), cut)
        with closing(small(torn)) as log:
            assert log.claim("again") == 4
            write(log, 1)
        assert everything(torn) == numbered(1, 2, 3, 4)
        shutil.rmtree(torn)


def test_nothing_of_a_torn_tail_stays_in_the_file(tmp_path: Path) -> None:
    log = filled(tmp_path, (2,))
    frames = [event(3, 2000)]
    log.append(pack(frames), frames, TIME_US)
    crash(log)
    os.truncate(last_segment(tmp_path), last_segment(tmp_path).stat().st_size - 1)
    with closing(small(tmp_path)) as log:
        log.claim("again")
        assert last_segment(tmp_path).stat().st_size == log.size_bytes < 1000


def test_a_chunk_of_which_only_later_pages_reached_the_disk_is_cut(tmp_path: Path) -> None:
    log = filled(tmp_path, (2, 1))
    start = last_segment(tmp_path).stat().st_size
    frames = [event(4, 900)]
    log.append(pack(frames), frames, TIME_US)
    crash(log)
    data = bytearray(last_segment(tmp_path).read_bytes())
    data[start : start + 512] = bytes(512)
    last_segment(tmp_path).write_bytes(data)
    with closing(small(tmp_path)) as log:
        assert log.claim("again") == 4


def test_what_was_written_but_not_announced_is_kept_when_it_is_whole(tmp_path: Path) -> None:
    log = filled(tmp_path, (2,))
    frames = [event(3)]
    log.append(pack(frames), frames, TIME_US)
    crash(log)
    with closing(SegmentReader(tmp_path)) as reader:
        assert reader.durable_seq == 2
        with closing(small(tmp_path)) as log:
            assert log.claim("again") == 4
        assert reader.durable_seq == 3
        assert read_all(reader) == numbered(1, 2, 3)


def test_an_unannounced_tail_is_written_again_and_flushed_with_the_claim(tmp_path: Path) -> None:
    # A failed flush leaves pages that look clean and are not on disk.
    log = filled(tmp_path, (2,))
    end = last_segment(tmp_path).stat().st_size
    frames = [event(3)]
    chunk = log.append(pack(frames), frames, TIME_US)
    crash(log)
    disk = RecordingDisk()
    with closing(small(tmp_path, disk)) as log:
        log.claim("again")
    name = last_segment(tmp_path).name
    asked = [call for call in disk.asked if call[0] in {"write", "sync", "truncate"}]
    assert asked[0] == ("write", end, len(chunk.raw))
    # The claim comes behind it; nothing is announced before both are on disk.
    assert asked[1][:2] == ("write", end + len(chunk.raw))
    assert asked[2] == ("sync",)
    assert disk.asked[0] == ("open", name)


def test_a_crash_between_roll_and_first_chunk_continues(tmp_path: Path) -> None:
    log = filled(tmp_path, (2,))
    log._roll()
    crash(log)
    assert last_segment(tmp_path).stat().st_size == 0
    for expected in (3, 4):
        with closing(small(tmp_path)) as log:
            assert log.claim("again") == expected
            write(log, 1)
    assert everything(tmp_path) == numbered(1, 2, 3, 4)


def test_a_torn_first_chunk_of_a_new_segment_is_cut(tmp_path: Path) -> None:
    log = filled(tmp_path, (2,))
    log._roll()
    frames = [event(3)]
    log.append(pack(frames), frames, TIME_US)
    crash(log)
    os.truncate(last_segment(tmp_path), 60)
    with closing(small(tmp_path)) as log:
        assert log.claim("again") == 3
        write(log, 1)
    assert everything(tmp_path) == numbered(1, 2, 3)


def test_a_first_start_that_was_cut_short_is_no_loss(tmp_path: Path) -> None:
    disk = RecordingDisk()
    disk.fails["write"] = errno.EIO
    log = small(tmp_path, disk)
    with pytest.raises(OSError, match="Input/output"):
        log.claim("first")
    crash(log)
    with closing(small(tmp_path)) as log:
        assert log.claim("again") == 1
        write(log, 1)
    assert everything(tmp_path) == numbered(1)


# --- losses and damage ---


def test_numbers_that_were_announced_and_lost_are_never_given_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = filled(tmp_path, (2, 3))
    log.close()
    segment = last_segment(tmp_path)
    os.truncate(segment, segment.stat().st_size - 1)
    with closing(small(tmp_path)) as log:
        assert log.claim("again") == 5 + SKIPPED_AFTER_LOSS
        write(log, 1)
    assert "lost what had been announced" in caplog.text
    assert everything(tmp_path, 5 + SKIPPED_AFTER_LOSS) == numbered(5 + SKIPPED_AFTER_LOSS)
    with closing(SegmentReader(tmp_path)) as reader:
        assert events(reader.read(1, 1)) == numbered(1, 2)
        with pytest.raises(Damaged, match=segment.name) as caught:
            reader.read(3, 1)
        assert (caught.value.from_seq, caught.value.until_seq) == (3, 5 + SKIPPED_AFTER_LOSS)


def test_an_emptied_log_does_not_begin_again_at_one(tmp_path: Path) -> None:
    filled(tmp_path, (2, 3)).close()
    last_segment(tmp_path).unlink()
    with closing(small(tmp_path)) as log:
        assert log.claim("again") == 5 + SKIPPED_AFTER_LOSS


@pytest.mark.parametrize("how", ["emptied", "cut"])
def test_a_strict_writer_refuses_a_log_that_lost_what_had_been_announced(
    tmp_path: Path, how: str
) -> None:
    filled(tmp_path, (2, 3)).close()
    segment = last_segment(tmp_path)
    if how == "emptied":
        segment.unlink()
    else:
        os.truncate(segment, segment.stat().st_size - 1)
    kept = segment.read_bytes() if segment.exists() else None
    with closing(small(tmp_path, strict=True)) as log:
        with pytest.raises(Damaged, match="announced is gone") as caught:
            log.claim("again")
        assert caught.value.from_seq == (1 if how == "emptied" else 3)
    assert (segment.read_bytes() if segment.exists() else None) == kept
    with closing(small(tmp_path)) as log:
        assert log.claim("again") == 5 + SKIPPED_AFTER_LOSS


def test_damage_among_beats_alone_costs_nothing_and_no_file_of_its_own(tmp_path: Path) -> None:
    log = small(tmp_path)
    log.claim("first")
    begin = log.size_bytes
    for _ in range(4):
        write(log, 0)
    log.close()
    data = bytearray(last_segment(tmp_path).read_bytes())
    data[begin + 30] ^= 1
    last_segment(tmp_path).write_bytes(data)
    with closing(small(tmp_path)) as log:
        assert log.claim("again") == 1
        write(log, 2)
    assert list_segments(tmp_path) == [1]
    assert everything(tmp_path) == numbered(1, 2)


def test_a_flipped_bit_before_the_tail_is_told_by_place_and_the_log_goes_on_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = small(tmp_path)
    log.claim("first")
    start = last_segment(tmp_path).stat().st_size
    write(log, 2)
    end = last_segment(tmp_path).stat().st_size
    write(log, 1)
    log.close()
    whole = last_segment(tmp_path).read_bytes()
    for at in range(start, end, 3):
        place = tmp_path / str(at)
        shutil.copytree(tmp_path, place, ignore=lambda *_: [str(n) for n in range(start, end)])
        path = last_segment(place)
        data = bytearray(whole)
        data[at] ^= 0x10
        path.write_bytes(data)
        with closing(small(place, strict=True)) as log:
            with pytest.raises(Damaged, match=f"{path.name}, byte {start}:") as caught:
                log.claim("again")
            assert (caught.value.from_seq, caught.value.until_seq) == (1, 3)
        caplog.clear()
        with closing(small(place)) as log:
            assert log.claim("again") == 4
            assert f"{path.name}, byte {start}:" in caplog.text
            write(log, 1)
            size = log.size_bytes
        # It is kept as it is, and the log goes on in a segment of its own.
        assert path.read_bytes() == data
        assert list_segments(place) == [1, 4]
        with closing(SegmentReader(place)) as reader:
            with pytest.raises(Damaged, match=f"{path.name}, byte {start}:") as caught:
                reader.read(1, 1)
            assert (caught.value.from_seq, caught.value.until_seq) == (1, 3)
            assert read_all(reader, 3) == numbered(3, 4)
        with closing(small(place, strict=True)) as log:
            # Told once: what is sealed does not stop a start.
            assert log.claim("again") == 5
            assert log.size_bytes > size
        shutil.rmtree(place)


def test_damage_is_found_even_when_the_head_file_is_behind(tmp_path: Path) -> None:
    # A power cut may leave the head file behind the log; whole chunks behind still tell.
    filled(tmp_path, (2, 1, 1)).close()
    data = bytearray(last_segment(tmp_path).read_bytes())
    at = data.index(b"<2>")
    data[at] ^= 1
    last_segment(tmp_path).write_bytes(data)
    set_announced(tmp_path, 0)
    with closing(small(tmp_path)) as log:
        assert log.claim("again") == 5


def test_bytes_of_an_event_that_look_like_a_chunk_do_not_turn_a_crash_into_damage(
    tmp_path: Path,
) -> None:
    other = tmp_path / "other"
    bait = write(filled(other, (40,)), 1).raw
    place = tmp_path / "log"
    log = filled(place, (2,))
    end = last_segment(place).stat().st_size
    frame = bait + b"." * 100
    log.append(pack([frame]), [frame], TIME_US)
    crash(log)
    for at, cut in ((0, 50), (40, 10), (0, 10)):
        torn = tmp_path / f"torn{at}-{cut}"
        shutil.copytree(place, torn)
        data = bytearray(last_segment(torn).read_bytes()[:-cut])
        data[end + at : end + at + 8] = bytes(8)
        last_segment(torn).write_bytes(data)
        with closing(small(torn)) as log:
            assert log.claim("again") == 3


def test_a_missing_segment_is_damage(tmp_path: Path) -> None:
    log = filled(tmp_path, (40, 40, 40))
    log.close()
    bases = list_segments(tmp_path)
    assert len(bases) == 3
    segment_path(tmp_path, bases[1]).unlink()
    with closing(SegmentReader(tmp_path)) as reader:
        with pytest.raises(Damaged):
            read_all(reader)
        assert events(reader.read(bases[2], 1))[0][0] == bases[2]


def test_damage_in_a_sealed_segment_is_found_by_its_reader(tmp_path: Path) -> None:
    log = filled(tmp_path, (40, 40, 40))
    log.close()
    path = segment_path(tmp_path, list_segments(tmp_path)[1])
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with closing(SegmentReader(tmp_path)) as reader, pytest.raises(Damaged, match=path.name):
        read_all(reader)


# --- failures while running ---


@pytest.mark.parametrize("call", ["write", "sync"])
def test_after_a_failure_nothing_is_announced_and_nothing_more_is_written(
    tmp_path: Path, call: str
) -> None:
    disk = RecordingDisk()
    log = filled(tmp_path, (2,), disk)
    disk.fails[call] = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        write(log, 1)
    disk.fails.clear()
    for again in (lambda: write(log, 1), lambda: log.wait(2)):
        with pytest.raises(Fenced):
            again()
    with closing(SegmentReader(tmp_path)) as reader:
        assert (log.durable_seq, reader.durable_seq) == (2, 2)
    log.close()
    with closing(small(tmp_path)) as log:
        # What reached the file whole stays, what did not is cut; either way nothing is given twice.
        assert log.claim("again") == (4 if call == "sync" else 3)


def test_a_roll_that_fails_ends_the_writer(tmp_path: Path) -> None:
    disk = RecordingDisk()
    log = filled(tmp_path, (40,), disk)
    disk.fails["create"] = errno.ENOSPC
    with pytest.raises(OSError, match="No space"):
        write(log, 40)
    with pytest.raises(Fenced):
        write(log, 1)
    log.close()
    with closing(small(tmp_path)) as log:
        assert log.claim("again") == 41


@pytest.mark.parametrize("room", [0, 1, 47, 48, 49, 200])
def test_a_disk_that_fills_within_a_chunk_loses_nothing_announced(
    tmp_path: Path, room: int
) -> None:
    disk = FullDisk(10_000)
    log = filled(tmp_path, (2,), disk)
    disk.room = room
    with pytest.raises(OSError, match="No space"):
        write(log, 5)
    log.close()
    with closing(small(tmp_path)) as log:
        assert log.claim("again") == 3
        write(log, 1)
    assert everything(tmp_path) == numbered(1, 2, 3)


def test_the_real_disk_tells_when_a_file_cannot_grow(tmp_path: Path) -> None:
    # RLIMIT_FSIZE gives a short write first, as a full disk does; in a process of its own.
    code = (
        "import signal, resource, pathlib, sys\n"
        "from tests.persist.test_segment_log import small, write\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "log = small(pathlib.Path(sys.argv[1])); log.claim('first')\n"
        "write(log, 2)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (log.size_bytes + 60, -1))\n"
        "write(log, 2)\n"
    )
    assert resource.RLIMIT_FSIZE
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "OSError: [Errno 27] File too large" in done.stderr
    with closing(small(tmp_path)) as log:
        assert log.claim("again") == 3


def test_a_name_is_on_disk_before_anything_in_its_file_is_durable(tmp_path: Path) -> None:
    disk = RecordingDisk()
    log = filled(tmp_path, (40, 40), disk)
    log.close()
    name = last_segment(tmp_path).name
    begun = disk.asked.index(("create", name))
    index = disk.asked.index(("create", f"{1:020d}.idx"))
    # What was in the full segment is on disk before the next one is begun; its index may be lost.
    assert [call[0] for call in disk.asked[index - 2 : begun]] == [
        "sync", "remove", "create", "write",
    ]  # fmt: skip
    assert disk.asked[begun + 1] == ("sync_folder",)
    assert [call[0] for call in disk.asked[begun + 2 :]] == ["write", "sync"]


def test_what_was_appended_before_a_roll_is_flushed_with_its_own_file(tmp_path: Path) -> None:
    disk = RecordingDisk()
    log = filled(tmp_path, (1,), disk)
    for _ in range(2):
        frames = [event(log.next_seq + n) for n in range(40)]
        chunk = log.append(pack(frames), frames, TIME_US)
    asked = [call[0] for call in disk.asked]
    assert asked[-5:] == ["create", "write", "create", "sync_folder", "write"]
    assert asked[-8:-5] == ["write", "sync", "remove"]
    log.wait(chunk.next_seq - 1)
    log.close()
    assert everything(tmp_path) == numbered(*range(1, 82))


def test_retention_tells_readers_before_it_removes_a_file(tmp_path: Path) -> None:
    class Watching(RecordingDisk):
        def remove(self, path: Path) -> None:
            with closing(SegmentReader(tmp_path)) as reader:
                seen[path.name] = reader.oldest_seq > int(path.stem)
            super().remove(path)

    seen: dict[str, bool] = {}
    log = filled(tmp_path, (40, 40, 40), Watching())
    gone = [path.name for base in list_segments(tmp_path)[:2] for path in (
        index_path(tmp_path, base), segment_path(tmp_path, base))]  # fmt: skip
    seen.clear()
    assert log.retain(0, 1e9, TIME_US / 1e6) == 2
    log.close()
    assert seen == dict.fromkeys(gone, True)
    assert list_indexes(tmp_path) == []


def test_the_age_of_a_segment_sealed_before_a_restart_is_that_of_its_last_event(
    tmp_path: Path,
) -> None:
    log = small(tmp_path)
    log.claim("first")
    write(log, 20)
    # Beats long after the last event: they do not keep it.
    for second in range(1, 30):
        write(log, 0, time_us=TIME_US + second * 1_000_000)
    write(log, 40, time_us=TIME_US + 30_000_000)
    log.close()
    assert list_segments(tmp_path) == [1, 21]
    with closing(small(tmp_path)) as log:
        log.claim("again")
        assert log.retain(2**60, 10.0, TIME_US / 1e6 + 9) == 0
        assert log.retain(2**60, 10.0, TIME_US / 1e6 + 9.5) == 0
        assert log.retain(2**60, 10.0, TIME_US / 1e6 + 11) == 1


def test_a_segment_is_rolled_by_chunks_too_but_never_while_it_has_no_event(
    tmp_path: Path,
) -> None:
    log = SegmentLog(tmp_path, segment_chunks=4)
    log.claim("first")
    for _ in range(10):
        write(log, 0)
    assert list_segments(tmp_path) == [1]
    for _ in range(9):
        write(log, 1)
    log.close()
    assert list_segments(tmp_path) == [1, 2, 6]
    assert everything(tmp_path) == numbered(*range(1, 10))


def test_an_idle_log_does_not_grow_for_ever_and_goes_on(tmp_path: Path) -> None:
    log = SegmentLog(tmp_path, segment_chunks=10, now=lambda: TIME_US / 1e6)
    log.claim("first")
    write(log, 3)
    sizes = set()
    for second in range(200):
        beat = write(log, 0, time_us=TIME_US + second)
        # It is made all the same: silence means trouble.
        assert (beat.count, beat.first_seq, beat.time_us) == (0, 4, TIME_US + second)
        assert log.durable_seq == 3
        sizes.add(log.size_bytes)
    assert list_segments(tmp_path) == [1, 4]
    assert len(sizes) < 25
    kept = last_segment(tmp_path).stat().st_size
    log.close()
    with closing(SegmentLog(tmp_path, segment_chunks=10)) as log:
        assert log.claim("again") == 4
        write(log, 2)
        for _ in range(3):
            write(log, 1)
    assert last_segment(tmp_path).stat().st_size < kept
    assert everything(tmp_path) == numbered(*range(1, 9))


# --- time ---


def test_no_chunk_seems_older_than_the_one_before_whatever_the_clock_does(tmp_path: Path) -> None:
    now_s = TIME_US / 1e6
    with closing(SegmentLog(tmp_path, segment_bytes=4096, now=lambda: now_s)) as log:
        log.claim("first")
        assert log.last_time_us == TIME_US
        write(log, 1, time_us=TIME_US + 5_000_000)
        assert log.last_time_us == TIME_US + 5_000_000
    # The clock has been set back; what is asked of the log by time stays in order.
    now_s -= 3600
    with closing(SegmentLog(tmp_path, segment_bytes=4096, now=lambda: now_s)) as log:
        log.claim("again")
        assert log.last_time_us == TIME_US + 5_000_000
        write(log, 60, time_us=log.last_time_us)
        log._roll()
        crash(log)
    # The last segment has no chunk yet: the one before it tells.
    with closing(SegmentLog(tmp_path, segment_bytes=4096, now=lambda: now_s)) as log:
        log.claim("once more")
        assert log.last_time_us == TIME_US + 5_000_000
    times = []
    for base in list_segments(tmp_path):
        data, at = segment_path(tmp_path, base).read_bytes(), 0
        while at < len(data):
            chunk = decode_chunk(data, at)
            times.append(chunk.time_us)
            at += len(chunk.raw)
    assert times == sorted(times)


# --- readers that race with retention ---


class Steps:
    """Does something before the n-th time that a reader turns to the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        self.then: Callable[[], object] = lambda: None
        for module, name in (("os", "open"), ("os", "pread"), ("os", "listdir")):
            monkeypatch.setattr(f"{module}.{name}", self._before(getattr(os, name)))

    def _before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **names: Any) -> Any:
            self.left -= 1
            if self.left == -1:
                self.then()
            return call(*args, **names)

        return called


@pytest.mark.parametrize("warm", [False, True], ids=["a new reader", "one that has read before"])
@pytest.mark.parametrize("seq", [1, 60, 170, 230])
def test_retention_between_any_two_steps_of_a_reader_is_never_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seq: int, warm: bool
) -> None:
    whole = tmp_path / "whole"
    filled(whole, (40,) * 6).close()
    steps = Steps(monkeypatch)
    outcomes = set()
    for number in range(1000):
        place = tmp_path / str(number)
        shutil.copytree(whole, place)
        with closing(small(place, QuickDisk())) as log, closing(SegmentReader(place)) as reader:
            log.claim("again")
            if warm:
                assert events(reader.read(1, 1))
                assert events(reader.read(100, 1))
            steps.then = functools.partial(log.retain, 9000, 1e9, TIME_US / 1e6)
            steps.left = number
            try:
                found = events(reader.read(seq, 10_000))
                assert dict(found)[seq] == event(seq)
                assert found == numbered(*range(found[0][0], found[-1][0] + 1))
                outcomes.add("read")
            except Outdated:
                outcomes.add("outdated")
            done = steps.left >= 0
            steps.left = -1
            if not done:
                assert reader.oldest_seq == 161
        shutil.rmtree(place)
        if done:
            break
    assert number > 2
    assert outcomes == ({"read", "outdated"} if seq < 161 else {"read"})


@pytest.mark.parametrize("seconds", [0, 100, 230, 1000])
def test_retention_between_any_two_steps_of_a_search_by_time_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    whole = tmp_path / "whole"
    with closing(small(whole)) as log:
        log.claim("first")
        for second in range(0, 240, 40):
            write(log, 40, time_us=TIME_US + second * 1_000_000)
    steps = Steps(monkeypatch)
    for number in range(1000):
        place = tmp_path / str(number)
        shutil.copytree(whole, place)
        with closing(small(place, QuickDisk())) as log, closing(SegmentReader(place)) as reader:
            log.claim("again")
            steps.then = functools.partial(log.retain, 9000, 1e9, TIME_US / 1e6)
            steps.left = number
            seq = reader.seq_at(TIME_US / 1e6 + seconds)
            done = steps.left >= 0
            steps.left = -1
            exact = {0: 1, 100: 121, 230: 241, 1000: 241}[seconds]
            assert seq == exact or (exact < 161 and seq <= reader.oldest_seq)
        shutil.rmtree(place)
        if done:
            break
    assert number > 2


def test_at_every_step_of_retention_a_reader_reads_or_is_told_outdated(tmp_path: Path) -> None:
    class Looking(RecordingDisk):
        def remove(self, path: Path) -> None:
            look()
            super().remove(path)
            look()

        def sync_folder(self, folder: Path) -> None:
            look()
            super().sync_folder(folder)

    def look() -> None:
        for seq in (1, 41, 81, 121, 161):
            with closing(SegmentReader(tmp_path)) as reader:
                if seq < reader.oldest_seq:
                    with pytest.raises(Outdated):
                        reader.read(seq, 1)
                elif seq <= reader.durable_seq:
                    looked.append(seq)
                    assert events(reader.read(seq, 1))[0][0] == seq

    looked: list[int] = []
    log = filled(tmp_path, (40,) * 5, Looking())
    looked.clear()
    assert log.retain(9000, 1e9, TIME_US / 1e6) == 3
    assert set(looked) == {121, 161}
    log.close()


def test_a_restart_between_any_two_steps_of_a_reader_changes_nothing_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    log = filled(whole, (40, 40, 10))
    frames = [event(91)]
    log.append(pack(frames), frames, TIME_US)
    crash(log)
    with last_segment(whole).open("ab") as file:
        file.write(b"SPLC\x01\x01torn")
    steps = Steps(monkeypatch)
    for number in range(1000):
        place = tmp_path / str(number)
        shutil.copytree(whole, place)
        with closing(SegmentReader(place)) as reader, closing(small(place, QuickDisk())) as log:

            def restart(log: SegmentLog = log) -> None:
                assert log.claim("again") == 92
                write(log, 40)

            steps.then = restart
            steps.left = number
            found = dict(read_all(reader, 1, 3000))
            done = steps.left >= 0
            steps.left = -1
            assert set(range(1, 91)) <= found.keys()
            assert found == {seq: event(seq) for seq in found}
        shutil.rmtree(place)
        if done:
            break
    assert number > 5


def test_retention_drops_a_bounded_number_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persist.segment_log.DROPPED_AT_ONCE", 2)
    log = filled(tmp_path, (40,) * 6)
    sizes = [log.size_bytes]
    assert [log.retain(0, 1e9, TIME_US / 1e6) for _ in range(4)] == [2, 2, 1, 0]
    sizes.append(log.size_bytes)
    assert sizes[1] == last_segment(tmp_path).stat().st_size < sizes[0]
    assert log.oldest_seq == 201
    log.close()
