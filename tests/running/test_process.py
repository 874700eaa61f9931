"""Does each process begin alike, wait for its neighbours, and end as promised?"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from common import locks, process
from tests.fix_net import eventually
from tests.relay import alive
from tests.running.fleet import ROOT, Fleet


def run_file(fleet: Fleet, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((fleet.data_dir / "run" / f"{name}.json").read_text())
    return found


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_each_stage_drains_on_a_signal_with_exit_code_0(
    fleet: Fleet, loop: str, number: signal.Signals
) -> None:
    started = [
        fleet.worker("persist", STANDPIPE_EVENT_LOOP=loop),
        fleet.worker("ingest", STANDPIPE_EVENT_LOOP=loop),
        fleet.worker("ingest", "--member", "1", STANDPIPE_EVENT_LOOP=loop),
        fleet.worker("broadcast", STANDPIPE_EVENT_LOOP=loop),
    ]
    for worker in started:
        worker.wait_says("ready")
    for worker in started:
        worker.signal(number)
    assert [worker.end() for worker in started] == [0, 0, 0, 0]
    assert [worker.says("draining") is not None for worker in started] == [True] * 4
    assert list((fleet.data_dir / "run").glob("*.json")) == []


def test_stages_wait_for_persist_and_say_so(fleet: Fleet) -> None:
    ingest, broadcast = fleet.worker("ingest"), fleet.worker("broadcast")
    ingest.wait_says("waiting for persist")
    broadcast.wait_says("waiting for persist")
    assert ingest.says("ready") is None
    fleet.worker("persist")
    ingest.wait_says("ready")
    broadcast.wait_says("ready")


def test_a_stage_that_waits_can_be_stopped(fleet: Fleet) -> None:
    ingest = fleet.worker("ingest")
    ingest.wait_says("waiting for persist")
    ingest.signal()
    assert ingest.end() == 0


@pytest.mark.parametrize("stage", ["persist", "ingest", "broadcast"])
def test_another_supervisors_data_folder_is_refused_by_name(fleet: Fleet, stage: str) -> None:
    fleet.data_dir.mkdir(parents=True)
    lock = locks.acquire(fleet.data_dir / "relay.lock", "it", 4711)
    try:
        worker = fleet.worker(stage)
        assert worker.end() == process.EXIT_FAULT
        said = worker.says("another relay, under process 4711, holds the data folder")
        assert said is not None
        assert said["level"] == "error"
    finally:
        lock.release()


@pytest.mark.parametrize("stage", ["persist", "broadcast"])
def test_another_supervisors_port_is_refused_by_name(
    fleet: Fleet, tmp_path: Path, stage: str
) -> None:
    lock = locks.acquire(locks.port_lock_file(fleet.port), "it", 4711)
    try:
        if stage == "broadcast":
            fleet.data_dir.mkdir(parents=True)
            own = locks.acquire(fleet.data_dir / "relay.lock", "it", os.getpid())
        worker = fleet.worker(stage)
        assert worker.end() == process.EXIT_FAULT
        assert worker.says(f"another relay, under process 4711, holds port {fleet.port}")
        if stage == "broadcast":
            own.release()
    finally:
        lock.release()


@pytest.mark.parametrize("stage", ["persist", "ingest"])
def test_a_fault_of_ours_is_one_json_line_and_exit_code_1(fleet: Fleet, stage: str) -> None:
    if stage == "ingest":
        fleet.worker("persist").wait_says("ready")
    worker = fleet.worker(stage, WORKER="raise")
    assert worker.end() == process.EXIT_FAULT
    said = worker.says("uncaught exception")
    assert said is not None
    assert said["error"] == "RuntimeError('a fault of ours')"
    assert "test" in said["traceback"]
    assert worker.err.read_text() == ""


def test_work_that_ends_unasked_is_a_fault(fleet: Fleet) -> None:
    fleet.worker("persist").wait_says("ready")
    worker = fleet.worker("ingest", WORKER="return")
    assert worker.end() == process.EXIT_FAULT
    assert worker.says("ended without having been asked")


def test_wrong_settings_are_all_told_on_stderr_with_exit_code_2(fleet: Fleet) -> None:
    worker = fleet.worker("ingest", STANDPIPE_BIND="nowhere", STANDPIPE_REPLAY_WINDOW="ever")
    assert worker.end() == process.EXIT_SETTINGS
    told = worker.err.read_text()
    assert "STANDPIPE_BIND" in told
    assert "STANDPIPE_REPLAY_WINDOW" in told


@pytest.mark.parametrize(
    "words",
    [("broadcast", "--member", "1"), ("broadcast", "--members", "2")],
    ids=["a member too many", "more than set"],
)
def test_a_process_table_that_differs_from_the_settings_is_refused(
    fleet: Fleet, words: tuple[str, ...]
) -> None:
    worker = fleet.worker(*words)
    assert worker.end() == process.EXIT_SETTINGS
    assert "PROCESSES" in worker.err.read_text()


def test_an_ingest_process_more_than_the_settings_say_is_welcome(fleet: Fleet) -> None:
    worker = fleet.worker("ingest", "--member", "7", "--members", "9")
    worker.wait_says("waiting for persist", "ingest-7")
    beyond = fleet.worker("ingest", "--member", "64")
    assert beyond.end() == process.EXIT_SETTINGS


def test_an_unknown_setting_is_warned_of_by_name(fleet: Fleet) -> None:
    worker = fleet.worker("persist", STANDPIPE_BINDS=":1")
    assert worker.wait_says("unknown setting")["name"] == "STANDPIPE_BINDS"


PARENT = """
import subprocess, sys, time
children = [subprocess.Popen([sys.executable, "-m", "tests.running.worker", *words.split()])
            for words in sys.argv[1:]]
