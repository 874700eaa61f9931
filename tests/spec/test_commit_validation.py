"""S-VAL: what a relay has to check of a #commit."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest

from common.envelope import NEVER_SEEN, Mark
from common.verdict import WAIVABLE, Drop, DropReason, Level
from ingest.did_document import Broken, NotFound
from ingest.judge import REV_SKEW_S, Accept, NeedFreshIdentity, NeedStatus
from ingest.node import MAX_ENTRIES, MAX_ENTRIES_IN_ALL
from persist.outgoing import outgoing_head
from tests.simnet import mst
from tests.simnet.drisl import car, cid_of, encode, link
from tests.simnet.events import Event
from tests.simnet.repo import Commit, Write
from tests.spec.line import Line
from tests.spec.scene import (
    STRANGER,
    STRUCTURE,
    Scene,
    all_nodes,
    create,
    create_op,
    delete,
    keys_at,
    new_key,
    note,
    update,
)


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        (Broken("no signing key"), DropReason.IDENTITY_BROKEN),
        (NotFound("tombstoned"), DropReason.IDENTITY_NOT_FOUND),
    ],
)
def test_s_val_01_an_account_without_a_working_identity_says_nothing(
    identity: Broken | NotFound, reason: DropReason
) -> None:
    scene = Scene()
    commit = scene.commit([create()])
    assert scene.fate(commit, identity=identity) is reason
    sync = scene.synced(scene.account.repo.commit_block)
    assert scene.fate(sync, identity=identity) is reason


def test_s_val_01_what_cannot_be_told_now_is_no_verdict() -> None:
    """While nobody's documents can be had, events wait as long as it takes."""
    line = Line()
    line.directory_is_down = True
    line.take(line.scene.commit([create()]))
    for _ in range(20):
        line.passes(600.0)
        line.fails()
    assert (line.sent, line.drops) == ([], [])
    line.directory_is_down = False
    line.answer()
    assert len(line.sent) == 1


def test_s_val_01_nothing_is_dropped_at_a_bound_while_nobody_can_be_told() -> None:
    line = Line(did_held_bytes=10_000)
    line.directory_is_down = True
    line.take(line.scene.commit([create()]))
    line.fails()
    line.passes(60.0)
    for i in range(10):
        line.take(line.scene.commit([create(f"com.example.note/{i}")]))
    assert (line.sent, line.drops) == ([], [])


def test_s_val_01_one_account_that_cannot_be_told_for_long_is_given_up() -> None:
    line = Line()
    line.take(line.scene.commit([create()]))
    for _ in range(20):
        line.passes(600.0)
        line.fails()
    assert line.reasons == [DropReason.IDENTITY_UNRESOLVED]


def test_s_val_02_only_the_accounts_own_host_commits_for_it() -> None:
    scene = Scene()
    commit = scene.commit([create()])
    sync = scene.synced(scene.account.repo.commit_block)
    for event in (commit, sync):
        assert scene.fate(event, source=STRANGER) is DropReason.HOST_NOT_AUTHORITATIVE
    assert scene.fate(commit) is None


@pytest.mark.parametrize("status", ["deactivated", "suspended", "takendown", "deleted", None, "x"])
def test_s_val_03_an_account_that_is_not_active_commits_nothing(status: str | None) -> None:
    scene = Scene()
    scene.state = scene.state._replace(active=False, status=status)
    commit = scene.commit([create()])
    assert scene.fate(commit) is DropReason.ACCOUNT_INACTIVE
    sync = scene.synced(scene.account.repo.commit_block)
    assert scene.fate(sync) is DropReason.ACCOUNT_INACTIVE
    # Not before its host was asked.
    assert isinstance(scene.verdict(commit, asked=False), NeedStatus)


def test_s_val_04_what_is_signed_with_another_key_is_dropped() -> None:
    scene, other = Scene(), Scene(seed="mallory")
    fork = scene.fork([create()], key=other.account.key)
    assert scene.fate(scene.said(fork)) is DropReason.SIGNATURE_INVALID
    assert scene.fate(scene.synced(fork.block, rev=fork.rev)) is DropReason.SIGNATURE_INVALID


