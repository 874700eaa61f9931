"""What is the newest state of an account? The part of the answer that is in memory.

    get ── found ──▶ the newest there is, PostgreSQL may be behind
        └─ None ───▶ ask PostgreSQL, which then is not behind for this account

Two generations of entries make an LRU without bookkeeping per event: what is used moves to the
young one; when that is full it becomes the old one, and what the old one still held is let go.
Only what the view in PostgreSQL already has may go.

It does not know PostgreSQL, and it does not judge.
"""

from __future__ import annotations

from typing import Final

from common.envelope import AccountState

ACCOUNTS_IN_MEMORY: Final = 100_000
"""Accounts whose state is held in memory, about 450 bytes each: a day's active ones of a small
network, an hour's of the whole."""


class Accounts:
    """The newest states of recently active accounts, and which of them the view lacks."""

    def __init__(self, limit: int = ACCOUNTS_IN_MEMORY) -> None:
        """limit: accounts kept, but for those that the view lacks."""
        self._half = max(1, limit // 2)
        self._young: dict[str, AccountState] = {}
        self._old: dict[str, AccountState] = {}
        # What changed since the last flush began, and what is being flushed: DID → seq.
        self._changed: dict[str, int] = {}
        self._flushing: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    @property
    def changed(self) -> int:
        """How many accounts the next flush has to write."""
        return len(self._changed)

    def get(self, did: str) -> AccountState | None:
        """The newest state; None when it is not in memory."""
        state = self._young.get(did)
        if state is None:
            state = self._old.pop(did, None)
            if state is not None:
                self._young[did] = state
                self._turn()
        return state

    def learn(self, did: str, state: AccountState) -> None:
        """Take in what the view has of an account that is not in memory."""
        self._young[did] = state
        self._turn()

    def change(self, did: str, state: AccountState, seq: int) -> None:
        """The event with this seq has led to a new state. The account is in memory."""
        self._young[did] = state
        self._changed[did] = seq

    def begin_flush(self) -> list[tuple[str, int, AccountState]]:
        """What the view has to be told: (DID, seq of its last event, state). One at a time."""
        assert not self._flushing
        self._flushing, self._changed = self._changed, {}
        young, old = self._young, self._old
        return [(did, seq, young.get(did) or old[did]) for did, seq in self._flushing.items()]

    def end_flush(self) -> None:
        """The view has what `begin_flush` returned."""
        self._flushing = {}

    def _turn(self) -> None:
        if len(self._young) <= self._half:
            return
        old, young = self._old, self._young
        kept = {
            did: old[did]
            for unwritten in (self._changed, self._flushing)
            for did in unwritten
            if did in old and did not in young
        }
        self._old, self._young = young, kept
