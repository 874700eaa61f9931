"""How do durable chunks reach the broadcasters?

One PUB socket, one message a chunk, exactly as it lies in the log. It may drop what a broadcaster
does not take; that one sees the gap in seq and reads the log.

It has one owner: the thread that made it.
"""

from __future__ import annotations

import threading

import zmq

from common.chunk import Chunk
from common.transport import WrongThread, chunk_outlet


class Outlet:
    """The socket that broadcasters listen to."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        """Bind it.

        Raises:
            zmq.ZMQError: the address cannot be bound.
        """
        self._socket = chunk_outlet(context)
        self._socket.bind(endpoint)
        self._owner = threading.get_ident()

    def publish(self, chunk: Chunk) -> None:
        """Send a chunk that is durable to whoever listens."""
        if threading.get_ident() != self._owner:
            raise WrongThread("the outlet was used outside the thread that owns it")
        self._socket.send(chunk.raw, zmq.NOBLOCK)

    def close(self) -> None:
        """Close the socket; what was not taken yet is in the log."""
        self._socket.close()
