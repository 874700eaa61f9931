"""Which trees are none? Each is rightly signed, all hashes are right, and every op in it is true.

Each comes in two: crooked from of old, with a `prevData` as crooked, so that nothing but the check
of the nodes can see it; and crooked since this very commit, upon the tree that the relay knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import cbor2

from common.verdict import DropReason
from tests.simnet import mst, repo
from tests.simnet.crooked import (
    RawEntry,
    RawNode,
    entry_of,
    holder,
    path_to,
    replace,
    taken_apart,
)
from tests.simnet.drisl import cid_of, link
from tests.simnet.events import Event
from tests.simnet.lie import Lie
from tests.simnet.repo import Write
from tests.simnet.source import Source, resigned, world

Bend = Callable[[RawNode], RawNode | None]
"""Changes a tree in place; what it returns, if anything, is the new root."""

RAW_LINK: Final = link(b"\x01\x55\x12\x20" + bytes(32))
VALUE: Final = link(cid_of(b"a record that nobody has"))


def grown(source: Source, bend: Bend, write: Write | None = None, *, of_old: bool) -> Event:
    """A commit of one write whose tree is bent. of_old: the tree before it was, too."""
    ground = source.ground()
    state, commit = repo.commit_writes(
        ground, [write or source.create()], source.rev(), source.account.key
    )
    blocks: dict[bytes, bytes] = {}
    data = _bent(state.root, bend, blocks)
    records = {op["cid"].value[1:] for op in commit.ops if op["cid"] is not None}
    kept = [block for block in commit.blocks if block[0] in records]
    commit.blocks = [commit.blocks[0], *blocks.items(), *kept]
    fields = {"prevData": link(_bent(ground.root, bend, {}))} if of_old else {}
    return source.event(resigned(source, commit, data), **fields)


def _bent(root: mst.Node, bend: Bend, blocks: dict[bytes, bytes]) -> bytes:
    raw = taken_apart(root)
    return (bend(raw) or raw).seal(blocks)


def key(number: int) -> bytes:
    """The world's key of that number."""
    return world().keys[number]


def mined(depth: int, after: bytes) -> bytes:
    """A key of that depth behind another one."""
    number = 0
    while mst.depth_of(found := after + b"-%d" % number) != depth:
        number += 1
    return found


# Which node is bent. The creation of the spare key of depth 0 passes all of these:
#   root [.., 13] -> an entry-less node -> twig [14] -> leaf [15, spare, 16]


def leaf(root: RawNode) -> RawNode:
    """The node that a creation changes."""
    return holder(root, key(15))


def twig(root: RawNode) -> RawNode:
    """The one above it."""
    return holder(root, key(14))


def _node(change: Callable[[RawNode], object]) -> Bend:
    def bend(root: RawNode) -> None:
        change(leaf(root))

    return bend


def _more(name: str, value: Any) -> Bend:
    return _node(lambda node: node.more.update({name: value}))


def _shape(of: Callable[[Any], Any]) -> Bend:
    return _node(lambda node: setattr(node, "shape", of))


def _ink(of: Callable[[bytes], bytes]) -> Bend:
    return _node(lambda node: setattr(node, "ink", of))


def _entry(number: int, **changed: Any) -> Bend:
    """The leaf's first or last entry changed; unknown names are more fields."""

    def change(node: RawNode) -> None:
        entry = node.entries[number]
        for name, value in changed.items():
            if name in ("p", "k", "v", "t") and value is not ...:
                setattr(entry, name, value)
            else:
                entry.more[name] = value

    return _node(change)


def _add(new: bytes) -> Bend:
    """Another key in the leaf, at its place in the order."""

    def change(node: RawNode) -> None:
        node.entries = sorted([*node.entries, RawEntry(new, VALUE)], key=lambda entry: entry.key)

    return _node(change)


def _not_maximal(node: RawNode) -> None:
    last = node.entries[-1]
    shared = mst.common_prefix(node.entries[-2].key, last.key)
    last.p, last.k = shared - 1, last.key[shared - 1 :]


def _no_prefix(node: RawNode) -> None:
    last = node.entries[-1]
    last.p, last.k = 0, last.key


def _prefix_of_parent(root: RawNode) -> None:
    """The first entry is shortened by what it shares with the parent's key."""
    first = leaf(root).entries[0]
    first.p = mst.common_prefix(key(14), first.key)
    first.k = first.key[first.p :]


def _turned_around(node: RawNode) -> None:
    node.entries.reverse()


def _recoded(value: Any) -> bytes:
    return cbor2.dumps(value)  # keys stay in the order in which they stand


def _l_before_e(raw: bytes) -> bytes:
    value = cbor2.loads(raw)
    return _recoded({"l": value["l"], "e": value["e"]})


def _entry_unsorted(raw: bytes) -> bytes:
    value = cbor2.loads(raw)
    value["e"] = [dict(reversed(entry.items())) for entry in value["e"]]
    return _recoded(value)


