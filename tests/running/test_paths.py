"""Do files and sockets lie where every process looks for them, however long the data path is?"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from pathlib import Path

import pytest
import zmq

from common import password, place
from common.paths import MAX_SOCKET_PATH_BYTES, PathError, Paths, make_private
from common.settings import load_settings


def endpoint_bytes(paths: Paths) -> int:
    names = [
        paths.batches_endpoint.removeprefix("ipc://"),
        paths.chunks_endpoint.removeprefix("ipc://"),
        f"{paths.supervisor_socket}.4194304",
        f"{paths.postgres_socket_dir}/.s.PGSQL.5432",
    ]
    return max(len(os.fsencode(name)) for name in names)


def remove_short(paths: Paths) -> None:
    """What lies outside the test's own folder has to be removed by hand."""
    if paths.socket_dir != paths.run_dir:
        shutil.rmtree(paths.socket_dir)


@pytest.mark.parametrize("length", [10, 60, 75, 100, 200])
def test_sockets_fit_whatever_the_length_of_the_data_path(data_dir: Path, length: int) -> None:
    paths = Paths(data_dir / ("x" * length) / "ü" / "data")
    paths.prepare()
    assert endpoint_bytes(paths) <= MAX_SOCKET_PATH_BYTES
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.bind(paths.batches_endpoint)
    remove_short(paths)


def test_two_long_data_paths_have_different_sockets(data_dir: Path) -> None:
    one, other = Paths(data_dir / ("x" * 150)), Paths(data_dir / ("y" * 150))
    assert one.batches_endpoint != other.batches_endpoint


def test_the_folder_for_short_sockets_is_closed_to_others(data_dir: Path) -> None:
    paths = Paths(data_dir / ("x" * 150))
    paths.prepare()
    assert stat.S_IMODE(paths.socket_dir.stat().st_mode) == 0o700
    assert paths.socket_dir != paths.run_dir
    remove_short(paths)


def test_a_private_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    with pytest.raises(PathError, match="only this user"):
        make_private(folder)


def test_a_private_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(PathError, match="only this user"):
        make_private(tmp_path / "link")


def test_every_process_finds_the_database_in_the_same_place(data_dir: Path) -> None:
    first = Paths(data_dir)
    first.prepare()
    second = Paths(data_dir)
    second.prepare()
    assert first.postgres_dir == second.postgres_dir


def test_the_data_folder_can_be_moved_with_its_database(data_dir: Path) -> None:
    Paths(data_dir).prepare()
    assert Paths(data_dir).postgres_dir == data_dir / "postgres"
    data_dir.rename(data_dir.with_name("moved"))
    moved = Paths(data_dir.with_name("moved"))
    moved.prepare()
    assert moved.postgres_dir == data_dir.with_name("moved") / "postgres"


def test_no_parents_mode_is_changed(data_dir: Path) -> None:
    parent = data_dir.parent
    parent.chmod(0o711)
    Paths(data_dir).prepare()
    assert stat.S_IMODE(parent.stat().st_mode) == 0o711


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the database another user")
def test_a_data_folder_closed_to_the_databases_user_gets_its_database_elsewhere(
    data_dir: Path,
) -> None:
    closed = data_dir / "closed"
    closed.mkdir(mode=0o700, parents=True)
    paths = Paths(closed / "data")
    paths.prepare()
    assert paths.postgres_dir.parent == place.VAR
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    again = Paths(closed / "data")
    again.prepare()
    assert again.postgres_dir == paths.postgres_dir


def test_a_folder_is_reachable_only_through_every_parent(tmp_path: Path) -> None:
    # Somebody who owns nothing here: only the bits for others count.
    stranger = pwd.struct_passwd(("x", "x", 54321, 54321, "", "/", "/bin/sh"))
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            break
    else:
        assert place.reachable(inner, stranger)
    inner.parent.chmod(0o700)
    assert not place.reachable(inner, stranger)


def test_the_admin_password_is_generated_once_and_closed_to_others(data_dir: Path) -> None:
    settings = load_settings({"STANDPIPE_DATA_DIR": str(data_dir)})
    paths = Paths.of(settings)
    paths.prepare()
    (first,) = password.ensure(settings, paths)
    assert len(first) >= 24
    assert password.ensure(settings, paths) == (first,)
    assert stat.S_IMODE(paths.admin_password_file.stat().st_mode) == 0o600
    assert [path.name for path in data_dir.glob("admin-password*")] == ["admin-password"]


def test_an_admin_password_that_is_set_is_not_written(data_dir: Path) -> None:
    settings = load_settings(
        {"STANDPIPE_DATA_DIR": str(data_dir), "STANDPIPE_ADMIN_PASSWORD": "mine"}
    )
    paths = Paths.of(settings)
    paths.prepare()
    assert password.ensure(settings, paths) == ("mine",)
    assert not paths.admin_password_file.exists()
