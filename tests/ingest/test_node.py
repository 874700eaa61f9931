"""Which bytes are a node of a tree, and what is wrong with the others?"""

from __future__ import annotations

import random
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.cid import parse_cid
from common.verdict import DropReason
from ingest.node import (
    ABOVE,
    BELOW,
    EMPTY_TREE,
    EMPTY_TREE_CID,
    MAX_ENTRIES,
    MAX_KEY_BYTES,
    BadTree,
    Node,
    common_prefix,
    depth_of,
    load,
    new_entry,
    new_node,
    shared_by,
    with_right,
    with_shared,
)
from tests.ingest import tree_model as model
from tests.ingest.tree_model import block_of, cid_of, depth, link, shared

MALFORMED = DropReason.NODE_MALFORMED
CROOKED = DropReason.TREE_MALFORMED
VALUE = cid_of(b"record")


def keys_of(level: int, count: int, form: str = "a.b.c/{:05}") -> list[bytes]:
    """The first keys of that depth."""
    found: list[bytes] = []
    n = 0
    while len(found) < count:
        key = form.format(n).encode()
        if depth(key) == level:
            found.append(key)
        n += 1
    return found


BOTTOM = keys_of(0, 4)
HIGHER = keys_of(1, 4)


def fields(keys: list[bytes], links: list[bytes | None] | None = None) -> dict[str, Any]:
    """A node as the specification writes it."""
    links = links or [None] * (len(keys) + 1)
    tags = [None if cid is None else link(cid) for cid in links]
    entries = []
    before = b""
    for key, right in zip(keys, tags[1:], strict=True):
        p = shared(before, key)
        entries.append({"k": key[p:], "p": p, "t": right, "v": link(VALUE)})
        before = key
    return {"e": entries, "l": tags[0]}


def read(
    node: dict[str, Any] | bytes, level: int | None = None, low: bytes = BELOW, high: bytes = ABOVE
) -> Node | BadTree:
    raw = node if isinstance(node, bytes) else block_of(node)
    return load(raw, cid_of(raw), level, low, high)


def reason_of(node: dict[str, Any] | bytes, *place: Any) -> DropReason | None:
    found = read(node, *place)
    return found.reason if isinstance(found, BadTree) else None


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("count", [1, 2, 23, 24, 40])
def test_a_node_is_read(level: int, count: int) -> None:
    keys = keys_of(level, count)
    links: list[bytes | None] = [None] * (count + 1)
    if level:
        links = [cid_of(bytes([i])) if i % 3 else None for i in range(count + 1)]
    raw = block_of(fields(keys, links))
    for asked in (None, level):
        node = read(raw, asked)
        assert isinstance(node, Node), node
        assert (node.cid, node.level, node.keys) == (cid_of(raw), level, keys)
        assert node.links == [cid or b"" for cid in links]
        assert node.raw == raw
        assert [node.value(i) for i in range(count)] == [VALUE] * count
        assert raw.endswith(b"".join(node.entries()) + raw[node.bounds[-1] :])
        for i, cid in enumerate(links):
            if cid:
                assert raw[node.link_at(i) :][:36] == cid


def test_the_empty_tree_is_the_published_one() -> None:
    assert EMPTY_TREE.hex() == "a2616580616cf6"
    published = parse_cid("bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm")
    assert published == EMPTY_TREE_CID
    node = read(EMPTY_TREE)
    assert isinstance(node, Node)
    assert (node.level, node.keys, node.links) == (0, [], [b""])


def test_an_empty_node_stands_only_between_a_root_and_what_it_leads_to() -> None:
    leading = block_of({"e": [], "l": link(VALUE)})
    node = read(leading, 3)
    assert isinstance(node, Node)
    assert (node.level, node.keys, node.links) == (3, [], [VALUE])
    assert reason_of(leading) is CROOKED
    assert reason_of(leading, 0) is CROOKED
    assert reason_of(EMPTY_TREE, 0) is CROOKED
    assert reason_of(EMPTY_TREE, 2) is CROOKED


