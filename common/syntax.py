"""Is this text a DID, a TID, an NSID, a record key, a repository path, a datetime?

Each `parse_` takes whatever was decoded and gives the typed value, or None when it is not one.
None of them normalises: what is not in its normal form is refused.

Source: the atproto specs "DID", "TID", "NSID", "Record Key", "Repository" and "Lexicon", with the
published interop vectors as judge (tests/interop).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, NewType

Did = NewType("Did", str)
Tid = NewType("Tid", str)

DID_MAX_CHARS: Final = 2048
PLC_METHOD: Final = "did:plc:"
WEB_METHOD: Final = "did:web:"

_TID_DIGITS: Final = "234567abcdefghijklmnopqrstuvwxyz"
_TO_BASE32: Final = str.maketrans(_TID_DIGITS, "0123456789abcdefghijklmnopqrstuv")

_is_did: Final = re.compile(r"did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]").fullmatch
_is_plc: Final = re.compile(r"did:plc:[a-z2-7]{24}").fullmatch
_is_tid: Final = re.compile(r"[234567a-j][234567a-z]{12}").fullmatch
_NSID: Final = (
    r"[a-zA-Z](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)+"
    r"\.[a-zA-Z][a-zA-Z0-9]{0,62}"
)
_is_nsid: Final = re.compile(_NSID).fullmatch
_is_record_key: Final = re.compile(r"[A-Za-z0-9._:~-]{1,512}").fullmatch
_is_datetime: Final = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[012])-(?:0[1-9]|[12][0-9]|3[01])"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]{1,20})?"
    r"(?:Z|\+(?:[01][0-9]|2[0-3]):[0-5][0-9]|-(?!00:00)(?:[01][0-9]|2[0-3]):[0-5][0-9])"
).fullmatch

_NSIDS_REMEMBERED: Final = 4096
_nsids: set[str] = set()
"""NSIDs that passed: nearly every path names one of a few hundred."""


def parse_did(value: object) -> Did | None:
    """A DID of any method, case-sensitive; `did:plc` only in its normal form. Source: S-MST-02."""
    if type(value) is not str or len(value) > DID_MAX_CHARS:
        return None
    if value.startswith(PLC_METHOD):
        return Did(value) if _is_plc(value) else None
    return Did(value) if _is_did(value) else None


def parse_tid(value: object) -> Tid | None:
    """A TID: 13 characters that sort as text in time order."""
    return Tid(value) if type(value) is str and _is_tid(value) else None


def tid_number(tid: Tid | str) -> int:
    """A TID as the 64-bit integer it stands for; the order stays the same."""
    return int(tid.translate(_TO_BASE32), 32)


def tid_text(number: int) -> Tid:
    """The inverse of `tid_number`."""
    return Tid("".join(_TID_DIGITS[number >> shift & 31] for shift in range(60, -1, -5)))


def tid_time_s(tid: Tid | str) -> float:
    """When a TID says that it was made, Unix seconds."""
    return (tid_number(tid) >> 10) / 1e6


def is_nsid(text: str) -> bool:
    """Whether `text` is an NSID: at least three segments, at most 317 characters."""
    if text in _nsids:
        return True
    if len(text) > 317 or not _is_nsid(text):
        return False
    if len(_nsids) >= _NSIDS_REMEMBERED:
        _nsids.clear()
    _nsids.add(text)
    return True


def is_record_key(text: str) -> bool:
    """Whether `text` is a record key of any kind."""
    return text not in (".", "..") and _is_record_key(text) is not None


def is_path(value: object) -> bool:
    """Whether a decoded value is a repository path: an NSID, one slash, a record key (S-VAL-16)."""
    if type(value) is not str:
        return False
    collection, _slash, key = value.partition("/")
    return is_nsid(collection) and is_record_key(key)


def datetime_text(at_s: float) -> str:
    """Unix seconds → a time as the network writes it, in milliseconds."""
    text = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def is_datetime(value: object) -> bool:
    """Whether a decoded value is a lexicon datetime: RFC 3339 and ISO 8601, with a zone."""
    if type(value) is not str or not _is_datetime(value):
        return False
    # Year 0 with a zone east of Greenwich is a time before year 0, which nobody can print.
    return not (value.startswith("0000-01-01T") and "+" in value and value[-6:] != "+00:00")
