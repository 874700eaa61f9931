"""What is a host told that asks to be crawled, and by which rules?

    body ─▶ text ─▶ Target | BadRequest           facts of the database ─▶ Answer | go on
    what the host says of itself ─▶ Described | Answer

Whoever asks is told what is so: that the host is read, or why it is not, in one sentence that its operator
can do something with. Names of errors are the lexicon's and the reference relay's.

This module does not know sockets, the database or the time of day.

Source: com.atproto.sync.requestCrawl; S-HST-02 to 06, S-HST-09, S-HST-11, S-XRP-02, S-CAS-05, S-SEC-01;
lessons 40; complaints 2 and 14.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import orjson

from broadcast.xrpc import XrpcError, invalid
from common.addresses import is_public_name
from common.settings import parse_flag
from common.syntax import WEB_METHOD, parse_did
from common.target import BadTarget, Target, parse_target

_TEXT_CHARS_MAX: Final = 300
RELAY: Final = "atproto-relay"
"""What relays have in their `Server` header. Source: S-HTP-11."""


class Outcome(StrEnum):
    """What came of a request; the label of the metric."""

    CONNECTED = "connected"
    DIALLED = "dialled"
    WAITING = "waiting"
    ADDED = "added"
    INVALID = "invalid"
    CLOSED = "closed"
    BANNED = "banned"
    OURSELVES = "ourselves"
    RELAY = "relay"
    ALIAS = "alias"
    NOT_FOUND = "not_found"
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


class Rules(NamedTuple):
    """What the settings say. is_open, per_day: as long as no operator has said otherwise since."""

    is_open: bool = True
    per_day: int = 50
    account_limit: int = 100
    trusted_domains: tuple[str, ...] = ()
    allow_insecure: bool = False


class Known(NamedTuple):
    """A host that has a row. Times in seconds from now."""

    hostname: str
    wanted: str
    observed: str
    connected: bool
    last_error: str | None
    next_dial_s: float | None
    alias_of: str | None


class Facts(NamedTuple):
    """What the database says of a name. banned_domain: that bans it. The rest: an operator's word, or None."""

    known: Known | None
    banned_domain: str | None
    is_open: str | None
    per_day: str | None


class Described(NamedTuple):
    """A PDS that has told who it is. canonical: the other host that it calls itself, if it does."""

    server_did: str
    canonical: str | None


# --- what is asked ---


def parse_body(body: bytes) -> str:
    """The host in the body of requestCrawl, as it was written.

    Raises:
        XrpcError: it is not JSON of the lexicon's shape.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise invalid("the body is not JSON") from None
    if not isinstance(value, dict):
        raise invalid("the body is no JSON object")
    text = value.get("hostname")
    if not isinstance(text, str) or not text:
        raise invalid("hostname is missing, or no text")
    return text


def parse_host(text: str, *, allow_insecure: bool, operator: bool = False) -> Target:
    """A bare name, or a URL with https, wss, http or ws → the host.

    Args:
        operator: who may name localhost with a port, whatever the settings say.

    Raises:
        XrpcError: this names none that may be read, and why.
    """
    if len(text) > _TEXT_CHARS_MAX or not text.isascii() or not text.isprintable() or " " in text:
        raise invalid("hostname is no host name: letters, digits, hyphens and dots, 253 at most")
    name = text.lower()
    if "://" not in name and _is_localhost(name):
        name = f"http://{name}"
    try:
        target = parse_target(name, allow_insecure=allow_insecure)
    except BadTarget as error:
        raise invalid(_why(str(error))) from None
    host = target.address[0]
    if allow_insecure or (operator and target.is_local):
        return target
    if target.is_local:
        raise invalid("localhost is nobody's name on the internet")
    if not is_public_name(host):
        raise invalid(f"{host} is no name of the public internet")
    return target


def _is_localhost(name: str) -> bool:
    return name.partition("/")[0].partition(":")[0] == "localhost"


def _why(error: str) -> str:
    return (
        f"{error}: give the name alone, such as pds.example.com, at which https answers on port 443"
    )


def own_names(host_header: str | None) -> frozenset[str]:
    """What we are called by who asks us, in the form of Target.hostname."""
    if not host_header:
        return frozenset()
    name = host_header.lower().rstrip(".")
    for port in (":443", ":80"):
        name = name.removesuffix(port)
    return frozenset([name])


# --- what is known ---


def answer_from(facts: Facts, hostname: str) -> Answer | None:
    """What can be said without asking anybody; None: it is not known, or not connected."""
    known = facts.known
    if facts.banned_domain is not None:
        return banned(hostname, f"its domain {facts.banned_domain} is banned here")
    if known is not None and known.wanted == "banned":
        return banned(hostname, "it is banned here")
    if known is not None and known.connected:
        return _good(Outcome.CONNECTED, known, "connected: its events are read as they come")
    return None


def is_open(facts: Facts, rules: Rules) -> bool:
    """Whether strangers may add hosts."""
    try:
        return parse_flag(facts.is_open) if facts.is_open is not None else rules.is_open
    except ValueError:
        return rules.is_open


def per_day(facts: Facts, rules: Rules) -> int:
    """How many of them in 24 hours."""
    said = facts.per_day
    return int(said) if said is not None and said.isdecimal() else rules.per_day


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
    if known.alias_of is not None:
        body["aliasOf"] = known.alias_of
        body["message"] += (
            f". It is an alias of {known.alias_of}, under which its accounts are read"
        )
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


# --- who it is ---


def described(hostname: str, status: int, server: str, body: bytes) -> Described | Answer:
    """What an answer to describeServer comes to. server: its header."""
    if RELAY in server:
        return relay(hostname, f"its Server header is {server[:100]!r}")
    if status != 200:
        return not_found(hostname, f"status {status}")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return not_found(hostname, "the answer is not JSON")
    did = value.get("did") if isinstance(value, dict) else None
    if not isinstance(did, str) or parse_did(did) is None:
        return not_found(hostname, "the answer names no DID")
    own = host_of_web(did)
    return Described(did, own if own != hostname else None)


def lists_hosts(status: int, body: bytes) -> bool:
    """Whether somebody who was asked for listHosts has hosts to list: relays do."""
    if status != 200:
        return False
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(value, dict) and isinstance(value.get("hosts"), list)


def host_of_web(did: str) -> str | None:
    """The host that a did:web names, in the form of Target.hostname; None for other DIDs."""
    if not did.startswith(WEB_METHOD):
        return None
    return unquote(did.removeprefix(WEB_METHOD)).lower().removesuffix(".").removesuffix(":443")
