"""What is a host told that asks to be crawled, and by which rules?

    body ─▶ text ─▶ Target | BadRequest           facts of the database ─▶ Answer | go on
    what the host says of itself ─▶ Described | Answer

Whoever asks is told what is so: that the host is read, or why it is not, in one sentence that its operator
can do something with. Names of errors are the lexicon's and the reference relay's.

The words are broadcast.crawl_answers'. This module does not know sockets, the database or the time of day.

Source: com.atproto.sync.requestCrawl; S-HST-02 to 06, S-HST-09, S-HST-11, S-XRP-02, S-CAS-05, S-SEC-01;
lessons 40; complaints 2 and 14.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import unquote

import orjson

from broadcast import crawl_answers as answers
from broadcast.crawl_answers import Answer, Described, Known
from broadcast.xrpc import invalid
from common.addresses import is_public_name
from common.settings import parse_flag
from common.syntax import WEB_METHOD, parse_did
from common.target import BadTarget, Target, parse_target

_TEXT_CHARS_MAX: Final = 300
_HOST_CHARS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-:")
RELAY: Final = "atproto-relay"
"""What relays have in their `Server` header. Source: S-HTP-11."""


class Rules(NamedTuple):
    """What the settings say. is_open, per_day: as long as no operator has said otherwise since."""

    is_open: bool = True
    per_day: int = 50
    account_limit: int = 100
    trusted_domains: tuple[str, ...] = ()
    allow_insecure: bool = False


class Facts(NamedTuple):
    """What the database says of a name. banned_domain: that bans it. The rest: an operator's word, or None."""

    known: Known | None
    banned_domain: str | None
    is_open: str | None
    per_day: str | None


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
    """What can be said without asking anybody; None: it is not known, not connected, or an alias."""
    known = facts.known
    if facts.banned_domain is not None:
        return answers.banned(hostname, f"its domain {facts.banned_domain} is banned here")
    if known is not None and known.wanted == "banned":
        return answers.banned(hostname, "it is banned here")
    if known is not None and known.connected:
        return answers.connected(known)
    return None


def is_alias(facts: Facts) -> bool:
    """Whether it is known as another name of a host: to be looked at again, as one that is not known."""
    return facts.known is not None and facts.known.alias_of is not None


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


# --- who it is ---


def described(hostname: str, status: int, server: str, body: bytes) -> Described | Answer:
    """What an answer to describeServer comes to. server: its header."""
    if RELAY in server:
        return answers.relay(hostname, f"its Server header is {server[:100]!r}")
    if status != 200:
        return answers.not_found(hostname, f"status {status}")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return answers.not_found(hostname, "the answer is not JSON")
    did = value.get("did") if isinstance(value, dict) else None
    if not isinstance(did, str) or parse_did(did) is None:
        return answers.not_found(hostname, "the answer names no DID")
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
    name = unquote(did.removeprefix(WEB_METHOD)).lower().removesuffix(".").removesuffix(":443")
    return name if name and len(name) < 260 and set(name) <= _HOST_CHARS else None
