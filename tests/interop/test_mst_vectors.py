"""The network's published trees: key heights, common prefixes, and the proofs of commits."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, Final

import pytest

from common.car import Car, walk
from common.cid import parse_cid
from common.commit import SignedCommit, open_commit
from common.event import Event, Op, decode
from ingest.inversion import BadTree, undo
from ingest.node import EMPTY_TREE_CID, Node, common_prefix, depth_of
from ingest.node_memory import NodeMemory
from ingest.records import check_records
from tests.ingest import tree_model as model
from tests.ingest.tree_model import Tree
from tests.interop.vectors import needs_network, network_frames

HERE: Final = Path(__file__).parent
HEIGHTS: Final = json.loads((HERE / "mst/key_heights.json").read_text())
PREFIXES: Final = json.loads((HERE / "mst/common_prefix.json").read_text())
PROOFS: Final = json.loads((HERE / "firehose/commit-proof-fixtures.json").read_text())


@pytest.mark.parametrize("case", HEIGHTS, ids=lambda case: f"height of {case['key']!r}")
def test_a_keys_depth_is_the_published_one(case: dict[str, Any]) -> None:
    assert depth_of(case["key"].encode()) == case["height"]
    assert model.depth(case["key"].encode()) == case["height"]


def test_the_example_keys_have_the_depth_in_their_name() -> None:
    keys = (HERE / "mst/example_keys.txt").read_text().split()
    assert len(keys) == 156
    assert [depth_of(key.encode()) for key in keys] == [int(key[1]) for key in keys]


@pytest.mark.parametrize("case", PREFIXES, ids=lambda case: f"{case['left']!r} {case['right']!r}")
def test_a_common_prefix_is_the_published_one(case: dict[str, Any]) -> None:
    # In bytes, as the tree has it; the published ones of other alphabets count them too.
    left, right = case["left"].encode(), case["right"].encode()
    assert common_prefix(left, right) == case["len"]
    assert model.shared(left, right) == case["len"]


def trees(case: dict[str, Any]) -> tuple[Tree, Tree, list[Op]]:
    """The trees before and after a published commit, and what it did."""
    leaf = parse_cid(case["leafValue"])
    before = dict.fromkeys((key.encode() for key in case["keys"]), leaf)
    after = dict(before)
    ops = []
    for key in case["adds"]:
        after[key.encode()] = leaf
        ops.append(Op("create", key, leaf, None))
    for key in case["dels"]:
        del after[key.encode()]
        ops.append(Op("delete", key, None, leaf))
    return model.build(before), model.build(after), ops


@pytest.mark.parametrize("case", PROOFS, ids=lambda case: str(case["comment"]))
def test_a_published_commit_is_undone_in_every_order(case: dict[str, Any]) -> None:
    before, after, ops = trees(case)
    assert before.root == parse_cid(case["rootBeforeCommit"])
    assert after.root == parse_cid(case["rootAfterCommit"])
    proof = {cid: after.blocks[cid] for text in case["blocksInProof"]
             if (cid := parse_cid(text)) in after.blocks}  # fmt: skip
    assert after.root in proof
    for order in itertools.permutations(ops):
        assert undo(dict(proof), after.root, order) == before.root
        assert undo(dict(after.blocks), after.root, order) == before.root


@pytest.mark.parametrize("case", PROOFS, ids=lambda case: str(case["comment"]))
def test_each_operation_of_a_published_commit_counts(case: dict[str, Any]) -> None:
    before, after, ops = trees(case)
    for op in ops:
        told = [other for other in ops if other is not op]
        assert undo(dict(after.blocks), after.root, told) != before.root


@pytest.mark.parametrize("case", PROOFS, ids=lambda case: str(case["comment"]))
def test_a_published_commit_is_proven_from_the_tree_before(case: dict[str, Any]) -> None:
    before, after, ops = trees(case)
    memory, nodes = NodeMemory(), dict[bytes, Node]()
    assert undo(dict(before.blocks), before.root, [], nodes) == before.root
    memory.learn(nodes.values())
    one_create = not case["dels"] and len(ops) == 1
    assert memory.proves(dict(after.blocks), after.root, before.root, ops) is one_create


@needs_network
def test_every_real_commit_is_undone_to_the_root_before() -> None:
    for raw in network_frames():
        event = decode(raw)
        assert isinstance(event, Event)
        car = walk(event.blocks)
        assert isinstance(car, Car)
        signed = open_commit(car.blocks[car.root], event.did, event.rev or "")
        assert isinstance(signed, SignedCommit)
        blocks = car.blocks
        assert check_records(blocks, event.ops) is None
        orders = itertools.islice(itertools.permutations(event.ops), 24)
        for order in orders:
            left = dict(blocks)
            assert undo(left, signed.data, order) == (event.prev_data or EMPTY_TREE_CID)
            # Nothing came for nothing.
            assert left.keys() == {car.root} | {op.cid for op in event.ops if op.cid}
        for cid in set(blocks) - left.keys():
            less = {name: block for name, block in blocks.items() if name != cid}
            found = undo(less, signed.data, event.ops)
            assert isinstance(found, BadTree) or found == event.prev_data
