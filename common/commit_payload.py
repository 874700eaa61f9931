"""What does the payload of a #commit say, and is it canonical, at the least cost?

    raw:   head … rev seq repo time blobs since `blocks` <byte string> commit rebase tooBig prevData
    cut:   head … rev seq repo time blobs since `blocks` 0x40          commit rebase tooBig prevData

libipld decodes `cut` and encodes it again. It takes more than the standard allows, but what it
writes is canonical; so equal bytes prove that `cut` is, where no value is a float, an integer
beyond 64 bits, or a byte string that its encoder takes for a link. Those are excluded by
requiring exactly the known keys with exactly the known types.

Where was cut is found by searching, which a host could deceive with bytes inside a string. So the
place is proven: counted from the end, the values behind `blocks` must fill `cut` up to the empty
string that was put in. In the same way the place of `seq` is counted back from there.

Nothing else is accepted here. None means: let common.dagcbor decide.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import libipld

from common.cid import DAG_CBOR_PREFIX
from common.dagcbor import ByteString

MAX_CUT_BYTES: Final = 65_536
"""A payload without its blocks beyond this goes to the decoder that counts its items."""

_HEAD: Final = (
    "ops", "rev", "seq", "repo", "time", "blobs", "since", "blocks", "commit", "rebase", "tooBig",
)  # fmt: skip
_LAYOUTS: Final = {
    _HEAD: 7 + 41 + 7 + 1 + 7 + 1,
    (*_HEAD, "prevData"): 7 + 41 + 7 + 1 + 7 + 1 + 9 + 41,
}
"""Known keys in their order → bytes of the entries behind `blocks`: each key with its head of one
byte; a link to a dag-cbor CID takes 41 bytes, a boolean one."""
_BLOCKS_KEY: Final = b"\x66blocks"
_SEQ_KEY: Final = b"\x63seq"

_OP_KEYS: Final = frozenset(
    [("cid", "path", "action"), ("cid", "path", "prev", "action")]
)  # fmt: skip


class CommitPayload(NamedTuple):
    """The fields of a #commit as decoded, not yet judged.

    A link is `bytes`. blocks: None when it is no byte string. since, prev_data: see `MISSING`.
    seq_start, seq_end: where the integer `seq` stands in the frame.
    """

    seq: Any
    seq_start: int
    seq_end: int
    repo: Any
    rev: Any
    since: Any
    commit: Any
    blocks: bytes | None
    ops: Any
    prev_data: Any
    time: Any

    @classmethod
    def of(cls, fields: dict[str, Any], seq_start: int, seq_end: int) -> CommitPayload:
        """The fields of a payload that common.dagcbor has decoded."""
        blocks = fields.get("blocks")
        return cls(
            fields.get("seq"),
            seq_start,
            seq_end,
            fields.get("repo"),
            fields.get("rev"),
            fields.get("since", MISSING),
            fields.get("commit"),
            bytes(blocks) if type(blocks) is ByteString else None,
            fields.get("ops"),
            fields.get("prevData", MISSING),
            fields.get("time"),
        )


MISSING: Final = object()
"""The field is not there, which differs from a null."""


def read_fast(raw: bytes, start: int) -> CommitPayload | None:
    """Decode the payload that begins at `start`, if it is an ordinary one; else None."""
    key = raw.find(_BLOCKS_KEY, start)
    if key < 0:
        return None
    value = key + len(_BLOCKS_KEY)
    bounds = _byte_string(raw, value)
    if bounds is None:
        return None
    first, end = bounds
    if len(raw) - end + value - start > MAX_CUT_BYTES:
        return None
    cut = raw[start:value] + b"\x40" + raw[end:]
    try:
        fields = libipld.decode_dag_cbor(cut)
        if type(fields) is not dict:
            return None
        behind = _LAYOUTS.get(tuple(fields))
        # The value of `blocks` ends `behind` bytes before the end; what was put in is one byte
        # there, and the decoded value is empty, so that byte is the whole value.
        if behind is None or len(raw) - end != behind or fields["blocks"] != b"":
            return None
        if not _ordinary(fields) or libipld.encode_dag_cbor(fields) != cut:
            return None
    except (ValueError, RecursionError):
        return None
    seq, repo, time, since = fields["seq"], fields["repo"], fields["time"], fields["since"]
    # `time`, `repo` and `since` are ASCII: as many bytes as characters.
    seq_end = key - (7 + 6 + _text_bytes(since) + 5 + _text_bytes(time) + 5 + _text_bytes(repo))
    seq_start = seq_end - _int_bytes(seq)
    if raw[seq_start - 4 : seq_start] != _SEQ_KEY:
        return None
    return CommitPayload(
        seq, seq_start, seq_end, repo, fields["rev"], since, fields["commit"], raw[first:end],
        fields["ops"], fields.get("prevData", MISSING), time,
    )  # fmt: skip


def _ordinary(fields: dict[str, Any]) -> bool:
    """Whether every value has the type that the layout's arithmetic and soundness rest on."""
    since = fields["since"]
    repo, time = fields["repo"], fields["time"]
    if not (
        type(fields["seq"]) is int
        and 0 <= fields["seq"] < 1 << 53
        and type(fields["rev"]) is str
        and type(repo) is str
        and repo.isascii()
        and len(repo) < 256
        and type(time) is str
        and time.isascii()
        and len(time) < 256
        and (since is None or (type(since) is str and since.isascii() and len(since) < 256))
        and fields["blobs"] == []
        and type(fields["blobs"]) is list
        and type(fields["rebase"]) is bool
        and type(fields["tooBig"]) is bool
        and _is_link(fields["commit"])
        and ("prevData" not in fields or _is_link(fields["prevData"]))
        and type(fields["ops"]) is list
    ):
        return False
    for op in fields["ops"]:
        if type(op) is not dict or tuple(op) not in _OP_KEYS:
            return False
        if type(op["path"]) is not str or type(op["action"]) is not str:
            return False
        cid, prev = op["cid"], op.get("prev", MISSING)
        if not (cid is None or _is_link(cid)) or not (prev is MISSING or _is_link(prev)):
            return False
    return True


