"""What is a wrong event made from? An account in good standing, luck, and the time.

Everything is signed on a fork: the account's own state moves only where `adopt` is called, for
what is unusual and yet must pass.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from tests.simnet import mst, repo
from tests.simnet.account import Account
from tests.simnet.clock import Clock, datetime_text, tid
from tests.simnet.drisl import cid_of, encode
from tests.simnet.events import Event, Kind, make_event
from tests.simnet.repo import Commit, RepoState, Write

DEPTHS: Final = "0102 0100 3012 0310 +0 +1 +3 0 +2"
"""The keys of the world in order, each by its depth; behind a `+`, one that is not in it yet.

    3:                 202                    491
    2:        66             221                      (none)  +592
    1:   1        70     207      (none)              494  +501
    0:  0 2     67 71 72 203       222                496 +498 590

Two nodes have no entries: they lead down to what follows. +588 would stand on level 3.
"""
PAST: Final = 40
"""How many records an account holds beside the world."""


class World:
    """A small tree of which everything is known: a liar's favourite.

    keys: what is in it, in order. spare: by depth, a key that is not.
    """

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.spare: dict[int, bytes] = {}
        number = 0
        for i, letter in enumerate(DEPTHS):
            if not letter.isdigit():
                continue
            while mst.depth_of(key := f"com.example.world/{number:08}".encode()) != int(letter):
                number += 1
            number += 1
            if DEPTHS[i - 1] == "+":
                self.spare[int(letter)] = key
            else:
                self.keys.append(key)

    def items(self) -> list[tuple[bytes, bytes]]:
        """What it holds: each key with the CID of a record that nobody has."""
        return [(key, cid_of(b"world " + key)) for key in self.keys]


@cache
def world() -> World:
    """The one world; to find its keys takes some hundred hashes."""
    return World()


def world_record(source: Source) -> dict[str, Any]:
    """A record that nobody has written before."""
    return {"$type": "com.example.world", "time": source.clock.tick()}


@dataclass(frozen=True, slots=True)
class Source:
    """What an invalid event is made from."""

    account: Account
    rng: random.Random
    clock: Clock

    def commit(self, **change: Any) -> Commit:
        """A commit that the account could have made; `change` goes to `forked_commit`."""
        writes = self.account.choose_writes(self.rng)
        return self.account.forked_commit(writes, **change)

    def event(self, commit: Commit, **fields: Any) -> Event:
        """The `#commit` of a commit, with some fields replaced; `...` leaves one out."""
        time = datetime_text(self.clock.tick())
        return self.message(Kind.COMMIT, commit.fields(**{"time": time, **fields}))

    def message(self, kind: Kind, fields: dict[str, Any]) -> Event:
        """A message of any kind; a field that is `...` is left out."""
        return make_event(kind, {name: value for name, value in fields.items() if value is not ...})

    def time(self) -> str:
        """A time that no other event has."""
        return datetime_text(self.clock.tick())

    def rev(self) -> str:
        """A rev that is newer than all others."""
        return tid(self.clock.tick())

    # The world

    def settle(self) -> None:
        """Give the account the world as its past, and a few records more."""
        others = [f"app.bsky.feed.like/{self.rng.randrange(10**9)}".encode() for _ in range(PAST)]
        items = [*world().items(), *((key, cid_of(key)) for key in others)]
        self.account.paths = []
        self.account.repo = repo.filled_repo(self.account.did, items, self.rev(), self.account.key)

    @property
    def at_home(self) -> bool:
        """Whether the world is part of the account's own tree, so that a lie stands upon it."""
        return mst.get(self.account.repo.root, world().keys[0]) is not None

    def ground(self) -> RepoState:
        """A state that holds the world: the account's own, else one nobody has heard of."""
        own = self.account.repo
        if self.at_home:
            return own
        root = _sealed(tuple(world().items()))
        assert root.cid is not None
        return own._replace(root=root, data=root.cid, rev=own.rev or tid(self.clock.tick()))

    def world_commit(self, writes: list[Write], *, whole: bool = True) -> Commit:
        """A commit on the world. whole: with all nodes of the tree, not only what proves it."""
        state, commit = repo.commit_writes(
            self.ground(), writes, tid(self.clock.tick()), self.account.key
        )
        if whole:
            have = {cid for cid, _ in commit.blocks}
            commit.blocks += [block for block in nodes_of(state.root) if block[0] not in have]
        return commit

    def adopt(self, writes: list[Write]) -> Commit:
        """A commit that the account really makes: the state moves."""
        rev = tid(self.clock.tick())
        account = self.account
        account.repo, commit = repo.commit_writes(account.repo, writes, rev, account.key)
        gone = {write.path for write in writes if write.action == "delete"}
        account.paths = [path for path in account.paths if path not in gone]
        return commit

    def create(self, depth: int = 0) -> Write:
        """The creation of a spare key of the world."""
        return Write("create", world().spare[depth].decode(), world_record(self))

    def update(self, number: int) -> Write:
        """Another record at the world's key of that number."""
        return Write("update", world().keys[number].decode(), world_record(self))

    def delete(self, number: int) -> Write:
        """The deletion of the world's key of that number."""
        return Write("delete", world().keys[number].decode(), None)


def with_block(commit: Commit, block: bytes) -> Commit:
    """The commit with another commit block, and the CID that goes with it."""
    commit.cid, commit.block = cid_of(block), block
    commit.blocks[0] = (commit.cid, block)
    return commit


def resigned(source: Source, commit: Commit, data: bytes) -> Commit:
    """The commit with another tree, signed again."""
    return with_block(commit, repo.signed_commit(commit.did, commit.rev, data, source.account.key))


def signed(source: Source, fields: dict[str, Any]) -> bytes:
    """A commit block of any fields, rightly signed."""
    return encode({**fields, "sig": source.account.key.sign(encode(fields))})


def nodes_of(root: mst.Node) -> list[tuple[bytes, bytes]]:
    """All nodes of a sealed tree: (CID, block), parents first."""
    assert root.cid is not None
    found = [(root.cid, root.raw)]
    for child in root.links:
        if child is not None:
            found += nodes_of(child)
    return found


@cache
def _sealed(items: tuple[tuple[bytes, bytes], ...]) -> mst.Node:
    root = mst.build(items)
    mst.seal(root)
    return root
