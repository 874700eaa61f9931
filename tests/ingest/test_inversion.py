"""Is what the relay finds in a tree what the slow model finds?

Thousands of random trees and lists of operations, sound and damaged. Where all of a tree is there,
the two must agree on every case, whatever was done to it; where only the proof of it is, the
sound ones must pass.

TREE_CASES multiplies the number of cases (1: a minute or less).
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Sequence

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.event import Op
from common.verdict import DropReason
from ingest.inversion import EMPTY_TREE_CID, BadTree, undo
from ingest.node import Node
from tests.ingest import tree_model as model
from tests.ingest.tree_damage import KINDS, Kind, damaged, misreported
from tests.ingest.tree_model import Change, Records, Tree, block_of, link

TIMES = float(os.environ.get("TREE_CASES", "1"))
MANY = settings(
    max_examples=int(150 * TIMES), deadline=None, suppress_health_check=list(HealthCheck)
)
SEEDS = st.integers(0, 2**48)
SIZES = st.one_of(st.integers(0, 6), st.integers(0, 60), st.integers(60, 330))
COUNTS = st.one_of(st.integers(1, 3), st.integers(1, 30), st.integers(30, 200))


def some_records(rng: random.Random, count: int) -> Records:
    records: Records = {}
    for _ in range(count):
        name = rng.choice(["app.bsky.feed.like/3k", "app.bsky.feed.post/3k", "a.b.c/", "a.b.cd/x"])
        key = f"{name}{rng.randrange(10 ** rng.randrange(1, 8))}".encode()
        # Rare keys, so that small trees are tall as well.
        if rng.random() < 0.1:
            key = rng.choice(DEEP)
        records[key] = model.cid_of(rng.randbytes(8))
    return records


DEEP = [key for n in range(3000) if model.depth(key := f"a.b.c/{n}".encode()) > 2]
DEEP += [f"a.b.c/{n}".encode() for n in (5871, 27069, 148331)]


def some_changes(rng: random.Random, records: Records, count: int) -> list[Change]:
    """True changes of these records, no path twice."""
    weights = rng.choice([(90, 5, 5), (1, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0)])
    changes: dict[bytes, Change] = {}
    for _ in range(count):
        action = rng.choices(["create", "update", "delete"], weights)[0]
        if action == "create":
            key = rng.choice(list(some_records(rng, 3)))
            if key in records or key in changes:
                continue
            changes[key] = Change(action, key.decode(), model.cid_of(rng.randbytes(8)), None)
        elif records:
            key = rng.choice(list(records))
            cid = model.cid_of(rng.randbytes(8)) if action == "update" else None
            changes.setdefault(key, Change(action, key.decode(), cid, records[key]))
    return list(changes.values())


def as_ops(changes: Sequence[Change]) -> list[Op]:
    return [Op(*change) for change in changes]


def judged(tree: Tree, changes: Sequence[Change]) -> bytes | BadTree:
    return undo(dict(tree.blocks), tree.root, as_ops(changes))


def agree(tree: Tree, changes: Sequence[Change]) -> bool:
    """Hold the relay against the model → whether the model could tell."""
    found = judged(tree, changes)
    try:
        expected = model.verdict(tree.blocks, tree.root, changes)
    except model.Incomplete:
        return False
    assert (None if isinstance(found, BadTree) else found) == expected, found
    return True


@MANY
@given(SEEDS, SIZES, COUNTS)
def test_operations_are_taken_back_to_the_root_before(seed: int, size: int, count: int) -> None:
    rng = random.Random(seed)
    records = some_records(rng, size)
    before = model.build(records).root
    for _ in range(6):
        changes = some_changes(rng, records, count)
        after = model.made(records, changes)
        tree = model.build(after)
        # With no more than the proof, and in any order.
        needed = model.proof(tree, after, (change.path.encode() for change in changes))
        blocks = {cid: tree.blocks[cid] for cid in needed}
        rng.shuffle(changes)
        assert judged(Tree(tree.root, blocks), changes) == before
        assert judged(tree, changes) == before
        # A lie among them never gets there.
        for _ in range(4):
            told = misreported(rng, changes, after)
            expected = model.taken_back(after, told)
            for given_blocks in (blocks, tree.blocks):
                found = judged(Tree(tree.root, given_blocks), told)
                if isinstance(found, bytes):
                    assert expected is not None
                    if found != model.build(expected).root:
                        # The last key above a node that did not come was taken away: that may
                        # have no keys either. No root is like it, so no honest prevData is.
                        assert given_blocks is blocks
                        assert cbor2.loads(tree.blocks[found])["e"] == []
                elif given_blocks is tree.blocks:
                    assert expected is None


@MANY
@given(SEEDS, SIZES, COUNTS, st.sampled_from(KINDS))
def test_a_damaged_tree_is_told_from_a_tree(seed: int, size: int, count: int, kind: Kind) -> None:
    rng = random.Random(seed)
    records = some_records(rng, min(size, 150))
    changes = some_changes(rng, records, count)
    tree = model.build(model.made(records, changes))
    for _ in range(20):
        crooked = damaged(rng, tree, kind)
        if crooked is not None:
            agree(crooked, changes)


# --- what is wrong, by its reason ---


RECORDS = {f"a.b.c/{n:03}".encode(): model.cid_of(bytes([n])) for n in range(120)}
NEW = model.cid_of(b"new")
CREATE = Change("create", "a.b.c/0455", NEW, None)
UPDATE = Change("update", "a.b.c/017", NEW, RECORDS[b"a.b.c/017"])
DELETE = Change("delete", "a.b.c/080", None, RECORDS[b"a.b.c/080"])
ALL = [CREATE, UPDATE, DELETE]


def commit_of(changes: Sequence[Change], before: Records = RECORDS) -> Tree:
    """The tree after, with no more than the proof of the changes."""
    after = model.made(before, changes)
    tree = model.build(after)
    needed = model.proof(tree, after, (change.path.encode() for change in changes))
    return Tree(tree.root, {cid: tree.blocks[cid] for cid in needed})


def reason_of(tree: Tree, changes: Sequence[Change]) -> DropReason | None:
    found = judged(tree, changes)
    return found.reason if isinstance(found, BadTree) else None


def test_the_order_of_operations_has_no_meaning() -> None:
    tree = commit_of(ALL)
    for changes in itertools.permutations(ALL):
        assert judged(tree, changes) == model.build(RECORDS).root


def test_the_nodes_are_taken_out_and_nothing_else() -> None:
    tree = commit_of(ALL)
    blocks = tree.blocks | {NEW: b"new", model.cid_of(b"commit"): b"commit"}
    nodes: dict[bytes, Node] = {}
    assert undo(blocks, tree.root, as_ops(ALL), nodes) == model.build(RECORDS).root
    assert blocks == {NEW: b"new", model.cid_of(b"commit"): b"commit"}
    assert nodes.keys() == tree.blocks.keys()


def test_a_change_not_told_leads_to_another_root() -> None:
    for told in itertools.combinations(ALL, 2):
        found = judged(commit_of(ALL), told)
        assert isinstance(found, bytes)
        assert found != model.build(RECORDS).root


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(CREATE._replace(cid=model.cid_of(b"x")), id="another record created"),
        pytest.param(CREATE._replace(path="a.b.c/0456"), id="another path created"),
        pytest.param(UPDATE._replace(cid=model.cid_of(b"x")), id="another record updated"),
        pytest.param(UPDATE._replace(path="a.b.c/0175"), id="another path updated"),
        pytest.param(DELETE._replace(path="a.b.c/081"), id="another path deleted"),
        pytest.param(DELETE._replace(path="a.b.c/017"), id="a path deleted that is there"),
        pytest.param(UPDATE._replace(prev=b"\0" * 36), id="an update of what is no CID"),
        pytest.param(DELETE._replace(prev=DELETE.prev + b"\0"), id="a delete of what is no CID"),  # type: ignore[operator]
    ],
)
def test_an_operation_that_the_tree_denies_is_a_mismatch(lie: Change) -> None:
    told = [lie if lie.action == change.action else change for change in ALL]
    assert reason_of(commit_of(ALL), told) is DropReason.OP_MISMATCH
    # And before what is only missing, which a host may be waived.
    others = [change._replace(prev=None) for change in told if change.action != lie.action]
    assert reason_of(commit_of(ALL), [*others, lie]) is DropReason.OP_MISMATCH
    less = commit_of(ALL)
    for cid in less.blocks.keys() - way_to(less, lie.path):
        blocks = {name: raw for name, raw in less.blocks.items() if name != cid}
        assert reason_of(Tree(less.root, blocks), told) is DropReason.OP_MISMATCH


def way_to(tree: Tree, path: str) -> set[bytes]:
    """The nodes that a look at one path needs."""
    return set(model.way(tree, path.encode()))


def test_a_missing_prev_has_its_own_reason() -> None:
    for change in (UPDATE, DELETE):
        told = [change._replace(prev=None) if other is change else other for other in ALL]
        assert reason_of(commit_of(ALL), told) is DropReason.OP_PREV_MISSING


def test_each_node_of_the_proof_is_missed() -> None:
    for change in ALL:
        tree = commit_of([change])
        assert reason_of(Tree(tree.root, {}), [change]) is DropReason.NODE_MISSING
        for cid in way_to(tree, change.path):
            blocks = {name: raw for name, raw in tree.blocks.items() if name != cid}
            assert reason_of(Tree(tree.root, blocks), [change]) is DropReason.NODE_MISSING


def test_a_missing_node_never_leads_to_another_root() -> None:
    rng = random.Random(11)
    missed = 0
    for _ in range(150):
        records = some_records(rng, rng.choice([5, 40, 120]))
        changes = some_changes(rng, records, rng.choice([1, 3, 20]))
        tree = commit_of(changes, records)
        cid = rng.choice(sorted(tree.blocks))
        found = judged(Tree(tree.root, {c: b for c, b in tree.blocks.items() if c != cid}), changes)
        if isinstance(found, BadTree):
            missed += 1
            assert found.reason is DropReason.NODE_MISSING
        else:
            assert found == model.build(records).root
    assert missed > 75


def test_a_commit_that_changes_nothing_need_not_bring_the_tree() -> None:
    tree = model.build(RECORDS)
    assert undo({}, tree.root, []) == tree.root
    # What it brings is read all the same.
    assert undo(dict(tree.blocks), tree.root, []) == tree.root
    crooked = block_of({"e": [], "l": None, "x": 0})
    found = undo({model.cid_of(crooked): crooked}, model.cid_of(crooked), [])
    assert isinstance(found, BadTree)
    assert found.reason is DropReason.NODE_MALFORMED


def test_the_first_commit_comes_from_the_empty_tree_and_the_last_leads_there() -> None:
    for count in (1, 2, 30):
        records = dict(list(RECORDS.items())[:count])
        creates = [Change("create", k.decode(), v, None) for k, v in records.items()]
        deletes = [Change("delete", k.decode(), None, v) for k, v in records.items()]
        assert judged(commit_of(creates, {}), creates) == EMPTY_TREE_CID
        assert judged(commit_of(deletes, records), deletes) == model.build(records).root


def test_a_root_that_loses_its_last_key_gives_way_to_what_is_below() -> None:
    # The created key is alone at the top, with one level or more between it and the others.
    low = [key for key in RECORDS if model.depth(key) == 0]
    for records in (dict.fromkeys(low[:3], NEW), dict.fromkeys(low, NEW)):
        for top in (key for key in DEEP if key not in records):
            create = Change("create", top.decode(), NEW, None)
            assert judged(commit_of([create], records), [create]) == model.build(records).root


def test_a_damaged_node_that_nobody_needs_is_found() -> None:
    tree, whole = commit_of([CREATE]), model.build(model.made(RECORDS, [CREATE]))
    unneeded = [cid for cid in whole.blocks if cid not in tree.blocks]
    assert len(unneeded) > 20
    named = [cid for cid in unneeded if any(cid in raw for raw in tree.blocks.values())]
    for cid in named:
        blocks = tree.blocks | {cid: b"\xa0"}
        assert reason_of(Tree(tree.root, blocks), [CREATE]) is DropReason.NODE_MALFORMED
    # What hangs in no tree is nobody's business.
    assert reason_of(Tree(tree.root, tree.blocks | {model.cid_of(b""): b""}), [CREATE]) is None


def test_two_links_to_one_node_are_refused_even_where_it_did_not_come() -> None:
    keys = sorted(key for key in RECORDS if model.depth(key) == 1)[:2]
    opaque = link(model.cid_of(b"opaque"))
    value = link(NEW)
    p = model.shared(*keys)
    for left, middle, right in ((opaque, opaque, None), (None, opaque, opaque)):
        block = block_of({
            "e": [{"k": keys[0], "p": 0, "t": middle, "v": value},
                  {"k": keys[1][p:], "p": p, "t": right, "v": value}],
            "l": left,
        })  # fmt: skip
        tree = Tree(model.cid_of(block), {model.cid_of(block): block})
        assert reason_of(tree, []) is DropReason.TREE_MALFORMED


def test_a_tree_that_is_only_a_chain_of_empty_nodes_is_none() -> None:
    cid = model.cid_of(b"opaque")
    blocks = {}
    for _ in range(4000):
        block = block_of({"e": [], "l": link(cid)})
        cid = model.cid_of(block)
        blocks[cid] = block
    assert reason_of(Tree(cid, blocks), []) is DropReason.TREE_MALFORMED
    # Nor below a root: at the bottom it ends.
    key = next(key for key in RECORDS if model.depth(key) == 2)
    root = block_of({"e": [{"k": key, "p": 0, "t": link(cid), "v": link(NEW)}], "l": None})
    found = Tree(model.cid_of(root), blocks | {model.cid_of(root): root})
    assert reason_of(found, []) is DropReason.TREE_MALFORMED


def test_any_blocks_give_a_verdict_and_nothing_else() -> None:
    rng = random.Random(12)
    tree = commit_of(ALL)
    for _ in range(3000):
        blocks = {}
        for cid, raw in tree.blocks.items():
            at = rng.randrange(len(raw))
            hit = rng.random() < 0.3
            # As if the hash said so: what is read must bear any bytes.
            blocks[cid] = raw[:at] + rng.randbytes(rng.randrange(3)) + raw[at:] if hit else raw
        told = misreported(rng, ALL, RECORDS)
        assert isinstance(undo(blocks, tree.root, as_ops(told)), bytes | BadTree)
