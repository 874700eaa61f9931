"""S-COM: the fields of a #commit message, and their limits."""

from __future__ import annotations

from typing import Any

import pytest

from common.envelope import NEVER_SEEN, Mark
from common.verdict import DropReason
from tests.simnet.drisl import car, cid_of, encode, link
from tests.simnet.events import HEADERS, Kind
from tests.simnet.repo import Commit, Write
from tests.spec.scene import Scene, create, delete, update

EXTRA = {"text": "x"}


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("seq", DropReason.SEQ_INVALID),
        ("repo", DropReason.DID_INVALID),
        ("commit", DropReason.FIELD_INVALID),
        ("rev", DropReason.REV_INVALID),
        ("since", DropReason.FIELD_INVALID),
        ("blocks", DropReason.FIELD_INVALID),
        ("ops", DropReason.FIELD_INVALID),
        ("time", DropReason.FIELD_INVALID),
    ],
)
def test_s_com_01_a_field_that_is_needed_and_missing_costs_the_commit(
    field: str, reason: DropReason
) -> None:
    scene = Scene()
    fork = scene.fork([create()])
    fields = {"seq": 7, **fork.fields(time=scene.time())}
    assert scene.fate(HEADERS[Kind.COMMIT] + encode(fields)) is None
    scene = Scene()
    del fields[field]
    assert scene.fate(HEADERS[Kind.COMMIT] + encode(fields)) is reason


@pytest.mark.parametrize("field", ["rebase", "tooBig", "blobs"])
def test_s_com_01_a_field_that_is_only_there_for_old_times_may_be_missing(field: str) -> None:
    scene = Scene()
    assert scene.fate(scene.commit([create()], **{field: ...})) is None


def test_s_com_01_keys_that_are_not_in_canonical_order_spoil_the_frame() -> None:
    scene = Scene()
    frame = scene.commit([create()]).frame(7)
    rev, seq = frame.index(b"\x63rev"), frame.index(b"\x63seq")
    swapped = frame[:rev] + frame[seq : seq + 5] + frame[rev:seq] + frame[seq + 5 :]
    assert scene.fate(swapped) is DropReason.MALFORMED_FRAME


def test_s_com_02_the_message_names_the_account_that_signed() -> None:
    alice, bob = Scene(), Scene(seed="bob")
    fork = alice.fork([create()])
    stolen = bob.said(fork, repo=bob.account.did)
    assert bob.fate(stolen) is DropReason.COMMIT_MISMATCH
    did = alice.account.did
    assert alice.fate(alice.said(fork, repo=..., did=did)) is DropReason.DID_INVALID
    assert alice.fate(alice.said(fork)) is None


def test_s_com_02_a_did_in_other_letters_is_another_did() -> None:
    scene = Scene()
    scene.account.did = "did:web:Alice.example.com"
    scene.account.repo = scene.account.repo._replace(did=scene.account.did)
    fork = scene.fork([create()])
    told = scene.said(fork, repo="did:web:alice.example.com")
    scene.account.did = "did:web:alice.example.com"
    assert scene.fate(told) is DropReason.COMMIT_MISMATCH


@pytest.mark.parametrize(
    "rev", ["", "3mqlbj6j2ms2", "3mqlbj6j2ms222", "3MQLBJ6J2MS22", "zzzzzzzzzzzzz", "0-1", None, 5]
)
def test_s_com_03_a_rev_is_a_tid(rev: object) -> None:
    scene = Scene()
    assert scene.fate(scene.said(scene.fork([create()]), rev=rev)) is DropReason.REV_INVALID


def test_s_com_03_the_rev_is_the_one_that_was_signed() -> None:
    scene = Scene()
    fork = scene.fork([create()])
    assert scene.fate(scene.said(fork, rev=scene.rev())) is DropReason.COMMIT_MISMATCH


def test_s_com_04_commit_is_the_first_root_and_its_block_is_there() -> None:
    scene = Scene()
    fork = scene.fork([create()])
    other = cid_of(b"another")
    told_wrong = scene.said(fork, commit=link(other))
    assert scene.fate(told_wrong) is DropReason.COMMIT_MISMATCH
    second_root = scene.said(fork, blocks=car([other, fork.cid], fork.blocks))
    assert scene.fate(second_root) is DropReason.COMMIT_MISMATCH
    without = scene.said(fork, blocks=car([fork.cid], fork.blocks[1:]))
    assert scene.fate(without) is DropReason.COMMIT_MISSING
    # A root more says nothing: only the first one counts.
    assert scene.fate(scene.said(fork, blocks=car([fork.cid, other], fork.blocks))) is None