def _is_link(value: object) -> bool:
    """Whether libipld encodes this as a link of 41 bytes: so if the bytes agree, it was one."""
    return type(value) is bytes and len(value) == 36 and value[:4] == DAG_CBOR_PREFIX


def _byte_string(raw: bytes, at: int) -> tuple[int, int] | None:
    """The byte string whose head is at `at` → its first byte and the one after it.

    None when it is none, its head is not in shortest form, or it does not end within `raw`.
    """
    initial = raw[at] if at < len(raw) else 0
    if initial == 0x59:
        first = at + 3
        length = int.from_bytes(raw[at + 1 : first], "big")
        shortest = length > 0xFF
    elif initial == 0x5A:
        first = at + 5
        length = int.from_bytes(raw[at + 1 : first], "big")
        shortest = length > 0xFFFF
    elif initial == 0x58:
        first = at + 2
        length = int.from_bytes(raw[at + 1 : first], "big")
        shortest = length > 23
    elif 0x40 <= initial <= 0x57:
        first = at + 1
        length = initial - 0x40
        shortest = True
    else:
        return None
    end = first + length
    return (first, end) if shortest and end <= len(raw) else None


def _text_bytes(text: str | None) -> int:
    """How many bytes a null, or an ASCII text of less than 256 characters, takes."""
    if text is None:
        return 1
    length = len(text)
    return length + (1 if length < 24 else 2)


def _int_bytes(number: int) -> int:
    """How many bytes a CBOR integer from 0 to 2^64 - 1 takes."""
    if number < 1 << 16:
        return 1 if number < 24 else 2 if number < 256 else 3
    return 5 if number < 1 << 32 else 9
