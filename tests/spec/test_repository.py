"""S-MST: repositories, their trees, and the CARs that they travel in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from common.envelope import NEVER_SEEN
from common.verdict import DropReason
from ingest.did_document import Broken, document_url
from ingest.node import depth_of
from tests.simnet import mst
from tests.simnet.drisl import car, cid_of, encode, link, uvarint
from tests.simnet.events import Event
from tests.simnet.repo import Commit
from tests.spec.scene import (
    STRUCTURE,
    Scene,
    all_nodes,
    create,
    create_op,
    delete,
    keys_at,
    note,
    update,
)

RECORD: Final = note()
VALUE: Final = cid_of(encode(RECORD))
HEIGHTS: Final[list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent.parent / "interop" / "mst" / "key_heights.json").read_text()
)


# --- the commit ---


def signed(scene: Scene, fields: dict[str, Any]) -> Event:
    """A message of a commit block of any fields; `...` leaves one out."""
    given: dict[str, Any] = {
        "did": scene.account.did, "rev": scene.rev(), "prev": None, "version": 3,
        "data": link(scene.account.repo.data), **fields,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not ...}
    block = encode(given)
    if "sig" not in given:
        block = encode({**given, "sig": scene.account.key.sign(block)})
    state = scene.account.repo
    commit = Commit(
        scene.account.did, str(given.get("rev", scene.rev())), state.rev, cid_of(block), block,
        state.data, [], [(cid_of(block), block)],
    )  # fmt: skip
    return scene.said(commit)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"version": 2}, id="version 2"),
        pytest.param({"version": 4}, id="version 4"),
        pytest.param({"version": "3"}, id="a version that is text"),
        pytest.param({"version": ...}, id="no version"),
        pytest.param({"data": ...}, id="no tree"),
        pytest.param({"data": None}, id="a null tree"),
        pytest.param({"data": link(b"\x01\x55\x12\x20" + bytes(32))}, id="a tree of raw bytes"),
        pytest.param({"prev": ...}, id="no prev"),
        pytest.param({"prev": "text"}, id="a prev that is text"),
        pytest.param({"rev": ...}, id="no rev"),
        pytest.param({"did": ...}, id="no DID"),
        pytest.param({"sig": b""}, id="an empty signature"),
        pytest.param({"sig": "x" * 64}, id="a signature that is text"),
        pytest.param({"sig": b"\x01" * 63}, id="a short signature"),
    ],
)
def test_s_mst_01_a_commit_has_its_six_fields(fields: dict[str, Any]) -> None:
    scene = Scene()
    assert scene.fate(signed(scene, fields)) is DropReason.COMMIT_MALFORMED


@pytest.mark.parametrize("prev", [None, link(cid_of(b"the one before"))])
@pytest.mark.parametrize("more", [{}, {"note": "unknown"}])
def test_s_mst_01_prev_may_name_a_commit_and_unknown_fields_are_signed_too(
    prev: Any, more: dict[str, Any]
) -> None:
    scene = Scene()
    assert scene.fate(signed(scene, {"prev": prev, **more})) is None


@pytest.mark.parametrize(("count", "passes"), [(255, True), (256, False)])
def test_s_mst_01_a_commit_has_fields_within_reason(count: int, passes: bool) -> None:
    scene = Scene()
    more = {f"unknown{i}": i for i in range(count - 6)}
    fate = scene.fate(signed(scene, more))
    assert fate is (None if passes else DropReason.COMMIT_MALFORMED)


@pytest.mark.parametrize("did", ["DID:PLC:X", "did:plc:" + "A" * 24, "did:plc:short", "did:PLC:x"])
def test_s_mst_02_a_did_is_in_its_normal_form(did: str) -> None:
    scene = Scene()
    fork = scene.fork([create()])
    assert scene.fate(scene.said(fork, repo=did)) is DropReason.DID_INVALID
    assert scene.fate(signed(scene, {"did": did})) is DropReason.COMMIT_MALFORMED


def test_s_mst_02_a_host_name_in_a_did_is_in_lower_case() -> None:
    wrong = document_url("did:web:PDS.example.com", "https://plc.example", allow_insecure=False)
    assert isinstance(wrong, Broken)


def test_s_mst_03_a_commit_is_named_by_all_of_its_bytes() -> None:
    scene = Scene()
    fork = scene.fork([create()])
    unsigned = {
        "did": fork.did, "rev": fork.rev, "prev": None, "version": 3,
        "data": link(scene.account.repo.data),
    }  # fmt: skip
    named = cid_of(encode(unsigned))
    fork.blocks[0] = (named, fork.block)
    fork.cid = named
    assert scene.fate(scene.said(fork)) is DropReason.CAR_BLOCK_MISMATCH


# --- the tree ---


@pytest.mark.parametrize("vector", HEIGHTS, ids=lambda vector: vector["key"] or "empty")
def test_s_mst_04_a_key_stands_at_its_depth(vector: dict[str, Any]) -> None:
    assert depth_of(vector["key"].encode()) == vector["height"]
    # The trees of these tests are built by this one.
    assert mst.depth_of(vector["key"].encode()) == vector["height"]


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("shift", [-1, 1])
def test_s_mst_04_a_key_at_another_depth_than_its_own_is_no_tree(depth: int, shift: int) -> None:
    """A root of two keys, one of which belongs above or below the other."""
    if depth + shift < 0:
        return
    scene = Scene()
    at_home, stray = keys_at(depth, 1)[0], keys_at(depth + shift, 1)[0]
    both = sorted([at_home, stray])
    root = mst.Node(depth, both, [VALUE, VALUE], [None] * 3)
    for new in both:
        rest = [key for key in both if key != new]
        before = sealed(mst.Node(depth, rest, [VALUE], [None] * 2))
        event = scene.of_tree(root, before, [create_op(new, RECORD)], records=[encode(RECORD)])
        assert scene.fate(event) in STRUCTURE


def sealed(root: mst.Node) -> bytes:
    mst.seal(root)
    assert root.cid is not None
    return root.cid


KEYS: Final = keys_at(0, 3)
HONEST: Final = mst.Node(0, KEYS, [VALUE] * 3, [None] * 4)
"""A tree of one node, from which one key is made new."""
BEFORE: Final = sealed(mst.Node(0, KEYS[1:], [VALUE] * 2, [None] * 3))


def of_node(scene: Scene, raw: bytes) -> Event:
    """A commit whose tree is this one node, said to have gained its first key."""
    old = sealed(HONEST)
    return scene.of_tree(
        HONEST, BEFORE, [create_op(KEYS[0], RECORD)], records=[encode(RECORD)], replaced={old: raw}
    )


def node_value() -> dict[str, Any]:
    """The honest node as a value: to be spoilt, then encoded."""
    entries: list[dict[str, Any]] = []
    last = b""
    for key in KEYS:
        p = mst.common_prefix(last, key)
        entries.append({"k": key[p:], "p": p, "t": None, "v": link(VALUE)})
        last = key
    return {"e": entries, "l": None}


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda value: value.pop(name)


def entry(i: int, **change: Any) -> Callable[[dict[str, Any]], None]:
    return lambda value: value["e"][i].update(change)


def test_s_mst_05_the_honest_node_passes() -> None:
    scene = Scene()
    assert scene.fate(of_node(scene, encode(node_value()))) is None


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(without("l"), id="a node without l"),
        pytest.param(without("e"), id="a node without e"),
        pytest.param(lambda v: v.update(x=1), id="a node with a field more"),
        pytest.param(lambda v: v.update(l=False), id="l that is false"),
        pytest.param(lambda v: v.update(l=VALUE), id="l that is a byte string"),
        pytest.param(lambda v: v.update(e={}), id="e that is a map"),
        pytest.param(lambda v: v.update(e=None), id="e that is null"),
        pytest.param(lambda v: v["e"].__setitem__(1, []), id="an entry that is an array"),
        pytest.param(lambda v: v["e"][1].pop("t"), id="an entry without t"),
        pytest.param(lambda v: v["e"][1].pop("p"), id="an entry without p"),
        pytest.param(lambda v: v["e"][1].pop("k"), id="an entry without k"),
        pytest.param(lambda v: v["e"][1].pop("v"), id="an entry without v"),
        pytest.param(entry(1, x=None), id="an entry with a field more"),
        pytest.param(entry(1, v=None), id="v that is null"),
        pytest.param(entry(1, v=VALUE), id="v that is a byte string"),
        pytest.param(entry(1, k="text"), id="k that is text"),
        pytest.param(entry(1, p=None), id="p that is null"),
        pytest.param(entry(1, t=False), id="t that is false"),
        pytest.param(entry(1, t=link(b"\x01\x55\x12\x20" + bytes(32))), id="t to raw bytes"),
    ],
)
def test_s_mst_05_a_node_of_another_shape_is_none(spoil: Callable[[dict[str, Any]], None]) -> None:
    scene = Scene()
    value = node_value()
    spoil(value)
    assert scene.fate(of_node(scene, encode(value))) in STRUCTURE


FIRST: Final = b"\xa4akX" + bytes([len(KEYS[0])]) + KEYS[0]
"""Where the honest node's first entry begins."""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(
            FIRST, FIRST[:4] + bytes([len(KEYS[0]) - 1]) + KEYS[0], id="a key longer than it says"
        ),
        pytest.param(
            FIRST, FIRST[:4] + bytes([len(KEYS[0]) + 1]) + KEYS[0], id="a key shorter than it says"
        ),
        pytest.param(FIRST, b"\xa4akY\x00" + FIRST[4:], id="a length longer than needed"),
        pytest.param(FIRST, b"\xa4akx" + FIRST[4:], id="a key that is text by its head"),
        pytest.param(b"ap\x00", b"ap\x18\x00", id="a p longer than needed"),
        pytest.param(b"ae\x83", b"ae\x98\x03", id="a count longer than needed"),
        pytest.param(b"ae\x83", b"ae\x84", id="an entry less than it says"),
        pytest.param(b"ae\x83", b"ae\x82", id="an entry more than it says"),
        pytest.param(b"al\xf6", b"ax\xf6", id="another field than l"),
        pytest.param(b"al\xf6", b"\x00al\xf6", id="a byte between"),
        pytest.param(b"al\xf6", b"al\xf6\x00", id="a byte behind"),
        pytest.param(b"ae\x83", b"ae\x83\x00", id="a byte before"),
    ],
)
def test_s_mst_05_a_node_of_other_bytes_is_none(old: bytes, new: bytes) -> None:
    scene = Scene()
    raw = encode(node_value())
    assert raw.count(old) == 1
    assert scene.fate(of_node(scene, raw.replace(old, new))) in STRUCTURE