@pytest.mark.parametrize(
    "commit",
    [b"\x01\x55\x12\x20" + bytes(32), b"\x01\x71\x12\x20" + bytes(31)],
    ids=["raw", "short"],
)
def test_s_com_04_commit_is_a_link_of_the_blessed_form(commit: bytes) -> None:
    scene = Scene()
    told = scene.said(scene.fork([create()]), commit=link(commit))
    assert scene.fate(told) is DropReason.FIELD_INVALID


def test_s_com_05_since_names_the_rev_before() -> None:
    scene = Scene()
    assert scene.marks(scene.commit([create()])) == 0
    elsewhere = scene.commit([create("com.example.note/b")], since=scene.rev())
    assert scene.marks(elsewhere) == Mark.DISCONTINUOUS


@pytest.mark.parametrize("since", ["", "no tid", 5, "3MQLBJ6J2MS22"])
def test_s_com_05_since_is_a_tid_or_null(since: object) -> None:
    scene = Scene()
    told = scene.said(scene.fork([create()]), since=since)
    assert scene.fate(told) is DropReason.FIELD_INVALID


def test_s_com_05_since_is_null_on_a_first_commit() -> None:
    scene = Scene(records=None)
    first = scene.fork([create()])
    assert first.since is None
    assert scene.fate(scene.said(first)) is None


def test_s_com_06_only_a_first_commit_may_leave_prev_data_out() -> None:
    scene = Scene(records=None)
    born = scene.commit([])
    assert b"prevData" not in born.after
    assert scene.fate(born) is None
    later = scene.commit([create()], prevData=...)
    assert scene.fate(later) is DropReason.PREV_DATA_MISSING


def test_s_com_06_a_commit_that_names_one_before_it_needs_prev_data_though_we_never_saw_that() -> (
    None
):
    scene = Scene()
    later = scene.commit([create()], prevData=...)
    assert scene.fate(later, state=NEVER_SEEN) is DropReason.PREV_DATA_MISSING


def test_s_com_06_prev_data_is_the_tree_before() -> None:
    scene = Scene()
    assert scene.marks(scene.commit([create()], prevData=link(scene.account.repo.data))) == 0
    wrong = scene.said(scene.fork([create("com.example.note/b")]), prevData=link(cid_of(b"x")))
    assert scene.fate(wrong) is DropReason.PREV_DATA_MISMATCH


def padded(commit: Commit, size: int) -> bytes:
    """The CAR of a commit, filled up to a size with blocks that nobody needs."""
    first = encode({"fill": "y" * 900_000})
    blocks = [*commit.blocks, (cid_of(first), first)]
    # A length of three bytes, a CID of 36.
    rest = b"\x00" * (size - len(car([commit.cid], blocks)) - 39)
    return car([commit.cid], [*blocks, (cid_of(rest), rest)])


def test_s_com_07_blocks_over_two_million_bytes_are_dropped() -> None:
    scene = Scene()
    fork = scene.fork([create()])
    full, over = padded(fork, 2_000_000), padded(fork, 2_000_001)
    assert (len(full), len(over)) == (2_000_000, 2_000_001)
    assert scene.fate(scene.said(fork, blocks=over)) is DropReason.BLOCKS_TOO_LARGE
    assert scene.fate(scene.said(fork, blocks=full)) is None


def record_of(size: int) -> dict[str, Any]:
    """A record whose block has that many bytes."""
    record = {"$type": "com.example.note", "text": ""}
    record["text"] = "z" * (size - len(encode(record)) - 4)
    assert len(encode(record)) == size
    return record


@pytest.mark.parametrize(
    ("size", "reason"), [(1_000_000, None), (1_000_001, DropReason.RECORD_TOO_LARGE)]
)
@pytest.mark.parametrize("action", ["create", "update"])
def test_s_com_08_a_record_over_one_million_bytes_is_dropped(
    size: int, reason: DropReason | None, action: str
) -> None:
    scene = Scene()
    path = "com.example.note/new" if action == "create" else scene.paths[3]
    assert scene.fate(scene.commit([Write(action, path, record_of(size))])) is reason  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "reason"), [(200, None), (201, DropReason.TOO_MANY_OPS)])
