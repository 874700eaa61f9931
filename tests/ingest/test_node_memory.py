"""Does the memory of sound trees ever say what reading the tree would not?

Every commit here is judged three times: by a memory and, where that says nothing, by the inversion;
by the inversion alone; and, where all of the tree is there, by the slow model. TREE_CASES multiplies
the number of cases.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.cid import RAW_PREFIX
from common.event import Op
from ingest import node_memory, tree
from ingest.inversion import BadTree, undo
from ingest.node import ABOVE, BELOW, MAX_ENTRIES, Node, depth_of, load
from ingest.node_memory import MAX_KEY_BYTES, MAX_KEYS, NodeMemory
from tests.ingest import tree_model as model
from tests.ingest.test_inversion import DEEP, as_ops, some_changes, some_records
from tests.ingest.tree_damage import KINDS, apart, damaged, misreported, parts, together
from tests.ingest.tree_model import Change, Records, Tree, cid_of

TIMES = float(os.environ.get("TREE_CASES", "1"))
MANY = settings(
    max_examples=int(60 * TIMES), deadline=None, suppress_health_check=list(HealthCheck)
)
FEW = settings(MANY, max_examples=int(40 * TIMES))
SEEDS = st.integers(0, 2**48)


class Judge:
    """Judges with a memory and without; the two must agree."""

    def __init__(self, memory: NodeMemory | None = None) -> None:
        self.memory = memory or NodeMemory()
        self.by_memory = 0

    def accepts(
        self, blocks: dict[bytes, bytes], data: bytes, prev_data: bytes, ops: Sequence[Op]
    ) -> bool:
        plain, kept = dict(blocks), dict(blocks)
        nodes: dict[bytes, Node] = {}
        found = undo(plain, data, ops, nodes)
        proven = self.memory.proves(kept, data, prev_data, ops)
        if proven:
            self.by_memory += 1
            assert found == prev_data, found
            # What is left over is counted: both ways of judging take out the same.
            assert kept == plain
        else:
            assert kept == blocks
            if found == prev_data:
                self.memory.learn(nodes.values())
        return found == prev_data


def proof_of(tree_: Tree, records: Records, changes: Sequence[Change]) -> dict[bytes, bytes]:
    needed = model.proof(tree_, records, (change.path.encode() for change in changes))
    return {cid: tree_.blocks[cid] for cid in needed}


class Story:
    """One account that writes; its liar's commits go nowhere."""

    def __init__(self, rng: random.Random, size: int) -> None:
        self.rng = rng
        self.records = some_records(rng, size)
        self.tree = model.build(self.records)

    def write(self, judge: Judge) -> None:
        """A true commit, with lies of many kinds before it."""
        rng = self.rng
        changes = some_changes(rng, self.records, rng.choice([1, 1, 1, 1, 1, 2, 5, 20]))
        after = model.made(self.records, changes)
        new = model.build(after)
        blocks = proof_of(new, after, changes)
        if rng.random() < 0.3:
            # More than is needed, all of it or some.
            blocks |= {c: b for c, b in new.blocks.items() if rng.random() < rng.choice([0.3, 1])}
        for _ in range(3):
            self.lie(judge, new, blocks, changes, after)
        assert judge.accepts(blocks, new.root, self.tree.root, as_ops(changes))
        self.records, self.tree = after, new

    def lie(
        self, judge: Judge, new: Tree, blocks: dict[bytes, bytes], changes: list[Change],
        after: Records,
    ) -> None:  # fmt: skip
        rng, prev, data = self.rng, self.tree.root, new.root
        told, given_blocks = changes, dict(blocks)
        roll = rng.randrange(6)
        if roll == 0:
            told = misreported(rng, changes, after)
        elif roll == 1:
            prev = rng.choice([cid_of(b"?"), new.root, *self.tree.blocks])
        elif roll == 2:
            data = rng.choice([prev, *new.blocks])
        elif roll == 3:
            for cid in rng.sample(sorted(given_blocks), rng.randrange(1, 3) % len(given_blocks)):
                del given_blocks[cid]
        else:
            crooked = damaged(rng, new, rng.choice(KINDS))
            if crooked is None:
                return
            data = crooked.root
            # Of what is as it was, only what the honest commit has: the rest may be remembered.
            given_blocks = {
                c: b for c, b in crooked.blocks.items() if c in blocks or c not in new.blocks
            }
        judge.accepts(given_blocks, data, prev, as_ops(told))


