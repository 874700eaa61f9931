"""Real processes under a test's hands: their lines, their ends, and none left over."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.fix_net import eventually, free_port
from tests.relay import alive

ROOT = Path(__file__).resolve().parent.parent.parent


class Started:
    """One process, its output in files."""

    def __init__(
        self, command: list[str], environ: Mapping[str, str], folder: Path, project: Path = ROOT
    ) -> None:
        self.out = folder / f"{len(list(folder.glob('*.out')))}.out"
        self.err = self.out.with_suffix(".err")
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                command, env=dict(environ), cwd=project, stdout=out, stderr=err,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    def lines(self) -> list[dict[str, Any]]:
        # The last one may be on its way.
        whole, _, _ = self.out.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def says(self, message: str, process: str | None = None) -> dict[str, Any] | None:
        """The first line whose msg has `message`."""
        for line in self.lines():
            if message in line["msg"] and process in (None, line["process"]):
                return line
        return None

    def wait_says(
        self, message: str, process: str | None = None, within_s: float = 60.0
    ) -> dict[str, Any]:
        def said() -> dict[str, Any] | None:
            # Looked at before what it said: it may say this last.
            ended = self.process.poll() is not None
            found = self.says(message, process)
            assert found or not ended, (
                f"it ended with {self.process.returncode} and never said {message!r}:\n"
                f"{self.out.read_text()}\n{self.err.read_text()}"
            )
            return found

        found = eventually(said, within_s, message)
        assert found is not None
        return found

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def end(self, within_s: float = 60.0) -> int:
        return self.process.wait(within_s)


class Fleet:
    """Starts processes in one data folder; ends all of them, and what they started."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.folder = data_dir.parent
        self.port = free_port()
        self.environ = {
            "PATH": os.environ["PATH"],
            "STANDPIPE_DATA_DIR": str(data_dir),
            "STANDPIPE_BIND": f"127.0.0.1:{self.port}",
            "STANDPIPE_METRICS_PORT": "0",
            "STANDPIPE_PRIVATE_PORT": "0",
            "STANDPIPE_RELAY_HOST": "",
            # Nobody listens there: the relay has to go on without a directory.
            "STANDPIPE_PLC_HOST": "http://127.0.0.1:1",
        }
        self.started: list[Started] = []

    def start(self, *words: str, **more: str) -> Started:
        """`python -m <words>`, with `more` in its environment."""
        return self.start_in(ROOT, *words, **more)

    def start_in(self, project: Path, *words: str, **more: str) -> Started:
        """The same of the code in another folder."""
        command = [sys.executable, "-m", *words]
        process = Started(command, {**self.environ, **more}, self.folder, project)
        self.started.append(process)
        return process

    def worker(self, *words: str, **more: str) -> Started:
        return self.start("tests.running.worker", *words, **more)

    def end(self) -> None:
        """Kill what is left; a test that cares has looked before."""
        ours = str(self.folder).encode()
        for started in self.started:
            with contextlib.suppress(ProcessLookupError):
                started.process.kill()
            started.process.wait()
        for pid in [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
            with contextlib.suppress(OSError):
                if ours in Path(f"/proc/{pid}/environ").read_bytes() and alive(pid):
                    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def fleet_in(data_dir: Path) -> Iterator[Fleet]:
    fleet = Fleet(data_dir)
    try:
        yield fleet
    finally:
        fleet.end()
