"""How is a real frame taken apart, damaged in one place, and put together again?

By cbor2 and a few lines of our own: nothing of the relay's decoding is used, so that damage and
judge cannot share a mistake.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any, Final

import cbor2

from tests.interop.vectors import network_frames
from tests.simnet.drisl import car as write_car
from tests.simnet.drisl import cid_of, encode, link
from tests.simnet.mst import common_prefix, depth_of

HEADER: Final = bytes.fromhex("a261746723636f6d6d6974626f7001")


class Dissected:
    """One `#commit`. A damage changes any of this; `frame` puts it together.

    header: the frame's. body: the payload's fields but `blocks`. roots, blocks: of the CAR.
    ink: what becomes of the payload's bytes; car_ink: of the CAR's. car: in its stead, if set.
    nodes: of the tree as it came, by CID. key, level, path: of the first operation, and the CIDs of
    the nodes that a search for it passes.
    """

    def __init__(self, raw: bytes) -> None:
        assert raw.startswith(HEADER)
        self.header = HEADER
        self.body: dict[str, Any] = cbor2.loads(raw[len(HEADER) :])
        self.roots, self.blocks = read_car(self.body.pop("blocks"))
        self.ink: Callable[[bytes], bytes] = lambda payload: payload
        self.car_ink: Callable[[bytes], bytes] = lambda car: car
        self.car: Any = None
        self.by_cid = dict(self.blocks)
        self.signed: dict[str, Any] = cbor2.loads(self.by_cid[self.roots[0]])
        self.data: bytes = self.signed["data"].value[1:]
        self.nodes: dict[bytes, dict[str, Any]] = {}
        self._find_nodes(self.data)
        self.key = self.op["path"].encode()
        self.level = depth_of(self.key)
        self.path = self.search(self.key)

    @property
    def op(self) -> dict[str, Any]:
        """The first operation."""
        op: dict[str, Any] = self.body["ops"][0]
        return op

    @property
    def record(self) -> bytes | None:
        """The CID of its record, None of a deletion."""
        return None if self.op["cid"] is None else cid(self.op["cid"])

    def frame(self) -> bytes:
        """The message as it now is; a field that is `...` is left out."""
        car = write_car(self.roots, self.blocks) if self.car is None else self.car
        fields = self.body | {"blocks": self.car_ink(car) if type(car) is bytes else car}
        kept = {name: value for name, value in fields.items() if value is not ...}
        return self.header + self.ink(encode(kept))

    def _find_nodes(self, at: bytes) -> None:
        if at in self.by_cid and at not in self.nodes:
            node = self.nodes[at] = cbor2.loads(self.by_cid[at])
            for child in links(node):
                if child is not None:
                    self._find_nodes(child)

    # The tree

    def search(self, key: bytes) -> list[bytes]:
        """The nodes on the way to a key, the root first."""
        path: list[bytes] = []
        at: bytes | None = self.data
        while at is not None and at in self.nodes:
            path.append(at)
            keys = keys_of(self.nodes[at])
            if key in keys:
                break
            at = links(self.nodes[at])[sum(other < key for other in keys)]
        return path

    def needed(self) -> set[bytes]:
        """The nodes without which the one operation cannot be taken back (spec 2.3)."""
        found = set(self.path)
        if self.op["action"] == "update":
            return found
        last = self.nodes[self.path[-1]]
        keys, below = keys_of(last), links(last)
        i = sum(other < self.key for other in keys)
        if self.op["action"] == "create":
            self._merged(below[i], below[i + 1], found)
        return found

    def _merged(self, left: bytes | None, right: bytes | None, found: set[bytes]) -> None:
        """What it takes to make one subtree of two neighbours."""
        if left is not None and right is not None:
            found |= {left, right}
            self._merged(links(self.nodes[left])[-1], links(self.nodes[right])[0], found)

    # Changes

    def replace_block(self, name: bytes, data: bytes, *, rename: bool) -> bytes:
        """Another block in the place of one, under the old name or its own; that name."""
        new = cid_of(data) if rename else name
        self.blocks = [(new, data) if old == name else (old, block) for old, block in self.blocks]
        return new

    def remove_block(self, name: bytes) -> None:
        """A block less."""
        self.blocks = [block for block in self.blocks if block[0] != name]

    def recommit(self, block: bytes) -> None:
        """Another commit block, named everywhere as it has to be."""
        new = self.replace_block(self.roots[0], block, rename=True)
        self.roots[0] = new
        self.body["commit"] = link(new)


def cid(tag: cbor2.CBORTag) -> bytes:
    """The CID in a link."""
    value: bytes = tag.value
    return value[1:]


def keys_of(node: dict[str, Any]) -> list[bytes]:
    """A node's keys, in full."""
    keys: list[bytes] = []
    for entry in node["e"]:
        keys.append((keys[-1][: entry["p"]] if keys else b"") + entry["k"])
    assert all(common_prefix(a, b) < len(b) for a, b in pairwise(keys))
    return keys


def links(node: dict[str, Any]) -> list[bytes | None]:
    """A node's subtrees: before each key, and behind the last."""
    return [tag and cid(tag) for tag in (node["l"], *(entry["t"] for entry in node["e"]))]


def read_car(raw: bytes) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """The roots and blocks of an honest CAR."""
    length, at = read_varint(raw, 0)
    header = cbor2.loads(raw[at : at + length])
    at += length
    blocks = []
    while at < len(raw):
        length, at = read_varint(raw, at)
        blocks.append((raw[at : at + 36], raw[at + 36 : at + length]))
        at += length
    return [cid(root) for root in header["roots"]], blocks


def read_varint(raw: bytes, at: int) -> tuple[int, int]:
    """LEB128 → the number, and where it ends."""
    number = shift = 0
    while True:
        number |= (raw[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if raw[at - 1] < 128:
            return number, at


@cache
def real_frames() -> list[bytes]:
    """The 100 frames."""
    return network_frames()
