"""Is this commit what the last one leads to? Often it can be told without reading its tree.

The nodes of trees that were found sound are kept, by CID. When the nodes of the tree before are
still known, a commit's one operation is done to it, and not undone: if that gives the root that is
signed, then the new tree is the old one with this operation, and nothing of it needs to be read. So
it is with most commits of an account that writes often.

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

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from common.cid import DAG_CBOR_PREFIX
from common.event import Op
from ingest.node import (
    ABOVE,
    BELOW,
    LINK_BEFORE_END,
    MAX_ENTRIES_IN_ALL,
    BadTree,
    Node,
    depth_of,
    is_record_cid,
    load,
)
from ingest.tree import (
    Link,
    Mismatch,
    Missing,
    applied,
    fits,
    hashed,
    inserted,
    with_key,
    with_value,
)

GENERATION_BYTES: Final = 24 << 20
"""What each of the two generations holds, about: some 2,000 accounts that write often. [own]"""
MAX_KEYS: Final = 64
MAX_KEY_BYTES: Final = 128
"""Nodes of more keys, or of longer ones, are not kept. Nearly none are; a liar could fill the memory
with few of them."""

_NODE_BYTES: Final = 400
_ENTRY_BYTES: Final = 300
"""What a node and each of its entries take in memory, about."""


_Step = tuple[Node, int, bytes, bytes, bytes, bytes, bytes, Link]
"""A known node on the way down, and the index of the link taken; its new CID, bytes and link; and
what these were before. A node in the memory is its own, and changes in place: nearly all of the
cost would be in making another."""


class NodeMemory:
    """Nodes of trees that were found sound, the newest ones.

    hits, misses: of the commits that were asked about.
    """

    __slots__ = ("_bytes", "_new", "_nodes", "generation_bytes", "hits", "misses")

    def __init__(self, generation_bytes: int = GENERATION_BYTES) -> None:
        self.generation_bytes = generation_bytes
        self.hits = 0
        self.misses = 0
        self._nodes: dict[bytes, Node] = {}
        self._new: set[bytes] = set()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, cid: bytes) -> Node | None:
        """The node of that name, if it is kept."""
        return self._nodes.get(cid)

    def learn(self, nodes: Iterable[Node]) -> None:
        """Keep nodes of a tree that has passed every check, and of none other."""
        kept = {}
        for node in nodes:
            keys = node.keys
            if not keys or (len(keys) <= MAX_KEYS and max(map(len, keys)) <= MAX_KEY_BYTES):
                assert node.cid is not None
                kept[node.cid] = node
        self._keep(kept)

    def proves(
        self, blocks: dict[bytes, bytes], data: bytes, prev_data: bytes, ops: Sequence[Op]
    ) -> bool:
        """Whether the tree `data` is sound, and comes from `prev_data` by exactly this operation.

        Args:
            blocks: by CID, their hashes checked. If the answer is True, the tree's nodes have been
                taken out of it, as `undo` does.
            data, prev_data: the roots' CIDs. ops: no path twice.
        """
        way: list[_Step] = []
        gone: list[bytes] = []
        made = self._made(blocks, data, prev_data, ops, way, gone)
        if made is None:
            self.misses += 1
            return False
        new: dict[bytes, Node] = {}
        for node in made:
            assert node.cid is not None
            new[node.cid] = node
        # Done in place, and taken back if the rest is not sound.
        for node, i, cid, raw, link, _old_cid, _old_raw, _old_link in way:
            node.cid, node.raw, node.links[i] = cid, raw, link
            new[cid] = node
        if not self._rest_is_sound(blocks, data, new):
            for node, i, _cid, _raw, _link, old_cid, old_raw, old_link in way:
                node.cid, node.raw, node.links[i] = old_cid, old_raw, old_link
            self.misses += 1
            return False
        self.hits += 1
        for cid in new:
            del blocks[cid]
        # The next commit comes from the new tree. Should one come from the old, it is a miss.
        for cid in gone:
            left = None if cid in new else self._nodes.pop(cid, None)
            if left is not None and cid in self._new:
                self._new.remove(cid)
                self._bytes -= _NODE_BYTES + _ENTRY_BYTES * len(left.keys)
        self._keep(new)
        return True

    def _keep(self, nodes: dict[bytes, Node]) -> None:
        new = self._new
        for cid, node in nodes.items():
            if cid not in new:
                new.add(cid)
                self._bytes += _NODE_BYTES + _ENTRY_BYTES * len(node.keys)
        self._nodes.update(nodes)
        if self._bytes > self.generation_bytes:
            self._nodes = {cid: self._nodes[cid] for cid in new}
            self._new, self._bytes = set(), 0

    # --- what the operation makes of the tree before ---

    def _made(
        self,
        blocks: dict[bytes, bytes],
        data: bytes,
        prev_data: bytes,
        ops: Sequence[Op],
        way: list[_Step],
        gone: list[bytes],
    ) -> list[Node] | None:
        """The new tree's new nodes, if the operation leads to it and all of them came.

        To undo a delete, or one of several operations, may take more nodes from the CAR than were
        made; so there must be only one, and no delete.
        way: is given those that are known nodes but for one link. gone: the CIDs of old ones.
        """
        before = self._nodes.get(prev_data)
        # A root has keys, unless it is all of an empty tree (S-MST-10).
        if before is None or len(ops) != 1 or not (before.keys or not before.links[0]):
            return None
        op = ops[0]
        if op.cid is None or not is_record_cid(op.cid):
            return None
        key = op.path.encode()
        if len(key) > MAX_KEY_BYTES:
            return None
        depth = depth_of(key)
        try:
            made = self._follow(blocks, data, before, op, key, depth, way, gone)
            if made is not None and not made:
                way.clear()
                gone.clear()
                made = self._grow(data, prev_data, op, key, depth)
        except (Missing, Mismatch):
            return None
        if made is None or any(
            node.cid not in blocks or len(node.keys) > MAX_KEYS for node in made
        ):
            return None
        return made

    def _follow(
        self,
        blocks: dict[bytes, bytes],
        data: bytes,
        node: Node,
        op: Op,
        key: bytes,
        depth: int,
        way: list[_Step],
        gone: list[bytes],
    ) -> list[Node] | None:
        """The usual way: each node on the way down is the old one but for one link.

        The CAR's hashes are used, and nothing is hashed but the node where the key stands.
        Returns the new nodes at the end of the way; none of them where the tree grows or needs
        nodes in between; None if it is not so.
        """
        name, level, low, high = data, node.level, BELOW, ABOVE
        while level > depth:
            raw, old, keys = blocks.get(name), node.raw, node.keys
            i = bisect_left(keys, key)
            link = node.links[i]
            if not link:
                return []
            # As Node.link_at; a call costs as much as the rest of this line.
            at = node.bounds[i] - LINK_BEFORE_END if i else len(old) - 36
            end = at + 36
            if raw is None:
                return None
            below = raw[at:end]
            # S-DAT-06: of the CID only the digest may be another.
            digest = at + len(DAG_CBOR_PREFIX)
            if old[:digest] + raw[digest:end] + old[end:] != raw:
                return None
            old_cid = node.cid or b""
            way.append((node, i, name, raw, below, old_cid, old, link))
            gone.append(old_cid)
            if i:
                low = keys[i - 1]
            if i < len(keys):
                high = keys[i]
            level -= 1
            found = self._nodes.get(link)  # type: ignore[arg-type]
            if found is None or not fits(found, level, low, high):
                return None
            name, node = below, found
        if level < depth:
            return []
        gone.append(node.cid or b"")
        made: list[Node] = []
        cid, prev = op.cid, op.prev
        assert cid is not None
        if op.action == "create":
            link = with_key(self._nodes, node, key, cid, low, high)
        elif prev is not None:
            link = with_value(node, key, prev, cid)
        else:
            return None
        return made if hashed(self._nodes, link, made) == name else None

    def _grow(self, data: bytes, root: bytes, op: Op, key: bytes, depth: int) -> list[Node] | None:
        """A create that puts nodes where none were; None when it does not lead to the new root."""
        if op.action != "create" or op.cid is None:
            return None
        made: list[Node] = []
        link = applied(inserted(self._nodes, root, key, depth, op.cid))
        return made if hashed(self._nodes, link, made) == data else None

    # --- what the inversion asks of the CAR besides ---

    def _rest_is_sound(
        self, blocks: dict[bytes, bytes], data: bytes, new: dict[bytes, Node]
    ) -> bool:
        """Whether what else of the tree came is sound, too; it is added to `new`."""
        named: list[Link] = [data]
        for node in new.values():
            if node.level:
                named += node.links
        links = set(named)
        if len(links.intersection(blocks)) > len(new):
            if not self._read_rest(blocks, data, new, named):
                return False
            links = set(named)
        # S-MST-07: two links to one subtree cannot both be right.
        return len(named) - named.count(b"") == len(links - {b""})

    def _read_rest(
        self, blocks: dict[bytes, bytes], data: bytes, new: dict[bytes, Node], named: list[Link]
    ) -> bool:
        """Go through all of the tree that came. What is not new is known, or else read."""
        left = MAX_ENTRIES_IN_ALL - len(new[data].keys)
        waiting = [(new[data], BELOW, ABOVE)]
        met: set[Link] = set()
        for node, low, high in waiting:
            keys = node.keys
            for i, link in enumerate(node.links):
                if link not in blocks:
                    continue
                assert isinstance(link, bytes)
                if link in met:
                    # It stands in one place at most: nothing is looked at twice.
                    return False
                met.add(link)
                below = keys[i - 1] if i else low
                above = keys[i] if i < len(keys) else high
                child = new.get(link)
                if child is None:
                    child = self._nodes.get(link)
                    # Those on the way have new names already, and may be found by the old.
                    if (
                        child is None
                        or child.cid != link
                        or not fits(child, node.level - 1, below, above)
                    ):
                        loaded = load(blocks[link], link, node.level - 1, below, above)
                        if isinstance(loaded, BadTree):
                            return False
                        child = loaded
                    if len(child.keys) > MAX_KEYS:
                        return False
                    new[link] = child
                    named += child.links
                left -= len(child.keys)
                if left < 0:
                    return False
                waiting.append((child, below, above))
        return True
