"""The seam between persist's messages, the ring and the log: nobody misses, doubles or reorders.

On the real log, with small segments that roll and leave while it is read.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcast.config import Limits
from broadcast.consumer import Consumer, Departure, State
from broadcast.cursor import Live, Replay, decide_start
from broadcast.fanout import Fanout
from broadcast.health import Pulse
from broadcast.hole import Hole
from broadcast.inlet import Inlet
from broadcast.playback import Playback
from common.chunk import ROW, Chunk, ChunkKind, encode_chunk
from common.log import Damaged, Outdated
from common.segments import SegmentReader
from persist.disk import Disk
from persist.segment_log import SegmentLog
from tests.broadcast.fakes import frame_of, gap_of, rows_of, seq_of, until

SIZE = 300
"""Of an event, in bytes."""


class NoSync(Disk):
    """No power is cut here."""

    def sync(self, fd: int) -> None:
        """Leave it to the page cache."""

    def sync_folder(self, folder: Path) -> None:
        """The same."""


class Writer:
    """The log's writer, which starts anew now and then, and what it publishes."""

    def __init__(self, folder: Path, first_seq: int = 1) -> None:
        self.folder = folder
        self.told: dict[int, bytes] = {}
        """The frame that stands at a seq; at the first seq of a hole, what is told there."""
        self.log = self._claimed(first_seq)

    def _claimed(self, floor_seq: int) -> SegmentLog:
        log = SegmentLog(self.folder, disk=NoSync(), segment_bytes=4000, segment_chunks=8)
        log.claim("seam", floor_seq=floor_seq)
        return log

    def append(self, events: int) -> Chunk:
        """A group, or a beat."""
        first_seq = self.log.next_seq
        frames = [frame_of(first_seq + n, SIZE) for n in range(events)]
        rows = [ROW.pack(*row) for row in rows_of(frames)]
        now_us = int(time.time() * 1e6)
        chunk = self.log.append(rows, list(frames), now_us)
        self.log.wait(chunk.next_seq - 1)
        self.told |= {first_seq + n: frame for n, frame in enumerate(frames)}
        return chunk

    def claim(self, skip: int) -> Chunk:
        """A new writer, above where the last one ended."""
        self.log.close()
        first_seq = self.log.next_seq
        if max(self.told, default=0) != first_seq - 1:
            # Two holes side by side may be told as two or as one.
            skip = 0
        self.log = self._claimed(first_seq + skip)
        if skip:
            self.told[first_seq] = gap_of(first_seq, first_seq + skip)
        # Its CRC is not the log's, so that what follows has to be looked up there.
        return encode_chunk(ChunkKind.CLAIM, self.log.epoch, first_seq + skip, 0, 1, [], b"x")

    def retain(self, max_bytes: int) -> None:
        """Old segments leave."""
        self.log.retain(max_bytes, 1e9, time.time())

    def stream(self) -> dict[int, bytes]:
        """All that a consumer is to get, by the seq that it comes to; within holes too."""
        whole: dict[int, bytes] = {}
        data, behind = b"", self.log.next_seq
        for seq in sorted(self.told, reverse=True):
            for within in range(behind - 1, seq, -1):
                whole[within] = gap_of(within, behind) + data
            data, behind = self.told[seq] + data, seq
            whole[seq] = data
        return whole


class Taker:
    """One broadcaster's inlet, and the bytes that it publishes."""

    def __init__(self, folder: Path, first_seq: int) -> None:
        self.playback = Playback(lambda: SegmentReader(folder), 1)
        self.pulse = Pulse()
        self.failure: BaseException | None = None
        self.data = bytearray()
        self.next_seq = first_seq
        self.events = 0
        self.inlet = Inlet(self.playback, first_seq, self.pulse, self._publish, self._fail)

    def _publish(self, part: Chunk | Hole) -> None:
        self.data += part.frames_from(self.next_seq)
        if part.count:
            self.events += part.next_seq - self.next_seq
        self.next_seq = part.next_seq

    def _fail(self, error: BaseException) -> None:
        self.failure = error

    def hear(self, chunk: Chunk) -> None:
        """A message that came."""
        if self.failure is None:
            self.inlet.on_message([chunk.raw])
        self.check()

    async def settle(self) -> None:
        """Let a gap that is being filled be filled."""
        while (filling := self.inlet._filling) is not None:
            await asyncio.wait([filling])
            await asyncio.sleep(0)
        self.check()

    async def end(self) -> None:
        """Persist is silent, and the log is looked at."""
        await self.settle()
        if self.failure is None:
            self.pulse.heard_s = None
            self.inlet.look()
            await self.settle()

    def check(self) -> None:
        """Each event that came in is somewhere, at every turn."""
        if self.failure is None:
            assert self.inlet.balance(self.events).unaccounted == 0