def test_s_val_04_a_failed_signature_asks_for_the_newest_document_once() -> None:
    scene = Scene()
    old = scene.identity()
    new_key(scene.account)
    event = scene.commit([create()])
    assert isinstance(scene.verdict(event, identity=old, fresh=False), NeedFreshIdentity)
    assert scene.fate(event, identity=old) is DropReason.SIGNATURE_INVALID
    assert scene.fate(event) is None


def test_s_val_04_the_former_key_is_of_no_more_use() -> None:
    scene = Scene()
    former = scene.account.key
    new_key(scene.account)
    assert (
        scene.fate(scene.said(scene.fork([create()], key=former))) is DropReason.SIGNATURE_INVALID
    )


def test_s_val_05_the_message_and_the_signed_commit_say_the_same() -> None:
    scene, other = Scene(), Scene(seed="bob")
    fork = scene.fork([create()])
    assert scene.fate(scene.said(fork, rev=scene.rev())) is DropReason.COMMIT_MISMATCH
    assert other.fate(other.said(fork, repo=other.account.did)) is DropReason.COMMIT_MISMATCH
    wrong_cid = scene.said(fork, commit=link(cid_of(b"x")))
    assert scene.fate(wrong_cid) is DropReason.COMMIT_MISMATCH


def with_ops(scene: Scene, fork: Commit, ops: list[dict[str, Any]]) -> DropReason | None:
    return scene.fate(scene.said(fork, ops=ops))


def test_s_val_06_an_op_that_is_left_out_is_missed() -> None:
    scene = Scene()
    writes = [create(), update(scene.paths[3]), delete(scene.paths[20])]
    fork = scene.fork(writes)
    for i in range(3):
        rest = fork.ops[:i] + fork.ops[i + 1 :]
        assert with_ops(scene, fork, rest) is DropReason.PREV_DATA_MISMATCH, i
    assert with_ops(scene, fork, fork.ops) is None


def test_s_val_06_an_op_that_was_not_done_is_missed() -> None:
    scene = Scene()
    fork = scene.fork([create()])
    # With the whole tree, so that nothing is merely out of sight.
    nodes = {node.cid: node.raw for node in all_nodes(scene.account.repo.root)}
    known = {cid for cid, _ in fork.blocks}
    fork.blocks += [(cid, raw) for cid, raw in nodes.items() if cid and cid not in known]
    new, other = fork.ops[0]["cid"], link(cid_of(b"other"))
    untrue: list[dict[str, Any]] = [
        {"action": "create", "path": "com.example.note/no", "cid": new},
        {"action": "create", "path": scene.paths[2], "cid": new},
        {"action": "update", "path": "com.example.note/no", "cid": new, "prev": other},
        {"action": "update", "path": scene.paths[2], "cid": new, "prev": other},
        {"action": "delete", "path": scene.paths[2], "cid": None, "prev": other},
    ]
    for op in untrue:
        assert with_ops(scene, fork, [*fork.ops, op]) is DropReason.OP_MISMATCH, op
    never = {"action": "delete", "path": "com.example.note/never", "cid": None, "prev": other}
    assert with_ops(scene, fork, [*fork.ops, never]) is DropReason.PREV_DATA_MISMATCH
    assert with_ops(scene, fork, fork.ops) is None


@pytest.mark.parametrize("action", ["update", "delete"])
def test_s_val_06_what_was_there_before_is_held_against_the_tree_before(action: str) -> None:
    scene = Scene()
    path = scene.paths[9]
    fork = scene.fork([update(path) if action == "update" else delete(path)])
    lie = {**fork.ops[0], "prev": link(cid_of(b"something else"))}
    assert with_ops(scene, fork, [lie]) is DropReason.PREV_DATA_MISMATCH


def test_s_val_06_a_creation_that_replaced_something_is_missed() -> None:
    scene = Scene()
    fork = scene.fork([update(scene.paths[9])])
    lie = {name: fork.ops[0][name] for name in ("path", "cid")} | {"action": "create"}
    assert with_ops(scene, fork, [lie]) is DropReason.PREV_DATA_MISMATCH


