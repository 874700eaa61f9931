"""What state is a host in, and when is it dialled next?

                ┌────────────────── lost, refused, failed: after a delay ◀──────────────────┐
                ▼                                                                           │
    begin ─▶ WAITING ── due, asked ──▶ QUEUED ── allowed ──▶ DIALLING ── opened ──▶ OPEN ── progress ──▶ READING
                 └──── forbidden, from anywhere ────▶ RESTING: the end; wanted again, another one begins

What an operator wants comes in as signals, like what is observed, and is told apart in what comes out:
`observed` is a word of com.atproto.sync.defs#hostStatus. No host is ever given up: who does not answer
is asked less and less often, and every few hours for ever.

Values and `now_s` in, values out: no connection, no clock. It does not know other hosts; what they have
in common is in ingest.fates, and when all together may dial in ingest.dials.

Source: S-HST-01 to 14, S-CUR-11, S-CUR-12; lessons 16, 40, 44 and 45.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum, auto
from math import inf
from random import Random
from typing import Final, NamedTuple


class State(StrEnum):
    """What a host is seen to be. Source: com.atproto.sync.defs#hostStatus."""

    ACTIVE = "active"
    IDLE = "idle"
    OFFLINE = "offline"
    THROTTLED = "throttled"
    BANNED = "banned"


class Phase(Enum):
    """How far the way to a host's events has come.

    RESTING: it is not to be read any more. WAITING: for its time. QUEUED: for its turn among all. DIALLING: from
    DNS to the end of the handshake. OPEN: connected, and nothing has come of it yet. READING: something has.
    """

    RESTING = auto()
    WAITING = auto()
    QUEUED = auto()
    DIALLING = auto()
    OPEN = auto()
    READING = auto()


class Signal(Enum):
    """What happens to a host. SOONER: others that were lost with it have come back. LOST: closed, cut,
    silent for too long, or a frame that ends the connection. TOO_SLOW: it says that we were. NUMBERS: its
    own have begun anew, as far as one can see; FutureCursor says the same.
    """

    DUE = auto()
    ASKED = auto()
    SOONER = auto()
    ALLOWED = auto()
    OPENED = auto()
    PROGRESS = auto()
    FAILED = auto()
    IS_RELAY = auto()
    LOST = auto()
    SILENT = auto()
    BAD_FRAME = auto()
    TOO_SLOW = auto()
    ERROR_FRAME = auto()
    NUMBERS = auto()
    FORBIDDEN = auto()


class Delay(Enum):
    """How long to wait. BACKOFF: doubles with each failure. REFUSED: long, as nothing will change soon.
    LOOK: until it is looked again whether the numbers have really begun anew. SPREAD: somewhere within
    a few minutes, or as before where that is sooner.
    """

    NONE = auto()
    BACKOFF = auto()
    REFUSED = auto()
    LOOK = auto()
    SPREAD = auto()


class Step(NamedTuple):
    """One cell of the table. state: None leaves it. failed: it counts as an attempt without progress."""

    phase: Phase
    delay: Delay = Delay.NONE
    state: State | None = None
    failed: bool = False


_AGAIN: Final = Step(Phase.WAITING, Delay.BACKOFF, failed=True)
_REFUSED: Final = Step(Phase.WAITING, Delay.REFUSED, State.IDLE, failed=True)
_LOOK: Final = Step(Phase.WAITING, Delay.LOOK, State.IDLE, failed=True)
_RELAY: Final = Step(Phase.WAITING, Delay.REFUSED, State.OFFLINE, failed=True)
_REST: Final = Step(Phase.RESTING)
_TURN: Final = Step(Phase.QUEUED)
_CONNECTED: Final[Mapping[Signal, Step]] = {
    Signal.ASKED: _TURN,
    Signal.LOST: _AGAIN,
    Signal.SILENT: _AGAIN,
    Signal.BAD_FRAME: _AGAIN,
    Signal.TOO_SLOW: _AGAIN,
    Signal.ERROR_FRAME: _REFUSED,
    Signal.NUMBERS: _LOOK,
    Signal.IS_RELAY: _RELAY,
    Signal.FORBIDDEN: _REST,
}

TRANSITIONS: Final[Mapping[Phase, Mapping[Signal, Step]]] = {
    Phase.RESTING: {},
    Phase.WAITING: {
        Signal.DUE: _TURN,
        Signal.ASKED: _TURN,
        Signal.SOONER: Step(Phase.WAITING, Delay.SPREAD),
        Signal.FORBIDDEN: _REST,
    },
    Phase.QUEUED: {
        Signal.ASKED: _TURN,
        Signal.ALLOWED: Step(Phase.DIALLING),
        Signal.FORBIDDEN: _REST,
    },
    Phase.DIALLING: {
        Signal.OPENED: Step(Phase.OPEN, state=State.ACTIVE),
        Signal.FAILED: _AGAIN,
        Signal.LOST: _AGAIN,
        Signal.SILENT: _AGAIN,
        Signal.IS_RELAY: _RELAY,
        Signal.FORBIDDEN: _REST,
    },
    Phase.OPEN: {**_CONNECTED, Signal.PROGRESS: Step(Phase.READING, state=State.ACTIVE)},
    Phase.READING: _CONNECTED,
}
"""What is not in it changes nothing: a word that comes too late, or is said twice."""
LINKED: Final = (Phase.DIALLING, Phase.OPEN, Phase.READING)
"""Where something is there to be cut."""
FAILURES: Final = (
    Signal.FAILED, Signal.IS_RELAY, Signal.LOST, Signal.SILENT, Signal.BAD_FRAME, Signal.ERROR_FRAME,
    Signal.NUMBERS,
)  # fmt: skip
"""After these a host is not read."""


