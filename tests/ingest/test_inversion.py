"""Is what the relay finds in a tree what the slow model finds?

Thousands of random trees and lists of operations, sound and damaged. Where all of a tree is there,
the two must agree on every case, whatever was done to it; where only the proof of it is, the
sound ones must pass.

TREE_CASES multiplies the number of cases (1: a minute or less).
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.event import Op
from ingest.inversion import BadTree, undo
from tests.ingest import tree_model as model
from tests.ingest.tree_damage import KINDS, Kind, damaged, misreported
from tests.ingest.tree_model import Change, Records, Tree

TIMES = float(os.environ.get("TREE_CASES", "1"))
MANY = settings(
    max_examples=int(200 * TIMES), deadline=None, suppress_health_check=list(HealthCheck)
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
        told = misreported(rng, changes, after)
        expected = model.taken_back(after, told)
        for given_blocks in (blocks, tree.blocks):
            found = judged(Tree(tree.root, given_blocks), told)
            if isinstance(found, bytes):
                assert expected is not None
                assert found == model.build(expected).root
            elif given_blocks is tree.blocks:
                assert expected is None


@MANY
@given(SEEDS, SIZES, COUNTS, st.sampled_from(KINDS))
def test_a_damaged_tree_is_told_from_a_tree(seed: int, size: int, count: int, kind: Kind) -> None:
    rng = random.Random(seed)
    records = some_records(rng, min(size, 150))
    changes = some_changes(rng, records, count)
    tree = model.build(model.made(records, changes))
    for _ in range(12):
        crooked = damaged(rng, tree, kind)
        if crooked is not None:
            agree(crooked, changes)
