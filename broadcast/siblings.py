"""How do other relays hear of what an operator has changed here?

    changed here ─▶ each sibling in turn, in the background: the same request, once, 10 s
                         Via: 1.1 atproto-relay        what came with that is not told on

The caller's credentials pass through, so all siblings have to take the same password. One that does
not answer misses the change: it is counted and logged, and nothing is tried again, as by the reference
relay, with which this is interoperable both ways.

Source: the reference relay, forwarding; S-HTP-11, S-CAS-05.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

import aiohttp
from yarl import URL

from broadcast import metrics

MARK: Final = "atproto-relay"
"""Relays know each other by it, in `Via` and `User-Agent`."""
VIA: Final = f"1.1 {MARK}"
WITHIN_S: Final = 10.0
AT_ONCE: Final = 64
"""Changes that are being told at once; one more is told to nobody, and counted."""
_COPIED: Final = ("Accept", "User-Agent", "Authorization", "Content-Type")
_log: Final = logging.getLogger("standpipe")


def is_forwarded(headers: Mapping[str, str]) -> bool:
    """Whether a request came from a relay, so that it must not be told on."""
    return any(MARK in headers.get(name, "").lower() for name in ("via", "user-agent"))


class Siblings:
    """The other relays. Call within one loop."""

    def __init__(self, urls: tuple[str, ...]) -> None:
        """Args: urls: of their public servers."""
        self._urls = urls
        self._telling: set[asyncio.Task[None]] = set()

    def tell(self, path_and_query: str, headers: Mapping[str, str], body: bytes) -> None:
        """Begin to forward a request that was done here; returns at once."""
        if not is_forwarded(headers):
            copied = {name: headers[name] for name in _COPIED if name in headers}
            self.send(path_and_query, copied, body)

    def send(self, path_and_query: str, headers: Mapping[str, str], body: bytes) -> None:
        """Begin to send a request of our own; returns at once."""
        if not self._urls:
            return
        if len(self._telling) >= AT_ONCE:
            metrics.FORWARDED.labels("dropped").inc(len(self._urls))
            _log.warning("siblings are not told: too many changes are under way")
            return
        marked = {**headers, "Via": VIA}
        task = asyncio.create_task(self._tell_all(path_and_query, marked, body), name="siblings")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._telling:
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)

    async def _tell_all(self, path: str, headers: dict[str, str], body: bytes) -> None:
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=WITHIN_S),
            skip_auto_headers=("User-Agent", "Accept", "Content-Type", "Accept-Encoding"),
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            for url in self._urls:
                await _tell_one(session, url, path, headers, body)


async def _tell_one(
    session: aiohttp.ClientSession, url: str, path: str, headers: dict[str, str], body: bytes
) -> None:
    fields: dict[str, object] = {"sibling": url, "path": path.partition("?")[0]}
    try:
        async with session.post(
            URL(url + path, encoded=True), headers=headers, data=body, allow_redirects=False
        ) as answer:
            fields["status"] = answer.status
            done = answer.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        fields["error"] = f"{type(error).__name__}: {error}"[:300]
        done = False
    metrics.FORWARDED.labels("done" if done else "failed").inc()
    if not done:
        _log.warning("a sibling relay did not take a change", extra={"fields": fields})