def test_s_mst_05_nothing_stands_between_an_empty_list_and_a_subtree() -> None:
    """A node that only leads on, on the way to a change or beside it."""
    top = keys_at(2, 1)[0]
    low = [key for key in keys_at(0, 60) if key > top]
    bottom = mst.Node(0, low[:1], [VALUE], [None] * 2)
    between = mst.Node(1, [], [], [bottom])
    root = mst.Node(2, [top], [VALUE], [None, between])
    op = create_op(top, RECORD)
    before = sealed(bottom)
    sealed(root)
    assert Scene().fate(Scene().of_tree(root, before, [op], records=[encode(RECORD)])) is None
    between.raw = between.raw.replace(b"ae\x80", b"ae\x80\x00")
    between.cid = cid_of(between.raw)
    root.cid = None
    sealed(root)
    scene = Scene()
    event = scene.of_tree(root, before, [op], records=[encode(RECORD)])
    assert scene.fate(event) in STRUCTURE


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(entry(0, p=1), id="the first entry claims a prefix of nothing"),
        pytest.param(entry(0, p=-1), id="a negative prefix"),
        pytest.param(entry(1, p=200), id="a prefix longer than the key before"),
        pytest.param(entry(1, k=KEYS[1], p=0), id="no prefix where there is one"),
        pytest.param(
            entry(1, k=KEYS[1][5:], p=5), id="a prefix shorter than it might be"
        ),
    ],
)  # fmt: skip
def test_s_mst_06_prefixes_are_as_long_as_they_can_be_and_no_longer(
    spoil: Callable[[dict[str, Any]], None],
) -> None:
    scene = Scene()
    value = node_value()
    spoil(value)
    assert scene.fate(of_node(scene, encode(value))) in STRUCTURE


