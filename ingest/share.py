"""Which shards does this process take now, and which does it give up?

    an earlier life's    at once: nobody else is meant to have them
    at home, and free    at once: shard % processes is who takes it first
    anybody's            past `expires_at`, and only by who has seen the database answer long enough
    above the share      given up, few at a time, those first that are at home elsewhere

A share is a count: all shards through all live processes. Who has most of them keeps one more where that
does not come out even, so that nothing moves which need not. All see the same table, so all come
to the same shares; what they do about it the table decides, one at a time (ingest.lease_table).

No I/O and no clock: what is past was told by the database.

Source: design section 3, "Which worker owns which host".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from common.sharding import SHARD_COUNT, owner_of

LEASE_S: Final = 6.0
"""How long a lease lasts that is not renewed, in seconds: with LOOK_S, the hosts of a process that was
killed for good are read by the others within 10 s."""
LOOK_S: Final = 1.0
"""How often the table is looked at, and each lease renewed, in seconds: five may fail in a row."""
PATIENT_S: Final = LEASE_S + 2.0
"""How long the database must have answered without a break before anything expired is taken: by then
every owner that lives has renewed its leases."""
BREAK_S: Final = 3.0
"""A longer silence between two answers is a break, and so is a clock of the database that is further
off than this from what ours says has passed; in seconds."""
MOVES_AT_ONCE: Final = 8
"""Shards that are on their way from one process to another, at most: an eighth of all."""


class Me(NamedTuple):
    """Who asks. instance: see common.envelope.Batch.epoch. processes: as many as the settings say; it
    is only a hint on who takes what first.
    """

    member: int
    instance: int
    processes: int


class Row(NamedTuple):
    """A row of the table `shard`. past_s: how long ago it has expired, by the database; below 0: not yet."""

    number: int
    owner: int | None
    instance: int | None
    epoch: int
    past_s: float


class Plan(NamedTuple):
    """What to do about the shares; by number of the shard, in order."""

    take: list[int]
    give: list[int]


def plan(
    me: Me,
    rows: Collection[Row],
    members: Collection[int],
    held: Mapping[int, int],
    giving: Collection[int],
    unbroken_s: float,
) -> Plan:
    """What this process does about what it saw.

    Args:
        members: that are alive. held: our leases, by shard, with their epochs. giving: those of
            them that are being given up. unbroken_s: how long the database has answered.
    """
    live = {*members, me.member}
    owners = [row.owner for row in rows if row.owner is not None and not _is_left(row, me)]
    counts = Counter(owner for owner in owners if owner in live)
    shares = _shares(live, counts)
    patient = unbroken_s >= PATIENT_S
    take = [row.number for row in rows if _is_earlier(row, me, held)]
    room = shares[me.member] - counts[me.member]
    first, then = [], []
    for row in rows:
        if row.number in take:
            continue
        if row.owner is None and owner_of(row.number, me.processes) == me.member:
            first.append(row.number)
        elif row.past_s > 0 and _is_anybodys(row, me, live, counts, shares, patient=patient):
            then.append(row.number)
    if room > 0:
        take += [*first, *then][:room]
    surplus = -room - len(giving)
    moving = sum(row.owner is None for row in rows) + len(giving)
    few = min(surplus, MOVES_AT_ONCE - moving)
    give: list[int] = []
    if few > 0:
        ours = [number for number in held if number not in giving]
        give = sorted(ours, key=lambda number: _attachment(number, me, live, counts, shares))[:few]
    return Plan(sorted(take), sorted(give))


def _shares(live: Collection[int], counts: Mapping[int, int]) -> dict[int, int]:
    """How many shards each process is to have: who has most keeps what is left over."""
    each, over = divmod(SHARD_COUNT, len(live))
    ranked = sorted(live, key=lambda member: (-counts[member], member))
    return {member: each + (rank < over) for rank, member in enumerate(ranked)}


def _is_earlier(row: Row, me: Me, held: Mapping[int, int]) -> bool:
    """Whether a lease is ours by the table and not by what we know: of an earlier life, or let go."""
    if row.owner != me.member or row.instance is None or row.instance > me.instance:
        return False
    return row.instance < me.instance or held.get(row.number) != row.epoch


def _is_left(row: Row, me: Me) -> bool:
    """Whether a later life of our number has left a lease behind: it is in the table, and not ours."""
    later = row.owner == me.member and row.instance is not None and row.instance > me.instance
    return later and row.past_s > 0


def _is_anybodys(
    row: Row,
    me: Me,
    live: Collection[int],
    counts: Mapping[int, int],
    shares: Mapping[int, int],
    *,
    patient: bool,
) -> bool:
    """Whether a shard that has expired may be taken by who is not at home there."""
    if row.owner is not None:
        return patient and (row.owner != me.member or row.instance != me.instance)
    home = owner_of(row.number, me.processes)
    # Who is at home there and has enough has given it up.
    return patient or (home in live and counts[home] >= shares[home])


def _attachment(
    number: int,
    me: Me,
    live: Collection[int],
    counts: Mapping[int, int],
    shares: Mapping[int, int],
) -> tuple[int, int]:
    """What is given up first: what is at home with one who lacks it, last what is at home here."""
    home = owner_of(number, me.processes)
    if home == me.member:
        return 2, number
    return int(home not in live or counts[home] >= shares[home]), number


class Contact:
    """Since when has the database answered without a break?"""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._heard_s = 0.0
        self._at_s = 0.0
        self._started_s = 0.0

    def heard(self, now_s: float, at_s: float, started_s: float) -> None:
        """It has answered.

        Args: now_s: steady seconds. at_s: what its clock says. started_s: when its server started.
        """
        passed_s = now_s - self._heard_s
        if (
            self._since_s is None
            or passed_s > BREAK_S
            or abs(at_s - self._at_s - passed_s) > BREAK_S
            or started_s != self._started_s
        ):
            self._since_s = now_s
        self._heard_s, self._at_s, self._started_s = now_s, at_s, started_s

    def lost(self) -> None:
        """It did not answer."""
        self._since_s = None

    def unbroken_s(self, now_s: float) -> float:
        """How long it has answered, in seconds; 0 while it does not."""
        return 0.0 if self._since_s is None else now_s - self._since_s
