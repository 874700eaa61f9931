"""How is an account's state kept, where there are a million of them?

    flags status host discontinuities rev data commit [status in words]

One `bytes` of 87, instead of a tuple that holds five objects: a quarter of the memory, and nothing
for the garbage collector to walk. A DID of the usual kind is shortened to what differs.

Bytes and values; it does not know who keeps them.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import cbor2

from common.envelope import TAKEN_DOWN, THROTTLED, AccountState

_LAYOUT: Final = struct.Struct("<BBII13s32s32s")
_pack = _LAYOUT.pack
_unpack_from = _LAYOUT.unpack_from
_SIZE: Final = _LAYOUT.size
_ACTIVE: Final = 1
_DESYNCHRONIZED: Final = 2
_HAS_REPO: Final = 4
_TAKEN_DOWN: Final = 8
_OVER_LIMIT: Final = 16
_OTHER: Final = 0xFF
"""Instead of flags: what does not fit the layout follows as CBOR."""

_CID_PREFIX: Final = b"\x01\x71\x12\x20"
"""CIDv1, DAG-CBOR, SHA-256 of 32 bytes: every commit and tree. Source: the repository spec."""
_NONE: Final = bytes(32)
_NO_REV: Final = bytes(13)

_STATUSES: Final = (
    None, "takendown", "suspended", "deleted", "deactivated", "desynchronized", "throttled",
)  # fmt: skip
"""By their number here; never written anywhere that outlives the process."""
_NUMBERS: Final = {status: number for number, status in enumerate(_STATUSES)}
_IN_WORDS: Final = 0xFF

_METHOD: Final = "did:plc"
_METHOD_CHARS: Final = len(_METHOD)


def pack_did(did: str) -> bytes:
    """A DID as a short key. What begins with a colon is of the usual method."""
    # Its characters are ASCII, by the rule of common.syntax.
    return did[_METHOD_CHARS:].encode() if did.startswith("did:plc:") else did.encode()


def unpack_did(key: bytes) -> str:
    """The inverse of `pack_did`."""
    return _METHOD + key.decode() if key[:1] == b":" else key.decode()


def pack_state(state: AccountState) -> bytes:
    """A state as bytes; every state comes back as it was."""
    (
        rev, data, commit, active, status, host, desynchronized, discontinuities, local, over_limit,
    ) = state  # fmt: skip
    flags = _ACTIVE if active else 0
    if desynchronized:
        flags |= _DESYNCHRONIZED
    if local is not None or over_limit:
        flags |= (_TAKEN_DOWN if local == TAKEN_DOWN else 0) | (_OVER_LIMIT if over_limit else 0)
    words = b""
    number = _NUMBERS.get(status)
    if number is None:
        assert status is not None
        number, words = _IN_WORDS, status.encode()
    try:
        if rev is None and data is None and commit is None:
            return _pack(flags, number, host, discontinuities, _NO_REV, _NONE, _NONE) + words
        if (
            rev is not None
            and data is not None
            and commit is not None
            and len(rev) == 13
            and len(data) == len(commit) == 36
            and data[:4] == commit[:4] == _CID_PREFIX
        ):
            flags |= _HAS_REPO
            return (
                _pack(
                    flags, number, host, discontinuities, rev.encode("ascii"), data[4:], commit[4:]
                )
                + words
            )  # fmt: skip
    except (struct.error, UnicodeEncodeError):
        pass
    return bytes((_OTHER,)) + cbor2.dumps(list(state))


def unpack_state(packed: bytes) -> AccountState:
    """The inverse of `pack_state`."""
    if packed[0] == _OTHER:
        fields: list[Any] = cbor2.loads(packed[1:])
        return AccountState._make(fields)
    flags, number, host, discontinuities, rev, data, commit = _unpack_from(packed)
    status = packed[_SIZE:].decode() if number == _IN_WORDS else _STATUSES[number]
    active, desynchronized = bool(flags & _ACTIVE), bool(flags & _DESYNCHRONIZED)
    local, over_limit = None, bool(flags & _OVER_LIMIT)
    if flags & (_TAKEN_DOWN | _OVER_LIMIT):
        local = TAKEN_DOWN if flags & _TAKEN_DOWN else THROTTLED
    if not flags & _HAS_REPO:
        return AccountState(
            None, None, None, active, status, host, desynchronized, discontinuities, local,
            over_limit,
        )  # fmt: skip
    return AccountState(
        rev.decode("ascii"), _CID_PREFIX + data, _CID_PREFIX + commit, active, status, host,
        desynchronized, discontinuities, local, over_limit,
    )  # fmt: skip
