"""What must hold of the log after a power cut, at whatever moment it comes?

    history   claims, groups, beats, rolls, retention, kills, cursors saved: on a PowerDisk
    moment    before each call to the disk and within each write: the disk's state, and what had
              been announced to others by then
    cut       one folder for each way in which what was not synced may be lost; the log is claimed
              there, and held to all that had been announced

A run tells what it saw, so that one which saw nothing fails.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from common.chunk import decode_chunk
from common.log import Damaged
from common.segment_files import (
    CHECKPOINT_NAME,
    HEAD_NAME,
    HeadFile,
    HeadMissing,
    list_segments,
    segment_path,
)
from common.segments import SegmentReader
from persist.checkpoint import Checkpoint
from persist.checkpoint_file import read_checkpoint, write_checkpoint
from persist.disk import Disk
from persist.segment_log import SegmentLog
from tests.log_contract import TIME_US, events, pack
from tests.power.disk import PATTERNS, Killed, Pattern, PowerDisk, QuickDisk, Snapshot, remove

SEGMENT_BYTES: Final = 16 * 1024
SEGMENT_CHUNKS: Final = 12
NEW: Final = b"<new>"
"""The event that is written after a cut."""


class Moment(NamedTuple):
    """One moment of a history.

    site: which call to the disk comes next. announced: the last seq that others have seen.
    oldest: the first seq that must still be there. epoch: of the last claim that returned.
    events: what stands at each seq, as far as it was written. saved: the highest cursor that was
    saved elsewhere. rotten: seqs that bit rot has taken.
    """

    site: str
    snapshot: Snapshot
    announced: int
    oldest: int
    epoch: int
    events: dict[int, bytes]
    saved: int
    rotten: frozenset[int]


@dataclass(slots=True)
class History:
    """A log on a PowerDisk, and what the world has seen of it.

    early_save: the bug that saves cursors, and a checkpoint, before the flush.
    """

    place: Path
    rng: random.Random
    early_save: bool = False
    broken: frozenset[str] = frozenset()
    moments: list[Moment] = field(default_factory=list)
    did: Counter[str] = field(default_factory=Counter)
    _events: dict[int, bytes] = field(default_factory=dict)
    _log: SegmentLog | None = None
    _lives: int = 0
    _epoch: int = 0
    _saved: int = 0
    _oldest: int = 1
    _rotten: frozenset[int] = frozenset()
    _disk: PowerDisk = field(init=False)

    def __post_init__(self) -> None:
        self.place.mkdir()
        self._disk = PowerDisk(self.place, self._point)
        self._disk.broken |= self.broken

    def run(self, steps: Iterator[str]) -> None:
        """Do what is named, step by step; a kill ends a step, and the next one begins anew."""
        for step in steps:
            name, _, value = step.partition(" ")
            if name == "kill":
                self._disk.kill_in = int(value)
                continue
            try:
                if self._log is None and name != "rot":
                    self._claim()
                if name != "claim":
                    getattr(self, f"_{name}")(int(value or 0))
                self.did[name] += 1
            except Killed as killed:
                self.did["killed"] += 1
                self.did[f"killed at {killed}"] += 1
                self._end()
        # A kill that was still to come comes too late: the history has ended.
        self._disk.kill_in = None
        if self._log is not None:
            self._log.close()
            self._log = None
        self._point("end")

    def _claim(self) -> None:
        self._lives += 1
        self._log = SegmentLog(
            self.place, disk=self._disk, segment_bytes=SEGMENT_BYTES,
            segment_chunks=SEGMENT_CHUNKS, now=lambda: TIME_US / 1e6,
        )  # fmt: skip
        next_seq = self._log.claim(f"life {self._lives}")
        self._epoch = self._log.epoch
        for seq in [seq for seq in self._events if seq >= next_seq]:
            # Never announced, and not there any more: these numbers may be given again.
            del self._events[seq]

    def _append(self, size: int, count: int = 1) -> None:
        assert self._log is not None
        frames = []
        for seq in range(self._log.next_seq, self._log.next_seq + count):
            self._events[seq] = b"<%d of life %d>" % (seq, self._lives) + b"." * size
            frames.append(self._events[seq])
        self._log.append(pack(frames), frames, TIME_US + self._log.next_seq)
        if self.early_save:
            self._saved = self._log.next_seq - 1
            self._checkpoint()

    def _group(self, count: int) -> None:
        self._append(20, count)

    def _wait(self, _: int = 0) -> None:
        assert self._log is not None
        self._log.wait(self._log.next_seq - 1)
        self._saved = self._log.durable_seq
        self._point("saved")

    def _checkpoint(self, _: int = 0) -> None:
        assert self._log is not None
        told = Checkpoint(self._epoch, TIME_US, self._saved, self._saved, self._saved + 1)
        write_checkpoint(self._disk, self.place, told)

    def _write(self, size: int) -> None:
        self._append(size)
        self._wait()

    def _beat(self, _: int) -> None:
        assert self._log is not None
        self._log.append([], [], TIME_US + self._log.next_seq)
        self._wait()

    def _retain(self, max_bytes: int) -> None:
        assert self._log is not None
        self.did["dropped"] += self._log.retain(max_bytes, 1e9, TIME_US / 1e6)

    def _rot(self, _: int) -> None:
        """A bit flips in a chunk that was announced, in the midst of the last segment."""
        assert self._log is None
        path = segment_path(self.place, list_segments(self.place)[-1])
        data, at, found = path.read_bytes(), 0, []
        head = head_of(self.place)
        while at < len(data):
            chunk = decode_chunk(data, at)
            at += len(chunk.raw)
            # With another one behind it that was announced: else a power cut may make it the last.
            if chunk.count and head and chunk.next_seq <= head[0]:
                found.append((at - 10, frozenset(range(chunk.first_seq, chunk.next_seq))))
        place, seqs = self.rng.choice(found)
        self._disk.rot(path, place)
        self._rotten |= seqs

    def _stop(self, _: int) -> None:
        assert self._log is not None
        self._log.close()
        self._log = None

    def _end(self) -> None:
        """As the system lets go of what a dead process held."""
        assert self._log is not None
        self._log._release()
        self._log = None

    def _point(self, site: str) -> None:
        head = head_of(self.place)
        announced, oldest = head or (0, 1)
        if announced < self._saved and self._saved and not self.early_save:
            raise AssertionError(f"seq {self._saved} was saved, {announced} was announced")
        # What was once said to have left may be gone, though a later claim found it still there.
        self._oldest = max(self._oldest, oldest)
        snapshot = self._disk.snapshot()
        self.moments.append(
            Moment(
                site, snapshot, announced, self._oldest, self._epoch, dict(self._events),
                self._saved, self._rotten,
            )
        )  # fmt: skip


def head_of(place: Path) -> tuple[int, int] | None:
    """(durable, oldest), as the head file of a folder has it."""
    try:
        head = HeadFile(place / HEAD_NAME)
    except HeadMissing:
        return None
    with closing(head):
        return head.durable_seq, max(1, head.oldest_seq)


class Lost(AssertionError):
    """The bench has seen what must not be."""


def cut(
    moment: Moment, pattern: Pattern, rng: random.Random, place: Path, *, again: bool = False
) -> None:
    """Cut the power at a moment, claim what is left, and hold it to what had been announced.

    again: the power fails once more while it is claimed, at each call; the same must hold.

    Raises:
        Lost: it does not.
    """
    moment.snapshot.leave(place, pattern, rng)
    later: list[tuple[Snapshot, int]] = []

    def point(_site: str) -> None:
        head = head_of(place)
        later.append((power.snapshot(), head[0] if head else 0))

    power = PowerDisk(place, point)
    try:
        next_seq, gone = _check(moment, place, power if again else QuickDisk(), rng)
    except Lost as lost:
        head = pattern.head
        raise Lost(
            f"{moment.site}, {pattern.names} {pattern.data.__name__} {head}: {lost}"
        ) from lost
    finally:
        remove(place)
    events = {seq: frame for seq, frame in moment.events.items() if seq < next_seq}
    for snapshot, announced in later:
        then = moment._replace(
            snapshot=snapshot, announced=max(announced, moment.announced),
            events={**events, next_seq: NEW}, rotten=moment.rotten | gone,
        )  # fmt: skip
        cut(then, rng.choice(PATTERNS), rng, place)


def _check(moment: Moment, place: Path, disk: Disk, rng: random.Random) -> tuple[int, set[int]]:
    with closing(SegmentReader(place)) as reader:
        # Before anybody repairs it: what is announced can be read.
        head = head_of(place)
        if head and head[0] > moment.announced:
            raise Lost(f"the head file is ahead: {head[0]}, not {moment.announced}")
        _compare(moment, reader, moment.oldest)
    log = SegmentLog(
        place, disk=disk, segment_bytes=SEGMENT_BYTES, segment_chunks=SEGMENT_CHUNKS,
        now=lambda: TIME_US / 1e6,
    )  # fmt: skip
    with closing(log):
        told = read_checkpoint(place)
        if told is None and (place / CHECKPOINT_NAME).exists():
            raise Lost("the checkpoint is broken")
        reached_seq = max(rng.choice((0, moment.saved)), told.durable_seq if told else 0)
        if reached_seq > moment.announced:
            raise Lost(f"cursor {reached_seq} was saved, {moment.announced} was announced")
        next_seq = log.claim("after", reached_seq=reached_seq)
        if not moment.announced < next_seq <= max(moment.events, default=0) + 1:
            raise Lost(f"goes on at {next_seq} behind {moment.announced}")
        if log.epoch <= moment.epoch:
            raise Lost(f"epoch {log.epoch} again")
        if next_seq <= moment.saved:
            raise Lost(f"cursor {moment.saved} was saved, the log ends before {next_seq}")
        log.append(pack([NEW]), [NEW], TIME_US)
        log.wait(next_seq)
    with closing(SegmentReader(place)) as reader:
        if reader.oldest_seq > moment.oldest:
            raise Lost(f"begins at {reader.oldest_seq}, not {moment.oldest}")
        found, gone = _compare(moment, reader, reader.oldest_seq)
        whole = set(range(reader.oldest_seq, next_seq + 1))
        if found[next_seq] != NEW or found.keys() | gone != whole:
            raise Lost(f"{len(found)} events from {reader.oldest_seq} to {next_seq}")
    return next_seq, gone


def _compare(
    moment: Moment, reader: SegmentReader, from_seq: int
) -> tuple[dict[int, bytes], set[int]]:
    """What can be read, and what is told to be damaged."""
    found: dict[int, bytes] = {}
    gone: set[int] = set()
    durable_seq = reader.durable_seq
    while from_seq <= durable_seq:
        try:
            chunks = reader.read(from_seq, 4000)
        except Damaged as damaged:
            hole = range(damaged.from_seq or 0, damaged.until_seq or durable_seq + 1)
            # Of several chunks in flight, pages of the first may be lost and the others be there.
            if not moment.rotten.issuperset(seq for seq in hole if seq <= moment.announced):
                raise Lost(f"at seq {from_seq}: {damaged!r}") from damaged
            gone |= set(hole)
            from_seq = hole.stop
            continue
        except Exception as error:
            raise Lost(f"at seq {from_seq}: {error!r}") from error
        if not chunks:
            break
        found.update((seq, frame) for seq, frame in events(chunks) if seq >= from_seq)
        from_seq = chunks[-1].next_seq
    for seq, frame in found.items():
        if seq in moment.events and frame != moment.events[seq] and seq <= moment.announced:
            raise Lost(f"seq {seq} is another event")
    wanted = range(moment.oldest, min(moment.announced, durable_seq) + 1)
    if missing := sorted(set(wanted) - found.keys() - moment.rotten):
        raise Lost(f"seqs {missing} are missing")
    return found, gone


def scripted() -> Iterator[str]:
    """Each thing once, and each after the other that it could meet."""
    yield from ("claim", "write 10", "group 3", "wait", "beat", "write 6000", "checkpoint")
    yield from ("group 30", "wait", "checkpoint")
    # Killed between write and flush: what is whole is kept.
    yield from ("group 2", "stop", "group 4", "kill 0", "wait", "claim", "write 10")
    # A roll with what was not waited for in the full segment.
    yield from ("append 9000", "append 9000", "write 5000", "write 5000", "beat", "beat")
    # Killed while a segment is begun: after its name was given, before that was synced.
    for calls in range(14):
        yield from ("write 8000", f"kill {calls}", "append 9000", "wait", "retain 60000")
    # All that is sealed goes while the segment behind it holds nothing that was flushed.
    for _ in range(3):
        yield from ("append 9000", "append 9000", "retain 0", "wait")
    # Killed within a checkpoint.
    for calls in range(7):
        yield from ("write 12", f"kill {calls}", "checkpoint")
    # A bit flips before what was not announced; killed while the damaged segment is left.
    for calls in (9, 2, 3, 4, 5):
        yield from ("write 30", "group 4", "wait", "append 300", "kill 0", "wait", "rot")
        yield from (f"kill {calls}", "claim", "write 20", "retain 60000")
    # Killed in the midst of recovery, of a torn tail.
    for calls in range(7):
        for size in (5000, 300, 20):
            yield from (f"append {size}", "kill 1", f"append {size}")
            yield from (f"kill {calls}", "claim", "write 12", "retain 40000")
    yield from (
        "retain 60000",
        "write 10",
        "kill 3",
        "retain 40000",
        "write 10",
        "beat",
        "checkpoint",
    )
    for _ in range(5):
        yield from ("write 9000", "write 9000")
    yield from ("retain 0", "write 10", "stop", "claim", "write 4000", "group 5")


def randomly(rng: random.Random, steps: int) -> Iterator[str]:
    """So many steps of what may happen."""
    for _ in range(steps):
        what = rng.choices(
            ("append", "wait", "write", "group", "beat", "kill", "stop", "retain", "checkpoint"),
            (5, 4, 6, 3, 2, 3, 1, 1, 1),
        )[0]
        value = {
            "append": rng.choice((1, 300, 5000, 9000)),
            "write": rng.choice((1, 300, 5000, 9000)),
            "group": rng.randrange(1, 20),
            "kill": rng.randrange(12),
            "retain": rng.choice((0, 20_000, 60_000)),
        }.get(what, 0)
        yield f"{what} {value}"


def near(history: History, site: str) -> Callable[[Moment], bool]:
    """Chooses the moments right after a call that a broken build leaves out, where it matters."""
    chosen: set[int] = set()
    for at, moment in enumerate(history.moments):
        names = moment.snapshot.since or not site.endswith("sync_folder")
        if moment.site == f"not {site}" and names:
            chosen |= {id(each) for each in history.moments[at : at + 12]}
    return lambda moment: id(moment) in chosen


def survey(
    history: History, place: Path, rng: random.Random, choose: Callable[[Moment], bool], *,
    again: float = 0.0,
) -> int:  # fmt: skip
    """Cut the power at every moment chosen, by every pattern; returns how many cuts that were.

    again: how many of them are followed by cuts at every moment of the claim, as a share.
    """
    cuts = 0
    chosen = [moment for moment in history.moments if choose(moment)]
    for moment in rng.sample(chosen, len(chosen)):
        for pattern in PATTERNS:
            cut(moment, pattern, rng, place, again=rng.random() < again)
            cuts += 1
    return cuts