@MANY
@given(SEEDS)
def test_no_verdict_is_another_with_a_memory(seed: int) -> None:
    rng = random.Random(seed)
    judge = Judge(NodeMemory(rng.choice([20_000, 100_000, 10_000_000])))
    stories = [Story(rng, rng.choice([0, 3, 30, 100])) for _ in range(2)]
    for _ in range(12):
        rng.choice(stories).write(judge)


def test_most_commits_of_a_busy_account_are_proven() -> None:
    rng = random.Random(1)
    judge, story = Judge(), Story(rng, 120)
    for n in range(60):
        cid = cid_of(rng.randbytes(8))
        change = Change("create", f"app.bsky.feed.like/3l{n:04}", cid, None)
        after = model.made(story.records, [change])
        new = model.build(after)
        assert judge.accepts(proof_of(new, after, [change]), new.root, story.tree.root,
                             as_ops([change]))  # fmt: skip
        story.records, story.tree = after, new
    assert judge.by_memory > 45


# --- a liar whose tree is crooked where nobody looks ---


def grafted(rng: random.Random, one: Tree, other: Tree) -> tuple[Tree, list[bytes]] | None:
    """A tree with a link to a node of its own or of another one; and keys beside that link."""
    root = apart(one)
    holders = [part for part in parts(root) if part.entries and any(part.links())]
    if not holders:
        return None
    part = rng.choice(holders)
    i = rng.randrange(len(part.entries) + 1)
    donors = [child for child in parts(root)[1:] if part not in parts(child)]
    if rng.random() < 0.7:
        # What stood about here before the keys beside it did.
        place = part.keys()[max(i - 1, 0)]
        near = [(child, child.keys()) for child in parts(apart(other))[1:] if child.entries]
        donors = [child for child, keys in near if keys[0] < place < keys[-1]] or donors
    part.set_link(i, rng.choice(donors) if donors else None)
    beside = [key + b"%d" % n for key in part.keys()[max(i - 1, 0) : i + 1] for n in range(40)]
    return together(root), [key for key in beside if depth_of(key)]


def forged_insert(
    known: dict[bytes, Node], root: bytes, key: bytes, cid: bytes
) -> tuple[bytes, list[Node]] | None:
    """What a careless relay would make of it: the tree with a key more, wherever that leads."""
    made: list[Node] = []
    try:
        link = tree.applied(tree.inserted(known, root, key, depth_of(key), cid))
        return tree.hashed(known, link, made), made
    except (tree.Missing, tree.Mismatch, IndexError):
        return None


@FEW
@given(SEEDS)
def test_a_sound_node_in_a_wrong_place_proves_nothing(seed: int) -> None:
    rng = random.Random(seed)
    records = some_records(rng, 80)
    honest = model.build(records)
    before = model.build(
        {k: v for k, v in records.items() if not depth_of(k) or rng.random() < 0.6}
    )
    judge = Judge()
    # All nodes of two honest trees are seen once, and found sound.
    for sound in (honest, before):
        assert judge.accepts(dict(sound.blocks), sound.root, sound.root, [])
    for _ in range(25):
        graft = grafted(rng, honest, before)
        if graft is None or graft[0].root == honest.root:
            continue
        crooked, beside = graft
        # A commit that changes nothing brings the new nodes, and not what they lead to.
        kept = honest.blocks | before.blocks
        fresh = {cid: raw for cid, raw in crooked.blocks.items() if cid not in kept}
        if not judge.accepts(fresh, crooked.root, crooked.root, []):
            continue
        known = {cid: node for cid in crooked.blocks if (node := judge.memory.get(cid))}
        for _ in range(12):
            keys = [*some_records(rng, 1), rng.choice(DEEP), *rng.sample(beside, len(beside) > 0)]
            key = rng.choice(keys)
            cid = cid_of(key)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(tree, "fits", lambda *_: True)
                forged = forged_insert(known, crooked.root, key, cid)
            if forged is not None and key not in records:
                blocks = {node.cid or b"": node.raw for node in forged[1]}
                op = Op("create", key.decode(), cid, None)
                judge.accepts(blocks, forged[0], crooked.root, [op])


