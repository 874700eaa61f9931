"""What does this relay say of an account by itself, and in which bytes?

    operator's word, or one account too many ─▶ how the account is held ─▶ an `#account` event of ours

An account may be taken down, over its host's limit, or both; each is lifted by itself. What consumers
are told is the combination with what its host says: a takedown stands above everything, `throttled` above the
host's word. Where the combination does not change they are told nothing: the event is in the log, for those
who read it again, and held (Mark.HELD).

It does not know who decides, nor which seq comes next.

Source: S-ACC-07 to S-ACC-10, S-RAT-07; com.atproto.sync.subscribeRepos#account.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import cbor2

from common.envelope import TAKEN_DOWN, AccountState, Mark
from common.frame import ACCOUNT_HEADER
from common.syntax import datetime_text
from persist.outgoing import websocket_head

_BARE: Final = int(Mark.OURS | Mark.LOCAL)


class Word(Enum):
    """What becomes of an account."""

    TAKE_DOWN = "take_down"
    REVERSE = "reverse"
    THROTTLE = "throttle"
    RELEASE = "release"


def marks_of(state: AccountState, word: Word) -> int | None:
    """The marks of the event that says it; None where the account is held so already.

    S-ACC-10: a reversal lifts the takedown alone, a release the throttling alone.
    """
    was = state.local == TAKEN_DOWN, state.over_limit
    taken_down, over_limit = was
    if word is Word.TAKE_DOWN or word is Word.REVERSE:
        taken_down = word is Word.TAKE_DOWN
    else:
        over_limit = word is Word.THROTTLE
    if (taken_down, over_limit) == was:
        return None
    marks = _BARE | (Mark.TAKEN_DOWN if taken_down else 0) | (Mark.OVER_LIMIT if over_limit else 0)
    # S-ACC-09: only what changes for those who listen is told. It was and stays taken down.
    return int(marks | (Mark.HELD if taken_down and was[0] else 0))


def status_of(state: AccountState) -> tuple[bool, str | None]:
    """What is published of an account: (active, status). Source: S-ACC-07, S-ACC-08."""
    return (state.active, state.status) if state.local is None else (False, state.local)


def own_frame(did: str, state: AccountState, seq: int, time_us: int) -> bytes:
    """The finished WebSocket frame of an `#account` event of ours. Source: S-ACC-09, S-DAT-02.

    Args: state: as it is from here on. time_us: now, Unix microseconds.
    """
    active, status = status_of(state)
    fields: dict[str, Any] = {
        "seq": seq, "did": did, "time": datetime_text(time_us / 1e6), "active": active,
    }  # fmt: skip
    if status is not None:
        fields["status"] = status
    message = ACCOUNT_HEADER + cbor2.dumps(fields, canonical=True)
    return websocket_head(len(message)) + message