def test_keys_lie_between_those_of_the_parent() -> None:
    node = fields(BOTTOM)
    first, last = BOTTOM[0], BOTTOM[-1]
    assert reason_of(node, 0, first[:-1], last + b"0") is None
    assert reason_of(node, 0, first, last + b"0") is CROOKED
    assert reason_of(node, 0, first[:-1], last) is CROOKED
    assert reason_of(node, 0, last, ABOVE) is CROOKED
    assert reason_of(node, 0, BELOW, first) is CROOKED


def test_all_keys_have_the_depth_of_the_level() -> None:
    assert reason_of(fields(BOTTOM), 1) is CROOKED
    assert reason_of(fields(HIGHER), 0) is CROOKED
    assert reason_of(fields(HIGHER), 2) is CROOKED
    for mixed in ([*BOTTOM, HIGHER[-1]], [HIGHER[0], *BOTTOM]):
        ordered = sorted(mixed)
        assert reason_of(fields(ordered)) is CROOKED
        assert reason_of(fields(ordered), 0) is CROOKED
        assert reason_of(fields(ordered), 1) is CROOKED


def test_there_is_nothing_below_the_bottom() -> None:
    for i in range(len(BOTTOM) + 1):
        links: list[bytes | None] = [None] * (len(BOTTOM) + 1)
        links[i] = VALUE
        assert reason_of(fields(BOTTOM, links)) is CROOKED
        assert reason_of(fields(HIGHER, links)) is None


def entry_of(**other: Any) -> dict[str, Any]:
    return {"k": BOTTOM[0], "p": 0, "t": None, "v": link(VALUE)} | other


def first_differs(**other: Any) -> dict[str, Any]:
    return {"e": [entry_of(**other)], "l": None}


def second_differs(p: int, k: bytes) -> dict[str, Any]:
    return {"e": [entry_of(), entry_of(p=p, k=k)], "l": None}


TWO = fields(BOTTOM[:2])
TWO_RAW = block_of(TWO)
PREFIX = shared(*BOTTOM[:2])


