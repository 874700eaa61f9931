"""Which CARs, syncs, identities and statuses are none, and which are only strange?

The commit in them is rightly signed, and in a `#commit` the tree does what the message tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from common.verdict import DropReason
from tests.simnet import repo
from tests.simnet.account import plc_did
from tests.simnet.drisl import car, cid_of, encode, link, uvarint
from tests.simnet.events import Event, Kind
from tests.simnet.keys import SigningKey
from tests.simnet.lie import Lie
from tests.simnet.repo import Commit
from tests.simnet.source import Source

RAW: Final = b"\x01\x55\x12\x20"
MALFORMED: Final = DropReason.COMMIT_MALFORMED
MISMATCH: Final = DropReason.COMMIT_MISMATCH
SIGNATURE: Final = DropReason.SIGNATURE_INVALID
CAR: Final = DropReason.CAR_MALFORMED
FIELD: Final = DropReason.FIELD_INVALID

# CARs


def _car(source: Source, of: Callable[[Commit], bytes]) -> Event:
    commit = source.world_commit([source.create()])
    return source.event(commit, blocks=of(commit))


def _header(value: Any, commit: Commit) -> bytes:
    header = value if type(value) is bytes else encode(value)
    plain = car([commit.cid], [])
    return uvarint(len(header)) + header + car([commit.cid], commit.blocks)[len(plain) :]


def _cycle(commit: Commit) -> bytes:
    """A child that bears its parent's name: the only cycle that can be written down."""
    (commit_block, root, *others) = commit.blocks
    return car([commit.cid], [commit_block, root, *((root[0], data) for _, data in others[:3])])


def _true_car(source: Source, of: Callable[[Commit, Source], bytes]) -> Event:
    commit = source.adopt(source.account.choose_writes(source.rng))
    return source.event(commit, blocks=of(commit, source))


def _surplus(count: int, size: int) -> list[tuple[bytes, bytes]]:
    blocks = [encode({"i": i, "x": "x" * size}) for i in range(count)]
    return [(cid_of(block), block) for block in blocks]


def _many(count: int) -> list[tuple[bytes, bytes]]:
    """Tiny blocks: an integer each."""
    return [(cid_of(block), block) for block in map(encode, range(count))]


CARS: Final[dict[str, Lie]] = {
    "car_empty": Lie(DropReason.FIELD_INVALID, lambda s: _car(s, lambda _c: b"")),
    "car_version_2": Lie(
        CAR, lambda s: _car(s, lambda c: _header({"roots": [link(c.cid)], "version": 2}, c))
    ),
    "car_version_missing": Lie(
        CAR, lambda s: _car(s, lambda c: _header({"roots": [link(c.cid)]}, c))
    ),
    "car_roots_missing": Lie(CAR, lambda s: _car(s, lambda c: _header({"version": 1}, c))),
    "car_roots_is_link": Lie(
        CAR, lambda s: _car(s, lambda c: _header({"roots": link(c.cid), "version": 1}, c))
    ),
    "car_root_is_bytes": Lie(
        CAR, lambda s: _car(s, lambda c: _header({"roots": [c.cid], "version": 1}, c))
    ),
    "car_header_is_array": Lie(CAR, lambda s: _car(s, lambda c: _header([1], c))),
    "car_header_is_no_cbor": Lie(CAR, lambda s: _car(s, lambda c: _header(b"\xff\x00", c))),
    "car_header_long": Lie(
        CAR, lambda s: _car(s, lambda c: uvarint(1 << 30) + car([c.cid], c.blocks))
    ),
    "car_without_roots": Lie(
        DropReason.CAR_NO_ROOT, lambda s: _car(s, lambda c: car([], c.blocks))
    ),
    "car_only_header": Lie(
        DropReason.COMMIT_MISSING, lambda s: _car(s, lambda c: car([c.cid], []))
    ),
    "car_root_is_tree": Lie(MISMATCH, lambda s: _car(s, lambda c: car([c.blocks[1][0]], c.blocks))),
    "car_commit_is_second_root": Lie(
        MISMATCH, lambda s: _car(s, lambda c: car([c.blocks[1][0], c.cid], c.blocks))
    ),
    "car_varint_truncated": Lie(CAR, lambda s: _car(s, lambda c: car([c.cid], c.blocks) + b"\xff")),
    "car_varint_endless": Lie(
        CAR, lambda s: _car(s, lambda c: car([c.cid], c.blocks) + b"\xff" * 12 + b"\x01")
    ),
    "car_varint_long": Lie(
        CAR, lambda s: _car(s, lambda c: car([c.cid], c.blocks) + b"\xa4\x80\x00")
    ),
    "car_block_longer_than_car": Lie(
        CAR, lambda s: _car(s, lambda c: car([c.cid], c.blocks) + uvarint(1_000_000) + c.cid)
    ),
    "car_block_without_cid": Lie(
        CAR, lambda s: _car(s, lambda c: car([c.cid], c.blocks) + b"\x04abcd")
    ),
    "car_trailing_zero": Lie(CAR, lambda s: _car(s, lambda c: car([c.cid], c.blocks) + b"\0")),
    "car_two_blocks_exchanged": Lie(
        DropReason.CAR_BLOCK_MISMATCH,
        lambda s: _car(
            s,
            lambda c: car(
                [c.cid],
                [
                    *c.blocks[:1],
                    (c.blocks[1][0], c.blocks[2][1]),
                    (c.blocks[2][0], c.blocks[1][1]),
                ],
            ),
        ),
    ),
    "car_cycle": Lie(DropReason.CAR_BLOCK_MISMATCH, lambda s: _car(s, _cycle)),
    "car_of_too_many_blocks": Lie(
        DropReason.CAR_TOO_MANY_BLOCKS,
        lambda s: _car(s, lambda c: car([c.cid], [*c.blocks, *_many(4_200)])),
    ),
    "car_with_surplus": Lie(
        None, lambda s: _true_car(s, lambda c, _s: car([c.cid], [*c.blocks, *_surplus(20, 500)]))
    ),
    "car_with_raw_surplus": Lie(
        None,
        lambda s: _true_car(
            s,
            lambda c, _s: car(
                [c.cid], [*c.blocks, *((RAW + cid[4:], data) for cid, data in _surplus(3, 9))]
            ),
        ),
    ),
    "car_with_old_tree": Lie(
        None,
        lambda s: _true_car(
            s,
            lambda c, s: car([c.cid], [*c.blocks, *s.world_commit([], whole=True).blocks[1:]]),
        ),
    ),
    "car_with_repetitions": Lie(
        None, lambda s: _true_car(s, lambda c, _s: car([c.cid], c.blocks * 3))
    ),
    "car_backwards": Lie(None, lambda s: _true_car(s, lambda c, _s: car([c.cid], c.blocks[::-1]))),
    "car_with_more_roots": Lie(
        None,
        lambda s: _true_car(s, lambda c, _s: car([c.cid, c.blocks[1][0], c.cid], c.blocks)),
    ),
    "car_with_extra_key": Lie(
        None,
        lambda s: _true_car(
            s, lambda c, _s: _header({"roots": [link(c.cid)], "version": 1, "note": 1}, c)
        ),
    ),
}

