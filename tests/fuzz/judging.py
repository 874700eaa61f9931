"""How is the whole judge hunted? Blocks are changed within, named anew up to the commit, and signed.

Without that nearly every change would end at the first hash. What passes is held against the slow
reading of the tree; and so that many do pass, `prevData` is often made what the ops lead back to.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import cbor2
import orjson

from common.cid import is_dag_cbor_cid
from common.envelope import NEVER_SEEN, AccountState
from common.event import Event
from common.event import decode as decode_frame
from common.verdict import Drop, DropReason
from ingest.did_document import Identity, parse_document
from ingest.inversion import load_tree, undo
from ingest.judge import Accept, Verdict, judge
from ingest.node import Node
from ingest.node_memory import NodeMemory
from tests.fuzz.hunt import Wrong
from tests.fuzz.mutate import BYTES, CBOR, mutated
from tests.fuzz.reading import check_tree
from tests.fuzz.seeds import DID, roots, source
from tests.ingest.dissected import read_car
from tests.ingest.straight import HOST
from tests.simnet.drisl import car, cid_of, encode, link
from tests.simnet.source import nodes_of

HEADER: Final = bytes.fromhex("a261746723636f6d6d6974626f7001")
ALL: Final = frozenset(DropReason)
BLOCKS: Final = (*BYTES, *CBOR, *CBOR)


@cache
def identity() -> Identity:
    """What the account's document says."""
    document = source().account.document(f"https://{HOST.hostname}")
    found = parse_document(orjson.dumps(document), DID, allow_insecure=False)
    assert isinstance(found, Identity)
    return found


@cache
def states() -> tuple[AccountState, ...]:
    """What the relay may know of the account."""
    old = AccountState(
        "3222222222222", cid_of(b"old"), cid_of(b"old commit"), True, None, HOST.host
    )
    return NEVER_SEEN, old


@cache
def known_nodes() -> tuple[Node, ...]:
    """The trees that the account had, as a memory knows them once commits have been undone."""
    nodes: dict[bytes, Node] = {}
    for root in roots():
        assert root.cid is not None
        assert load_tree(dict(nodes_of(root)), root.cid, nodes) is None
    return tuple(nodes.values())


def outcome(found: Verdict) -> tuple[str, object]:
    """A verdict but for its words."""
    return type(found).__name__, found.reason if isinstance(found, Drop) else found


def run(raw: bytes) -> str:
    """One message to its verdict, which a memory of the tree before may not change."""
    event = decode_frame(raw)
    if not isinstance(event, Event):
        return "no event"
    words = []
    for state in states():
        found = judge(event, identity(), state, HOST, now_s=4e9, fresh=True, asked=True)
        memory = NodeMemory()
        memory.learn(known_nodes())
        again = judge(
            event, identity(), state, HOST, now_s=4e9, fresh=True, asked=True, memory=memory
        )
        if outcome(again) != outcome(found):
            raise Wrong(f"with a memory {again}, without {found}"[:300])
        if isinstance(found, Drop):
            if found.reason not in ALL:
                raise Wrong(f"undocumented {found.reason}")
            words.append(f"{found.reason}: {found.detail}")
            continue
        if not isinstance(found, Accept):
            raise Wrong(f"a verdict of {type(found).__name__}")
        if event.commit is not None and event.kind.name == "COMMIT":
            check_passed(event)
        words.append(f"passes {event.kind.name} {found.marks} {min(len(event.ops), 3)}")
    return " / ".join(words)


def check_passed(event: Event) -> None:
    """What has passed is a tree that says what the ops say. Raises: Wrong: it is not."""
    roots, pairs = read_car(event.blocks)
    blocks = dict(pairs)
    commit = cbor2.loads(blocks[roots[0]])
    if (commit["did"], commit["rev"]) != (event.did, event.rev):
        raise Wrong("another account or rev passed")
    data = commit["data"].value[1:]
    if data not in blocks:
        if event.ops:
            raise Wrong("operations without a tree passed")
        return
    keys = check_tree(blocks, data)
    for op in event.ops:
        key = op.path.encode()
        if (key in keys) is not (op.cid is not None):
            raise Wrong("an operation passed that the tree does not tell")
        if op.cid is not None:
            if value_at(blocks[keys[key]], key) != op.cid:
                raise Wrong("an operation passed with another record than the tree's")
            if type(cbor2.loads(blocks[op.cid])) is not dict:
                raise Wrong("a record passed that is no map")


def value_at(raw: bytes, key: bytes) -> bytes:
    """The record's CID at a key of a node."""
    found = b""
    for entry in cbor2.loads(raw)["e"]:
        found = found[: entry["p"]] + entry["k"]
        if found == key:
            cid: bytes = entry["v"].value[1:]
            return cid
    raise Wrong("the key is not there")


# --- changes ---