def test_the_last_test_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the look at level and keys at every step, a crooked tree is soon taken for a tree.
    monkeypatch.setattr(tree, "fits", lambda *_: True)
    monkeypatch.setattr(node_memory, "fits", lambda *_: True)
    inner = test_a_sound_node_in_a_wrong_place_proves_nothing.hypothesis.inner_test  # type: ignore[attr-defined]
    with pytest.raises(AssertionError):
        for seed in range(40):
            inner(seed)


# --- single rules ---


def learned(records: Records) -> tuple[NodeMemory, Tree]:
    """A memory that knows all of a tree."""
    judge, one = Judge(), model.build(records)
    assert judge.accepts(dict(one.blocks), one.root, one.root, [])
    return judge.memory, one


RECORDS = {f"a.b.c/{n:03}".encode(): cid_of(bytes([n])) for n in range(120)}
CHANGE = Change("create", "a.b.c/0455", cid_of(b"new"), None)


def commit_of(changes: list[Change], before: Records = RECORDS) -> tuple[dict[bytes, bytes], bytes]:
    after = model.made(before, changes)
    new = model.build(after)
    return proof_of(new, after, changes), new.root


def test_a_create_and_an_update_are_proven() -> None:
    for change in (CHANGE, Change("update", "a.b.c/017", cid_of(b"x"), RECORDS[b"a.b.c/017"])):
        memory, one = learned(RECORDS)
        blocks, data = commit_of([change])
        assert memory.proves(blocks, data, one.root, as_ops([change]))
        assert not blocks
        assert memory.hits == 1


def test_a_link_by_another_codec_is_not_proven() -> None:
    # S-DAT-06: the very bytes named as a blob are no subtree, though such a block may be in a CAR.
    memory, one = learned(RECORDS)
    change = Change("create", "a.b.c/0000", cid_of(b"new"), None)
    blocks, root = commit_of([change])
    [middle] = [cid for cid in blocks if cid in blocks[root] and cid not in one.blocks]
    blob = RAW_PREFIX + middle[4:]
    raw = blocks.pop(root).replace(middle, blob)
    blocks[blob] = blocks.pop(middle)
    blocks[cid_of(raw)] = raw
    assert isinstance(undo(dict(blocks), cid_of(raw), as_ops([change])), BadTree)
    assert not memory.proves(blocks, cid_of(raw), one.root, as_ops([change]))


def test_a_delete_is_left_to_the_inversion() -> None:
    memory, one = learned(RECORDS)
    change = Change("delete", "a.b.c/017", None, RECORDS[b"a.b.c/017"])
    blocks, data = commit_of([change])
    assert not memory.proves(blocks, data, one.root, as_ops([change]))
    assert memory.misses == 2  # with the one that taught it


def test_several_operations_are_left_to_the_inversion() -> None:
    # Undone one after the other, they may need a node that none of them has changed.
    for count in (0, 2):
        memory, one = learned(RECORDS)
        changes = [CHANGE._replace(path=f"a.b.c/0455{n}") for n in range(count)]
        blocks, data = commit_of(changes)
        assert not memory.proves(blocks, data, one.root, as_ops(changes))


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([CHANGE._replace(cid=cid_of(b"other"))], id="another record"),
        pytest.param([CHANGE._replace(path="a.b.c/0456")], id="another path"),
        pytest.param([CHANGE._replace(path="a.b.c/045")], id="a path that was there"),
        pytest.param([CHANGE._replace(action="update", prev=cid_of(b""))], id="an update"),
        pytest.param([CHANGE._replace(action="update")], id="an update without prev"),
        pytest.param([CHANGE._replace(cid=b"\0" + cid_of(b"new")[1:])], id="no CID"),
        pytest.param([], id="nothing"),
    ],
)
def test_another_operation_is_not_proven(told: list[Change]) -> None:
    memory, one = learned(RECORDS)
    blocks, data = commit_of([CHANGE])
    assert not memory.proves(blocks, data, one.root, as_ops(told))


