"""How do durable chunks reach the broadcasters?

One PUB socket, one message a chunk, exactly as it lies in the log. It may drop what a broadcaster
does not take; that one sees the gap in seq and reads the log.

It has one owner: the thread that made it.
"""

from __future__ import annotations

import zmq

from common.chunk import Chunk
from common.owner import Owner
from common.transport import chunk_outlet


class Outlet:
    """The socket that broadcasters listen to."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        """Bind it.

        Raises:
            zmq.ZMQError: the address cannot be bound.
        """
        self._socket = chunk_outlet(context)
        self._socket.bind(endpoint)
        self._owner = Owner("the outlet")

    def publish(self, chunk: Chunk) -> None:
        """Send a chunk that is durable to whoever listens."""
        self._owner.check()
        self._socket.send(chunk.raw, zmq.NOBLOCK)

    def close(self) -> None:
        """Close the socket; what was not taken yet is in the log."""
        self._socket.close()
