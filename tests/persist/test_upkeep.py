"""Does the log's folder keep what the next start needs, and let go of the rest?"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from common.chunk import account_key
from common.envelope import NEVER_SEEN, HostCursor, ShardClaim
from common.segment_files import CHECKPOINT_NAME
from persist import upkeep as module
from persist.account import Accounts
from persist.checkpoint import Checkpoint, KnownHost
from persist.checkpoint_file import read_checkpoint
from persist.config import Config
from persist.duplicates import Duplicates
from persist.fence import Fence
from persist.segment_log import SegmentLog
from persist.tally import Tallies
from persist.upkeep import Upkeep
from persist.view import View
from tests.log_contract import pack
from tests.persist.disks import RecordingDisk
from tests.persist.events import did

FRAME_BYTES = 100
SEGMENT_BYTES = 1_000
"""A handful of events each."""
HOST = KnownHost(1, "pds.test", True, "active", 100, False, "enforce")


class Disk(NamedTuple):
    """What shutil.disk_usage tells."""

    total: int
    used: int
    free: int


class Desk:
    """The folder of a log with all that persist knows of it, and no process around."""

    def __init__(self, folder: Path) -> None:
        self.config = Config(folder, "", "", "", replay_window_s=1e9, replay_bytes=2**40)
        self.config = replace(self.config, reserve_bytes=0)
        self.disk = RecordingDisk()
        self.log = self.opened()
        self.log.claim("test")
        self.duplicates = Duplicates()
        self.accounts = Accounts()
        self.fence = Fence([ShardClaim(3, 7)])
        self.view = View(self.accounts, self.duplicates, Tallies(), 0)
        self.upkeep = self.made()

    def opened(self) -> SegmentLog:
        folder = self.config.log_dir
        return SegmentLog(folder, disk=self.disk, segment_bytes=SEGMENT_BYTES, now=lambda: 1.0)

    def made(self) -> Upkeep:
        return Upkeep(
            self.config, self.disk, self.log, self.duplicates, self.fence, self.view, [HOST]
        )

    def events(self, *upstream_seqs: int, host: int = 1) -> None:
        """Log one event for each; all of other accounts."""
        for upstream_seq in upstream_seqs:
            seq = self.log.next_seq
            self.log.append(pack([b"x" * FRAME_BYTES]), [b"x" * FRAME_BYTES], seq * 1_000_000)
            self.log.wait(seq)
            account = did(seq)
            self.accounts.learn(account, NEVER_SEEN)
            self.accounts.change(account, NEVER_SEEN, seq)
            self.duplicates.add(host, 1, upstream_seq, account_key(account), seq)

    def flush(self) -> None:
        """PostgreSQL has all of it."""
        self.view.begin(0.0, self.log.durable_seq)
        self.view.end()

    @property
    def written(self) -> Checkpoint:
        found = read_checkpoint(self.config.log_dir)
        assert found is not None
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    with closing(desk.log):
        yield desk


# --- the checkpoint ---


def test_a_checkpoint_says_what_a_start_needs(desk: Desk) -> None:
    desk.events(10, 20, 30)
    desk.view.say_done(HostCursor(1, 1, 10))
    desk.flush()
    desk.events(40)
    desk.upkeep.write_checkpoint()
    assert replace(desk.written, time_us=0) == Checkpoint(
        1, 0, 4, 3, 2, [HostCursor(1, 1, 10)], [ShardClaim(3, 7)], [HOST]
    )


def test_it_is_written_when_something_has_changed(desk: Desk) -> None:
    desk.events(10)
    desk.upkeep.write_checkpoint()
    first = desk.written
    desk.upkeep.write_checkpoint()
    assert desk.written == first
    desk.fence.passes(3, 8)
    desk.upkeep.write_checkpoint()
    assert desk.written.epochs == [ShardClaim(3, 8)]
    assert desk.written.time_us >= first.time_us


def test_it_is_due_every_few_seconds(desk: Desk) -> None:
    desk.upkeep.tick(100.0)
    path = desk.config.log_dir / CHECKPOINT_NAME
    path.unlink()
    desk.events(10)
    desk.upkeep.tick(100.0 + desk.config.checkpoint_s - 0.1)
    assert not path.exists()
    desk.upkeep.tick(100.0 + desk.config.checkpoint_s)
    assert path.exists()


def test_a_disk_that_refuses_it_ends_nothing_and_it_is_tried_again(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.disk.fails["rename"] = errno.ENOSPC
    desk.events(10)
    desk.upkeep.write_checkpoint()
    assert "the checkpoint cannot be written" in caplog.text
    assert read_checkpoint(desk.config.log_dir) is None
    desk.disk.fails.clear()
    desk.upkeep.write_checkpoint()
    assert desk.written.durable_seq == 1


def test_what_is_not_on_disk_yet_is_read_again(desk: Desk) -> None:
    desk.events(10)
    desk.view.say_done(HostCursor(1, 1, 10))
    # An open group: an event of our own, which has no number at its host, and one of the host's.
    desk.duplicates.add(1, 1, 20, account_key(did(9)), 3)
    desk.upkeep.write_checkpoint()
    assert (desk.written.durable_seq, desk.written.scan_seq) == (1, 2)


def test_a_host_that_was_silent_for_long_makes_no_start_long(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCANNED_EVENTS", 5)
    desk.events(7, host=2)
    for number in range(10, 20):
        desk.events(number)
        desk.view.say_done(HostCursor(1, 1, number - 1))
    desk.upkeep.write_checkpoint()
    assert desk.written.scan_seq == 11
    assert [(one.host, one.seqs) for one in desk.written.lagging] == [(2, {7: 1})]
    # Too many of them would make the checkpoint large: rather a long start.
    monkeypatch.setattr(module, "LAGGING_MAX", 0)
    desk.events(20)
    desk.upkeep.write_checkpoint()
    assert (desk.written.scan_seq, desk.written.lagging) == (1, [])


def test_a_stream_whose_rows_have_left_the_log_stays_in_the_checkpoint_however_large(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCANNED_EVENTS", 5)
    desk.events(7, 8, 9, host=2)
    full(desk)
    desk.flush()
    desk.upkeep.write_checkpoint()
    desk.upkeep.retain()
    assert desk.log.oldest_seq > 20
    # Another one falls behind: its rows are there, those of the first are not.
    monkeypatch.setattr(module, "LAGGING_MAX", 2)
    desk.events(5, host=3)
    first_seq = desk.log.next_seq - 1
    for number in range(31, 41):
        desk.events(number)
        desk.view.say_done(HostCursor(1, 1, number))
    desk.upkeep.write_checkpoint()
    assert [(one.host, one.seqs) for one in desk.written.lagging] == [(2, {7: 1, 8: 2, 9: 3})]
    assert desk.written.scan_seq == first_seq


def test_hosts_are_read_anew_now_and_then_and_when_there_is_a_new_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persist.upkeep.time.monotonic", lambda: 0.0)
    upkeep, every_s = desk.made(), desk.config.checkpoint_s
    assert [upkeep.tick(at * every_s) for at in range(4)] == [False] * 4
    desk.duplicates.advance(HostCursor(2, 1, 5))
    assert not upkeep.tick(4 * every_s - 1)
    assert upkeep.tick(4 * every_s)
    upkeep.hosts = [HOST, HOST._replace(id=2, hostname="other.test")]
    assert not upkeep.tick(5 * every_s)
    assert upkeep.tick(4 * every_s + module.HOSTS_EVERY_S)


# --- retention ---


def full(desk: Desk, events: int = 30) -> None:
    """More than the log may take, all of it done at its host."""
    desk.upkeep.max_bytes = 1
    desk.events(*range(1, 1 + events))
    desk.view.say_done(HostCursor(1, 1, events))


def test_what_postgresql_and_the_next_start_know_goes(desk: Desk) -> None:
    full(desk)
    desk.flush()
    desk.upkeep.write_checkpoint()
    desk.upkeep.retain()
    assert desk.log.oldest_seq > 20
    assert not desk.upkeep.disk_low


@pytest.mark.parametrize(
    "known", ["neither", "what it has applied", "the cursors"], ids="PostgreSQL knows {}".format
)
def test_what_postgresql_or_the_next_start_does_not_know_stays(desk: Desk, known: str) -> None:
    desk.upkeep.max_bytes = 1
    desk.events(*range(1, 31))
    if known == "what it has applied":
        # The cursors lag, and so do those who would know the events by them.
        desk.view.say_done(HostCursor(1, 1, 15))
        desk.flush()
    elif known == "the cursors":
        desk.view.say_done(HostCursor(1, 1, 30))
        desk.upkeep.write_checkpoint()
    desk.upkeep.retain()
    oldest_seq = desk.log.oldest_seq
    assert oldest_seq <= 16 if known == "what it has applied" else oldest_seq == 1


def test_a_cursor_that_is_in_memory_alone_lets_nothing_go(desk: Desk) -> None:
    desk.upkeep.max_bytes = 1
    desk.events(*range(1, 31))
    desk.flush()
    desk.upkeep.write_checkpoint()
    desk.view.say_done(HostCursor(1, 1, 30))
    desk.upkeep.retain()
    assert desk.log.oldest_seq == 1
    # As soon as one of the two has it, be it the checkpoint, the rows are not needed.
    desk.upkeep.write_checkpoint()
    desk.upkeep.retain()
    assert desk.log.oldest_seq > 20


def test_a_host_that_never_comes_back_does_not_fill_the_disk(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCANNED_EVENTS", 5)
    desk.events(7, host=2)
    full(desk)
    desk.flush()
    desk.upkeep.write_checkpoint()
    desk.upkeep.retain()
    assert desk.log.oldest_seq > 20
    assert [one.seqs for one in desk.written.lagging] == [{7: 1}]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the system's clock says, and the steady one."""
    told = [40.0, 1_000.0]
    monkeypatch.setattr("persist.upkeep.time.time", lambda: told[0])
    monkeypatch.setattr("persist.upkeep.time.monotonic", lambda: told[1])
    return told