def test_s_val_06_prev_data_may_be_of_no_other_tree_though_the_state_is() -> None:
    """What does not fit in itself is invalid, and never merely discontinuous."""
    scene = Scene()
    fork = scene.fork([create()])
    told = scene.said(fork, prevData=link(cid_of(b"elsewhere")))
    state = scene.state._replace(data=cid_of(b"elsewhere"))
    assert scene.fate(told, state=state) is DropReason.PREV_DATA_MISMATCH
    assert scene.fate(told, state=NEVER_SEEN) is DropReason.PREV_DATA_MISMATCH


def test_s_val_06_many_ops_at_once_are_undone_in_any_order() -> None:
    scene = Scene(records=300)
    paths = scene.paths
    writes = [create(f"com.example.note/{i}") for i in range(40)]
    writes += [update(path) for path in paths[0:100:3]] + [delete(path) for path in paths[1:200:3]]
    scene.rng.shuffle(writes)
    assert scene.fate(scene.commit(writes)) is None


def test_s_val_06_what_is_remembered_of_earlier_commits_proves_later_ones() -> None:
    """Every test of this folder judges with and without that; here it is seen to be used."""
    scene = Scene(records=300)
    for i in range(20):
        assert scene.marks(scene.commit([create(f"com.example.note/{i}")])) == 0
        assert scene.marks(scene.commit([update(scene.paths[7 * i], str(i))])) == 0
    assert scene.memory.hits > 10


def test_s_val_07_a_frame_over_five_million_bytes_is_dropped() -> None:
    scene = Scene()
    fork = scene.fork([create()])
    frame = scene.said(fork, note="").frame(7)
    missing = 5_000_001 - len(frame)
    big = scene.said(fork, note="n" * (missing - 4)).frame(7)
    assert len(big) == 5_000_001
    assert scene.fate(big) is DropReason.FRAME_TOO_LARGE
    # Whatever it is: it is not even looked at.
    assert scene.fate(b"\xff" * 5_000_001) is DropReason.FRAME_TOO_LARGE
    assert scene.fate(b"\xff" * 5_000_000) is DropReason.MALFORMED_FRAME


def test_s_val_08_repository_data_of_wrong_structure_is_dropped() -> None:
    scene = Scene()
    keys = keys_at(0, 2)
    upside_down = mst.Node(0, keys[::-1], [cid_of(b"a"), cid_of(b"b")], [None] * 3)
    record = note()
    upside_down.values[0] = cid_of(encode(record))  # type: ignore[index]
    event = scene.of_tree(
        upside_down, cid_of(b"?"), [create_op(keys[1], record)], records=[encode(record)]
    )
    assert scene.fate(event) in STRUCTURE
    unsigned = {"did": scene.account.did, "rev": scene.rev(), "prev": None, "version": 3}
    block = encode({**unsigned, "sig": scene.account.key.sign(encode(unsigned))})
    bare = Commit(
        scene.account.did, str(unsigned["rev"]), scene.account.repo.rev, cid_of(block), block,
        scene.account.repo.data, [], [(cid_of(block), block)],
    )  # fmt: skip
    assert scene.fate(scene.said(bare)) is DropReason.COMMIT_MALFORMED


def test_s_val_09_a_rev_that_is_not_newer_is_ignored() -> None:
    scene = Scene()
    old = scene.fork([create("com.example.note/old")])
    event = scene.commit([create()])
    assert scene.fate(event) is None
    known = scene.state
    assert scene.fate(event) is DropReason.REV_NOT_NEWER
    assert scene.fate(scene.said(old)) is DropReason.REV_NOT_NEWER
    assert scene.fate(scene.synced(old.block, rev=old.rev)) is DropReason.REV_NOT_NEWER
    assert scene.state == known


def test_s_val_10_a_rev_too_far_ahead_of_our_clock_is_dropped() -> None:
    scene = Scene()
    assert 120 <= REV_SKEW_S <= 600
    for ahead_s, reason in ((-1, None), (1, DropReason.REV_IN_FUTURE)):
        rev = scene.rev(ahead_s=30 + REV_SKEW_S + ahead_s)
        fork = scene.fork([create()], rev=rev)
        assert scene.fate(scene.said(fork), state=scene.state) is reason
        assert scene.fate(scene.synced(fork.block, rev=rev), state=scene.state) is reason


