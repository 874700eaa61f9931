"""The shell commands of a page of the runbook, as an operator types them, and where to type them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.relay import ROOT

STAGES = ("broadcast", "common", "ingest", "persist")


def commands(page: str, heading: str | None = None) -> str:
    """The fenced shell lines of one section of docs/<page>, or of all of it, in order."""
    text = (ROOT / "docs" / page).read_text()
    if heading is not None:
        sections = re.split(r"^## ", text, flags=re.MULTILINE)
        (text,) = [section for section in sections if section.startswith(f"{heading}\n")]
    found = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert found, f"{page}, {heading}: there are no commands"
    return "".join(found)


class Operator:
    """Somebody who sits in a project's folder and types."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        """Give the folder an environment, which is ours.

        Args: environ: settings, without STANDPIPE_DATA_DIR: that is `data`, as the pages say.
        """
        self.folder = folder
        self.environ = {k: v for k, v in environ.items() if k != "STANDPIPE_DATA_DIR"}
        self.environ["PATH"] = os.environ["PATH"]
        programs = folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        (programs / "python").symlink_to(sys.executable)
        # The code that lies in the folder, whichever release that is.
        for name, module in (
            ("standpipe", "common.command"), ("supervisorctl", "supervisor.supervisorctl"),
        ):  # fmt: skip
            command = programs / name
            command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
            command.chmod(0o755)

    def types(self, lines: str) -> str:
        """Type some lines; what was printed. The first that fails ends it.

        Raises:
            AssertionError: one failed; with all that was printed.
        """
        done = subprocess.run(
            ["bash", "-e", "-u", "-x", "-c", lines], cwd=self.folder, env=self.environ,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"exit code {done.returncode}:\n{done.stdout}"
        return done.stdout


def install(project: Path, folder: Path) -> None:
    """Put a release's code into a folder."""
    for name in STAGES:
        shutil.copytree(
            project / name, folder / name, dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )  # fmt: skip
    for name in ("supervisord.conf", "pyproject.toml"):
        shutil.copy(project / name, folder)
