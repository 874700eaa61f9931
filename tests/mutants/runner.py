"""Is a mutant caught? Copies of the tree; in each, one bug at a time, and the tests that are quick.

The working tree is copied once, and never touched. Before each bug its file is taken afresh from a
copy that no bug was in, so that nothing of the last one stays; and no bytecode is written, which
could be taken for that of another bug.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.mutants.mutant import ROOT, Mutant

LIMIT_S: Final = 240.0
"""What runs longer hangs because of the bug: the slowest set of tests takes a fifth of this."""
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (tests/[\w/]+\.py(?:::\w+)?)", re.MULTILINE)


class NotGreen(RuntimeError):
    """The tests fail without any bug, so that they can tell nothing; the message is their output."""


class Result(NamedTuple):
    """caught_by: a test's path and name, or what else ended the run; None when nothing did."""

    mutant: Mutant
    caught_by: str | None


def run_all(
    mutants: Sequence[Mutant],
    tests_of: Callable[[str], tuple[str, ...]],
    jobs: int,
    tell: Callable[[Result], None],
) -> list[Result]:
    """Try each mutant, `jobs` at a time.

    Raises:
        NotGreen: the tests fail without a bug.
        tests.mutants.mutant.Stale: a mutant does not fit the tree.
    """
    with tempfile.TemporaryDirectory(prefix="standpipe-mutants-") as folder:
        pristine = _copied(Path(folder) / "pristine")
        for mutant in mutants:
            mutant.applied_to((pristine / mutant.path).read_text())
        # Where the published vectors lie beside the repository, the copies find them too.
        if (ROOT.parent / "shared").is_dir():
            (Path(folder) / "shared").symlink_to(ROOT.parent / "shared")
        trees = [Path(folder) / str(i) for i in range(jobs)]
        for tree in trees:
            shutil.copytree(pristine, tree)
        _check_baseline(trees[0], {test for m in mutants for test in tests_of(m.path)})
        waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
        for mutant in mutants:
            waiting.put(mutant)
        results: list[Result] = []

        def work(tree: Path) -> None:
            while True:
                try:
                    mutant = waiting.get_nowait()
                except queue.Empty:
                    return
                result = Result(mutant, _caught_by(pristine, tree, mutant, tests_of(mutant.path)))
                results.append(result)
                tell(result)

        workers = [threading.Thread(target=work, args=(tree,)) for tree in trees]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    if len(results) != len(mutants):
        raise RuntimeError(f"{len(mutants) - len(results)} mutants were not tried")
    order = {mutant.name: i for i, mutant in enumerate(mutants)}
    return sorted(results, key=lambda result: order[result.mutant.name])


def _copied(tree: Path) -> Path:
    """A copy of all that is the project's: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


def _check_baseline(tree: Path, tests: Iterable[str]) -> None:
    ended = _pytest(tree, sorted(tests), write_bytecode=True, limit_s=10 * LIMIT_S)
    if ended is None or ended.returncode != 0:
        raise NotGreen(ended.stdout if ended is not None else "the tests hang")
    loaded = subprocess.run(
        [sys.executable, "-c", "import common, ingest, persist; print(ingest.__file__)"],
        cwd=tree, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    if not loaded.startswith(str(tree)):
        raise NotGreen(f"the copy's tests would load {loaded}")


def _caught_by(pristine: Path, tree: Path, mutant: Mutant, tests: Sequence[str]) -> str | None:
    target = tree / mutant.path
    source = (pristine / mutant.path).read_text()
    target.write_text(mutant.applied_to(source))
    for stale in target.parent.glob(f"__pycache__/{target.stem}.*"):
        stale.unlink()
    try:
        ended = _pytest(tree, tests, write_bytecode=False, limit_s=LIMIT_S)
    finally:
        target.write_text(source)
    if ended is None:
        return "the time limit"
    if ended.returncode == 0:
        return None
    if ended.returncode not in {1, 2}:  # a failed test, an error while collecting them
        return f"exit code {ended.returncode}"
    failed = _FAILED.search(ended.stdout)
    return failed[1] if failed else "the collection of the tests"


def _pytest(
    tree: Path, tests: Sequence[str], *, write_bytecode: bool, limit_s: float
) -> subprocess.CompletedProcess[str] | None:
    """Run some tests until the first one fails; None when they take too long."""
    environment = {**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(tree / ".hypothesis")}
    if not write_bytecode:
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=line", "-rfE", *tests]
    try:
        return subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True,
            timeout=limit_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