STEPS = st.lists(
    st.tuples(
        st.one_of(
            st.tuples(st.just("events"), st.integers(1, 4)),
            st.tuples(st.just("events"), st.integers(1, 4)),
            st.tuples(st.just("beat"), st.just(0)),
            st.tuples(st.just("claim"), st.sampled_from([0, 0, 3, 500])),
            st.tuples(st.just("retain"), st.sampled_from([3_000, 9_000])),
        ),
        st.booleans(),
        st.booleans(),
    ),
    max_size=25,
)


@given(steps=STEPS, first_seq=st.sampled_from([1, 1000]))
@settings(max_examples=100, deadline=None)
def test_whatever_messages_are_lost_the_bytes_are_those_of_the_sibling(
    steps: list[tuple[tuple[str, int], bool, bool]], first_seq: int
) -> None:
    async def story(folder: Path) -> None:
        writer = Writer(folder, first_seq)
        unlucky, sibling = Taker(folder, first_seq), Taker(folder, first_seq)
        try:
            for (what, number), lost, settled in steps:
                if what == "retain":
                    writer.retain(number)
                    continue
                chunk = writer.claim(number) if what == "claim" else writer.append(number)
                sibling.hear(chunk)
                await sibling.settle()
                if not lost:
                    unlucky.hear(chunk)
                if settled:
                    await unlucky.settle()
            await unlucky.end()
            await sibling.end()
            assert sibling.failure is None
            assert sibling.data == writer.stream().get(first_seq, b"")
            if unlucky.failure is None:
                assert unlucky.data == sibling.data
            else:
                # What it missed had left the log by then: loud, and nothing was skipped.
                assert isinstance(unlucky.failure, Outdated)
                assert unlucky.failure.oldest_seq > unlucky.next_seq
                assert sibling.data.startswith(unlucky.data)
        finally:
            for taker in (unlucky, sibling):
                await taker.inlet.close()
                taker.playback.close()
            writer.log.close()

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(story(Path(name)))


class Sink:
    """One consumer's end, that takes what it gets; it may block after a write, as a socket does."""

    def __init__(self, fanout: Fanout, cursor: int | None, *, slow: bool = False) -> None:
        self.fanout = fanout
        self.cursor = cursor
        self.slow = slow
        self.blocked = self.reading = self.told = False
        self.data = bytearray()
        self.departed: Departure | None = None
        log = fanout.playback
        start = decide_start(cursor, oldest_seq=log.oldest_seq, durable_seq=log.durable_seq)
        assert isinstance(start, Live | Replay)
        self.consumer = Consumer(start.from_seq if isinstance(start, Replay) else fanout.live_seq)
        self.consumer.cursor = cursor or 0
        if isinstance(start, Replay) and start.outdated:
            self.tell_outdated()
        fanout.join(self)

    @property
    def write(self) -> Callable[[bytes], None]:
        return self._write

    def _write(self, data: bytes) -> None:
        self.data += data
        if self.slow:
            self.blocked = True
            self.fanout.fell_behind(self)

    def read_on(self) -> None:
        """Take what the socket holds."""
        if self.blocked:
            self.blocked = False
            self.fanout.pull(self)

    def tell_outdated(self) -> None:
        assert not self.told
        assert not self.data
        self.told = True
        self.consumer.cursor = 0

    def depart(self, why: Departure) -> None:
        self.departed = why
        self.fanout.leave(self)

    def sweep(self, now_s: float) -> None:
        raise NotImplementedError


