"""Does the relay start, refuse, tell of itself and stop as an operator expects? All of it is real."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import curve, locks
from common.command import report
from common.command.status import gather
from common.paths import Paths
from tests.fix_net import data_folder, eventually, free_port
from tests.fix_postgres import Postgres
from tests.relay import alive, children_of
from tests.running.fleet import ROOT, Fleet, Started, fleet_in

STAGES = ("persist", "ingest-0", "ingest-1", "broadcast-0")


def run(fleet: Fleet, **more: str) -> Started:
    return fleet.start("common.command", "run", **more)


def wait_ready(started: Started, *names: str) -> None:
    for name in names or STAGES:
        started.wait_says("ready", name, 60)


def seen(fleet: Fleet) -> report.Relay:
    """What `standpipe status` would say now."""
    return gather(Paths(fleet.data_dir), fleet.port)


def running(fleet: Fleet) -> list[report.Process]:
    """Every process but the spares."""
    return [process for process in seen(fleet).processes if process.state != "spare"]


def status(fleet: Fleet, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "common.command", "status", *words],
        cwd=ROOT, env={**fleet.environ, **more}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def house() -> Iterator[Fleet]:
    """A relay that the tests of this module share; `fleet.started[0]` is its supervisord."""
    with contextlib.ExitStack() as stack:
        fleet = stack.enter_context(fleet_in(stack.enter_context(data_folder())))
        wait_ready(run(fleet))
        eventually(lambda: seen(fleet).up, what="all of it is up")
        yield fleet
        fleet.started[0].signal()
        assert fleet.started[0].end() == 0


def test_one_command_starts_a_relay_that_tells_of_itself(house: Fleet) -> None:
    told = json.loads(status(house, "--json").stdout)
    assert told["up"] is True
    assert told["supervisor"] == house.started[0].pid
    names = {process["name"]: process for process in told["processes"]}
    spares = {name for name, process in names.items() if process["state"] == "spare"}
    assert sorted(names.keys() - spares) == sorted([*STAGES, "postgres"])
    assert spares == {"ingest-2", "ingest-3"}
    assert "standpipe_durable_seq" in names["persist"]["numbers"]
    assert told["port"] == house.port
    elsewhere = json.loads(status(house, "--json", STANDPIPE_BIND=":1").stdout)
    assert elsewhere["port"] == house.port
    file = json.loads(Paths(house.data_dir).run_file("persist").read_text())
    with urllib.request.urlopen(f"http://127.0.0.1:{file['metrics_port']}/metrics") as answer:
        lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines())
    assert float(lines["standpipe_log_limit_bytes"]) > float(lines["standpipe_log_bytes"]) > 0
    asked = status(house)
    assert asked.returncode == 0
    assert all(name in asked.stdout for name in names)
    assert "durable seq 0" in asked.stdout


@pytest.mark.parametrize("name", [*STAGES, "postgres"])
def test_each_process_that_is_killed_comes_back(house: Fleet, name: str) -> None:
    eventually(lambda: seen(house).up, what="all of it is up")
    before = next(process.pid for process in seen(house).processes if process.name == name)
    os.kill(before, signal.SIGKILL)

    def back() -> bool:
        found = seen(house)
        return found.up and before not in [process.pid for process in found.processes]

    eventually(back, what=f"{name} is back")


def test_a_database_that_is_shut_down_by_hand_comes_back(house: Fleet) -> None:
    file = Paths(house.data_dir).postgres_dir / "data" / "postmaster.pid"

    def postmaster() -> int | None:
        """None while there is no file, or nothing in it yet."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int(file.read_text().split("\n")[0])
        return None

    before = postmaster()
    assert before is not None
    os.kill(before, signal.SIGINT)
    eventually(lambda: postmaster() not in (None, before))


def test_the_limit_of_open_files_is_raised_for_every_process(house: Fleet) -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    eventually(lambda: seen(house).up, what="all of it is up")
    for process in running(house):
        limits = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
        line = next(line for line in limits if line.startswith("Max open files"))
        assert int(line.split()[3]) == hard, process.name


def test_a_missing_directory_is_warned_of_and_no_reason_not_to_start(house: Fleet) -> None:
    said = house.started[0].wait_says("the PLC directory does not answer", "run")
    assert said["level"] == "warn"