def crooked(scene: Scene, root: mst.Node, new: bytes, before: mst.Node | None = None) -> Event:
    """A commit of a crooked tree, said to have gained `new`."""
    op = create_op(new, RECORD)
    old = sealed(before) if before is not None else cid_of(b"?")
    return scene.of_tree(root, old, [op], records=[encode(RECORD)])


def test_s_mst_07_keys_ascend() -> None:
    a, b, c = KEYS
    for keys in ([b, a, c], [a, c, b], [a, a, b], [c, b, a]):
        scene = Scene()
        root = mst.Node(0, keys, [VALUE] * 3, [None] * 4)
        before = mst.Node(0, keys[1:], [VALUE] * 2, [None] * 3)
        assert scene.fate(crooked(scene, root, keys[0], before)) in STRUCTURE, keys


def test_s_mst_07_the_keys_of_a_subtree_lie_between_their_neighbours() -> None:
    high = keys_at(1, 3, "m")
    low = sorted(keys_at(0, 40, "a") + keys_at(0, 40, "m") + keys_at(0, 40, "z"))
    left = [key for key in low if key < high[0]]
    middle = [key for key in low if high[0] < key < high[1]]
    right = [key for key in low if key > high[2]]
    assert left
    assert middle
    assert right
    for place, stray in ((0, middle[0]), (1, left[0]), (1, right[0]), (3, left[0]), (3, middle[0])):
        scene = Scene()
        links: list[mst.Node | None] = [None] * 4
        links[place] = mst.Node(0, [stray], [VALUE], [None] * 2)
        root = mst.Node(1, high, [VALUE] * 3, links)
        # What is new stands beside the stray: whoever undoes it has to look there.
        for new in high[max(0, place - 1) : place + 1]:
            assert scene.fate(crooked(scene, root, new)) in STRUCTURE, (place, stray, new)


