"""Are the simulated network's trees real trees? The published vectors, and a slow rebuild."""

from __future__ import annotations

import base64
import itertools
import json
import random
from pathlib import Path
from typing import Any, Final

import cbor2
import pytest

from tests.simnet import mst
from tests.simnet.drisl import CID_PREFIX, cid_of

INTEROP: Final = Path(__file__).parent / "interop"
HEIGHTS: Final = json.loads((INTEROP / "mst/key_heights.json").read_text())
PREFIXES: Final = json.loads((INTEROP / "mst/common_prefix.json").read_text())
PROOFS: Final = json.loads((INTEROP / "firehose/commit-proof-fixtures.json").read_text())


def cid_bytes(text: str) -> bytes:
    """A CID from its text form."""
    body = text[1:].upper()
    return base64.b32decode(body + "=" * (-len(body) % 8))


def slow_root(records: dict[bytes, bytes]) -> bytes:
    """The root CID of a set of records, by the definition: nothing shared, nothing clever."""

    def node(keys: list[bytes], level: int) -> cbor2.CBORTag:
        groups: list[list[bytes]] = [[]]
        own: list[bytes] = []
        for key in keys:
            if mst.depth_of(key) == level:
                own.append(key)
                groups.append([])
            else:
                groups[-1].append(key)
        links = [node(group, level - 1) if group else None for group in groups]
        entries: list[dict[str, Any]] = []
        last = b""
        for key, right in zip(own, links[1:], strict=True):
            p = max(n for n in range(len(key) + 1) if last[:n] == key[:n] and n <= len(last))
            value = cbor2.CBORTag(42, b"\0" + records[key])
            entries.append({"p": p, "k": key[p:], "v": value, "t": right})
            last = key
        block = cbor2.dumps({"l": links[0], "e": entries}, canonical=True)
        return cbor2.CBORTag(42, b"\0" + cid_of(block))

    level = max((mst.depth_of(key) for key in records), default=0)
    tag = node(sorted(records), level)
    return bytes(tag.value[1:])


def root_cid(root: mst.Node) -> bytes:
    """The sealed CID of a tree."""
    mst.seal(root)
    assert root.cid is not None
    return root.cid


@pytest.mark.parametrize("case", HEIGHTS, ids=lambda case: f"height of {case['key']!r}")
def test_key_depth_is_the_published_one(case: dict[str, Any]) -> None:
    assert mst.depth_of(case["key"].encode()) == case["height"]


def test_example_keys_have_the_depth_in_their_name() -> None:
    keys = (INTEROP / "mst/example_keys.txt").read_text().split()
    assert len(keys) == 156
    assert [mst.depth_of(key.encode()) for key in keys] == [int(key[1]) for key in keys]


@pytest.mark.parametrize("case", PREFIXES, ids=lambda case: f"{case['left']!r} {case['right']!r}")
def test_common_prefix_is_the_published_one(case: dict[str, Any]) -> None:
    assert mst.common_prefix(case["left"].encode(), case["right"].encode()) == case["len"]


def test_empty_tree_is_the_published_block() -> None:
    assert mst.EMPTY.raw.hex() == "a2616580616cf6"
    assert mst.EMPTY.cid == cid_bytes("bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm")


@pytest.mark.parametrize("case", PROOFS, ids=lambda case: str(case["comment"]))
def test_commit_proof_covers_the_published_blocks(case: dict[str, Any]) -> None:
    leaf = cid_bytes(case["leafValue"])
    changes = [(key, True) for key in case["adds"]] + [(key, False) for key in case["dels"]]
    for order in itertools.permutations(changes):
        root = mst.build((key.encode(), leaf) for key in case["keys"])
        assert root_cid(root) == cid_bytes(case["rootBeforeCommit"])
        for key, added in order:
            root = mst.put(root, key.encode(), leaf) if added else mst.remove(root, key.encode())
        assert root_cid(root) == cid_bytes(case["rootAfterCommit"])
        covering = mst.covering(root, (key.encode() for key, _ in changes))
        assert {node.cid for node in covering} >= {cid_bytes(c) for c in case["blocksInProof"]}


@pytest.mark.parametrize("seed", range(6))
def test_tree_follows_a_plain_model_through_thousands_of_changes(seed: int) -> None:
    rng = random.Random(seed)
    model: dict[bytes, bytes] = {}
    root = mst.EMPTY
    size = (5, 20, 60, 150, 300, 500)[seed]
    for step in range(1000):
        key = f"com.example.{rng.choice('ab')}/{rng.randrange(size)}".encode()
        if key in model and rng.random() < 0.6:
            del model[key]
            root = mst.remove(root, key)
        else:
            model[key] = CID_PREFIX + rng.randbytes(32)
            root = mst.put(root, key, model[key])
        if step % 20 == 0 or len(model) < 4:
            assert root_cid(root) == slow_root(model)
            assert dict(mst.items(root)) == model
            assert root_cid(mst.build(model.items())) == root.cid
        ordered = sorted(model)
        place = ordered.index(key) if key in model else None
        if place is not None:
            before = ordered[place - 1] if place else None
            after = ordered[place + 1] if place + 1 < len(ordered) else None
            assert mst.neighbours(root, key) == (before, after)
            assert mst.get(root, key) == model[key]
        else:
            assert mst.get(root, key) is None
            smaller = [other for other in ordered if other < key]
            larger = [other for other in ordered if other > key]
            expected = (max(smaller, default=None), min(larger, default=None))
            assert mst.neighbours(root, key) == expected


def test_old_tree_is_untouched_by_a_change() -> None:
    rng = random.Random(7)
    records = {f"a.b.c/{n}".encode(): CID_PREFIX + rng.randbytes(32) for n in range(200)}
    old = mst.build(records.items())
    before = root_cid(old)
    changed = mst.remove(mst.put(old, b"a.b.c/new", CID_PREFIX + bytes(32)), b"a.b.c/17")
    assert root_cid(changed) != before
    assert dict(mst.items(old)) == records
    assert mst.encode_node(old) == old.raw


def test_only_the_path_of_a_change_is_encoded_anew() -> None:
    rng = random.Random(8)
    root = mst.build((f"a.b.c/{n}".encode(), CID_PREFIX + rng.randbytes(32)) for n in range(2000))
    everything = len(mst.seal(root))
    root = mst.put(root, b"a.b.c/1000x", CID_PREFIX + bytes(32))
    assert len(mst.seal(root)) < everything / 20


def test_removing_an_absent_key_is_refused() -> None:
    root = mst.build([(b"a.b.c/1", CID_PREFIX + bytes(32))])
    for key in (b"a.b.c/0", b"a.b.c/2", b"a.b.c/884976f5"):
        with pytest.raises(KeyError):
            mst.remove(root, key)
