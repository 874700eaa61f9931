"""What goes over the wire? One event as the bytes before and after its `seq`.

An event is built once and numbered when it is sent: `frame(seq)` only joins three parts.

Source: event-stream specification, "Framing"; com.atproto.sync.subscribeRepos.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any, Final, NamedTuple

from tests.simnet.drisl import encode


class Kind(StrEnum):
    """The message types of the stream, without their `#`."""

    COMMIT = "commit"
    SYNC = "sync"
    IDENTITY = "identity"
    ACCOUNT = "account"
    INFO = "info"


# Written out, so that a mistake in the encoder shows.
HEADERS: Final[dict[str, bytes]] = {
    Kind.COMMIT: bytes.fromhex("a261746723636f6d6d6974626f7001"),
    Kind.SYNC: bytes.fromhex("a26174652373796e63626f7001"),
    Kind.IDENTITY: bytes.fromhex("a2617469236964656e74697479626f7001"),
    Kind.ACCOUNT: bytes.fromhex("a2617468236163636f756e74626f7001"),
    Kind.INFO: bytes.fromhex("a261746523696e666f626f7001"),
}
ERROR_HEADER: Final = bytes.fromhex("a1626f7020")


class Event(NamedTuple):
    """One event, not yet numbered.

    ident: what names it among its account's events of one kind: the `rev` of a commit,
        the `time` of any other.
    """

    kind: str
    did: str
    ident: str
    before: bytes
    after: bytes

    def frame(self, seq: int) -> bytes:
        """The finished message (header and payload)."""
        return self.before + encode(seq) + self.after

    def digest(self) -> bytes:
        """16 bytes that name everything in the frame but the number."""
        return digest_of(self.before, self.after)


def digest_of(before: bytes, after: bytes) -> bytes:
    """16 bytes over the frame without its `seq`."""
    return hashlib.blake2b(before + after, digest_size=16).digest()


def make_event(kind: str, fields: dict[str, Any], header: bytes | None = None) -> Event:
    """An event from its fields, `seq` left out; the map is written in canonical order."""
    before = bytearray(HEADERS[kind] if header is None else header)
    after = bytearray()
    part = before
    before.append(0xA0 | len(fields) + 1)  # a map of fewer than 24 pairs
    for name in sorted([*fields, "seq"], key=lambda text: (len(text.encode()), text.encode())):
        part += encode(name)
        if name == "seq":
            part = after
        else:
            part += encode(fields[name])
    did = fields.get("repo") or fields.get("did") or ""
    ident = fields.get("rev") if kind == Kind.COMMIT else fields.get("time")
    return Event(kind, str(did), str(ident or ""), bytes(before), bytes(after))


def error_frame(name: str, message: str) -> bytes:
    """A finished error frame."""
    return ERROR_HEADER + encode({"error": name, "message": message})


def info_frame(name: str, message: str) -> bytes:
    """A finished `#info` frame; it has no number."""
    return HEADERS[Kind.INFO] + encode({"name": name, "message": message})
