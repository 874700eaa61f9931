"""Which tree was there before these operations? It must be the one that the host says there was.

`undo` reads the part of the new tree that came with a commit, checks every node of it, holds each
operation against it, and takes the operations back: what was created is removed, what was updated
gets its former value, what was deleted is put in again. The CID of what is left is the root before.

All that came and hangs in the tree is loaded, needed or not: each block once, so that the work is
bounded by what came, and nothing malformed is passed on unseen. A subtree that did not come is only
its CID: it may stay where it is.

Source: spec section 2.1 (steps 12 to 14) to 2.3; S-COM-15, S-VAL-06, S-VAL-08, S-VAL-19, S-MST-07, S-MST-14.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from common.event import Op
from common.verdict import DropReason
from ingest.node import (
    ABOVE,
    BELOW,
    MAX_ENTRIES_IN_ALL,
    Node,
    depth_of,
    is_record_cid,
    load,
)
from ingest.node import (
    EMPTY_TREE_CID as EMPTY_TREE_CID,
)
from ingest.node import (
    BadTree as BadTree,
)
from ingest.tree import (
    Change,
    Link,
    Mismatch,
    Missing,
    Nodes,
    TooWide,
    applied,
    hashed,
    inserted,
    removed,
    replaced,
    root_of,
    value_at,
)

_ORDER: Final = {"delete": 0, "update": 1, "create": 2}
"""Deletions first: a key put in again may make a later merge, and its nodes, unnecessary."""
Keyed = tuple[Op, bytes, int]
"""An operation, its key, and the key's depth."""


def undo(
    blocks: dict[bytes, bytes],
    data: bytes,
    ops: Sequence[Op],
    nodes: dict[bytes, Node] | None = None,
) -> bytes | BadTree:
    """Take the operations back → the CID of the root before, or what is wrong.

    A finding about the tree itself goes before one about an operation, and that before what is
    only not there: a host may be waived the last, never the others. Source: S-VAL-06.

    Args:
        blocks: by CID, their hashes checked. The tree's nodes are taken out of it.
        data: the root's CID. ops: no path twice.
        nodes: an empty dict, to be filled with the nodes of the tree, by CID.
    """
    if not ops and data not in blocks:
        # S-COM-17, 3-35: a commit that changes nothing need not bring the tree.
        return data
    if nodes is None:
        nodes = {}
    bad = load_tree(blocks, data, nodes)
    if bad is not None:
        return bad
    keyed = [(op, key := op.path.encode(), depth_of(key)) for op in ops]
    try:
        if len(keyed) == 1:
            return root_of(nodes, _undone(nodes, data, *keyed[0]))
        root: Link = data
        for one in sorted(keyed, key=_order):
            root = applied(_undone(nodes, root, *one))
        return hashed(nodes, root, [])
    except Mismatch as error:
        return BadTree(DropReason.OP_MISMATCH, str(error))
    except TooWide as error:
        return BadTree(DropReason.TREE_MALFORMED, str(error))
    except Missing as error:
        # Is anything of the rest untrue as well?
        mismatch = _first_mismatch(nodes, data, keyed)
        if mismatch is not None:
            return mismatch
        if any(op.prev is None for op in ops if op.action != "create"):
            return BadTree(DropReason.OP_PREV_MISSING, "an update or delete tells no prev")
        # S-MST-14: what stands beside a change has to be there as well.
        return BadTree(DropReason.NODE_MISSING, str(error))


def load_tree(blocks: dict[bytes, bytes], data: bytes, nodes: dict[bytes, Node]) -> BadTree | None:
    """Load the root and everything below it that came, each block once; all of it checked.

    Two links to one subtree are refused even where it did not come: no key can be in both. So
    nothing is met twice, and there are no cycles. Source: S-VAL-08, S-MST-07.
    """
    raw = blocks.pop(data, None)
    if raw is None:
        return BadTree(DropReason.NODE_MISSING, "the root")
    root = load(raw, data, None, BELOW, ABOVE)
    if isinstance(root, BadTree):
        return root
    nodes[data] = root
    left = MAX_ENTRIES_IN_ALL - len(root.keys)
    named: list[Link] = [data]
    waiting = [(root, BELOW, ABOVE)]
    for node, low, high in waiting:
        if not node.level:
            continue
        links, keys = node.links, node.keys
        named += links
        for i, link in enumerate(links):
            if link in blocks:
                assert isinstance(link, bytes)
                below = keys[i - 1] if i else low
                above = keys[i] if i < len(keys) else high
                child = load(blocks.pop(link), link, node.level - 1, below, above)
                if isinstance(child, BadTree):
                    return child
                left -= len(child.keys)
                if left < 0:
                    return BadTree(
                        DropReason.TREE_MALFORMED, f"more than {MAX_ENTRIES_IN_ALL} entries"
                    )
                nodes[link] = child
                waiting.append((child, below, above))
    if len(named) - named.count(b"") != len(set(named) - {b""}):
        return BadTree(DropReason.TREE_MALFORMED, "two links to one node")
    return None


def _order(one: Keyed) -> tuple[int, bytes]:
    return _ORDER[one[0].action], one[1]


def _undone(nodes: Nodes, root: Link, op: Op, key: bytes, depth: int) -> Change:
    """The tree without one operation.

    Raises:
        Missing, Mismatch, TooWide: see there.
    """
    cid, prev = op.cid, op.prev
    if op.action == "create":
        assert cid is not None
        return removed(nodes, root, key, depth, cid)
    if prev is None:
        # S-COM-15.
        raise Missing("prev")
    if not is_record_cid(prev):
        raise Mismatch(f"prev of {op.path} is no record's CID")
    if op.action == "update":
        assert cid is not None
        return replaced(nodes, root, key, depth, cid, prev)
    return inserted(nodes, root, key, depth, prev)


def _first_mismatch(nodes: Nodes, data: bytes, keyed: list[Keyed]) -> BadTree | None:
    """Hold every operation that can be against the tree, as it came."""
    for op, key, depth in keyed:
        try:
            found = value_at(nodes, data, key, depth)
        except Missing:
            continue
        if found != op.cid or (op.prev is not None and not is_record_cid(op.prev)):
            return BadTree(DropReason.OP_MISMATCH, f"{op.action} {op.path}")
    return None
