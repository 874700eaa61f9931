"""Does every primitive that the relay stands on work here?

    disk · name resolution · bind and connect · TLS · ZeroMQ

Each check does the thing once, on loopback and in the relay's own folders, in milliseconds; what
fails is refused by name before anything is served.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import zmq

from common.paths import Paths

_TIMEOUT_S: Final = 5.0


class Failed(Exception):
    """A primitive does not work; the message names it and says why."""


def require(paths: Paths) -> None:
    """Check everything.

    Raises:
        Failed: the first thing that does not work.
    """
    if sys.flags.optimize:
        # A fault that an assertion would have shown spreads instead. Source: lesson 26.
        raise Failed("Python runs without its assertions (-O, PYTHONOPTIMIZE): run it as it is")
    checks: tuple[tuple[str, Callable[[], None]], ...] = (
        ("writing and flushing a file in the data folder", lambda: flush_file(paths.data_dir)),
        ("resolving the name localhost", resolve),
        ("binding and connecting on 127.0.0.1", loopback),
        ("setting up TLS", tls),
        ("a private socket in " + str(paths.socket_dir), lambda: zeromq(paths.socket_dir)),
    )
    for what, check in checks:
        try:
            check()
        except (OSError, zmq.ZMQError, ssl.SSLError, ValueError) as error:
            raise Failed(f"{what} does not work: {error}") from error


def flush_file(folder: Path) -> None:
    """Write a file, flush it and its folder, and remove it.

    Raises:
        OSError: one of them failed.
    """
    path = folder / f".selftest.{os.getpid()}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, b"x" * 4096)
        os.fdatasync(fd)
    finally:
        os.close(fd)
        path.unlink()
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def loopback() -> None:
    """Bind, listen, connect, accept on 127.0.0.1.

    Raises:
        OSError: one of them failed.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(_TIMEOUT_S)
        with socket.create_connection(server.getsockname(), _TIMEOUT_S) as client:
            accepted, _ = server.accept()
            with accepted:
                client.sendall(b"x")
                if accepted.recv(1) != b"x":
                    raise OSError("a byte was lost")


def resolve() -> None:
    """Ask the system's resolver for localhost.

    Raises:
        OSError: it does not know it.
    """
    socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)


def tls() -> None:
    """Make a client's TLS context that has certificates to trust.

    Raises:
        OSError: there is none to trust; set SSL_CERT_FILE.
    """
    context = ssl.create_default_context()
    where = ssl.get_default_verify_paths()
    folder = where.capath and Path(where.capath).is_dir() and os.listdir(where.capath)
    if not context.get_ca_certs() and not folder:
        raise OSError("no certificates to trust were found; install ca-certificates")


def zeromq(folder: Path) -> None:
    """Send one message over a ZeroMQ socket in `folder`.

    Raises:
        OSError: it cannot be bound there, or the message did not come.
    """
    path = folder / f"test.{os.getpid()}"
    with zmq.Context() as context, context.socket(zmq.PULL) as inlet:
        inlet.setsockopt(zmq.RCVTIMEO, int(_TIMEOUT_S * 1000))
        inlet.bind(f"ipc://{path}")
        try:
            with context.socket(zmq.PUSH) as outlet:
                outlet.setsockopt(zmq.LINGER, 0)
                outlet.connect(f"ipc://{path}")
                outlet.send(b"x")
                inlet.recv()
        finally:
            path.unlink(missing_ok=True)