def aged(desk: Desk) -> None:
    """Events of seconds 1 to 30; who keeps them for an hour is made at second 40."""
    desk.config = replace(desk.config, replay_window_s=3600.0)
    desk.events(*range(1, 31))
    desk.view.say_done(HostCursor(1, 1, 30))
    desk.flush()
    desk.upkeep = desk.made()
    desk.upkeep.write_checkpoint()
    desk.upkeep.retain()
    assert desk.log.oldest_seq == 1


def test_what_is_older_than_the_window_goes(desk: Desk, clock: list[float]) -> None:
    aged(desk)
    clock[:] = [3_640.0, 4_600.0]
    desk.upkeep.retain()
    assert desk.log.oldest_seq > 20


def test_a_clock_that_jumps_ahead_takes_nothing_from_the_window(
    desk: Desk, clock: list[float]
) -> None:
    aged(desk)
    clock[:] = [1e9, 1_030.0]
    desk.upkeep.retain()
    assert desk.log.oldest_seq == 1
    # Nor does a restart under that clock, which has written by it …
    desk.log.append(pack([b"x"]), [b"x"], 10**15)
    desk.log.wait(31)
    desk.log.close()
    desk.log = desk.opened()
    desk.log.claim("test")
    desk.upkeep = desk.made()
    desk.upkeep.write_checkpoint()
    desk.upkeep.retain()
    assert desk.log.oldest_seq == 1
    # … and what is old by the time that has passed goes.
    clock[:] = [1e9 + 3_600, 4_630.0]
    desk.upkeep.retain()
    assert desk.log.oldest_seq > 20


