"""How is a whole relay started, watched and ended in a test? As an operator does it.

A `Relay` is `standpipe run` in a temporary folder on free ports: a real supervisord, a real
PostgreSQL, real processes. Every wait has a condition and a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from tests.fix_net import free_port

T = TypeVar("T")

ROOT: Final = Path(__file__).resolve().parent.parent
START_S: Final = 120.0
"""How long a relay may take from nothing to delivering, in seconds: initdb is most of it."""
STOP_S: Final = 40.0
"""How long a drained shutdown may take, in seconds."""


def wait_for(what: str, condition: Callable[[], T | None], deadline_s: float) -> T:
    """Ask `condition` until it gives something true; that.

    Raises:
        TimeoutError: it did not within `deadline_s`; `what` says what was waited for.
    """
    end = time.monotonic() + deadline_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"waited {deadline_s:g} s for {what}")
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    """The processes that descend from `pid`, itself left out."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    todo = [pid]
    while todo:
        below = parents.get(todo.pop(), [])
        found += below
        todo += below
    return found


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z"


class Relay:
    """A relay of its own: folder, ports, processes."""

    def __init__(
        self,
        *,
        plc_url: str,
        hosts: list[str],
        folder: Path | None = None,
        environ: Mapping[str, str] | None = None,
        command: Sequence[str] = ("common.command", "run"),
        project: Path = ROOT,
    ) -> None:
        """Prepare; `start` starts it. Without `folder` a temporary one is made and removed.

        command: the module that becomes the relay, and its arguments. project: the folder with its
        stages; that of another release, perhaps.
        """
        self.project = project
        self._command = command
        self._temporary = None
        if folder is None:
            # Not pytest's folder: that one cannot be entered by the user PostgreSQL runs as.
            self._temporary = tempfile.TemporaryDirectory(prefix="standpipe-test-")
            folder = Path(self._temporary.name)
            folder.chmod(0o755)
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "STANDPIPE_BIND": f"127.0.0.1:{self.port}",
            "STANDPIPE_DATA_DIR": str(self.data),
            "STANDPIPE_PLC_HOST": plc_url,
            "STANDPIPE_HOSTS": ",".join(hosts),
            "STANDPIPE_ALLOW_INSECURE_HOSTS": "true",
            "STANDPIPE_METRICS_PORT": "0",
            "STANDPIPE_PRIVATE_PORT": "0",
            "STANDPIPE_RELAY_HOST": "",
            **(environ or {}),
        }
        if "STANDPIPE_EVENT_LOOP" in os.environ:
            self.environ.setdefault("STANDPIPE_EVENT_LOOP", os.environ["STANDPIPE_EVENT_LOOP"])
        self.output = folder / "output.jsonl"
        self.process: subprocess.Popen[bytes] | None = None
        self.seen: set[int] = set()

    @property
    def stream_url(self) -> str:
        """Where consumers connect."""
        return f"ws://127.0.0.1:{self.port}/xrpc/com.atproto.sync.subscribeRepos"

    @property
    def http_url(self) -> str:
        """The public port over HTTP."""
        return f"http://127.0.0.1:{self.port}"

    def spawn(self) -> None:
        """Start `standpipe run`, without waiting for anything.

        It is told to end when the thread that calls this ends, so that even a killed test run
        leaves no relay behind.
        """
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable, str(ROOT / "tests" / "tether.py"),
                    sys.executable, "-m", *self._command,
                ],
                cwd=self.project,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )  # fmt: skip

    def start(self) -> Self:
        """Start it, and wait until it says that it can deliver."""
        self.spawn()
        self.wait_healthy()
        return self

    def wait_healthy(self, deadline_s: float = START_S) -> None:
        """Wait until `/_health` answers 200.

        Raises:
            RuntimeError: the relay ended instead; with the end of its output.
        """

        def healthy() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"the relay ended with {self.process.returncode}: {self.tail()}")
            self.seen.update(children_of(self.process.pid))
            return self.get("/_health")[0] == 200

        try:
            wait_for("the relay to deliver", healthy, deadline_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.tail()}") from error

    def get(self, path: str, timeout_s: float = 5.0) -> tuple[int, Any]:
        """GET on the public port → (status, JSON or text); status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(self.http_url + path, timeout=timeout_s) as answer:
                return answer.status, _parsed(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _parsed(error.read())
        except OSError:
            return 0, None

    def tail(self, lines: int = 40) -> str:
        """The end of what the relay printed."""
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-lines:])

    def log_lines(self) -> list[dict[str, Any]]:
        """The JSON lines that the relay printed."""
        found = []
        for line in self.output.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue  # two processes may share a line of the terminal
        return found

    def run_file(self, name: str) -> dict[str, Any] | None:
        """What a process wrote of itself (`persist`, `ingest-0`, `broadcast-0`), if it is there.

        `postgres` writes nothing; its process id is found among the children.
        """
        if name == "postgres":
            return self._postgres()
        try:
            found: dict[str, Any] = json.loads((self.data / "run" / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None
        return found if alive(found["pid"]) else None

    def _postgres(self) -> dict[str, Any] | None:
        assert self.process is not None
        for pid in children_of(self.process.pid):
            with contextlib.suppress(OSError):
                if b"bin/postgres\0-D" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return {"pid": pid}
        return None

    def pid(self, name: str) -> int:
        """The process id of one of the relay's processes."""
        return int(wait_for(f"{name} to run", lambda: self.run_file(name), START_S)["pid"])

    def metrics(self, name: str) -> dict[str, float]:
        """One process's numbers: `name{labels}` as Prometheus prints them → value."""
        port = wait_for(f"{name} to run", lambda: self.run_file(name), START_S)["metrics_port"]
        # What is asked of a process that stands still is a fault of the test; a busy one answers late.
        address = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(address, timeout=START_S) as answer:
            text = answer.read().decode()
        numbers = {}
        for line in text.splitlines():
            if not line.startswith("#"):
                key, _, value = line.rpartition(" ")
                numbers[key] = float(value)
        return numbers

    def kill(self, name: str, sign: int = signal.SIGKILL) -> int:
        """Send a signal to one process; its process id."""
        pid = self.pid(name)
        os.kill(pid, sign)
        return pid

    def wait_replaced(self, name: str, old_pid: int) -> int:
        """Wait until supervisord has started the successor of a killed process; its id."""

        def successor() -> int | None:
            found = self.run_file(name)
            return found["pid"] if found and found["pid"] != old_pid else None

        return wait_for(f"a new {name}", successor, START_S)

    def stop(self) -> int:
        """SIGTERM, wait, and see that no process is left; the exit code.

        Raises:
            AssertionError: something of it still runs.
        """
        assert self.process is not None
        if self.process.poll() is None:
            self.seen.update(children_of(self.process.pid))
            self.process.terminate()
        code = self.process.wait(STOP_S)
        wait_for("every process to end", lambda: not any(map(alive, self.seen)), STOP_S)
        return code

    def __enter__(self) -> Self:
        """Start it."""
        try:
            return self.start()
        except BaseException:
            self._end()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it whatever happened, and remove its folder."""
        self._end()

    async def __aenter__(self) -> Self:
        """Start it, while the loop goes on (its hosts may live there)."""
        self.spawn()
        try:
            await asyncio.to_thread(self.wait_healthy)
        except BaseException:
            await asyncio.to_thread(self._end)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """As `__exit__`, while the loop goes on."""
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        try:
            if self.process is not None and self.process.poll() is None:
                self.stop()
        finally:
            if self.process is not None:
                for pid in [*self.seen, *children_of(self.process.pid), self.process.pid]:
                    if alive(pid):
                        os.kill(pid, signal.SIGKILL)
                self.process.wait(STOP_S)
            if self._temporary is not None:
                self._temporary.cleanup()


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
