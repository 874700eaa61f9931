"""Which tree was there before these operations? It must be the one that the host says there was.

`undo` reads the part of the new tree that came with a commit, checks every node of it, holds each
operation against it, and takes the operations back: what was created is removed, what was updated
gets its former value, what was deleted is put in again. The CID of what is left is the root before.

A subtree that did not come is only its CID. It may stay where it is; whatever would have to look
into it ends the undoing. All that did come and hangs in the tree is loaded, needed or not: each
block once, so that the work is bounded by what came, and nothing malformed is passed on unseen.

Nodes are left alone and changed ones made anew; so the order of operations never matters. Nothing
here goes deeper than a tree has levels: 128, as keys are hashed.

Source: spec section 2.1 (steps 12 to 14) to 2.3; S-VAL-06, S-VAL-08, S-MST-07, S-MST-08, S-MST-10,
S-MST-14.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from common.cid import cid_of
from common.event import Op
from common.verdict import DropReason
from ingest.node import (
    ABOVE,
    BELOW,
    EMPTY_TREE_CID,
    Node,
    common_prefix,
    depth_of,
    encode,
    load,
    new_entry,
    shared_by,
    value_of,
    with_right,
    with_shared,
    with_value,
)
from ingest.node import (
    BadTree as BadTree,
)

Link = bytes | Node
"""A subtree: its CID, itself, or nothing (b"")."""

_ORDER: Final = {"delete": 0, "update": 1, "create": 2}
"""Deletions first: a key put in again may make a later merge, and its nodes, unnecessary."""
_Key = tuple[Op, bytes, int]


class _Missing(Exception):
    """A node is needed that did not come with the commit."""


class _Mismatch(Exception):
    """The tree does not say what an operation says."""


def undo(blocks: dict[bytes, bytes], data: bytes, ops: Sequence[Op]) -> bytes | BadTree:
    """Take the operations back → the CID of the root before, or what is wrong.

    A finding about the tree itself goes before one about an operation, and that before what is
    only not there: a host may be waived the last, never the others.

    Args:
        blocks: by CID, their hashes checked. Nodes are taken out of it.
        data: the root's CID. ops: no path twice.
    """
    if not ops and data not in blocks:
        # 3-35: a commit that changes nothing need not bring the tree.
        return data
    root = load_tree(blocks, data)
    if isinstance(root, BadTree):
        return root
    keyed = [(op, key := op.path.encode(), depth_of(key)) for op in ops]
    try:
        return _undo_all(root, keyed)
    except _Mismatch as error:
        return BadTree(DropReason.OP_MISMATCH, str(error))
    except _Missing as error:
        # Is anything of the rest untrue as well?
        mismatch = _first_mismatch(root, keyed)
        if mismatch is not None:
            return mismatch
        if any(op.prev is None for op in ops if op.action != "create"):
            return BadTree(DropReason.OP_PREV_MISSING, "an update or delete tells no prev")
        return BadTree(DropReason.NODE_MISSING, str(error))


def load_tree(blocks: dict[bytes, bytes], data: bytes) -> Node | BadTree:
    """Load the root and everything below it that came, each block once; all of it checked.

    Two links to one subtree are refused even where it did not come: no key can be in both. So
    nothing is met twice, and there are no cycles.
    """
    raw = blocks.pop(data, None)
    if raw is None:
        return BadTree(DropReason.NODE_MISSING, "the root")
    root = load(raw, data, None, BELOW, ABOVE)
    if isinstance(root, BadTree):
        return root
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
                links[i] = child
                waiting.append((child, below, above))
    if len(named) - named.count(b"") != len(set(named) - {b""}):
        return BadTree(DropReason.TREE_MALFORMED, "two links to one node")
    return root


def _first_mismatch(root: Node, keyed: list[_Key]) -> BadTree | None:
    """Hold every operation that can be against the tree, as it came."""
    for op, key, depth in keyed:
        try:
            found = _lookup(root, key, depth)
        except _Missing:
            continue
        if found != op.cid:
            return BadTree(DropReason.OP_MISMATCH, f"{op.action} {op.path}")
    return None


def _lookup(node: Link, key: bytes, depth: int) -> bytes | None:
    """The record's CID at a key, None when it is absent."""
    while node:
        if isinstance(node, bytes):
            raise _Missing(f"on the way to {key.decode()}")
        i = bisect_left(node.keys, key)
        if node.level <= depth:
            if node.level == depth and i < len(node.keys) and node.keys[i] == key:
                return value_of(node.entries[i])
            return None
        node = node.links[i]
    return None


