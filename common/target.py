"""Which host is meant, and how is it reached?

One normal form names a host everywhere: lower case, `name` or `name:port`. This module reads what
operators write and what relays list; it resolves no names.

Source: S-HST-05, S-AUT-04; the setting STANDPIPE_HOSTS.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import urlsplit

from common.addresses import is_address

STREAM_PATH: Final = "/xrpc/com.atproto.sync.subscribeRepos"
_TLS: Final = {"https": True, "wss": True, "http": False, "ws": False}


class Target(NamedTuple):
    """hostname: normal form. tls: wss and https, or ws and http."""

    hostname: str
    tls: bool

    @property
    def address(self) -> tuple[str, int]:
        """Name and port to connect to."""
        parts = urlsplit(f"//{self.hostname}")
        return parts.hostname or "", parts.port or (443 if self.tls else 80)

    def stream_uri(self, cursor: int | None) -> str:
        """Where its stream is. cursor: None starts live."""
        query = "" if cursor is None else f"?cursor={cursor}"
        return f"{'wss' if self.tls else 'ws'}://{self.hostname}{STREAM_PATH}{query}"

    @property
    def is_local(self) -> bool:
        """Whether this is a host on this machine, named as an operator names one on purpose."""
        return self.address[0] == "localhost"


class BadTarget(ValueError):
    """This names no host that may be read; the message says why."""


def parse_target(text: str, *, allow_insecure: bool) -> Target:
    """`name`, `https://name[:port]`, `http://localhost:PORT`, `http://127.0.0.1:PORT` → Target.

    Raises:
        BadTarget: without `allow_insecure`, anything but a name on the internet, or localhost.
    """
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        port = parts.port
    except ValueError as error:
        raise BadTarget(f"{text!r}: {error}") from None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in _TLS or not host or not host.isascii():
        raise BadTarget(f"{text!r} names no host")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise BadTarget(f"{text!r} has more than a host and a port")
    tls = _TLS[parts.scheme]
    if port == (443 if tls else 80):
        port = None
    if not allow_insecure and host != "localhost":
        if not tls:
            raise BadTarget(f"{text!r} is not https")
        if port is not None:
            raise BadTarget(f"{text!r} has a port of its own")
        if is_address(host) or "." not in host:
            raise BadTarget(f"{text!r} is no name of the public internet")
    host = f"[{host}]" if ":" in host else host
    return Target(host if port is None else f"{host}:{port}", tls)
