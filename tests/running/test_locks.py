"""Is a second relay on the same folder or port seen, and a dead one not?"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from common import locks

HOLDER = """
import sys
from pathlib import Path
from common import locks
lock = locks.acquire(Path(sys.argv[1]), "it", 4711)
print("held", flush=True)
sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_names_its_owner_and_is_refused_to_others(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        assert locks.owner_of(path) == 4711
        with pytest.raises(locks.Held, match=r"process 4711, holds the thing .*lock"):
            locks.acquire(path, "the thing", os.getpid())
        process.kill()
    assert locks.owner_of(path) is None


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        process.kill()
        process.wait()
    lock = locks.acquire(path, "the thing", 1)
    assert path.read_text() == "1\n"
    lock.release()


def test_one_that_was_taken_just_now_names_its_owner_too(tmp_path: Path) -> None:
    """Two relays that start at once: the second one comes between the first one's lock and its number."""
    path = tmp_path / "lock"
    lock = locks.acquire(path, "the thing", 1)
    os.ftruncate(lock.fd, 0)
    writes = threading.Timer(0.3, os.pwrite, (lock.fd, b"4711\n", 0))
    writes.start()
    with pytest.raises(locks.Held, match=r"process 4711, holds the thing"):
        locks.acquire(path, "the thing", 5)
    writes.join()
    lock.release()


def test_asking_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert locks.owner_of(path) is None
    assert not path.exists()
    lock = locks.acquire(path, "the thing", 5)
    assert locks.owner_of(path) == 5
    assert locks.owner_of(path) == 5
    lock.release()
    assert locks.owner_of(path) is None


def test_each_port_has_a_lock_of_its_own() -> None:
    assert locks.port_lock_file(1) != locks.port_lock_file(2)
