"""What is the newest state of an account? The part of the answer that is in memory.

    get ── found ──▶ the newest there is, PostgreSQL may be behind
        └─ None ───▶ ask PostgreSQL, which then is not behind for this account

    hot      the last few thousand that were asked for, as values
    young    those that have left it, packed
    old      what `young` was before it was full; what is asked for goes to `hot` again

Two generations make an LRU without bookkeeping per event: when the young one is full it becomes the
old one, and what the old one still held is let go. Only what the view in PostgreSQL already has may
go.

It does not know PostgreSQL, and it does not judge.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from common.envelope import AccountState
from common.packed_state import pack_did, pack_state, unpack_state

ACCOUNTS_IN_MEMORY: Final = 500_000
"""Accounts whose state is held in memory, about 240 bytes each (docs/bench.md): a day's active ones
of the whole network, 120 MB; a small network never fills it."""
HOT_ACCOUNTS: Final = 8_192
"""Of these so many unpacked, about 700 bytes each: a few seconds of the whole network."""


class Accounts:
    """The newest states of recently active accounts, and which of them the view lacks."""

    def __init__(self, limit: int = ACCOUNTS_IN_MEMORY) -> None:
        """limit: accounts kept, but for those that the view lacks."""
        self._hot_limit = max(1, min(HOT_ACCOUNTS, limit // 4))
        self._half = max(1, (limit - self._hot_limit) // 2)
        # In order of their coming: the first goes when there are too many.
        self._hot: OrderedDict[str, AccountState] = OrderedDict()
        # Packed. What is in `hot` too is out of date here.
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        # What changed since the last flush began, and what is being flushed: DID → seq.
        self._changed: dict[str, int] = {}
        self._flushing: dict[str, int] = {}

    def __len__(self) -> int:
        """How many there are; of the hot ones some are counted twice."""
        return len(self._hot) + len(self._young) + len(self._old)

    @property
    def changed(self) -> int:
        """How many accounts the next flush has to write."""
        return len(self._changed)

    def get(self, did: str) -> AccountState | None:
        """The newest state; None when it is not in memory."""
        state = self._hot.get(did)
        if state is not None:
            return state
        key = pack_did(did)
        packed = self._young.get(key) or self._old.pop(key, None)
        if packed is None:
            return None
        state = unpack_state(packed)
        self._warm(did, state)
        return state

    def learn(self, did: str, state: AccountState) -> None:
        """Take in what the view has of an account that is not in memory."""
        self._warm(did, state)

    def change(self, did: str, state: AccountState, seq: int) -> None:
        """The event with this seq has led to a new state. The account is in memory."""
        self._warm(did, state)
        self._changed[did] = seq

    def begin_flush(self) -> list[tuple[str, int, AccountState]]:
        """What the view has to be told: (DID, seq of its last event, state). One at a time."""
        assert not self._flushing
        self._flushing, self._changed = self._changed, {}
        return [(did, seq, self._peek(did)) for did, seq in self._flushing.items()]

    def end_flush(self) -> None:
        """The view has what `begin_flush` returned."""
        self._flushing = {}

    def _peek(self, did: str) -> AccountState:
        state = self._hot.get(did)
        if state is None:
            key = pack_did(did)
            state = unpack_state(self._young.get(key) or self._old[key])
        return state

    def _warm(self, did: str, state: AccountState) -> None:
        hot = self._hot
        hot[did] = state
        if len(hot) > self._hot_limit:
            cooled, state = hot.popitem(last=False)
            self._young[pack_did(cooled)] = pack_state(state)
            if len(self._young) > self._half:
                self._turn()

    def _turn(self) -> None:
        old, young = self._old, self._young
        kept = {
            key: old[key]
            for unwritten in (self._changed, self._flushing)
            for key in map(pack_did, unwritten)
            if key in old and key not in young
        }
        self._old, self._young = young, kept