def _indefinite(raw: bytes) -> bytes:
    assert raw[:3] == b"\xa2\x61e"
    assert raw[-3:] == b"\x61l\xf6"
    return raw[:3] + b"\x9f" + raw[4:-3] + b"\xff" + raw[-3:]


# Where it stands in the tree


def _level_skipped(root: RawNode) -> None:
    """The root leads to the twig, past the entry-less node between."""
    upper, hollow, below = path_to(root, key(14))[-3:]
    replace(upper, hollow, below)


def _level_added(root: RawNode) -> None:
    above, below = path_to(root, key(15))[-2:]
    replace(above, below, RawNode(below, []))


def _levels_added(root: RawNode) -> None:
    above, below = path_to(root, key(15))[-2:]
    for _ in range(30):
        below = RawNode(below, [])
    entry_of(above, key(14)).t = below


def _hollow_bottom(root: RawNode) -> None:
    """An empty node where a leaf would be."""
    entry_of(root, key(14)).t = RawNode(None, [])


def _hollow_middle(root: RawNode) -> None:
    """Entry-less nodes that lead to nothing."""
    twig(root).first = RawNode(None, [])
    hollow = path_to(root, key(14))[-2]
    hollow.first = RawNode(RawNode(None, []), [])


def _child_of_leaf(root: RawNode) -> None:
    below = mined(0, key(16))
    leaf(root).entries[-1].t = RawNode(None, [RawEntry(below, VALUE)])


def _first_child_of_leaf(root: RawNode) -> None:
    below = mined(0, key(14))
    leaf(root).first = RawNode(None, [RawEntry(below, VALUE)])


def _child_of_same_depth(root: RawNode) -> None:
    """Behind a key of depth 1 a node with keys of depth 1."""
    entry_of(root, key(14)).t = RawNode(None, [RawEntry(mined(1, key(14)), VALUE)])


def _shared(root: RawNode) -> None:
    """Both neighbours of a key are one and the same subtree."""
    entry = entry_of(root, key(8))
    entry.t = holder(root, key(3))


def _shared_by_two_levels(root: RawNode) -> None:
    """Each of some nodes leads twice to the next: to follow all takes 2 ** 20 steps."""
    below = RawNode(None, [RawEntry(mined(0, key(16)), VALUE)])
    for _ in range(20):
        below = RawNode(below, [RawEntry(mined(0, key(16) + b"~"), VALUE, below)])
    entry_of(root, key(13)).t = below


def _beside(change: Callable[[RawNode], object]) -> Bend:
    """Bent where no op passes; the node is in the CAR."""

    def bend(root: RawNode) -> None:
        change(holder(root, key(6)))

    return bend


def _root(change: Callable[[RawNode], RawNode | None]) -> Bend:
    return change


def _hidden(of: Callable[[RawNode], RawNode]) -> Bend:
    def bend(root: RawNode) -> None:
        of(root).hidden = True

    return bend


N: Final = DropReason.NODE_MALFORMED
T: Final = DropReason.TREE_MALFORMED
M: Final = DropReason.NODE_MISSING

