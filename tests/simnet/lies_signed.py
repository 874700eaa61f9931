"""Which commits and records are none, though the account signed them?

The tree does what the message tells; it is the blocks themselves that are wrong, or only strange.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import cbor2
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from common.verdict import DropReason
from tests.simnet import mst
from tests.simnet.account import plc_did
from tests.simnet.drisl import cid_of, encode, link
from tests.simnet.events import Event
from tests.simnet.keys import ORDER, SigningKey, high_s
from tests.simnet.lie import Lie
from tests.simnet.repo import Commit, Write
from tests.simnet.source import Source, resigned, signed, with_block

RAW: Final = b"\x01\x55\x12\x20"

# Commits


def _commit(source: Source, **changed: Any) -> Event:
    """Fields of the commit object changed, and signed with the change; `...` leaves one out."""
    return source.event(_resigned(source, source.world_commit([source.create()]), **changed))


def _resigned(source: Source, commit: Commit, **changed: Any) -> Commit:
    fields = cbor2.loads(commit.block)
    del fields["sig"]
    kept = {name: value for name, value in (fields | changed).items() if value is not ...}
    return with_block(commit, signed(source, kept))


def _sig(source: Source, of: Callable[[bytes, Source], Any]) -> Event:
    """The signature changed after it was made; `...` leaves it out."""
    commit = source.world_commit([source.create()])
    fields = cbor2.loads(commit.block)
    fields["sig"] = of(fields["sig"], source)
    kept = {name: value for name, value in fields.items() if value is not ...}
    return source.event(with_block(commit, encode(kept)))


def _ink(source: Source, of: Callable[[bytes], bytes]) -> Event:
    """The commit block's bytes changed."""
    commit = source.world_commit([source.create()])
    return source.event(with_block(commit, of(commit.block)))


def _der(sig: bytes, _: Source) -> bytes:
    return encode_dss_signature(int.from_bytes(sig[:32]), int.from_bytes(sig[32:]))


def _signed_with_null(source: Source) -> Event:
    """The signature set to null instead of taken out before it was made (S-CRY-02)."""
    commit = source.world_commit([source.create()])
    fields = cbor2.loads(commit.block)
    fields["sig"] = None
    fields["sig"] = source.account.key.sign(encode(fields))
    return source.event(with_block(commit, encode(fields)))


def _old_key(source: Source) -> Event:
    key = SigningKey(source.account.key.curve, f"before/{source.clock.tick()}")
    return source.event(source.commit(key=key))


def _others_commit(source: Source) -> Event:
    """Somebody else's name under the account's own signature."""
    return _commit(source, did=plc_did(f"somebody/{source.clock.tick()}"))


def _strange_commit(source: Source, **more: Any) -> Event:
    """More fields than we know, all under the signature: it must pass (3-37)."""
    account = source.account
    commit = _resigned(source, source.adopt(account.choose_writes(source.rng)), **more)
    account.repo = account.repo._replace(commit=commit.cid, commit_block=commit.block)
    return source.event(commit)


# Records


def _record(source: Source, block: bytes, *, raw: bool = False) -> Event:
    """A creation whose record is these bytes."""
    commit, cid = _with_record(source, block, raw=raw)
    return source.event(commit, ops=[{**commit.ops[0], "cid": link(cid)}])


def _with_record(source: Source, block: bytes, *, raw: bool = False) -> tuple[Commit, bytes]:
    cid = cid_of(block)
    if raw:
        cid = RAW + cid[4:]
    write = source.create()
    commit = source.world_commit([write])
    root = mst.put(source.ground().root, write.path.encode(), cid)
    nodes = mst.seal(root)
    assert root.cid is not None
    commit.blocks = [commit.blocks[0], *((n.cid or b"", n.raw) for n in nodes), (cid, block)]
    return resigned(source, commit, root.cid), cid


def _without_records(source: Source, writes: list[Write]) -> Event:
    commit = source.world_commit(writes)
    records = {op["cid"].value[1:] for op in commit.ops if op["cid"] is not None}
    commit.blocks = [block for block in commit.blocks if block[0] not in records]
    return source.event(commit)


def _deep(depth: int) -> bytes:
    """A map around arrays within each other."""
    return b"\xa1\x61a" + b"\x81" * (depth - 2) + b"\x80"


def _sized(source: Source, size: int) -> dict[str, Any]:
    """A record of exactly so many bytes."""
    record = {"t": source.clock.tick(), "x": ""}
    return record | {"x": "x" * (size - len(encode(record)) - 4)}