def test_s_mst_07_a_child_stands_one_level_lower() -> None:
    top = keys_at(2, 1)[0]
    low = next(key for key in keys_at(0, 60) if key > top)
    for child in (
        mst.Node(0, [low], [VALUE], [None] * 2),
        mst.Node(1, [], [], [mst.Node(1, [], [], [mst.Node(0, [low], [VALUE], [None] * 2)])]),
    ):
        scene = Scene()
        root = mst.Node(2, [top], [VALUE], [None, child])
        assert scene.fate(crooked(scene, root, low)) in STRUCTURE | {DropReason.OP_MISMATCH}
        assert scene.fate(crooked(scene, root, top)) in STRUCTURE
    scene = Scene()
    rightly = mst.Node(
        2, [top], [VALUE], [None, mst.Node(1, [], [], [mst.Node(0, [low], [VALUE], [None] * 2)])]
    )
    before = mst.Node(2, [top], [VALUE], [None, None])
    assert scene.fate(crooked(scene, rightly, low, before)) is None


@pytest.mark.parametrize("comes", [True, False])
def test_s_mst_07_no_subtree_hangs_in_two_places(comes: bool) -> None:
    """Its keys cannot lie in both, whether it came along or not."""
    first, second, new = keys_at(1, 9)[2:9:3]
    low = [key for key in keys_at(0, 60) if key < first]
    shared = mst.Node(0, low, [VALUE] * len(low), [None] * (len(low) + 1))
    for links in ([shared, shared, None, None], [shared, None, shared, None]):
        root = mst.Node(1, [first, second, new], [VALUE] * 3, links)
        before = mst.Node(1, [first, second], [VALUE] * 2, [links[0], links[1], links[2]])
        op = create_op(new, RECORD)
        scene = Scene()
        sealed(root)
        event = scene.of_tree(
            root,
            sealed(before),
            [op],
            records=[encode(RECORD)],
            leave_out=None if comes else shared.cid,
        )
        assert scene.fate(event) in STRUCTURE


def test_s_mst_07_nothing_stands_below_the_bottom() -> None:
    a, b, c = KEYS
    scene = Scene()
    below = mst.Node(-1, [b], [VALUE], [None] * 2)
    root = mst.Node(0, [a, c], [VALUE] * 2, [None, below, None])
    for new in (a, c):
        assert scene.fate(crooked(scene, root, new)) in STRUCTURE
    assert scene.fate(crooked(scene, root, b)) in STRUCTURE | {DropReason.OP_MISMATCH}


def test_s_mst_08_two_links_in_a_row_cannot_be_written_down() -> None:
    """There is one place before all entries and one behind each; a list of links is no link."""
    scene = Scene()
    value = node_value()
    value["l"] = [link(VALUE), link(VALUE)]
    assert scene.fate(of_node(scene, encode(value))) in STRUCTURE
    value = node_value()
    value["e"].insert(1, {"t": link(VALUE)})
    assert scene.fate(of_node(scene, encode(value))) in STRUCTURE


EMPTY_NODE: Final = bytes.fromhex("a2616580616cf6")


def test_s_mst_09_the_empty_tree_is_one_empty_node() -> None:
    scene = Scene(records=1)
    (path,) = scene.paths
    event = scene.commit([delete(path)])
    assert scene.account.repo.data == cid_of(EMPTY_NODE)
    assert scene.fate(event) is None
    assert scene.fate(scene.commit([create()])) is None