def test_a_second_relay_on_the_folder_is_refused_with_the_firsts_number(house: Fleet) -> None:
    second = run(house, STANDPIPE_BIND=f"127.0.0.1:{free_port()}")
    assert second.end() == 1
    told = second.err.read_text()
    assert f"another relay, under process {house.started[0].pid}, holds the data folder" in told
    assert house.started[0].process.poll() is None


def test_a_second_relay_on_the_port_is_refused_with_the_firsts_number(
    house: Fleet, tmp_path: Path
) -> None:
    second = run(house, STANDPIPE_DATA_DIR=str(tmp_path / "other"))
    assert second.end() == 1
    told = second.err.read_text()
    assert f"another relay, under process {house.started[0].pid}, holds port {house.port}" in told


@pytest.mark.parametrize("what", ["the data folder", "port"])
def test_a_relay_that_was_started_without_this_command_is_seen_too(fleet: Fleet, what: str) -> None:
    fleet.data_dir.mkdir()
    path = fleet.data_dir / "relay.lock"
    lock = locks.acquire(path if what != "port" else locks.port_lock_file(fleet.port), what, 4711)
    try:
        refused = run(fleet)
        assert refused.end() == 1
        assert f"another relay, under process 4711, holds {what} " in refused.err.read_text()
    finally:
        lock.release()


def test_it_drains_on_sigterm_and_on_ctrl_c_without_a_trace(fleet: Fleet) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        relay = run(fleet)
        wait_ready(relay)
        pids = [relay.pid, *children_of(relay.pid)]
        relay.signal(number)
        assert relay.end() == 0
        eventually(lambda pids=pids: not any(map(alive, pids)))  # type: ignore[misc]
        assert list((fleet.data_dir / "run").glob("*.json")) == []
        # Every line of every process was JSON: supervisord's own went to a file.
        lines = relay.out.read_text().splitlines()
        assert [line for line in lines if not line.startswith("{")] == []
    assert (fleet.data_dir / "run" / "supervisord.log").stat().st_size > 0
    assert status(fleet).returncode == 1


def test_a_killed_supervisord_leaves_no_process_and_the_next_start_goes_on(fleet: Fleet) -> None:
    relay = run(fleet)
    wait_ready(relay)
    pids = children_of(relay.pid)
    assert len(pids) > 5
    relay.signal(signal.SIGKILL)
    relay.end()
    eventually(lambda: not any(map(alive, pids)), what="no process is left")
    again = run(fleet)
    wait_ready(again)
    again.signal()
    assert again.end() == 0


def test_two_relays_that_start_at_once_do_not_both_start(fleet: Fleet) -> None:
    one, other = run(fleet), run(fleet)
    eventually(lambda: {one.process.poll(), other.process.poll()} != {None})
    ended, lives = (one, other) if one.process.poll() is not None else (other, one)
    assert ended.end() == 1
    assert f"under process {lives.pid}" in ended.err.read_text()
    wait_ready(lives)


