"""Free ports, short folders and waiting on conditions, for tests that start real things."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import pytest

_T = TypeVar("_T")
_PORTS: Final = range(12_000, 32_000)
"""Below those that Linux gives to whoever names none: clients, and all the fakes of other tests."""
_CLAIMED: Final = 100
"""As many ports as one test may have in use, and then some."""
_claims: deque[int] = deque()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has, and nobody else is given until it is bound.

    Each is claimed by a name in the kernel, so that tests in other processes pass it by.
    """
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket(socket.AF_UNIX) as claim, socket.socket() as probe:
            try:
                claim.bind(f"\0standpipe-test-port-{port}")
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _claims.append(claim.detach())
        if len(_claims) > _CLAIMED:
            os.close(_claims.popleft())
        return port


def eventually(condition: Callable[[], _T], within_s: float = 60.0, what: str = "") -> _T:
    """Wait until `condition` gives something true, and return that.

    Raises:
        AssertionError: it did not within `within_s` seconds; `what` says what was waited for.
    """
    ends_s = time.monotonic() + within_s
    while True:
        if found := condition():
            return found
        assert time.monotonic() < ends_s, f"not within {within_s} s: {what or condition}"
        time.sleep(0.02)


@contextlib.contextmanager
def data_folder() -> Iterator[Path]:
    """A data folder that an unprivileged user can reach too, as the embedded database needs."""
    folder = Path(tempfile.mkdtemp(prefix="standpipe-test-"))
    folder.chmod(0o755)
    try:
        yield folder / "data"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """`data_folder` for one test."""
    with data_folder() as folder:
        yield folder
