"""Events of one account, good in all but what a test changes; and what the judge says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from coincurve import PrivateKey

from common.envelope import AccountState
from common.event import Event, decode
from common.frame import ACCOUNT_HEADER, IDENTITY_HEADER, SYNC_HEADER
from common.syntax import tid_text
from ingest.checked import Checked
from ingest.did_document import Identity
from ingest.judge import REV_SKEW_S, Accept, Known, Source, Verdict, judge
from ingest.signature import K256Key
from tests.common.commits import (
    DID,
    EMPTY,
    KEY,
    NODE,
    RECORD,
    REV,
    SINCE,
    TIME,
    car,
    cid,
    commit_block,
    encode,
    frame,
    link,
)

NOW_S = 1_784_000_000.0
HOST = Source(3, "pds.example.com")
ELSEWHERE = Source(4, "other.example.com")
IDENTITY = Identity(DID, K256Key(KEY.public_key.format()), "pds.example.com")
STATE = AccountState(SINCE, cid(EMPTY), cid(b"commit"), True, None, 3)
"""What `commit()` and `sync()` follow."""
EXPECTED = Accept(AccountState(REV, cid(NODE), cid(commit_block()), True, None, 3))
"""What is said of them."""
OTHER = PrivateKey(b"\x09" * 32)
"""A key that is not the account's."""
NEW = tid_text(int((NOW_S + REV_SKEW_S) * 1e6) << 10)
"""The newest rev that is borne."""
TOO_NEW = tid_text(int((NOW_S + REV_SKEW_S + 1) * 1e6) << 10)


def event(raw: bytes) -> Event:
    found = decode(raw)
    assert isinstance(found, Event), found
    return found


def commit(block: bytes | None = None, **changed: Any) -> Event:
    """A #commit; `block` is another signed commit, `changed` are fields of the message."""
    block = commit_block(rev=changed.get("rev", REV)) if block is None else block
    changed = {
        "commit": link(cid(block)), "blocks": car([cid(block)], [block, NODE, RECORD]), **changed,
    }  # fmt: skip
    return event(frame(**changed))


def commit_of(
    root: bytes, others: Sequence[bytes], ops: Sequence[Mapping[str, Any]], **changed: Any
) -> Event:
    """A rightly signed #commit of a tree made by hand: its root's block, and all other blocks."""
    block = commit_block(data=link(cid(root)))
    blocks = car([cid(block)], [block, root, *others])
    return commit(block, **{"blocks": blocks, "ops": list(ops), **changed})


def entry(key: str, value: bytes, shared: int = 0, right: bytes | None = None) -> dict[str, Any]:
    """An entry of a tree's node; `right` is the CID of the subtree behind it."""
    return {
        "k": key.encode()[shared:], "p": shared, "t": None if right is None else link(right),
        "v": link(value),
    }  # fmt: skip


def node(*entries: Mapping[str, Any], left: bytes | None = None) -> bytes:
    """A node's block; `left` is the CID of the subtree before all entries."""
    return encode({"e": list(entries), "l": None if left is None else link(left)})


def keys_of_depth(depth: int, count: int) -> list[str]:
    """The first paths of this depth, in order, of a collection with numbers for keys."""
    found = []
    for number in range(10_000, 99_999):
        path = f"app.example.note/{number}"
        bits = 256 - int.from_bytes(sha256(path.encode()).digest()).bit_length()
        if bits // 2 == depth:
            found.append(path)
            if len(found) == count:
                break
    return found


def sync(block: bytes | None = None, **changed: Any) -> Event:
    """A #sync; as `commit`."""
    block = commit_block(rev=changed.get("rev", REV)) if block is None else block
    fields = {
        "seq": 5, "did": DID, "rev": REV, "time": TIME, "blocks": car([cid(block)], [block]),
        **changed,
    }  # fmt: skip
    return event(SYNC_HEADER + encode(fields))


def account(**changed: Any) -> Event:
    """An #account that says "deleted"; a field `...` is left out."""
    fields = {"seq": 7, "did": DID, "time": TIME, "active": False, "status": "deleted", **changed}
    return event(ACCOUNT_HEADER + encode({k: v for k, v in fields.items() if v is not ...}))


def identity(**changed: Any) -> Event:
    """An #identity."""
    return event(IDENTITY_HEADER + encode({"seq": 6, "did": DID, "time": TIME, **changed}))


def judged(
    of: Event,
    identity: Known = IDENTITY,
    state: AccountState = STATE,
    source: Source = HOST,
    *,
    now_s: float = NOW_S,
    fresh: bool = True,
    asked: bool = True,
    checked: Checked | None = None,
) -> Verdict:
    """What the judge says, with a fresh document and the host's answer unless told otherwise."""
    return judge(
        of, identity, state, source, now_s=now_s, fresh=fresh, asked=asked, checked=checked
    )