@pytest.mark.parametrize("did", ["did:web:alice.example.com", "did:plc:" + "a" * 24])
def test_s_val_10_what_waits_for_the_clock_is_not_dropped_at_any_bound(did: str) -> None:
    """It shows soon whose clock is wrong; until then nothing may be lost."""
    scene = Scene()
    scene.account.did = did
    scene.account.repo = scene.account.repo._replace(did=did)
    line = Line(scene=scene, did_held_bytes=10_000, host_held_bytes=20_000)
    for _ in range(20):
        rev = scene.rev(ahead_s=REV_SKEW_S + 90)
        line.take(scene.said(scene.fork([create()], rev=rev)))
    assert (line.sent, line.drops) == ([], [])


def test_s_val_10_a_rev_may_be_as_old_as_it_likes() -> None:
    scene = Scene(records=None)
    fork = scene.fork([create()], rev="2222222222222")
    assert scene.fate(scene.said(fork)) is None


def test_s_val_11_since_and_prev_data_are_held_against_what_we_have() -> None:
    scene = Scene()
    assert scene.marks(scene.commit([create("com.example.note/1")])) == 0
    scene.commit([create("com.example.note/missed")])
    behind = scene.commit([create("com.example.note/3")])
    assert scene.marks(behind, state=scene.state) == Mark.DISCONTINUOUS
    # Each of the two alone is enough.
    state = scene.state._replace(rev=scene.account.repo.rev, data=scene.account.repo.data)
    fork = scene.fork([create("com.example.note/4")])
    event = scene.said(fork)
    assert scene.marks(event, state=state) == 0
    assert scene.marks(event, state=state._replace(data=cid_of(b"x"))) == Mark.DISCONTINUOUS
    assert scene.marks(scene.said(fork, since=scene.rev()), state=state) == Mark.DISCONTINUOUS


@pytest.mark.parametrize("action", ["create", "update"])
def test_s_val_12_the_record_of_each_op_is_in_the_blocks(action: str) -> None:
    scene = Scene()
    write = create() if action == "create" else update(scene.paths[3])
    fork = scene.fork([write])
    assert write.record is not None
    gone = cid_of(encode(write.record))
    blocks = [(cid, block) for cid, block in fork.blocks if cid != gone]
    event = scene.said(fork, blocks=car([fork.cid], blocks))
    assert scene.fate(event) is DropReason.RECORD_MISSING


def commit_of_block(scene: Scene, block: bytes) -> Event:
    """A commit whose new record is any bytes at all."""
    path = b"com.example.note/raw"
    root = mst.put(scene.account.repo.root, path, cid_of(block))
    op = {"action": "create", "path": path.decode(), "cid": link(cid_of(block))}
    return scene.of_tree(root, scene.account.repo.data, [op], records=[block])


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"\xff\xff", id="no CBOR"),
        pytest.param(b"", id="nothing"),
        pytest.param(encode([1, 2]), id="an array"),
        pytest.param(encode("text"), id="a text"),
        pytest.param(encode({"a": 1}) + b"\x00", id="bytes behind it"),
        pytest.param(b"\xa1aa\xf9\x3c\x00", id="a float"),
        pytest.param(b"\xa2ab\x01aa\x02", id="keys out of order"),
        pytest.param(b"\xa1aa\x18\x01", id="a number longer than needed"),
    ],
)
def test_s_val_13_a_record_is_a_map_in_canonical_cbor(block: bytes) -> None:
    scene = Scene()
    assert scene.fate(commit_of_block(scene, block)) is DropReason.RECORD_MALFORMED
    assert scene.fate(commit_of_block(scene, encode({"a": 1}))) is None


