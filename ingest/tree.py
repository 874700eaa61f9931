"""What becomes of a tree, of which only some nodes are known, when one key of it changes?

A subtree is its CID, or a node made anew on the way, or nothing (b""). What is known of it is in
`nodes`, by CID. Nodes are left alone: a change makes new ones from the root down to the key, and
`hashed` gives those their names. What would have to look into an unknown node is `Missing`.

At every step from a node to one below it, the latter's level and keys are held against the place it
is found in: that it was seen to be sound somewhere does not mean that it belongs here.

Nothing goes deeper than a tree has levels: 128, as the depth of a key is found by hashing.

Source: spec section 2.3; S-MST-07, S-MST-08, S-MST-10.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, NamedTuple, Protocol

from common.cid import cid_of
from common.event import MAX_OPS
from ingest.node import (
    ABOVE,
    BELOW,
    EMPTY_TREE_CID,
    MAX_ENTRIES,
    Node,
    common_prefix,
    new_entry,
    new_node,
    room_for,
    shared_by,
    with_right,
    with_shared,
)

MAX_MERGED: Final = MAX_ENTRIES + MAX_OPS
"""Entries in a node made of two (S-VAL-18): as many as one may have had before, and all that may
have been created in it since. Keys taken out from between full nodes would make it grow with each, and
each time be copied whole."""
Link = bytes | Node
"""A subtree: its CID, the node itself when that has none yet, or nothing (b"")."""


class Nodes(Protocol):
    """Nodes that are sound in themselves, by CID: a dict, or a memory of them."""

    def get(self, cid: bytes, /) -> Node | None:
        """The node of that name, if it is known."""


class Change(NamedTuple):
    """A way down from the root, each node with the index of the link taken; and what is now there.

    above: the nodes as they were. link: the subtree at the end of it, nothing (b"") if it is gone.
    """

    above: list[tuple[Node, int]]
    link: Link


class Missing(Exception):
    """A node is needed that nobody knows, or not at this place."""


class Mismatch(Exception):
    """The tree does not hold what it was said to hold."""


class TooWide(Exception):
    """A node would have more entries than a commit can lead to from any that is borne."""


def value_at(nodes: Nodes, root: Link, key: bytes, depth: int) -> bytes | None:
    """The CID of the record at a key, None when it is absent.

    Raises:
        Missing: see there.
    """
    try:
        node, i = _find(nodes, root, key, depth)[1:3]
    except Mismatch:
        return None
    return node.value(i)


def replaced(
    nodes: Nodes, root: Link, key: bytes, depth: int, value: bytes, other: bytes
) -> Change:
    """The tree with another record at a key.

    Raises:
        Missing: see there. Mismatch: `value` is not at the key.
    """
    above, node, _i, _low, _high = _find(nodes, root, key, depth)
    return Change(above, with_value(node, key, value, other))


def removed(nodes: Nodes, root: Link, key: bytes, depth: int, value: bytes) -> Change:
    """The tree without a key; the subtrees on both sides of it become one.

    Raises:
        Missing, TooWide: see there. Mismatch: `value` is not at the key.
    """
    above, node, i, low, high = _find(nodes, root, key, depth)
    keys, entries, links = node.keys.copy(), node.entries(), node.links.copy()
    if node.value(i) != value:
        raise Mismatch(f"another record at {key.decode()}")
    if i + 1 < len(keys):
        # The next entry shares with the key before what both shared with the one between.
        shared = shared_by(entries[i], key)
        if shared_by(entries[i + 1], keys[i + 1]) > shared:
            entries[i + 1] = with_shared(entries[i + 1], keys[i + 1], shared, links[i + 2])
    before = links[i]
    low, high = keys[i - 1] if i else low, keys[i + 1] if i + 1 < len(keys) else high
    merged = _merged(nodes, before, links[i + 1], node.level - 1, low, key, high)
    if i and merged is not before:
        entries[i - 1] = with_right(entries[i - 1], before, room_for(merged))
    del keys[i], entries[i]
    links[i : i + 2] = [merged]
    if not keys and not merged:
        return Change(above, b"")
    return Change(above, new_node(node.level, keys, entries, links))


def inserted(nodes: Nodes, root: Link, key: bytes, depth: int, value: bytes) -> Change:
    """The tree with a key more; a subtree that it falls into becomes two.

    Raises:
        Missing: see there. Mismatch: the key is there.
    """
    node = _root(nodes, root)
    if not node.keys and not node.links[0]:
        node = new_node(depth, [], [], [b""])
    while node.level < depth:
        node = new_node(node.level + 1, [], [], [node if node.cid is None else node.cid])
    above: list[tuple[Node, int]] = []
    low, high = BELOW, ABOVE
    while node.level > depth:
        keys = node.keys
        i = bisect_left(keys, key)
        above.append((node, i))
        low, high = keys[i - 1] if i else low, keys[i] if i < len(keys) else high
        link = node.links[i]
        if link:
            node = _below(nodes, link, node.level - 1, low, high)
        else:
            node = new_node(node.level - 1, [], [], [b""])
    return Change(above, with_key(nodes, node, key, value, low, high))


def with_key(nodes: Nodes, node: Node, key: bytes, value: bytes, low: bytes, high: bytes) -> Node:
    """A node with a key of its depth more. low, high: between these the node lies.

    Raises:
        Missing: see there. Mismatch: the key is there.
    """
    keys, entries, links = node.keys.copy(), node.entries(), node.links.copy()
    i = bisect_left(keys, key)
    if i < len(keys) and keys[i] == key:
        raise Mismatch(f"{key.decode()} is there")
    low, high = keys[i - 1] if i else low, keys[i] if i < len(keys) else high
    left, right = _split(nodes, links[i], key, node.level - 1, low, high)
    if i and left is not links[i]:
        entries[i - 1] = with_right(entries[i - 1], links[i], room_for(left))
    if i < len(keys):
        shared = common_prefix(key, keys[i])
        entries[i] = with_shared(entries[i], keys[i], shared, links[i + 1])
    entry = new_entry(key, common_prefix(keys[i - 1], key) if i else 0, value)
    if right:
        entry = with_right(entry, b"", room_for(right))
    keys.insert(i, key)
    entries.insert(i, entry)
    links[i : i + 1] = [left, right]
    return new_node(node.level, keys, entries, links)


def with_value(node: Node, key: bytes, value: bytes, other: bytes) -> Node:
    """A node with another record at a key.

    Raises:
        Mismatch: `value` is not at the key.
    """
    i = bisect_left(node.keys, key)
    if i == len(node.keys) or node.keys[i] != key or node.value(i) != value:
        raise Mismatch(f"another record at {key.decode()}")
    raw, end = node.raw, node.bounds[i + 1]
    raw = raw[: end - 36] + other + raw[end:]
    return Node(None, node.level, node.keys, node.links, raw, node.bounds)


def applied(change: Change) -> Link:
    """The tree that a change leads to, for another change."""
    link = change.link
    for node, i in reversed(change.above):
        if not link and not node.keys:
            # S-MST-10: what leads nowhere goes as well.
            continue
        links = node.links.copy()
        before, links[i] = links[i], link
        if before and not isinstance(link, bytes):
            link = Node(None, node.level, node.keys, links, node.raw, node.bounds)
        else:
            entries = node.entries()
            if i:
                entries[i - 1] = with_right(entries[i - 1], before, room_for(link))
            link = new_node(node.level, node.keys, entries, links)
    return link


def root_of(nodes: Nodes, change: Change) -> bytes:
    """The CID of the root that a change leads to: `hashed` of `applied`, of which this is short.

    Where nothing else has changed and no subtree comes or goes, each node above is hashed as it is
    with another link.
    """
    if not change.link or not change.above:
        return hashed(nodes, applied(change), [])
    cid = _hashed(change.link, [])
    for node, i in reversed(change.above):
        if node.cid is None or not node.links[i]:
            return hashed(nodes, applied(change), [])
        raw, at = node.raw, node.link_at(i)
        cid = cid_of(raw[:at] + cid + raw[at + 36 :])
    return cid


def hashed(nodes: Nodes, root: Link, made: list[Node]) -> bytes:
    """The CID of a changed tree's root; the nodes that were made anew are added to `made`.

    A root that has lost its last key gives way to what is below it.
    """
    while root:
        node = nodes.get(root) if isinstance(root, bytes) else root
        if node is None or node.keys:
            # An unknown root is right if it has keys; if not, no root before is like it.
            return _hashed(root, made)
        root = node.links[0]
    return EMPTY_TREE_CID


def fits(node: Node, level: int, low: bytes, high: bytes) -> bool:
    """Whether a sound node may stand below another, at this level and between these keys.

    Two links in a row cannot be written down, so there is nothing to see of them (S-MST-08).
    Source: S-MST-07, S-MST-10.
    """
    keys = node.keys
    if node.level != level:
        return False
    return low < keys[0] and keys[-1] < high if keys else bool(node.links[0])


# --- ways through the tree ---


def _root(nodes: Nodes, root: Link) -> Node:
    node = nodes.get(root) if isinstance(root, bytes) else root
    if node is None:
        raise Missing("the root")
    return node


def _below(nodes: Nodes, link: Link, level: int, low: bytes, high: bytes) -> Node:
    """The node that a link leads to, if it is known and may stand there."""
    if not isinstance(link, bytes):
        return link
    node = nodes.get(link)
    if node is None:
        raise Missing("a node")
    if not fits(node, level, low, high):
        raise Missing("a node that belongs here")
    return node


def _find(
    nodes: Nodes, root: Link, key: bytes, depth: int
) -> tuple[list[tuple[Node, int]], Node, int, bytes, bytes]:
    """Go down to a key.

    Returns the nodes above its own with the links taken, its own, the key's index in it, and
    between which keys its own lies.
    """
    above: list[tuple[Node, int]] = []
    if not root:
        raise Mismatch(f"{key.decode()} is not there")
    node = _root(nodes, root)
    low, high = BELOW, ABOVE
    while True:
        keys = node.keys
        i = bisect_left(keys, key)
        if node.level <= depth:
            if node.level < depth or i == len(keys) or keys[i] != key:
                raise Mismatch(f"{key.decode()} is not there")
            return above, node, i, low, high
        above.append((node, i))
        link = node.links[i]
        if not link:
            raise Mismatch(f"{key.decode()} is not there")
        if i:
            low = keys[i - 1]
        if i < len(keys):
            high = keys[i]
        node = _below(nodes, link, node.level - 1, low, high)


def _merged(
    nodes: Nodes, left: Link, right: Link, level: int, low: bytes, key: bytes, high: bytes
) -> Link:
    """The subtrees before and after a key as one.

    Raises:
        Missing, TooWide: see there.
    """
    if not left or not right:
        return left or right
    one = _below(nodes, left, level, low, key)
    two = _below(nodes, right, level, key, high)
    low, high = one.keys[-1] if one.keys else low, two.keys[0] if two.keys else high
    seam = _merged(nodes, one.links[-1], two.links[0], level - 1, low, key, high)
    n = len(one.keys)
    if n + len(two.keys) > MAX_MERGED:
        raise TooWide(f"a node of more than {MAX_MERGED} entries before")
    keys = one.keys + two.keys
    entries = one.entries() + two.entries()
    if n:
        if seam is not one.links[-1]:
            entries[n - 1] = with_right(entries[n - 1], one.links[-1], room_for(seam))
        if two.keys:
            shared = common_prefix(keys[n - 1], keys[n])
            if shared:
                entries[n] = with_shared(entries[n], keys[n], shared, two.links[1])
    return new_node(level, keys, entries, [*one.links[:-1], seam, *two.links[1:]])


def _split(
    nodes: Nodes, link: Link, key: bytes, level: int, low: bytes, high: bytes
) -> tuple[Link, Link]:
    """A subtree's parts before and after a key that is not in it."""
    if not link:
        return b"", b""
    node = _below(nodes, link, level, low, high)
    keys, links = node.keys, node.links
    i = bisect_left(keys, key)
    low, high = keys[i - 1] if i else low, keys[i] if i < len(keys) else high
    before, after = _split(nodes, links[i], key, level - 1, low, high)
    if not i and not before:
        return b"", link
    if i == len(keys) and not after:
        return link, b""
    entries = node.entries()
    if i and before is not links[i]:
        entries[i - 1] = with_right(entries[i - 1], links[i], room_for(before))
    if i < len(keys):
        entries[i] = with_shared(entries[i], keys[i], 0, links[i + 1])
    return (
        new_node(level, keys[:i], entries[:i], [*links[:i], before]),
        new_node(level, keys[i:], entries[i:], [after, *links[i + 1 :]]),
    )


def _hashed(link: Link, made: list[Node]) -> bytes:
    """Name the new nodes of a subtree, the lowest first."""
    if isinstance(link, bytes):
        return link
    if link.cid is None:
        raw, links = link.raw, link.links
        for i, child in enumerate(links):
            if not isinstance(child, bytes):
                if links is link.links:
                    links = links.copy()
                links[i] = cid = _hashed(child, made)
                at = link.link_at(i)
                raw = raw[:at] + cid + raw[at + 36 :]
        link.cid, link.raw, link.links = cid_of(raw), raw, links
        made.append(link)
    return link.cid
