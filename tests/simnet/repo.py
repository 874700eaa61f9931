"""What does an account sign when it writes? Writes and a state in; a commit and a state out.

States are values, so that a commit can be made on a fork and thrown away.

Source: repository specification; spec com.atproto.sync.subscribeRepos#commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from tests.simnet import mst
from tests.simnet.drisl import car, cid_of, encode, link, optional_link
from tests.simnet.keys import SigningKey

Action = Literal["create", "update", "delete"]


class RepoState(NamedTuple):
    """A repository after its newest commit.

    rev, commit: None before the first commit. data: CID of the tree's root.
    """

    did: str
    root: mst.Node
    rev: str | None
    data: bytes
    commit: bytes | None
    commit_block: bytes


class Write(NamedTuple):
    """One wished change; `record` is None for a delete."""

    action: Action
    path: str
    record: dict[str, Any] | None


@dataclass(slots=True)
class Commit:
    """A signed commit with all that its message carries.

    blocks: (CID, block), the commit first, then nodes (parents first), then records.
    prev_data: None for a genesis commit, as a real host sends it.
    """

    did: str
    rev: str
    since: str | None
    cid: bytes
    block: bytes
    prev_data: bytes | None
    ops: list[dict[str, Any]]
    blocks: list[tuple[bytes, bytes]]

    def fields(self, **other: Any) -> dict[str, Any]:
        """The message's fields but for `seq` and `time`; `other` overrides or adds."""
        fields: dict[str, Any] = {
            "repo": self.did,
            "rev": self.rev,
            "since": self.since,
            "commit": link(self.cid),
            "ops": self.ops,
            "blobs": [],
            "blocks": car([self.cid], self.blocks),
            "rebase": False,
            "tooBig": False,
        }
        if self.prev_data is not None:
            fields["prevData"] = link(self.prev_data)
        return fields | other


def empty_repo(did: str) -> RepoState:
    """A repository before its first commit."""
    assert mst.EMPTY.cid is not None
    return RepoState(did, mst.EMPTY, None, mst.EMPTY.cid, None, b"")


def filled_repo(
    did: str, records: Iterable[tuple[bytes, bytes]], rev: str, key: SigningKey
) -> RepoState:
    """A repository that has a past nobody on the stream has seen."""
    root = mst.build(records)
    mst.seal(root)
    assert root.cid is not None
    block = signed_commit(did, rev, root.cid, key)
    return RepoState(did, root, rev, root.cid, cid_of(block), block)


def signed_commit(did: str, rev: str, data: bytes, key: SigningKey) -> bytes:
    """The block of a commit object."""
    unsigned = {"did": did, "rev": rev, "data": link(data), "prev": None, "version": 3}
    return encode({**unsigned, "sig": key.sign(encode(unsigned))})


def commit_writes(
    state: RepoState, writes: Sequence[Write], rev: str, key: SigningKey
) -> tuple[RepoState, Commit]:
    """Apply writes and sign; no writes gives an empty commit.

    Raises:
        KeyError: an update or delete of a path that is not there.
    """
    root = state.root
    ops: list[dict[str, Any]] = []
    records: list[tuple[bytes, bytes]] = []
    for action, path, record in writes:
        name = path.encode()
        cid: bytes | None = None
        op: dict[str, Any] = {"action": action, "path": path}
        if action != "create":
            previous = mst.get(root, name)
            if previous is None:
                raise KeyError(path)
            op["prev"] = link(previous)
        if record is None:
            root = mst.remove(root, name)
        else:
            block = encode(record)
            cid = cid_of(block)
            records.append((cid, block))
            root = mst.put(root, name, cid)
        op["cid"] = optional_link(cid)
        ops.append(op)
    nodes = {id(node): node for node in mst.seal(root)}
    for node in mst.covering(root, (write.path.encode() for write in writes)):
        nodes.setdefault(id(node), node)
    assert root.cid is not None
    block = signed_commit(state.did, rev, root.cid, key)
    cid = cid_of(block)
    blocks = {cid: block}
    blocks.update((node.cid, node.raw) for node in nodes.values() if node.cid is not None)
    blocks.update(records)
    commit = Commit(
        did=state.did,
        rev=rev,
        since=state.rev,
        cid=cid,
        block=block,
        prev_data=None if state.rev is None else state.data,
        ops=ops,
        blocks=list(blocks.items()),
    )
    return RepoState(state.did, root, rev, root.cid, cid, block), commit
