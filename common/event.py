"""What does a host's message say? Bytes in; an event, or why it is none, out.

Nothing is verified here but form: types, limits and syntax of the fields, and that the bytes are
canonical. Unknown fields are let be. Whose fault it is never matters: every outcome is a value.

Commits, nearly all of the stream, take a fast way: libipld decodes the payload with the value of
`blocks` cut out, and encodes it again; equal bytes prove the canonical form. Whatever is unusual
in any way takes the slow way through common.dagcbor, which decides.

Source: com.atproto.sync.subscribeRepos; the sync spec.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from common.cid import is_dag_cbor_cid
from common.commit_payload import MISSING, CommitPayload, read_fast
from common.dagcbor import ByteString, MalformedCbor, decode_map
from common.envelope import Kind
from common.frame import COMMIT_HEADER, MAX_FRAME_BYTES, OP_ERROR, OP_MESSAGE, parse_header
from common.syntax import Did, Tid, is_datetime, is_path, parse_did, parse_tid
from common.verdict import Drop, DropReason

MAX_SEQ: Final = 2**53
"""The first integer that is no seq. Source: the event-stream spec, "Sequence Numbers"."""
OUR_SEQ_BYTES: Final = 9
"""The longest CBOR integer that may stand in place of the host's `seq`."""
MAX_ITEMS: Final = 4096
"""Items in one payload that is read slowly, keys included: a commit of 200 ops has about 1,900. [own]"""
MAX_OPS: Final = 200
"""Source: S-COM-09, S-VAL-07."""
MAX_COMMIT_BLOCKS_BYTES: Final = 2_000_000
"""Source: S-COM-07, S-VAL-07."""
MAX_SYNC_BLOCKS_BYTES: Final = 10_000
"""Source: S-SYN-02; point 3-12."""
MAX_STATUS_CHARS: Final = 64
"""Unknown statuses are kept (S-ACC-05), within reason: the longest known one has 14 characters."""
MAX_HANDLE_CHARS: Final = 2048
"""A handle has at most 253 characters; it is passed on unread (S-IDE-04), within reason."""

_SHOWN_CHARS: Final = 80
_SHOWN_OP_CHARS: Final = 200
_OP_FIELDS: Final = ("action", "path", "cid", "prev")


class Op(NamedTuple):
    """One change of a record. cid: its new value; prev: its old one, None when not told."""

    action: str
    path: str
    cid: bytes | None
    prev: bytes | None


class Event:
    """One decoded message of a kind that is sequenced.

    raw: the whole frame as it came. seq_start, seq_end: where the integer `seq` stands in it.
    did: the account, whatever the field is called. The other fields are None or empty where the
    kind does not have them. Built once per message, then left alone.
    """

    __slots__ = (
        "active", "blocks", "commit", "did", "handle", "kind", "ops", "prev_data",
        "raw", "rev", "seq", "seq_end", "seq_start", "since", "status", "time",
    )  # fmt: skip

    def __init__(
        self, raw: bytes, kind: Kind, did: Did, seq: int, seq_start: int, seq_end: int, time: str
    ) -> None:
        self.raw = raw
        self.kind = kind
        self.did = did
        self.seq = seq
        self.seq_start = seq_start
        self.seq_end = seq_end
        self.time = time
        self.rev: Tid | None = None
        self.since: Tid | None = None
        self.commit: bytes | None = None
        self.blocks: bytes = b""
        self.ops: list[Op] = []
        self.prev_data: bytes | None = None
        self.active: bool = True
        self.status: str | None = None
        self.handle: str | None = None


class Info(NamedTuple):
    """An `#info` message. Source: com.atproto.sync.subscribeRepos#info."""

    name: str
    message: str | None


class StreamError(NamedTuple):
    """An error frame, after which the host closes."""

    error: str
    message: str | None


Decoded = Event | Info | StreamError | Drop


def decode(raw: bytes) -> Decoded:
    """Decode one whole binary message.

    `Drop` with MALFORMED_FRAME means that the connection itself cannot be trusted further; with
    any other reason that this message is left out. A Drop carries the message's seq where one
    was legible.
    """
    if len(raw) > MAX_FRAME_BYTES:
        return Drop(DropReason.FRAME_TOO_LARGE, f"{len(raw)} bytes")
    try:
        if raw.startswith(COMMIT_HEADER):
            fast = read_fast(raw, len(COMMIT_HEADER))
            if fast is not None:
                return _commit(raw, fast.seq_start, fast.seq_end, fast)
            return _slow(raw, "#commit", len(COMMIT_HEADER))
        header = parse_header(raw)
        if header.op == OP_ERROR:
            return _stream_error(raw, header.payload)
        if header.op != OP_MESSAGE:
            # Its payload is nobody's business, but it has to be well-formed like any other.
            _payload(raw, header.payload)
            return Drop(DropReason.UNKNOWN_OP, f"op {header.op}")
        return _slow(raw, header.t or "", header.payload)
    except MalformedCbor as error:
        return Drop(DropReason.MALFORMED_FRAME, str(error))