def test_s_com_09_more_than_200_ops_are_dropped(count: int, reason: DropReason | None) -> None:
    scene = Scene()
    writes = [create(f"com.example.note/{i:03}") for i in range(count)]
    assert scene.fate(scene.commit(writes)) is reason


def test_s_com_10_a_change_that_fits_no_commit_is_told_by_a_sync() -> None:
    scene = Scene()
    # 500 records at once: signed, and never told as a commit.
    writes = [create(f"com.example.note/{i:03}") for i in range(500)]
    scene.commit(writes)
    assert scene.fate(scene.synced(scene.account.repo.commit_block)) is None
    assert scene.state.data == scene.account.repo.data
    assert scene.marks(scene.commit([create("com.example.note/after")])) == 0


@pytest.mark.parametrize("value", [True, False])
def test_s_com_11_too_big_is_not_looked_at(value: bool) -> None:
    scene = Scene()
    assert scene.fate(scene.commit([create()], tooBig=value)) is None


def test_s_com_12_blobs_are_not_looked_at() -> None:
    scene = Scene()
    blobs = [link(b"\x01\x55\x12\x20" + bytes(32))]
    assert scene.fate(scene.commit([create()], blobs=blobs)) is None


@pytest.mark.parametrize("value", [True, False])
def test_s_com_13_rebase_changes_nothing(value: bool) -> None:
    scene = Scene()
    assert scene.fate(scene.commit([create()], rebase=value)) is None


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"action": "rename"}, id="an action that does not exist"),
        pytest.param({"action": "Create"}, id="an action in capitals"),
        pytest.param({"action": ...}, id="no action"),
        pytest.param({"action": 1}, id="a number for an action"),
        pytest.param({"path": 7}, id="a number for a path"),
        pytest.param({"path": ...}, id="no path"),
        pytest.param({"cid": "text"}, id="text for a CID"),
        pytest.param({"cid": b"\x01\x71\x12\x20" + bytes(32)}, id="a byte string for a CID"),
        pytest.param({"cid": b"abc"}, id="any bytes for a CID"),
        pytest.param({"cid": ...}, id="no CID"),
    ],
)
def test_s_com_14_an_op_has_an_action_a_path_and_a_cid(change: dict[str, Any]) -> None:
    scene = Scene()
    fork = scene.fork([create()])
    op = {name: value for name, value in {**fork.ops[0], **change}.items() if value is not ...}
    assert scene.fate(scene.said(fork, ops=[op])) is DropReason.OP_INVALID
    assert scene.fate(scene.said(fork, ops=[7])) is DropReason.OP_INVALID
    assert scene.fate(scene.said(fork, ops={"0": fork.ops[0]})) is DropReason.FIELD_INVALID
    assert scene.fate(scene.said(fork)) is None


@pytest.mark.parametrize("field", ["path", "action", "cid", "prev"])
def test_s_com_14_a_float_in_an_op_spoils_the_frame(field: str) -> None:
    scene = Scene()
    fork = scene.fork([update(scene.paths[3])])
    told = scene.said(fork, ops=[{**fork.ops[0], field: 1.1}])
    assert scene.fate(told) is DropReason.MALFORMED_FRAME


def test_s_com_14_a_field_of_an_op_that_nobody_knows_is_let_be() -> None:
    scene = Scene()
    fork = scene.fork([create()])
    assert scene.fate(scene.said(fork, ops=[{**fork.ops[0], "note": 1}])) is None


SOME = link(cid_of(b"some record"))


@pytest.mark.parametrize(
    ("action", "change"),
    [
        pytest.param("create", {"cid": None}, id="create of nothing"),
        pytest.param("create", {"prev": SOME}, id="create over something"),
        pytest.param("create", {"prev": None}, id="create with a null prev"),
        pytest.param("update", {"cid": None}, id="update to nothing"),
        pytest.param("update", {"prev": None}, id="update with a null prev"),
        pytest.param("update", {"prev": b"abc"}, id="update with any bytes for a prev"),
        pytest.param("delete", {"prev": b"abc"}, id="delete with any bytes for a prev"),
        pytest.param("delete", {"cid": SOME}, id="delete that leaves something"),
        pytest.param("delete", {"prev": None}, id="delete with a null prev"),
    ],
)
def test_s_com_15_cid_and_prev_are_there_or_null_as_the_action_has_them(
    action: str, change: dict[str, Any]
) -> None:
    scene = Scene()
    fork = scene.fork([write_of(scene, action)])
    told = scene.said(fork, ops=[{**fork.ops[0], **change}])
    assert scene.fate(told) is DropReason.OP_INVALID
    assert scene.fate(scene.said(fork)) is None


