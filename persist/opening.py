"""How does persist take over what the ones before it left: the log, the checkpoint, the database?

    log locked → room on the disk → checkpoint read → schema, and hosts that the database lacks
        → log claimed → its rows and frames read → database told

Each of the three may be older than the others, or gone. What follows is said loudly where something
is lost; `strict_start` refuses instead, before anything was changed; but for damage, which shows only
when the log is read.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from common.database import Connection, ensure_schema, wait_for_database
from common.process import Fault
from common.segment_files import has_lost_head
from common.segments import SegmentReader
from persist.catch_up import Start, catch_up, left_unapplied
from persist.checkpoint import Checkpoint, KnownHost
from persist.checkpoint_file import read_checkpoint
from persist.config import Config
from persist.disk import Disk
from persist.duplicates import Duplicates
from persist.fence import Fence
from persist.hidden_file import HiddenFile, read_hidden
from persist.host_numbers import Reconciled, reconcile
from persist.quotas import Quotas
from persist.reserve import missing_bytes
from persist.segment_log import SegmentLog
from persist.store import Reached, Store

log: Final = logging.getLogger(__name__)

FASTEST_EVENTS_S: Final = 10_000
"""Numbers that are thought given in each second since a database was last told: several times what the
whole network says, so that an old backup of it is never above what its consumers have seen."""
UNKNOWN_AGE_S: Final = 365 * 86_400.0
"""How long ago an earlier release is thought to have said it, in seconds: it did not note the time."""
NUMBERS_SINCE_S: Final = 1_577_836_800.0
"""2020-01-01, Unix seconds. A column of 31 bits holds the minutes from there on for four thousand years."""
HOSTS_NAMED: Final = 10
"""Hosts that one log line names."""


class Refused(Exception):
    """Something was lost, and `STANDPIPE_STRICT_START` is set: the message says what."""


@dataclass(slots=True)
class Opened:
    """What persist begins with. next_seq: is given next. applied_seq: PostgreSQL has all up to it.
    hidden: the file beside the log, as the log led to it.
    """

    next_seq: int
    applied_seq: int
    duplicates: Duplicates
    fence: Fence
    hosts: list[KnownHost]
    quotas: Quotas
    hidden: HiddenFile


def take_over(
    config: Config, segment_log: SegmentLog, stopping: threading.Event, disk: Disk
) -> Opened | None:
    """Open the log for writing, and bring the database up to its end; None when told to stop first.

    The log is the caller's to close.

    Raises:
        Fenced, Damaged, UnknownFormat: the log cannot be taken over.
        Refused: see there.
        SchemaMismatch: the database was made by another release.
        Fault: the disk refuses.
        psycopg.Error: the database refuses, or went away while it was read.
    """
    connection = wait_for_database(config.database_url, "persist", stopping)
    if connection is None:
        return None
    with (
        contextlib.closing(Store(connection)) as store,
        contextlib.closing(SegmentReader(config.log_dir)) as reader,
    ):
        try:
            segment_log.lock()
            _make_room(config, segment_log)
            checkpoint = read_checkpoint(config.log_dir)
            reached, strangers = _open_database(connection, store, checkpoint, reader, config)
            told = _told(checkpoint, reached)
            reached_seq = max(seq for seq, _age_s in told)
            next_seq = segment_log.claim(
                f"persist {os.getpid()}",
                floor_seq=config.initial_seq,
                reached_seq=reached_seq,
                skipped=floor_over(told) - reached_seq,
            )
        except OSError as error:
            raise Fault(f"cannot write the log in {config.log_dir}: {error}") from error
        fence = Fence([*store.read_epochs(), *(checkpoint.epochs if checkpoint else ())])
        start = Start(checkpoint, frozenset(strangers))
        caught_up = catch_up(
            store, reader, stopping.is_set, fence, start, strict=config.strict_start
        )
        if caught_up is None:
            return None
        store.raise_epochs(fence.claims())
        try:
            hidden = _open_hidden(config, store, disk, is_older=_is_older(checkpoint, reached))
        except OSError as error:
            raise Fault(f"cannot write in {config.log_dir}: {error}") from error
        quotas = Quotas()
        quotas.begin(store.read_counts())
        return Opened(
            next_seq, caught_up.applied_seq, caught_up.duplicates, fence, store.read_hosts(),
            quotas, hidden,
        )  # fmt: skip


def _is_older(checkpoint: Checkpoint | None, reached: Reached | None) -> bool:
    """Whether the database is seen to be a backup, or a new one."""
    return checkpoint is not None and (
        reached is None or reached.applied_seq < checkpoint.applied_seq
    )


def _open_hidden(config: Config, store: Store, disk: Disk, *, is_older: bool) -> HiddenFile:
    """See that nothing the operator has said is undone by a database that is older than his words.

    The log had said all of them up to the file's version; each of them raised it (common.control).
    """
    before = read_hidden(config.log_dir)
    taken_down = store.read_taken_down()
    if before is not None and store.read_version() < before.version:
        changed = store.put_words_back(before)
        log.error("the database is older than what its operator said: %d takedowns and bans are as "
                  "they were said last", changed)  # fmt: skip
    elif before is not None and is_older:
        # What was said over it since has raised its version; what it lacks cannot be told from what was
        # taken back since, so that whoever was hidden stays so.
        changed = store.put_words_back(before, and_keep=True)
        log.error("the database is older than what its operator said, and more was said since: %d "
                  "takedowns and bans that it lacked are there again", changed)  # fmt: skip
    elif before is None and (kept := store.keep_takedowns([did for did, _seq in taken_down])):
        # Whether they were reversed since cannot be told.
        log.error("%d accounts are taken down by what the log says, and stay so", kept)
    hidden = HiddenFile(disk, config.log_dir)
    hidden.open(before, taken_down)
    return hidden


def floor_over(told: Iterable[tuple[int, float]]) -> int:
    """A number above any that can have been given: (a seq that was, how long ago in seconds) each."""
    return max(seq + int(max(0.0, age_s) * FASTEST_EVENTS_S) for seq, age_s in told)


def unused_host_number(now_s: float) -> int:
    """A number that no host had: fewer than one a minute were added. now_s: Unix seconds."""
    return int((now_s - NUMBERS_SINCE_S) / 60)


def _told(checkpoint: Checkpoint | None, reached: Reached | None) -> list[tuple[int, float]]:
    told = [(0, 0.0)]
    if checkpoint is not None:
        told.append((checkpoint.durable_seq, time.time() - checkpoint.time_us / 1e6))
    if reached is not None:
        age_s = UNKNOWN_AGE_S if reached.age_s is None else reached.age_s
        told.append((reached.applied_seq, age_s))
    return told


def _make_room(config: Config, segment_log: SegmentLog) -> None:
    """Before anything is written: a disk that is full must not keep persist from making room."""
    usage = shutil.disk_usage(config.log_dir)
    must_free = missing_bytes(usage.total, usage.free, config.reserve_bytes)
    gone = segment_log.make_room(must_free) if must_free else None
    if gone is not None:
        log.error(
            "the disk has less room than its reserve: seqs %d to %d left the log before their time",
            gone[0], gone[1] - 1,
        )  # fmt: skip


def _open_database(
    connection: Connection,
    store: Store,
    checkpoint: Checkpoint | None,
    reader: SegmentReader,
    config: Config,
) -> tuple[Reached | None, set[int]]:
    """Bring schema and hosts up, before anybody can add a host under a number that had another one.

    Returns what it knows of the log, and the hosts of which the log says nothing: it means others
    by their numbers.
    """
    with connection.transaction():
        ensure_schema(connection)
        reached = store.read_reached()
        if config.strict_start and reached is not None:
            what = left_unapplied(reached.applied_seq, reader)
            if what is not None:
                raise Refused(what)
        known_seq = max(reader.durable_seq, checkpoint.durable_seq if checkpoint else 0)
        is_new = reached is None and (known_seq > 0 or has_lost_head(config.log_dir))
        if is_new:
            _tell_new_database(known_seq, checkpoint, strict=config.strict_start)
        if checkpoint is None:
            if is_new:
                # Whoever is added while the log is still being read gets none of its numbers.
                store.part_hosts({}, unused_host_number(time.time()))
            return reached, {host.id for host in store.read_hosts()} if is_new else set()
        if reached is not None and reached.applied_seq >= checkpoint.applied_seq:
            # It is not older: a host that is missing there was taken out.
            return reached, set()
        if reached is not None:
            # A former host or key, which a backup still names, must speak for nobody again.
            store.forget_documents()
            log.error("the database is an older backup: every DID document is looked up anew")
        found = reconcile(checkpoint.hosts, store.read_hosts())
        # Order: first, so that no new number is one under which another comes back.
        store.part_hosts({}, max((host.id for host in checkpoint.hosts), default=0))
        store.put_hosts_back(found, checkpoint.cursors)
        carried = store.carry_cursors(found.moved, checkpoint.cursors)
    _tell_hosts(found, carried)
    return reached, found.strangers


def _tell_new_database(durable_seq: int, checkpoint: Checkpoint | None, *, strict: bool) -> None:
    what = f"the database knows nothing of the log, which has reached seq {durable_seq}"
    if strict:
        raise Refused(f"{what}: it is new, or another relay's")
    follows = (
        "its accounts are rebuilt from what the log has, its hosts from the checkpoint"
        if checkpoint is not None
        else "its accounts are rebuilt from what the log has; its hosts must be added again, and "
        "what they say again of identities and accounts comes a second time"
    )
    log.error("%s: it is new; %s", what, follows)


def _tell_hosts(found: Reconciled, carried: list[KnownHost]) -> None:
    back = found.missing + found.renumbered
    if back:
        log.error(
            "the database lacked %d hosts that had been read, and has them back as the checkpoint "
            "remembers them: %s", len(back), _names(back),
        )  # fmt: skip
    if carried:
        log.error(
            "%d hosts are there under other numbers, and go on from the cursors that the checkpoint "
            "remembers: %s", len(carried), _names(carried),
        )  # fmt: skip
    if found.strangers:
        log.error(
            "the numbers of %d hosts belonged to others: what the log says of them is left aside",
            len(found.strangers),
        )


def _names(hosts: list[KnownHost]) -> str:
    names = ", ".join(host.hostname for host in hosts[:HOSTS_NAMED])
    return f"{names} …" if len(hosts) > HOSTS_NAMED else names