def _shown(value: object) -> str:
    """A value that is not what it should be, for the log. Cut first: printed it takes up to 16 times
    its bytes, and it may fill the frame.
    """
    if isinstance(value, str | bytes):
        value = value[:_SHOWN_CHARS]
    elif isinstance(value, dict | list):
        return f"{type(value).__name__} of {len(value)}"
    return repr(value)[:_SHOWN_CHARS]


def _shown_op(raw_op: object) -> str:
    if type(raw_op) is not dict:
        return _shown(raw_op)
    known = [f"{name} {_shown(raw_op[name])}" for name in _OP_FIELDS if name in raw_op]
    return ", ".join(known)[:_SHOWN_OP_CHARS]


def _payload(raw: bytes, start: int) -> tuple[dict[str, Any], int, int]:
    """Decode a payload the slow way → its fields, and where the integer `seq` stands."""
    payload = decode_map(raw, start, MAX_ITEMS)
    if payload.end != len(raw):
        raise MalformedCbor(f"bytes follow the payload at {payload.end}")
    span = payload.spans.get("seq")
    return payload.value, span.value if span else 0, span.end if span else 0


def _slow(raw: bytes, t: str, start: int) -> Decoded:
    payload, seq_start, seq_end = _payload(raw, start)
    if t == "#commit":
        return _commit(raw, seq_start, seq_end, CommitPayload.of(payload, seq_start, seq_end))
    if t == "#info":
        return _info(payload)
    if t not in _READ:
        return Drop(DropReason.UNKNOWN_TYPE, repr(t[:32]))
    kind, read = _READ[t]
    seq: Any = payload.get("seq")
    bad = _bad_envelope(raw, seq, seq_end - seq_start, payload.get("time"))
    if bad is not None:
        return bad
    did = parse_did(payload.get("did"))
    if did is None:
        return Drop(DropReason.DID_INVALID, _shown(payload.get("did")), seq)
    return read(payload, Event(raw, kind, did, seq, seq_start, seq_end, payload["time"]))


def _bad_envelope(raw: bytes, seq: object, seq_bytes: int, time: object) -> Drop | None:
    """What every sequenced message must have: a seq, a time, room for our seq.

    The time is compared with no clock (S-COM-20).
    """
    if type(seq) is not int or not 1 <= seq < MAX_SEQ:
        return Drop(DropReason.SEQ_INVALID, _shown(seq))
    if len(raw) - seq_bytes + OUR_SEQ_BYTES > MAX_FRAME_BYTES:
        return Drop(DropReason.FRAME_TOO_LARGE, f"{len(raw)} bytes and a longer seq", seq)
    if not is_datetime(time):
        return Drop(DropReason.FIELD_INVALID, f"time {_shown(time)}", seq)
    return None


def _commit(raw: bytes, seq_start: int, seq_end: int, payload: CommitPayload) -> Event | Drop:
    """The fields of a #commit: S-COM-01 to 07, S-COM-09.

    `tooBig`, `blobs` and `rebase` are not looked at (S-COM-11 to 13), nor is what is left of the
    message's own `prev` (S-COM-19).
    """
    seq = payload.seq
    bad = _bad_envelope(raw, seq, seq_end - seq_start, payload.time)
    if bad is not None:
        return bad
    did = parse_did(payload.repo)
    if did is None:
        return Drop(DropReason.DID_INVALID, _shown(payload.repo), seq)
    event = Event(raw, Kind.COMMIT, did, seq, seq_start, seq_end, payload.time)
    event.rev = parse_tid(payload.rev)
    if event.rev is None:
        return Drop(DropReason.REV_INVALID, _shown(payload.rev), seq)
    if payload.since is not None:
        event.since = parse_tid(payload.since)
        if event.since is None:
            return Drop(DropReason.FIELD_INVALID, f"since {_shown(payload.since)}", seq)
    if not is_dag_cbor_cid(payload.commit):
        return Drop(DropReason.FIELD_INVALID, "commit is no dag-cbor link", seq)
    event.commit = payload.commit
    if payload.prev_data is not MISSING:
        if not is_dag_cbor_cid(payload.prev_data):
            return Drop(DropReason.FIELD_INVALID, "prevData is no dag-cbor link", seq)
        event.prev_data = payload.prev_data
    bad = _bad_blocks(payload.blocks, MAX_COMMIT_BLOCKS_BYTES, seq)
    if bad is not None:
        return bad
    event.blocks = payload.blocks or b""
    if type(payload.ops) is not list:
        return Drop(DropReason.FIELD_INVALID, "ops is no array", seq)
    if len(payload.ops) > MAX_OPS:
        return Drop(DropReason.TOO_MANY_OPS, f"{len(payload.ops)} ops", seq)
    ops = event.ops
    for raw_op in payload.ops:
        op = _op(raw_op)
        if op is None:
            return Drop(DropReason.OP_INVALID, _shown_op(raw_op), seq)
        ops.append(op)
    # S-COM-16.
    if len(ops) > 1 and len({op.path for op in ops}) != len(ops):
        return Drop(DropReason.OP_INVALID, "one path twice", seq)
    return event