@pytest.mark.parametrize(
    "node",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xa0", id="an empty map"),
        pytest.param(b"\xf6", id="a null"),
        pytest.param({"e": []}, id="no l"),
        pytest.param({"l": None}, id="no e"),
        pytest.param({"e": [], "l": None, "m": 0}, id="a field more"),
        pytest.param({"e": {}, "l": None}, id="e is a map"),
        pytest.param({"e": None, "l": None}, id="e is null"),
        pytest.param(TWO | {"l": False}, id="l is false"),
        pytest.param(TWO | {"l": b"\0" + VALUE}, id="l is a byte string"),
        pytest.param(TWO | {"l": link(b"\x01\x55" + VALUE[2:])}, id="l is a raw link"),
        pytest.param(TWO | {"l": link(VALUE[:-1])}, id="l is short"),
        pytest.param(first_differs(t=b"\0" + VALUE), id="t is a byte string"),
        pytest.param(first_differs(t=link(b"\x01\x55" + VALUE[2:])), id="t is a raw link"),
        pytest.param(first_differs(t=link(b"\x00\x71" + VALUE[2:])), id="t is of version 0"),
        pytest.param(first_differs(v=None), id="v is null"),
        pytest.param(first_differs(v=VALUE), id="v is a byte string"),
        pytest.param(first_differs(v=link(VALUE + b"\0")), id="v is long"),
        pytest.param(first_differs(v=link(b"\x12\x20" + bytes(32))), id="v is of version 0"),
        pytest.param(first_differs(k="text"), id="k is a text"),
        pytest.param(first_differs(k=b""), id="k is empty"),
        pytest.param(first_differs(k=b"a.b/\x00"), id="k has a control byte"),
        pytest.param(first_differs(k=b"a.b/ "), id="k has a space"),
        pytest.param(first_differs(k=b"a.b/\xc3\xa9"), id="k is not ASCII"),
        pytest.param(first_differs(k=b"x" * 70_000), id="k is endless"),
        pytest.param(first_differs(p=1), id="the first claims a prefix of nothing"),
        pytest.param(first_differs(p=300), id="the first claims a long prefix of nothing"),
        pytest.param(first_differs(p=-1), id="p is negative"),
        pytest.param(first_differs(p=None), id="p is null"),
        pytest.param(first_differs(p=0.0), id="p is a float"),
        pytest.param(first_differs(x=0), id="an entry with a field more"),
        pytest.param({"e": [{"k": b"a", "p": 0, "v": link(VALUE)}], "l": None}, id="no t"),
        pytest.param({"e": [None], "l": None}, id="an entry is null"),
        pytest.param(second_differs(0, BOTTOM[1]), id="less of the prefix than there is"),
        pytest.param(second_differs(PREFIX - 1, BOTTOM[1][PREFIX - 1 :]), id="one byte less"),
        pytest.param(second_differs(len(BOTTOM[0]) + 1, b"x"), id="more than the key before has"),
        pytest.param(second_differs(5000, b"x"), id="far more"),
        pytest.param(second_differs(0, b"A"), id="a key before the last"),
        pytest.param(second_differs(PREFIX, BOTTOM[0][PREFIX:]), id="a key twice"),
        pytest.param(TWO_RAW + b"\0", id="a byte behind it"),
        pytest.param(TWO_RAW[:-1], id="a byte less"),
        pytest.param(b"\xa2al\xf6ae\x80", id="l before e"),
        pytest.param(b"\xa2ae\x98\x02" + TWO_RAW[4:], id="a long count"),
        pytest.param(b"\xa2ae\x9f" + TWO_RAW[4:-3] + b"\xffal\xf6", id="an endless array"),
        pytest.param(b"\xa2ae\x83" + TWO_RAW[4:], id="a count too high"),
        pytest.param(b"\xa2ae\x81" + TWO_RAW[4:], id="a count too low"),
        pytest.param(TWO_RAW.replace(b"ap\0", b"ap\x18\0"), id="a long p"),
        pytest.param(TWO_RAW.replace(b"ak\x4b", b"ak\x58\x0b", 1), id="a long head of k"),
        pytest.param(TWO_RAW.replace(b"ak\x4b", b"ak\x4c", 1), id="k longer than it is"),
        pytest.param(TWO_RAW.replace(b"\xa4ak\x4b", b"\xa4ak\x6b", 1), id="k as text, same length"),
        pytest.param(TWO_RAW.replace(b"\xa4ak", b"\xa4al", 1), id="another key for k"),
        pytest.param(TWO_RAW.replace(b"\xd8\x2a", b"\xd8\x2b", 1), id="another tag"),
        pytest.param(TWO_RAW.replace(b"\xd8\x2a\x58\x25\0", b"\xd8\x2a\x58\x25\1", 1),
                     id="a link without its zero"),
    ],
)  # fmt: skip
def test_what_is_laid_out_otherwise_is_no_node(node: dict[str, Any] | bytes) -> None:
    assert reason_of(node) is MALFORMED
    assert reason_of(node, 0) is MALFORMED


def test_a_gap_that_a_link_makes_up_for_is_seen() -> None:
    # Bytes too many between two entries, and as many too few before l: the last record's CID
    # ends with what l begins with. All lengths add up; the layout does not.
    raw = block_of(fields(HIGHER[:2], [VALUE, None, None]))
    first = raw.index(b"\xa4ak", 10)
    forged = raw[:first] + b"al" + raw[first:-45] + b"al" + raw[-41:]
    assert len(forged) == len(raw)
    assert reason_of(forged, 1) is MALFORMED


def test_a_left_link_that_ends_like_a_null_is_a_link() -> None:
    cid = VALUE[:-3] + b"al\xf6"
    node = read(fields(HIGHER, [cid, None, None, None, None]), 1)
    assert isinstance(node, Node)
    assert node.links[0] == cid


def test_a_key_may_begin_with_all_of_the_one_before() -> None:
    key = next(k for n in range(500) if depth(k := f"a.b/{n}".encode()) == 0 == depth(k + b"0"))
    node = read(fields([key, key + b"0"]))
    assert isinstance(node, Node)
    assert node.keys == [key, key + b"0"]


