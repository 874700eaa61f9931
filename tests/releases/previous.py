"""The release before this one: its real code, unpacked where a test can run it.

`b5a7cf2.tar.xz` is `git archive b5a7cf2 common ingest persist broadcast supervisord.conf pyproject.toml`.
It runs on this release's environment, from its own folder. Whoever makes a release puts the one before in its place, and its versions
below.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Final

ARCHIVE: Final = Path(__file__).parent / "b5a7cf2.tar.xz"
SCHEMA_VERSION: Final = 2
ENVELOPE_VERSION: Final = 2


def unpack(folder: Path) -> Path:
    """Unpack it into `folder`, which is new; that."""
    folder.mkdir()
    # Run as root, its database's user passes through.
    folder.chmod(0o755)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder
