"""Which wrong things can be said, and why must each be dropped? Two lists with names.

`INVALID` costs only the event: it may stand in the midst of honest traffic. `BAD_MESSAGES`
costs the connection (bad framing is a hard error, S-FRM-09), and is met again by each reconnect.
All are made on forks: the account's own state never moves.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import cbor2

from common.verdict import DropReason
from tests.simnet.account import Account, plc_did
from tests.simnet.clock import Clock, datetime_text, tid
from tests.simnet.drisl import car, cid_of, encode, link
from tests.simnet.events import HEADERS, Event, Kind, make_event
from tests.simnet.keys import SigningKey, high_s
from tests.simnet.repo import Commit

HOUR_US: Final = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Source:
    """What an invalid event is made from: an account in good standing, luck, and the time."""

    account: Account
    rng: random.Random
    clock: Clock

    def commit(self, **change: Any) -> Commit:
        """A commit that the account could have made; `change` goes to `forked_commit`."""
        writes = self.account.choose_writes(self.rng)
        return self.account.forked_commit(writes, **change)

    def event(self, commit: Commit, **fields: Any) -> Event:
        """The `#commit` of a commit, with some fields replaced."""
        time = datetime_text(self.clock.tick())
        return make_event(Kind.COMMIT, commit.fields(**{"time": time, **fields}))


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
    return source.event(_with_block(commit, encode(signed)))


def _with_block(commit: Commit, block: bytes) -> Commit:
    """The commit with another commit block, and the CID that goes with it."""
    commit.cid, commit.block = cid_of(block), block
    commit.blocks[0] = (commit.cid, block)
    return commit


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
