"""What can one account say? Its identity, its repository, and the events that follow from them.

An account changes only through the methods here; each returns the events in the order in
which a real host emits them. It does not know hosts or sockets.

Source: realistic orders follow the reference PDS (account guides: lifecycle, migration).
"""

from __future__ import annotations

import base64
import hashlib
import random
from typing import Any

from tests.simnet import repo
from tests.simnet.clock import Clock, datetime_text, tid
from tests.simnet.drisl import car
from tests.simnet.events import Event, Kind, make_event
from tests.simnet.keys import Curve, SigningKey
from tests.simnet.records import new_path, new_record, rkey_paths
from tests.simnet.repo import Commit, RepoState, Write


def plc_did(seed: str) -> str:
    """A did:plc from a seed text."""
    digest = hashlib.sha256(seed.encode()).digest()
    return "did:plc:" + base64.b32encode(digest[:15]).decode().lower()


class Account:
    """One account: keys, handle, status and repository.

    resting: an identity change is under way; nothing else is to be said meanwhile.
    moving: it has left a host that will speak for it once more, in vain.
    shunned: hosts that have spoken for it in vain; what a relay still has in hand of that would come
    true if it went there.
    spoken: how many commits have gone out, so that a replay has something to repeat.
    """

    def __init__(
        self, did: str, handle: str, curve: Curve, clock: Clock, seed: str, host: int
    ) -> None:
        self.did = did
        self.handle = handle
        self.host = host
        self.active = True
        self.status: str | None = None
        self.resting = False
        self.moving = False
        self.shunned: set[int] = set()
        self.deleted = False
        self.legacy_document = False
        self.spoken = 0
        self.last_commit: Event | None = None
        self.repo: RepoState = repo.empty_repo(did)
        self.paths: list[str] = []
        self._clock = clock
        self._seed = seed
        self._generation = 0
        self.key = SigningKey(curve, f"{seed}/key/0")

    @property
    def tied(self) -> bool:
        """Whether its DID names its host, so that it cannot move."""
        return self.did.startswith("did:web:")

    def fill(self, count: int, rng: random.Random) -> None:
        """Give the account a past of `count` records that nobody has seen on a stream."""
        self.paths = rkey_paths(count, rng, self._clock.tick())
        records = [(path.encode(), b"\x01\x71\x12\x20" + rng.randbytes(32)) for path in self.paths]
        self.repo = repo.filled_repo(self.did, records, tid(self._clock.tick()), self.key)

    def document(self, endpoint: str) -> dict[str, Any]:
        """The DID document as of now; `endpoint` is the host's URL."""
        return {
            "@context": [
                "https://www.w3.org/ns/did/v1",
                "https://w3id.org/security/multikey/v1",
            ],
            "id": self.did,
            "alsoKnownAs": [f"at://{self.handle}"],
            "verificationMethod": [
                self.key.verification_method(self.did, legacy=self.legacy_document)
            ],
            "service": [
                {
                    "id": "#atproto_pds",
                    "type": "AtprotoPersonalDataServer",
                    "serviceEndpoint": endpoint,
                }
            ],
        }

    def new_key(self, curve: Curve | None = None) -> None:
        """Take the next signing key; the document must follow."""
        self._generation += 1
        seed = f"{self._seed}/key/{self._generation}"
        self.key = SigningKey(curve or self.key.curve, seed)

    # Repository

    def choose_writes(self, rng: random.Random, count: int = 1) -> list[Write]:
        """Some plausible writes, on different paths: mostly creates."""
        writes: list[Write] = []
        taken: set[str] = set()
        for _ in range(count):
            roll = rng.random()
            path = rng.choice(self.paths) if self.paths else ""
            if roll < 0.90 or not path or path in taken:
                path = new_path(rng, tid(self._clock.tick()))
                writes.append(Write("create", path, new_record(path, rng, self._clock.tick())))
            elif roll < 0.94:
                writes.append(Write("update", path, new_record(path, rng, self._clock.tick())))
            else:
                writes.append(Write("delete", path, None))
            taken.add(path)
        return writes

    def forked_commit(
        self,
        writes: list[Write],
        *,
        key: SigningKey | None = None,
        rev: str | None = None,
        state: RepoState | None = None,
    ) -> Commit:
        """A commit as the account would sign it, without making it."""
        rev = rev or tid(self._clock.tick())
        return repo.commit_writes(state or self.repo, writes, rev, key or self.key)[1]

    def commit(self, writes: list[Write], **extra: Any) -> Event:
        """Make a commit; its `#commit`. `extra` adds fields to the message."""
        rev = tid(self._clock.tick())
        self.repo, commit = repo.commit_writes(self.repo, writes, rev, self.key)
        gone = {write.path for write in writes if write.action == "delete"}
        if gone:
            self.paths = [path for path in self.paths if path not in gone]
        self.paths += [write.path for write in writes if write.action == "create"]
        self.spoken += 1
        self.last_commit = make_event(Kind.COMMIT, commit.fields(time=self.time(), **extra))
        return self.last_commit

    def sync(self, *, new_rev: bool = False) -> Event:
        """`#sync` of the present state, or of an empty commit that was never sent as such."""
        if new_rev:
            rev = tid(self._clock.tick())
            self.repo, _ = repo.commit_writes(self.repo, [], rev, self.key)
        state = self.repo
        assert state.commit is not None
        blocks = car([state.commit], [(state.commit, state.commit_block)])
        return self._event(Kind.SYNC, rev=state.rev, blocks=blocks)

    def imported(self) -> Event:
        """`#sync` as a real host sends it after it took the account over: the head that the former
        host signed with the former key, under the rev of the import."""
        state = self.repo
        assert state.commit is not None
        blocks = car([state.commit], [(state.commit, state.commit_block)])
        return self._event(Kind.SYNC, rev=tid(self._clock.tick()), blocks=blocks)

    # Identity and status

    def identity(self, *, handle: bool = True) -> Event:
        """`#identity`, with or without the handle."""
        return self._event(Kind.IDENTITY, **({"handle": self.handle} if handle else {}))

    def account(self) -> Event:
        """`#account` with the status as it is now."""
        return self.account_as(self.status)

    def account_as(self, status: str | None) -> Event:
        """`#account` with any status (None: active), which is not taken."""
        given = {} if status is None else {"status": status}
        return self._event(Kind.ACCOUNT, active=status is None, **given)

    def set_status(self, status: str | None) -> Event:
        """Take a status (None: active); its `#account`."""
        self.active, self.status = status is None, status
        self.deleted = status == "deleted"
        return self.account()

    def born(self) -> list[Event]:
        """The first words of a new account with an empty repository."""
        return [self.identity(), self.account(), self.commit([]), self.sync()]

    def activated(self) -> list[Event]:
        """What follows a deactivation that is undone; the `#sync` repeats the newest rev."""
        return [self.set_status(None), self.identity(), self.sync()]

    def time(self) -> str:
        """A time that no other event has."""
        return datetime_text(self._clock.tick())

    def _event(self, kind: Kind, **fields: Any) -> Event:
        return make_event(kind, {"did": self.did, "time": self.time(), **fields})
