"""What does the table `host` say of a host, and what may ingest ask of it?

A row says what an operator wants of a host, and what was observed of it last. Rows are read, and
those of hosts that were named in the settings, or that another relay lists, are put in (ingest.seed).
In a row that is there ingest changes little: a host at `observe` moves up to `enforce` after its clean
period, one that is named in the settings is trusted, and one whose numbers have begun anew gets its next
generation. What else is observed of hosts goes to persist, which writes it.

No I/O: the table itself is ingest.host_table.

Source: S-HST-03, S-HST-07.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from common.limits import EventLimits, event_limits
from common.sharding import SHARD_COUNT, shard_of
from common.target import Target
from common.verdict import Level
from ingest.levels import Seen

ACTIVE: Final = "active"
BANNED: Final = "banned"
"""What an operator may want of a host: the column `wanted`."""


class HostRow(NamedTuple):
    """A row of the table `host`, as far as reading it matters. See common/schema.sql for the columns.

    wanted: 'active' or 'banned', which stands here for a ban of its domain, too. observed: what was last
    written. last_event_us: when its last message was read, Unix microseconds; 0: never.
    """

    id: int
    hostname: str
    tls: bool
    generation: int
    cursor: int | None
    level: Level = Level.ENFORCE
    wanted: str = ACTIVE
    observed: str = "idle"
    account_limit: int = 100
    trusted: bool = False
    per_second: int | None = None
    per_hour: int | None = None
    per_day: int | None = None
    dial_asked: int = 0
    added_by: str = "settings"
    alias_of: str | None = None
    accounts: int = 0
    events: int = 0
    last_event_us: int = 0
    restarts: int = 0

    @property
    def banned(self) -> bool:
        """Whether its operator wants it not to be read, by its name or by its domain."""
        return self.wanted == BANNED

    @property
    def limits(self) -> EventLimits:
        """What it may send."""
        return event_limits(
            self.account_limit,
            trusted=self.trusted,
            per_second=self.per_second,
            per_hour=self.per_hour,
            per_day=self.per_day,
        )

    @property
    def shard(self) -> int:
        """The virtual shard of this host."""
        return shard_of(self.hostname, SHARD_COUNT)


class MovedUp(NamedTuple):
    """A host that is judged strictly again. checked: commits that passed since the last waived one."""

    hostname: str
    checked: int


class Table(Protocol):
    """What this module asks of the table `host`. Called from one thread."""

    def wanted(self) -> list[HostRow]:
        """All hosts but for deleted ones. Raises: psycopg.Error: not now."""

    def version(self) -> int:
        """What rises with every action of an operator (common/control.py). Raises: psycopg.Error."""

    def restart(self, host: int, generation: int, cursor: int | None) -> bool:
        """The numbers of a host have begun anew: read it from `cursor` under its next generation.

        False where `generation` is not its newest any more. Raises: psycopg.Error.
        """

    def is_empty(self) -> bool:
        """Whether no host has a row. Raises: psycopg.Error."""

    def add(
        self,
        targets: Iterable[Target],
        cursor: int | None,
        account_limit: int,
        *,
        trusted: bool = False,
        added_by: str = "settings",
    ) -> int:
        """Put in the hosts that have no row yet → how many. Raises: psycopg.Error.

        Args: trusted: all of these, whatever their domain. added_by: see common/schema.sql.
        """

    def trust(self, hostnames: Iterable[str]) -> list[str]:
        """Have these count as trusted, but for those of which an operator said whether they do → which
        do now. Raises: psycopg.Error.
        """

    def note(self, seen: Iterable[Seen]) -> list[MovedUp]:
        """Write down what was seen of hosts at `observe`, and move up whose clean period is over.

        Raises: psycopg.Error.
        """

    def close(self) -> None:
        """Let go of the database."""