@pytest.mark.parametrize(("depth", "passes"), [(32, True), (33, False)])
def test_s_val_13_a_record_is_no_deeper_than_anybody_needs(depth: int, passes: bool) -> None:
    scene = Scene()
    record: Any = []
    for _ in range(depth - 2):
        record = [record]
    fate = scene.fate(commit_of_block(scene, encode({"a": record})))
    assert fate is (None if passes else DropReason.RECORD_MALFORMED)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param({}, id="an empty map"),
        pytest.param({"$type": "com.example.never.heard.of"}, id="an unknown type"),
        pytest.param({"$type": 7}, id="a type that is a number"),
        pytest.param({"$type": "app.bsky.feed.post"}, id="a post without its text"),
    ],
)
def test_s_val_14_no_record_is_held_against_a_lexicon(record: dict[str, Any]) -> None:
    scene = Scene()
    event = scene.commit([Write("create", "app.bsky.feed.post/x", record)])
    assert scene.fate(event) is None


def test_s_val_15_a_bad_record_costs_its_own_commit_and_nothing_after_it() -> None:
    scene = Scene()
    assert scene.fate(commit_of_block(scene, b"\xff")) is DropReason.RECORD_MALFORMED
    assert scene.marks(scene.commit([create()])) == 0


def test_s_val_15_a_link_of_an_unusual_hash_within_a_record_is_let_be() -> None:
    scene = Scene()
    exotic = cbor2.CBORTag(42, b"\x00\x01\x55\x13\x40" + bytes(64))
    event = scene.commit([Write("create", "com.example.note/x", {"blob": exotic})])
    assert scene.fate(event) is None


PATHS_OF_WRONG_FORM = [
    "", "/", "com.example.note", "com.example.note/", "/com.example.note/x", "com.example.note/x/",
    "com.example.note/x/y", "example.note/x", "com.example.note/.", "com.example.note/..",
    "com.example.note/a b", "com.example.note/ä", "com.exämple.note/x", "com.example.note/a@b",
    "com.example.note/" + "a" * 513, "com..note/x", "com.example.1note/x", "-com.example.note/x",
    "com.example." + "n" * 64 + "/x", "a." * 158 + "note/x", "com.example.note\x00/x",
]  # fmt: skip
PATHS = [
    "com.example.note/a", "com.example.note/" + "a" * 512, "com.example.note/A-Za.z0_9:~-",
    "com.example.note/...", "com.example." + "n" * 63 + "/x", "a-1.b2.c/self",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS_OF_WRONG_FORM)
def test_s_val_16_a_path_of_wrong_form_is_dropped(path: str) -> None:
    scene = Scene()
    assert scene.fate(scene.commit([create(path)])) is DropReason.OP_INVALID


@pytest.mark.parametrize("path", PATHS)
def test_s_val_16_a_path_of_right_form_passes(path: str) -> None:
    scene = Scene()
    assert scene.fate(scene.commit([create(path)])) is None


def test_s_val_17_order_and_depth_are_checked_of_an_account_in_good_standing_too() -> None:
    scene = Scene()
    assert scene.fate(scene.commit([create("com.example.note/good")])) is None
    record = note()
    low, high = keys_at(0, 1)[0], keys_at(1, 1)[0]
    both = sorted([low, high])
    values = [cid_of(encode(record)), cid_of(b"v")]
    too_low = mst.Node(0, both, values, [None] * 3)
    event = scene.of_tree(
        too_low, cid_of(b"?"), [create_op(both[0], record)], records=[encode(record)]
    )
    assert scene.fate(event) in STRUCTURE
    # What we hold is as it was, and the next honest commit follows on it.
    assert scene.marks(scene.commit([create("com.example.note/next")])) == 0


def test_s_val_18_a_node_of_unlikely_many_entries_is_dropped() -> None:
    scene = Scene()
    assert 64 <= MAX_ENTRIES <= 1024
    keys = keys_at(0, MAX_ENTRIES + 1)
    record = note()
    for count, dropped in ((MAX_ENTRIES, False), (MAX_ENTRIES + 1, True)):
        values = [cid_of(encode(record))] * count
        root = mst.Node(0, keys[:count], values, [None] * (count + 1))
        before = mst.Node(0, keys[1:count], values[1:], [None] * count)
        mst.seal(before)
        assert before.cid is not None
        event = scene.of_tree(
            root, before.cid, [create_op(keys[0], record)], records=[encode(record)]
        )
        fate = scene.fate(event, state=NEVER_SEEN)
        assert (fate in STRUCTURE) if dropped else fate is None


