"""What does a repository's tree look like after a write, and which nodes prove it?

Nodes are values: a write copies the nodes on its path and shares the rest, so that an old
state stays whole (an invalid commit is built on a fork) and only new nodes are encoded.

This module does not know commits or records. It was written from the specification and shares
nothing with the relay's own inversion.

Source: repository specification, "MST Structure", "Repository Diffs".
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from tests.simnet.drisl import cid_of


class Node:
    """One tree node: `links[i]` is the subtree before `keys[i]`, `links[-1]` the one after all.

    Left alone after it was made; `cid` and `raw` are filled by `seal`.
    """

    __slots__ = ("cid", "keys", "level", "links", "raw", "values")

    def __init__(
        self,
        level: int,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        links: Sequence[Node | None],
    ) -> None:
        self.level = level
        self.keys = keys
        self.values = values
        self.links = links
        self.cid: bytes | None = None
        self.raw: bytes = b""


EMPTY: Final = Node(0, [], [], [None])
"""The tree of a repository without records."""


def depth_of(key: bytes) -> int:
    """The level a key belongs to: leading zero bits of its SHA-256, in pairs."""
    digest = int.from_bytes(hashlib.sha256(key).digest())
    return (256 - digest.bit_length()) // 2


def common_prefix(left: bytes, right: bytes) -> int:
    """How many leading bytes two keys share."""
    n = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        n += 1
    return n


def build(items: Iterable[tuple[bytes, bytes]]) -> Node:
    """The tree of (key, CID) pairs, made at once."""
    ordered = sorted(items)
    if not ordered:
        return EMPTY
    depths = [depth_of(key) for key, _ in ordered]

    def subtree(level: int, low: int, high: int) -> Node | None:
        if low == high:
            return None
        keys, values, links, start = [], [], [], low
        for i in range(low, high):
            if depths[i] == level:
                links.append(subtree(level - 1, start, i))
                keys.append(ordered[i][0])
                values.append(ordered[i][1])
                start = i + 1
        links.append(subtree(level - 1, start, high))
        return Node(level, keys, values, links)

    root = subtree(max(depths), 0, len(ordered))
    assert root is not None
    return root


def get(root: Node, key: bytes) -> bytes | None:
    """The CID at a key, or None."""
    node: Node | None = root
    while node is not None:
        i = bisect_left(node.keys, key)
        if i < len(node.keys) and node.keys[i] == key:
            return node.values[i]
        node = node.links[i]
    return None


def items(node: Node | None) -> Iterable[tuple[bytes, bytes]]:
    """All (key, CID) pairs in order."""
    if node is not None:
        for i, key in enumerate(node.keys):
            yield from items(node.links[i])
            yield key, node.values[i]
        yield from items(node.links[-1])


def put(root: Node, key: bytes, cid: bytes) -> Node:
    """The tree with `key` set to `cid`, whether it was there or not."""
    depth = depth_of(key)
    if not root.keys and root.links[0] is None:
        root = Node(depth, [], [], [None])
    while root.level < depth:
        root = Node(root.level + 1, [], [], [root])
    return _put(root, key, cid, depth)


def _put(node: Node, key: bytes, cid: bytes, depth: int) -> Node:
    keys, values, links = list(node.keys), list(node.values), list(node.links)
    i = bisect_left(keys, key)
    if depth < node.level:
        child = links[i]
        if child is None:
            child = Node(node.level - 1, [], [], [None])
        links[i] = _put(child, key, cid, depth)
    elif i < len(keys) and keys[i] == key:
        values[i] = cid
    else:
        links[i : i + 1] = _split(links[i], key)
        keys.insert(i, key)
        values.insert(i, cid)
    return Node(node.level, keys, values, links)


def _split(node: Node | None, key: bytes) -> tuple[Node | None, Node | None]:
    """A subtree's parts before and after a key that is not in it."""
    if node is None:
        return None, None
    i = bisect_left(node.keys, key)
    before, after = _split(node.links[i], key)
    if i == 0 and before is None:
        return None, node
    if i == len(node.keys) and after is None:
        return node, None
    left = Node(node.level, node.keys[:i], node.values[:i], [*node.links[:i], before])
    right = Node(node.level, node.keys[i:], node.values[i:], [after, *node.links[i + 1 :]])
    return left, right


