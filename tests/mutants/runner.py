"""Is a mutant caught? Copies of the tree; in each, one bug at a time, and the tests that are quick.

The working tree is copied once, and never touched. Before each bug its file is taken afresh from a
copy that no bug was in, so that nothing of the last one stays; and no bytecode is written, which
could be taken for that of another bug.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple, Self

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
        waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
        for mutant in mutants:
            waiting.put(mutant)
        results: list[Result] = []

        def work(nursery: _Nursery) -> None:
            while True:
                try:
                    mutant = waiting.get_nowait()
                except queue.Empty:
                    return
                caught_by = _caught_by(pristine, nursery, mutant, tests_of(mutant.path))
                result = Result(mutant, caught_by)
                results.append(result)
                tell(result)

        with ExitStack() as stack:
            nurseries = [stack.enter_context(_Nursery(tree)) for tree in trees]
            _check_baseline(nurseries[0], {test for m in mutants for test in tests_of(m.path)})
            workers = [threading.Thread(target=work, args=(nursery,)) for nursery in nurseries]
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


class _Nursery:
    """A process that runs tests in a copy of the tree; see tests.mutants.nursery."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        environment = {**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(tree / ".hypothesis")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.nursery"],
            cwd=tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(
        self, tests: Sequence[str], *, write_bytecode: bool = False, limit_s: float = LIMIT_S
    ) -> tuple[int | None, str]:
        """Run tests until the first one fails → pytest's exit code, None when it takes too long;
        and what it printed.
        """
        request = {"tests": list(tests), "limit_s": limit_s, "write_bytecode": write_bytecode}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["code"], answer["output"]


def _check_baseline(nursery: _Nursery, tests: Iterable[str]) -> None:
    code, output = nursery.run(sorted(tests), write_bytecode=True, limit_s=10 * LIMIT_S)
    if code != 0:
        raise NotGreen(output)
    loaded = subprocess.run(
        [sys.executable, "-c", "import common, ingest, persist; print(ingest.__file__)"],
        cwd=nursery.tree, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    if not loaded.startswith(str(nursery.tree)):
        raise NotGreen(f"the copy's tests would load {loaded}")


def _caught_by(
    pristine: Path, nursery: _Nursery, mutant: Mutant, tests: Sequence[str]
) -> str | None:
    target = nursery.tree / mutant.path
    source = (pristine / mutant.path).read_text()
    target.write_text(mutant.applied_to(source))
    for stale in target.parent.glob(f"__pycache__/{target.stem}.*"):
        stale.unlink()
    try:
        code, output = nursery.run(tests)
    finally:
        target.write_text(source)
    if code is None:
        return "the time limit"
    if code == 0:
        return None
    if code not in {1, 2}:  # a failed test, an error while collecting them
        return f"exit code {code}"
    failed = _FAILED.search(output)
    return failed[1] if failed else "the collection of the tests"
