"""How is a tree written down that is none? Raw nodes, any byte of which may be wrong.

An honest tree (tests.simnet.mst) is taken apart, bent, and named anew up to its root: all hashes
are right then, and only the tree is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.simnet import mst
from tests.simnet.drisl import cid_of, encode, link


@dataclass(slots=True, eq=False)
class RawEntry:
    """One entry. t: the subtree behind it. p, k: None as they must be. more: further fields.

    `...` in `more` leaves a field out.
    """

    key: bytes
    v: Any
    t: RawNode | Any = None
    p: Any = None
    k: Any = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class RawNode:
    """One node. first: the subtree before all entries. more: as in an entry.

    shape: what becomes of the value before it is encoded; ink: of the bytes.
    hidden: it is not put into the CAR. cid: once it is sealed, and will not be bent any more.
    """

    first: RawNode | Any
    entries: list[RawEntry]
    more: dict[str, Any] = field(default_factory=dict)
    shape: Callable[[Any], Any] = lambda value: value
    ink: Callable[[bytes], bytes] = lambda raw: raw
    hidden: bool = False
    cid: bytes | None = None

    def children(self) -> Iterator[RawNode]:
        """The subtrees that are nodes."""
        for child in (self.first, *(entry.t for entry in self.entries)):
            if isinstance(child, RawNode):
                yield child

    def seal(self, blocks: dict[bytes, bytes]) -> bytes:
        """Encode the tree, parents first in `blocks`; its CID."""
        if self.cid is not None:
            return self.cid  # two parents lead here
        below: dict[bytes, bytes] = {}
        value = {"e": self._entries(below), "l": _subtree(self.first, below)}
        raw = self.ink(encode(self.shape(_with(value, self.more))))
        self.cid = cid_of(raw)
        if not self.hidden:
            blocks[self.cid] = raw
        blocks.update(below)
        return self.cid

    def _entries(self, below: dict[bytes, bytes]) -> list[dict[str, Any]]:
        found, before = [], b""
        for entry in self.entries:
            shared = mst.common_prefix(before, entry.key)
            p = shared if entry.p is None else entry.p
            rest = entry.key[p if type(p) is int and 0 <= p <= shared else shared :]
            value = {
                "p": p,
                "k": rest if entry.k is None else entry.k,
                "v": entry.v,
                "t": _subtree(entry.t, below),
            }
            found.append(_with(value, entry.more))
            before = entry.key
        return found


def _with(value: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in (value | more).items() if part is not ...}


def _subtree(child: RawNode | Any, below: dict[bytes, bytes]) -> Any:
    return link(child.seal(below)) if isinstance(child, RawNode) else child


def taken_apart(node: mst.Node) -> RawNode:
    """An honest tree, ready to be bent."""
    subtrees = [child and taken_apart(child) for child in node.links]
    entries = [
        RawEntry(key, link(value), subtree)
        for key, value, subtree in zip(node.keys, node.values, subtrees[1:], strict=True)
    ]
    return RawNode(subtrees[0], entries)


def path_to(root: RawNode, key: bytes) -> list[RawNode]:
    """The nodes from the root to the one that holds `key`, or would hold it at the bottom."""
    path, node = [], root
    while True:
        path.append(node)
        if any(entry.key == key for entry in node.entries):
            return path
        before = [entry for entry in node.entries if entry.key < key]
        child = before[-1].t if before else node.first
        if not isinstance(child, RawNode):
            return path
        node = child


def holder(root: RawNode, key: bytes) -> RawNode:
    """The node that holds a key."""
    return path_to(root, key)[-1]


def entry_of(root: RawNode, key: bytes) -> RawEntry:
    """The entry of a key."""
    return next(entry for entry in holder(root, key).entries if entry.key == key)


def replace(parent: RawNode, child: RawNode, other: Any) -> None:
    """Let a parent lead elsewhere."""
    if parent.first is child:
        parent.first = other
    for entry in parent.entries:
        if entry.t is child:
            entry.t = other
