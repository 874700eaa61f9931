"""What did an account's host say when it was asked how the account is, and may it be asked again?

    answer    what it said, where that counts for an event
    ask       have it asked, once for all events that wait
    told      it answered, or could not be reached for so long that it will not be waited for

"Active" counts for events that had come before it was asked: later on the stream itself may have
said otherwise. Anything else counts for some seconds longer, so that a flood costs one question.
No I/O, no clock.

Source: S-ACC-17, S-ACC-18; lesson 46.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson

from common.event import MAX_STATUS_CHARS
from common.target import Target

STATUS_PATH: Final = "/xrpc/com.atproto.sync.getRepoStatus"
MAX_ANSWER_BYTES: Final = 16_384
"""An honest answer has about 150."""
REMEMBERED: Final = 10_000
"""Answers remembered, about 500 bytes each; one that is forgotten costs another question."""


class Told(NamedTuple):
    """A host's answer. Source: com.atproto.sync.getRepoStatus.

    known: False when nothing could be learned: the last status is kept (S-ACC-17).
    status: None when none was given. asked_s: when it was asked, by the steady clock.
    """

    known: bool
    active: bool
    status: str | None
    asked_s: float


def status_url(target: Target, did: str) -> str:
    """Where a host is asked about a DID."""
    scheme = "https" if target.tls else "http"
    return f"{scheme}://{target.hostname}{STATUS_PATH}?did={quote(did, safe='')}"


def read_answer(code: int, body: bytes, did: str, asked_s: float) -> Told | None:
    """What a host answered; None when it says nothing about the account.

    Args: code: of HTTP. Source: com.atproto.sync.getRepoStatus.
    """
    try:
        answer: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(answer, dict):
        return None
    if code in (400, 404) and answer.get("error") == "RepoNotFound":
        return Told(known=True, active=False, status=None, asked_s=asked_s)
    active, status = answer.get("active"), answer.get("status")
    if code != 200 or answer.get("did") != did or not isinstance(active, bool):
        return None
    # S-ACC-05: unknown statuses are kept; what is none, or too long, is no reason.
    if not isinstance(status, str) or not 0 < len(status) <= MAX_STATUS_CHARS:
        status = None
    return Told(known=True, active=active, status=status, asked_s=asked_s)


class Inquiries:
    """The questions of one process about accounts, each to a host."""

    def __init__(self, ask: Callable[[str, int], None], again_s: float) -> None:
        """Args: ask: ask a host (its number) about a DID. again_s: see Limits.status_again_s."""
        self._ask = ask
        self._again_s = again_s
        self._open: set[tuple[str, int]] = set()
        self._told: OrderedDict[tuple[str, int], Told] = OrderedDict()

    def __len__(self) -> int:
        """Questions that are open."""
        return len(self._open)

    def answer(self, did: str, host: int, received_s: float) -> Told | None:
        """What the host said that counts for an event received at this time; None: ask."""
        told = self._told.get((did, host))
        if told is None:
            return None
        return told if received_s <= told.asked_s + (0 if told.active else self._again_s) else None

    def ask(self, did: str, host: int) -> None:
        """Ask, unless that is being done. Source: S-ACC-18."""
        if (did, host) not in self._open:
            self._open.add((did, host))
            self._ask(did, host)

    def told(self, did: str, host: int, told: Told) -> None:
        """The answer to an open question."""
        self._open.discard((did, host))
        self._told[did, host] = told
        self._told.move_to_end((did, host))
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