class Relay:
    """A broadcaster without sockets: inlet, ring, log and consumers."""

    def __init__(self, folder: Path) -> None:
        # Little fits into the ring and into a read, so that all three take part.
        limits = Limits(ring_bytes=4000, slice_bytes=700, read_bytes=1500)
        self.playback = Playback(lambda: SegmentReader(folder), 2)
        self.fanout = Fanout(self.playback, limits)
        self.pulse = Pulse()
        self.failures: list[BaseException] = []
        self.inlet = Inlet(
            self.playback, self.fanout.live_seq, self.pulse, self.fanout.publish,
            self.failures.append,
        )  # fmt: skip

    async def caught_up(self, sinks: list[Sink]) -> None:
        """Wait until each of them is live or gone."""

        def settled() -> bool:
            for sink in sinks:
                sink.slow = False
                sink.read_on()
            return all(sink.departed or sink.consumer.state is State.LIVE for sink in sinks)

        await until(settled, 30)
        assert not self.failures

    async def close(self) -> None:
        await self.inlet.close()
        self.playback.close()


def test_who_joins_at_any_seq_at_any_time_gets_everything_from_there_once(tmp_path: Path) -> None:
    async def story() -> None:
        writer = Writer(tmp_path)
        relay = Relay(tmp_path)
        sinks: list[Sink] = []
        for turn in range(80):
            chunk = writer.claim(7) if turn in (20, 55) else writer.append(1 + turn % 4)
            if turn % 5:  # every fifth message is lost on its way
                relay.inlet.on_message([chunk.raw])
            newest = writer.log.durable_seq
            cursors = range(newest + 1) if turn == 50 else {newest, newest * turn % (newest + 1)}
            sinks += [Sink(relay.fanout, cursor, slow=cursor % 3 == 0) for cursor in cursors]
            for sink in sinks[turn % 2 :: 2]:
                sink.read_on()
            await asyncio.sleep(0)
        relay.inlet.on_message([writer.append(1).raw])
        await relay.caught_up(sinks)
        assert len(list(tmp_path.glob("*.seg"))) > 10
        whole = writer.stream()
        for sink in sinks:
            assert (sink.departed, sink.told) == (None, False)
            assert sink.data == whole[sink.cursor or 1]
        writer.log.close()
        await relay.close()

    asyncio.run(story())


def test_with_retention_under_it_a_replay_is_whole_or_says_that_it_is_not(tmp_path: Path) -> None:
    async def story() -> None:
        writer = Writer(tmp_path)
        relay = Relay(tmp_path)
        sinks: list[Sink] = []
        for turn in range(90):
            relay.inlet.on_message([writer.append(1 + turn % 3).raw])
            newest, oldest = writer.log.durable_seq, relay.playback.oldest_seq
            if turn % 9 == 0:
                sinks += [Sink(relay.fanout, at, slow=at % 2 == 0) for at in range(newest + 1)]
            # Retention strikes when reads are under way for those who have just come.
            if turn % 9 < 2:
                writer.retain(9_000 if turn < 45 else 5_000)
            for sink in sinks[turn % 7 :: 7]:
                sink.read_on()
            await asyncio.sleep(0)
        assert oldest > 50
        relay.inlet.on_message([writer.append(1).raw])
        await relay.caught_up(sinks)
        whole = writer.stream()
        ends: dict[str, int] = {}
        for sink in sinks:
            cursor = sink.cursor or 0
            size = int.from_bytes(sink.data[2:4], "big")
            begins = seq_of(bytes(sink.data[4 : 4 + size]))
            if sink.departed is None:
                assert sink.data == whole[begins]
            else:
                assert sink.departed is Departure.OUTDATED
                assert whole[begins].startswith(sink.data)
            # Only the event that the cursor names may be gone without a word.
            assert sink.told or cursor == 0 or cursor <= begins <= cursor + 1
            end = "told" if sink.told else "whole" if sink.departed is None else "left"
            ends[end] = ends.get(end, 0) + 1
        assert min(ends[end] for end in ("told", "whole", "left")) > 10, ends
        writer.log.close()
        await relay.close()

    asyncio.run(story())