def test_nothing_leaves_by_its_age_while_the_clock_is_doubted(
    desk: Desk, clock: list[float]
) -> None:
    aged(desk)
    clock[:] = [3_640.0, 4_600.0]
    desk.upkeep.clock_suspect = True
    desk.upkeep.retain()
    assert desk.log.oldest_seq == 1


# --- the reserve ---


def disk_with(free: int) -> Callable[[Path], Disk]:
    return lambda _folder: Disk(10**6, 0, free)


def test_on_a_disk_that_is_nearly_full_the_oldest_go_whoever_needs_them(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk.config = replace(desk.config, reserve_bytes=5_000)
    desk.upkeep = desk.made()
    desk.events(*range(1, 31))
    monkeypatch.setattr(shutil, "disk_usage", disk_with(5_000))
    desk.upkeep.retain()
    assert (desk.log.oldest_seq, desk.upkeep.disk_low) == (1, False)
    monkeypatch.setattr(shutil, "disk_usage", disk_with(4_999))
    desk.upkeep.retain()
    first_left = desk.log.oldest_seq
    assert 1 < first_left <= 6
    assert desk.upkeep.disk_low
    assert "less than its reserve" in caplog.text
    assert f"seqs 1 to {first_left - 1} left the log, and the next start needs them" in caplog.text
    caplog.clear()
    monkeypatch.setattr(shutil, "disk_usage", disk_with(2_000))
    desk.upkeep.retain()
    assert desk.log.oldest_seq > first_left + 10
    assert "less than its reserve" not in caplog.text
    monkeypatch.setattr(shutil, "disk_usage", disk_with(9_000))
    desk.upkeep.retain()
    assert not desk.upkeep.disk_low
    assert "enough again" in caplog.text
