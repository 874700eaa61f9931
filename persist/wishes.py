"""What does the operator want of accounts and hosts that the log does not say yet?

    look ─▶ version as before? nothing : what differs ─▶ orders ─▶ a few in each turn ─▶ the log
    room at a host ─▶ which of its accounts came first? ─▶ orders

What is wanted stands in a table, what was said in the log: whoever is killed between compares again, so
each is said once. The view is behind the log by a second, so accounts of which something was said since
it was written are asked for by name. No look begins while orders are left: they would be compared with the
past.

It knows no SQL and no clock; orders are obeyed by persist/sequencer.py.

Source: design section 6; S-ACC-09, S-ACC-10, S-RAT-07.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from common.control import LOOK_S
from persist.checkpoint import KnownHost
from persist.local import Word
from persist.quotas import Quotas

ORDERS_A_TURN: Final = 100
"""Orders obeyed before events have their turn again; about 25 µs each."""
RELEASED_AT_ONCE: Final = 2_000
"""Accounts that one look releases, about one look a second: events of accounts that are looked up meanwhile
wait behind so many at most."""
RELEASE_AGAIN_S: Final = 1.0
"""When a host is asked for again whose accounts over the limit the view does not have yet, in seconds."""


class Look(NamedTuple):
    """Asks what is wanted; answered by Wanted. version: nothing but it is told if it is still this."""

    version: int | None
    dids: list[str]


class Wanted(NamedTuple):
    """What is wanted now. hosts: None where the version is as it was; the rest is empty then.

    taken_down: of each DID where something may differ from what the view says.
    """

    version: int
    hosts: list[KnownHost] | None = None
    domains: list[str] = []  # noqa: RUF012 - never changed
    taken_down: list[tuple[str, bool]] = []  # noqa: RUF012 - as above


class Room(NamedTuple):
    """Asks for the accounts that come first: (host, how many)."""

    hosts: list[tuple[int, int]]


class Order(NamedTuple):
    """What is to be said of an account."""

    did: str
    word: Word


class Wishes:
    """What is still to be said. hosts, domains: as they were last heard."""

    def __init__(self, quotas: Quotas) -> None:
        self.hosts: list[KnownHost] = []
        self.domains: list[str] = []
        self._quotas = quotas
        self._version: int | None = None
        self._settled: int | None = None
        self._orders: deque[Order] = deque()
        self._said: dict[str, int] = {}
        self._asked = False
        self._has_looked = False
        self._look_due_s = 0.0
        self._room_due_s = 0.0
        self._room_seq = 0

    def ask(self, now_s: float, applied_seq: int, *, busy: bool) -> Look | Room | None:
        """What to ask the database now; one question at a time.

        Args:
            applied_seq: of the view. busy: orders wait for their accounts.
        """
        if self._asked or self._orders or busy:
            return None
        # In turn: neither keeps the other waiting.
        room = self._has_looked and self._ask_room(now_s, applied_seq)
        if room:
            self._asked, self._has_looked = True, False
            return room
        if now_s < self._look_due_s:
            return None
        self._look_due_s = now_s + LOOK_S
        self._asked = self._has_looked = True
        return Look(self._version, list(self._said))

    def _ask_room(self, now_s: float, applied_seq: int) -> Room | None:
        if now_s < self._room_due_s or applied_seq < self._room_seq:
            return None
        left, hosts = RELEASED_AT_ONCE, []
        for host, room in self._quotas.room():
            hosts.append((host, min(room, left)))
            left -= hosts[-1][1]
            if not left:
                break
        if not hosts:
            return None
        self._room_due_s = now_s + RELEASE_AGAIN_S
        return Room(hosts)

    def heard(self, wanted: Wanted) -> None:
        """The answer to a Look."""
        self._asked = False
        self._version = wanted.version
        if wanted.hosts is not None:
            self.know(wanted.hosts, wanted.domains)
            self._orders += [
                Order(did, Word.TAKE_DOWN if taken_down else Word.REVERSE)
                for did, taken_down in wanted.taken_down
            ]
            # A limit may have grown.
            self._room_due_s = 0.0

    def know(self, hosts: list[KnownHost], domains: list[str]) -> None:
        """What is wanted of hosts."""
        self.hosts, self.domains = hosts, domains
        self._quotas.know(hosts)

    def found(self, dids: Iterable[str]) -> None:
        """The answer to a Room."""
        self._asked = False
        orders = [Order(did, Word.RELEASE) for did in dids]
        self._orders += orders
        if orders:
            self._room_due_s = 0.0

    def take(self) -> list[Order]:
        """Orders for one turn."""
        orders = self._orders
        return [orders.popleft() for _ in range(min(ORDERS_A_TURN, len(orders)))]

    @property
    def waiting(self) -> bool:
        """Whether there are orders to take."""
        return bool(self._orders)

    def said(self, dids: Iterable[str], seq: int) -> None:
        """Takedowns or reversals were said with these events, the last of which has `seq`."""
        self._said |= dict.fromkeys(dids, seq)

    def released(self, seq: int) -> None:
        """Something was said of a limit: until the view has it, it names the same accounts again."""
        self._room_seq = seq

    def applied(self, seq: int) -> None:
        """The view has everything up to `seq`."""
        if self._said:
            self._said = {did: said for did, said in self._said.items() if said > seq}

    def settled(self, *, busy: bool) -> int | None:
        """The version that all was said of, when it is a new one. busy: see `ask`."""
        if self._asked or self._orders or busy or self._version in (None, self._settled):
            return None
        self._settled = self._version
        return self._version
