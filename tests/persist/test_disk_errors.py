"""Does every call to the disk that fails end the writer loudly, and lose nothing that was said?

A story is told again and again; in the n-th telling the n-th call to the disk fails, until one is
told to its end. So no call is forgotten, and none that is added later.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from common.log import Damaged, Fenced
from common.segment_files import HEAD_NAME, HeadFile, HeadMissing, list_segments, segment_path
from common.segments import SegmentReader
from persist.disk import Disk
from persist.segment_log import SegmentLog
from tests.log_contract import TIME_US, event, events, pack
from tests.power.disk import QuickDisk


class FailingDisk(QuickDisk):
    """Fails at one call; of a write, half is done then."""

    def __init__(self, fails_at: int, error: int) -> None:
        self.left = fails_at
        self.error = error
        self.failed: str | None = None

    def open(self, path: Path, *, create: bool) -> int:
        self._count(f"{'create' if create else 'open'} {path.suffix}")
        return super().open(path, create=create)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        self._count("write", lambda: os.pwrite(fd, data[: len(data) // 2], offset))
        super().write(fd, data, offset)

    def sync(self, fd: int) -> None:
        self._count("sync")

    def truncate(self, fd: int, length: int) -> None:
        self._count("truncate")
        super().truncate(fd, length)

    def sync_folder(self, folder: Path) -> None:
        self._count("sync_folder")

    def remove(self, path: Path) -> None:
        self._count(f"remove {path.suffix}")
        super().remove(path)

    def close(self, fd: int) -> None:
        # Linux lets go of the descriptor even when it says that this failed.
        super().close(fd)
        self._count("close")

    def _count(self, call: str, instead: Callable[[], object] | None = None) -> None:
        self.left -= 1
        if self.left == -1:
            self.failed = call
            if instead is not None:
                instead()
            raise OSError(self.error, os.strerror(self.error))


class Story:
    """A log's life; what was said of it by then."""

    def __init__(self, place: Path, disk: Disk) -> None:
        self.place = place
        self.disk = disk
        self.said: set[int] = set()
        self.oldest = 1
        self.log: SegmentLog | None = None
        # What the story itself takes away.
        self.spoilt: set[int] = set()

    def tell(self) -> None:
        log = self._claim()
        self._write(log, 3)
        self._write(log, 0)
        for _ in range(3):
            self._write(log, 30)
        # A roll while the full segment holds what was not flushed.
        self._append(log, 30)
        self._append(log, 30)
        self._wait(log)
        log.close()
        # A torn tail, behind what had been flushed.
        path = self._last()
        with path.open("ab") as file:
            file.write(b"SPLC\1\1" + bytes(100))
        log = self._claim()
        self._write(log, 10)
        self._append(log, 4)
        # Killed with a chunk that is whole and was not flushed; then a bit flips before it.
        log._release()
        data = bytearray(self._last().read_bytes())
        seq = max(self.said) - 5
        data[data.index(event(seq))] ^= 1
        self._last().write_bytes(data)
        self.spoilt = set(range(max(self.said) - 9, max(self.said) + 1))
        log = self._claim()
        self._write(log, 20)
        log.retain(0, 1e9, TIME_US / 1e6)
        self._write(log, 20)
        log.close()
        self.log = None

    def _claim(self) -> SegmentLog:
        self.log = SegmentLog(
            self.place, disk=self.disk, segment_bytes=4096, now=lambda: TIME_US / 1e6
        )
        next_seq = self.log.claim("story")
        assert next_seq > max(self.said, default=0)
        self.said |= set(range(max(self.said, default=0) + 1, next_seq))
        return self.log

    def _write(self, log: SegmentLog, count: int) -> None:
        self._append(log, count)
        self._wait(log)

    def _append(self, log: SegmentLog, count: int) -> None:
        frames = [event(log.next_seq + n) for n in range(count)]
        log.append(pack(frames), frames, TIME_US)

    def _wait(self, log: SegmentLog) -> None:
        log.wait(log.next_seq - 1)
        self.said |= set(range(1, log.durable_seq + 1))

    def _last(self) -> Path:
        return segment_path(self.place, list_segments(self.place)[-1])

    def head(self) -> tuple[int, int]:
        try:
            head = HeadFile(self.place / HEAD_NAME)
        except HeadMissing:
            return 0, 1
        with closing(head):
            return head.durable_seq, max(1, head.oldest_seq)


def read_all(place: Path) -> tuple[dict[int, bytes], set[int]]:
    found: dict[int, bytes] = {}
    lost: set[int] = set()
    with closing(SegmentReader(place)) as reader:
        seq = reader.oldest_seq
        while seq <= reader.durable_seq:
            try:
                chunks = reader.read(seq, 10_000)
            except Damaged as damaged:
                until_seq = damaged.until_seq or reader.durable_seq + 1
                lost |= set(range(seq, until_seq))
                seq = until_seq
            else:
                found |= dict(events(chunks))
                seq = chunks[-1].next_seq
    return found, lost


def ends(story: Story) -> OSError | None:
    try:
        story.tell()
    except OSError as error:
        return error
    return None


def assert_over(story: Story, disk: FailingDisk) -> None:
    """The writer that failed writes and announces nothing more; whatever it is asked."""
    log = story.log
    assert log is not None
    before = story.head()
    if disk.failed not in {"remove .seg", "remove .idx", "sync_folder", "close"}:
        with pytest.raises(Fenced):
            log.append([], [], TIME_US)
        with pytest.raises(Fenced):
            log.wait(0)
    with contextlib.suppress(OSError):
        log.close()
    assert story.head() == before


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_each_call_that_fails_ends_the_writer_and_the_next_start_recovers(
    tmp_path: Path, error: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    failed: list[str] = []
    quiet: set[str] = set()
    for number in range(10_000):
        place = tmp_path / str(number)
        place.mkdir()
        disk = FailingDisk(number, error)
        story = Story(place, disk)
        end = ends(story)
        announced, oldest = story.head()
        if end is None:
            if disk.failed is None:
                break
            # What is only a cache may fail.
            quiet.add(disk.failed)
        else:
            assert end.errno == error
            assert_over(story, disk)
        assert disk.failed is not None
        failed.append(disk.failed)
        assert announced >= max(story.said, default=0)
        with closing(SegmentLog(place, disk=QuickDisk(), segment_bytes=4096)) as log:
            next_seq = log.claim("next")
            assert announced < next_seq <= announced + 100
            frames = [b"<new>"]
            log.append(pack(frames), frames, TIME_US)
            log.wait(next_seq)
        found, lost = read_all(place)
        assert lost <= story.spoilt
        assert found.pop(next_seq) == b"<new>"
        assert found == {seq: event(seq) for seq in found}
        assert set(range(oldest, announced + 1)) - lost <= found.keys()
        assert found.keys() | lost == set(
            range(min(found.keys() | lost, default=next_seq), next_seq)
        )
    assert set(failed) == {
        "open .seg", "create .seg", "create .idx", "write", "sync", "truncate", "sync_folder",
        "remove .seg", "remove .idx", "close",
    }  # fmt: skip
    assert quiet == {"create .idx", "write", "remove .idx", "close"}
    print(len(failed), "calls")