def test_a_new_node_that_did_not_come_is_missed() -> None:
    blocks, data = commit_of([CHANGE])
    old = model.build(RECORDS)
    for cid in blocks:
        memory, one = learned(RECORDS)
        less = {other: raw for other, raw in blocks.items() if other != cid}
        # What was there before may be left out, where the inversion does not need it either.
        assert memory.proves(less, data, one.root, as_ops([CHANGE])) is (cid in old.blocks)


def forged_commit(
    memory: NodeMemory, root: bytes, key: bytes, cid: bytes
) -> tuple[dict[bytes, bytes], bytes]:
    """The blocks and the root of a commit that puts a key below any node that is known."""
    change = tree.inserted(memory, root, key, depth_of(key), cid)
    made: list[Node] = []
    data = tree.hashed(memory, tree.applied(change), made)
    return {node.cid or b"": node.raw for node in made}, data


def test_a_node_without_keys_is_no_root_that_a_commit_could_come_from() -> None:
    low = [key for key in RECORDS if depth_of(key) == 0][:20]
    top = next(key for key in DEEP if depth_of(key) > 2)
    memory, one = learned(dict.fromkeys([*low, top], cid_of(b"")))
    inner = next(node for cid in one.blocks
                 if (node := memory.get(cid)) and not node.keys and node.level == 1)  # fmt: skip
    assert inner.cid is not None
    key = low[0] + b"0"
    while depth_of(key):
        key += b"0"
    blocks, leaf = forged_commit(memory, inner.cid, key, cid_of(b""))
    raw = inner.raw[:-36] + leaf
    blocks[data := cid_of(raw)] = raw
    ops = [Op("create", key.decode(), cid_of(b""), None)]
    assert isinstance(undo(dict(blocks), data, ops), BadTree)
    assert not memory.proves(blocks, data, inner.cid, ops)


def test_what_is_no_cid_of_a_record_is_not_proven_into_the_tree() -> None:
    memory, one = learned(RECORDS)
    for odd in (b"\0" + cid_of(b"")[1:], cid_of(b"")[:3] + b"\x1f" + cid_of(b"")[4:]):
        blocks, data = forged_commit(memory, one.root, b"a.b.c/0455", odd)
        ops = [Op("create", "a.b.c/0455", odd, None)]
        assert isinstance(undo(dict(blocks), data, ops), BadTree)
        assert not memory.proves(blocks, data, one.root, ops)


def test_an_unknown_tree_before_proves_nothing() -> None:
    memory, _one = learned(RECORDS)
    blocks, data = commit_of([CHANGE])
    assert not memory.proves(blocks, data, cid_of(b"?"), as_ops([CHANGE]))
    assert not NodeMemory().proves(blocks, data, model.build(RECORDS).root, as_ops([CHANGE]))


def test_what_else_came_is_read() -> None:
    # A subtree beside the way is damaged: a tree that a memory of the old one cannot vouch for.
    old = model.build(RECORDS)
    blocks, data = commit_of([CHANGE])
    opaque = next(cid for cid in old.blocks if cid not in blocks and cid != old.root
                  and any(cid in raw for raw in blocks.values()))  # fmt: skip
    memory = NodeMemory()
    nodes: dict[bytes, Node] = {}
    way = {cid: raw for cid, raw in old.blocks.items() if cid != opaque}
    assert undo(way, old.root, [], nodes) == old.root
    memory.learn(nodes.values())
    assert not memory.proves(blocks | {opaque: b"\xa0"}, data, old.root, as_ops([CHANGE]))
    good = blocks | {opaque: old.blocks[opaque]}
    assert memory.proves(good, data, old.root, as_ops([CHANGE]))
    assert not good


