"""How is one small document fetched from a stranger, without doing what the stranger wants?

Size and time are bounded, each redirect is checked like the first address, and a name is resolved
through a resolver that gives out checked addresses only, so what was checked is connected to.
DNS runs on threads, off the loop.

Source: S-SEC-01, S-SEC-02, S-SEC-08.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from types import TracebackType
from typing import Final, NamedTuple, Self
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from ingest.addresses import is_address, is_public
from ingest.config import USER_AGENT

_REDIRECTS: Final = (301, 302, 303, 307, 308)
_HEADERS: Final = {
    "User-Agent": USER_AGENT,
    "Accept": "application/json, application/did+ld+json;q=0.9, */*;q=0.1",
}


class Fetched(NamedTuple):
    """The last answer: its status, and its body as far as it may be."""

    status: int
    body: bytes


class FetchError(Exception):
    """No answer that counts: the message says why."""


class PublicResolver(AbstractResolver):
    """Resolves names on threads, and gives out addresses of the public internet only."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """See aiohttp.abc.AbstractResolver.

        Raises:
            OSError: no such name, or no public address.
        """
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        results = [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=family_, proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for family_, _type, proto, _name, address in found
            if is_public(str(address[0]))
        ]  # fmt: skip
        if not results:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} has no public address")
        return results

    async def close(self) -> None:
        """Nothing is kept."""


class Fetcher:
    """Two pools of connections: one for addresses an operator set, one for everybody else's."""

    def __init__(self, *, allow_insecure: bool) -> None:
        """Call from within the loop; `close` ends it."""
        self._allow_insecure = allow_insecure
        self._trusted = _session(None)
        self._guarded = _session(None if allow_insecure else PublicResolver())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._trusted.close()
        await self._guarded.close()

    async def get(
        self, url: str, *, trusted: bool, max_bytes: int, limit_s: float, hops: int
    ) -> Fetched:
        """GET one document, following at most `hops` redirects.

        Args:
            trusted: the operator set this address; redirects from it are a stranger's again.
            limit_s: for all of it, in seconds.

        Raises:
            FetchError: time-out, no connection, a forbidden address, too large, too many hops.
        """
        try:
            async with asyncio.timeout(limit_s):
                return await self._follow(url, max_bytes, hops, trusted=trusted)
        except TimeoutError:
            raise FetchError(f"no answer within {limit_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchError(f"{type(error).__name__}: {error}"[:300]) from None

    async def _follow(self, url: str, max_bytes: int, hops: int, *, trusted: bool) -> Fetched:
        for _ in range(hops + 1):
            session = self._trusted if trusted else self._guarded
            if not trusted:
                self._check(url)
            async with session.get(url, allow_redirects=False) as response:
                if response.status in _REDIRECTS and "Location" in response.headers:
                    url = urljoin(url, response.headers["Location"])
                    trusted = False
                    continue
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > max_bytes:
                        raise FetchError(f"more than {max_bytes} bytes")
                return Fetched(response.status, bytes(body))
        raise FetchError(f"more than {hops} redirects")

    def _check(self, url: str) -> None:
        """Refuse a stranger's address by its form; what it resolves to is the resolver's."""
        if self._allow_insecure:
            return
        parts = urlsplit(url)
        if parts.scheme != "https" or parts.port not in (None, 443) or "@" in parts.netloc:
            raise FetchError("not https on its own port")
        if not parts.hostname or is_address(parts.hostname):
            raise FetchError("an address where a name should be")


def _session(resolver: AbstractResolver | None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=resolver or aiohttp.ThreadedResolver(), limit=64, ttl_dns_cache=60
        ),
        headers=_HEADERS,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        # A stranger's headers are no longer than this; the total time is bounded by the caller.
        max_line_size=8190,
        max_field_size=8190,
    )