def test_s_mst_09_a_first_commit_follows_on_the_empty_tree() -> None:
    scene = Scene(records=None)
    fork = scene.fork([create()])
    # It has no prevData, but undoing it must leave nothing.
    assert fork.prev_data is None
    hidden = scene.said(scene.fork([create(), create("com.example.note/b")]), ops=fork.ops)
    assert scene.fate(hidden) is DropReason.PREV_DATA_MISMATCH
    assert scene.fate(scene.said(fork)) is None


def test_s_mst_10_a_node_without_entries_leads_to_some() -> None:
    top = keys_at(2, 1)[0]
    low = next(key for key in keys_at(0, 60) if key > top)
    bottom = mst.Node(0, [low], [VALUE], [None] * 2)
    empty = mst.Node(1, [], [], [None])
    cases = {
        "a root that only leads on": (mst.Node(1, [], [], [bottom]), low),
        "a bottom without entries": (mst.Node(2, [top], [VALUE], [empty, None]), top),
        "the same on the right": (mst.Node(2, [top], [VALUE], [None, empty]), top),
        "an empty chain": (
            mst.Node(2, [top], [VALUE], [mst.Node(1, [], [], [mst.Node(0, [], [], [None])]), None]),
            top,
        ),
    }
    for name, (root, new) in cases.items():
        scene = Scene()
        fate = scene.fate(crooked(scene, root, new))
        assert fate in STRUCTURE, (name, fate)
    scene = Scene()
    between = mst.Node(2, [top], [VALUE], [None, mst.Node(1, [], [], [bottom])])
    before = mst.Node(0, [low], [VALUE], [None] * 2)
    assert scene.fate(crooked(scene, between, top, before)) is None


# --- the CAR ---


def plain(fork: Commit) -> bytes:
    return car([fork.cid], fork.blocks)


def header(fields: dict[str, Any]) -> bytes:
    raw = encode(fields)
    return uvarint(len(raw)) + raw


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(lambda c, f: c[:-1], DropReason.CAR_MALFORMED, id="torn"),
        pytest.param(lambda c, f: c + b"\x00", DropReason.CAR_MALFORMED, id="an empty block"),
        pytest.param(lambda c, f: c + b"\x05abcde", DropReason.CAR_MALFORMED, id="a block without a CID"),
        pytest.param(lambda c, f: c[:1], DropReason.CAR_MALFORMED, id="half a header"),
        pytest.param(lambda c, f: b"\xba\x00" + c[1:], DropReason.CAR_MALFORMED, id="a length longer than needed"),
        pytest.param(lambda c, f: b"\xff" * 12, DropReason.CAR_MALFORMED, id="an endless length"),
        pytest.param(
            lambda c, f: header({"roots": [link(f.cid)], "version": 2}) + c[59:],
            DropReason.CAR_MALFORMED, id="version 2",
        ),
        pytest.param(
            lambda c, f: header({"roots": [link(f.cid)]}) + c[59:],
            DropReason.CAR_MALFORMED, id="no version",
        ),
        pytest.param(
            lambda c, f: header({"version": 1}) + c[59:], DropReason.CAR_MALFORMED, id="no list of roots"
        ),
        pytest.param(
            lambda c, f: header({"roots": [], "version": 1}) + c[59:],
            DropReason.CAR_NO_ROOT, id="no roots",
        ),
    ],
)  # fmt: skip
def test_s_mst_11_a_car_is_a_header_and_blocks_by_their_lengths(
    spoil: Callable[[bytes, Commit], bytes], reason: DropReason
) -> None:
    scene = Scene()
    fork = scene.fork([create()])
    assert len(header({"roots": [link(fork.cid)], "version": 1})) == 59
    assert scene.fate(scene.said(fork, blocks=spoil(plain(fork), fork))) is reason
    assert scene.fate(scene.said(fork, blocks=plain(fork))) is None


def test_s_mst_12_every_block_is_what_its_name_says() -> None:
    scene = Scene()
    fork = scene.fork([create()])
    extra = [*fork.blocks, (cid_of(b"one"), b"another")]
    for blocks in (
        *(
            [
                (cid, block + b"\x00") if i == j else (cid, block)
                for j, (cid, block) in enumerate(fork.blocks)
            ]
            for i in range(len(fork.blocks))
        ),
        # One that nobody needs too.
        extra,
    ):
        event = scene.said(fork, blocks=car([fork.cid], blocks))
        assert scene.fate(event) is DropReason.CAR_BLOCK_MISMATCH


