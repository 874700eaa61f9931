"""Which messages do not tell what the signed tree did? Tree and signature are right here.

Only the inversion can see these (S-VAL-06): `ops`, `since` and `prevData` are not signed (S-COM-18).
"""

from __future__ import annotations

from typing import Any, Final

from common.envelope import Mark
from common.verdict import DropReason
from tests.simnet import repo
from tests.simnet.drisl import cid_of, encode, link, optional_link
from tests.simnet.events import Event
from tests.simnet.lie import Lie
from tests.simnet.repo import Commit
from tests.simnet.source import Source, world

ELSEWHERE: Final = link(cid_of(b"something else"))


def _op(source: Source, **changed: Any) -> Event:
    """A creation told in another way; `...` leaves a field out."""
    commit = source.world_commit([source.create()])
    return source.event(commit, ops=[_with(commit.ops[0], **changed)])


def _with(op: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {name: value for name, value in (op | changed).items() if value is not ...}


def _omitted(source: Source) -> Event:
    commit = source.world_commit([source.create(0), source.create(1)])
    return source.event(commit, ops=commit.ops[:1])


def _all_omitted(source: Source) -> Event:
    return source.event(source.world_commit([source.create()]), ops=[])


def _omitted_update(source: Source) -> Event:
    commit = source.world_commit([source.create(), source.update(5)])
    return source.event(commit, ops=commit.ops[:1])


def _omitted_delete(source: Source) -> Event:
    commit = source.world_commit([source.create(), source.delete(4)])
    return source.event(commit, ops=commit.ops[:1])


def _silent_root(source: Source) -> Event:
    """No ops and no nodes, but another tree."""
    commit = source.world_commit([source.update(8)], whole=False)
    commit.ops, commit.blocks = [], commit.blocks[:1]
    return source.event(commit)


def _added(source: Source, op: dict[str, Any]) -> Event:
    commit = source.world_commit([source.create(0)])
    return source.event(commit, ops=[*commit.ops, op])


def _spare(source: Source, depth: int) -> str:
    return world().spare[depth].decode()


def _added_create(source: Source) -> Event:
    commit = source.world_commit([source.create(0)])
    other = {**commit.ops[0], "path": _spare(source, 1)}
    return source.event(commit, ops=[*commit.ops, other])


def _added_update(source: Source) -> Event:
    """What it had is told as changed into another record, which is in the CAR."""
    commit = source.world_commit([source.create(0)])
    path = world().keys[5].decode()
    other = {**commit.ops[0], "path": path, "action": "update", "prev": ELSEWHERE}
    return source.event(commit, ops=[*commit.ops, other])


def _deleted_the_absent(source: Source) -> Event:
    path = _spare(source, 1)
    return _added(source, {"action": "delete", "path": path, "cid": None, "prev": ELSEWHERE})


def _deleted_the_present(source: Source) -> Event:
    key, value = world().items()[5]
    return _added(
        source, {"action": "delete", "path": key.decode(), "cid": None, "prev": link(value)}
    )


def _deleted_what_was_created(source: Source) -> Event:
    return _op(source, action="delete", cid=None, prev=ELSEWHERE)


def _repointed(source: Source) -> Event:
    """The op names the other op's record, which is there."""
    commit = source.world_commit([source.create(0), source.create(1)])
    first, second = commit.ops
    return source.event(commit, ops=[{**first, "cid": second["cid"]}, second])


def _swapped(source: Source) -> Event:
    commit = source.world_commit([source.create(0), source.create(1)])
    first, second = commit.ops
    swapped = [{**first, "cid": second["cid"]}, {**second, "cid": first["cid"]}]
    return source.event(commit, ops=swapped)


def _update_of_old_value(source: Source) -> Event:
    """`cid` and `prev` the wrong way round, with the old record in the CAR."""
    key = world().keys[5]
    old = encode({"$type": "com.example.world", "old": True})
    state, _ = repo.commit_writes(
        source.ground(),
        [repo.Write("update", key.decode(), {"$type": "com.example.world", "old": True})],
        source.rev(),
        source.account.key,
    )
    new, commit = repo.commit_writes(state, [source.update(5)], source.rev(), source.account.key)
    assert new.data == commit_data(commit)
    op = commit.ops[0]
    commit.blocks.append((cid_of(old), old))
    return source.event(commit, ops=[{**op, "cid": op["prev"], "prev": op["cid"]}])


def commit_data(commit: Commit) -> bytes:
    """The root that a commit signs."""
    return commit.blocks[1][0]


def _create_as_update(source: Source) -> Event:
    return _op(source, action="update", prev=ELSEWHERE)


def _update_as_create(source: Source) -> Event:
    commit = source.world_commit([source.update(5)])
    return source.event(commit, ops=[_with(commit.ops[0], action="create", prev=...)])


def _wrong_prev(source: Source, *, delete: bool = False) -> Event:
    commit = source.world_commit([source.delete(5) if delete else source.update(5)])
    return source.event(commit, ops=[{**commit.ops[0], "prev": ELSEWHERE}])


def _prev_is_cid(source: Source) -> Event:
    commit = source.world_commit([source.update(5)])
    return source.event(commit, ops=[{**commit.ops[0], "prev": commit.ops[0]["cid"]}])


def _without_prev(source: Source, *, delete: bool = False) -> Event:
    commit = source.world_commit([source.delete(5) if delete else source.update(5)])
    return source.event(commit, ops=[_with(commit.ops[0], prev=...)])


def _twice(source: Source) -> Event:
    commit = source.world_commit([source.create()])
    return source.event(commit, ops=commit.ops * 2)


def _two_ways(source: Source) -> Event:
    """The same path created and deleted."""
    commit = source.world_commit([source.create()])
    gone = {**commit.ops[0], "action": "delete", "cid": None, "prev": ELSEWHERE}
    return source.event(commit, ops=[*commit.ops, gone])


def _prev_data(source: Source, of: Any) -> Event:
    commit = source.world_commit([source.create()])
    return source.event(commit, prevData=commit_link(of, commit))


def commit_link(of: Any, commit: Commit) -> Any:
    """`of` as it is, or what it makes of the commit."""
    return of(commit) if callable(of) else of


def _empty_elsewhere(source: Source) -> Event:
    """No ops, the tree unchanged, and a `prevData` from nowhere."""
    return source.event(source.world_commit([]), prevData=ELSEWHERE)


def _genesis_of_a_full_tree(source: Source) -> Event:
    """Neither `since` nor `prevData`, as if it were the first commit."""
    return source.event(source.world_commit([source.create()]), since=None, prevData=...)


# What passes


def _since(source: Source, since: Any) -> Event:
    return source.event(source.adopt([]), since=since)


def _gap(source: Source) -> Event:
    """One commit was never sent."""
    source.adopt(source.account.choose_writes(source.rng))
    return source.event(source.adopt(source.account.choose_writes(source.rng)))


def _another_past(source: Source) -> Event:
    """`since` is right and every op is true, but the tree before is not the one that is known."""
    account = source.account
    rev = account.repo.rev
    source.adopt(account.choose_writes(source.rng))
    account.repo = account.repo._replace(rev=rev)
    return source.event(source.adopt(account.choose_writes(source.rng)))


def _true(source: Source, **fields: Any) -> Event:
    return source.event(source.adopt(source.account.choose_writes(source.rng)), **fields)


def _many_true(source: Source, count: int) -> Event:
    return source.event(source.adopt(source.account.choose_writes(source.rng, count)))


def _reordered(source: Source) -> Event:
    commit = source.adopt(source.account.choose_writes(source.rng, 20))
    return source.event(commit, ops=commit.ops[::-1])


def _no_change(source: Source) -> Event:
    """An update to the record that was there (3-36: sound, so it passes)."""
    write = source.account.choose_writes(source.rng)[0]._replace(action="create")
    if write.record is None:
        write = write._replace(record={"$type": "com.example.world", "t": source.clock.tick()})
    path = f"com.example.same/{source.rev()}"
    source.adopt([write._replace(path=path)])
    return source.event(source.adopt([write._replace(path=path, action="update")]))


MISMATCH: Final = DropReason.PREV_DATA_MISMATCH
OP: Final = DropReason.OP_MISMATCH
FORM: Final = DropReason.OP_INVALID

TOLD: Final[dict[str, Lie]] = {
    "op_omitted": Lie(MISMATCH, _omitted),
    "update_omitted": Lie(MISMATCH, _omitted_update),
    "delete_omitted": Lie(MISMATCH, _omitted_delete),
    "all_ops_omitted": Lie(MISMATCH, _all_omitted),
    "silent_change_of_root": Lie(MISMATCH, _silent_root),
    "op_added": Lie(OP, _added_create),
    "update_added": Lie(OP, _added_update),
    "delete_of_what_never_was": Lie(MISMATCH, _deleted_the_absent),
    "delete_of_what_is_there": Lie(OP, _deleted_the_present),
    "create_told_as_delete": Lie(OP, _deleted_what_was_created),
    "op_repointed": Lie(OP, _repointed),
    "ops_swapped": Lie(OP, _swapped),
    "update_backwards": Lie(OP, _update_of_old_value),
    "op_renamed": Lie(OP, lambda source: _op(source, path=_spare(source, 1))),
    "create_told_as_update": Lie(MISMATCH, _create_as_update),
    "update_told_as_create": Lie(MISMATCH, _update_as_create),
    "wrong_prev_of_update": Lie(MISMATCH, _wrong_prev),
    "wrong_prev_of_delete": Lie(MISMATCH, lambda source: _wrong_prev(source, delete=True)),
    "prev_is_cid": Lie(MISMATCH, _prev_is_cid),
    "update_without_prev": Lie(DropReason.OP_PREV_MISSING, _without_prev),
    "delete_without_prev": Lie(
        DropReason.OP_PREV_MISSING, lambda source: _without_prev(source, delete=True)
    ),
    "wrong_prev_data": Lie(MISMATCH, lambda source: _prev_data(source, ELSEWHERE)),
    "prev_data_is_data": Lie(
        MISMATCH, lambda source: _prev_data(source, lambda commit: link(commit_data(commit)))
    ),
    "prev_data_is_commit": Lie(
        MISMATCH, lambda source: _prev_data(source, lambda commit: link(commit.cid))
    ),
    "prev_data_of_empty_commit": Lie(MISMATCH, _empty_elsewhere),
    "prev_data_missing": Lie(DropReason.PREV_DATA_MISSING, lambda source: _prev_data(source, ...)),
    "false_genesis": Lie(DropReason.PREV_DATA_MISSING, _genesis_of_a_full_tree),
    "prev_data_null": Lie(DropReason.FIELD_INVALID, lambda source: _prev_data(source, None)),
    "prev_data_is_bytes": Lie(
        DropReason.FIELD_INVALID,
        lambda source: _prev_data(source, commit_data),
    ),
    "prev_data_is_raw": Lie(
        DropReason.FIELD_INVALID,
        lambda source: _prev_data(source, link(b"\x01\x55\x12\x20" + bytes(32))),
    ),
    "path_twice": Lie(FORM, _twice),
    "path_created_and_deleted": Lie(FORM, _two_ways),
    "create_without_cid": Lie(FORM, lambda source: _op(source, cid=None)),
    "create_cid_missing": Lie(FORM, lambda source: _op(source, cid=...)),
    "create_with_prev": Lie(FORM, lambda source: _op(source, prev=ELSEWHERE)),
    "create_with_null_prev": Lie(FORM, lambda source: _op(source, prev=None)),
    "cid_is_bytes": Lie(FORM, lambda source: _op(source, cid=cid_of(b"no link"))),
    "delete_with_cid": Lie(FORM, lambda source: _op(source, action="delete", prev=ELSEWHERE)),
    "update_with_null_prev": Lie(FORM, lambda source: _op(source, action="update", prev=None)),
    "action_missing": Lie(FORM, lambda source: _op(source, action=...)),
    "path_missing": Lie(FORM, lambda source: _op(source, path=...)),
    "path_without_slash": Lie(FORM, lambda source: _op(source, path="com.example.world")),
    "path_with_two_slashes": Lie(FORM, lambda source: _op(source, path="com.example.world/a/b")),
    "path_of_dots": Lie(FORM, lambda source: _op(source, path="com.example.world/..")),
    "path_is_bytes": Lie(FORM, lambda source: _op(source, path=b"com.example.world/a")),
    "op_is_no_map": Lie(
        FORM, lambda source: source.event(source.world_commit([source.create()]), ops=["create"])
    ),
    "wrong_since": Lie(None, lambda source: _since(source, "3222222222222"), Mark.DISCONTINUOUS),
    "since_null": Lie(None, lambda source: _since(source, None)),
    "gap": Lie(None, _gap, Mark.DISCONTINUOUS),
    "another_past": Lie(None, _another_past, Mark.DISCONTINUOUS),
    "too_big": Lie(None, lambda source: _true(source, tooBig=True, rebase=True)),
    "blobs_named": Lie(None, lambda source: _true(source, blobs=[ELSEWHERE])),
    "unknown_field": Lie(None, lambda source: _true(source, prev=optional_link(None))),
    "ops_in_another_order": Lie(None, _reordered),
    "as_many_ops_as_may_be": Lie(None, lambda source: _many_true(source, 200)),
    "update_to_the_same": Lie(None, _no_change, Mark.DISCONTINUOUS),
}
