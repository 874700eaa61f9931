"""How are tests run hundreds of times without starting Python hundreds of times?

A process in a copy of the tree loads the libraries, and nothing of the project; for each request it
forks a child that runs pytest on the sources as they are then. So two thirds of a short run are saved.

    request   {"tests": [...], "limit_s": 240, "write_bytecode": false}     a line of JSON each
    answer    {"code": 1, "output": "..."}; code null: it took too long
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from typing import Any, Final

import pytest

_LIBRARIES: Final = (
    "aiohttp", "cbor2", "coincurve", "cryptography.hazmat.primitives.asymmetric.ec", "libipld",
    "orjson", "prometheus_client", "psycopg", "uvloop", "websockets.client", "zmq",
)  # fmt: skip
"""But for those that bring plugins of pytest, which it must be the first to load."""


def main() -> None:
    """Answer requests until there are no more."""
    for library in _LIBRARIES:
        importlib.import_module(library)
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _run(request: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as told:
        child = os.fork()
        if child == 0:
            os.setsid()
            os.dup2(told.fileno(), 1)
            os.dup2(told.fileno(), 2)
            sys.dont_write_bytecode = not request["write_bytecode"]
            ended = pytest.main(["-x", "-q", "--tb=line", "-rfE", *request["tests"]])
            sys.stdout.flush()
            os._exit(ended)
        code = _wait(child, request["limit_s"])
        told.seek(0)
        return {"code": code, "output": told.read().decode(errors="replace")}


def _wait(child: int, limit_s: float) -> int | None:
    """The exit code of a child, which is ended when it takes too long."""
    until_s = time.monotonic() + limit_s
    while time.monotonic() < until_s:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


if __name__ == "__main__":
    main()
