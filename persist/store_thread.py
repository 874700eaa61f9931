"""Who waits for PostgreSQL, so that the sequencer does not?

    sequencer ── Lookup, Flush ──▶ store thread ── its own connection ──▶ PostgreSQL
        ▲                               │
        └── wake-up, results ───────────┘

A thread does one job after the other, in the order asked, and tries each again until it is done:
a database that is away delays, and loses nothing. Lookups that have piled up are asked at once.

The thread owns its connection; jobs and results cross through queues, and nothing else does.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Final

import psycopg

from common.database import RETRY_S, Waiting, connect
from common.envelope import AccountState
from persist.checkpoint import KnownHost
from persist.store import Store, ViewWentBack
from persist.view import Changes
from persist.wishes import Look, Room, Wanted

log: Final = logging.getLogger(__name__)

LOOKUP_DIDS: Final = 2_000
"""Accounts asked for in one statement, at most."""

CLOSING_S: Final = 1.0
"""How long a statement that is under way may take when the thread is closed, in seconds."""


@dataclass(slots=True)
class Lookup:
    """Asks for the states of accounts; answered by Found. hosts: and for what is wanted of hosts."""

    dids: list[str]
    hosts: bool = False


@dataclass(slots=True)
class HostsAsked:
    """Asks which hosts there are; answered by HostsFound."""


@dataclass(slots=True)
class HostsFound:
    """The hosts of the database, as a checkpoint remembers them."""

    hosts: list[KnownHost]


@dataclass(slots=True)
class Found:
    """The states that PostgreSQL has of the accounts asked for; None where it has none.

    hosts: where they were asked for; who takes this looks at them first.
    """

    states: dict[str, AccountState | None]
    hosts: list[KnownHost] | None = None


@dataclass(slots=True)
class RoomFound:
    """The accounts that come first, where there is room."""

    dids: list[str]


@dataclass(slots=True)
class Flushed:
    """The changes are committed."""

    changes: Changes


@dataclass(slots=True)
class Failed:
    """The thread cannot go on; neither may the process."""

    error: BaseException


Job = Lookup | HostsAsked | Look | Room | Changes
Result = Found | HostsFound | Wanted | RoomFound | Flushed | Failed


class StoreThread:
    """One thread with one connection. Made, asked and closed by one other thread.

    wakeup_fd: becomes readable when there are results; `results` makes it quiet again.
    """

    def __init__(self, url: str, name: str, applied_seq: int) -> None:
        """Start it. applied_seq: what PostgreSQL has confirmed so far."""
        self.wakeup_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._url = url
        self._name = name
        self._confirmed_seq = applied_seq
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._results: deque[Result] = deque()
        self._stopped = threading.Event()
        self._store: Store | None = None
        self._began_s: float | None = None
        """When the job in hand was begun; written by the thread, read by its owner."""
        self._waiting = Waiting("the database")
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def ask(self, job: Job) -> None:
        """Have a job done; its result comes later."""
        self._jobs.put(job)

    def confirm(self, applied_seq: int) -> None:
        """PostgreSQL has told another thread how far it is: it must not say less to this one."""
        self._confirmed_seq = max(self._confirmed_seq, applied_seq)

    def waited_s(self, now_s: float) -> float:
        """How long the job in hand has been asked for, in seconds; 0 when there is none."""
        began_s = self._began_s
        return 0.0 if began_s is None else now_s - began_s

    def results(self) -> list[Result]:
        """What was done since the last call, in order."""
        try:
            os.eventfd_read(self.wakeup_fd)
        except BlockingIOError:
            return []
        found = []
        while self._results:
            found.append(self._results.popleft())
        return found

    def close(self) -> None:
        """End the thread; a job that it still tries is given up."""
        self._stopped.set()
        self._jobs.put(None)
        self._thread.join(CLOSING_S)
        if not self._thread.is_alive():
            # Otherwise it hangs in the system, and may still write here.
            os.close(self.wakeup_fd)

    def _run(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                self._began_s = time.monotonic()
                result = self._do(job)
                self._began_s = None
                if result is None:
                    break
                self._tell(result)
        except BaseException as error:  # noqa: BLE001 - told to the owner, which ends the process
            self._tell(Failed(error))
        finally:
            if self._store is not None:
                self._store.close()

    def _tell(self, result: Result) -> None:
        self._results.append(result)
        os.eventfd_write(self.wakeup_fd, 1)

    def _do(self, job: Job) -> Result | None:
        """Do a job, however often it takes; None when told to stop first."""
        if isinstance(job, Changes):
            self._until_done(lambda store: store.flush(job, self._confirmed_seq))
            if self._stopped.is_set():
                return None
            self.confirm(job.applied_seq)
            return Flushed(job)
        if isinstance(job, HostsAsked):
            known = self._hosts()
            return None if self._stopped.is_set() else HostsFound(known)
        if isinstance(job, Look):
            wanted: list[Wanted] = []
            self._until_done(lambda store: wanted.append(store.read_wanted(job)))
            return wanted[0] if wanted else None
        if isinstance(job, Room):
            first: list[str] = []
            self._until_done(lambda store: first.extend(store.find_over_limit(job.hosts)))
            return None if self._stopped.is_set() else RoomFound(first)
        lookup = self._piled_up(job)
        dids = lookup.dids
        found: dict[str, AccountState] = {}

        def look_up(part: list[str], store: Store) -> None:
            found.update(store.find_states(part))

        # One statement at least: a lookup of nobody asks whether the database is there.
        for start in range(0, len(dids) or 1, LOOKUP_DIDS):
            self._until_done(partial(look_up, dids[start : start + LOOKUP_DIDS]))
        hosts = self._hosts() if lookup.hosts else None
        if self._stopped.is_set():
            return None
        return Found({did: found.get(did) for did in dids}, hosts)

    def _hosts(self) -> list[KnownHost]:
        hosts: list[KnownHost] = []
        self._until_done(lambda store: hosts.extend(store.read_hosts()))
        return hosts

    def _piled_up(self, lookup: Lookup) -> Lookup:
        lookup = Lookup(list(lookup.dids), lookup.hosts)
        while not self._jobs.empty():
            job = self._jobs.get()
            if not isinstance(job, Lookup):
                self._jobs.put(job)
                break
            lookup.dids += job.dids
            lookup.hosts |= job.hosts
        return lookup

    def _until_done(self, work: Callable[[Store], None]) -> None:
        while not self._stopped.is_set():
            try:
                if self._store is None:
                    self._store = self._open()
                work(self._store)
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                # Away, ending, or a deadlock: the same job again, on a new connection.
                self._waiting.still(error)
                if self._store is not None:
                    self._store.close()
                    self._store = None
                self._stopped.wait(RETRY_S)
            else:
                self._waiting.over()
                return

    def _open(self) -> Store:
        store = Store(connect(self._url, self._name))
        applied_seq, _scan_seq = store.read_positions()
        if applied_seq < self._confirmed_seq:
            store.close()
            raise ViewWentBack(
                f"the database had confirmed seq {self._confirmed_seq} and now says {applied_seq}"
            )
        return store
