"""Is every primitive that fails refused by its name, before anything is served?"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from common import selftest
from common.paths import Paths
from tests.fix_net import free_port
from tests.running.fleet import ROOT


@pytest.fixture
def paths(data_dir: Path) -> Paths:
    made = Paths(data_dir)
    made.prepare()
    return made


def test_a_sound_machine_passes_and_nothing_is_left(paths: Paths) -> None:
    before = sorted(paths.data_dir.rglob("*"))
    selftest.require(paths)
    assert sorted(paths.data_dir.rglob("*")) == before


def refused(paths: Paths) -> str:
    with pytest.raises(selftest.Failed) as caught:
        selftest.require(paths)
    return str(caught.value)


def failing(*_: object, **__: object) -> None:
    raise OSError("it is broken")


@pytest.mark.parametrize(
    ("module", "name", "told"),
    [
        pytest.param(os, "fdatasync", "flushing a file", id="fdatasync"),
        pytest.param(os, "fsync", "flushing a file", id="fsync of a folder"),
        pytest.param(socket, "create_server", "binding and connecting", id="bind"),
        pytest.param(socket, "create_connection", "binding and connecting", id="connect"),
        pytest.param(socket, "getaddrinfo", "resolving the name localhost", id="resolver"),
    ],
)
def test_what_fails_is_refused_by_name(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, module: object, name: str, told: str
) -> None:
    monkeypatch.setattr(module, name, failing)
    message = refused(paths)
    assert told in message
    assert "it is broken" in message


def test_a_folder_that_is_gone_is_refused_by_name(paths: Paths) -> None:
    paths.run_dir.rmdir()
    assert f"a private socket in {paths.run_dir}" in refused(paths)


def test_a_python_without_its_assertions_is_refused_by_name(data_dir: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-O", "-m", "common.command", "run"],
        cwd=ROOT, env={"STANDPIPE_DATA_DIR": str(data_dir), "STANDPIPE_BIND": f"127.0.0.1:{free_port()}"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "without its assertions" in done.stdout + done.stderr


def test_no_certificates_to_trust_are_refused_by_name(paths: Paths, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from common import selftest\n"
        "from common.paths import Paths\n"
        "try: selftest.require(Paths(Path(sys.argv[1])))\n"
        "except selftest.Failed as error: print(error)\n"
    )
    empty = {"SSL_CERT_FILE": str(tmp_path / "none.pem"), "SSL_CERT_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(paths.data_dir)],
        cwd=ROOT, env=empty, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "setting up TLS does not work" in done.stdout
    assert "ca-certificates" in done.stdout
