"""What runs beside the relay while it is measured? A network and readers, each a process of its own."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, Any, Final, cast

from tests.relay import ROOT

HOSTS: Final = 20
ACCOUNTS: Final = 100
RECORDS: Final = 2000


class Simnet:
    """The simulated network as a process, steered over its control port."""

    def __init__(self, *arguments: str) -> None:
        """Start it, and wait for its addresses. arguments: more of them, or others."""
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "tests.simnet", "--hosts", str(HOSTS), "--accounts",
                str(ACCOUNTS), "--records", str(RECORDS), "--genesis-share", "0",
                "--start", "control", "--lifetime", "1200", "--p256-share", "0", *arguments,
            ],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self.process.stdout.readline())
        self._control = socket.create_connection(("127.0.0.1", self.ready["control_port"]))
        self._lines = cast("IO[str]", self._control.makefile("rw"))

    def do(self, what: str, /, **arguments: Any) -> dict[str, Any]:
        """One command; its answer.

        Raises:
            RuntimeError: the network refused it.
        """
        self._lines.write(json.dumps({"do": what, **arguments}) + "\n")
        self._lines.flush()
        answer: dict[str, Any] = json.loads(self._lines.readline())
        if not answer["ok"]:
            raise RuntimeError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._lines.close()
        self._control.close()
        self.process.terminate()
        self.process.communicate(timeout=20)


@contextlib.contextmanager
def listener(module: str, *arguments: str) -> Iterator[dict[str, Any]]:
    """Run one of our reading processes; what it printed is in the dict afterwards."""
    result: dict[str, Any] = {}
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.bench.{module}", *arguments],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield result
    finally:
        output, _ = process.communicate(timeout=60)
    result.update(json.loads(output))
