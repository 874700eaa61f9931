"""Which keys do the processes of several machines know each other by?

    keys/persist/    server.key   clients/<name>.pub      stays where persist runs
    keys/<name>/     client.key   server.pub              goes to the machine of that name

Each file has one key as Z85 text. A public key follows from the secret one, so only what the other side
needs is kept apart; the secret ones can be read by their owner alone, and persist and ingest refuse them
where others can. Source: rfc.zeromq.org/spec/26 (CurveZMQ), spec/32 (Z85).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zmq
import zmq.utils.z85

PERSIST: Final = "persist"
"""Name of the folder that stays where persist runs."""
FIRST: Final = "ingest"
"""Name of the other one, unless it is said."""
_SERVER_KEY: Final = "server.key"
_SERVER_PUB: Final = "server.pub"
_CLIENT_KEY: Final = "client.key"
_CLIENTS: Final = "clients"
_Z85_CHARS: Final = 40


class BadKeys(OSError):
    """The keys cannot serve; the message names the file and says why."""


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """Those of persist. clients: folder of the public keys that are let in, read again all the time."""

    secret: bytes
    clients: Path

    @property
    def public(self) -> bytes:
        """What the other machines know persist by."""
        return zmq.curve_public(self.secret)


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """Those of the ingest processes of one machine. server: the public one of persist."""

    secret: bytes
    server: bytes

    @property
    def public(self) -> bytes:
        """What persist knows this machine by."""
        return zmq.curve_public(self.secret)


def server_keys(folder: Path) -> ServerKeys:
    """The keys of persist.

    Raises:
        BadKeys: one is missing, is no key, or can be read by others.
    """
    clients = folder / _CLIENTS
    if not clients.is_dir():
        raise BadKeys(f"{clients} is missing: nobody would be let in; `standpipe curve` makes it")
    return ServerKeys(_secret(folder / _SERVER_KEY), clients)


def client_keys(folder: Path) -> ClientKeys:
    """The keys of one machine's ingest processes.

    Raises:
        BadKeys: one is missing, is no key, or can be read by others.
    """
    return ClientKeys(_secret(folder / _CLIENT_KEY), _key(folder / _SERVER_PUB))


def allowed(clients: Path) -> frozenset[bytes]:
    """The public keys that are let in, as ZeroMQ asks for them: 32 bytes each.

    What is no key is left out: one file that is being copied keeps nobody else out.
    """
    found = set()
    for path in clients.glob("*.pub"):
        try:
            found.add(zmq.utils.z85.decode(_key(path)))
        except OSError:
            continue
    return frozenset(found)


def make(folder: Path, names: list[str]) -> list[Path]:
    """Make the keys of persist, where there are none, and those of machines of these names.

    Returns the folders that were made. Raises: BadKeys: one of them is there already.
    """
    server = folder / PERSIST
    for name in names:
        if (folder / name).exists():
            raise BadKeys(f"{folder / name} is there already; keys are never overwritten")
    made = []
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not server.exists():
        server.mkdir(mode=0o700)
        (server / _CLIENTS).mkdir(mode=0o700)
        _write(server / _SERVER_KEY, zmq.curve_keypair()[1])
        made.append(server)
    keys = server_keys(server)
    for name in names:
        machine = folder / name
        machine.mkdir(mode=0o700)
        public, secret = zmq.curve_keypair()
        _write(machine / _CLIENT_KEY, secret)
        _write(machine / _SERVER_PUB, keys.public)
        _write(keys.clients / f"{name}.pub", public)
        made.append(machine)
    return made


def _write(path: Path, key: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, key + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)


def _secret(path: Path) -> bytes:
    key = _key(path)
    if path.stat().st_mode & 0o077:
        raise BadKeys(f"{path} can be read by others: chmod 600 {path}")
    return key


def _key(path: Path) -> bytes:
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise BadKeys(f"{path} cannot be read: {error.strerror}") from error
    try:
        if len(key) == _Z85_CHARS and len(zmq.utils.z85.decode(key)) == 32:
            return key
    except (KeyError, ValueError):
        pass
    raise BadKeys(f"{path} holds no key")