# Syncs


def _sync(source: Source, block: bytes | None = None, **changed: Any) -> Event:
    """A `#sync` of a newer empty commit, or of another block."""
    rev = source.rev()
    if block is None:
        block = repo.signed_commit(
            source.account.did, rev, source.ground().data, source.account.key
        )
    cid = cid_of(block)
    fields = {
        "did": source.account.did,
        "rev": rev,
        "time": source.time(),
        "blocks": car([cid], [(cid, block)]),
    }
    return source.message(Kind.SYNC, fields | changed)


def _sync_blocks(source: Source, of: Callable[[bytes, bytes], bytes]) -> Event:
    rev = source.rev()
    block = repo.signed_commit(source.account.did, rev, source.ground().data, source.account.key)
    return _sync(source, rev=rev, blocks=of(cid_of(block), block))


def _imported(source: Source) -> Event:
    """As the real PDS sends it after a migration: the head of before under a new rev and key."""
    state = source.account.repo
    assert state.rev is not None
    old = SigningKey(source.account.key.curve, f"before/{source.account.did}")
    return _sync(source, repo.signed_commit(state.did, state.rev, state.data, old))


def _not_resigned(source: Source) -> Event:
    state = source.account.repo
    return _sync(source, state.commit_block)


def _fork(source: Source) -> Event:
    """The newest rev, rightly signed, with another tree."""
    state = source.account.repo
    assert state.rev is not None
    data = cid_of(b"another tree")
    return _sync(
        source, repo.signed_commit(state.did, state.rev, data, source.account.key), rev=state.rev
    )


def _old_sync(source: Source) -> Event:
    rev = "3222222222222"
    block = repo.signed_commit(source.account.did, rev, source.ground().data, source.account.key)
    return _sync(source, block, rev=rev)


def _sync_of_another(source: Source) -> Event:
    did = plc_did(f"somebody/{source.clock.tick()}")
    rev = source.rev()
    block = repo.signed_commit(did, rev, source.ground().data, source.account.key)
    return _sync(source, block, rev=rev)


def _sync_again(source: Source) -> Event:
    """The very state that is known."""
    return source.account.sync()


def _sync_anew(source: Source) -> Event:
    return source.account.sync(new_rev=True)


def _sync_to_another_tree(source: Source) -> Event:
    """A `#sync` may change anything at all; here a record that no commit told of."""
    source.adopt(source.account.choose_writes(source.rng))
    return source.account.sync()


