"""Who tells that a host is near its account limit, once, of all broadcasters and relays?

    each few minutes: UPDATE … WHERE it is due RETURNING ─▶ log line, metric, sibling relays

The state stands in the host's row, and whoever moves it tells it: of several broadcasters, and across
restarts, one. A host that stays there is told again after a while; one that is silenced, banned or
deleted never. A line that is lost with its process is told again at the next repetition.

Source: the reference relay's account-limit alerts.
"""

from __future__ import annotations

import asyncio
import logging
import random
from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson

from broadcast import metrics
from broadcast.admin import USER
from broadcast.admin_answers import time_text
from broadcast.admin_desk import Desk, Desks
from broadcast.admin_words import AdminError
from broadcast.siblings import Siblings
from common.fetch import USER_AGENT

TOLD: Final = "/admin/alerts/accountLimitSent"
LINES: Final = 50
"""Hosts that are named in the log at once; the rest is a number."""
_JITTER: Final = 0.2
"""Of the interval, so that broadcasters do not look at one moment."""
_WHO: Final = "relay"
_log: Final = logging.getLogger("standpipe")


class Rule(NamedTuple):
    """When to tell. share: of the account limit. Times in seconds."""

    share: float = 0.8
    interval_s: float = 300.0
    repeat_s: float = 21600.0


class Told(NamedTuple):
    """One host whose state has just been moved by us. kind: 'warning' or 'recovery'."""

    kind: str
    id: int
    hostname: str
    accounts: int
    account_limit: int
    at: datetime

    @property
    def usage(self) -> float:
        """Which part of its limit it has."""
        return self.accounts / self.account_limit if self.account_limit else 1.0


class Alerts:
    """The alerts of one broadcaster."""

    def __init__(
        self, rule: Rule, desks: Desks, siblings: Siblings, passwords: tuple[str, ...]
    ) -> None:
        self._rule = rule
        self._desks = desks
        self._siblings = siblings
        self._password = next(iter(passwords), None)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            # Not at once: a relay that starts has other things to do.
            spread = 1 + random.uniform(-_JITTER, _JITTER)
            await asyncio.sleep(self._rule.interval_s * spread)
            try:
                await self.look()
            except AdminError as error:
                _log.info("account limits are not looked at: %s", error)

    async def look(self) -> list[Told]:
        """Claim what is due, and tell it.

        Raises:
            AdminError: the database is away.
        """
        found = await self._desks.do(_WHO, lambda desk: claim(desk, self._rule))
        for told in found:
            metrics.ALERTS.labels(told.kind).inc()
            self._tell_siblings(told)
        for told in found[:LINES]:
            near = told.kind == "warning"
            words = (
                "a host is near its account limit"
                if near
                else ("a host is no longer near its account limit")
            )
            _log.log(
                logging.WARNING if near else logging.INFO,
                words,
                extra={"fields": {
                    "host": told.hostname, "accounts": told.accounts,
                    "account_limit": told.account_limit,
                }},
            )  # fmt: skip
        if len(found) > LINES:
            _log.warning("%d more hosts are, or were, near it", len(found) - LINES)
        return found

    def _tell_siblings(self, told: Told) -> None:
        """As the reference relay does: with our own first password."""
        if self._password is None:
            return
        credentials = b64encode(f"{USER}:{self._password}".encode()).decode()
        headers = {
            "Authorization": f"Basic {credentials}",
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
        }
        self._siblings.send(TOLD, headers, orjson.dumps(message(told)))


def message(told: Told) -> dict[str, Any]:
    """What siblings are told."""
    return {
        "kind": told.kind,
        "hostID": told.id,
        "hostname": told.hostname,
        "accountCount": told.accounts,
        "accountLimit": told.account_limit,
        "usage": told.usage,
        "sentAt": time_text(told.at),
    }


def claim(desk: Desk, rule: Rule) -> list[Told]:
    """Move the states that are due → what was moved by this very call."""
    warnings = desk.store.claim_warnings(rule.share, rule.repeat_s)
    recoveries = desk.store.claim_recoveries(rule.share)
    return [*_told("warning", warnings), *_told("recovery", recoveries)]


def _told(kind: str, rows: Sequence[Sequence[Any]]) -> list[Told]:
    return [Told(kind, *row) for row in rows]
