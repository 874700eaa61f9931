"""How is one small document fetched from a stranger, without doing what the stranger wants?

Size and time are bounded, each redirect is checked like the first address, and what is connected to is
an address that was checked (common/names.py).

Source: S-SEC-01, S-SEC-02, S-SEC-03, S-SEC-08.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Final, NamedTuple, Self
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from common.addresses import is_address
from common.names import Names
from common.sites import Sites, site_of
from common.steady import steady_s

USER_AGENT: Final = "standpipe (atproto-relay)"
"""Source: the reference relay's convention for finding loops (S-HTP-11)."""
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_HEADERS: Final = {
    "User-Agent": USER_AGENT,
    "Accept": "application/json, application/did+ld+json;q=0.9, */*;q=0.1",
}


OPERATORS_THREADS: Final = 4
"""Names of the operator's own addresses looked up at a time."""


class Fetched(NamedTuple):
    """The last answer: its status, its body as far as it may be, and who says that it answers."""

    status: int
    body: bytes
    server: str = ""


class FetchError(Exception):
    """No answer that counts: the message says why."""


class Busy(FetchError):
    """Too many questions, says the server or our own bound. after_s: ask again after so long."""

    def __init__(self, message: str, after_s: float | None) -> None:
        super().__init__(message)
        self.after_s = after_s
        """None where the server did not say."""


class Enough(Busy):
    """Our own bound says so."""


class _Resolver(AbstractResolver):
    """Names for aiohttp."""

    def __init__(self, names: Names, *, internal: bool) -> None:
        self._names = names
        self._internal = internal

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """See aiohttp.abc.AbstractResolver.

        Raises:
            NoAddress: see common.names.
        """
        return [
            ResolveResult(
                hostname=host, host=address.host, port=port, family=address.family, proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in await self._names.resolve(host, internal=self._internal)
            if family in (socket.AF_UNSPEC, address.family)
        ]  # fmt: skip

    async def close(self) -> None:
        """The names are their maker's."""


class Fetcher:
    """Two pools of connections: one for addresses an operator set, one for everybody else's."""

    def __init__(self, *, allow_insecure: bool) -> None:
        """Call from within the loop; `close` ends it."""
        self._allow_insecure = allow_insecure
        self._operators = Names(OPERATORS_THREADS, OPERATORS_THREADS)
        self.names = Names()
        """Of strangers: whatever they name delays no name of the operator's."""
        self._trusted = _session(_Resolver(self._operators, internal=True))
        self._guarded = _session(_Resolver(self.names, internal=allow_insecure))

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
        self._operators.close()
        self.names.close()

    async def get(
        self,
        url: str,
        *,
        trusted: bool,
        max_bytes: int,
        limit_s: float,
        hops: int,
        sites: Sites | None = None,
    ) -> Fetched:
        """GET one document, following at most `hops` redirects.

        Args:
            trusted: the operator set this address; redirects from it are a stranger's again.
            limit_s: for all of it, in seconds.
            sites: the bounds that each stranger's site is held to, redirected to or not.

        Raises:
            Busy: 429, 503 with a time to come again, or more than `sites` allows.
            FetchError: time-out, no connection, a forbidden address, too large, too many hops.
        """
        try:
            async with asyncio.timeout(limit_s):
                return await self._follow(url, max_bytes, hops, sites, trusted=trusted)
        except TimeoutError:
            raise FetchError(f"no answer within {limit_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchError(f"{type(error).__name__}: {error}"[:300]) from None

    async def _follow(
        self, url: str, max_bytes: int, hops: int, sites: Sites | None, *, trusted: bool
    ) -> Fetched:
        for _ in range(hops + 1):
            session = self._trusted if trusted else self._guarded
            if not trusted:
                self._check(url)
            with _entered(url, None if trusted else sites):
                async with session.get(url, allow_redirects=False) as response:
                    if response.status in _REDIRECTS and "Location" in response.headers:
                        url = urljoin(url, response.headers["Location"])
                        trusted = False
                        continue
                    busy = _busy(response.status, response.headers.get("Retry-After", ""))
                    if busy is not None:
                        raise busy
                    body = bytearray()
                    async for chunk in response.content.iter_any():
                        body += chunk
                        if len(body) > max_bytes:
                            raise FetchError(f"more than {max_bytes} bytes")
                    return Fetched(response.status, bytes(body), response.headers.get("Server", ""))
        raise FetchError(f"more than {hops} redirects, the last to {url}"[:300])

    def _check(self, url: str) -> None:
        """Refuse a stranger's address by its form; what it resolves to is the resolver's."""
        if self._allow_insecure:
            return
        parts = urlsplit(url)
        if parts.scheme != "https" or parts.port not in (None, 443) or "@" in parts.netloc:
            raise FetchError("not https on its own port")
        if not parts.hostname or is_address(parts.hostname):
            raise FetchError("an address where a name should be")


@contextlib.contextmanager
def _entered(url: str, sites: Sites | None) -> Iterator[None]:
    """While this is open, a site is being asked. Raises: Enough: not now."""
    if sites is None:
        yield
        return
    parts = urlsplit(url)
    site = site_of(parts.hostname or "", parts.port)
    after_s = sites.enter(site, steady_s())
    if after_s > 0:
        raise Enough("this site has been asked often enough", after_s)
    try:
        yield
    finally:
        sites.leave(site)


def _busy(status: int, retry_after: str) -> Busy | None:
    """What "too many requests" comes to. A date to come again at counts as none given."""
    after_s = float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else None
    if status == 429 or (status == 503 and after_s is not None):
        return Busy(f"status {status}", after_s)
    return None


def _session(resolver: AbstractResolver) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=resolver, limit=64, use_dns_cache=False),
        headers=_HEADERS,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        # A stranger's headers are no longer than this; the total time is bounded by the caller.
        max_line_size=8190,
        max_field_size=8190,
    )
