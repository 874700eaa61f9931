"""What is each process of a relay doing? Asks supervisord, the run files, the Prometheus ports."""

from __future__ import annotations

import argparse
import http.client
import time
import urllib.request
import xmlrpc.client
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from prometheus_client.parser import text_string_to_metric_families
from supervisor.xmlrpc import SupervisorTransport

from common import locks
from common.command import report
from common.command.balance import Numbers
from common.command.parsers import Commands, command, json_option
from common.command.run import PROJECT
from common.command.session import read_settings
from common.paths import Paths
from common.process import EXIT_FAULT, EXIT_SETTINGS

_TIMEOUT_S: Final = 3.0
_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


_TEXT: Final = """\
Shows every process of the relay in STANDPIPE_DATA_DIR with its state and its most telling numbers, and
the balance of them all: what came over the hosts' sockets, and where it is (docs/conservation.md).

--json prints one object with the keys up, unaccounted, balance (its terms, written, heard), data_dir, port,
supervisor, problem, processes (each with name, state, pid, up_s, problem, unaccounted, numbers)

exit code: 0 all are up, and no event is unaccounted for · 1 something is not, or no relay runs there
           2 wrong settings
"""


def register(commands: Commands) -> None:
    """Add `standpipe status`."""
    parser = command(commands, "status", "show what each process does", _TEXT, _status)
    json_option(parser)


def _status(chosen: argparse.Namespace) -> int:
    settings = read_settings()
    if settings is None:
        return EXIT_SETTINGS
    found = gather(Paths.of(settings), settings.port)
    text = orjson.dumps(report.as_value(found)).decode() if chosen.json else report.as_text(found)
    print(text)
    return 0 if found.up and not found.balance.unaccounted else EXIT_FAULT


def gather(paths: Paths, port: int) -> report.Relay:
    """Everything that can be found out about the relay in one data folder, now."""
    now_s = time.time()
    owner = locks.owner_of(paths.lock_file)
    states, problem = _processes(paths, owner)
    files = _run_files(paths.run_dir)
    port = _port(files, port)
    numbers = _all_numbers(files)
    nothing = (None, None)
    processes = []
    for state in states:
        name = state["name"]
        up_s = now_s - state["start"] if state["pid"] else 0.0
        file = files.pop(name, {})
        processes.append(
            report.Process(
                name, _word_of(state), state["pid"], up_s,
                *(numbers[name] if file.get("pid") == state["pid"] else nothing),
            )
        )  # fmt: skip
    # Without our supervisord, whoever has left a run file and is still there.
    for name, file in sorted(files.items()):
        if Path(f"/proc/{file['pid']}").exists():
            processes.append(
                report.Process(
                    name, "running", file["pid"], now_s - file["started_s"], *numbers[name]
                )
            )  # fmt: skip
    return report.Relay(str(paths.data_dir), port, owner, problem, processes)


def _processes(paths: Paths, owner: int | None) -> tuple[list[dict[str, Any]], str | None]:
    """supervisord's process list, or why there is none.

    One that was started as `supervisord -c supervisord.conf` answers in the project's folder, and
    may be another relay's.
    """
    problem = f"no supervisord answers at {paths.supervisor_socket}"
    for path in (paths.supervisor_socket, PROJECT / ".venv" / "supervisor.sock"):
        try:
            pid, states = ask_supervisor(path)
        except (OSError, xmlrpc.client.Error):
            continue
        if path == paths.supervisor_socket or pid == owner:
            return states, None
    return [], problem


def ask_supervisor(path: Path) -> tuple[int, list[dict[str, Any]]]:
    """supervisord's own pid, and its process list.

    Raises:
        OSError, xmlrpc.client.Error: it does not answer.
    """
    if not path.exists():
        raise FileNotFoundError("there is no such socket")
    transport = SupervisorTransport(None, None, serverurl=f"unix://{path}")
    try:
        # The address is not used: the transport speaks over the Unix socket.
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        pid: Any = proxy.supervisor.getPID()
        listed: Any = proxy.supervisor.getAllProcessInfo()
        configs: Any = proxy.supervisor.getAllConfigInfo()
        started = {config["name"]: config["autostart"] for config in configs}
        return int(pid), [state | {"autostart": started[state["name"]]} for state in listed]
    finally:
        transport.close()


def _word_of(state: dict[str, Any]) -> str:
    """What supervisord says of a process; one that waits for `supervisorctl start` is a spare."""
    word = str(state["statename"]).lower()
    return "spare" if word == "stopped" and not state["autostart"] else word


def _run_files(folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in folder.glob("*.json"):
        try:
            found[path.stem] = orjson.loads(path.read_bytes())
        except (OSError, ValueError):
            continue  # It ended just now.
    return found


def public_port(paths: Paths, port: int) -> int:
    """The relay's own, which need not be the `port` that is set where this is typed."""
    return _port(_run_files(paths.run_dir), port)


def private_ports(paths: Paths) -> list[int]:
    """The loopback port of each broadcaster, where the operator may ask, too."""
    files = _run_files(paths.run_dir)
    return [file["private_port"] for _, file in sorted(files.items()) if "private_port" in file]


def _port(files: dict[str, dict[str, Any]], port: int) -> int:
    return next((file["port"] for file in files.values() if "port" in file), port)


def _all_numbers(
    files: dict[str, dict[str, Any]],
) -> dict[str, tuple[Numbers | None, str | None]]:
    """Each process's numbers.

    Order: persist is asked last. What it has on disk it counts before anybody hears of it, so it is
    never behind what the others said before.
    """
    return {
        name: _numbers(files[name]) for name in sorted(files, key=lambda name: name == "persist")
    }


def _numbers(file: dict[str, Any]) -> tuple[Numbers | None, str | None]:
    """A process's numbers, or why there are none."""
    host = _ANY_ADDRESS.get(file["metrics_host"], file["metrics_host"])
    host = f"[{host}]" if ":" in host else host
    # By name, so that no high-water mark is taken away from Prometheus.
    query = urlencode([("name[]", name) for name in report.WANTED])
    try:
        with urllib.request.urlopen(
            f"http://{host}:{file['metrics_port']}/metrics?{query}", timeout=_TIMEOUT_S
        ) as answer:
            text = answer.read().decode()
    except (OSError, ValueError, http.client.HTTPException) as error:
        return None, f"its Prometheus port does not answer: {error}"
    numbers: Numbers = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            label = next(iter(sample.labels.values()), "")
            numbers.setdefault(sample.name, {})[label] = sample.value
    return numbers, None
