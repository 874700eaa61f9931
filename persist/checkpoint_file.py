"""How does the checkpoint reach the disk, and come back at the next start?

    checkpoint.new written and synced → renamed to checkpoint → folder synced

So the name always stands for one that is whole. It is a help, not a record: one that cannot be read
is named and left aside, one that cannot be written is named and tried again later.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from common.segment_files import CHECKPOINT_NAME
from persist.checkpoint import Checkpoint, CheckpointError, decode_checkpoint, encode_checkpoint
from persist.disk import Disk

log: Final = logging.getLogger(__name__)


def write_checkpoint(disk: Disk, log_dir: Path, checkpoint: Checkpoint) -> None:
    """Put a checkpoint in the place of the one before, whole or not at all.

    Raises:
        OSError: the disk refuses; the one before is still there.
    """
    write_whole(disk, log_dir / CHECKPOINT_NAME, encode_checkpoint(checkpoint))


def write_whole(disk: Disk, path: Path, data: bytes) -> None:
    """Put a file in the place of the one before, whole or not at all, and return once it is on disk.

    Raises:
        OSError: the disk refuses; the one before is still there.
    """
    new = path.with_name(path.name + ".new")
    disk.remove(new)
    fd = disk.open(new, create=True)
    try:
        disk.write(fd, data, 0)
        # Order: on disk before it has the name.
        disk.sync(fd)
    finally:
        disk.close(fd)
    disk.rename(new, path)
    disk.sync_folder(path.parent)


def read_checkpoint(log_dir: Path) -> Checkpoint | None:
    """The checkpoint beside the log; None where there is none that can be read, which is told."""
    path = log_dir / CHECKPOINT_NAME
    try:
        return decode_checkpoint(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, CheckpointError) as error:
        log.error("the checkpoint %s is left aside: %s", path, error)
        return None