# --- the undoing ---


def _undo_all(root: Link, keyed: list[_Key]) -> bytes:
    if len(keyed) > 1:
        keyed = sorted(keyed, key=lambda one: (_ORDER[one[0].action], one[1]))
    for op, key, depth in keyed:
        if op.action == "create":
            assert op.cid is not None
            root = _remove(root, key, depth, op.cid)
        else:
            prev = op.prev
            if prev is None:
                raise _Missing("prev")
            if len(prev) != 36 or prev[0] != 1 or prev[3] != 32:
                raise _Mismatch(f"prev of {op.path} is no record's CID")
            if op.action == "update":
                assert op.cid is not None
                root = _replace(root, key, depth, op.cid, prev)
            else:
                root = _insert(root, key, depth, prev)
    # The root may have lost its last key: what is below takes its place.
    while isinstance(root, Node) and not root.keys:
        root = root.links[0]
    return _cid_of(root) if root else EMPTY_TREE_CID


def _path(root: Link, key: bytes, depth: int) -> tuple[list[tuple[Node, int]], Node, int]:
    """Go down to the node in which a key of this depth stands.

    Returns the nodes above it with the index of the link that was taken; it; and the key's index.
    """
    above: list[tuple[Node, int]] = []
    node = root
    while isinstance(node, Node):
        i = bisect_left(node.keys, key)
        if node.level <= depth:
            if node.level < depth or i == len(node.keys) or node.keys[i] != key:
                raise _Mismatch(f"{key.decode()} is not in the tree")
            return above, node, i
        above.append((node, i))
        node = node.links[i]
    if node:
        raise _Missing(f"on the way to {key.decode()}")
    raise _Mismatch(f"{key.decode()} is not in the tree")


def _above(above: list[tuple[Node, int]], link: Link) -> Link:
    """The tree again, with another subtree at the end of a path."""
    for node, i in reversed(above):
        if not link and not node.keys:
            # S-MST-10: what leads nowhere goes as well.
            continue
        link = _with_link(node, i, link)
    return link


def _with_link(node: Node, i: int, link: Link) -> Node:
    """A node with another subtree at one place."""
    links = node.links.copy()
    before, links[i] = links[i], link
    entries = node.entries
    if i and (isinstance(link, bytes) or not before):
        entries = entries.copy()
        # That of a changed node is put in when it is known; its room is made now.
        entries[i - 1] = with_right(entries[i - 1], before, _name(link))
    return Node(None, node.level, node.keys, entries, links)


def _name(link: Link) -> bytes:
    """A subtree's CID; room for it when it has none yet."""
    if isinstance(link, bytes):
        return link
    return link.cid or _ROOM


_ROOM: Final = bytes(36)


def _replace(root: Link, key: bytes, depth: int, cid: bytes, prev: bytes) -> Link:
    """The tree with a record's former value."""
    above, node, i = _path(root, key, depth)
    if value_of(node.entries[i]) != cid:
        raise _Mismatch(f"another record at {key.decode()}")
    entries = node.entries.copy()
    entries[i] = with_value(entries[i], prev)
    return _above(above, Node(None, node.level, node.keys, entries, node.links))


def _remove(root: Link, key: bytes, depth: int, cid: bytes) -> Link:
    """The tree without a key; the subtrees on both sides of it become one."""
    above, node, i = _path(root, key, depth)
    keys, entries, links = node.keys.copy(), node.entries.copy(), node.links.copy()
    if value_of(entries[i]) != cid:
        raise _Mismatch(f"another record at {key.decode()}")
    if i + 1 < len(keys):
        # The next entry shares with the key before what both shared with the one between.
        shared = shared_by(entries[i], key)
        if shared_by(entries[i + 1], keys[i + 1]) > shared:
            entries[i + 1] = with_shared(entries[i + 1], keys[i + 1], shared, links[i + 2])
    before = links[i]
    merged = _merge(before, links[i + 1])
    if i and merged is not before:
        entries[i - 1] = with_right(entries[i - 1], before, _name(merged))
    del keys[i], entries[i]
    links[i : i + 2] = [merged]
    if not keys and not merged:
        return _above(above, b"")
    return _above(above, Node(None, node.level, keys, entries, links))