def remove(root: Node, key: bytes) -> Node:
    """The tree without `key`.

    Raises:
        KeyError: the key is not in the tree.
    """
    node = _remove(root, key, depth_of(key))
    while node is not None and not node.keys:
        node = node.links[0]
    return EMPTY if node is None else node


def _remove(node: Node | None, key: bytes, depth: int) -> Node | None:
    if node is None or node.level < depth:
        raise KeyError(key)
    keys, values, links = list(node.keys), list(node.values), list(node.links)
    i = bisect_left(keys, key)
    if depth < node.level:
        links[i] = _remove(links[i], key, depth)
    else:
        if i == len(keys) or keys[i] != key:
            raise KeyError(key)
        links[i : i + 2] = [_merge(links[i], links[i + 1])]
        del keys[i], values[i]
    if not keys and links[0] is None:
        return None
    return Node(node.level, keys, values, links)


def _merge(left: Node | None, right: Node | None) -> Node | None:
    """Two neighbouring subtrees as one."""
    if left is None or right is None:
        return left or right
    return Node(
        left.level,
        [*left.keys, *right.keys],
        [*left.values, *right.values],
        [*left.links[:-1], _merge(left.links[-1], right.links[0]), *right.links[1:]],
    )


def neighbours(root: Node, key: bytes) -> tuple[bytes | None, bytes | None]:
    """The keys directly before and after `key`, which may be in the tree or not."""
    before: bytes | None = None
    after: bytes | None = None
    node: Node | None = root
    while node is not None:
        i = bisect_left(node.keys, key)
        if i > 0:
            before = node.keys[i - 1]
        found = i < len(node.keys) and node.keys[i] == key
        j = i + found
        if j < len(node.keys):
            after = node.keys[j]
        if found:
            left, right = node.links[i], node.links[j]
            return _edge(left, -1, before), _edge(right, 0, after)
        node = node.links[i]
    return before, after


def _edge(node: Node | None, side: int, otherwise: bytes | None) -> bytes | None:
    """The first (side 0) or last (side -1) key of a subtree."""
    if node is None:
        return otherwise
    while (deeper := node.links[side]) is not None:
        node = deeper
    return node.keys[side]


def search_path(root: Node, key: bytes) -> list[Node]:
    """The nodes met on the way from the root to where `key` is or would be."""
    path = []
    node: Node | None = root
    while node is not None:
        path.append(node)
        i = bisect_left(node.keys, key)
        if i < len(node.keys) and node.keys[i] == key:
            break
        node = node.links[i]
    return path


def covering(root: Node, changed: Iterable[bytes]) -> list[Node]:
    """The nodes of the new tree that an inversion of the changed keys may need.

    They are the search paths of each key and of both its neighbours (S-MST-14).
    """
    nodes: dict[int, Node] = {id(root): root}
    for key in changed:
        for wanted in (key, *neighbours(root, key)):
            if wanted is not None:
                for node in search_path(root, wanted):
                    nodes[id(node)] = node
    return list(nodes.values())


def seal(node: Node) -> list[Node]:
    """Encode every node below `node` that has no CID yet; return those, parents first."""
    fresh: list[Node] = []
    if node.cid is None:
        fresh.append(node)
        for child in node.links:
            if child is not None and child.cid is None:
                fresh += seal(child)
        node.raw = encode_node(node)
        node.cid = cid_of(node.raw)
    return fresh


def encode_node(node: Node) -> bytes:
    """A node's block; its children must have their CIDs."""
    parts = [b"\xa2\x61e", _head(0x80, len(node.keys))]
    previous = b""
    for i, key in enumerate(node.keys):
        shared = common_prefix(previous, key)
        parts += (
            b"\xa4\x61k",
            _head(0x40, len(key) - shared),
            key[shared:],
            b"\x61p",
            _head(0x00, shared),
            b"\x61t",
            _link(node.links[i + 1]),
            b"\x61v\xd8\x2a\x58\x25\x00",
            node.values[i],
        )
        previous = key
    parts += (b"\x61l", _link(node.links[0]))
    return b"".join(parts)


def _link(node: Node | None) -> bytes:
    if node is None:
        return b"\xf6"
    assert node.cid is not None
    return b"\xd8\x2a\x58\x25\x00" + node.cid


def _head(major: int, length: int) -> bytes:
    """A CBOR head in its shortest form, for lengths below 65,536."""
    if length < 24:
        return bytes((major | length,))
    if length < 256:
        return bytes((major | 24, length))
    return bytes((major | 25, length >> 8, length & 0xFF))


seal(EMPTY)
