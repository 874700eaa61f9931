"""Does `make` say what it can do, and which package is missing on a bare machine?

That a clean clone builds and passes is what .ci/run shows, since it needs a package index.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
TOOLS = ("awk", "bash", "dirname", "env", "make", "rm", "sh", "touch")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project as a clone has it, without .venv; and a PATH that has make and no Python."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        if found is None:
            pytest.skip(f"{tool} is not on this machine")
        (tmp_path / "bin" / tool).symlink_to(found)
    return folder


def python(project: Path, name: str, lines: str) -> None:
    """Put an interpreter into PATH that first runs `lines` of sh."""
    path = project.parent / "bin" / name
    path.write_text(f'#!/bin/sh\n{lines}\nexec "{sys.executable}" "$@"\n')
    path.chmod(0o755)


def make(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *words], cwd=project, env={"PATH": str(project.parent / "bin")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def block(project: Path, module: str) -> None:
    """An interpreter that lacks one of its own modules, as Debian's does without python3-venv."""
    folder = project.parent / "blocked"
    folder.mkdir()
    (folder / f"{module}.py").write_text("raise ImportError\n")
    python(project, "python3", f'PYTHONPATH="{folder}"; export PYTHONPATH')


@pytest.mark.parametrize("target", ["test", "demo", "run", "lint", "bench"])
def test_a_machine_without_python_is_told_the_packages_name(project: Path, target: str) -> None:
    done = make(project, target)
    assert done.returncode != 0
    assert "install the packages python3 and python3-venv" in done.stderr
    assert not (project / ".venv").exists()


def test_too_old_a_python_is_told(project: Path) -> None:
    python(project, "python3", "exit 1")
    assert "Python 3.11 or newer is missing" in make(project, "test").stderr


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_venv_is_told_the_packages_name(project: Path, module: str) -> None:
    block(project, module)
    done = make(project, "test")
    assert done.returncode != 0
    assert "python3 has no venv and ensurepip: install the package python3-venv" in done.stderr


def test_another_python_that_can_is_taken_instead(project: Path) -> None:
    block(project, "ensurepip")
    # It can; but it is stopped before it reaches for the network.
    python(project, "python3.12", 'case "$*" in *"-m venv"*) echo "chosen" >&2; exit 9;; esac')
    assert "chosen" in make(project, "test").stderr


def test_help_is_the_first_target_and_lists_every_one(project: Path) -> None:
    shown = make(project).stdout
    targets = re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE)
    assert {"help", "demo", "run", "test", "lint", "bench"} <= set(targets)
    assert re.findall(r"^  make ([a-z-]+) +\S", shown, flags=re.MULTILINE) == targets


def test_the_demo_is_handed_its_seconds() -> None:
    done = subprocess.run(
        ["make", "-n", "demo", "SECONDS=20"], cwd=ROOT, capture_output=True, text=True, check=True,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert "-m tests.demo --seconds 20" in done.stdout


def test_the_lock_has_every_dependency_at_one_version() -> None:
    locked = (ROOT / "requirements.lock").read_text().split()
    assert [
        line for line in locked if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", line)
    ] == []
    names = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in locked}
    text = (ROOT / "pyproject.toml").read_text()
    wanted = re.findall(r'"([a-z0-9-]+)(?:\[[a-z,]+\])?>=', text)
    assert len(wanted) > 15
    assert [name for name in wanted if name not in names] == []