def _true_record(source: Source, record: dict[str, Any]) -> Event:
    path = f"com.example.strange/{source.rev()}"
    return source.event(source.adopt([Write("create", path, record)]))


MALFORMED: Final = DropReason.COMMIT_MALFORMED
MISMATCH: Final = DropReason.COMMIT_MISMATCH
SIGNATURE: Final = DropReason.SIGNATURE_INVALID
RECORD: Final = DropReason.RECORD_MALFORMED

COMMITS: Final[dict[str, Lie]] = {
    "commit_version_2": Lie(MALFORMED, lambda s: _commit(s, version=2)),
    "commit_version_is_text": Lie(MALFORMED, lambda s: _commit(s, version="3")),
    "commit_version_is_true": Lie(MALFORMED, lambda s: _commit(s, version=True)),
    "commit_version_missing": Lie(MALFORMED, lambda s: _commit(s, version=...)),
    "commit_prev_missing": Lie(MALFORMED, lambda s: _commit(s, prev=...)),
    "commit_prev_is_text": Lie(MALFORMED, lambda s: _commit(s, prev="bafy")),
    "commit_prev_is_bytes": Lie(MALFORMED, lambda s: _commit(s, prev=cid_of(b"x"))),
    "commit_prev_is_raw": Lie(MALFORMED, lambda s: _commit(s, prev=link(RAW + bytes(32)))),
    "commit_data_missing": Lie(MALFORMED, lambda s: _commit(s, data=...)),
    "commit_data_null": Lie(MALFORMED, lambda s: _commit(s, data=None)),
    "commit_data_is_raw": Lie(MALFORMED, lambda s: _commit(s, data=link(RAW + bytes(32)))),
    "commit_data_is_bytes": Lie(MALFORMED, lambda s: _commit(s, data=cid_of(b"x"))),
    "commit_did_missing": Lie(MALFORMED, lambda s: _commit(s, did=...)),
    "commit_did_is_none": Lie(MALFORMED, lambda s: _commit(s, did="DID:PLC:X")),
    "commit_rev_missing": Lie(MALFORMED, lambda s: _commit(s, rev=...)),
    "commit_rev_is_none": Lie(MALFORMED, lambda s: _commit(s, rev="2")),
    "commit_rev_is_another": Lie(MISMATCH, lambda s: _commit(s, rev=s.rev())),
    "commit_of_another": Lie(MISMATCH, _others_commit),
    "commit_with_float": Lie(MALFORMED, lambda s: _commit(s, note=1.5)),
    "commit_is_array": Lie(
        MALFORMED, lambda s: _ink(s, lambda raw: encode(list(cbor2.loads(raw).values())))
    ),
    "commit_unsorted": Lie(
        MALFORMED,
        lambda s: _ink(
            s, lambda raw: cbor2.dumps(dict(sorted(cbor2.loads(raw).items(), reverse=True)))
        ),
    ),
    "commit_trailing_byte": Lie(MALFORMED, lambda s: _ink(s, lambda raw: raw + b"\xf6")),
    "commit_torn": Lie(MALFORMED, lambda s: _ink(s, lambda raw: raw[:-1])),
    "commit_long_head": Lie(
        MALFORMED, lambda s: _ink(s, lambda raw: b"\xb8" + bytes([raw[0] - 0xA0]) + raw[1:])
    ),
    "commit_is_no_cbor": Lie(MALFORMED, lambda s: _ink(s, lambda _raw: b"\xff")),
    "sig_missing": Lie(MALFORMED, lambda s: _sig(s, lambda _sig, _s: ...)),
    "sig_is_text": Lie(MALFORMED, lambda s: _sig(s, lambda sig, _s: sig.hex())),
    "sig_of_63_bytes": Lie(MALFORMED, lambda s: _sig(s, lambda sig, _s: sig[:63])),
    "sig_of_65_bytes": Lie(MALFORMED, lambda s: _sig(s, lambda sig, _s: sig + b"\0")),
    "sig_der": Lie(MALFORMED, lambda s: _sig(s, _der)),
    "sig_empty": Lie(MALFORMED, lambda s: _sig(s, lambda _sig, _s: b"")),
    "sig_r_zero": Lie(SIGNATURE, lambda s: _sig(s, lambda sig, _s: bytes(32) + sig[32:])),
    "sig_s_zero": Lie(SIGNATURE, lambda s: _sig(s, lambda sig, _s: sig[:32] + bytes(32))),
    "sig_out_of_range": Lie(
        SIGNATURE,
        lambda s: _sig(s, lambda sig, s: ORDER[s.account.key.curve].to_bytes(32) + sig[32:]),
    ),
    "sig_all_ones": Lie(SIGNATURE, lambda s: _sig(s, lambda _sig, _s: b"\xff" * 64)),
    "sig_halves_swapped": Lie(SIGNATURE, lambda s: _sig(s, lambda sig, _s: sig[32:] + sig[:32])),
    "sig_high_s": Lie(
        SIGNATURE, lambda s: _sig(s, lambda sig, s: high_s(sig, s.account.key.curve))
    ),
    "sig_over_null": Lie(SIGNATURE, _signed_with_null),
    "sig_of_another_key": Lie(SIGNATURE, _old_key),
    "commit_extra_key": Lie(None, lambda s: _strange_commit(s, note={"deep": [1]}, aa=None)),
    "commit_prev_is_link": Lie(None, lambda s: _strange_commit(s, prev=link(cid_of(b"x")))),
}

