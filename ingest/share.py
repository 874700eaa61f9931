"""Which shards does this process take now, and which does it give up?

    an earlier life's    at once: nobody else is meant to have them
    given up             at once, by who carries least
    never owned          at once by who is at home there: shard % processes
    anybody's            past `expires_at`, and only by who has seen the database answer long enough
    too much             given up, few at a time, by who carries most, to who carries least

What a process carries is what its shards cost their owners, as those have measured it (ingest.load), and
a little for each host and shard: while nothing is measured, the counts decide. All see the same table, so all
come to the same moves and each does its own; what becomes of it the table decides, one at a time
(ingest.lease_table).

Nothing moves to and fro: a move begins only where two processes are further apart than a tolerance, and
leaves them at half of that distance at the most. Nor for next to nothing: while so little comes that no
process feels it, shards go only to who reads less than half as many hosts as others, as one that has just come.

No I/O and no clock: what is past was told by the database.

Source: design section 3, "Which worker owns which host".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from common.sharding import owner_of

LEASE_S: Final = 6.0
"""How long a lease lasts that is not renewed, in seconds: with LOOK_S, the hosts of a process that was
killed for good are read by the others within 10 s."""
LOOK_S: Final = 1.0
"""How often the table is looked at, and each lease renewed, in seconds: five may fail in a row."""
PATIENT_S: Final = LEASE_S + 2.0
"""How long the database must have answered without a break before anything expired is taken, or anything
given up: by then every owner that lives has renewed its leases."""
LATE_S: Final = 3.0 * LOOK_S
"""What nobody has taken for so long, who was meant to, anybody takes; in seconds."""
BREAK_S: Final = 3.0
"""A longer silence between two answers is a break, and so is a clock of the database that is further
off than this from what ours says has passed; in seconds."""
MOVES_AT_ONCE: Final = 8
"""Shards that are on their way from one process to another, at most: an eighth of all."""
HOST_LOAD: Final = 0.02
"""What each host counts for beside what is measured, for its connection: in the unit of ingest.load."""
EMPTY_LOAD: Final = 0.001
"""The same for a shard: where there is nothing else, the counts are even."""
TOLERANCE: Final = 0.15
"""Two processes whose loads are no further apart than this share of a fair load are even."""
WORTH: Final = 50.0
"""For less no host is cut off from one process to be read by another: messages a second, one in twenty of
what a process judges. One burst of one small host sways more than a share of next to nothing."""


class Me(NamedTuple):
    """Who asks. instance: see common.envelope.Batch.epoch. processes: as many as the settings say; it
    is only a hint on who takes what first.
    """

    member: int
    instance: int
    processes: int


class Row(NamedTuple):
    """A row of the table `shard`.

    past_s: how long ago it has expired, by the database; below 0: not yet. load, hosts: as its last
    owner said, see ingest.load.Said.
    """

    number: int
    owner: int | None
    instance: int | None
    epoch: int
    past_s: float
    load: float = 0.0
    hosts: int = 0

    @property
    def weight(self) -> float:
        """What it adds to what its owner carries."""
        return self.load + self.hosts * HOST_LOAD + EMPTY_LOAD

    @property
    def given(self) -> bool:
        """Whether its owner has given it up for balance."""
        return self.owner is None and self.epoch > 0


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
    patient = unbroken_s >= PATIENT_S
    owned: dict[int, list[Row]] = {member: [] for member in sorted({*members, me.member})}
    take: list[int] = []
    loose: list[Row] = []
    for row in rows:
        if _is_earlier(row, me, held):
            take.append(row.number)
            owned[me.member].append(row)
        elif row.owner in owned and row.number not in giving and not _is_left(row, me, patient):
            owned[row.owner].append(row)
        else:
            loose.append(row)
    carried = {member: sum(row.weight for row in its) for member, its in owned.items()}
    homes = _assign(loose, carried, me.processes)
    for row in loose:
        if row.number not in giving and _is_free(row, me, patient=patient):
            late = patient and row.past_s > LATE_S
            if late or homes[row.number] == me.member:
                take.append(row.number)
    room = MOVES_AT_ONCE - len(giving) - sum(row.given for row in rows)
    give: list[int] = []
    if patient and room > 0:
        ours = {row.number for row in owned[me.member]} & held.keys()
        give = [number for number in _moves(carried, owned, me.processes, room) if number in ours]
    return Plan(sorted(take), sorted(give))


def _is_earlier(row: Row, me: Me, held: Mapping[int, int]) -> bool:
    """Whether a lease is ours by the table and not by what we know: of an earlier life, or let go."""
    if row.owner != me.member or row.instance is None or row.instance > me.instance:
        return False
    return row.instance < me.instance or held.get(row.number) != row.epoch


def _is_left(row: Row, me: Me, patient: bool) -> bool:  # noqa: FBT001 - as told
    """Whether a lease has run out and its owner does nothing about it.

    Where the database was away, everybody's has, and they are their owners' still.
    """
    ours = row.owner == me.member
    if row.past_s <= 0 or (ours and row.instance == me.instance):
        return False
    # A later life of our number, that was before the clock was set back, is nobody's.
    return patient or ours


def _is_free(row: Row, me: Me, *, patient: bool) -> bool:
    """Whether a shard that nobody is known to read may be taken."""
    if row.given:
        return True
    at_home = row.owner is None and owner_of(row.number, me.processes) == me.member
    return at_home or (patient and row.past_s > 0)


def _assign(loose: Sequence[Row], carried: dict[int, float], processes: int) -> dict[int, int]:
    """Who shall have what nobody reads: by shard; `carried` has it then.

    What was never owned goes where it is at home; else the heaviest first to who carries least.
    """
    found = {}
    for row in sorted(loose, key=lambda row: (-row.weight, row.number)):
        home = owner_of(row.number, processes)
        if row.epoch or home not in carried:
            home = min(carried, key=lambda member: (carried[member], member != home, member))
        found[row.number] = home
        carried[home] += row.weight
    return found


def _moves(
    carried: Mapping[int, float],
    owned: Mapping[int, Collection[Row]],
    processes: int,
    most: int,
) -> list[int]:
    """The shards that go to somebody else so that all carry alike; the first ones, in order.

    Each time from one who carries much to who carries least: what comes closest to half of what they
    are apart, and never more than three quarters, so that they are closer by half afterwards.
    """
    carried = dict(carried)
    rest = {member: list(its) for member, its in owned.items()}
    shards = sum(map(len, rest.values()))
    fair = sum(carried.values()) / len(carried) - EMPTY_LOAD * shards / len(carried)
    apart = 1.5 * EMPTY_LOAD + TOLERANCE * fair
    hosts = {member: sum(row.hosts for row in its) for member, its in owned.items()}
    few = sum(hosts.values()) / len(hosts) / 2
    # Where nothing is measured the counts decide, and those do not sway.
    worth = min(WORTH, sum(row.load for its in owned.values() for row in its))
    found: list[int] = []
    while len(found) < min(most, shards):
        least = min(carried, key=lambda member: (carried[member], member))
        worthwhile = apart if hosts[least] < few else max(apart, worth)
        for member in sorted(carried, key=lambda member: (-carried[member], member)):
            gap = carried[member] - carried[least]
            fitting = [row for row in rest[member] if row.weight <= 0.75 * gap]
            # Where one shard is all the load, the others are not worth moving.
            if gap > worthwhile and sum(row.weight for row in fitting) > worthwhile / 2:
                break
        else:
            return found
        row = min(fitting, key=lambda row: _fit(row, gap / 2, member, least, processes))
        rest[member].remove(row)
        carried[member] -= row.weight
        carried[least] += row.weight
        found.append(row.number)
    return found


def _fit(
    row: Row, wanted: float, member: int, least: int, processes: int
) -> tuple[float, bool, bool, int]:
    """What is moved first: about the weight that is wanted, and of equals what is at home there."""
    home = owner_of(row.number, processes)
    return round(abs(wanted - row.weight) / wanted, 1), home != least, home == member, row.number


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
