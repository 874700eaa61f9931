"""python -m tests.fuzz: hunt every target, some at a time, and say what came of it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

from tests.fuzz.hunt import hunt, read_corpus, save_finding, write_corpus
from tests.fuzz.targets import targets


def one(name: str, seconds: float, seed: int) -> int:
    """Hunt one target in this process; print the result as JSON."""
    target = targets()[name]
    corpus = read_corpus(name)
    found = hunt(target, seconds, seed, corpus)
    kept = write_corpus(name, target, corpus)
    for raw, words in found.findings:
        sys.stderr.write(f"{save_finding(name, raw, words)}\n{words}\n")
    told = {
        "target": name,
        "seconds": round(found.seconds),
        "executions": found.executions,
        "outcomes": len(found.outcomes),
        "slowest_ms": round(found.slowest_s * 1000, 1),
        "kept": kept,
        "findings": len(found.findings),
    }
    print(json.dumps(told))
    return bool(found.findings)


def everything(names: list[str], seconds: float, seed: int, jobs: int) -> int:
    """Each target in a process of its own, `jobs` at a time."""
    waiting = list(names)
    running: list[subprocess.Popen[str]] = []
    rows: list[dict[str, Any]] = []
    failed = 0
    while waiting or running:
        while waiting and len(running) < jobs:
            command = [sys.executable, "-m", "tests.fuzz", "--one", waiting.pop(0)]
            command += ["--seconds", str(seconds), "--seed", str(seed)]
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        time.sleep(0.2)
        for process in [process for process in running if process.poll() is not None]:
            running.remove(process)
            assert process.stdout is not None
            failed += process.returncode != 0
            lines = process.stdout.read().splitlines()
            rows += [json.loads(line) for line in lines if line.startswith("{")]
    print("| target | seconds | executions | outcomes | slowest | findings |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in sorted(rows, key=lambda row: names.index(row["target"])):
        print(
            f"| {row['target']} | {row['seconds']} | {row['executions']:,} | {row['outcomes']} |"
            f" {row['slowest_ms']} ms | {row['findings']} |"
        )
    return int(failed > 0 or len(rows) != len(names))


def main() -> int:
    """The exit code is 0 only without a finding."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(targets()))
    parser.add_argument("--seconds", type=float, default=600.0, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        return one(given.one, given.seconds, given.seed)
    names = given.targets or list(targets())
    print(f"seed {given.seed}")
    return everything(names, given.seconds, given.seed, given.jobs)


if __name__ == "__main__":
    sys.exit(main())
