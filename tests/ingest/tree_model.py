"""What must the judge say of a tree? The slow and obvious answer, from all keys.

A tree is whatever the definition makes of a set of records: nothing is shared, kept or clever here.
So a tree is valid if, and only if, building one from the records found in it gives the same root;
and a list of operations is true of it if taking them back, in a plain dict, leaves what the root
before was built from.

Written from the specification alone; it shares nothing with the relay or with the simulated network.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cbor2

Records = dict[bytes, bytes]
"""Key → CID of the record."""


class Change(NamedTuple):
    """One operation: `cid` is None for a delete, `prev` for a create."""

    action: str
    path: str
    cid: bytes | None
    prev: bytes | None


def cid_of(block: bytes) -> bytes:
    return bytes.fromhex("01711220") + hashlib.sha256(block).digest()


def cid_from_text(text: str) -> bytes:
    body = text[1:].upper()
    return base64.b32decode(body + "=" * (-len(body) % 8))


def link(cid: bytes) -> cbor2.CBORTag:
    return cbor2.CBORTag(42, b"\0" + cid)


def block_of(value: object) -> bytes:
    return cbor2.dumps(value, canonical=True)


@lru_cache(maxsize=1 << 16)
def depth(key: bytes) -> int:
    """Leading zero bits of the hash, counted in pairs, one after the other."""
    bits = "".join(f"{byte:08b}" for byte in hashlib.sha256(key).digest())
    zeros = len(bits) - len(bits.lstrip("0"))
    return zeros // 2


def shared(left: bytes, right: bytes) -> int:
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(left, right))))  # noqa: B905


class Incomplete(Exception):
    """A part of the tree is not there, so nobody can tell what it holds."""


class Tree(NamedTuple):
    """root: its CID. blocks: every node's bytes by CID."""

    root: bytes
    blocks: dict[bytes, bytes]


def build(records: Mapping[bytes, bytes]) -> Tree:
    """The one tree that these records have."""
    blocks: dict[bytes, bytes] = {}

    def node(keys: Sequence[bytes], level: int) -> bytes:
        own = [key for key in keys if depth(key) == level]
        groups: list[list[bytes]] = [[] for _ in range(len(own) + 1)]
        for key in keys:
            if depth(key) != level:
                groups[sum(1 for other in own if other < key)].append(key)
        links = [link(node(group, level - 1)) if group else None for group in groups]
        entries = [
            {
                "p": (p := shared(own[i - 1], key) if i else 0),
                "k": key[p:],
                "v": link(records[key]),
                "t": links[i + 1],
            }
            for i, key in enumerate(own)
        ]
        block = block_of({"l": links[0], "e": entries})
        blocks[cid_of(block)] = block
        return cid_of(block)

    root = node(sorted(records), max(map(depth, records), default=0))
    return Tree(root, blocks)


def read(blocks: Mapping[bytes, bytes], root: bytes) -> Records | None:
    """All records of a tree whose blocks are all there, nothing checked; None if it cannot be read.

    A block that is met twice ends the reading: no tree has one twice.

    Raises:
        Incomplete: see there.
    """
    records: Records = {}
    met: set[bytes] = set()

    def visit(cid: Any) -> None:
        if cid is None:
            return
        name = cid.value[1:]
        if name in met:
            raise ValueError("met twice")
        met.add(name)
        if name not in blocks:
            raise Incomplete
        value = cbor2.loads(blocks[name])
        visit(value["l"])
        key = b""
        for entry in value["e"]:
            key = key[: entry["p"]] + entry["k"]
            records[key] = entry["v"].value[1:]
            if len(records[key]) != 36 or records[key][0] != 1 or records[key][3] != 32:
                raise ValueError("no CID of a record")
            if not key.decode("ascii").isprintable() or not 0 < len(key) <= 1024 or b" " in key:
                raise ValueError("no key")
            visit(entry["t"])

    try:
        visit(link(root))
    except (ValueError, KeyError, TypeError, AttributeError, cbor2.CBORError):
        return None
    return records


def verdict(blocks: Mapping[bytes, bytes], root: bytes, changes: Iterable[Change]) -> bytes | None:
    """The root before the changes; None when the tree is none or did not come about so.

    Raises:
        Incomplete: see there.
    """
    records = read(blocks, root)
    if records is None or build(records).root != root:
        return None
    before = taken_back(records, changes)
    return None if before is None else build(before).root


def taken_back(records: Mapping[bytes, bytes], changes: Iterable[Change]) -> Records | None:
    """The records before; None when the changes are not true of those after."""
    before = dict(records)
    for action, path, cid, prev in changes:
        key = path.encode()
        if records.get(key) != cid:
            return None
        if action == "create":
            del before[key]
        elif prev is None:
            return None
        else:
            before[key] = prev
    return before


def made(records: Mapping[bytes, bytes], changes: Iterable[Change]) -> Records:
    """The records after."""
    after = dict(records)
    for action, path, cid, _prev in changes:
        if action == "delete":
            del after[path.encode()]
        else:
            assert cid is not None
            after[path.encode()] = cid
    return after


def proof(tree: Tree, records: Iterable[bytes], changed: Iterable[bytes]) -> set[bytes]:
    """The nodes that an inversion may need: the ways to each changed key and to its neighbours."""
    keys = sorted(records)
    wanted = {tree.root}
    for key in changed:
        smaller = [other for other in keys if other < key][-1:]
        larger = [other for other in keys if other > key][:1]
        for target in (key, *smaller, *larger):
            wanted.update(way(tree, target))
    return wanted


def way(tree: Tree, target: bytes) -> list[bytes]:
    """The nodes on the way to a key, whether it is there or not; as far as they are there."""
    met = []
    cid: bytes | None = tree.root
    while cid in tree.blocks:
        assert cid is not None
        met.append(cid)
        value = cbor2.loads(tree.blocks[cid])
        following, key = value["l"], b""
        for entry in value["e"]:
            key = key[: entry["p"]] + entry["k"]
            if key == target:
                return met
            if key < target:
                following = entry["t"]
        cid = None if following is None else following.value[1:]
    return met