SYNCS: Final[dict[str, Lie]] = {
    "sync_not_resigned": Lie(DropReason.SYNC_NOT_RESIGNED, _not_resigned),
    "sync_imported": Lie(DropReason.SYNC_NOT_RESIGNED, _imported),
    "sync_fork": Lie(DropReason.REV_NOT_NEWER, _fork),
    "sync_old": Lie(DropReason.REV_NOT_NEWER, _old_sync),
    "sync_of_another": Lie(MISMATCH, _sync_of_another),
    "sync_of_another_key": Lie(
        SIGNATURE,
        lambda s: _sync_of_key(s, SigningKey(s.account.key.curve, f"nobody/{s.clock.tick()}")),
    ),
    "sync_rev_is_none": Lie(DropReason.REV_INVALID, lambda s: _sync(s, rev="now")),
    "sync_without_blocks": Lie(DropReason.FIELD_INVALID, lambda s: _sync(s, blocks=...)),
    "sync_blocks_is_text": Lie(DropReason.FIELD_INVALID, lambda s: _sync(s, blocks="car")),
    "sync_without_time": Lie(DropReason.FIELD_INVALID, lambda s: _sync(s, time=...)),
    "sync_too_large": Lie(
        DropReason.BLOCKS_TOO_LARGE,
        lambda s: _sync_blocks(
            s, lambda cid, block: car([cid], [(cid, block), *_surplus(1, 9_900)])
        ),
    ),
    "sync_without_commit": Lie(
        DropReason.COMMIT_MISSING, lambda s: _sync_blocks(s, lambda cid, _block: car([cid], []))
    ),
    "sync_without_root": Lie(
        DropReason.CAR_NO_ROOT,
        lambda s: _sync_blocks(s, lambda cid, block: car([], [(cid, block)])),
    ),
    "sync_of_a_record": Lie(MALFORMED, lambda s: _sync(s, encode({"text": s.rev()}))),
    "sync_again": Lie(None, _sync_again),
    "sync_anew": Lie(None, _sync_anew),
    "sync_to_another_tree": Lie(None, _sync_to_another_tree),
}


def _sync_of_key(source: Source, key: SigningKey) -> Event:
    rev = source.rev()
    block = repo.signed_commit(source.account.did, rev, source.ground().data, key)
    return _sync(source, block, rev=rev)


# Identities and statuses


def _plain(source: Source, kind: Kind, **changed: Any) -> Event:
    fields: dict[str, Any] = {"did": source.account.did, "time": source.time()}
    if kind is Kind.ACCOUNT:
        fields["active"] = True
    return source.message(kind, fields | changed)


PLAIN: Final[dict[str, Lie]] = {
    "identity_of_nobody": Lie(
        DropReason.IDENTITY_NOT_FOUND,
        lambda s: _plain(s, Kind.IDENTITY, did=plc_did(f"nobody/{s.clock.tick()}")),
    ),
    "identity_did_is_none": Lie(
        DropReason.DID_INVALID, lambda s: _plain(s, Kind.IDENTITY, did="did:plc:UPPER")
    ),
    "identity_handle_is_number": Lie(FIELD, lambda s: _plain(s, Kind.IDENTITY, handle=1)),
    "identity_handle_endless": Lie(FIELD, lambda s: _plain(s, Kind.IDENTITY, handle="x" * 5000)),
    "identity_time_missing": Lie(FIELD, lambda s: _plain(s, Kind.IDENTITY, time=...)),
    "account_active_missing": Lie(FIELD, lambda s: _plain(s, Kind.ACCOUNT, active=...)),
    "account_active_is_number": Lie(FIELD, lambda s: _plain(s, Kind.ACCOUNT, active=1)),
    "account_status_is_null": Lie(FIELD, lambda s: _plain(s, Kind.ACCOUNT, status=None)),
    "account_status_endless": Lie(FIELD, lambda s: _plain(s, Kind.ACCOUNT, status="x" * 1000)),
    "account_of_nobody": Lie(
        DropReason.IDENTITY_NOT_FOUND,
        lambda s: _plain(s, Kind.ACCOUNT, did=plc_did(f"nobody/{s.clock.tick()}")),
    ),
    "identity_again": Lie(None, lambda s: _plain(s, Kind.IDENTITY, handle="not.the.handle")),
    "identity_with_unknown_field": Lie(None, lambda s: _plain(s, Kind.IDENTITY, note=[1, 2])),
    "account_active_again": Lie(None, lambda s: _plain(s, Kind.ACCOUNT)),
    "account_throttled_but_active": Lie(
        None, lambda s: _plain(s, Kind.ACCOUNT, status="throttled")
    ),
    "account_active_of_unknown_status": Lie(
        None, lambda s: _plain(s, Kind.ACCOUNT, status="simnet-only")
    ),
}
