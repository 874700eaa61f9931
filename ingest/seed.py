"""Which hosts does a relay begin with? Those of its settings; with none there, those of another relay.

    settings ──────────────────────────▶ rows, where they are missing; who is named is trusted
    another relay ─▶ listHosts, paged ─▶ rows, where no host has one yet

Source: S-HST-07, S-HST-10; com.atproto.sync.listHosts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol, TypeVar
from urllib.parse import urlencode

import orjson

from common.fetch import Fetcher, FetchError
from common.target import BadTarget, Target, parse_target
from ingest.hosts import Table

_log = logging.getLogger("standpipe")
_T = TypeVar("_T")
LIST_PAGE: Final = 1000
"""Hosts a page of listHosts has at most. Source: com.atproto.sync.listHosts."""
MAX_PAGES: Final = 100
MAX_PAGE_BYTES: Final = 4_000_000


class Ask(Protocol):
    """Has a question asked by the one thread that may."""

    async def __call__(self, question: Callable[[], _T], /) -> _T:
        """What it gives or raises."""


def parse_targets(texts: Iterable[str], *, allow_insecure: bool) -> list[Target]:
    """Hosts as text → targets; those that name none are told in the log and left out."""
    targets = []
    for text in texts:
        try:
            targets.append(parse_target(text, allow_insecure=allow_insecure))
        except BadTarget as error:
            _log.warning("host left out", extra={"fields": {"error": str(error)}})
    return targets


async def list_hosts(fetcher: Fetcher, relay_url: str) -> list[str]:
    """The hosts that another relay reads and finds alive.

    Raises:
        FetchError: it did not answer, or not as it should.
    """
    names: list[str] = []
    cursor = ""
    for _ in range(MAX_PAGES):
        query = urlencode({"limit": LIST_PAGE, **({"cursor": cursor} if cursor else {})})
        status, body, _server = await fetcher.get(
            f"{relay_url.rstrip('/')}/xrpc/com.atproto.sync.listHosts?{query}",
            trusted=True,
            max_bytes=MAX_PAGE_BYTES,
            limit_s=30.0,
            hops=2,
        )
        if status != 200:
            raise FetchError(f"status {status}")
        try:
            page = orjson.loads(body)
            hosts = page["hosts"]
            names += [host["hostname"] for host in hosts if host.get("status", "active") in _ALIVE]
            cursor = page.get("cursor") or ""
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise FetchError(f"not a list of hosts: {error!r}") from None
        if not cursor or not hosts:
            break
    return names


_ALIVE: Final = ("active", "idle", "throttled")


async def seed(
    table: Table,
    fetcher: Fetcher,
    *,
    named: tuple[str, ...],
    relay_url: str,
    allow_insecure: bool,
    account_limit: int,
    ask: Ask,
) -> None:
    """Put in the hosts of the settings; or, with none there and none known, another relay's.

    Args: ask: the table, in the thread that has its connection.

    Raises:
        psycopg.Error, FetchError: not now; nothing is half done that a second call would not do.
    """
    if named:
        targets = parse_targets(named, allow_insecure=allow_insecure)
        # A host that is named is read from its first event on, and at the rate of a trusted one: that
        # its operator wants it is said, and all that it ever said is to be read.
        added = await ask(partial(table.add, targets, 0, account_limit, trusted=True))
        # Those that are there from before a host had limits, too: else an upgrade would slow them.
        trusted = await ask(partial(table.trust, [target.hostname for target in targets]))
        _log.info(
            "hosts of the settings",
            extra={"fields": {"named": len(named), "new": added, "trusted_now": trusted}},
        )
        return
    is_empty = await ask(table.is_empty)
    if relay_url and is_empty:
        names = await list_hosts(fetcher, relay_url)
        targets = parse_targets(names, allow_insecure=allow_insecure)
        added = await ask(partial(table.add, targets, None, account_limit, added_by="relay"))
        _log.info("hosts of another relay", extra={"fields": {"relay": relay_url, "new": added}})
