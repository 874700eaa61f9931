"""What can be wrong with a tree, or with what is said of it? Damage that is rightly hashed.

A tree is taken apart, damaged in one place, and put together again up to a new root, as a liar
would who signs it. Whether the outcome is still a tree is the model's to say: some of these kinds
leave one, of other records.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import cbor2

from tests.ingest.tree_model import Change, Records, Tree, block_of, cid_of, depth, link, shared

EMPTY = "an empty node"


class Part:
    """One node taken apart. A link is a Part, None, or what it is to be encoded as."""

    def __init__(self, left: Any, entries: list[dict[str, Any]]) -> None:
        self.left = left
        self.entries = entries
        self.more: dict[str, Any] = {}
        self.twist: Callable[[bytes], bytes] | None = None

    def links(self) -> list[Any]:
        return [self.left, *(entry["t"] for entry in self.entries)]

    def set_link(self, i: int, value: Any) -> None:
        if i:
            self.entries[i - 1]["t"] = value
        else:
            self.left = value

    def keys(self) -> list[bytes]:
        keys, key = [], b""
        for entry in self.entries:
            key = key[: entry["p"]] + entry["k"]
            keys.append(key)
        return keys

    def set_keys(self, keys: list[bytes]) -> None:
        """Other keys, encoded as they should be."""
        before = b""
        for entry, key in zip(self.entries, keys, strict=True):
            entry["p"] = shared(before, key)
            entry["k"] = key[entry["p"] :]
            before = key


def apart(tree: Tree) -> Part:
    def part(cid: bytes) -> Part:
        value = cbor2.loads(tree.blocks[cid])
        for entry in value["e"]:
            entry["t"] = entry["t"] and part(entry["t"].value[1:])
        return Part(value["l"] and part(value["l"].value[1:]), value["e"])

    return part(tree.root)


def together(root: Part) -> Tree:
    blocks: dict[bytes, bytes] = {}

    def name(part: Any) -> Any:
        if not isinstance(part, Part):
            return part
        entries = [
            {key: name(value) if key == "t" else value for key, value in entry.items()}
            for entry in part.entries
        ]
        node = {"e": entries, "l": name(part.left)} | part.more
        block = block_of({key: value for key, value in node.items() if value is not EMPTY})
        if part.twist:
            block = part.twist(block)
        blocks[cid_of(block)] = block
        return link(cid_of(block))

    return Tree(name(root).value[1:], blocks)


def parts(root: Part) -> list[Part]:
    found = [root]
    for part in found:
        found += [child for child in part.links() if isinstance(child, Part)]
    return found


def some_key(
    rng: random.Random, low: bytes = b"", high: bytes = b"\xff", of_depth: int = -1
) -> bytes:
    """A key, of that depth and between those two if chance finds one."""
    key = b""
    for _ in range(40):
        key = f"com.example.{rng.choice('ab')}/{rng.randrange(10**6)}".encode()
        if low and rng.random() < 0.7:
            key = low + str(rng.randrange(100)).encode()
        if low < key < high and of_depth in (-1, depth(key)):
            break
    return key


# --- the kinds ---

Kind = Callable[[random.Random, Part, Part], Any]
"""Damages a part, of the tree below a root. True-ish when there was something to damage."""


def keys_exchanged(rng: random.Random, _root: Part, part: Part) -> Any:
    keys = part.keys()
    if len(keys) > 1:
        i = rng.randrange(len(keys) - 1)
        keys[i], keys[i + 1] = keys[i + 1], keys[i]
        part.set_keys(keys)
    return len(keys) > 1


def key_twice(rng: random.Random, _root: Part, part: Part) -> Any:
    keys = part.keys()
    if keys:
        i = rng.randrange(len(keys))
        part.entries.insert(i, dict(part.entries[i], t=None))
        part.set_keys([*keys[:i], keys[i], *keys[i:]])
    return keys


def another_key(rng: random.Random, _root: Part, part: Part) -> Any:
    keys = part.keys()
    if keys:
        i = rng.randrange(len(keys))
        wanted = rng.choice([-1, depth(keys[i])])
        keys[i] = some_key(rng, keys[i - 1] if i else b"", of_depth=wanted)
        part.set_keys(keys)
    return keys


def less_shared(rng: random.Random, _root: Part, part: Part) -> Any:
    sharing = [(e, k) for e, k in zip(part.entries, part.keys(), strict=True) if e["p"]]
    if sharing:
        entry, key = rng.choice(sharing)
        entry["p"] = rng.randrange(entry["p"])
        entry["k"] = key[entry["p"] :]
    return sharing


def prefix_of_nothing(rng: random.Random, _root: Part, part: Part) -> Any:
    if part.entries:
        entry = part.entries[0]
        entry["p"] = rng.choice([1, 5, 23, 24, 300, 70_000])
        entry["k"] = entry["k"][rng.choice([0, 1]) :]
    return part.entries


def prefix_too_long(rng: random.Random, _root: Part, part: Part) -> Any:
    if len(part.entries) > 1:
        i = rng.randrange(1, len(part.entries))
        part.entries[i]["p"] = len(part.keys()[i - 1]) + rng.choice([0, 1, 30])
    return len(part.entries) > 1


def suffix_of_nothing(rng: random.Random, _root: Part, part: Part) -> Any:
    if part.entries:
        rng.choice(part.entries)["k"] = b""
    return part.entries


def another_record(rng: random.Random, _root: Part, part: Part) -> Any:
    if part.entries:
        rng.choice(part.entries)["v"] = link(cid_of(rng.randbytes(8)))
    return part.entries


def entry_left_out(rng: random.Random, _root: Part, part: Part) -> Any:
    if part.entries:
        keys, i = part.keys(), rng.randrange(len(part.entries))
        del part.entries[i], keys[i]
        part.set_keys(keys)
    return True


def entry_more(rng: random.Random, _root: Part, part: Part) -> Any:
    keys = part.keys()
    i = rng.randrange(len(keys) + 1)
    wanted = rng.choice([-1, depth(keys[0])]) if keys else -1
    key = some_key(rng, keys[i - 1] if i else b"", keys[i] if i < len(keys) else b"\xff", wanted)
    part.entries.insert(i, {"k": b"", "p": 0, "v": link(cid_of(key)), "t": None})
    part.set_keys([*keys[:i], key, *keys[i:]])
    return True


def subtree_left_out(rng: random.Random, _root: Part, part: Part) -> Any:
    there = [i for i, child in enumerate(part.links()) if child]
    if there:
        part.set_link(rng.choice(there), None)
    return there


def subtree_lifted(rng: random.Random, _root: Part, part: Part) -> Any:
    there = [i for i, child in enumerate(part.links()) if child]
    if there:
        i = rng.choice(there)
        part.set_link(i, rng.choice(part.links()[i].links()))
    return there


def subtree_lowered(rng: random.Random, _root: Part, part: Part) -> Any:
    there = [i for i, child in enumerate(part.links()) if child]
    if there:
        i = rng.choice(there)
        part.set_link(i, Part(part.links()[i], []))
    return there


def subtrees_exchanged(rng: random.Random, root: Part, part: Part) -> Any:
    other = rng.choice(parts(root)) if rng.random() < 0.5 else part
    i, j = rng.randrange(len(part.entries) + 1), rng.randrange(len(other.entries) + 1)
    one, two = part.links()[i], other.links()[j]
    if one is two or (one and other in parts(one)) or (two and part in parts(two)):
        return False
    part.set_link(i, two)
    other.set_link(j, one)
    return True


def subtree_twice(rng: random.Random, root: Part, part: Part) -> Any:
    other = rng.choice(parts(root))
    free = [i for i, child in enumerate(part.links()) if not child]
    if not free or part in parts(other):
        return False
    part.set_link(rng.choice(free), other)
    return True


def subtree_more(rng: random.Random, _root: Part, part: Part) -> Any:
    free = [i for i, child in enumerate(part.links()) if not child]
    if free:
        i, keys = rng.choice(free), part.keys()
        level = depth(keys[0]) if keys else 1
        high = keys[i] if i < len(keys) else b"\xff"
        child = Part(None, [{"k": b"", "p": 0, "v": link(cid_of(b"")), "t": None}])
        child.set_keys([some_key(rng, keys[i - 1] if i else b"", high, level - 1)])
        part.set_link(i, child)
    return free


def empty_at_the_bottom(rng: random.Random, _root: Part, part: Part) -> Any:
    free = [i for i, child in enumerate(part.links()) if not child]
    if free:
        child = Part(None, [])
        for _ in range(rng.randrange(3)):
            child = Part(child, [])
        part.set_link(rng.choice(free), child)
    return free


def emptied(_rng: random.Random, _root: Part, part: Part) -> Any:
    part.entries.clear()
    return True


def field_of_an_entry_missing(rng: random.Random, _root: Part, part: Part) -> Any:
    if part.entries:
        del rng.choice(part.entries)[rng.choice("ptv")]
    return part.entries


def field_more(rng: random.Random, _root: Part, part: Part) -> Any:
    rng.choice([part.more, *part.entries])[rng.choice(["a", "z", "", "ee", "\0"])] = None
    return True


def left_missing(_rng: random.Random, _root: Part, part: Part) -> Any:
    if part.left is None:
        part.left = EMPTY
    return part.left is EMPTY


def other_type(rng: random.Random, _root: Part, part: Part) -> Any:
    key = rng.choice("ekpvtl")
    if key == "l":
        part.left = rng.choice([False, 0, b"", [], {}, "", link(b"\x01"), cbor2.CBORTag(42, "")])
    elif key == "e":
        part.more["e"] = rng.choice(
            [
                None,
                {},
                b"",
                0,
                [None],
                [[]],
                [{}],
                [{**e, "t": None} for e in part.entries[:1]] * 300,
            ]
        )
    elif part.entries:
        entry = rng.choice(part.entries)
        cid = cid_of(b"x")
        entry[key] = rng.choice({
            "k": [entry["k"].decode("latin-1"), None, 3],
            "p": [-1, None, str(entry["p"]), float(entry["p"]), False, 2**64],
            "v": [None, cid, b"\0" + cid, link(cid[:-1]), link(b""), cbor2.CBORTag(43, b"\0" + cid)],
            "t": [cid, b"\0" + cid, False, link(b"\x01\x55" + cid[2:]), link(b"\0" + cid),
                  link(cid[:-1])],
        }[key])  # fmt: skip
    return True


def bytes_twisted(rng: random.Random, _root: Part, part: Part) -> Any:
    def flip(block: bytes) -> bytes:
        at = rng.randrange(len(block))
        return block[:at] + bytes([block[at] ^ 1 << rng.randrange(8)]) + block[at + 1 :]

    def cut(block: bytes) -> bytes:
        return block[: rng.randrange(len(block))]

    def more(block: bytes) -> bytes:
        at = rng.randrange(len(block) + 1)
        return block[:at] + rng.choice([b"\0", b"\xf6", b"a", rng.randbytes(3)]) + block[at:]

    def less(block: bytes) -> bytes:
        at = rng.randrange(len(block))
        return block[:at] + block[at + rng.choice([1, 2, 41]) :]

    def long_count(block: bytes) -> bytes:
        return block[:3] + b"\x98" + bytes([block[3] & 31]) + block[4:]

    def long_prefix(block: bytes) -> bytes:
        return block.replace(b"ap\0", rng.choice([b"ap\x18\0", b"ap\x19\0\0"]), 1)

    def endless(block: bytes) -> bytes:
        return block[:3] + b"\x9f" + block[4:].replace(b"al", b"\xffal", 1)

    def left_first(block: bytes) -> bytes:
        value = cbor2.loads(block)
        return b"\xa2al" + cbor2.dumps(value["l"]) + b"ae" + cbor2.dumps(value["e"], canonical=True)

    def value_longer(block: bytes) -> bytes:
        # A byte more in one place, one less in another: the length stays.
        return block.replace(b"av\xd8*X%\0", b"av\xd8*X&\0\0", 1)[:-1]

    part.twist = rng.choice(
        [
            flip,
            flip,
            flip,
            cut,
            more,
            less,
            long_count,
            long_prefix,
            endless,
            left_first,
            value_longer,
        ]
    )
    return True


def root_over_it(_rng: random.Random, root: Part, _part: Part) -> Any:
    below = Part(root.left, root.entries)
    root.left, root.entries = below, []
    return True


def root_gone(rng: random.Random, root: Part, _part: Part) -> Any:
    below = [child for child in root.links() if child]
    if below:
        child = rng.choice(below)
        root.left, root.entries = child.left, child.entries
    return below


KINDS: list[Kind] = [
    keys_exchanged, key_twice, another_key, less_shared, prefix_of_nothing, prefix_too_long,
    suffix_of_nothing, another_record, entry_left_out, entry_more, subtree_left_out, subtree_lifted,
    subtree_lowered, subtrees_exchanged, subtree_twice, subtree_more, empty_at_the_bottom, emptied,
    field_of_an_entry_missing, field_more, left_missing, other_type, bytes_twisted, root_over_it,
    root_gone,
]  # fmt: skip


def damaged(rng: random.Random, tree: Tree, kind: Kind) -> Tree | None:
    """The tree with one damage of this kind somewhere, hashed up to the root."""
    root = apart(tree)
    if not kind(rng, root, rng.choice(parts(root))):
        return None
    return together(root)


# --- what is said of it ---


def misreported(rng: random.Random, changes: list[Change], records: Records) -> list[Change]:
    """The changes with one lie among them. `records`: those after."""
    told = list(changes)
    cid = cid_of(rng.randbytes(4))
    key = rng.choice(sorted(records) or [b"com.example.a/1"]).decode()
    fresh = some_key(rng).decode()
    named = {change.path for change in told}
    roll = rng.randrange(4) if told else 3
    if roll == 3:
        lies = [
            Change("create", key, records.get(key.encode(), cid), None),
            Change("update", key, records.get(key.encode(), cid), cid),
            Change("delete", fresh, None, cid),
            Change("delete", key, None, cid),
            Change("create", fresh, cid, None),
        ]
        lie = rng.choice([lie for lie in lies if lie.path not in named] or [None])
        return [*told, lie] if lie else told
    i = rng.randrange(len(told))
    change = told[i]
    if roll == 0:
        del told[i]
    elif roll == 1 and fresh not in named:
        told[i] = change._replace(path=rng.choice([fresh, key] if key not in named else [fresh]))
    else:
        told[i] = rng.choice(
            [
                Change("create", change.path, change.cid or cid, None),
                Change("update", change.path, change.cid or cid, change.prev or cid),
                Change("delete", change.path, None, change.prev or cid),
                change._replace(cid=cid) if change.cid else change._replace(prev=cid),
                change._replace(prev=cid) if change.prev else change._replace(cid=cid),
                change._replace(prev=None),
            ]
        )
    return told
