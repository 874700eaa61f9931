"""Does a walk over the log's folder cope with a writer and with retention at work?

What it makes of damage is seen in tests/persist/test_verify.py and tests/running/test_log_tools.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from common.chunk import UnknownFormat
from common.log_walk import Broken, Found, Told, read_told, walk
from common.segment_files import HEAD_NAME, HeadFile, list_segments, segment_path
from persist.segment_log import SegmentLog
from tests.log_contract import TIME_US, write


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SegmentLog]:
    """A log that rolls about each 4 kB: some segments of forty events."""
    with closing(SegmentLog(tmp_path, segment_bytes=4096, now=lambda: TIME_US / 1e6 - 1)) as log:
        log.claim("first")
        for _ in range(10):
            write(log, 20)
        assert len(list_segments(tmp_path)) >= 5
        yield log


def seqs(walked: list[Found | Broken]) -> list[int]:
    chunks = [each.chunk for each in walked if isinstance(each, Found)]
    return [seq for chunk in chunks for seq in range(chunk.first_seq, chunk.next_seq)]


def test_a_walk_begins_where_it_is_asked_to_and_ends_at_what_is_durable(
    log: SegmentLog, tmp_path: Path
) -> None:
    for first in (1, 2, 77, 200):
        walked = list(walk(tmp_path, first, 200))
        # The first chunk holds it.
        assert seqs(walked) == list(range((first - 1) // 20 * 20 + 1, 201))
    assert seqs(list(walk(tmp_path, 1, 90))) == list(range(1, 101))
    assert list(walk(tmp_path, 201, 200)) == []
    # Claims and beats too.
    first_found = next(walk(tmp_path))
    assert isinstance(first_found, Found)
    assert first_found.chunk.info == b"first"


def test_what_retention_takes_under_a_walk_is_no_damage(log: SegmentLog, tmp_path: Path) -> None:
    bases = list_segments(tmp_path)
    walking = walk(tmp_path, 1, log.durable_seq)
    walked = [next(walking)]
    assert log.retain(0, 1e12, TIME_US / 1e6) == len(bases) - 1
    walked += walking
    (broken,) = [each for each in walked if isinstance(each, Broken)]
    assert broken.retired
    assert (broken.from_seq, broken.until_seq) == (bases[1], bases[-1])
    lost = range(bases[1], bases[-1])
    assert seqs(walked) == [seq for seq in range(1, 201) if seq not in lost]


def test_a_segment_that_is_begun_under_a_walk_is_read(log: SegmentLog, tmp_path: Path) -> None:
    walking = walk(tmp_path, 1, 300)
    walked = [next(walking)]
    for _ in range(5):
        write(log, 20)
    walked += walking
    assert seqs(walked) == list(range(1, 301))
    assert not [each for each in walked if isinstance(each, Broken)]


def test_a_log_that_ends_before_what_was_announced_is_named(
    log: SegmentLog, tmp_path: Path
) -> None:
    walked = list(walk(tmp_path, 1, 205))
    assert isinstance(walked[-1], Broken)
    assert (walked[-1].from_seq, walked[-1].until_seq) == (201, None)
    assert "205 had been reached" in walked[-1].why


def test_the_head_file_is_read_and_never_made(log: SegmentLog, tmp_path: Path) -> None:
    told = read_told(tmp_path)
    assert (told.epoch, told.durable_seq, told.oldest_seq) == (1, 200, 1)
    assert read_told(tmp_path / "none") == Told(0, 0, 0)
    assert not (tmp_path / "none").exists()
    path = tmp_path / HEAD_NAME
    with closing(HeadFile(path)):
        path.write_bytes(path.read_bytes().replace(b"SPHEAD01", b"SPHEAD02"))
    with pytest.raises(UnknownFormat, match="format 2"):
        read_told(tmp_path)


def test_an_empty_file_and_an_empty_folder_are_walked(log: SegmentLog, tmp_path: Path) -> None:
    segment_path(tmp_path, 201).touch()
    assert seqs(list(walk(tmp_path, 1, 200))) == list(range(1, 201))
    assert list(walk(tmp_path / "none")) == []