RECORDS: Final[dict[str, Lie]] = {
    "record_missing": Lie(
        DropReason.RECORD_MISSING, lambda s: _without_records(s, [s.create(), s.create(1)])
    ),
    "record_of_update_missing": Lie(
        DropReason.RECORD_MISSING, lambda s: _without_records(s, [s.update(5)])
    ),
    "record_too_large": Lie(
        DropReason.RECORD_TOO_LARGE, lambda s: _record(s, encode(_sized(s, 1_000_001)))
    ),
    "record_is_array": Lie(RECORD, lambda s: _record(s, encode(["a", s.clock.tick()]))),
    "record_is_text": Lie(RECORD, lambda s: _record(s, encode(f"text {s.clock.tick()}"))),
    "record_with_float": Lie(RECORD, lambda s: _record(s, encode({"a": 0.5, "t": s.rev()}))),
    "record_with_nan": Lie(RECORD, lambda s: _record(s, encode({"a": float("nan"), "t": s.rev()}))),
    "record_with_undefined": Lie(RECORD, lambda s: _record(s, b"\xa1\x61a\xf7")),
    "record_with_date_tag": Lie(RECORD, lambda s: _record(s, b"\xa1\x61a\xc1\x00")),
    "record_of_65_bits": Lie(RECORD, lambda s: _record(s, b"\xa1\x61a\x3b" + b"\xff" * 8)),
    "record_indefinite": Lie(RECORD, lambda s: _record(s, b"\xbf\x61a\x01\xff")),
    "record_unsorted": Lie(RECORD, lambda s: _record(s, b"\xa2\x61b\x01\x61a\x02")),
    "record_key_twice": Lie(RECORD, lambda s: _record(s, b"\xa2\x61a\x01\x61a\x02")),
    "record_key_is_number": Lie(RECORD, lambda s: _record(s, b"\xa1\x01\x02")),
    "record_long_integer": Lie(RECORD, lambda s: _record(s, b"\xa1\x61a\x18\x01")),
    "record_bad_utf8": Lie(RECORD, lambda s: _record(s, b"\xa1\x61a\x62\xff\xfe")),
    "record_trailing_byte": Lie(RECORD, lambda s: _record(s, encode({"t": s.rev()}) + b"\xf6")),
    "record_torn": Lie(RECORD, lambda s: _record(s, encode({"t": s.rev()})[:-1])),
    "record_empty": Lie(RECORD, lambda s: _record(s, b"")),
    "record_too_deep": Lie(RECORD, lambda s: _record(s, _deep(4_000))),
    "record_promises_4_gb": Lie(RECORD, lambda s: _record(s, b"\xa1\x61a\x5a\xff\xff\xff\xff")),
    "record_as_large_as_may_be": Lie(None, lambda s: _true_record(s, _sized(s, 1_000_000))),
    "record_without_type": Lie(None, lambda s: _true_record(s, {"any": ["thing", None, True, -1]})),
    "record_with_strange_link": Lie(
        None,
        lambda s: _true_record(s, {"a": link(b"\x01\x71\x00\x02hi"), "b": link(RAW + bytes(32))}),
    ),
    "record_with_bytes_like_a_link": Lie(
        None, lambda s: _true_record(s, {"a": cid_of(b"no link")})
    ),
}
