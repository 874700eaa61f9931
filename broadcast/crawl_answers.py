"""In which words is a host told what came of its request?

One function for each answer: the outcome that is counted, the status, and a sentence with which the host's
operator can do something. docs/request-crawl.md has all of them in a table.

Names of errors are the lexicon's and the reference relay's. This module decides nothing: see broadcast.crawl.

Source: com.atproto.sync.requestCrawl; S-XRP-02, S-HST-06, S-HTP-02, S-HTP-03; complaints 2 and 14.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

from broadcast.xrpc import XrpcError


class Outcome(StrEnum):
    """What came of a request; the label of the metric."""

    CONNECTED = "connected"
    DIALLED = "dialled"
    WAITING = "waiting"
    ADDED = "added"
    INVALID = "invalid"
    OURSELVES = "ourselves"
    RELAY = "relay"
    ALIAS = "alias"
    NOT_FOUND = "not_found"
    BANNED = "banned"
    CLOSED = "closed"
    RATE = "rate"
    DAY_FULL = "day_full"
    BUSY = "busy"
    AWAY = "away"


class Answer(NamedTuple):
    """What is said, and what is counted. after_s: when to come again, in seconds."""

    outcome: Outcome
    status: int
    body: dict[str, Any]
    after_s: float | None = None


class Known(NamedTuple):
    """A host that has a row. Times in seconds from now."""

    hostname: str
    wanted: str
    observed: str
    connected: bool
    last_error: str | None
    next_dial_s: float | None
    alias_of: str | None


class Described(NamedTuple):
    """A PDS that has told who it is. canonical: the other host that it calls itself, if it does."""

    server_did: str
    canonical: str | None


# --- a host that is read, or will be ---


def connected(known: Known) -> Answer:
    """It is read."""
    return _good(Outcome.CONNECTED, known, "connected: its events are read as they come")


def dialled(known: Known) -> Answer:
    """It is known, was not connected, and is dialled now."""
    return _good(Outcome.DIALLED, known, f"known, not connected, and dialled now{_last(known)}")


def waiting(known: Known) -> Answer:
    """It is known, not connected, and was dialled for such a request a moment ago."""
    when = ""
    if known.next_dial_s is not None:
        when = f"; the next attempt is in {max(0, round(known.next_dial_s))} s"
    return _good(
        Outcome.WAITING,
        known,
        f"known, not connected, and asked for not long ago{when}{_last(known)}",
    )


def added(hostname: str, described: Described) -> Answer:
    """It was not known, and is now."""
    message = "added: it is dialled now, and read from its first event"
    if described.canonical is not None:
        message += (
            f". It calls itself {described.server_did}: accounts whose documents name"
            f" {described.canonical} are read when that host is asked for"
        )
    body = {"hostname": hostname, "status": "idle", "message": message}
    return Answer(Outcome.ADDED, 200, body)


def _good(outcome: Outcome, known: Known, message: str) -> Answer:
    body = {"hostname": known.hostname, "status": known.observed, "message": message}
    return Answer(outcome, 200, body)


def _last(known: Known) -> str:
    return f". The last attempt ended so: {known.last_error}" if known.last_error else ""


# --- refusals ---


def refusal(
    outcome: Outcome, status: int, error: str, message: str, after_s: float | None = None
) -> Answer:
    """An answer in XRPC's error form."""
    return Answer(outcome, status, {"error": error, "message": message}, after_s)


def invalid_request(error: XrpcError) -> Answer:
    """It names no host that may be read."""
    return refusal(Outcome.INVALID, error.status, error.error, error.message)


def closed() -> Answer:
    """No stranger adds hosts here."""
    return refusal(
        Outcome.CLOSED,
        403,
        "Forbidden",
        "this relay takes no new hosts by request: ask its operator",
    )


def banned(hostname: str, why: str) -> Answer:
    """The lexicon's own error."""
    return refusal(Outcome.BANNED, 403, "HostBanned", f"{hostname} is not read: {why}")


def ourselves(hostname: str) -> Answer:
    """Somebody has us crawl us."""
    return refusal(
        Outcome.OURSELVES, 400, "InvalidRequest", f"{hostname} is this relay: name the PDS instead"
    )


def relay(hostname: str, why: str) -> Answer:
    """S-CAS-05."""
    return refusal(Outcome.RELAY, 400, "InvalidRequest", f"{hostname} is a relay, not a PDS: {why}")


def alias(hostname: str, canonical: str) -> Answer:
    """Its events would all be dropped: the documents name the other host."""
    message = (
        f"{hostname} is an alias of {canonical}, which is known here: nothing was added, and"
        f" {canonical} is to be asked for"
    )
    return refusal(Outcome.ALIAS, 400, "InvalidRequest", message)


def not_found(hostname: str, why: str) -> Answer:
    """It does not answer as a PDS."""
    message = f"{hostname} does not answer com.atproto.server.describeServer as a PDS does: {why}"
    return refusal(Outcome.NOT_FOUND, 400, "HostNotFound", message)


def too_many(message: str, after_s: float) -> Answer:
    """Somebody asks more often than he may."""
    return refusal(Outcome.RATE, 429, "RateLimitExceeded", message, after_s)


def day_full(count: int, after_s: float) -> Answer:
    """So many hosts have been added already."""
    message = (
        f"{count} new hosts in 24 hours are all that this relay takes by request: ask its operator"
    )
    return refusal(Outcome.DAY_FULL, 429, "RateLimitExceeded", message, after_s)


def busy() -> Answer:
    """As many hosts as may be are being asked who they are."""
    message = "too many hosts are being looked at just now"
    return refusal(Outcome.BUSY, 503, "ServiceUnavailable", message, 10.0)
