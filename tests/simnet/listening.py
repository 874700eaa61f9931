"""How does a server stop listening while somebody may be dialling it?"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable


async def accept_no_more(sockets: Iterable[socket.socket]) -> None:
    """Whoever was accepted has a connection after this, and nobody else is; then a server may be closed.

    asyncio makes the connection in the round after it accepted, and cannot make one of a server that was
    closed in between: the loop is told of an AssertionError, and an ingest in it ends.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.SelectorEventLoop):
        for listening in sockets:
            loop.remove_reader(listening.fileno())
    await asyncio.sleep(0)
