"""What does an account's state become through an event?

The one rule, for all who need it: ingest when it has judged an event, persist when it reads the
log's tail again. An event that is asked about here has passed the judge.

It reads no bytes, and it does not judge.

Source: the sync spec, "Reliable Synchronization"; S-REV-05, S-SYN-07, S-DSY-03, S-ACC-02.
"""

from __future__ import annotations

from common.envelope import AccountState, Kind, Mark
from common.event import Event

_DISCONTINUOUS = int(Mark.DISCONTINUOUS)


def state_after_event(
    state: AccountState,
    event: Event,
    *,
    data: bytes | None,
    commit: bytes | None,
    host: int,
    marks: int,
) -> AccountState:
    """The state that `event` leads to.

    Args:
        state: before the event.
        data, commit: of a commit or sync: CIDs of the tree's root and of the commit itself.
        host: the number of the host that said it.
        marks: of common.envelope.Mark, as the judge gave them.
    """
    kind = event.kind
    if kind is Kind.IDENTITY:
        # S-IDE-02: it says that something may have changed, not what.
        return state
    if kind is Kind.ACCOUNT:
        # S-ACC-02, S-ACC-05: the status at the host that says it, known or not. S-MIG-08: there.
        return state._replace(active=event.active, status=event.status, host=host)
    rev, desynchronized, discontinuities = event.rev, state.desynchronized, state.discontinuities
    if marks & _DISCONTINUOUS:
        # S-DSY-03, S-DSY-04, S-DSY-05: it moves forward all the same, counted and marked.
        desynchronized = True
        discontinuities += 1
    elif kind is Kind.SYNC and rev != state.rev:
        # S-SYN-07: a new beginning, whatever came before. One that repeats our rev changes nothing.
        desynchronized = False
    # S-REV-05.
    return AccountState(
        rev, data, commit, state.active, state.status, host, desynchronized, discontinuities
    )
