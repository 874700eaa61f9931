"""common.descriptors: a process without descriptors says so."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys

import pytest

from common import descriptors
from tests.relay import ROOT


def test_it_is_said_once_in_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "_said_s", float("-inf"))
    with caplog.at_level(logging.ERROR, logger="standpipe"):
        assert not descriptors.used_up(OSError(errno.ECONNREFUSED, "refused"))
        assert not caplog.records
        for code in (errno.EMFILE, errno.ENFILE, errno.EMFILE):
            assert descriptors.used_up(OSError(code, "too many"))
    (record,) = caplog.records
    assert "no file descriptors left" in record.message


_PROCESS = """
import asyncio, logging, resource, ssl
from ingest.config import Limits
from ingest.connection import Connection, ConnectionFailed
from ingest.reach import reach
from common.names import Names
from common.target import Target
logging.basicConfig(format="%(message)s")
async def story():
    names = Names()
    target = Target("localhost:1", False)
    connection = Connection(target.stream_uri(None), print, ping_s=30)
    await names.resolve("localhost", internal=True)
    used = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            used.append(open("/dev/null"))
    except OSError:
        pass
    try:
        await reach(connection, target, Limits(), names=names, tls=None, internal=True)
    except ConnectionFailed as failure:
        print(failure)
asyncio.run(story())
"""


def test_a_dial_without_descriptors_blames_nobody_else() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROCESS], cwd=ROOT, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "this relay has no file descriptors left", done
    assert "no file descriptors left: raise the limit" in done.stderr
