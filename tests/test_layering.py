"""Is the drawing true? Stages meet only in common, and I/O stays in the modules that are marked.

Between the edges, functions take values and give values back: a core is handed bytes and `now_s`.
What is listed here as an edge is what README.md marks with `~`.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
STAGES: Final = {"ingest", "persist", "broadcast"}

IO_LIBRARIES: Final = {
    "aiohttp", "asyncio", "ctypes", "fcntl", "http.client", "mmap", "multiprocessing", "os",
    "psycopg", "psycopg_pool", "resource", "select", "selectors", "shutil", "signal", "socket",
    "ssl", "starlette", "subprocess", "tempfile", "threading", "time", "urllib.request", "uvicorn",
    "uvloop", "websockets", "xmlrpc", "zmq",
}  # fmt: skip
"""What touches the world: network, disk, database, clock, environment, other processes."""

SANS_IO: Final = {
    "websockets.datastructures", "websockets.exceptions", "websockets.frames",
    "websockets.http11", "websockets.protocol", "websockets.server", "websockets.client",
}  # fmt: skip
"""Parts of such libraries that take bytes and give bytes back."""

FILE_CALLS: Final = {
    "open", "read_bytes", "read_text", "write_bytes", "write_text", "unlink", "mkdir", "iterdir",
    "touch", "rename",
}  # fmt: skip
"""Calls that reach the disk without an import of the above."""

EDGES: Final = {
    "common": {
        "command/consumers.py", "command/embedded.py", "command/host_changes.py", "command/hosts.py", "command/log.py",
        "command/log_look.py", "command/log_print.py", "command/preflight.py", "command/probe.py", "command/pull_hosts.py",
        "command/rejects.py", "command/run.py", "command/session.py", "command/snapshot.py", "command/status.py", "command/stop.py",
        "curve.py", "database.py", "descriptors.py", "fetch.py", "locks.py", "log_walk.py", "names.py", "owner.py", "password.py", "paths.py", "place.py",
        "postgres.py", "process.py", "segment_files.py", "segments.py", "selftest.py", "steady.py",
        "telemetry.py", "transport.py",
    },
    "ingest": {
        "asker.py", "connection.py", "dialer.py", "faults.py", "fleet.py", "host_table.py", "lanes.py", "lease_table.py",
        "leases.py", "outlet.py", "reach.py", "reject_table.py", "resolver.py", "status.py", "store.py", "subscription.py", "worker.py",
    },
    "persist": {
        "__main__.py", "checkpoint_file.py", "disk.py", "gate.py", "hidden_file.py", "inlet.py", "opening.py", "outlet.py",
        "segment_log.py", "store_thread.py", "upkeep.py", "verify.py", "worker.py",
    },
    "broadcast": {
        "admin_api.py", "admin_desk.py", "admin_door.py", "aliases.py", "alerts.py", "consumers.py", "crawl_desk.py", "crawl_table.py", "curtain.py", "fanout.py",
        "inlet.py", "playback.py", "recent.py", "server.py", "siblings.py", "store.py",
        "subscriber.py", "version.py", "views.py", "worker.py",
    },
}  # fmt: skip
"""The modules that touch the world, by folder: those marked `~` in README.md, and their doors."""

MODULES: Final = sorted(
    path
    for folder in (*STAGES, "common")
    for path in (ROOT / folder).rglob("*.py")
)  # fmt: skip


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """Full names of what a file imports: `from a.b import c` is both a.b and a.b.c."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            assert node.module is not None
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def within(name: str, libraries: set[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:length]) in libraries for length in range(1, len(parts) + 1))


def touches_the_world(path: Path) -> set[str]:
    found = {
        name for name in imported(path) if within(name, IO_LIBRARIES) and not within(name, SANS_IO)
    }
    # `from websockets import frames` names the package too.
    found -= {name.rpartition(".")[0] for name in imported(path) if within(name, SANS_IO)}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.id if isinstance(called, ast.Name) else None
            name = called.attr if isinstance(called, ast.Attribute) else name
            if name in FILE_CALLS:
                found.add(f"{name}()")
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_stages_meet_only_in_common(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    met = {name.partition(".")[0] for name in imported(path)} & STAGES
    assert met <= {own}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_but_tests_imports_tests(path: Path) -> None:
    assert not {name for name in imported(path) if within(name, {"tests"})}


@pytest.mark.parametrize(
    "path",
    [
        path for path in MODULES
        if str(path.relative_to(ROOT / path.relative_to(ROOT).parts[0]))
        not in EDGES[path.relative_to(ROOT).parts[0]]
    ],
    ids=name_of,
)  # fmt: skip
def test_a_core_touches_nothing_of_the_world(path: Path) -> None:
    assert touches_the_world(path) == set()


@pytest.mark.parametrize("folder", EDGES)
def test_every_edge_exists_and_touches_the_world(folder: str) -> None:
    paths = [ROOT / folder / name for name in sorted(EDGES[folder])]
    assert [name_of(path) for path in paths if not path.exists()] == []
    idle = [name_of(path) for path in paths if not touches_the_world(path)]
    assert idle == []


def test_the_lists_are_looked_at(tmp_path: Path) -> None:
    """The test itself sees what it is for."""
    path = tmp_path / "core.py"
    path.write_text("import zmq.asyncio\nfrom os import path\nx = y.read_text()\n")
    assert touches_the_world(path) == {"zmq.asyncio", "os", "os.path", "read_text()"}
    path.write_text("from websockets.frames import Frame\nimport struct\n")
    assert touches_the_world(path) == set()
