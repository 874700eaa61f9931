"""What an account of the simulated network says, as judged events whose frames can be read again.

A start reads the log's tail, so frames that are to survive one must be real.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from common.account_state import state_after_event
from common.car import Car, walk
from common.commit import SignedCommit, open_commit
from common.envelope import AccountState, Judged, base_of
from common.event import Event, decode
from tests.persist.events import RECEIVED_US
from tests.simnet.account import Account
from tests.simnet.clock import Clock
from tests.simnet.events import Event as Said
from tests.simnet.keys import Curve


@dataclass(slots=True)
class Spoken:
    """One message. said: not yet numbered. data, commit: CIDs of a commit or sync."""

    said: Said
    data: bytes | None
    commit: bytes | None

    def frame(self, upstream_seq: int) -> bytes:
        """The message with its host's number."""
        return self.said.frame(upstream_seq)

    def event(self, upstream_seq: int) -> Event:
        """The same, opened."""
        event = decode(self.frame(upstream_seq))
        assert isinstance(event, Event)
        return event

    def after(self, state: AccountState, host: int, marks: int) -> AccountState:
        """The state that it leads to, for somebody who knows `state`."""
        return state_after_event(
            state, self.event(1), data=self.data, commit=self.commit, host=host, marks=marks
        )


def spoken(said: Said) -> Spoken:
    """A message of the simulated network."""
    made = Spoken(said, None, None)
    event = made.event(1)
    if event.rev is not None:
        car = walk(event.blocks)
        assert isinstance(car, Car)
        signed = open_commit(car.blocks[car.root], event.did, event.rev)
        assert isinstance(signed, SignedCommit)
        made.data, made.commit = signed.data, car.root
    return made


def life(name: str, commits: int = 8) -> list[Spoken]:
    """What an account says in its life: every kind, both of active and not."""
    rng = random.Random(name)
    account = Account(f"did:web:{name}.test", f"{name}.test", Curve.K256, Clock(), name, 0)
    said = account.born()
    for number in range(commits):
        said.append(account.commit(account.choose_writes(rng, 2)))
        if number % 3 == 0:
            said += [account.sync(), account.set_status("deactivated"), account.set_status(None)]
        if number % 3 == 1:
            said += [account.identity(), account.sync(new_rev=True)]
    return [spoken(one) for one in said]


def judged_over(
    one: Spoken,
    state: AccountState,
    position: int,
    *,
    knows: AccountState | None = None,
    host: int = 1,
    upstream_seq: int | None = None,
    marks: int = 0,
    epoch: int = 7,
    recall: int = 0,
) -> tuple[Judged, bytes]:
    """The message as judged against `state`. knows: what its sender believes that state to be,
    where that is not all of it."""
    upstream_seq = position if upstream_seq is None else upstream_seq
    event = one.event(upstream_seq)
    told = Judged(
        position=position, shard=3, epoch=epoch, kind=event.kind, host=host, generation=1,
        upstream_seq=upstream_seq, did=event.did, base=base_of(state),
        after=one.after(knows or state, host, marks), seq_start=event.seq_start,
        seq_end=event.seq_end, recall=recall, received_us=RECEIVED_US, marks=marks,
    )  # fmt: skip
    return told, event.raw