def test_a_port_that_another_program_has_is_refused_by_name(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", fleet.port)):
        relay = run(fleet)
        assert relay.end() == 1
    assert f"STANDPIPE_BIND: 127.0.0.1 port {fleet.port}" in relay.err.read_text()
    assert "another program listens there" in relay.err.read_text()


def test_a_taken_metrics_port_is_refused_by_name(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        relay = run(fleet, STANDPIPE_METRICS_PORT=str(port))
        assert relay.end() == 1
    assert f"STANDPIPE_METRICS_PORT: 127.0.0.1 port {port}" in relay.err.read_text()


def test_wrong_settings_are_all_told_at_once(fleet: Fleet) -> None:
    relay = run(fleet, STANDPIPE_REPLAY_WINDOW="x", RELAY_PLC_HOST="", STANDPIPE_PLC_HOST="y")
    assert relay.end() == 2
    told = relay.err.read_text()
    assert "STANDPIPE_REPLAY_WINDOW='x'" in told
    assert "STANDPIPE_PLC_HOST='y'" in told


def test_a_setting_of_the_reference_relay_that_is_not_heeded_is_warned_of(fleet: Fleet) -> None:
    started = run(fleet, RELAY_HOST_CONCURRENCY="40", STANDPIPE_DATA_DIR="/proc/nowhere/data")
    told = started.wait_says("a setting of the reference relay that is not heeded")
    assert told["name"] == "RELAY_HOST_CONCURRENCY"
    assert "workers" in told["instead"]
    assert started.end() == 1


def test_between_machines_nothing_starts_without_keys_that_serve(fleet: Fleet) -> None:
    here = {"STANDPIPE_BATCHES_BIND": f"tcp://127.0.0.1:{free_port()}"}
    refused = run(fleet, **here)
    assert refused.end() == 2
    assert "STANDPIPE_CURVE_DIR: nothing goes over TCP without keys" in refused.err.read_text()
    keys = fleet.folder / "keys"
    curve.make(keys, ["second"])
    (keys / "persist" / "server.key").chmod(0o644)
    here["STANDPIPE_CURVE_DIR"] = str(keys / "persist")
    refused = run(fleet, **here)
    assert refused.end() == 1
    assert "server.key can be read by others" in refused.err.read_text()
    there = {
        "STANDPIPE_BATCHES_CONNECT": here["STANDPIPE_BATCHES_BIND"],
        "STANDPIPE_CURVE_DIR": str(keys / "persist"), "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x",
    }  # fmt: skip
    refused = run(fleet, **there)
    assert refused.end() == 1
    assert "client.key cannot be read" in refused.err.read_text(), "that is the other one's folder"
    refused = fleet.start("persist", **there)
    assert refused.end() == 2
    assert "persist is on another machine" in refused.err.read_text()


def test_two_relays_of_ingest_alone_do_not_share_a_folder(fleet: Fleet) -> None:
    keys = fleet.folder / "keys"
    curve.make(keys, ["second"])
    there = {
        "STANDPIPE_BATCHES_CONNECT": f"tcp://127.0.0.1:{free_port()}",
        "STANDPIPE_CURVE_DIR": str(keys / "second"), "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x",
    }  # fmt: skip
    first = run(fleet, **there)
    first.wait_says("starting", "run")
    first.wait_says("waiting", "ingest-0", 60.0)
    second = run(fleet, **there)
    assert second.end() == 1
    assert str(first.pid) in second.err.read_text()
    first.signal()
    assert first.end() == 0


def test_a_data_folder_that_cannot_be_made_is_refused_by_name(fleet: Fleet) -> None:
    fleet.data_dir.write_text("a file stands here")
    relay = run(fleet)
    assert relay.end() == 1
    assert str(fleet.data_dir) in relay.err.read_text()


def test_too_few_open_files_are_refused_by_name(fleet: Fleet) -> None:
    code = (
        "import resource, runpy, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))\n"
        "sys.argv = ['standpipe', 'run']\n"
        "runpy.run_module('common.command', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=fleet.environ,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "RLIMIT_NOFILE allows 200" in done.stderr


def test_a_very_long_data_path_works(fleet: Fleet) -> None:
    long = fleet.folder / ("x" * 120) / "data"
    relay = run(fleet, STANDPIPE_DATA_DIR=str(long))
    wait_ready(relay)
    assert status(fleet, STANDPIPE_DATA_DIR=str(long)).returncode == 0
    relay.signal()
    assert relay.end() == 0
    for folder in (Paths(long).socket_dir, Paths(long).postgres_socket_dir):
        assert folder.exists()
        shutil.rmtree(folder)


@pytest.fixture
def own_database(own_postgres: Postgres) -> str:
    return own_postgres.url


def test_with_a_database_of_ones_own_none_is_started(fleet: Fleet, own_database: str) -> None:
    relay = run(fleet, DATABASE_URL=own_database)
    wait_ready(relay)
    assert sorted(process.name for process in running(fleet)) == sorted(STAGES)
    assert not (fleet.data_dir / "postgres").exists()


def test_a_database_that_does_not_let_us_in_is_refused_by_name(
    fleet: Fleet, own_database: str
) -> None:
    relay = run(fleet, DATABASE_URL=own_database.replace("standpipe@", "nobody-we-know@"))
    assert relay.end() == 1
    assert "DATABASE_URL: " in relay.err.read_text()


def test_a_database_that_is_away_at_start_is_waited_for(
    fleet: Fleet, own_postgres: Postgres
) -> None:
    own_postgres.stop()
    began_s = time.monotonic()
    relay = run(fleet, DATABASE_URL=own_postgres.url)
    assert relay.wait_says("waiting for the database", "run")["level"] == "warn"

    def health() -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{fleet.port}/_health", timeout=5) as got:
                return int(got.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    eventually(lambda: health() not in (0, 200), what="health says that it cannot deliver")
    assert time.monotonic() - began_s < 30
    own_postgres.start()
    eventually(lambda: health() == 200, what="it recovers when the database comes")
    assert relay.process.poll() is None


def test_its_output_survives_in_a_file_that_is_not_appended_to(fleet: Fleet) -> None:
    path = fleet.folder / "all.txt"
    with path.open("wb") as out:
        out.write(b"before\n")
        out.flush()
        relay = subprocess.Popen(
            [sys.executable, "-m", "common.command", "run"], cwd=ROOT, env=fleet.environ,
            stdout=out, stderr=out,
        )  # fmt: skip
    eventually(lambda: path.read_text().count('"ready"') == len(STAGES), 60)
    # supervisord's own words too, should it have some: everybody appends.
    flags = re.search(r"flags:\s+(\d+)", Path(f"/proc/{relay.pid}/fdinfo/1").read_text())
    assert flags is not None
    assert int(flags[1], 8) & os.O_APPEND
    relay.terminate()
    assert relay.wait(60) == 0
    lines = path.read_text().splitlines()
    assert lines[0] == "before"
    assert all(json.loads(line) for line in lines[1:] if line.startswith("{"))
    assert path.read_text().count('"stopped"') == len(STAGES)


def test_its_output_may_be_a_socket_as_a_journals_is(fleet: Fleet) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    with ours:
        with theirs:
            relay = subprocess.Popen(
                [sys.executable, "-m", "common.command", "run"], cwd=ROOT, env=fleet.environ,
                stdout=theirs.fileno(), stderr=theirs.fileno(),
            )  # fmt: skip
        text = b""
        while text.count(b'"ready"') < len(STAGES):
            text += ours.recv(65536)
        relay.terminate()
        assert relay.wait(60) == 0
        while more := ours.recv(65536):
            text += more
    assert text.count(b'"stopped"') == len(STAGES)


def test_supervisord_alone_runs_the_table_with_an_empty_environment() -> None:
    """`supervisord -c supervisord.conf` in a project folder of its own."""
    folder = Path("/tmp") / f"standpipe-alone-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        for name in ("common", "ingest", "persist", "broadcast"):
            # Others write their bytecode there meanwhile, first under another name.
            ignored = shutil.ignore_patterns("*.pyc.*")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        shutil.copy(ROOT / "supervisord.conf", folder)
        # Nothing can be set from outside, and the default ports may be taken on this machine.
        settings = folder / "common" / "settings.py"
        text = settings.read_text()
        for default, free in ((":2470", f":{free_port()}"), ("2471", "0"), ("2600", "0")):
            assert f'"{default}"' in text
            text = text.replace(f'"{default}"', f'"{free}"')
        settings.write_text(text)
        (folder / ".venv" / "bin").mkdir(parents=True)
        starter = folder / ".venv" / "bin" / "python"
        starter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        starter.chmod(0o755)
        out = folder / "out.txt"
        # Appending, as `>>` does: supervisord writes its own lines at an offset of its own, and in a
        # file that is not appended to they overwrite the first lines of its programs.
        with out.open("ab") as file:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "supervisor.supervisord", "-c", "supervisord.conf"],
                cwd=folder, env={}, stdout=file, stderr=file,
            )  # fmt: skip
        try:
            eventually(lambda: out.read_text().count('"ready"') == len(STAGES), 60)
            assert locks.owner_of(folder / "data" / "relay.lock") == supervisor.pid
        finally:
            supervisor.terminate()
            assert supervisor.wait(60) == 0
    finally:
        shutil.rmtree(folder)


def test_help_teaches_and_an_unknown_word_is_refused() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "common.command", "--help"],
        cwd=ROOT, env={}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for word in ("run", "status", "STANDPIPE_BIND", "STANDPIPE_HOSTS", "docs/settings.md"):
        assert word in shown
    refused = subprocess.run(
        [sys.executable, "-m", "common.command", "walk"],
        cwd=ROOT, env={}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "walk" in refused.stderr
