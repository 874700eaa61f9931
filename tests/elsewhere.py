"""A second machine for a test: a network namespace of its own where these can be had, else loopback.

    with elsewhere([5432, …]) as place:
        place.persist_host        where the first machine listens, as both see it
        place.prefix              words before a command, to run it over there
        place.get(url)            HTTP from over there
        place.unplugged()         while this lasts nothing goes through the cable

In a namespace only the ports that were named can be reached, as if they were over there: the simulated
network, the directory and the database stand there by a relay of bytes. persist is reached by the
cable alone, a pair of virtual interfaces.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

_IP: Final = shutil.which("ip") or "ip"
_CLONE_NEWNET: Final = 0x40000000
"""Source: setns(2)."""
_T = TypeVar("_T")


class Place:
    """Where the second machine is. isolated: whether it has a network of its own."""

    def __init__(self, name: str | None, persist_host: str) -> None:
        self.name = name
        self.persist_host = persist_host

    @property
    def isolated(self) -> bool:
        return self.name is not None

    @property
    def prefix(self) -> list[str]:
        return [] if self.name is None else [_IP, "netns", "exec", self.name]

    def get(self, url: str) -> str:
        def ask() -> str:
            with urllib.request.urlopen(url, timeout=5) as answer:
                found: str = answer.read().decode()
                return found

        return self.there(ask)

    def there(self, work: Callable[[], _T]) -> _T:
        """What `work` gives over there: its sockets are that machine's."""
        found: list[_T | BaseException] = []

        def run() -> None:
            try:
                if self.name is not None:
                    _enter(self.name)
                found.append(work())
            except BaseException as error:
                found.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        assert self.name is not None
        _ip("link", "set", f"{self.name}a", "down")
        try:
            yield
        finally:
            _ip("link", "set", f"{self.name}a", "up")


def namespaces_can_be_had() -> bool:
    """Whether this user may make network namespaces here."""
    name = f"sp{os.getpid()}x"
    try:
        _ip("netns", "add", name)
        _ip("netns", "del", name)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@contextmanager
def elsewhere(ports: Iterable[int], sockets: dict[int, Path], *, isolated: bool) -> Iterator[Place]:
    """Another machine, from which these ports of 127.0.0.1 can be reached, and sockets by a port."""
    if not isolated:
        with Bytes(lambda work: work(), [], sockets):
            yield Place(None, "127.0.0.1")
        return
    name = f"sp{os.getpid()}"
    here, there = f"{name}a", f"{name}b"
    subnet = 1 + os.getpid() % 250
    _ip("netns", "add", name)
    try:
        _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        _ip("addr", "add", f"10.213.{subnet}.1/30", "dev", here)
        _ip("link", "set", here, "up")
        for words in (
            ("addr", "add", f"10.213.{subnet}.2/30", "dev", there),
            ("link", "set", there, "up"),
            ("link", "set", "lo", "up"),
        ):
            _ip("-n", name, *words)
        place = Place(name, f"10.213.{subnet}.1")
        with Bytes(place.there, ports, sockets):
            yield place
    finally:
        # The interface pair goes with it.
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", here)
        _ip("netns", "del", name)


def _ip(*words: str) -> None:
    subprocess.run([_IP, *words], check=True, capture_output=True)


def _enter(name: str) -> None:
    """Have this thread's new sockets belong to a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if libc.setns(fd, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(fd)


class Bytes:
    """Carries bytes from ports over there to the same ports, or to Unix sockets, here; one thread."""

    def __init__(
        self,
        there: Callable[[Callable[[], socket.socket]], socket.socket],
        ports: Iterable[int],
        sockets: dict[int, Path],
    ) -> None:
        self._selector = selectors.DefaultSelector()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        targets: dict[int, tuple[str, int] | str] = {port: ("127.0.0.1", port) for port in ports}
        targets |= {port: str(path) for port, path in sockets.items()}
        for port, target in targets.items():
            listener = there(lambda port=port: socket.create_server(("127.0.0.1", port)))  # type: ignore[misc]
            self._selector.register(listener, selectors.EVENT_READ, target)
        self._thread = threading.Thread(target=self._run, name="bytes", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._wake.close()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if source is self._woken:
                    return
                if source in self._pairs:
                    self._carry(source)
                elif source.fileno() != -1:
                    self._accept(source, key.data)

    def _accept(self, listener: socket.socket, target: tuple[str, int] | str) -> None:
        near, _ = listener.accept()
        far = socket.socket(socket.AF_UNIX if isinstance(target, str) else socket.AF_INET)
        try:
            far.connect(target)
        except OSError:
            near.close()
            far.close()
            return
        for one, other in ((near, far), (far, near)):
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ, None)

    def _carry(self, source: socket.socket) -> None:
        target = self._pairs[source]
        try:
            data = source.recv(1 << 18)
            if data:
                target.sendall(data)
                return
        except OSError:
            pass
        for one in (source, target):
            self._selector.unregister(one)
            del self._pairs[one]
            one.close()
