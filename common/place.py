"""Where may the embedded database live, and as which user does it run?

PostgreSQL refuses to run as root. Run as root, the relay gives it an unprivileged user, and a
folder that this user can reach as the folders are: no parent's mode is ever changed. When the
data folder lies where only root can go, the database goes to a folder of its own in VAR.
"""

from __future__ import annotations

import os
import pwd
import secrets
import stat
from pathlib import Path
from typing import Final

VAR: Final = Path("/var/lib/standpipe")
"""Where the database of a relay that runs as root goes, when its data folder is closed to it."""
USERS: Final = ("standpipe", "postgres", "nobody")
"""The unprivileged users to run PostgreSQL as; the first that exists is taken."""


class NoUser(OSError):
    """There is no user to run the embedded database as."""


def database_user() -> pwd.struct_passwd:
    """The user that PostgreSQL runs as: this one, unless it is root.

    Raises:
        NoUser: root, and none of USERS exists; or this user has no name.
    """
    if os.geteuid() != 0:
        try:
            return pwd.getpwuid(os.geteuid())
        except KeyError:
            raise NoUser(
                f"user {os.geteuid()} has no name in /etc/passwd, which the embedded database "
                f"needs; add one, or set DATABASE_URL"
            ) from None
    for name in USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoUser(f"none of the users {', '.join(USERS)} exists to run the embedded database as; "
                 f"add one, or set DATABASE_URL")  # fmt: skip


def reachable(path: Path, user: pwd.struct_passwd) -> bool:
    """Whether `user` may pass through every folder down to `path`, itself included."""
    resolved = path.resolve()
    return all(_may_pass(folder, user) for folder in (resolved, *resolved.parents))


def choose(data_dir: Path, wanted: Path | None) -> Path:
    """A folder for the embedded database of a relay; nothing is made yet.

    Args:
        data_dir: of the relay; it exists. wanted: what the operator asks for.

    Raises:
        NoUser: see database_user.
    """
    if wanted is not None:
        return wanted
    user = database_user()
    if user.pw_uid == os.geteuid() or reachable(data_dir, user):
        return data_dir / "postgres"
    # A name of its own: a data folder that is removed and made anew gets a new database.
    return VAR / secrets.token_hex(8)


def _may_pass(folder: Path, user: pwd.struct_passwd) -> bool:
    found = folder.stat()
    if found.st_uid == user.pw_uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == user.pw_gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)
