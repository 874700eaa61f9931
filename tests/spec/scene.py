"""Who says what to the relay? An account whose host signs whatever it is asked, and the judge.

    scene = Scene()
    assert scene.fate(scene.commit([CREATE])) is None                   # it passes
    assert scene.fate(scene.said(fork, rev=...)) is DropReason.REV_INVALID   # `...`: left out

What passes moves the relay's state of the account, as it would in the relay.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from typing import Any, Final

from common.envelope import NEVER_SEEN, AccountState
from common.event import Event as ReadEvent
from common.event import decode
from common.verdict import Drop, DropReason
from ingest.did_document import Identity, parse_document
from ingest.judge import Accept, Known, Source, Verdict, judge
from ingest.node_memory import NodeMemory
from tests.simnet import mst, repo
from tests.simnet.account import Account, plc_did
from tests.simnet.clock import Clock, datetime_text, tid
from tests.simnet.drisl import car, cid_of, encode, link
from tests.simnet.events import Event, Kind, make_event
from tests.simnet.keys import Curve, SigningKey
from tests.simnet.repo import Commit, RepoState, Write

START_US: Final = 1_784_000_000_000_000
"""When every scene begins, Unix microseconds."""
PDS: Final = Source(1, "pds.example.com")
NEW_PDS: Final = Source(2, "new.example.com")
STRANGER: Final = Source(3, "stranger.example.com")
COLLECTION: Final = "com.example.note"

STRUCTURE: Final = {DropReason.NODE_MALFORMED, DropReason.TREE_MALFORMED}
"""What a tree that is none is dropped for, whichever of its rules it breaks."""


def note(text: str = "hello") -> dict[str, Any]:
    """A record."""
    return {"$type": COLLECTION, "text": text}


def create(path: str = "com.example.note/new", record: dict[str, Any] | None = None) -> Write:
    """The creation of a record."""
    return Write("create", path, record or note(path))


def update(path: str, text: str = "changed") -> Write:
    """Another record at a path."""
    return Write("update", path, note(text))


def delete(path: str) -> Write:
    """The end of a record."""
    return Write("delete", path, None)


def keys_at(depth: int, count: int, name: str = "k") -> list[bytes]:
    """The first `count` keys of some that belong to a depth, in order of bytes."""
    found: list[bytes] = []
    number = 0
    while len(found) < count:
        key = f"{COLLECTION}/{name}{number:06}".encode()
        if mst.depth_of(key) == depth:
            found.append(key)
        number += 1
    return found


def all_nodes(root: mst.Node) -> list[mst.Node]:
    """Every node of a sealed tree, parents first."""
    found = [root]
    for child in root.links:
        if child is not None:
            found += all_nodes(child)
    return found


class Scene:
    """One account at its host, and what the relay knows of it.

    records: how many it has when the relay already knows it; None: nobody has heard of it.
    """

    def __init__(
        self, *, records: int | None = 40, curve: Curve = Curve.K256, seed: str = "alice"
    ) -> None:
        self.clock = Clock(START_US)
        self.rng = random.Random(seed)
        self.account = Account(plc_did(seed), f"{seed}.test", curve, self.clock, seed, 0)
        self.state: AccountState = NEVER_SEEN
        self.host = PDS
        self.memory = NodeMemory()
        if records is not None:
            self.account.fill(records, self.rng)
            self.knows(self.account.repo)

    def knows(self, state: RepoState) -> None:
        """Let the relay have seen a repository's newest commit."""
        self.state = self.state._replace(
            rev=state.rev, data=state.data, commit=state.commit, host=self.host.host
        )

    @property
    def now_s(self) -> float:
        """The relay's clock: some seconds after whatever was said."""
        return START_US / 1e6 + 30

    @property
    def paths(self) -> list[str]:
        """What the account has records at, in order."""
        return [key.decode() for key, _ in mst.items(self.account.repo.root)]

    def identity(self, host: Source | None = None) -> Identity:
        """What the DID document says now."""
        endpoint = f"https://{(host or self.host).hostname}"
        found = parse_document(
            json.dumps(self.account.document(endpoint)).encode(),
            self.account.did,
            allow_insecure=False,
        )
        assert isinstance(found, Identity), found
        return found

    # --- what is said ---

    def rev(self, *, ahead_s: float = 0.0) -> str:
        """The next TID of the account."""
        return tid(self.clock.tick() + int(ahead_s * 1e6))

    def commit(self, writes: Sequence[Write] = (), **fields: Any) -> Event:
        """The account really commits this, and its host says so."""
        self.account.repo, commit = repo.commit_writes(
            self.account.repo, writes, self.rev(), self.account.key
        )
        return self.said(commit, **fields)

    def fork(self, writes: Sequence[Write] = (), **change: Any) -> Commit:
        """What the account could commit now; it stays where it is."""
        return self.account.forked_commit(list(writes), **change)

    def said(self, commit: Commit, /, **fields: Any) -> Event:
        """The `#commit` of a commit; a field that is `...` is left out."""
        return self.message(Kind.COMMIT, commit.fields(**{"time": self.time(), **fields}))

    def synced(self, block: bytes, /, **fields: Any) -> Event:
        """The `#sync` of a commit block."""
        cid = cid_of(block)
        given = {
            "did": self.account.did,
            "time": self.time(),
            "rev": self.account.repo.rev,
            "blocks": car([cid], [(cid, block)]),
        }
        return self.message(Kind.SYNC, {**given, **fields})

    def message(self, kind: Kind, fields: dict[str, Any]) -> Event:
        """A message of any kind; a field that is `...` is left out."""
        return make_event(kind, {name: value for name, value in fields.items() if value is not ...})

    def time(self) -> str:
        """A time that no other message has."""
        return datetime_text(self.clock.tick())

    def of_tree(
        self,
        root: mst.Node,
        before: bytes,
        ops: list[dict[str, Any]],
        *,
        records: Iterable[bytes] = (),
        replaced: dict[bytes, bytes] | None = None,
        leave_out: bytes | None = None,
    ) -> Event:
        """A rightly signed `#commit` of any tree, with all nodes of it.

        before: the message's prevData. replaced: blocks by the CIDs of those that they replace;
        whatever links to them is not changed, so this is for roots. leave_out: a block's CID.
        """
        mst.seal(root)
        assert root.cid is not None
        blocks = {node.cid: node.raw for node in all_nodes(root) if node.cid is not None}
        data = root.cid
        for old, new in (replaced or {}).items():
            del blocks[old]
            blocks[cid_of(new)] = new
            data = cid_of(new) if old == data else data
        blocks.update((cid_of(record), record) for record in records)
        rev = self.rev()
        block = repo.signed_commit(self.account.did, rev, data, self.account.key)
        commit = Commit(
            did=self.account.did,
            rev=rev,
            since=self.account.repo.rev,
            cid=cid_of(block),
            block=block,
            prev_data=before,
            ops=ops,
            blocks=[(cid_of(block), block), *blocks.items()],
        )
        commit.blocks = [(cid, block) for cid, block in commit.blocks if cid != leave_out]
        return self.said(commit)

    # --- what becomes of it ---

    def read(self, event: Event | bytes) -> ReadEvent | Drop:
        """The message as the relay decodes it."""
        found = decode(event if isinstance(event, bytes) else event.frame(7))
        assert isinstance(found, ReadEvent | Drop), found
        return found

    def verdict(self, event: Event | bytes, **given: Any) -> Verdict:
        """What the relay makes of a message; what is accepted moves its state.

        given: `source`, `identity`, `state`, `fresh`, `asked`, `now_s` in place of the usual:
        from the account's host, with today's document, everything asked that can be asked.
        """
        found, again = self.read(event), self.read(event)
        if isinstance(found, Drop):
            return found
        assert isinstance(again, ReadEvent)
        identity: Known = given.get("identity") or self.identity()
        state, source = given.get("state", self.state), given.get("source", self.host)
        rest = {
            "now_s": given.get("now_s", self.now_s),
            "fresh": given.get("fresh", True),
            "asked": given.get("asked", True),
        }
        verdict = judge(found, identity, state, source, **rest)
        # What is remembered of earlier commits saves time, and changes no verdict.
        assert judge(again, identity, state, source, memory=self.memory, **rest) == verdict
        if isinstance(verdict, Accept) and "state" not in given:
            self.state = verdict.after
        return verdict

    def fate(self, event: Event | bytes, **given: Any) -> DropReason | None:
        """Why a message is dropped; None when it passes."""
        verdict = self.verdict(event, **given)
        assert isinstance(verdict, Accept | Drop), verdict
        return verdict.reason if isinstance(verdict, Drop) else None

    def marks(self, event: Event | bytes, **given: Any) -> int:
        """The marks of a message that passes."""
        verdict = self.verdict(event, **given)
        assert isinstance(verdict, Accept), verdict
        return verdict.marks


def create_op(key: bytes, record: dict[str, Any]) -> dict[str, Any]:
    """What a message says of a creation."""
    return {"action": "create", "path": key.decode(), "cid": link(cid_of(encode(record)))}


def new_key(account: Account) -> SigningKey:
    """The key after the account's present one."""
    account.new_key()
    return account.key