def write_of(scene: Scene, action: str) -> Write:
    path = scene.paths[5]
    return {"create": create(), "update": update(path), "delete": delete(path)}[action]


@pytest.mark.parametrize("action", ["update", "delete"])
def test_s_com_15_an_update_and_a_delete_tell_what_was_there(action: str) -> None:
    scene = Scene()
    fork = scene.fork([write_of(scene, action)])
    op = {name: value for name, value in fork.ops[0].items() if name != "prev"}
    assert scene.fate(scene.said(fork, ops=[op])) is DropReason.OP_PREV_MISSING


def test_s_com_15_an_update_to_what_was_there_changes_nothing_and_passes() -> None:
    scene = Scene()
    assert scene.fate(scene.commit([create("com.example.note/a")])) is None
    same = create("com.example.note/a")._replace(action="update")
    event = scene.commit([same])
    assert scene.marks(event) == 0


def test_s_com_16_a_path_occurs_once_in_a_commit() -> None:
    scene = Scene()
    path = scene.paths[5]
    fork = scene.fork([update(path, "one")])
    twice = [fork.ops[0], fork.ops[0]]
    assert scene.fate(scene.said(fork, ops=twice)) is DropReason.OP_INVALID
    there_and_back = [fork.ops[0], {"action": "delete", "path": path, "cid": None, "prev": SOME}]
    assert scene.fate(scene.said(fork, ops=there_and_back)) is DropReason.OP_INVALID


def test_s_com_17_a_commit_without_ops_passes() -> None:
    scene = Scene()
    assert scene.fate(scene.commit([])) is None
    assert scene.state.rev == scene.account.repo.rev


def test_s_com_17_a_commit_without_ops_passes_without_any_node_too() -> None:
    scene = Scene()
    fork = scene.fork([])
    assert scene.fate(scene.said(fork, blocks=car([fork.cid], fork.blocks[:1]))) is None


def test_s_com_17_a_commit_without_ops_changes_no_tree() -> None:
    scene = Scene()
    grown = scene.fork([create()])
    hidden = scene.said(grown, ops=[])
    assert scene.fate(hidden) is DropReason.PREV_DATA_MISMATCH
    bare = scene.said(grown, ops=[], blocks=car([grown.cid], grown.blocks[:1]))
    assert scene.fate(bare) is DropReason.PREV_DATA_MISMATCH


def test_s_com_18_what_is_not_signed_is_held_against_what_is() -> None:
    scene = Scene()
    path = scene.paths[5]
    fork = scene.fork([update(path)])
    op = fork.ops[0]
    lies: list[dict[str, Any]] = [
        {"ops": [{**op, "cid": SOME}]},
        {"ops": [{**op, "prev": SOME}]},
        {"ops": [{**op, "path": scene.paths[6]}]},
        {"ops": []},
        {"prevData": SOME},
        {"commit": SOME},
    ]
    for lie in lies:
        assert scene.fate(scene.said(fork, **lie)) is not None, lie
    # `since` cannot be checked against anything but what came before, and `time` against nothing.
    assert scene.marks(scene.said(fork, since=scene.rev(), time="1999-01-01T00:00:00Z")) != 0


def test_s_com_19_a_prev_of_old_times_is_let_be_as_any_unknown_field() -> None:
    scene = Scene()
    event = scene.commit([create()], prev=SOME)
    assert scene.fate(event) is None
    assert b"dprev\xd8\x2a" in event.before + event.after


def test_s_com_20_time_is_not_compared_with_any_clock() -> None:
    scene = Scene()
    assert scene.fate(scene.commit([create()], time="1985-04-12T23:20:50.123Z")) is None
    late = scene.commit([create("com.example.note/b")], time="2999-12-31T23:59:59+01:00")
    assert scene.fate(late) is None
    odd = scene.commit([create("com.example.note/c")], time="yesterday")
    assert scene.fate(odd) is DropReason.FIELD_INVALID
