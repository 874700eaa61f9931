"""What does an account's state become through an event?

The one rule, for all who need it: ingest when it has judged an event, persist when it gives it a
seq, and when it reads the log's tail again. An event that is asked about here has passed the judge.

It reads no bytes, and it does not judge.

Source: the sync spec, "Reliable Synchronization"; S-REV-05, S-SYN-07, S-DSY-03, S-ACC-02, S-ACC-07.
"""

from __future__ import annotations

from typing import Final

from common.envelope import TAKEN_DOWN, THROTTLED, AccountState, Kind, Mark
from common.event import Event

_DISCONTINUOUS: Final = int(Mark.DISCONTINUOUS)
_OURS: Final = int(Mark.OURS)
_LOCAL: Final = int(Mark.LOCAL)
_SYNC: Final = int(Kind.SYNC)
_IDENTITY: Final = int(Kind.IDENTITY)


def state_after(
    state: AccountState, kind: int, said: AccountState, host: int, marks: int
) -> AccountState:
    """The state that an event leads to.

    Args:
        state: before the event.
        kind: common.envelope.Kind.
        said: what the event says: of a commit or sync rev, data and commit, of an #account active
            and status. The rest is not looked at.
        host: the number of the host that said it.
        marks: of common.envelope.Mark, as the judge gave them.
    """
    if kind == _IDENTITY:
        # S-IDE-02: it says that something may have changed, not what.
        return state
    if marks & _LOCAL:
        return state_held(state, host, marks)
    (
        rev, data, commit, active, status, known_host, desynchronized, discontinuities, local,
        over_limit,
    ) = state  # fmt: skip
    if kind > _IDENTITY:
        # S-ACC-02, S-ACC-05: the status at the host that says it, known or not. S-MIG-08: there.
        # What we say ourselves moves nobody: a stranger's event may have been the occasion.
        host = known_host if marks & _OURS else host
        return AccountState(
            rev, data, commit, said.active, said.status, host, desynchronized, discontinuities,
            local, over_limit,
        )  # fmt: skip
    if marks & _DISCONTINUOUS:
        # S-DSY-03, S-DSY-04, S-DSY-05: it moves forward all the same, counted and marked.
        desynchronized = True
        discontinuities += 1
    elif kind == _SYNC and said.rev != rev:
        # S-SYN-07, S-COM-10: a new beginning, whatever came before. One that repeats our rev
        # changes nothing.
        desynchronized = False
    # S-REV-05.
    return AccountState(
        said.rev, said.data, said.commit, active, status, host, desynchronized, discontinuities,
        local, over_limit,
    )  # fmt: skip


def state_held(state: AccountState, host: int, marks: int) -> AccountState:
    """The state of an account of which the relay itself says how it holds it from here on.

    S-ACC-07: what its host last told stays as it is, beside that. S-RAT-07.

    Args:
        host: at which it was seen first; of an account that has one, it says nothing.
    """
    over_limit = bool(marks & Mark.OVER_LIMIT)
    taken_down = bool(marks & Mark.TAKEN_DOWN)
    local = TAKEN_DOWN if taken_down else THROTTLED if over_limit else None
    return state._replace(host=state.host or host, local=local, over_limit=over_limit)


def counts(state: AccountState) -> int:
    """The host with which an account counts; 0 with none: unknown to all, or deleted there."""
    return 0 if state.status == "deleted" and not state.active else state.host


def state_after_event(
    state: AccountState,
    event: Event,
    *,
    data: bytes | None,
    commit: bytes | None,
    host: int,
    marks: int,
) -> AccountState:
    """The same from an event's own fields.

    Args:
        state, host, marks: see `state_after`.
        data, commit: of a commit or sync: CIDs of the tree's root and of the commit itself.
    """
    said = AccountState(event.rev, data, commit, event.active, event.status, host)
    return state_after(state, event.kind, said, host, marks)
