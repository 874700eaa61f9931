"""Which hosts are only another name of a host that is read as well?

    all that it sent was dropped, as no document names it ─▶ who does it say that it is? ─▶ alias of that one

A PDS that answers under two names sends everything twice, and under the wrong one all of it is dropped; its
operator takes that for a ban (complaint 14). So hosts without a single account whose messages were dropped for
that reason are asked, a few an hour, and one that calls itself another host that is read is called its alias:
it is read no longer, its page says so, and when it asks to be crawled it is asked again. Once the other one
is deleted, it is no alias any more. One that is found to be a relay is told to the operator, who put it in.

The first broadcaster does this for all.

Source: complaint 14; lesson 40; S-AUT-01.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final, Protocol

from broadcast.crawl_answers import Answer, Described, Outcome
from broadcast.store import Away
from common.steady import steady_s
from common.target import Target

EVERY_S: Final = 3600.0
"""How often hosts are looked for, in seconds."""
AT_A_TIME: Final = 20
AGAIN_S: Final = 86_400.0
"""How long one that is no alias is not asked again, in seconds."""
_log = logging.getLogger("standpipe")


class Table(Protocol):
    """See broadcast.crawl_table.CrawlTable."""

    async def release(self) -> int: ...  # noqa: D102
    async def suspects(self) -> list[Target]: ...  # noqa: D102
    async def name_alias(self, hostname: str, canonical: str, server_did: str) -> bool: ...  # noqa: D102


class Desk(Protocol):
    """See broadcast.crawl_desk.CrawlDesk."""

    async def who_is(self, target: Target) -> Described | Answer: ...  # noqa: D102


class Aliases:
    """The watch of one broadcaster."""

    def __init__(self, table: Table, desk: Desk) -> None:
        self._table = table
        self._desk = desk
        self._asked_s: dict[str, float] = {}

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            with contextlib.suppress(Away):
                await self.look(steady_s())

    async def look(self, now_s: float) -> list[str]:
        """Ask a few → those that were found to be aliases.

        Raises:
            Away: the database is not there.
        """
        await self._table.release()
        found: list[str] = []
        self._asked_s = {name: at for name, at in self._asked_s.items() if at > now_s - AGAIN_S}
        suspects = [
            one for one in await self._table.suspects() if one.hostname not in self._asked_s
        ]
        for target in suspects[:AT_A_TIME]:
            name = target.hostname
            self._asked_s[name] = now_s
            told = await self._desk.who_is(target)
            if isinstance(told, Answer):
                if told.outcome is Outcome.RELAY:
                    _log.warning("host is a relay: delete it", extra={"fields": {"host": name}})
                continue
            if told.canonical is None:
                continue
            if await self._table.name_alias(name, told.canonical, told.server_did):
                _log.info(
                    "host is an alias", extra={"fields": {"host": name, "of": told.canonical}}
                )
                found.append(name)
        return found
