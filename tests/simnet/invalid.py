"""Which wrong things can be said, and why must each be dropped? Two lists with names.

`INVALID` costs only the event: it may stand in the midst of honest traffic. `BAD_MESSAGES`
costs the connection (bad framing is a hard error, S-FRM-09), and is met again by each reconnect.
All are made on forks: the account's own state never moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cbor2

from common.verdict import DropReason
from tests.simnet.account import plc_did
from tests.simnet.clock import datetime_text, tid
from tests.simnet.drisl import car, cid_of, encode, link
from tests.simnet.events import HEADERS, Event, Kind, make_event
from tests.simnet.keys import SigningKey, high_s
from tests.simnet.lies import LIES
from tests.simnet.source import Source, with_block

HOUR_US: Final = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Invalid:
    """One kind of invalid event.

    make: builds it from an account's state.
    elsewhere: it is said by a host that is not the account's.
    after_commit: only sensible once a commit of the account has gone out.
    """

    reason: DropReason
    make: Callable[[Source], Event]
    elsewhere: bool = False
    after_commit: bool = False


@dataclass(frozen=True, slots=True)
class BadMessage:
    """One kind of message that ends a connection; `make` gets the event it spoils and its seq."""

    reason: DropReason
    make: Callable[[Event, int], bytes | str]


def _bad_signature(source: Source) -> Event:
    key = SigningKey(source.account.key.curve, f"nobody/{source.clock.tick()}")
    return source.event(source.commit(key=key))


def _high_s(source: Source) -> Event:
    commit = source.commit()
    signed = cbor2.loads(commit.block)
    signed["sig"] = high_s(signed["sig"], source.account.key.curve)
    return source.event(with_block(commit, encode(signed)))


def _plain(source: Source) -> Event:
    return source.event(source.commit())


def _foreign_status(source: Source) -> Event:
    fields = {
        "did": source.account.did,
        "time": datetime_text(source.clock.tick()),
        "active": False,
        "status": "deactivated",
    }
    return make_event(Kind.ACCOUNT, fields)


def _damaged_block(source: Source) -> Event:
    commit = source.commit()
    cid, block = commit.blocks[-1]
    commit.blocks[-1] = (cid, block[:-1] + bytes((block[-1] ^ 1,)))
    return source.event(commit)


def _no_root(source: Source) -> Event:
    commit = source.commit()
    return source.event(commit, blocks=car([], commit.blocks))


def _torn_car(source: Source) -> Event:
    commit = source.commit()
    return source.event(commit, blocks=car([commit.cid], commit.blocks)[:-7])


def _no_commit_block(source: Source) -> Event:
    commit = source.commit()
    return source.event(commit, blocks=car([commit.cid], commit.blocks[1:]))


def _other_rev(source: Source) -> Event:
    return source.event(source.commit(), rev=tid(source.clock.tick()))


def _replayed(source: Source) -> Event:
    assert source.account.last_commit is not None
    return source.account.last_commit


def _old_rev(source: Source) -> Event:
    return source.event(source.commit(rev=tid(source.clock.tick() - 24 * HOUR_US)))


def _future_rev(source: Source) -> Event:
    return source.event(source.commit(rev=tid(source.clock.tick() + HOUR_US)))


def _no_tid(source: Source) -> Event:
    rev = f"0-{source.clock.tick()}"
    return source.event(source.commit(rev=rev))


def _no_did(source: Source) -> Event:
    return source.event(source.commit(), repo=f"did plc {source.clock.tick()}")


def _unknown_did(source: Source) -> Event:
    return source.event(source.commit(), repo=plc_did(f"nobody/{source.clock.tick()}"))


def _too_many_ops(source: Source) -> Event:
    commit = source.commit()
    more = [
        {"action": "delete", "path": f"a.b.c/{i}", "cid": None, "prev": link(commit.cid)}
        for i in range(200)
    ]
    return source.event(commit, ops=[*commit.ops, *more])


def _bad_op(source: Source) -> Event:
    commit = source.commit()
    return source.event(commit, ops=[{**commit.ops[0], "action": "rename"}])


def _field_missing(source: Source) -> Event:
    fields = source.commit().fields(time=datetime_text(source.clock.tick()))
    del fields["ops"]
    return make_event(Kind.COMMIT, fields)


def _big_blocks(source: Source) -> Event:
    commit = source.commit()
    filler = encode({"x": "y" * 999_000})
    return source.event(
        commit, blocks=car([commit.cid], [*commit.blocks, *[(cid_of(filler), filler)] * 3])
    )


def _removed_type(source: Source) -> Event:
    fields = {
        "did": source.account.did,
        "time": datetime_text(source.clock.tick()),
        "handle": source.account.handle,
    }
    return make_event("handle", fields, header=encode({"t": "#handle", "op": 1}))


def _unknown_op(source: Source) -> Event:
    fields = {"did": source.account.did, "time": datetime_text(source.clock.tick())}
    return make_event(Kind.IDENTITY, fields, header=encode({"t": "#identity", "op": 2}))


def _told(reason: DropReason, name: str) -> Invalid:
    """One of the lies of an account that signs whatever it wants."""
    assert LIES[name].reason is reason
    return Invalid(reason, LIES[name].make)


INVALID: Final[dict[str, Invalid]] = {
    "bad_signature": Invalid(DropReason.SIGNATURE_INVALID, _bad_signature),
    "high_s_signature": Invalid(DropReason.SIGNATURE_INVALID, _high_s),
    "foreign_commit": Invalid(DropReason.HOST_NOT_AUTHORITATIVE, _plain, elsewhere=True),
    "foreign_status": Invalid(DropReason.HOST_NOT_AUTHORITATIVE, _foreign_status, elsewhere=True),
    "damaged_block": Invalid(DropReason.CAR_BLOCK_MISMATCH, _damaged_block),
    "no_car_root": Invalid(DropReason.CAR_NO_ROOT, _no_root),
    "torn_car": Invalid(DropReason.CAR_MALFORMED, _torn_car),
    "no_commit_block": Invalid(DropReason.COMMIT_MISSING, _no_commit_block),
    "other_rev": Invalid(DropReason.COMMIT_MISMATCH, _other_rev),
    "replayed": Invalid(DropReason.REV_NOT_NEWER, _replayed, after_commit=True),
    "old_rev": Invalid(DropReason.REV_NOT_NEWER, _old_rev, after_commit=True),
    "future_rev": Invalid(DropReason.REV_IN_FUTURE, _future_rev),
    "rev_is_no_tid": Invalid(DropReason.REV_INVALID, _no_tid),
    "repo_is_no_did": Invalid(DropReason.DID_INVALID, _no_did),
    "unknown_did": Invalid(DropReason.IDENTITY_NOT_FOUND, _unknown_did),
    "too_many_ops": Invalid(DropReason.TOO_MANY_OPS, _too_many_ops),
    "bad_op": Invalid(DropReason.OP_INVALID, _bad_op),
    "field_missing": Invalid(DropReason.FIELD_INVALID, _field_missing),
    "big_blocks": Invalid(DropReason.BLOCKS_TOO_LARGE, _big_blocks),
    "removed_type": Invalid(DropReason.UNKNOWN_TYPE, _removed_type),
    "unknown_op": Invalid(DropReason.UNKNOWN_OP, _unknown_op),
    # Rightly signed: of each reason one kind, of all that tests.simnet.lies has.
    "sync_not_resigned": _told(DropReason.SYNC_NOT_RESIGNED, "sync_not_resigned"),
    "too_many_blocks": _told(DropReason.CAR_TOO_MANY_BLOCKS, "car_of_too_many_blocks"),
    "commit_version_2": _told(DropReason.COMMIT_MALFORMED, "commit_version_2"),
    "record_missing": _told(DropReason.RECORD_MISSING, "record_missing"),
    "record_too_large": _told(DropReason.RECORD_TOO_LARGE, "record_too_large"),
    "record_with_float": _told(DropReason.RECORD_MALFORMED, "record_with_float"),
    "leaf_missing": _told(DropReason.NODE_MISSING, "leaf_missing"),
    "prefix_of_nothing": _told(DropReason.NODE_MALFORMED, "p_of_first"),
    "level_skipped": _told(DropReason.TREE_MALFORMED, "level_skipped"),
    "op_renamed": _told(DropReason.OP_MISMATCH, "op_renamed"),
    "update_without_prev": _told(DropReason.OP_PREV_MISSING, "update_without_prev"),
    "prev_data_missing": _told(DropReason.PREV_DATA_MISSING, "prev_data_missing"),
    "wrong_prev_data": _told(DropReason.PREV_DATA_MISMATCH, "wrong_prev_data"),
}

IN_TRAFFIC: Final = (
    "bad_signature",
    "foreign_commit",
    "damaged_block",
    "no_car_root",
    "old_rev",
    "future_rev",
    "other_rev",
)
"""What `run` mixes in by itself: small, quick, and no strain on a directory."""


def _long_seq(event: Event, seq: int) -> bytes:
    return event.before + b"\x1b" + seq.to_bytes(8) + event.after


def _oversize(event: Event, seq: int) -> bytes:
    frame = event.frame(seq)
    return frame + b"\x00" * (5_000_001 - len(frame))


def _explosive(event: Event, seq: int) -> bytes:
    """4.9 MB of tiny arrays: cheap to send, ruinous to build (canonical CBOR all the same)."""
    count = 4_900_000 - 200
    body = b"\xa4\x63did" + encode(event.did) + b"\x63ops\x9a" + count.to_bytes(4)
    return HEADERS[Kind.COMMIT] + body + b"\x80" * count + b"\x63rev\x60\x63seq" + encode(seq)


BAD_MESSAGES: Final[dict[str, BadMessage]] = {
    "text_frame": BadMessage(DropReason.TEXT_FRAME, lambda event, seq: f'{{"seq":{seq}}}'),
    "non_canonical": BadMessage(DropReason.MALFORMED_FRAME, _long_seq),
    "trailing_byte": BadMessage(
        DropReason.MALFORMED_FRAME, lambda event, seq: event.frame(seq) + b"\xf6"
    ),
    "torn_frame": BadMessage(DropReason.MALFORMED_FRAME, lambda event, seq: event.frame(seq)[:-9]),
    "no_cbor": BadMessage(DropReason.MALFORMED_FRAME, lambda event, seq: b"\xff\xfe hello"),
    "oversize": BadMessage(DropReason.FRAME_TOO_LARGE, _oversize),
    "explosive": BadMessage(DropReason.MALFORMED_FRAME, _explosive),
}