class Delays(NamedTuple):
    """In seconds, before jitter.

    first_s, longest_s: doubling between the two until a host counts as offline. slow_s: doubling on to
    this for one that is. refused_s: after an error frame, and of a relay. look_s: see Delay.LOOK.
    spread_s: see Delay.SPREAD. offline_failures: attempts without progress. looks: how often the numbers
    must be seen to have begun anew before that is believed.
    """

    first_s: float = 1.0
    longest_s: float = 300.0
    slow_s: float = 21_600.0
    refused_s: float = 600.0
    look_s: float = 120.0
    spread_s: float = 240.0
    offline_failures: int = 10
    looks: int = 3


class Orders(NamedTuple):
    """What is to be done now. queue: get in line for a dial. leave: that line. cut: the connection.
    restart: read the host under its next generation.
    """

    queue: bool = False
    leave: bool = False
    cut: bool = False
    restart: bool = False


NOTHING: Final = Orders()


class Lifecycle:
    """The state of one host. Begins in its line, as one that was never dialled.

    next_dial_s: inf where none is set. failures: attempts since the last progress. urgent: somebody asked
    for the next dial. looks: see Delays. limited: it is over one of its quotas.
    """

    __slots__ = ("_delays", "_random", "failures", "limited", "looks", "next_dial_s", "phase", "state", "urgent")  # fmt: skip

    def __init__(
        self,
        delays: Delays,
        random: Random,
        *,
        state: State = State.IDLE,
    ) -> None:
        """Args: state: it was seen in last."""
        self._delays = delays
        self._random = random
        self.phase = Phase.QUEUED
        self.state = state
        self.next_dial_s = inf
        self.failures = 0
        self.looks = 0
        self.urgent = False
        self.limited = False

    @property
    def observed(self) -> State:
        """What is told of it."""
        if self.phase is Phase.RESTING:
            return State.BANNED
        return State.THROTTLED if self.limited else self.state

    @property
    def connected(self) -> bool:
        """Whether a connection stands."""
        return self.phase in (Phase.OPEN, Phase.READING)

    def progress(self) -> None:
        """Something real was achieved; called with every event, so it is short."""
        if self.failures or self.phase is Phase.OPEN:
            self.failures = self.looks = 0
            if self.phase is Phase.OPEN:
                self.phase = Phase.READING
                self.state = State.ACTIVE

    def on(self, signal: Signal, now_s: float, slowest_s: float = inf) -> Orders:
        """Take a signal in.

        Args: slowest_s: bounds the delay of an ordinary back-off; see ingest.fates.
        """
        if signal is Signal.PROGRESS:
            self.progress()
            return NOTHING
        step = TRANSITIONS[self.phase].get(signal)
        if step is None:
            return NOTHING
        was, delays = self.phase, self._delays
        self.phase = step.phase
        if step.failed:
            self.failures += 1
        if signal is Signal.NUMBERS:
            self.looks += 1
        if signal in (Signal.ASKED, Signal.SOONER):
            # Somebody has reason to think that it is there: if it is not, not the longest wait again.
            self.failures = min(self.failures, delays.offline_failures)
            self.urgent = self.urgent or signal is Signal.ASKED
        elif signal is Signal.ALLOWED:
            self.urgent = False
        if step.state is not None:
            self.state = step.state
        elif step.failed and self.failures >= delays.offline_failures:
            self.state = State.OFFLINE
        self.next_dial_s = self._next_dial(step, now_s, slowest_s)
        return Orders(
            queue=self.phase is Phase.QUEUED,
            leave=was is Phase.QUEUED and signal is Signal.FORBIDDEN,
            cut=was in LINKED and self.phase not in LINKED,
            restart=signal is Signal.NUMBERS and self.looks >= delays.looks,
        )

    def _next_dial(self, step: Step, now_s: float, slowest_s: float) -> float:
        delays, chance = self._delays, self._random.random()
        if step.delay is Delay.NONE:
            return inf
        if step.delay is Delay.SPREAD:
            return min(self.next_dial_s, now_s + delays.spread_s * chance)
        if step.delay is Delay.LOOK:
            delay_s = delays.look_s
        else:
            delay_s = min(self._backoff_s(), slowest_s)
            if step.delay is Delay.REFUSED:
                delay_s = max(delay_s, delays.refused_s)
        return now_s + delay_s * (0.5 + 0.5 * chance)

    def _backoff_s(self) -> float:
        delays = self._delays
        over = self.failures - delays.offline_failures
        if over < 0:
            return min(delays.longest_s, delays.first_s * 2.0 ** (self.failures - 1))
        return min(delays.slow_s, delays.longest_s * 2.0 ** min(over, 30))
