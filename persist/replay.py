"""What did the log's tail do, that PostgreSQL and the memory do not know yet?

    rows from scan_seq on       → which upstream seqs are logged (persist.duplicates)
    frames behind applied_seq   → the states they led to, over those that PostgreSQL has

The state after an event follows from the event, its row's marks and the state before it, by the one
rule of common.account_state; what is in the log has passed ingest's judge.

Bytes and states in, states out; reading and asking is persist/catch_up.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from common.account_state import state_after_event
from common.car import Car, walk
from common.chunk import Chunk
from common.commit import SignedCommit, open_commit
from common.envelope import NEVER_SEEN, AccountState, Kind
from common.event import Event, decode
from common.log import Damaged
from persist.outgoing import payload_start


class Logged(NamedTuple):
    """One event of the log, opened. host, marks: its row's, see common.envelope.Mark."""

    seq: int
    host: int
    event: Event
    marks: int = 0


def open_chunk(chunk: Chunk, after_seq: int) -> list[Logged]:
    """The events of a chunk that lie behind `after_seq`.

    Raises:
        Damaged: a frame that was logged does not decode.
    """
    logged = []
    frames = memoryview(chunk.raw)[chunk.frames_start : chunk.frames_end]
    for seq, row in enumerate(chunk.rows(), chunk.first_seq):
        if seq <= after_seq:
            continue
        frame = frames[row.offset : row.offset + row.length]
        event = decode(bytes(frame[payload_start(frame) :]))
        if not isinstance(event, Event) or event.kind != row.kind or event.seq != seq:
            raise Damaged(f"the frame of seq {seq} is not the event that its row names")
        logged.append(Logged(seq, row.host, event, row.flags))
    return logged


def state_after(state: AccountState, logged: Logged) -> AccountState:
    """What an account's state became through an event.

    Raises:
        Damaged: the commit it carries cannot be read.
    """
    event = logged.event
    if event.kind > Kind.SYNC:
        data = commit = None
    else:
        car = walk(event.blocks)
        block = car.blocks.get(car.root) if isinstance(car, Car) else None
        signed = open_commit(block, event.did, event.rev or "") if block else None
        if not isinstance(car, Car) or not isinstance(signed, SignedCommit):
            raise Damaged(f"the commit of seq {logged.seq} cannot be read")
        data, commit = signed.data, car.root
    return state_after_event(
        state, event, data=data, commit=commit, host=logged.host, marks=logged.marks
    )


def replay(
    events: Iterable[Logged],
    find: Callable[[list[str]], dict[str, AccountState]],
    moved: Callable[[AccountState, AccountState], None] = lambda *_: None,
) -> list[tuple[str, int, AccountState]]:
    """The states that events led to: (DID, seq of its last event, state).

    Args:
        events: in order of seq. find: the states before them, of those accounts that have one.
        moved: told of each account's state before them and behind.
    """
    events = list(events)
    before = find(sorted({logged.event.did for logged in events}))
    states = dict(before)
    last: dict[str, int] = {}
    for logged in events:
        did = logged.event.did
        states[did] = state_after(states.get(did, NEVER_SEEN), logged)
        last[did] = logged.seq
    for account in last:
        moved(before.get(account, NEVER_SEEN), states[account])
    return [(did, seq, states[did]) for did, seq in last.items()]