def test_s_val_18_no_node_before_had_unlikely_many_entries_either() -> None:
    """Creations that stand between full nodes: without them, those would have been one."""
    value = cid_of(encode(note()))
    first, second = keys_at(1, 300)[99::200]
    low = keys_at(0, 2000)
    spans = (
        [key for key in low if key < first],
        [key for key in low if first < key < second],
        [key for key in low if key > second],
    )
    leaves = [
        mst.Node(0, keys[:MAX_ENTRIES], [value] * MAX_ENTRIES, [None] * (MAX_ENTRIES + 1))
        for keys in spans
    ]
    assert all(len(leaf.keys) == MAX_ENTRIES for leaf in leaves)
    root = mst.Node(1, [first, second], [value] * 2, leaves)
    ops = [create_op(first, note()), create_op(second, note())]
    event = Scene().of_tree(root, cid_of(b"?"), ops, records=[encode(note())])
    assert Scene().fate(event, state=NEVER_SEEN) in STRUCTURE


@pytest.mark.parametrize(("more", "passes"), [(0, True), (1, False)])
def test_s_val_18_a_tree_with_more_entries_than_any_commit_needs_is_dropped(
    more: int, passes: bool
) -> None:
    value = cid_of(encode(note()))
    high: list[bytes] = []
    low: list[bytes] = []
    children: list[mst.Node] = []
    left, number = MAX_ENTRIES_IN_ALL + more, 0
    while left:
        key = f"com.example.note/{number:06}".encode()
        depth, number = mst.depth_of(key), number + 1
        if depth == 0 and len(low) < 250:
            low.append(key)
            left -= 1
        elif depth == 1 and len(low) == 250:
            children.append(mst.Node(0, low, [value] * len(low), [None] * (len(low) + 1)))
            high.append(key)
            low = []
            left -= 1

    def tree(last: list[bytes]) -> mst.Node:
        leaf = mst.Node(0, last, [value] * len(last), [None] * (len(last) + 1))
        return mst.Node(1, high, [value] * len(high), [*children, leaf])

    before = tree(low[:-1])
    mst.seal(before)
    assert before.cid is not None
    scene = Scene()
    op = create_op(low[-1], note())
    event = scene.of_tree(tree(low), before.cid, [op], records=[encode(note())])
    fate = scene.fate(event, state=NEVER_SEEN)
    assert fate is None if passes else fate in STRUCTURE


def test_s_val_19_blocks_may_come_in_any_order_twice_and_unneeded() -> None:
    scene = Scene()
    for arrange in (
        lambda blocks: blocks[::-1],
        lambda blocks: blocks + blocks,
        lambda blocks: [*blocks, (cid_of(b"\x01"), b"\x01"), (cid_of(b"\xff"), b"\xff")],
    ):
        fork = scene.fork([create(), update(scene.paths[3])])
        event = scene.said(fork, blocks=car([fork.cid], arrange(fork.blocks)))
        assert scene.fate(event, state=scene.state) is None


def test_s_val_19_a_gross_excess_of_blocks_is_abuse() -> None:
    scene = Scene()
    fork = scene.fork([create()])
    filler = [encode(i) for i in range(45_000)]
    many = [*fork.blocks, *((cid_of(block), block) for block in filler)]
    event = scene.said(fork, blocks=car([fork.cid], many))
    assert scene.fate(event) is DropReason.CAR_TOO_MANY_BLOCKS


def test_s_val_20_blocks_of_the_past_change_nothing() -> None:
    scene = Scene()
    before = [(node.cid, node.raw) for node in all_nodes(scene.account.repo.root) if node.cid]
    fork = scene.fork([update(scene.paths[3]), delete(scene.paths[7])])
    have = {cid for cid, _ in fork.blocks}
    blocks = [*fork.blocks, *((cid, raw) for cid, raw in before if cid not in have)]
    assert scene.fate(scene.said(fork, blocks=car([fork.cid], blocks))) is None


def test_s_val_21_what_is_invalid_is_dropped_and_moves_no_state() -> None:
    scene = Scene()
    known = scene.state
    fork = scene.fork([create()], key=Scene(seed="mallory").account.key)
    verdict = scene.verdict(scene.said(fork))
    assert isinstance(verdict, Drop)
    assert scene.state == known