def test_a_record_may_be_named_by_another_hash() -> None:
    odd = b"\x01\x55\x1e\x20" + bytes(32)
    node = read(first_differs(v=link(odd)))
    assert isinstance(node, Node)
    assert node.value(0) == odd


def test_a_key_has_at_most_1024_bytes() -> None:
    for length, expected in ((830, None), (MAX_KEY_BYTES, None), (MAX_KEY_BYTES + 1, MALFORMED)):
        key = next(k for n in range(99) if depth(k := f"{n:0{length}}".encode()) == 0)
        assert reason_of(first_differs(k=key)) is expected
        # Also where most of it is shared.
        other = next(k for n in range(99) if depth(k := key[:-2] + f"{n:02}".encode()) == 0)
        if other > key:
            assert reason_of(fields([key, other])) is expected


def test_a_node_has_at_most_255_entries() -> None:
    keys = keys_of(0, MAX_ENTRIES + 1)
    assert reason_of(fields(keys[:-1])) is None
    assert reason_of(fields(keys)) is MALFORMED


@given(st.binary(max_size=300) | st.builds(lambda tail: b"\xa2ae" + tail, st.binary(max_size=300)))
def test_any_bytes_are_a_node_or_not(raw: bytes) -> None:
    for place in ((None,), (0,), (3,)):
        found = read(raw, *place)
        assert isinstance(found, Node | BadTree)


def test_every_changed_byte_of_a_node_is_seen_or_makes_another_node() -> None:
    rng = random.Random(2)
    raws = [block_of(fields(keys_of(1, n), [VALUE] * (n + 1))) for n in (1, 2, 25)]
    for raw in raws:
        for at in range(len(raw)):
            changed = raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]
            found = read(changed, 1)
            if isinstance(found, Node):
                # Another record or subtree, or another key: canonical all the same.
                assert cbor2.dumps(cbor2.loads(changed), canonical=True) == changed


# --- what an entry's bytes become ---


KEYS = st.text("abc/.", min_size=1, max_size=40).map(str.encode) | st.integers(1, 1024).map(
    lambda n: b"k" * n
)


@given(KEYS, KEYS)
def test_the_common_prefix_is_the_models(left: bytes, right: bytes) -> None:
    assert common_prefix(left, right) == shared(left, right)
    assert common_prefix(left, left + right) == len(left)


@given(KEYS)
def test_the_depth_is_the_models(key: bytes) -> None:
    assert depth_of(key) == depth(key)


@given(KEYS, st.integers(0, 1024), st.integers(0, 1024), st.sampled_from([b"", VALUE]))
def test_an_entry_is_made_and_changed_as_the_model_encodes_it(
    key: bytes, one: int, other: int, right: bytes
) -> None:
    one, other = min(one, len(key) - 1), min(other, len(key) - 1)

    def expected(p: int, t: bytes) -> bytes:
        return block_of({"k": key[p:], "p": p, "t": link(t) if t else None, "v": link(VALUE)})

    entry = new_entry(key, one, VALUE)
    assert entry == expected(one, b"")
    assert shared_by(entry, key) == one
    linked = with_right(entry, b"", right)
    assert linked == expected(one, right)
    assert with_shared(linked, key, other, right) == expected(other, right)
    assert with_right(linked, right, b"") == entry
    moved = cid_of(b"moved")
    assert with_right(linked, right, moved) == expected(one, moved)


@pytest.mark.parametrize("count", [0, 1, 23, 24, 255, 256, 300])
def test_a_node_is_made_as_the_model_encodes_it(count: int) -> None:
    keys = keys_of(0, count)
    before = b""
    entries = []
    for key in keys:
        entries.append(new_entry(key, common_prefix(before, key), VALUE))
        before = key
    node = new_node(0, keys, entries, [b""] * (count + 1))
    assert node.raw == block_of(fields(keys))
    assert node.entries() == entries
    assert model.cid_of(node.raw) == model.build(dict.fromkeys(keys, VALUE)).root
