"""Which key signs for an account, and which host speaks for it, as its DID document says?

This module reads a document that somebody else has fetched. It keeps nothing.

Source: the DID spec, "DID Documents"; S-IDN-05 to 08, S-MST-02, S-AUT-04.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import orjson

from common.addresses import is_public_name
from common.syntax import PLC_METHOD, WEB_METHOD
from ingest.signature import Key, KeyInvalid, parse_legacy_key, parse_multikey

MAX_DOCUMENT_BYTES: Final = 256 * 1024
"""A document of this size names thousands of keys; real ones have 500 bytes to 3 kB."""
MAX_URL_CHARS: Final = 300
"""A name has 253 at most."""
_HOST_CHARS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-_:")
"""Colons for IPv6, underscores for machines of one's own; of the public internet is neither."""
_LEGACY_TYPES: Final = {
    "EcdsaSecp256k1VerificationKey2019": "K-256",
    "EcdsaSecp256r1VerificationKey2019": "P-256",
}
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


class Identity(NamedTuple):
    """A working account. key: signs its commits. host: speaks for it, see `normal_host`."""

    did: str
    key: Key
    host: str


class Broken(NamedTuple):
    """The document is there, and says conclusively that the account does not work."""

    why: str


class NotFound(NamedTuple):
    """Whoever must know the DID says that there is none (404, 410)."""

    why: str


class Unavailable(NamedTuple):
    """It cannot be told now: neither a pass nor a verdict."""

    why: str


Outcome = Identity | Broken | NotFound | Unavailable


def parse_document(body: bytes, did: str, *, allow_insecure: bool) -> Identity | Broken | None:
    """Read a DID document; None when it is no JSON object, so that it says nothing at all.

    Whatever the bytes are, it is one of the three; nothing is raised.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if type(document) is not dict:
        return None
    # S-IDN-05
    if document.get("id") != did:
        return Broken("the document is about another DID")
    # S-IDN-13: the directory has no document of a tombstoned DID; a did:web says so in its own.
    if document.get("deactivated") is True:
        return Broken("the DID is deactivated")
    # S-IDN-08: without either it is no working account.
    key = _signing_key(document, did)
    if isinstance(key, Broken):
        return key
    host = _host(document, did, allow_insecure=allow_insecure)
    if isinstance(host, Broken):
        return host
    return Identity(did, key, host)


def normal_host(url: str, *, allow_insecure: bool) -> str | None:
    """`https://Name[:port]` → `name`, or `name:port` for a port that is not the scheme's own.

    None when it has more than scheme, host and port. Without `allow_insecure` only https, its own port
    and a name of the public internet will do, but for http://localhost:PORT. Source: S-IDN-07, S-AUT-04.
    """
    # urlsplit forgives what no host should be compared by: it strips some characters and keeps others.
    if len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").removesuffix(".")
    if (
        parts.scheme not in _DEFAULT_PORTS
        or not set(host) <= _HOST_CHARS
        or not 0 < len(host) < 254
    ):
        return None
    if parts.path not in ("", "/") or "?" in url or "#" in url or "@" in parts.netloc:
        return None
    if port == _DEFAULT_PORTS[parts.scheme]:
        port = None
    is_public = parts.scheme == "https" and port is None and is_public_name(host)
    if not allow_insecure and host != "localhost" and not is_public:
        return None
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def document_url(did: str, plc_url: str, *, allow_insecure: bool) -> str | Broken:
    """Where the document of `did` is to be fetched; Broken where none can be.

    Source: S-IDN-01, S-IDN-02.
    """
    if did.startswith(PLC_METHOD):
        return f"{plc_url}/{did}"
    if not did.startswith(WEB_METHOD):
        return Broken("neither did:plc nor did:web")
    name, _percent, port = did[len(WEB_METHOD) :].lower().partition("%3a")
    # S-MST-02.
    if did[len(WEB_METHOD) :].partition("%")[0] != name:
        return Broken("the host of a did:web is in lower case")
    if port:
        if name != "localhost" or not allow_insecure or not port.isdecimal():
            return Broken("a did:web has no port")
        return f"http://{name}:{port}/.well-known/did.json"
    if name == "localhost" and allow_insecure:
        return "http://localhost/.well-known/did.json"
    if not is_public_name(name):
        return Broken("a did:web is a public host name")
    return f"https://{name}/.well-known/did.json"


def _entries(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    entries = document.get(name)
    return [e for e in entries if type(e) is dict] if type(entries) is list else []


def _named(entries: list[dict[str, Any]], did: str, fragment: str) -> list[dict[str, Any]]:
    """The entries whose id is the fragment, alone or behind the DID."""
    ids = (fragment, did + fragment)
    return [entry for entry in entries if entry.get("id") in ids]


def _signing_key(document: dict[str, Any], did: str) -> Key | Broken:
    """The first key that is the account's by id, controller and type. Source: S-IDN-06."""
    methods = _named(_entries(document, "verificationMethod"), did, "#atproto")
    if not methods:
        return Broken("no verification method #atproto")
    methods = [method for method in methods if method.get("controller") == did]
    if not methods:
        return Broken("the signing key is not controlled by the DID")
    for method in methods:
        kind, text = method.get("type"), method.get("publicKeyMultibase")
        # A type may be any JSON, and not every JSON can be looked up.
        if type(kind) is not str or not (kind == "Multikey" or kind in _LEGACY_TYPES):
            continue
        if type(text) is not str:
            return Broken("a signing key without publicKeyMultibase")
        try:
            if kind == "Multikey":
                return parse_multikey(text)
            return parse_legacy_key(text, _LEGACY_TYPES[kind])
        except KeyInvalid as error:
            return Broken(f"signing key: {error}")
    return Broken("a signing key of an unknown type")


def _host(document: dict[str, Any], did: str, *, allow_insecure: bool) -> str | Broken:
    """The first host that is the account's by id and type. Source: S-IDN-07."""
    services = _named(_entries(document, "service"), did, "#atproto_pds")
    service = next((s for s in services if s.get("type") == "AtprotoPersonalDataServer"), None)
    if service is None:
        return Broken("no service #atproto_pds")
    endpoint = service.get("serviceEndpoint")
    host = normal_host(endpoint, allow_insecure=allow_insecure) if type(endpoint) is str else None
    return host or Broken("an endpoint that is no public host")
