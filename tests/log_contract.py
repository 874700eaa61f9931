"""What every engine of the log promises (common/log.py), as one suite.

A subclass says how an engine is opened, and pytest runs the suite on it:

    class TestSegmentLog(LogContract):
        def writer(self, place): ...
        def reader(self, place): ...

`place` is a folder of the test's own. The helpers below make events that can be told apart.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from common.chunk import ROW, Chunk, account_key
from common.log import Fenced, LogReader, LogWriter, Outdated

TIME_US = 1_700_000_000_000_000


def event(number: int, size: int = 20) -> bytes:
    """The frame of the event that stands at seq `number` in these tests."""
    return (b"<%d>" % number).ljust(size, b".")


def pack(frames: list[bytes], time_us: int = TIME_US) -> list[bytes]:
    """Packed rows for these frames."""
    rows, offset = [], 0
    for frame in frames:
        account = account_key("did:plc:a")
        rows.append(ROW.pack(offset, len(frame), 1, 0, 0, 1, 1, 1, 1, 1, time_us, 0, account))
        offset += len(frame)
    return rows


def write(log: LogWriter, count: int, *, size: int = 20, time_us: int = TIME_US) -> Chunk:
    """Append the next `count` events as one chunk, and wait for it."""
    frames = [event(log.next_seq + n, size) for n in range(count)]
    chunk = log.append(pack(frames, time_us), frames, time_us)
    log.wait(chunk.next_seq - 1)
    return chunk


def events(chunks: list[Chunk]) -> list[tuple[int, bytes]]:
    """(seq, frame) of every event in these chunks."""
    return [
        (chunk.first_seq + n, bytes(chunk.frames_from(chunk.first_seq + n)[: row.length]))
        for chunk in chunks
        for n, row in enumerate(chunk.rows())
    ]


def read_all(log: LogReader, from_seq: int = 1, max_bytes: int = 1) -> list[tuple[int, bytes]]:
    """Everything from `from_seq` to the end, in as many reads as it takes."""
    found: list[tuple[int, bytes]] = []
    while chunks := log.read(from_seq, max_bytes):
        found += events(chunks)
        from_seq = chunks[-1].next_seq
    return found


class LogContract(ABC):
    """The suite."""

    @abstractmethod
    def writer(self, place: Path) -> LogWriter:
        """A writer on `place`, not yet claimed; its retention drops a few events at a time."""

    @abstractmethod
    def reader(self, place: Path) -> LogReader:
        """A reader on `place`."""

    @abstractmethod
    def crash(self, log: LogWriter) -> None:
        """Let go of everything a dead process lets go of, and flush nothing."""

    @abstractmethod
    def lose_lock(self, place: Path) -> None:
        """Make another claim possible while a writer still runs, as if it had been frozen."""

    @pytest.fixture
    def log(self, tmp_path: Path) -> Iterator[LogWriter]:
        with closing(self.writer(tmp_path)) as log:
            assert log.claim("first") == 1
            yield log

    @pytest.fixture
    def reading(self, tmp_path: Path) -> Iterator[LogReader]:
        with closing(self.reader(tmp_path)) as reader:
            yield reader

    def test_a_log_that_was_never_claimed_is_empty(self, reading: LogReader) -> None:
        assert reading.read(1, 1000) == []
        assert (reading.durable_seq, reading.oldest_seq) == (0, 1)

    def test_reads_are_dense_and_inclusive_from_every_seq(
        self, log: LogWriter, reading: LogReader
    ) -> None:
        for count in (1, 3, 2, 1, 5):
            write(log, count)
        everything = [(seq, event(seq)) for seq in range(1, 13)]
        for from_seq in range(1, 13):
            for max_bytes in (1, 300, 10_000):
                found = read_all(reading, from_seq, max_bytes)
                # The first chunk holds from_seq, and may begin before it.
                assert found[-1][0] == 12
                assert found == everything[found[0][0] - 1 :]
                assert found[0][0] <= from_seq
                first = reading.read(from_seq, max_bytes)[0]
                assert first.first_seq <= from_seq < first.next_seq

    def test_a_read_is_bounded(self, log: LogWriter, reading: LogReader) -> None:
        for _ in range(40):
            write(log, 1, size=10_000)
        got = reading.read(1, 100_000)
        assert 1 <= len(got) <= 11
        assert len(reading.read(1, 1)) <= 7

    def test_an_event_larger_than_a_read_is_read(self, log: LogWriter, reading: LogReader) -> None:
        write(log, 1)
        write(log, 1, size=500_000)
        write(log, 1)
        assert [seq for seq, _ in read_all(reading, 1, 1)] == [1, 2, 3]
        assert [seq for seq, _ in read_all(reading, 2, 1)] == [2, 3]

    def test_nothing_lies_behind_the_end(self, log: LogWriter, reading: LogReader) -> None:
        write(log, 2)
        assert reading.read(3, 1000) == []
        write(log, 1)
        assert [seq for seq, _ in read_all(reading, 3)] == [3]

    def test_beats_are_in_the_log_and_in_no_read(self, log: LogWriter, reading: LogReader) -> None:
        for _ in range(3):
            write(log, 0)
            write(log, 1)
            write(log, 0)
        assert [seq for seq, _ in read_all(reading)] == [1, 2, 3]
        assert all(chunk.count for chunk in reading.read(1, 10_000))

    def test_a_reader_never_passes_the_durable_seq(
        self, log: LogWriter, reading: LogReader
    ) -> None:
        write(log, 2)
        frames = [event(3)]
        log.append(pack(frames), frames, TIME_US)
        assert (log.durable_seq, reading.durable_seq) == (2, 2)
        assert read_all(reading) == [(1, event(1)), (2, event(2))]
        assert reading.read(3, 1000) == []
        log.wait(3)
        assert (log.durable_seq, reading.durable_seq) == (3, 3)
        assert read_all(reading, 3) == [(3, event(3))]

    def test_reopening_continues(self, tmp_path: Path, reading: LogReader) -> None:
        for start in range(1, 30, 3):
            with closing(self.writer(tmp_path)) as log:
                assert log.claim("again") == start
                assert log.durable_seq == start - 1
                write(log, 2)
                write(log, 1)
        assert read_all(reading) == [(seq, event(seq)) for seq in range(1, 31)]

    def test_what_was_durable_survives_a_crash(self, tmp_path: Path, reading: LogReader) -> None:
        log = self.writer(tmp_path)
        log.claim("first")
        write(log, 3)
        self.crash(log)
        with closing(self.writer(tmp_path)) as log:
            assert log.claim("second") == 4
            write(log, 1)
        assert read_all(reading) == [(seq, event(seq)) for seq in range(1, 5)]

    def test_each_claim_raises_the_epoch(self, tmp_path: Path, reading: LogReader) -> None:
        epochs = []
        for _ in range(3):
            with closing(self.writer(tmp_path)) as log:
                log.claim("again")
                epochs.append(write(log, 1).epoch)
        assert epochs == sorted(set(epochs))
        assert [chunk.epoch for chunk in reading.read(1, 10_000)] == epochs

    def test_the_chain_holds_over_restarts_and_beats(self, tmp_path: Path) -> None:
        chunks = []
        with closing(self.writer(tmp_path)) as log:
            log.claim("first")
            chunks = [write(log, 1), write(log, 0), write(log, 2)]
        assert [chunk.prev_crc for chunk in chunks[1:]] == [chunk.crc for chunk in chunks[:-1]]

    def test_a_floor_leaves_numbers_out_once_and_for_all(
        self, tmp_path: Path, reading: LogReader
    ) -> None:
        with closing(self.writer(tmp_path)) as log:
            log.claim("first")
            write(log, 2)
        for expected in (1000, 1001):
            with closing(self.writer(tmp_path)) as log:
                assert log.claim("again", floor_seq=1000) == expected
                assert log.durable_seq == expected - 1
                write(log, 1)
        assert [seq for seq, _ in read_all(reading)] == [1, 2, 1000, 1001]
        assert [seq for seq, _ in read_all(reading, 500)] == [1000, 1001]

    def test_a_log_may_begin_at_a_floor(self, tmp_path: Path, reading: LogReader) -> None:
        with closing(self.writer(tmp_path)) as log:
            assert log.claim("first", floor_seq=5000) == 5000
            assert (reading.oldest_seq, reading.durable_seq) == (5000, 4999)
            write(log, 2)
        assert [seq for seq, _ in read_all(reading, 5000)] == [5000, 5001]
        with pytest.raises(Outdated):
            reading.read(4999, 1000)

    def test_a_log_that_ends_before_what_was_reached_goes_on_far_above(
        self, tmp_path: Path, reading: LogReader
    ) -> None:
        with closing(self.writer(tmp_path)) as log:
            log.claim("first")
            write(log, 2)
        with closing(self.writer(tmp_path)) as log:
            assert log.claim("again", reached_seq=2) == 3
        with closing(self.writer(tmp_path)) as log:
            first = log.claim("again", reached_seq=3)
            assert first > 1_000
            write(log, 1)
        assert [seq for seq, _ in read_all(reading)] == [1, 2, first]

    def test_a_second_writer_is_refused_while_the_first_holds_the_log(
        self, tmp_path: Path, log: LogWriter
    ) -> None:
        with closing(self.writer(tmp_path)) as other, pytest.raises(Fenced):
            other.claim("second")
        write(log, 1)

    def test_a_writer_that_was_outlived_makes_nothing_durable(
        self, tmp_path: Path, log: LogWriter, reading: LogReader
    ) -> None:
        write(log, 2)
        self.lose_lock(tmp_path)
        with closing(self.writer(tmp_path)) as newer:
            assert newer.claim("newer") == 3
            with pytest.raises(Fenced):
                write(log, 1)
            write(newer, 1)
            with pytest.raises(Fenced):
                log.wait(2)
        assert read_all(reading) == [(seq, event(seq)) for seq in (1, 2, 3)]

    def test_a_writer_outlived_between_append_and_wait_announces_nothing(
        self, tmp_path: Path, log: LogWriter, reading: LogReader
    ) -> None:
        write(log, 1)
        frames = [event(2)]
        log.append(pack(frames), frames, TIME_US)
        self.lose_lock(tmp_path)
        with closing(self.writer(tmp_path)) as newer:
            next_seq = newer.claim("newer")
            with pytest.raises(Fenced):
                log.wait(2)
            assert log.durable_seq == 1
            assert reading.durable_seq == next_seq - 1

    def test_of_four_claims_at_once_one_survives(self, tmp_path: Path) -> None:
        writers = [self.writer(tmp_path) for _ in range(4)]
        outcomes: list[object] = []
        barrier = threading.Barrier(4)

        def claim(log: LogWriter) -> None:
            barrier.wait()
            try:
                outcomes.append(log.claim("racer"))
            except Fenced as fenced:
                outcomes.append(fenced)

        threads = [threading.Thread(target=claim, args=(log,)) for log in writers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for log in writers:
            log.close()
        assert sorted(str(type(outcome).__name__) for outcome in outcomes) == [
            "Fenced",
            "Fenced",
            "Fenced",
            "int",
        ]

    def test_seq_at_finds_the_first_seq_at_or_after_a_time(
        self, log: LogWriter, reading: LogReader
    ) -> None:
        for second in range(0, 50, 10):
            write(log, 2, time_us=TIME_US + second * 1_000_000, size=1000)
        base_s = TIME_US / 1e6
        assert reading.seq_at(base_s - 100) == 1
        assert [reading.seq_at(base_s + second) for second in (0, 1, 10, 39, 40)] == [1, 3, 3, 9, 9]
        assert reading.seq_at(base_s + 41) == 11

    def test_retention_by_age_drops_from_the_front(
        self, log: LogWriter, reading: LogReader
    ) -> None:
        for second in range(40):
            write(log, 1, size=1000, time_us=TIME_US + second * 1_000_000)
        now_s = TIME_US / 1e6 + 40
        assert log.retain(2**60, 1000, now_s) == 0
        dropped = log.retain(2**60, 20, now_s)
        assert dropped > 0
        oldest = reading.oldest_seq
        # Whole segments only, by their last event: what is younger than 20 s is all there.
        assert 10 < oldest <= 21
        assert [seq for seq, _ in read_all(reading, oldest)] == list(range(oldest, 41))
        with pytest.raises(Outdated) as caught:
            reading.read(oldest - 1, 1000)
        assert caught.value.oldest_seq == oldest
        assert log.retain(2**60, 20, now_s) == 0

    def test_retention_by_size_drops_from_the_front(
        self, log: LogWriter, reading: LogReader
    ) -> None:
        for _ in range(40):
            write(log, 1, size=1000)
        now_s = TIME_US / 1e6
        assert log.retain(20_000, 1e9, now_s) > 0
        oldest = reading.oldest_seq
        assert 20 < oldest < 35
        assert [seq for seq, _ in read_all(reading, oldest)] == list(range(oldest, 41))

    def test_the_newest_segment_is_never_dropped(self, log: LogWriter, reading: LogReader) -> None:
        for _ in range(40):
            write(log, 1, size=1000)
        log.retain(0, 0, TIME_US / 1e6 + 1e6)
        assert reading.oldest_seq <= 40
        assert read_all(reading, 40)[-1] == (40, event(40, 1000))
        assert log.next_seq == 41

    def test_after_retention_a_restart_continues(self, tmp_path: Path, reading: LogReader) -> None:
        with closing(self.writer(tmp_path)) as log:
            log.claim("first")
            for _ in range(40):
                write(log, 1, size=1000)
            log.retain(10_000, 1e9, TIME_US / 1e6)
            oldest = reading.oldest_seq
        with closing(self.writer(tmp_path)) as log:
            assert log.claim("second") == 41
            assert reading.oldest_seq == oldest
            write(log, 1)
            assert log.retain(5_000, 1e9, TIME_US / 1e6) > 0
        assert read_all(reading, 41) == [(41, event(41))]

    def test_a_reader_survives_retention_in_the_middle_of_a_replay(
        self, log: LogWriter, reading: LogReader
    ) -> None:
        for _ in range(40):
            write(log, 1, size=1000)
        first = reading.read(1, 1)
        log.retain(5_000, 1e9, TIME_US / 1e6)
        with pytest.raises(Outdated):
            reading.read(first[-1].next_seq, 1)
        oldest = reading.oldest_seq
        assert [seq for seq, _ in read_all(reading, oldest)] == list(range(oldest, 41))