def test_s_mst_13_no_order_of_blocks_is_relied_on() -> None:
    scene = Scene()
    fork = scene.fork([create(), update(scene.paths[3]), delete(scene.paths[17])])
    for _ in range(10):
        scene.rng.shuffle(fork.blocks)
        event = scene.said(fork, blocks=plain(fork))
        assert scene.fate(event, state=scene.state) is None


def test_s_mst_14_the_nodes_beside_a_change_are_needed_to_undo_it() -> None:
    """Between two subtrees stands the new key: without one of them, nobody can join them."""
    middle = keys_at(1, 8)[-1]
    low = keys_at(0, 60)
    left = mst.Node(0, [key for key in low if key < middle], [], [])
    right = mst.Node(0, [key for key in low if key > middle], [], [])
    for node in (left, right):
        node.values = [VALUE] * len(node.keys)
        node.links = [None] * (len(node.keys) + 1)
        assert node.keys
    joined = mst.Node(0, [*left.keys, *right.keys], [VALUE] * 60, [None] * 61)
    root = mst.Node(1, [middle], [VALUE], [left, right])
    before = sealed(joined)
    sealed(root)
    for missing in (left, right):
        scene = Scene()
        event = scene.of_tree(
            root,
            before,
            [create_op(middle, RECORD)],
            records=[encode(RECORD)],
            leave_out=missing.cid,
        )
        assert scene.fate(event) is DropReason.NODE_MISSING
    scene = Scene()
    whole = scene.of_tree(root, before, [create_op(middle, RECORD)], records=[encode(RECORD)])
    assert scene.fate(whole) is None


def test_s_mst_14_the_subtree_that_a_deleted_key_stood_beside_is_needed() -> None:
    """Nobody can tell that all of it lies on one side of the key."""
    keys = keys_at(1, 8)
    high, gone = keys[0], keys[-1]
    between = [key for key in keys_at(0, 60) if high < key < gone]
    child = mst.Node(0, between, [VALUE] * len(between), [None] * (len(between) + 1))
    root = mst.Node(1, [high], [VALUE], [None, child])
    before = sealed(mst.Node(1, [high, gone], [VALUE] * 2, [None, child, None]))
    op = {"action": "delete", "path": gone.decode(), "cid": None, "prev": link(VALUE)}
    scene = Scene()
    event = scene.of_tree(root, before, [op], leave_out=child.cid)
    assert scene.fate(event) is DropReason.NODE_MISSING
    assert scene.fate(scene.of_tree(root, before, [op])) is None


def test_s_mst_14_the_neighbours_of_each_change_are_needed_whatever_is_remembered() -> None:
    """Two creations beside one subtree: in one order it could be done without that, if one knew it."""
    high, new = keys_at(1, 9)[0], keys_at(1, 9)[-1]
    low = keys_at(0, 60)
    between = [key for key in low if high < key < new]
    behind = next(key for key in low if key > new)
    child = mst.Node(0, between, [VALUE] * len(between), [None] * (len(between) + 1))
    before = mst.Node(1, [high], [VALUE], [None, child])
    leaf = mst.Node(0, [behind], [VALUE], [None] * 2)
    after = mst.Node(1, [high, new], [VALUE] * 2, [None, child, leaf])
    scene = Scene()
    first = scene.of_tree(
        before, sealed(child), [create_op(high, RECORD)], records=[encode(RECORD)]
    )
    assert scene.fate(first) is None
    ops = [create_op(new, RECORD), create_op(behind, RECORD)]
    for given in (ops, ops[::-1]):
        event = scene.of_tree(
            after, sealed(before), given, records=[encode(RECORD)], leave_out=child.cid
        )
        assert scene.fate(event, state=scene.state) is DropReason.NODE_MISSING
    assert scene.fate(scene.of_tree(after, sealed(before), ops, records=[encode(RECORD)])) is None


def test_s_mst_14_the_neighbours_of_a_change_are_enough() -> None:
    scene = Scene(records=500)
    writes = [create("com.example.note/a"), delete(scene.paths[100]), update(scene.paths[300])]
    fork = scene.fork(writes)
    nodes = {node.cid for node in all_nodes(scene.account.repo.root)}
    assert len([cid for cid, _ in fork.blocks if cid in nodes]) < len(nodes) / 2
    assert scene.fate(scene.said(fork)) is None
    assert scene.fate(scene.said(scene.fork(writes)), state=NEVER_SEEN) is None
