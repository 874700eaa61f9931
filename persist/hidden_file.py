"""Who is taken down, and how do broadcasters hear of it before anybody else?

    takedown ─▶ the file `hidden` written and synced ─▶ the event is on disk ─▶ published

The file is ahead of the log by one group at most, and so it is after a crash: at a start it is made from what the
log led to. Its form is common/hidden.py's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from common.chunk import account_key
from common.hidden import HIDDEN_NAME, Hidden, HiddenError, decode_hidden, encode_hidden
from persist.checkpoint_file import write_whole
from persist.disk import Disk

log: Final = logging.getLogger(__name__)


class HiddenFile:
    """The file of one log. Owned by the thread that writes the log."""

    def __init__(self, disk: Disk, log_dir: Path) -> None:
        """Nothing is touched yet."""
        self._disk = disk
        self._dir = log_dir
        self._written: bytes | None = None
        self.told = Hidden()

    def open(self, before: Hidden | None, taken_down: Iterable[tuple[str, int]]) -> None:
        """Begin with what the log led to.

        Args:
            before: the file as it was found. taken_down: DIDs with the newest seq of each, which
                stands for the one that it was taken down with where the file does not have that.

        Raises:
            OSError: the disk refuses.
        """
        was = before or Hidden()
        self.told = Hidden(was.version, {}, was.domains, was.hosts)
        for did, seq in taken_down:
            self.told.taken_down[did] = was.taken_down.get(did) or (seq, account_key(did))
        self._write()

    def change(self, hides: Mapping[str, int]) -> None:
        """A group is about to be written that says this.

        Args:
            hides: DID → the seq that it is taken down with; 0: it is no longer.

        Raises:
            OSError: the disk refuses, and the group must not be published.
        """
        for did, seq in hides.items():
            if seq:
                self.told.taken_down[did] = seq, account_key(did)
            else:
                self.told.taken_down.pop(did, None)
        self._write()

    def settle(self, version: int, domains: list[str], hosts: dict[str, str]) -> None:
        """All that the operator wants, as of a version, stands in the log.

        Raises:
            OSError: the disk refuses.
        """
        told = self.told
        if (told.version, told.domains, told.hosts) != (version, domains, hosts):
            self.told = Hidden(version, told.taken_down, domains, hosts)
            self._write()

    def _write(self) -> None:
        data = encode_hidden(self.told)
        if data != self._written:
            write_whole(self._disk, self._dir / HIDDEN_NAME, data)
            self._written = data


def read_hidden(log_dir: Path) -> Hidden | None:
    """The file as it is; None where there is none that can be read, which is told."""
    path = log_dir / HIDDEN_NAME
    try:
        return decode_hidden(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, HiddenError) as error:
        log.error("the file %s is left aside: %s", path, error)
        return None