time.sleep(600)
"""


def test_no_process_outlives_its_supervisor(fleet: Fleet) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, "persist", "ingest", "broadcast"],
        env=fleet.environ, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        names = ("persist", "ingest-0", "broadcast-0")
        eventually(lambda: all((fleet.data_dir / "run" / f"{n}.json").exists() for n in names))
        pids = [run_file(fleet, name)["pid"] for name in names]
        assert all(map(alive, pids))
    finally:
        parent.kill()
        parent.wait()
    eventually(lambda: not any(map(alive, pids)), what="all end with their supervisor")


def test_a_process_whose_supervisor_is_already_gone_does_not_start() -> None:
    code = (
        "import os, sys, unittest.mock as m\n"
        "from common import process\n"
        "with m.patch('os.getppid', side_effect=[10, 1]):\n"
        "    try: process.die_with_parent()\n"
        "    except process.Fault: sys.exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 9


def test_a_process_whose_supervisor_died_while_python_was_loaded_does_not_start(
    fleet: Fleet,
) -> None:
    # Its parent is somebody else by now, who never dies: no signal would tell it.
    orphan = fleet.worker("persist", SUPERVISOR_ENABLED="1")
    assert orphan.end() == 1
    assert orphan.says("the supervisor ended before this process began")
    assert orphan.says("ready") is None


def test_the_run_file_names_a_prometheus_port_that_answers(fleet: Fleet) -> None:
    persist = fleet.worker("persist")
    persist.wait_says("ready")
    told = run_file(fleet, "persist")
    assert told["pid"] == persist.pid
    assert told["metrics_host"] == "127.0.0.1"
    with urllib.request.urlopen(f"http://127.0.0.1:{told['metrics_port']}/metrics") as answer:
        text = answer.read().decode()
    assert "process_resident_memory_bytes" in text
    assert "standpipe_gc_pause_seconds_bucket" in text


def test_a_taken_metrics_port_ends_the_process_by_name(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        worker = fleet.worker("persist", STANDPIPE_METRICS_PORT=str(port))
        assert worker.end() == process.EXIT_FAULT
    said = [line for line in worker.lines() if line["level"] == "error"]
    assert "Address already in use" in said[0]["msg"]
    assert str(port) in said[0]["msg"]


def test_a_loop_that_is_held_up_is_told_and_measured(fleet: Fleet) -> None:
    fleet.worker("persist").wait_says("ready")
    worker = fleet.worker("ingest", WORKER="stuck")
    # On a busy machine it may say so of its start, too, with nothing of it its own.
    eventually(
        lambda: [
            line
            for line in worker.lines()
            if line["msg"] == "the event loop was held up"
            and line["lag_s"] - line["starved_s"] >= 0.25
        ],
        what="it is told, of its own doing",
    )
    told = run_file(fleet, "ingest-0")
    with urllib.request.urlopen(f"http://127.0.0.1:{told['metrics_port']}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    lag = next(line for line in lines if line.startswith("standpipe_loop_lag_seconds "))
    assert float(lag.split()[1]) >= 0.25


def test_a_drain_that_takes_too_long_ends_by_itself(fleet: Fleet) -> None:
    fleet.worker("persist").wait_says("ready")
    code = (
        "import sys\n"
        "from common import process\n"
        "process.DRAIN_DEADLINE_S = 0.3\n"
        "from tests.running import worker\n"
        "sys.argv = ['x']\n"
        "sys.exit(process.run('ingest', worker.work))\n"
    )
    deaf = subprocess.Popen(
        [sys.executable, "-c", code], env={**fleet.environ, "WORKER": "deaf"},
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert deaf.stdout is not None
    with deaf:
        try:
            while '"ready"' not in deaf.stdout.readline():
                pass
            deaf.terminate()
            assert deaf.wait(60) == process.EXIT_FAULT
            assert "the drain took too long" in deaf.stdout.read()
        finally:
            deaf.kill()


def test_files_limit_is_raised_to_the_hard_one(fleet: Fleet) -> None:
    code = (
        "import resource, sys\n"
        "from common import process\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 300))\n"
        "assert process.raise_file_limit() == 300\n"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (300, 300)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
