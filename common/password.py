"""What is the admin password?

The operator's, or one that is generated once into the data folder, readable by its owner alone.
"""

from __future__ import annotations

import contextlib
import os
import secrets

from common.paths import Paths
from common.settings import Settings


def ensure(settings: Settings, paths: Paths) -> tuple[str, ...]:
    """The admin passwords; one is generated when there is none. Several processes may ask at once.

    Raises:
        OSError: the file cannot be read or written.
    """
    if settings.admin_passwords:
        return settings.admin_passwords
    path = paths.admin_password_file
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, secrets.token_urlsafe(24).encode() + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
        # A link, unlike a rename, leaves the password of a process that was faster.
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
        partial.unlink()
    return (path.read_text().strip(),)
