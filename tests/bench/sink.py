"""Many consumers in one process, as cheap as Python can be: they count, and look at no event.

    python -m tests.bench.sink URL --consumers 50

Prints `ready` when all are connected; at end of input prints one JSON object and ends. Each
consumer reads WebSocket frame heads only, so that what is measured is the relay.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import selectors
import socket
import sys
from typing import Final
from urllib.parse import urlsplit

_BUFFER_BYTES: Final = 1 << 20


class Consumer:
    """One connection: counts whole frames and bytes."""

    def __init__(self, url: str) -> None:
        """Connect and shake hands."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.socket = socket.create_connection((parts.hostname, parts.port or 80), timeout=20)
        key = base64.b64encode(os.urandom(16)).decode()
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(1)
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(head.decode())
        self.socket.setblocking(False)
        self.frames = 0
        self.bytes = 0
        self.open = True
        self._head = b""
        self._left = 0

    def take(self, view: memoryview) -> None:
        """Count what one read brought."""
        try:
            count = self.socket.recv_into(view)
        except BlockingIOError:
            return
        if count == 0:
            self.open = False
            return
        self.bytes += count
        at = 0
        while at < count:
            if self._left:
                step = min(self._left, count - at)
                self._left -= step
                at += step
                continue
            need = 2
            if len(self._head) >= 2:
                need = {126: 4, 127: 10}.get(self._head[1], 2)
            if len(self._head) < need:
                step = min(need - len(self._head), count - at)
                self._head += bytes(view[at : at + step])
                at += step
            if len(self._head) >= 2:
                need = {126: 4, 127: 10}.get(self._head[1], 2)
                if len(self._head) == need:
                    self._left = int.from_bytes(self._head[2:], "big") or self._head[1]
                    self.frames += self._head[0] == 0x82
                    self._head = b""


def main() -> None:
    """Connect, count until input ends, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--consumers", type=int, default=50)
    options = parser.parse_args()
    selector = selectors.DefaultSelector()
    consumers = [Consumer(options.url) for _ in range(options.consumers)]
    for consumer in consumers:
        selector.register(consumer.socket, selectors.EVENT_READ, consumer)
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    print("ready", flush=True)
    view = memoryview(bytearray(_BUFFER_BYTES))
    going = True
    while going:
        for key, _ in selector.select():
            if key.data is None:
                going = sys.stdin.readline() != ""
            else:
                key.data.take(view)
                if not key.data.open:
                    selector.unregister(key.data.socket)
    frames = [consumer.frames for consumer in consumers]
    print(
        json.dumps(
            {
                "deliveries": sum(frames),
                "fewest": min(frames),
                "most": max(frames),
                "bytes": sum(consumer.bytes for consumer in consumers),
                "cut": sum(not consumer.open for consumer in consumers),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