def test_s_val_22_consumers_get_all_that_they_need_to_check_for_themselves() -> None:
    scene = Scene()
    event = scene.commit([create()])
    raw = event.frame(77)
    found = scene.read(raw)
    assert not isinstance(found, Drop)
    head, _length = outgoing_head(raw, found.seq_start, found.seq_end, 123_456)
    sent = head + raw[found.seq_end :]
    assert sent.endswith(event.frame(123_456))


@pytest.mark.parametrize("reason", sorted(WAIVABLE))
def test_s_val_23_a_host_that_is_only_observed_is_waived_the_inversion(reason: DropReason) -> None:
    def told(scene: Scene) -> Any:
        fork = scene.fork([update(scene.paths[3])])
        op = {name: value for name, value in fork.ops[0].items() if name != "prev"}
        return {
            DropReason.PREV_DATA_MISSING: lambda: scene.said(fork, prevData=...),
            DropReason.PREV_DATA_MISMATCH: lambda: scene.said(fork, prevData=link(cid_of(b"x"))),
            DropReason.OP_PREV_MISSING: lambda: scene.said(fork, ops=[op]),
            DropReason.NODE_MISSING: lambda: scene.said(
                fork,
                blocks=car([fork.cid], [fork.blocks[0], *fork.blocks[2:]]),
            ),
        }[reason]()

    scene = Scene()
    assert scene.fate(told(scene)) is reason
    observed = scene.host._replace(level=Level.OBSERVE)
    verdict = scene.verdict(told(scene), source=observed)
    assert isinstance(verdict, Accept)
    assert verdict.waived is reason
    assert verdict.marks & Mark.WAIVED


def test_s_val_23_nothing_else_is_waived() -> None:
    scene = Scene()
    observed = scene.host._replace(level=Level.OBSERVE)
    forged = scene.fork([create()], key=Scene(seed="mallory").account.key)
    assert scene.fate(scene.said(forged), source=observed) is DropReason.SIGNATURE_INVALID
    fork = scene.fork([create()])
    lie = {**fork.ops[0], "cid": link(cid_of(b"x"))}
    assert scene.fate(scene.said(fork, ops=[lie]), source=observed) is not None
    stranger = STRANGER._replace(level=Level.OBSERVE)
    assert scene.fate(scene.said(fork), source=stranger) is DropReason.HOST_NOT_AUTHORITATIVE


def test_s_val_23_no_lie_hides_behind_a_node_that_did_not_come() -> None:
    """What is waived is that something cannot be told, not that something is untrue."""
    middle = keys_at(1, 8)[-1]
    low = keys_at(0, 60)
    left = [key for key in low if key < middle]
    *right, gone = [key for key in low if key > middle]
    record = encode(note())
    value = cid_of(record)

    def leaf(keys: list[bytes]) -> mst.Node:
        return mst.Node(0, keys, [value] * len(keys), [None] * (len(keys) + 1))

    def op(cid: bytes) -> dict[str, Any]:
        path = left[0].decode()
        return {"action": "update", "path": path, "cid": link(cid), "prev": link(cid_of(b"old"))}

    unseen = leaf(right)
    root = mst.Node(1, [middle], [value], [leaf(left), unseen])
    mst.seal(root)
    deleted = {"action": "delete", "path": gone.decode(), "cid": None, "prev": link(value)}
    other = encode(note("another"))
    scene = Scene()
    observed = scene.host._replace(level=Level.OBSERVE)
    for ops, source, reason in (
        ([deleted, op(value)], scene.host, DropReason.NODE_MISSING),
        ([deleted, op(value)], observed, None),
        ([deleted, op(cid_of(other))], scene.host, DropReason.OP_MISMATCH),
        ([deleted, op(cid_of(other))], observed, DropReason.OP_MISMATCH),
    ):
        event = scene.of_tree(
            root, cid_of(b"?"), ops, records=[record, other], leave_out=unseen.cid
        )
        assert scene.fate(event, source=source, state=scene.state) is reason
