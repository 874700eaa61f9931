"""What does PostgreSQL not know yet?

    accounts    their newest state, several events of one coalesced
    cursors     what ingest says is done, per host
    observed    what ingest sees of hosts
    tallies     how many more discontinuous and waived events each host has
    applied_seq the log up to which the accounts hold all of that; scan_seq: see persist.duplicates

One flush is under way at a time; what comes meanwhile goes with the next. The view is behind the
log, never ahead: a flush is begun only when all that was sequenced is durable.

It does not know SQL.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from common.envelope import AccountState, HostCursor, HostObservation
from persist.account import Accounts
from persist.duplicates import Duplicates
from persist.tally import HostTally, Tallies

FLUSH_EVERY_S: Final = 1.0
"""How far the view may be behind the log, in seconds, while PostgreSQL is well."""
FLUSH_ACCOUNTS: Final = 5_000
"""A flush begins early when so many accounts have changed."""


@dataclass(slots=True)
class Changes:
    """One flush: all of it in one transaction.

    accounts: (DID, seq of its last event, state).
    tallies: of the events from the flush before up to `applied_seq`.
    applied_seq: everything up to it is in these changes or was in earlier ones.
    scan_seq: from where a successor reads rows of the log, given the cursors saved here.
    """

    accounts: list[tuple[str, int, AccountState]]
    cursors: list[HostCursor]
    observations: list[HostObservation]
    applied_seq: int
    scan_seq: int
    tallies: list[HostTally] = field(default_factory=list)


class View:
    """Collects what the next flush has to say.

    applied_seq, scan_seq: as PostgreSQL has confirmed them; 0 before any of this process.
    """

    def __init__(
        self, accounts: Accounts, duplicates: Duplicates, tallies: Tallies, applied_seq: int
    ) -> None:
        self.applied_seq = applied_seq
        self.scan_seq = 0
        self._accounts = accounts
        self._duplicates = duplicates
        self._tallies = tallies
        self._cursors: dict[int, HostCursor] = {}
        self._observations: dict[int, HostObservation] = {}
        self._flushing: Changes | None = None
        self._began_s = 0.0

    @property
    def flushing(self) -> bool:
        """Whether a flush is under way."""
        return self._flushing is not None

    def say_done(self, cursor: HostCursor) -> None:
        """Ingest says that a host's events up to a seq are logged or dropped."""
        if self._duplicates.advance(cursor):
            self._cursors[cursor.host] = cursor

    def observe(self, seen: HostObservation) -> None:
        """Ingest says what it sees of a host."""
        self._observations[seen.host] = seen

    def due(self, now_s: float, durable_seq: int) -> bool:
        """Whether a flush is to begin now. now_s: a clock that only rises."""
        if self._flushing is not None or not self._anything(durable_seq):
            return False
        return self._accounts.changed >= FLUSH_ACCOUNTS or now_s - self._began_s >= FLUSH_EVERY_S

    def begin(self, now_s: float, durable_seq: int) -> Changes:
        """Begin a flush. Everything sequenced so far is durable, up to `durable_seq`."""
        assert self._flushing is None
        changes = Changes(
            self._accounts.begin_flush(),
            list(self._cursors.values()),
            list(self._observations.values()),
            durable_seq,
            self._duplicates.scan_seq(durable_seq + 1),
            self._tallies.take(),
        )
        self._cursors = {}
        self._observations = {}
        self._flushing = changes
        self._began_s = now_s
        return changes

    def end(self) -> None:
        """The flush under way is committed."""
        assert self._flushing is not None
        self.applied_seq = self._flushing.applied_seq
        self.scan_seq = self._flushing.scan_seq
        self._flushing = None
        self._accounts.end_flush()

    def clean(self, durable_seq: int) -> bool:
        """Whether PostgreSQL has everything."""
        return self._flushing is None and not self._anything(durable_seq)

    def _anything(self, durable_seq: int) -> bool:
        return bool(
            durable_seq > self.applied_seq
            or self._accounts.changed
            or self._cursors
            or self._observations
        )