def _merge(left: Link, right: Link) -> Link:
    """Two neighbouring subtrees as one."""
    if not left or not right:
        return left or right
    if isinstance(left, bytes) or isinstance(right, bytes):
        raise _Missing("beside a key that was created")
    seam = _merge(left.links[-1], right.links[0])
    keys = left.keys + right.keys
    entries = left.entries + right.entries
    n = len(left.keys)
    if n:
        if seam is not left.links[-1]:
            entries[n - 1] = with_right(entries[n - 1], left.links[-1], _name(seam))
        if right.keys:
            shared = common_prefix(keys[n - 1], keys[n])
            if shared:
                entries[n] = with_shared(entries[n], keys[n], shared, right.links[1])
    return Node(None, left.level, keys, entries, [*left.links[:-1], seam, *right.links[1:]])


def _insert(root: Link, key: bytes, depth: int, cid: bytes) -> Link:
    """The tree with a key more; a subtree that it falls into becomes two."""
    assert isinstance(root, Node)
    if not root.keys and not root.links[0]:
        root = Node(None, depth, [], [], [b""])
    while root.level < depth:
        root = Node(None, root.level + 1, [], [], [root])
    above: list[tuple[Node, int]] = []
    node = root
    while node.level > depth:
        i = bisect_left(node.keys, key)
        above.append((node, i))
        link = node.links[i]
        if not link:
            node = Node(None, node.level - 1, [], [], [b""])
        elif isinstance(link, bytes):
            raise _Missing(f"on the way to {key.decode()}")
        else:
            node = link
    keys, entries, links = node.keys.copy(), node.entries.copy(), node.links.copy()
    i = bisect_left(keys, key)
    if i < len(keys) and keys[i] == key:
        raise _Mismatch(f"{key.decode()} is still in the tree")
    left, right = _split(links[i], key)
    if i and left is not links[i]:
        entries[i - 1] = with_right(entries[i - 1], links[i], _name(left))
    if i < len(keys):
        shared = common_prefix(key, keys[i])
        entries[i] = with_shared(entries[i], keys[i], shared, links[i + 1])
    entry = new_entry(key, common_prefix(keys[i - 1], key) if i else 0, cid)
    if right:
        entry = with_right(entry, b"", _name(right))
    keys.insert(i, key)
    entries.insert(i, entry)
    links[i : i + 1] = [left, right]
    return _above(above, Node(None, node.level, keys, entries, links))


def _split(node: Link, key: bytes) -> tuple[Link, Link]:
    """A subtree's parts before and after a key that is not in it."""
    if not node:
        return b"", b""
    if isinstance(node, bytes):
        raise _Missing("beside a key that was deleted")
    keys, entries, links = node.keys, node.entries, node.links
    i = bisect_left(keys, key)
    before, after = _split(links[i], key)
    if not i and not before:
        return b"", node
    if i == len(keys) and not after:
        return node, b""
    entries = entries.copy()
    if i and before is not links[i]:
        entries[i - 1] = with_right(entries[i - 1], links[i], _name(before))
    if i < len(keys):
        entries[i] = with_shared(entries[i], keys[i], 0, links[i + 1])
    return (
        Node(None, node.level, keys[:i], entries[:i], [*links[:i], before]),
        Node(None, node.level, keys[i:], entries[i:], [after, *links[i + 1 :]]),
    )


def _cid_of(link: Link) -> bytes:
    """Hash a subtree: the nodes of it that were changed, the lowest first."""
    if isinstance(link, bytes):
        return link
    if link.cid is not None:
        return link.cid
    entries = link.entries
    left = b""
    for i, child in enumerate(link.links):
        if not i:
            left = _cid_of(child)
        elif isinstance(child, Node) and child.cid is None:
            if entries is link.entries:
                entries = entries.copy()
            cid = _cid_of(child)
            entries[i - 1] = with_right(entries[i - 1], cid, cid)
    return cid_of(encode(entries, left))
