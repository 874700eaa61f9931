"""Is a checkpoint read as it was written, written whole or not at all, and left aside when it is broken?"""

from __future__ import annotations

import errno
import struct
import zlib
from pathlib import Path

import pytest

from common.envelope import HostCursor, ShardClaim
from common.segment_files import CHECKPOINT_NAME
from persist import checkpoint_file
from persist.checkpoint import (
    VERSION,
    Checkpoint,
    CheckpointError,
    KnownHost,
    decode_checkpoint,
    encode_checkpoint,
)
from persist.checkpoint_file import read_checkpoint, write_checkpoint
from persist.duplicates import Lagging
from tests.persist.disks import RecordingDisk

FULL = Checkpoint(
    log_epoch=7,
    time_us=1_700_000_000_000_000,
    durable_seq=2**53 - 1,
    applied_seq=12,
    scan_seq=9,
    cursors=[HostCursor(1, 1, 2**40), HostCursor(2, 5, 0)],
    epochs=[ShardClaim(0, 1_790_000_000_000), ShardClaim(63, 1)],
    hosts=[KnownHost(1, "ünusual.example:8080", True, "banned", 100, False, "observe")],
    lagging=[Lagging(2, 5, {9: 3, 4: 5}, {b"\x00" * 16: 9, b"\xff" * 16: 4})],
)
EMPTY = Checkpoint(1, 0, 0, 0, 1)


@pytest.mark.parametrize("checkpoint", [FULL, EMPTY], ids=["full", "empty"])
def test_what_was_written_is_read(checkpoint: Checkpoint) -> None:
    read = decode_checkpoint(encode_checkpoint(checkpoint))
    assert read == checkpoint
    # In order of ours, which the memory of duplicates relies on.
    assert [list(one.seqs) for one in read.lagging] == [
        list(one.seqs) for one in checkpoint.lagging
    ]


def test_no_part_of_it_is_a_checkpoint() -> None:
    data = encode_checkpoint(FULL)
    for length in range(len(data)):
        with pytest.raises(CheckpointError):
            decode_checkpoint(data[:length])


def test_a_flipped_bit_is_seen_wherever_it_is() -> None:
    data = bytearray(encode_checkpoint(FULL))
    for at in range(len(data)):
        data[at] ^= 0x10
        with pytest.raises(CheckpointError):
            decode_checkpoint(bytes(data))
        data[at] ^= 0x10


def test_another_releases_is_named() -> None:
    data = bytearray(encode_checkpoint(EMPTY))
    struct.pack_into("<I", data, 4, VERSION + 1)
    struct.pack_into("<I", data, len(data) - 4, zlib.crc32(bytes(data[:-4])))
    with pytest.raises(CheckpointError, match=f"version {VERSION + 1}"):
        decode_checkpoint(bytes(data))


# --- the file ---


def test_it_is_on_disk_before_it_has_its_name(tmp_path: Path) -> None:
    disk = RecordingDisk()
    write_checkpoint(disk, tmp_path, EMPTY)
    write_checkpoint(disk, tmp_path, FULL)
    assert read_checkpoint(tmp_path) == FULL
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_NAME]
    names = [str(asked[0]) for asked in disk.asked]
    assert names[: len(names) // 2] == names[len(names) // 2 :]
    order = [names.index(name) for name in ("create", "write", "sync", "rename", "sync_folder")]
    assert order == sorted(order)


@pytest.mark.parametrize("call", ["create", "write", "sync", "rename"])
def test_where_the_disk_refuses_the_one_before_stays(tmp_path: Path, call: str) -> None:
    disk = RecordingDisk()
    write_checkpoint(disk, tmp_path, EMPTY)
    disk.fails[call] = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        write_checkpoint(disk, tmp_path, FULL)
    assert read_checkpoint(tmp_path) == EMPTY
    disk.fails.clear()
    write_checkpoint(disk, tmp_path, FULL)
    assert read_checkpoint(tmp_path) == FULL


def test_where_there_is_none_nothing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_checkpoint(tmp_path) is None
    assert not caplog.records


def test_a_broken_one_is_named_and_left_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / CHECKPOINT_NAME
    path.write_bytes(encode_checkpoint(FULL)[:-1])
    assert read_checkpoint(tmp_path) is None
    assert str(path) in caplog.text
    assert "CRC" in caplog.text
    path.unlink()
    path.mkdir()
    caplog.clear()
    assert checkpoint_file.read_checkpoint(tmp_path) is None
    assert str(path) in caplog.text
