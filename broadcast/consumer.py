"""In which state is a consumer, and when is slow too slow?

    PLAYBACK  it has a place of its own, behind the head or ahead of it, and is served from there
    LIVE      it is at the head, with all the others, and has no place of its own
    CLOSING   nothing more is sent but the farewell

This module does not know sockets; the clock and the kernel's count of acknowledged bytes are
handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class State(Enum):
    """Where a consumer stands."""

    PLAYBACK = "playback"
    LIVE = "live"
    CLOSING = "closing"


class Signal(Enum):
    """What moves it."""

    CAUGHT_UP = "caught up"
    FELL_BEHIND = "fell behind"
    LEFT = "left"


TRANSITIONS: Final[dict[State, dict[Signal, State]]] = {
    State.PLAYBACK: {Signal.CAUGHT_UP: State.LIVE, Signal.LEFT: State.CLOSING},
    State.LIVE: {Signal.FELL_BEHIND: State.PLAYBACK, Signal.LEFT: State.CLOSING},
    State.CLOSING: {Signal.LEFT: State.CLOSING},
}


class Departure(Enum):
    """Why a consumer's stream ended; the label of a metric."""

    TOO_SLOW = "too_slow"
    OUTDATED = "outdated"
    GONE = "gone"
    DAMAGED = "damaged"
    BAD_FRAME = "bad_frame"
    SHUTDOWN = "shutdown"
    DISCONNECTED = "disconnected"


@dataclass(slots=True)
class Consumer:
    """One consumer's place in the stream.

    next_seq: what it gets next; only true while it is not LIVE.
    fresh: it has been promised no event yet, so that its start may still move.
    cursor: what it asked for; 0 for the whole window or nothing, or once it was told Outdated.
    events, sent_bytes: handed to its socket, but for what went to all who are LIVE since it is.
    """

    next_seq: int
    state: State = State.PLAYBACK
    fresh: bool = True
    cursor: int = 0
    events: int = 0
    sent_bytes: int = 0

    def move(self, signal: Signal) -> None:
        """Follow the table.

        Raises:
            KeyError: the table has no such move; a fault of ours.
        """
        self.state = TRANSITIONS[self.state][signal]
        if self.state is State.LIVE:
            self.fresh = False


@dataclass(slots=True)
class Patience:
    """How long a consumer has made no progress while something was due from it.

    acknowledged: bytes that its side of the connection had taken when that last changed.
    since_s: when that was, on the caller's clock.
    """

    acknowledged: int
    since_s: float

    def stalled_s(self, acknowledged: int, now_s: float) -> float:
        """Seconds since the last progress; 0 when there was some since the last call."""
        if acknowledged != self.acknowledged:
            self.acknowledged = acknowledged
            self.since_s = now_s
        return now_s - self.since_s
