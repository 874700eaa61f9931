"""Which key signs for an account, and which host speaks for it, as its DID document says?

This module reads a document that somebody else has fetched. It keeps nothing.

Source: the DID spec, "DID Documents"; S-IDN-05 to 08, S-MST-02, S-AUT-04.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import orjson

from common.syntax import PLC_METHOD, WEB_METHOD
from ingest.signature import Key, KeyInvalid, parse_legacy_key, parse_multikey

MAX_DOCUMENT_BYTES: Final = 256 * 1024
"""A document of this size names thousands of keys; real ones have 500 bytes to 3 kB."""
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
    """Read a DID document; None when it is no JSON object, so that it says nothing at all."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if type(document) is not dict:
        return None
    if document.get("id") != did:
        return Broken("the document is about another DID")
    key = _signing_key(document, did)
    if isinstance(key, Broken):
        return key
    host = _host(document, did, allow_insecure=allow_insecure)
    if isinstance(host, Broken):
        return host
    return Identity(did, key, host)


def normal_host(url: str, *, allow_insecure: bool) -> str | None:
    """`https://Name[:port]` → `name`, or `name:port` for a port that is not the scheme's own.

    None when it has more than scheme, host and port. Without `allow_insecure` only https and its
    own port will do, but for http://localhost:PORT.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname
    if parts.scheme not in _DEFAULT_PORTS or not host or not host.isascii():
        return None
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        return None
    if "?" in url or "#" in url or any(c.isspace() for c in url) or len(host) > 253:
        return None
    if port == _DEFAULT_PORTS[parts.scheme]:
        port = None
    if not allow_insecure and host != "localhost" and (parts.scheme != "https" or port is not None):
        return None
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def document_url(did: str, plc_url: str, *, allow_insecure: bool) -> str | Broken:
    """Where the document of `did` is to be fetched."""
    if did.startswith(PLC_METHOD):
        return f"{plc_url}/{did}"
    if not did.startswith(WEB_METHOD):
        return Broken("neither did:plc nor did:web")
    name, _percent, port = did[len(WEB_METHOD) :].lower().partition("%3a")
    if did[len(WEB_METHOD) :].partition("%")[0] != name:
        return Broken("the host of a did:web is in lower case")
    if port:
        if name != "localhost" or not allow_insecure or not port.isdecimal():
            return Broken("a did:web has no port")
        return f"http://{name}:{port}/.well-known/did.json"
    if name == "localhost" and allow_insecure:
        return "http://localhost/.well-known/did.json"
    if not _is_public_name(name):
        return Broken("a did:web is a public host name")
    return f"https://{name}/.well-known/did.json"


_RESERVED: Final = frozenset(
    ["alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion", "test"]
)


def _is_public_name(name: str) -> bool:
    labels = name.split(".")
    return (
        len(name) <= 253
        and len(labels) > 1
        and labels[-1] not in _RESERVED
        and not labels[-1].isdecimal()
        and all(
            0 < len(label) < 64
            and label.isascii()
            and label.replace("-", "a").isalnum()
            and label[0] != "-"
            and label[-1] != "-"
            for label in labels
        )
    )


def _entries(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    entries = document.get(name)
    return [e for e in entries if type(e) is dict] if type(entries) is list else []


def _first(entries: list[dict[str, Any]], did: str, fragment: str) -> dict[str, Any] | None:
    """The first entry whose id is the fragment, alone or behind the DID."""
    ids = (fragment, did + fragment)
    return next((entry for entry in entries if entry.get("id") in ids), None)


def _signing_key(document: dict[str, Any], did: str) -> Key | Broken:
    method = _first(_entries(document, "verificationMethod"), did, "#atproto")
    if method is None:
        return Broken("no verification method #atproto")
    if method.get("controller", did) != did:
        return Broken("the signing key is controlled by another DID")
    kind, text = method.get("type"), method.get("publicKeyMultibase")
    if type(text) is not str:
        return Broken("a signing key without publicKeyMultibase")
    try:
        if kind == "Multikey":
            return parse_multikey(text)
        if kind in _LEGACY_TYPES:
            return parse_legacy_key(text, _LEGACY_TYPES[kind])
    except KeyInvalid as error:
        return Broken(f"signing key: {error}")
    return Broken("a signing key of an unknown type")


def _host(document: dict[str, Any], did: str, *, allow_insecure: bool) -> str | Broken:
    service = _first(_entries(document, "service"), did, "#atproto_pds")
    if service is None or service.get("type") != "AtprotoPersonalDataServer":
        return Broken("no service #atproto_pds")
    endpoint = service.get("serviceEndpoint")
    host = normal_host(endpoint, allow_insecure=allow_insecure) if type(endpoint) is str else None
    return host or Broken("an endpoint that is no public host")
