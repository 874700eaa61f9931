"""Is this commit what the last one leads to? Sometimes it can be told without reading its tree.

The nodes of trees that were found sound are kept, by CID. When the nodes of the tree before are
still known, a commit's operations are done to it, and not undone: if that gives the root that is
signed, then the new tree is the old one with these operations, and nothing of it needs to be read.
It is true of most commits of an account that writes often.

`proves` says True only where the inversion (ingest.inversion) would find the same; its False says
nothing. So it can be left out, and no verdict changes. Why True is sound: the new root's hash covers
all of the new tree; each kept node passed every check once, and at every step down it is seen again
to be of the right level and between the right keys (ingest.tree); a new node is made from such
nodes, by the key's own depth. What `undo` asks of the CAR besides is asked here as well: the new
nodes are in it, and whatever else of the tree came is sound.

What was learned or used lately survives: of two generations the older is let go when the newer is
full. A forged `prevData` only misses. The owner is one ingest process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from common.event import Op
from ingest.node import (
    ABOVE,
    BELOW,
    MAX_ENTRIES,
    MAX_ENTRIES_IN_ALL,
    BadTree,
    Node,
    depth_of,
    is_record_cid,
    load,
)
from ingest.tree import Link, Mismatch, Missing, fits, hashed, inserted, replaced

GENERATION_BYTES: Final = 24 << 20
"""What each of the two generations holds, about: some 3,500 accounts that write often. [own]"""
MAX_OPS: Final = 8
"""Commits of more operations are rare, and cost as much this way as the other."""

_NODE_BYTES: Final = 350
_ENTRY_BYTES: Final = 250
"""What a node and each of its entries take in memory, besides the keys; measured."""


class NodeMemory:
    """Nodes of trees that were found sound, the newest ones.

    hits, misses: of the commits that were asked about.
    """

    __slots__ = ("_bytes", "_new", "_old", "generation_bytes", "hits", "misses")

    def __init__(self, generation_bytes: int = GENERATION_BYTES) -> None:
        self.generation_bytes = generation_bytes
        self.hits = 0
        self.misses = 0
        self._bytes = 0
        self._new: dict[bytes, Node] = {}
        self._old: dict[bytes, Node] = {}

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def get(self, cid: bytes) -> Node | None:
        """The node of that name, if it is kept."""
        return self._new.get(cid) or self._old.get(cid)

    def learn(self, nodes: Iterable[Node]) -> None:
        """Keep nodes of a tree that has passed every check, and of none other."""
        new = self._new
        for node in nodes:
            assert node.cid is not None
            new[node.cid] = node
            keys = node.keys
            self._bytes += _NODE_BYTES + _ENTRY_BYTES * len(keys) + sum(map(len, keys))
        if self._bytes > self.generation_bytes:
            self._old, self._new, self._bytes = new, {}, 0

    def proves(
        self, blocks: dict[bytes, bytes], data: bytes, prev_data: bytes, ops: Sequence[Op]
    ) -> bool:
        """Whether the tree `data` is sound, and comes from `prev_data` by exactly these operations.

        Args:
            blocks: by CID, their hashes checked. If the answer is True, the tree's nodes have been
                taken out of it, as `undo` does.
            data, prev_data: the roots' CIDs. ops: no path twice.
        """
        made = self._made(data, prev_data, ops)
        others = None if made is None else self._others(blocks, made)
        if made is None or others is None:
            self.misses += 1
            return False
        self.hits += 1
        made += others
        for node in made:
            assert node.cid is not None
            del blocks[node.cid]
        self.learn(made)
        return True

    def _made(self, data: bytes, prev_data: bytes, ops: Sequence[Op]) -> list[Node] | None:
        """The new tree's new nodes, the root last, if the operations lead there."""
        before = self.get(prev_data)
        # A root has keys, unless it is all of an empty tree (S-MST-10).
        if before is None or not (before.keys or not before.links[0]):
            return None
        if not 0 < len(ops) <= MAX_OPS:
            return None
        root: Link = prev_data
        try:
            for op in ops:
                cid, prev = op.cid, op.prev
                if cid is None or not is_record_cid(cid):
                    # To undo a delete takes more nodes from the CAR than the delete has made.
                    return None
                key = op.path.encode()
                depth = depth_of(key)
                if op.action == "create":
                    root = inserted(self, root, key, depth, cid)
                elif prev is not None:
                    root = replaced(self, root, key, depth, prev, cid)
                else:
                    return None
        except (Missing, Mismatch):
            return None
        made: list[Node] = []
        return made if hashed(self, root, made) == data and made else None

    def _others(self, blocks: dict[bytes, bytes], made: list[Node]) -> list[Node] | None:
        """The other nodes of the new tree that came; None if not all of it that came is sound.

        Also None if a new node did not come: the inversion would miss it.
        """
        root = made[-1]
        new: dict[bytes, Node] = {}
        named: list[Link] = [root.cid or b""]
        for node in made:
            assert node.cid is not None
            if node.cid not in blocks or len(node.keys) > MAX_ENTRIES:
                return None
            new[node.cid] = node
            if node.level:
                named += node.links
        others: list[Node] = []
        links = set(named)
        if len(links.intersection(blocks)) > len(made):
            waiting = [(root, BELOW, ABOVE)]
            for node, low, high in waiting:
                keys = node.keys
                for i, link in enumerate(node.links):
                    if link not in blocks:
                        continue
                    assert isinstance(link, bytes)
                    below = keys[i - 1] if i else low
                    above = keys[i] if i < len(keys) else high
                    child = new.get(link)
                    if child is None:
                        if len(others) > len(blocks):
                            return None
                        found = self.get(link)
                        if found is None or not fits(found, node.level - 1, below, above):
                            loaded = load(blocks[link], link, node.level - 1, below, above)
                            if isinstance(loaded, BadTree):
                                return None
                            found = loaded
                        child = found
                        others.append(child)
                        named += child.links
                    waiting.append((child, below, above))
            links = set(named)
        if sum(len(node.keys) for node in (*made, *others)) > MAX_ENTRIES_IN_ALL:
            return None
        # S-MST-07: two links to one subtree cannot both be right.
        return others if len(named) - named.count(b"") == len(links - {b""}) else None
