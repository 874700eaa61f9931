"""Free ports, short folders and waiting on conditions, for tests that start real things."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

_T = TypeVar("_T")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody had a moment ago, below the range given to clients."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(condition: Callable[[], _T], within_s: float = 20.0, what: str = "") -> _T:
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
