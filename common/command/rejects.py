"""What was dropped of a host or an account, and why? And the frames, as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson

from common.command.control import Control, Refused, command, say
from common.command.words import rejects_text
from common.reject import RejectRow, as_value
from common.settings import Settings
from common.syntax import parse_did


def rejects(
    name: str | None, did: str | None, limit: int, frames: Path | None, *, as_json: bool
) -> int:
    """Print what was dropped, newest first; returns the exit code.

    Args:
        name, did: of the host and of the account; one of them may be None.
        frames: folder for the frames, each a file.
    """

    def work(_settings: Settings, control: Control) -> int:
        if did is not None and parse_did(did) is None:
            raise Refused(f"{did!r} is no DID")
        host = control.host(name) if name is not None else None
        rows = control.rejects(host, did, limit, frames=frames is not None)
        if as_json:
            print(orjson.dumps([as_value(row) for row in rows]).decode())
        else:
            print(rejects_text(rows))
        if frames is not None:
            say(f"{write_frames(rows, frames)} of {len(rows)} frames written to {frames}")
        return 0

    return command(work)


def write_frames(rows: Sequence[RejectRow], folder: Path) -> int:
    """Write the frames that were kept, each as it came from the host → how many.

    Raises:
        OSError: the folder cannot be made, or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = [row for row in rows if row.frame is not None]
    for row in kept:
        assert row.frame is not None
        (folder / f"{row.number}-{row.reason}.frame").write_bytes(row.frame)
    return len(kept)
