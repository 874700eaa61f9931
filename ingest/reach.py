"""How is a host reached, step by step?

    DNS ─▶ TCP ─▶ TLS ─▶ WebSocket handshake        each with a time limit of its own

The first byte of the stream has none: an idle host has nothing to say. It answers pings, and they have one.

Source: S-CON-10, S-CON-14, S-SEC-01.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

from common.descriptors import used_up
from common.names import Names
from common.target import Target
from ingest.config import Limits
from ingest.connection import Connection, ConnectionFailed


async def reach(
    connection: Connection,
    target: Target,
    limits: Limits,
    *,
    names: Names,
    tls: ssl.SSLContext,
    internal: bool,
) -> None:
    """Bring a connection to where its messages begin.

    Args: internal: addresses that are not of the public internet will do.

    Raises:
        ConnectionFailed: it did not come to be; the message says at which step, and why.
    """
    name, port = target.address
    async with _step("DNS", limits.dns_s):
        # What was checked is connected to: nobody asks for the name again.
        found = await names.resolve(name, internal=internal)
    refused: ConnectionFailed | None = None
    for address in dict.fromkeys(address.host for address in found):
        try:
            await _open(connection, address, port, limits, tls if target.tls else None, name)
            break
        except ConnectionFailed as failure:
            refused = failure
    else:
        raise refused or ConnectionFailed("DNS: no address")
    try:
        async with _step("handshake", limits.handshake_s):
            await asyncio.shield(connection.opened)
    except ConnectionFailed:
        # The answer and the end of its time may come in one round of a loop that was held up. What is open
        # is open: messages may have come of it, and a second connection would bring them again.
        if not connection.is_open:
            raise


async def _open(
    connection: Connection,
    address: str,
    port: int,
    limits: Limits,
    tls: ssl.SSLContext | None,
    name: str,
) -> None:
    """One address."""
    loop = asyncio.get_running_loop()
    if tls is None:
        async with _step("TCP", limits.tcp_s):
            await loop.create_connection(lambda: connection, address, port)
        return
    # TLS has a limit of its own within that of both.
    async with _step("TCP and TLS", limits.tcp_s + limits.tls_s):
        await loop.create_connection(
            lambda: connection,
            address,
            port,
            ssl=tls,
            server_hostname=name,
            ssl_handshake_timeout=limits.tls_s,
        )


@contextlib.asynccontextmanager
async def _step(step: str, limit_s: float) -> AsyncIterator[None]:
    """Every failure of a step in the same words."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except ConnectionFailed:
        raise
    except TimeoutError:
        raise ConnectionFailed(f"{step}: timed out") from None
    except ssl.SSLCertVerificationError as error:
        raise ConnectionFailed(f"{step}: certificate refused: {error.verify_message}") from None
    except OSError as error:
        if used_up(error):
            raise ConnectionFailed("this relay has no file descriptors left") from None
        raise ConnectionFailed(f"{step}: {type(error).__name__}: {error}"[:300]) from None
