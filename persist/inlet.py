"""How do batches come in from ingest, and replies go back?

One ROUTER socket, for this machine and, with keys, for others; the route that a batch came on is where its reply goes. Nothing here waits: a
reply that finds its process's queue full is kept and joined with the next, one for a process that
is gone is dropped and counted, since whoever comes after it reads its events again.

It has one owner: the thread that made it.
"""

from __future__ import annotations

import errno
from typing import Final, NamedTuple

import zmq

from common.curve import ServerKeys
from common.envelope import Batch, Reply, decode_batch, encode_reply
from common.owner import Owner
from common.transport import batch_inlet, lock_inlet
from persist.gate import Gate

CLOSING_MS: Final = 200
"""How long a reply that was sent may take to leave when the socket is closed, in ms."""


class Others(NamedTuple):
    """Where other machines come in: a TCP address, and the keys of both sides."""

    endpoint: str
    keys: ServerKeys


class Inlet:
    """The socket that ingest processes send to."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        others: Others | None = None,
    ) -> None:
        """Bind it. others: where ingest processes of other machines come in.

        Raises:
            zmq.ZMQError: the address cannot be bound.
        """
        self.socket = batch_inlet(context)
        self._gate: Gate | None = None
        try:
            self.socket.bind(endpoint)
            if others is not None:
                lock_inlet(self.socket, others.keys)
                self._gate = Gate(context, self.socket, others.keys)
                self.socket.bind(others.endpoint)
        except zmq.ZMQError:
            self.close()
            raise
        self.lost_replies = 0
        self._owner = Owner("the inlet")
        self._unsent: dict[bytes, Reply] = {}

    def receive(self) -> tuple[bytes, Batch] | None:
        """The next batch and the route it came on; None when there is none now.

        Raises:
            common.envelope.UnknownVersion: the sender is of another release.
        """
        self._owner.check()
        # Asking costs a fifth of the exception that tells that there is none.
        if not int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            return None
        route, *parts = self.socket.recv_multipart(zmq.NOBLOCK)
        return route, decode_batch(parts)

    def send(self, route: bytes, reply: Reply) -> None:
        """Send a reply; with those that already wait for room on its route, if there are any."""
        self._owner.check()
        earlier = self._unsent.get(route)
        if earlier is not None:
            _join(earlier, reply)
            return
        self._send(route, reply)

    def send_again(self) -> None:
        """Try the replies that found no room."""
        for route, reply in list(self._unsent.items()):
            del self._unsent[route]
            self._send(route, reply)

    def _send(self, route: bytes, reply: Reply) -> None:
        try:
            self.socket.send_multipart([route, *encode_reply(reply)], zmq.NOBLOCK)
        except zmq.Again:
            self._unsent[route] = reply
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            self.lost_replies += 1

    def close(self) -> None:
        """Close the socket, once the last replies have left or a moment has passed."""
        if self._gate is not None:
            self._gate.close()
            self._gate = None
        self.socket.close(CLOSING_MS)


def _join(earlier: Reply, later: Reply) -> None:
    """Make `earlier` say all of `later` too."""
    earlier.log_epoch = later.log_epoch
    earlier.durable_seq = later.durable_seq
    earlier.logged += later.logged
    earlier.duplicate += later.duplicate
    earlier.back += later.back
    earlier.refused = earlier.refused or later.refused
    earlier.claimed += later.claimed
    earlier.outlived += later.outlived