def damage(folder: Path, which: int) -> None:
    """Flip a bit in the middle of one of the segments."""
    path = sorted(folder.glob("*.seg"))[which]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def ranges(data: bytes, told: dict[int, bytes]) -> list[tuple[str, int, int]]:
    """What a stream consists of: events as they were written, and what is told to be missing."""
    found: list[tuple[str, int, int]] = []
    at = 0
    while at < len(data):
        size, head = (data[at + 1], 2) if data[at + 1] < 126 else (0, 4)
        size = size or int.from_bytes(data[at + 2 : at + 4], "big")
        frame = data[at : at + head + size]
        at += head + size
        missing = re.search(rb"seq (\d+) to (\d+) are missing: ", frame)
        if missing is not None:
            found.append(("missing", int(missing[1]), int(missing[2])))
        else:
            seq = seq_of(frame[head:])
            assert frame == told[seq]
            found.append(("event", seq, seq))
    return found


@given(
    hits=st.lists(
        st.tuples(st.integers(0, 12), st.floats(0, 1), st.sampled_from(["flip", "cut", "remove"])),
        min_size=1, max_size=3,
    ),
    claims=st.sets(st.integers(0, 39), max_size=3),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_whatever_is_damaged_each_number_is_an_event_or_told_to_be_missing(
    hits: list[tuple[int, float, str]], claims: set[int]
) -> None:
    async def story(folder: Path) -> None:
        writer = Writer(folder)
        for turn in range(40):
            writer.append(1 + turn % 3)
            if turn in claims:
                writer.claim(5)
        writer.append(1)
        newest = writer.log.durable_seq
        for which, where, how in hits:
            spoil(folder, which, where, how)
        relay = Relay(folder)
        sinks = [Sink(relay.fanout, cursor) for cursor in range(1, newest + 1, 3)]
        await relay.caught_up(sinks)
        for sink in sinks:
            next_seq = sink.cursor or 1
            for _what, first_seq, last_seq in ranges(bytes(sink.data), writer.told):
                assert first_seq == next_seq
                next_seq = last_seq + 1
            if sink.departed is None:
                assert next_seq == newest + 1
            else:
                assert sink.departed is Departure.DAMAGED
                # Only where nobody knows how the log goes on.
                with closing(SegmentReader(folder)) as reader, pytest.raises(Damaged) as damaged:
                    reader.read(next_seq, 1)
                assert damaged.value.until_seq is None
        await relay.close()
        writer.log.close()

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(story(Path(name)))


def spoil(folder: Path, which: int, where: float, how: str) -> None:
    """Damage one of the segments at a place from 0 to 1."""
    paths = sorted(folder.glob("*.seg"))
    path = paths[which % len(paths)]
    data = bytearray(path.read_bytes())
    at = int(where * max(0, len(data) - 1))
    if how == "remove":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[:at])
    elif data:
        data[at] ^= 0x10
        path.write_bytes(data)


def test_a_late_starter_serves_the_bytes_of_its_siblings_for_every_cursor(tmp_path: Path) -> None:
    async def story() -> None:
        writer = Writer(tmp_path)
        first = Relay(tmp_path)
        chunks = [writer.append(1 + turn % 3) for turn in range(20)]
        chunks += [writer.claim(9)]
        chunks += [writer.append(1 + turn % 3) for turn in range(20)]
        for chunk in chunks:
            first.inlet.on_message([chunk.raw])
        damage(tmp_path, 2)
        late = Relay(tmp_path)
        more = [writer.append(2), writer.claim(4), writer.append(1)]
        for chunk in more:
            first.inlet.on_message([chunk.raw])
        newest = writer.log.durable_seq
        # The late one is behind by what it has not heard yet: it waits, and tells nobody of a future.
        pairs = [
            (Sink(first.fanout, cursor), Sink(late.fanout, cursor)) for cursor in range(newest + 1)
        ]
        await first.caught_up([one for one, _ in pairs])
        assert late.fanout.live_seq < first.fanout.live_seq
        for chunk in more:
            late.inlet.on_message([chunk.raw])
        await late.caught_up([other for _, other in pairs])
        gaps = set()
        for one, other in pairs:
            assert one.data == other.data
            assert (one.departed, other.departed) == (None, None)
            gaps.add(one.data.count(b"are missing: the relay's log is damaged there"))
        assert gaps == {0, 1}
        assert pairs[newest][0].data == writer.told[newest]
        # Above the last one there is, both say so.
        for relay in (first, late):
            with pytest.raises(AssertionError):
                Sink(relay.fanout, newest + 1)
        writer.log.close()
        await first.close()
        await late.close()

    asyncio.run(story())