Made = Callable[[Source], Write]
BENDS: Final[dict[str, tuple[DropReason, Bend, Made | None]]] = {
    # What a node is made of (S-MST-05).
    "node_extra_key": (N, _more("x", None), None),
    "node_l_missing": (N, _more("l", ...), None),
    "node_e_missing": (N, _more("e", ...), None),
    "node_e_is_map": (N, _more("e", {}), None),
    "node_e_is_null": (N, _more("e", None), None),
    "node_l_is_bytes": (N, _more("l", cid_of(b"no link")), None),
    "node_l_is_raw": (N, _more("l", RAW_LINK), None),
    "node_is_array": (N, _shape(lambda value: [value["e"], value["l"]]), None),
    "node_is_record": (N, _shape(lambda _: {"$type": "com.example.world"}), None),
    "node_is_null": (N, _shape(lambda _: None), None),
    "node_is_no_cbor": (N, _ink(lambda _: b"\xff\xfe"), None),
    "node_is_nothing": (N, _ink(lambda _: b""), None),
    "node_trailing_byte": (N, _ink(lambda raw: raw + b"\xf6"), None),
    "node_torn": (N, _ink(lambda raw: raw[:-1]), None),
    "node_l_before_e": (N, _ink(_l_before_e), None),
    "node_indefinite": (N, _ink(_indefinite), None),
    "node_long_p": (N, _ink(lambda raw: raw.replace(b"\x61p\x00", b"\x61p\x18\x00", 1)), None),
    "entry_unsorted": (N, _ink(_entry_unsorted), None),
    "entry_extra_key": (N, _entry(-1, x=None), None),
    "entry_k_missing": (N, _entry(-1, k=...), None),
    "entry_p_missing": (N, _entry(-1, p=...), None),
    "entry_t_missing": (N, _entry(-1, t=...), None),
    "entry_v_missing": (N, _entry(-1, v=...), None),
    "entry_is_array": (N, _shape(lambda value: {**value, "e": [[1, 2]]}), None),
    "p_negative": (N, _entry(-1, p=-1), None),
    "p_of_first_negative": (N, _entry(0, p=-1), None),
    "p_is_text": (N, _entry(0, p="0"), None),
    "p_is_false": (N, _entry(0, p=False), None),
    "p_is_float": (N, _entry(0, p=0.0), None),
    "p_past_the_key_before": (N, _entry(-1, p=200, k=b"z"), None),
    "p_of_64_bits": (N, _entry(-1, p=2**63, k=b"z"), None),
    "p_of_first": (N, _entry(0, p=3), None),
    "p_of_first_and_nothing_else": (N, _entry(0, p=40, k=b""), None),
    "p_across_nodes": (N, _prefix_of_parent, None),
    "p_not_maximal": (N, _node(_not_maximal), None),
    "p_zero_throughout": (N, _node(_no_prefix), None),
    "k_is_text": (N, _entry(0, k="com.example.world/00000496"), None),
    "k_is_null": (N, _entry(0, k=False), None),
    "k_empty": (N, _entry(-1, k=b""), None),
    "v_is_null": (N, _entry(-1, v=False), None),
    "v_is_bytes": (N, _entry(-1, v=cid_of(b"no link")), None),
    "v_is_text": (N, _entry(-1, v="bafy"), None),
    "t_is_bytes": (N, _entry(-1, t=cid_of(b"no link")), None),
    "t_is_raw": (N, _entry(-1, t=RAW_LINK), None),
    "keys_out_of_order": (N, _node(_turned_around), None),
    "key_twice": (N, _node(lambda node: node.entries.append(RawEntry(key(16), VALUE))), None),
    "key_with_a_zero_byte": (N, _add(mined(0, key(16) + b"\0")), None),
    "key_beyond_ascii": (N, _add(mined(0, key(16) + b"\xc3\xa4")), None),
    "key_too_long": (N, _add(mined(0, key(16) + b"x" * 1100)), None),
    # Where a node stands (S-MST-06, S-MST-07, S-MST-10).
    "key_of_higher_depth": (T, _add(mined(1, key(16))), None),
    "key_of_lower_depth": (
        T, lambda root: twig(root).entries.append(RawEntry(mined(0, key(16)), VALUE)), None,
    ),
    "key_before_its_interval": (T, _add(key(12)), None),
    "key_past_its_interval": (
        T,
        lambda root: holder(root, key(6)).entries.append(RawEntry(mined(0, key(9)), VALUE)),
        lambda source: source.update(6),
    ),
    "level_skipped": (T, _level_skipped, None),
    "level_added": (T, _level_added, None),
    "levels_added": (T, _levels_added, None),
    "hollow_bottom": (T, _hollow_bottom, lambda source: source.update(14)),
    "hollow_middle": (T, _hollow_middle, lambda source: source.update(13)),
    "hollow_root": (T, lambda root: RawNode(root, []), None),
    "hollow_roots": (T, lambda root: RawNode(RawNode(root, []), []), None),
    "hollow_root_to_nothing": (
        T,
        lambda _root: RawNode(RawNode(None, []), []),
        lambda source: source.delete(6),
    ),
    "child_of_leaf": (T, _child_of_leaf, None),
    "first_child_of_leaf": (T, _first_child_of_leaf, None),
    "child_of_same_depth": (T, _child_of_same_depth, lambda source: source.update(14)),
    "shared_child": (T, _shared, lambda source: source.update(8)),
    "shared_twenty_times": (T, _shared_by_two_levels, lambda source: source.update(13)),
    "crooked_beside_the_path": (N, _beside(_turned_around), None),
    "prefix_beside_the_path": (N, _beside(_no_prefix), None),
    # What is not there (S-MST-14).
    "root_missing": (M, _hidden(lambda root: root), None),
    "inner_node_missing": (M, _hidden(lambda root: path_to(root, key(14))[-2]), None),
    "twig_missing": (M, _hidden(twig), None),
    "leaf_missing": (M, _hidden(leaf), None),
    "left_neighbour_missing": (M, _hidden(leaf), lambda source: source.create(1)),
    "right_neighbour_missing": (
        M, _hidden(lambda root: holder(root, key(16))), lambda source: source.create(1),
    ),
    "node_to_split_missing": (M, _hidden(leaf), lambda source: source.delete(14)),
}  # fmt: skip
"""Reason, bend, and the write that passes the bent node (None: a creation in the leaf)."""


def _lie(name: str, *, of_old: bool) -> Lie:
    reason, bend, write = BENDS[name]
    return Lie(
        reason,
        lambda source: grown(source, bend, write and write(source), of_old=of_old),
    )


GROWN: Final[dict[str, Lie]] = {
    **{name: _lie(name, of_old=True) for name in BENDS},
    **{f"{name}_now": _lie(name, of_old=False) for name in BENDS},
}