def _op(raw_op: object) -> Op | None:
    """One entry of `ops`; None when it is not well formed. Source: S-COM-14, S-COM-15.

    An update or delete without `prev` is let through: only the inversion can miss it, and a host
    that predates it may be waived that. A `null` there is not well formed.
    """
    if type(raw_op) is not dict:
        return None
    action, path, cid, prev = (
        raw_op.get("action"), raw_op.get("path"), raw_op.get("cid", _ABSENT), raw_op.get("prev")
    )  # fmt: skip
    if action == "create":
        if type(cid) is not bytes or "prev" in raw_op:
            return None
    elif action == "update":
        if type(cid) is not bytes or (type(prev) is not bytes and "prev" in raw_op):
            return None
    elif action == "delete":
        if cid is not None or (type(prev) is not bytes and "prev" in raw_op):
            return None
    else:
        return None
    return Op(action, str(path), cid, prev) if is_path(path) else None


_ABSENT: Final = object()


def _bad_blocks(blocks: bytes | None, max_bytes: int, seq: int) -> Drop | None:
    if blocks is None:
        return Drop(DropReason.FIELD_INVALID, "blocks is no byte string", seq)
    if not blocks:
        return Drop(DropReason.FIELD_INVALID, "blocks is empty", seq)
    if len(blocks) > max_bytes:
        return Drop(DropReason.BLOCKS_TOO_LARGE, f"{len(blocks)} bytes of blocks", seq)
    return None


def _sync(fields: dict[str, Any], event: Event) -> Event | Drop:
    """Source: S-SYN-01, S-SYN-02."""
    event.rev = parse_tid(fields.get("rev"))
    if event.rev is None:
        return Drop(DropReason.REV_INVALID, _shown(fields.get("rev")), event.seq)
    blocks = fields.get("blocks")
    event.blocks = bytes(blocks) if type(blocks) is ByteString else b""
    return (
        _bad_blocks(
            event.blocks if type(blocks) is ByteString else None, MAX_SYNC_BLOCKS_BYTES, event.seq
        )
        or event
    )


def _identity(fields: dict[str, Any], event: Event) -> Event | Drop:
    """Source: S-IDE-01, S-IDE-04."""
    event.handle = fields.get("handle")
    if "handle" in fields and (
        type(event.handle) is not str or len(event.handle) > MAX_HANDLE_CHARS
    ):
        return Drop(DropReason.FIELD_INVALID, "handle is no text", event.seq)
    return event


def _account(fields: dict[str, Any], event: Event) -> Event | Drop:
    """Source: S-ACC-01, S-ACC-05."""
    active, status = fields.get("active"), fields.get("status")
    if type(active) is not bool:
        return Drop(DropReason.FIELD_INVALID, "active is no boolean", event.seq)
    if "status" in fields and (type(status) is not str or len(status) > MAX_STATUS_CHARS):
        return Drop(DropReason.FIELD_INVALID, "status is no text, or too long", event.seq)
    event.active, event.status = active, status
    return event


_READ: Final = {
    "#sync": (Kind.SYNC, _sync),
    "#identity": (Kind.IDENTITY, _identity),
    "#account": (Kind.ACCOUNT, _account),
}


def _info(fields: dict[str, Any]) -> Info | Drop:
    name, message = fields.get("name"), fields.get("message")
    if type(name) is not str:
        return Drop(DropReason.FIELD_INVALID, "info without a name")
    return Info(name[:256], message[:1024] if type(message) is str else None)


def _stream_error(raw: bytes, start: int) -> StreamError | Drop:
    fields, _seq_start, _seq_end = _payload(raw, start)
    error, message = fields.get("error"), fields.get("message")
    if type(error) is not str:
        raise MalformedCbor("error frame without a name")
    return StreamError(error[:256], message[:1024] if type(message) is str else None)