def changed(raw: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Another message: its bytes, its fields, or its blocks are changed."""
    roll = rng.random()
    if roll < 0.1:
        return mutated(raw, rng, others, BYTES)
    parts = taken_apart(raw)
    if parts is None:
        return mutated(raw, rng, others, BLOCKS)
    body, roots, blocks = parts
    if roll < 0.25:
        body["ops"] = changed_ops(body.get("ops"), rng, blocks)
    if roll > 0.2:
        for _ in range(rng.choice((1, 1, 2))):
            change_block(body, roots, blocks, rng, others)
    if rng.random() < 0.9:
        sign_again(body, roots, blocks)
    if rng.random() < 0.6:
        led_back(body, blocks, roots)
    if rng.random() < 0.1:
        rng.shuffle(blocks)
    body["blocks"] = car(roots, blocks)
    try:
        return HEADER + encode(body)
    except Exception:  # what cbor2 read and cannot write is nobody's input
        return raw


def taken_apart(raw: bytes) -> tuple[dict[str, Any], list[bytes], list[tuple[bytes, bytes]]] | None:
    """A `#commit`'s payload, roots and blocks, if it can be read at all."""
    if not raw.startswith(HEADER):
        return None
    try:
        body = cbor2.loads(raw[len(HEADER) :])
        roots, blocks = read_car(body["blocks"])
    except Exception:
        return None
    return (body, roots, blocks) if roots and blocks else None


def changed_ops(ops: Any, rng: random.Random, blocks: list[tuple[bytes, bytes]]) -> Any:
    """One operation more, less, or another."""
    if not blocks or not isinstance(ops, list) or not all(isinstance(op, dict) for op in ops):
        return []
    ops = [dict(op) for op in ops]
    roll = rng.random()
    some = link(rng.choice(blocks)[0])
    if not ops or roll < 0.2:
        path = f"com.example.world/{rng.randrange(700):08}"
        return [
            *ops,
            {
                "action": rng.choice(("create", "update", "delete")),
                "path": path,
                "cid": rng.choice((None, some)),
                "prev": some,
            },
        ]
    op = rng.choice(ops)
    if roll < 0.4:
        ops.remove(op)
    elif roll < 0.6:
        op["action"] = rng.choice(("create", "update", "delete"))
        if op["action"] == "create":
            op.pop("prev", None)
        else:
            op.setdefault("prev", some)
        op["cid"] = None if op["action"] == "delete" else op.get("cid") or some
    else:
        op[rng.choice(("cid", "prev"))] = some
    return ops


def change_block(
    body: dict[str, Any],
    roots: list[bytes],
    blocks: list[tuple[bytes, bytes]],
    rng: random.Random,
    others: Sequence[bytes],
) -> None:
    """One block changed, or taken out, or another's put in; and all that name it follow."""
    if not blocks:
        return
    at = rng.randrange(len(blocks))
    name, block = blocks[at]
    roll = rng.random()
    if roll < 0.08:
        del blocks[at]
        return
    if roll < 0.15:
        other = taken_apart(rng.choice(others))
        if other is not None:
            blocks.append(rng.choice(other[2]))
        return
    if roll < 0.25:
        # A link leads to another block.
        target = rng.choice(blocks)[0]
        spot = block.find(rng.choice(blocks)[0])
        new = block if spot < 0 else block[:spot] + target + block[spot + 36 :]
    else:
        new = mutated(block, rng, [data for _, data in blocks], BLOCKS)
    rename(body, roots, blocks, name, new, rng)


def rename(
    body: dict[str, Any],
    roots: list[bytes],
    blocks: list[tuple[bytes, bytes]],
    name: bytes,
    new: bytes,
    rng: random.Random,
) -> None:
    """Give a block its right name, and those that name it the new one, up to the commit."""
    told = rng.random() < 0.7
    waiting = [(name, new)]
    for _ in range(40):
        if not waiting:
            return
        old, data = waiting.pop()
        cid = cid_of(data)
        for i, (other, block) in enumerate(blocks):
            if other == old:
                blocks[i] = (cid, data)
            elif old in block:
                waiting.append((other, block.replace(old, cid)))
        roots[:] = [cid if root == old else root for root in roots]
        if told and isinstance(body.get("ops"), list):
            for op in body["ops"]:
                if isinstance(op, dict) and op.get("cid") == link(old):
                    op["cid"] = link(cid)
        if body.get("commit") == link(old):
            body["commit"] = link(cid)


def sign_again(body: dict[str, Any], roots: list[bytes], blocks: list[tuple[bytes, bytes]]) -> None:
    """The commit, whatever it is now, under a right signature."""
    for i, (name, block) in enumerate(blocks):
        if name != roots[0]:
            continue
        try:
            fields = cbor2.loads(block)
            fields.pop("sig", None)
            made = encode({**fields, "sig": source().account.key.sign(encode(fields))})
        except Exception:
            return
        blocks[i] = (cid_of(made), made)
        roots[0] = cid_of(made)
        body["commit"] = link(roots[0])
        return


def led_back(body: dict[str, Any], blocks: list[tuple[bytes, bytes]], roots: list[bytes]) -> None:
    """`prevData` becomes what the operations lead back to, right or wrong."""
    try:
        data = cbor2.loads(dict(blocks)[roots[0]])["data"].value[1:]
        event = decode_frame(HEADER + encode(body | {"blocks": b"car"}))
    except Exception:
        return
    if isinstance(event, Event) and is_dag_cbor_cid(data):
        before = undo(dict(blocks), data, event.ops)
        if isinstance(before, bytes):
            body["prevData"] = link(before)