def test_wide_nodes_and_long_keys_are_left_to_the_inversion() -> None:
    # Few of them would fill the memory; and so the limit of 255 entries is never the memory's.
    assert MAX_KEYS < MAX_ENTRIES
    bottom = [key for n in range(200) if model.depth(key := f"a.b.c/{n:03}".encode()) == 0]
    for count, expected in ((MAX_KEYS - 1, True), (MAX_KEYS, False), (MAX_KEYS + 1, False)):
        records = dict.fromkeys(bottom[:count], cid_of(b""))
        memory, one = learned(records)
        change = Change("create", bottom[-1].decode(), cid_of(b""), None)
        blocks, data = commit_of([change], records)
        assert memory.proves(blocks, data, one.root, as_ops([change])) is expected
    for length, expected in ((MAX_KEY_BYTES, True), (MAX_KEY_BYTES + 1, False)):
        memory, one = learned(RECORDS)
        change = Change("create", "a.b.c/" + "x" * (length - 6), cid_of(b""), None)
        blocks, data = commit_of([change])
        assert memory.proves(blocks, data, one.root, as_ops([change])) is expected


def test_of_an_account_that_writes_on_and_on_only_the_newest_tree_is_kept() -> None:
    rng = random.Random(6)
    judge, story = Judge(), Story(rng, 120)
    assert judge.accepts(dict(story.tree.blocks), story.tree.root, story.tree.root, [])
    before = len(judge.memory)
    for n in range(60):
        change = Change("create", f"app.bsky.feed.like/3l{n:04}", cid_of(b""), None)
        after = model.made(story.records, [change])
        new = model.build(after)
        blocks = proof_of(new, after, [change])
        assert judge.accepts(blocks, new.root, story.tree.root, as_ops([change]))
        story.records, story.tree = after, new
    assert judge.by_memory > 50
    assert len(judge.memory) < before + 60


def test_two_generations_bound_what_is_kept() -> None:
    rng = random.Random(3)
    memory = NodeMemory(100_000)
    most = 0
    for _ in range(60):
        one = model.build(some_records(rng, 40))
        nodes: dict[bytes, Node] = {}
        assert undo(dict(one.blocks), one.root, [], nodes) == one.root
        memory.learn(nodes.values())
        most = max(most, len(memory))
        # The newest survives.
        assert memory.get(one.root) is not None
    assert 50 < most < 1000


def test_what_is_used_stays() -> None:
    rng = random.Random(4)
    memory = NodeMemory(60_000)
    judge, story = Judge(memory), Story(rng, 60)
    assert judge.accepts(dict(story.tree.blocks), story.tree.root, story.tree.root, [])
    for n in range(80):
        change = Change("create", f"a.b.c/zz{n:03}", cid_of(bytes([n])), None)
        after = model.made(story.records, [change])
        new = model.build(after)
        blocks = proof_of(new, after, [change])
        assert judge.accepts(blocks, new.root, story.tree.root, as_ops([change]))
        story.records, story.tree = after, new
        other = model.build(some_records(rng, 3))
        assert judge.accepts(dict(other.blocks), other.root, other.root, [])
    assert judge.by_memory > 55


def test_a_loaded_node_is_left_alone_by_changes() -> None:
    one = model.build(RECORDS)
    nodes: dict[bytes, Node] = {}
    assert undo(dict(one.blocks), one.root, [], nodes) == one.root
    before = {cid: load(node.raw, cid, None if cid == one.root else node.level, BELOW, ABOVE)
              for cid, node in nodes.items()}  # fmt: skip
    rng = random.Random(5)
    changes = some_changes(rng, RECORDS, 60)
    for change in changes:
        key = change.path.encode()
        if change.action == "create":
            done = tree.inserted(nodes, one.root, key, depth_of(key), cid_of(b""))
        else:
            done = tree.removed(nodes, one.root, key, depth_of(key), RECORDS[key])
        assert tree.root_of(nodes, done) == tree.hashed(nodes, tree.applied(done), [])
    for cid, node in nodes.items():
        again = before[cid]
        assert not isinstance(again, BadTree)
        assert (node.cid, node.level, node.keys, node.links, node.raw, node.bounds) == (
            again.cid, again.level, again.keys, again.links, again.raw, again.bounds
        )  # fmt: skip
