"""Which events does this process hide now?

    start, and each chunk in which the relay itself says something ─▶ has the file changed? ─▶ read it

Persist writes the file before it publishes the event that tells of a takedown, so whoever has seen that event
knows. What was handed to a socket before cannot be called back.

Read from the loop; `hidden` is replaced, never changed, and may be looked at from any thread. What is
hidden in a chunk is common/hidden.py's to say.

Source: design, invariant 2 and section 6; lesson 56.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from common.chunk import Chunk
from common.hidden import HIDDEN_NAME, NOTHING, HiddenError, decode_seqs, has_local

_log: Final = logging.getLogger("standpipe")


class Curtain:
    """What is hidden. turn: rises whenever that has changed."""

    def __init__(self, log_dir: Path | None) -> None:
        """Nothing is hidden before the first `look`. log_dir: None where there is no file."""
        self.hidden: Mapping[bytes, int] = NOTHING
        self.turn = 0
        self._path = None if log_dir is None else log_dir / HIDDEN_NAME
        self._read: tuple[int, int, int] | None = None
        self._told: tuple[int, int, int] | None = None

    @property
    def is_known(self) -> bool:
        """Whether the file was read; before that nobody can tell whom to hide."""
        return self._path is None or self._read is not None

    def passes(self, chunk: Chunk) -> None:
        """A chunk is about to be published.

        Raises:
            HiddenError, OSError: see `look`.
        """
        if has_local(chunk):
            self.look()

    def look(self) -> None:
        """Read the file, if it is another one than before.

        Raises:
            HiddenError, OSError: it cannot be read, and nothing is known of whom it hides.
        """
        if self._path is None:
            return
        try:
            found = self._path.stat()
        except FileNotFoundError:
            # Persist writes it at each start, and before it takes anybody down.
            return
        name = (found.st_ino, found.st_mtime_ns, found.st_size)
        if name == self._read:
            return
        try:
            hidden = decode_seqs(self._path.read_bytes())
        except (HiddenError, OSError) as error:
            if self._read is None:
                raise
            if name != self._told:
                self._told = name
                _log.error("whom to hide cannot be read; it stays as it was", exc_info=error)
            return
        self._read = name
        if hidden != self.hidden:
            self.hidden = hidden or NOTHING
            self.turn += 1
