"""Can a relay run here? Each thing that it needs is tried before anything is started.

What cannot come by itself is refused by name (`Refused`); what may come later (a database, the
directory) is told in a warning, and the processes wait for it.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import urllib.error
import urllib.request
from typing import Final

import psycopg

from common import locks, password, place, selftest
from common.curve import client_keys, server_keys
from common.paths import Paths, private_temp_dir
from common.process import raise_file_limit
from common.settings import Settings

MIN_FILES: Final = 1024
"""Files and sockets that one process must be able to open: some hundred hosts or consumers."""
PLENTY_OF_FILES: Final = 8192
"""What the whole network asks for: 2,800 hosts in one process, or some thousand consumers."""
_CONNECT_S: Final = 5
_DIRECTORY_S: Final = 4.0


class Refused(Exception):
    """The relay cannot run like this; the message names what is wrong."""


def check(settings: Settings, paths: Paths, log: logging.Logger) -> list[locks.Lock]:
    """Try everything; returns the locks that the supervisor has to hold from now on.

    Raises:
        Refused: something is missing that will not come by itself.
    """
    try:
        paths.prepare()
        file_limit(log)
        held = no_other_relay(settings, paths)
        selftest.require(paths)
        password.ensure(settings, paths)
        keys(settings)
        if settings.database_url is None:
            place.database_user()
    except (OSError, locks.Held, selftest.Failed) as error:
        raise Refused(str(error)) from error
    ports_free(settings)
    if settings.database_url is not None:
        database(settings.database_url, log)
    directory(settings.plc_url, log)
    return held


def keys(settings: Settings) -> None:
    """Read the keys between machines, where there are others.

    Raises:
        BadKeys: they cannot serve.
    """
    if settings.curve_dir is not None and settings.batches_bind:
        server_keys(settings.curve_dir)
    if settings.curve_dir is not None and settings.batches_connect:
        client_keys(settings.curve_dir)


def file_limit(log: logging.Logger) -> None:
    """Raise the limit of open files to the most allowed.

    Raises:
        Refused: that is not enough.
    """
    limit = raise_file_limit()
    if limit < MIN_FILES:
        raise Refused(f"RLIMIT_NOFILE allows {limit} open files and sockets, a process needs "
                      f"{MIN_FILES} (ulimit -Hn, LimitNOFILE=)")  # fmt: skip
    if limit < PLENTY_OF_FILES:
        log.warning("few open files are allowed", extra={"fields": {
            "limit": limit, "whole_network": PLENTY_OF_FILES}})  # fmt: skip


def no_other_relay(settings: Settings, paths: Paths) -> list[locks.Lock]:
    """See that nobody has this data folder or this port, and claim both for our supervisor.

    persist's own locks are asked for as well, since a relay may have been started without this
    command. Where persist is on another machine we take its place here: the folder is ours, the port
    is nobody's.

    Raises:
        locks.Held: somebody has; the message has its process id.
    """
    folder, port = f"the data folder {paths.data_dir}", f"port {settings.port}"
    asked = [(paths.lock_file, folder)]
    if not settings.batches_connect:
        asked.append((locks.port_lock_file(settings.port), port))
    for path, what in asked:
        owner = locks.owner_of(path)
        if owner is not None:
            raise locks.Held(what, path, owner)
    wanted = [(paths.run_dir / "supervisor.lock", folder)]
    if settings.batches_connect:
        wanted.append((paths.lock_file, folder))
    else:
        wanted.append((private_temp_dir() / f"port-{settings.port}.supervisor.lock", port))
    return [locks.acquire(path, what, os.getpid()) for path, what in wanted]


def ports_free(settings: Settings) -> None:
    """See that every port of the relay can be bound.

    Raises:
        Refused: one cannot; the message says which setting it comes from.
    """
    whole = not settings.batches_connect
    wanted = [("STANDPIPE_BIND", settings.bind, settings.port)] if whole else []
    if settings.metrics_port:
        # The spares' too: who starts one at night shall not be told then.
        first, count = settings.ingest_first, settings.ingest_processes + settings.ingest_spares
        stages = [("ingest", range(first, first + count))]
        if whole:
            stages += [("persist", range(1)), ("broadcast", range(settings.broadcast_processes))]
        wanted += [
            ("STANDPIPE_METRICS_PORT", settings.metrics_host, settings.metrics_port_of(stage, n))
            for stage, numbers in stages
            for n in numbers
        ]
    if settings.private_port and whole:
        wanted += [
            ("STANDPIPE_PRIVATE_PORT", "127.0.0.1", settings.private_port_of(member))
            for member in range(settings.broadcast_processes)
        ]
    for name, host, port in wanted:
        try:
            _bind(host, port)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            hint = "; another program listens there" if error.errno == errno.EADDRINUSE else ""
            raise Refused(f"{name}: {host or 'every address'} port {port}: {why}{hint}") from error


def database(url: str, log: logging.Logger) -> None:
    """See whether the operator's database lets us in; one that is away may come.

    Raises:
        Refused: it answers, and does not let us in.
    """
    try:
        psycopg.connect(url, connect_timeout=_CONNECT_S).close()
    except psycopg.OperationalError as error:
        first = str(error).strip().split("\n")[0]
        # A server that starts or is full says so as FATAL too, and may change its mind.
        if "FATAL" in first and "starting up" not in first and "too many" not in first:
            raise Refused(f"DATABASE_URL: {first}") from error
        log.warning("waiting for the database", extra={"fields": {"error": first}})
    except psycopg.Error as error:
        raise Refused(f"DATABASE_URL: {error}") from error


def directory(url: str, log: logging.Logger) -> None:
    """Warn when the PLC directory does not answer; any answer will do."""
    found: list[str | None] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(f"{url}/_health", timeout=_DIRECTORY_S):  # noqa: S310 - http
                found.append(None)
        except urllib.error.HTTPError as error:
            error.close()
            found.append(None)
        except (OSError, ValueError) as error:
            found.append(str(error))

    # In a thread, as resolving a name has no time limit of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_DIRECTORY_S + 1)
    error = found[0] if found else f"no answer in {_DIRECTORY_S:.0f} s"
    if error is not None:
        log.warning("the PLC directory does not answer; events of accounts whose key is not known "
                    "will be held", extra={"fields": {"url": url, "error": error}})  # fmt: skip


def _bind(host: str, port: int) -> None:
    """Bind as a server would, without SO_REUSEPORT, so that any other listener is seen.

    Raises:
        OSError: it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen(1)
