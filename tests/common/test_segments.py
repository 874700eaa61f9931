"""Does a reader follow the log through rolls, retention, restarts and damage?

The contract itself is tests/log_contract.py, run in tests/persist/test_segment_log.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from common import segment_index, segments
from common.chunk import HEAD
from common.log import Damaged, Outdated
from common.segment_files import HEAD_NAME, HeadFile, HeadMissing, list_segments, segment_path
from common.segments import SegmentReader
from persist.segment_log import SKIPPED_AFTER_LOSS, SegmentLog
from tests.log_contract import TIME_US, event, events, read_all, write


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SegmentLog]:
    """A log that rolls about each 4 kB."""
    with closing(writer(tmp_path)) as log:
        log.claim("first")
        yield log


def writer(place: Path) -> SegmentLog:
    return SegmentLog(place, segment_bytes=4096, now=lambda: TIME_US / 1e6 - 1)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[SegmentReader]:
    with closing(SegmentReader(tmp_path)) as reader:
        yield reader


def test_a_reader_sees_what_another_process_makes_durable(
    tmp_path: Path, reader: SegmentReader
) -> None:
    code = (
        "import sys, pathlib; from tests.log_contract import write\n"
        "from persist.segment_log import SegmentLog\n"
        "log = SegmentLog(pathlib.Path(sys.argv[1])); log.claim('other')\n"
        "for line in sys.stdin: write(log, 2); print('written', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin
        assert other.stdout
        for round_number in range(1, 4):
            other.stdin.write(b"go\n")
            other.stdin.flush()
            assert other.stdout.readline() == b"written\n"
            assert reader.durable_seq == 2 * round_number
            assert len(read_all(reader)) == 2 * round_number
        other.stdin.close()


def test_a_replay_that_began_before_many_rolls_goes_on(
    log: SegmentLog, reader: SegmentReader
) -> None:
    write(log, 1)
    assert len(read_all(reader)) == 1
    for _ in range(5):
        write(log, 40)
    assert [seq for seq, _ in read_all(reader, 2)] == list(range(2, 202))


def test_a_seek_finds_segments_begun_since_the_last_look(
    log: SegmentLog, reader: SegmentReader
) -> None:
    write(log, 1)
    reader.read(1, 1000)
    for _ in range(5):
        write(log, 40)
    for seq in (190, 120, 45, 2):
        assert read_all(reader, seq)[-1][0] == 201
    assert events(reader.read(190, 1))[0][0] <= 190


def test_a_segment_that_retention_dropped_is_outdated_even_while_it_is_open(
    log: SegmentLog, reader: SegmentReader
) -> None:
    for _ in range(80):
        write(log, 1, size=400)
    reader.read(1, 1)
    reader.read(3, 1)
    log.retain(5000, 1e9, TIME_US / 1e6)
    for seq in (1, 2, 3, 4):
        with pytest.raises(Outdated) as caught:
            reader.read(seq, 1)
        assert caught.value.oldest_seq == reader.oldest_seq


def test_a_segment_that_vanishes_without_retention_is_damage(
    tmp_path: Path, log: SegmentLog, reader: SegmentReader
) -> None:
    for _ in range(5):
        write(log, 40)
    reader.read(1, 1)
    segment_path(tmp_path, list_segments(tmp_path)[2]).unlink()
    with pytest.raises(Damaged, match="missing"):
        read_all(reader)


def test_a_log_that_ends_before_its_durable_seq_is_damage(
    tmp_path: Path, log: SegmentLog, reader: SegmentReader
) -> None:
    write(log, 1)
    end = log.size_bytes
    write(log, 1)
    for cut in (end, end + 10, end + HEAD.size + 20):
        os.truncate(segment_path(tmp_path, 1), cut)
        with pytest.raises(Damaged):
            read_all(SegmentReader(tmp_path))


def test_a_bit_that_flips_after_the_index_was_made_is_damage(
    tmp_path: Path, log: SegmentLog, reader: SegmentReader
) -> None:
    start = log.size_bytes
    write(log, 2)
    end = log.size_bytes
    write(log, 1)
    path = segment_path(tmp_path, 1)
    whole = path.read_bytes()
    read_all(reader)
    for at in range(start, end):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(Damaged, match=path.name):
            read_all(reader, 1)


@pytest.mark.parametrize("cut", [pytest.param(0, id="at a chunk's end"), 1, 300])
def test_after_a_loss_a_reader_goes_on_behind_the_hole(
    tmp_path: Path, reader: SegmentReader, cut: int
) -> None:
    with closing(writer(tmp_path)) as log:
        log.claim("first")
        write(log, 2)
        end = log.size_bytes
        write(log, 3)
        assert len(read_all(reader)) == 5
    # 300 bytes of the second chunk stay, or one, or none.
    os.truncate(segment_path(tmp_path, 1), end + cut)
    with closing(writer(tmp_path)) as log:
        first = log.claim("again")
        assert first == 5 + SKIPPED_AFTER_LOSS
        write(log, 1)
        assert read_all(reader, first) == [(first, event(first))]
        if not cut:
            # Left out by the claim: nothing is there that could be damaged.
            assert [seq for seq, _ in read_all(reader, 1)] == [1, 2, first]
            assert read_all(reader, 6) == [(first, event(first))]
            return
        assert events(reader.read(1, 1)) == [(1, event(1)), (2, event(2))]
        for seq in (3, 5, first - 1):
            with pytest.raises(Damaged) as caught:
                reader.read(seq, 1000)
            assert (caught.value.from_seq, caught.value.until_seq) == (3, first)


def test_many_small_reads_and_long_ones_agree_when_the_index_is_dense_or_sparse(
    log: SegmentLog, reader: SegmentReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        write(log, number % 4, size=50 + number, time_us=TIME_US + number * 1_000_000)
    everything = read_all(reader)
    base_s = TIME_US / 1e6
    times = [reader.seq_at(base_s + second / 2) for second in range(120)]
    monkeypatch.setattr(segment_index, "INDEX_GRAIN_BYTES", 1)
    with closing(SegmentReader(reader._dir)) as dense:
        assert read_all(dense) == everything
        assert [seq for seq, _ in everything] == list(range(1, 91))
        for seq in range(1, 91):
            assert dense.read(seq, 1)[0] == reader.read(seq, 1)[0]
        assert [dense.seq_at(base_s + second / 2) for second in range(120)] == times


def test_seq_at_agrees_with_the_times_that_were_written(
    log: SegmentLog, reader: SegmentReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_index, "INDEX_GRAIN_BYTES", 1)
    first_at: dict[int, int] = {}
    for number in range(60):
        first_at[number] = log.next_seq
        for _ in range(1 + number % 3):
            write(log, 1 + number % 2, size=200, time_us=TIME_US + number * 1_000_000)
    base_s = TIME_US / 1e6
    assert {n: reader.seq_at(base_s + n) for n in range(60)} == first_at
    assert reader.seq_at(base_s + 60) == log.next_seq


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_reader_keeps_few_files_open(
    log: SegmentLog, reader: SegmentReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "OPEN_SEGMENTS", 2)
    for _ in range(8):
        write(log, 40)
    before = open_files()
    for from_seq in (1, 300, 100, 200):
        assert read_all(reader, from_seq)[-1][0] == 320
    assert open_files() <= before + 3  # two segments and the head
    reader.close()
    assert open_files() <= before


def test_a_closed_reader_may_be_closed_again_and_opens_anew(
    log: SegmentLog, reader: SegmentReader
) -> None:
    write(log, 2)
    reader.close()
    reader.close()
    assert len(read_all(reader)) == 2


@pytest.mark.parametrize(
    "content", [pytest.param(b"", id="empty"), pytest.param(b"x" * 64, id="another file's")]
)
def test_a_head_file_that_is_none_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / HEAD_NAME).write_bytes(content)
    with pytest.raises(HeadMissing):
        HeadFile(tmp_path / HEAD_NAME)
    with closing(SegmentReader(tmp_path)) as reader:
        assert reader.durable_seq == 0


def test_only_segments_are_listed(tmp_path: Path) -> None:
    for name in ("00000000000000000007.seg", "00000000000000000003.seg", "7.seg", "head", "lock"):
        (tmp_path / name).touch()
    assert list_segments(tmp_path) == [3, 7]
    assert list_segments(tmp_path / "nowhere") == []


def test_an_index_marks_one_chunk_about_each_grain() -> None:
    grain = segment_index.INDEX_GRAIN_BYTES
    marks: list[segment_index.Mark] = []
    for offset in (0, grain - 1, grain, 2 * grain - 1, 2 * grain):
        segment_index.add_mark(marks, offset, offset + 1, TIME_US)
    assert [mark.offset for mark in marks] == [0, grain, 2 * grain]
