"""Is damage told by exactly the seqs that are lost, and is all that lies round it given out?

Bit rot, cut and missing segments; and hosts that put chunks of their own into their frames, so that
a reader that looks for the next whole one might take theirs.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from common import chunk, salvage
from common.chunk import CRC, HEAD, MAGIC, ROW, ChunkKind, UnknownFormat, decode_chunk, join_chunk
from common.log import Damaged
from common.segment_files import (
    HEAD_NAME,
    HeadFile,
    index_path,
    list_segments,
    segment_path,
)
from common.segments import SegmentReader
from persist.segment_log import SegmentLog
from tests.log_contract import TIME_US, event, events, pack, write

Event = tuple[int, bytes]
Gap = tuple[int, int | None]


def writer(place: Path) -> SegmentLog:
    return SegmentLog(place, segment_bytes=4096, now=lambda: TIME_US / 1e6 - 1)


def read_past(place: Path, from_seq: int = 1, max_bytes: int = 1) -> tuple[list[Event], list[Gap]]:
    """All there is, and which seqs are told to be lost. As a consumer reads that goes on."""
    found: list[Event] = []
    lost: list[Gap] = []
    with closing(SegmentReader(place)) as reader:
        while from_seq <= reader.durable_seq:
            try:
                chunks = reader.read(from_seq, max_bytes)
            except Damaged as damaged:
                lost.append(gap_of(damaged, from_seq))
                if damaged.until_seq is None:
                    break
                from_seq = damaged.until_seq
                continue
            assert chunks
            found += events(chunks)
            from_seq = chunks[-1].next_seq
    return found, lost


def gap_of(damaged: Damaged, asked: int) -> Gap:
    """What it names holds what was asked for."""
    assert damaged.from_seq is not None
    assert damaged.from_seq <= asked
    assert damaged.until_seq is None or asked < damaged.until_seq
    return damaged.from_seq, damaged.until_seq


def chunks_of(path: Path) -> list[tuple[int, int, int, int]]:
    """(begin, end, first seq, next seq) of each chunk in a whole segment."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        chunk = decode_chunk(data, at)
        found.append((at, at + len(chunk.raw), chunk.first_seq, chunk.next_seq))
        at += len(chunk.raw)
    return found


def without(last_seq: int, *lost: tuple[int, int]) -> list[Event]:
    gone = {seq for first, behind in lost for seq in range(first, behind)}
    return [(seq, event(seq)) for seq in range(1, last_seq + 1) if seq not in gone]


def told(gaps: list[tuple[int, int]]) -> list[Gap]:
    """Where nothing follows, an end is not known."""
    return [(first, behind if behind <= 100 else None) for first, behind in gaps]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Four segments of a log whose writer is gone, with beats and a claim in their midst."""
    place = tmp_path / "whole"
    with closing(writer(place)) as log:
        log.claim("first")
        for count in (3, 20, 1, 20):
            write(log, count)
        for count in (0, 2, 30, 0, 3):
            write(log, count)
    with closing(writer(place)) as log:
        log.claim("second")
        for count in (10, 0, 11):
            write(log, count)
    assert list_segments(place) == [1, 25, 47, 80]
    return place


def flip(path: Path, at: int, bits: int = 0x10) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ bits]))


@pytest.fixture(params=["with indexes", "without"])
def indexed(request: pytest.FixtureRequest, whole: Path) -> bool:
    if request.param == "without":
        for path in whole.glob("*.idx"):
            path.unlink()
    return bool(request.param == "with indexes")


def test_a_flipped_bit_anywhere_costs_the_events_of_its_chunk(whole: Path, indexed: bool) -> None:
    for base in list_segments(whole):
        path = segment_path(whole, base)
        for begin, end, first_seq, next_seq in chunks_of(path):
            places = {
                *range(begin, min(begin + HEAD.size + 12, end)),
                *range(begin, end, 97),
                end - 1,
            }
            for at in sorted(places):
                flip(path, at)
                found, lost = read_past(whole)
                gaps = [] if first_seq == next_seq else [(first_seq, next_seq)]
                assert lost == told(gaps), f"{path.name}, byte {at}"
                assert found == without(100, *gaps)
                flip(path, at)


def test_from_every_seq_the_same_is_told(whole: Path, indexed: bool) -> None:
    path = segment_path(whole, 47)
    begin, _, first_seq, next_seq = next(c for c in chunks_of(path) if c[3] >= c[2] + 30)
    flip(path, begin + 200)
    for from_seq in range(1, 101):
        found, lost = read_past(whole, from_seq, 10_000)
        assert lost == ([(first_seq, next_seq)] if from_seq < next_seq else [])
        seqs = [seq for seq, _ in found if seq >= from_seq]
        assert seqs == [
            seq for seq in range(from_seq, 101) if not first_seq <= seq < next_seq
        ]  # fmt: skip


def test_a_time_whose_events_are_damaged_leads_to_the_damage(tmp_path: Path) -> None:
    with closing(writer(tmp_path)) as log:
        log.claim("first")
        for second in range(30):
            write(log, 10, time_us=TIME_US + second * 1_000_000)
        for path in (segment_path(tmp_path, base) for base in list_segments(tmp_path)):
            for begin, _, first_seq, next_seq in chunks_of(path):
                flip(path, begin + 4)
                with closing(SegmentReader(tmp_path)) as reader:
                    found = [reader.seq_at(TIME_US / 1e6 + second) for second in range(30)]
                flip(path, begin + 4)
                # Whoever reads from there is told, and gets what lies behind. What was damaged
                # right before a time may have been of that time.
                exact = [1 + 10 * second for second in range(30)]
                exact = [first_seq if seq == next_seq else seq for seq in exact]
                if begin or index_path(tmp_path, int(path.stem)).exists():
                    assert found == exact
                else:
                    # Nothing tells how old it is: rather more than was asked for.
                    assert all(seq <= wanted for seq, wanted in zip(found, exact, strict=True))


def test_a_cut_segment_costs_what_was_cut(whole: Path, indexed: bool) -> None:
    path = segment_path(whole, 47)
    kept = path.read_bytes()
    for cut in range(0, len(kept), 61):
        path.write_bytes(kept[:cut])
        intact = max((c[3] for c in chunks_of_bytes(kept, cut)), default=47)
        found, lost = read_past(whole)
        assert lost == ([(intact, 80)] if intact < 80 else [])
        assert found == without(100, (intact, 80))


def chunks_of_bytes(data: bytes, end: int) -> Iterator[tuple[int, int, int, int]]:
    at = 0
    while at < end:
        chunk = decode_chunk(data, at)
        at += len(chunk.raw)
        if at <= end:
            yield at - len(chunk.raw), at, chunk.first_seq, chunk.next_seq


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_a_missing_segment_costs_its_events(whole: Path, index: int) -> None:
    bases = [*list_segments(whole), None]
    base, behind = bases[index], bases[index + 1]
    assert base is not None
    segment_path(whole, base).unlink()
    found, lost = read_past(whole)
    assert lost == [(base, behind)]
    assert found == without(100, (base, behind or 101))
    if index:
        # Sought anew from within it, without having read what lies before.
        assert read_past(whole, base + 1)[1] == lost


def test_bytes_behind_the_end_of_a_sealed_segment_cost_nothing(whole: Path) -> None:
    for extra in (b"x", bytes(5000), segment_path(whole, 1).read_bytes()):
        with segment_path(whole, 47).open("ab") as file:
            file.write(extra)
        assert read_past(whole) == (without(100), [])


@pytest.mark.parametrize("at", [1, 330], ids=["its head", "its frames"])
def test_damage_while_the_log_is_written_is_told_and_ends_where_it_does(
    tmp_path: Path, at: int
) -> None:
    with closing(writer(tmp_path)) as log:
        log.claim("first")
        write(log, 2)
        begin = log.size_bytes
        write(log, 3)
        flip(segment_path(tmp_path, 1), begin + at)
        # Nothing whole follows yet.
        assert read_past(tmp_path) == (without(2), [(3, None)])
        # What is written and not durable does not count.
        frames = [event(6)]
        log.append(pack(frames), frames, TIME_US)
        assert read_past(tmp_path) == (without(2), [(3, None)])
        log.wait(6)
        assert read_past(tmp_path) == (without(6, (3, 6)), [(3, 6)])
        write(log, 1)
        assert read_past(tmp_path) == (without(7, (3, 6)), [(3, 6)])


def test_the_end_of_damage_is_told_once_something_durable_follows(tmp_path: Path) -> None:
    with closing(writer(tmp_path)) as log:
        log.claim("first")
        write(log, 2)
        begin = log.size_bytes
        write(log, 3)
    flip(segment_path(tmp_path, 1), begin)
    with closing(writer(tmp_path)) as log:
        first_seq = log.claim("again")
        with closing(SegmentReader(tmp_path)) as reader, pytest.raises(Damaged) as caught:
            reader.read(3, 1)
        assert (caught.value.from_seq, caught.value.until_seq) == (3, None)
        write(log, 1)
        assert read_past(tmp_path)[1] == [(3, first_seq)]


def test_a_reader_that_has_passed_a_place_before_tells_of_its_damage_too(whole: Path) -> None:
    with closing(SegmentReader(whole)) as reader:
        assert reader.read(1, 100_000)
        assert reader.read(46, 1)
        path = segment_path(whole, 47)
        begin, _, first_seq, next_seq = chunks_of(path)[-2]
        flip(path, begin)
        with pytest.raises(Damaged) as caught:
            reader.read(next_seq - 1, 1)
        assert (caught.value.from_seq, caught.value.until_seq) == (first_seq, next_seq)


def test_a_block_that_the_disk_cannot_read_is_damage(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pread
    path = segment_path(whole, 1)
    broken = path.stat().st_ino
    begin, _, first_seq, next_seq = chunks_of(path)[2]

    def pread(fd: int, length: int, offset: int) -> bytes:
        if os.fstat(fd).st_ino == broken and offset <= begin + 20 < offset + length:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, length, offset)

    monkeypatch.setattr(os, "pread", pread)
    monkeypatch.setattr("common.segment_files._BLOCK_BYTES", 16)
    assert read_past(whole) == (without(100, (first_seq, next_seq)), [(first_seq, next_seq)])


def test_an_error_that_is_no_damage_is_not_called_so(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pread(fd: int, length: int, offset: int) -> bytes:
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))

    with closing(SegmentReader(whole)) as reader:
        assert reader.durable_seq == 100
        monkeypatch.setattr(os, "pread", pread)
        with pytest.raises(OSError, match="No such device"):
            reader.read(1, 1)


def test_several_places_at_once_cost_no_more_than_themselves(whole: Path, indexed: bool) -> None:
    gaps = []
    for base in list_segments(whole):
        path = segment_path(whole, base)
        # Within the frames: the chunk's own length tells where the next one begins.
        for begin, end, first_seq, next_seq in chunks_of(path)[1:]:
            if first_seq < next_seq and (first_seq % 2 or base == 47):
                flip(path, end - 10)
                gaps.append((first_seq, next_seq))
            del begin
    found, lost = read_past(whole)
    assert found == without(100, *gaps)
    assert {seq for a, b in lost for seq in range(a, b or 101)} == {
        seq for a, b in gaps for seq in range(a, b)
    }


def test_whatever_is_damaged_nothing_is_skipped_in_silence_and_nothing_wrong_comes_out(
    tmp_path: Path,
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for round_number in range(25):
        place = tmp_path / str(round_number)
        with closing(writer(place)) as log:
            log.claim("first")
            for _ in range(rng.randrange(5, 25)):
                write(log, rng.choice((0, 1, 1, 2, 5, 30)))
            last_seq = log.durable_seq
        if not last_seq:
            continue
        for _ in range(rng.randrange(1, 5)):
            path = segment_path(place, rng.choice(list_segments(place)))
            data = bytearray(path.read_bytes())
            if not data:
                continue
            at = rng.randrange(len(data))
            how = rng.randrange(4)
            if how == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif how == 1:
                data[at : at + 512] = bytes(len(data[at : at + 512]))
            elif how == 2:
                data[at : at + 300] = rng.randbytes(len(data[at : at + 300]))
            else:
                del data[at:]
            path.write_bytes(data)
        try:
            found, lost = read_past(place, max_bytes=rng.choice((1, 700, 100_000)))
        except UnknownFormat:
            # Once in some thousand, what was rubbed out looks like a later release's last chunk.
            continue
        gone = {seq for a, b in lost for seq in range(a, b or last_seq + 1)}
        # Each number once: given out as it was written, or told to be lost.
        assert found == [(seq, event(seq)) for seq in range(1, last_seq + 1) if seq not in gone]


# --- chunks of a host's own making ---


def fake(first_seq: int, count: int = 1, epoch: int = 1, body: bytes = b"FAKE" * 5) -> bytes:
    """A chunk with a right CRC that says what its maker likes."""
    frames = [body] * count
    rows = pack(frames)
    return join_chunk(
        ChunkKind.GROUP, epoch, first_seq, 0, TIME_US, count, rows, frames
    ).raw  # fmt: skip


def chained(first_seq: int, count: int, epoch: int = 1) -> bytes:
    """Such chunks, one behind the other, each naming the one before it."""
    raw, crc = b"", 0
    for number in range(count):
        frames = [b"FAKE" * 5]
        chunk = join_chunk(
            ChunkKind.GROUP, epoch, first_seq + number, crc, TIME_US, 1, pack(frames), frames
        )  # fmt: skip
        raw, crc = raw + chunk.raw, chunk.crc
    return raw


def leading_to(first_seq: int, length: int, epoch: int = 1) -> bytes:
    """The head and the row of a chunk that would end exactly `length` bytes behind its beginning."""
    frames_len = length - HEAD.size - ROW.size - CRC.size
    row = ROW.pack(0, frames_len, 1, 0, 0, 1, 1, 1, 1, 1, TIME_US, 0, bytes(16))
    return (
        HEAD.pack(MAGIC, 1, 1, 0, epoch, first_seq, 1, 0, TIME_US, ROW.size, frames_len) + row
    )  # fmt: skip


BAITS: dict[str, Callable[[int], bytes]] = {
    "one chunk after the other": lambda seq: b"".join(fake(s) for s in range(seq, seq + 40)),
    "a chain": lambda seq: chained(seq + 1, 40),
    "a chain of the next epoch": lambda seq: chained(seq + 1, 30, epoch=2),
    "a chain of a far epoch": lambda seq: chained(seq + 1, 30, epoch=2**60),
    "one that holds all seqs to come": lambda seq: fake(seq + 1, 200),
    "the very next seq": lambda seq: fake(seq + 1) + b"." * 100,
}


@pytest.mark.parametrize("sealed", [False, True], ids=["active", "sealed"])
@pytest.mark.parametrize("bait", BAITS.values(), ids=BAITS)
def test_chunks_within_a_frame_are_never_taken_for_the_logs(
    tmp_path: Path, bait: Callable[[int], bytes], sealed: bool
) -> None:
    with closing(SegmentLog(tmp_path, segment_bytes=60_000, now=lambda: TIME_US / 1e6)) as log:
        log.claim("first")
        write(log, 3)
        begin = log.size_bytes
        # The bait ends where the chunk does.
        frames = [event(4), bait(4)]
        baited = log.append(pack(frames), frames, TIME_US)
        log.wait(5)
        for number in range(30):
            write(log, 1 + number % 2)
        end = log.size_bytes
        if sealed:
            write(log, 1, size=59_000)
            write(log, 1)
            index_path(tmp_path, 1).unlink()
        last_seq = log.durable_seq
        assert len(list_segments(tmp_path)) == (2 if sealed else 1)
        path = segment_path(tmp_path, 1)
        places = [*range(begin, begin + HEAD.size + 20), begin + HEAD.size + ROW.size + 2]
        for at in (*places, begin + len(baited.raw) - 30, begin + len(baited.raw) - 1):
            for bits in (0x01, 0x80):
                flip(path, at, bits)
                found, lost = read_past(tmp_path)
                assert lost == [(4, 6)], f"byte {at - begin} of the chunk"
                assert [seq for seq, _ in found] == [1, 2, 3, *range(6, last_seq + 1)]
                assert not any(b"FAKE" in frame for _, frame in found)
                flip(path, at, bits)
        # A whole block gone, at the beginning and over the head of the next chunk too.
        for first, length in ((begin, 100), (begin, len(baited.raw) + 10)):
            data = bytearray(path.read_bytes())
            data[first : first + length] = bytes(length)
            path.write_bytes(data)
            found, lost = read_past(tmp_path)
            assert lost[0][0] == 4
            assert len(lost) == 1
            assert found[-1][0] == last_seq
            assert not any(b"FAKE" in frame for _, frame in found)
        assert end


def test_a_damaged_length_that_leads_to_a_chunk_within_the_frame_is_not_followed(
    tmp_path: Path,
) -> None:
    for bit in range(8, 13):
        place = tmp_path / str(bit)
        with closing(SegmentLog(place, now=lambda: TIME_US / 1e6)) as log:
            log.claim("first")
            write(log, 3)
            begin = log.size_bytes
            # Its own length with one bit less leads to the bait, and that leads to the next chunk.
            length = 8191
            behind = (1 << bit) - CRC.size
            bait = fake(5) + fake(6)
            frame = b"." * (length - behind - CRC.size)
            if len(bait) <= behind:
                frame += bait
            else:
                frame += leading_to(5, (1 << bit))[: behind]  # fmt: skip
            frame = frame.ljust(length, b".")
            log.append(pack([frame]), [frame], TIME_US)
            log.wait(4)
            for _ in range(5):
                write(log, 1)
            at = begin + HEAD.size - 4
            path = segment_path(place, 1)
            (frames_len,) = struct.unpack_from("<I", path.read_bytes(), at)
            assert frames_len == length
            assert frames_len & 1 << bit
            flip(path, at + bit // 8, 1 << bit % 8)
            found, lost = read_past(place)
            assert lost == [(4, 5)]
            assert found == without(9, (4, 5))


def test_a_chain_of_baits_that_leads_to_a_real_chunk_does_not_hide_it(tmp_path: Path) -> None:
    # It says a higher epoch, so what follows cannot follow it; the search must come back to that.
    with closing(writer(tmp_path)) as log:
        log.claim("first")
        write(log, 3)
        begin = log.size_bytes
        size = 400
        bait = leading_to(5, size + CRC.size, epoch=9).ljust(size, b".")
        log.append(pack([bait]), [bait], TIME_US)
        log.wait(4)
        write(log, 2)
        flip(segment_path(tmp_path, 1), begin)
        assert read_past(tmp_path) == (without(6, (4, 5)), [(4, 5)])


def test_a_frame_made_of_beginnings_costs_a_bounded_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salvage, "SEARCH_BYTES", 100_000)
    read = 0
    real = chunk.check_chunk

    def counting(buffer: bytes | memoryview, offset: int = 0) -> tuple[object, int]:
        nonlocal read
        head, crc = real(buffer, offset)
        read += head.length
        return head, crc

    with closing(SegmentLog(tmp_path, segment_bytes=300_000, now=lambda: TIME_US / 1e6)) as log:
        log.claim("first")
        begin = log.size_bytes
        size = 200_000
        frame = b""
        while len(frame) < size - 200:
            frame += leading_to(2, size - len(frame))
        log.append(pack([frame]), [frame], TIME_US)
        log.wait(1)
        for _ in range(3):
            write(log, 1, size=120_000)
        bases = list_segments(tmp_path)
        flip(segment_path(tmp_path, 1), begin)
        monkeypatch.setattr(salvage, "check_chunk", counting)
        found, lost = read_past(tmp_path)
        # It is given up: the log goes on with the next segment.
        assert lost == [(1, bases[1])]
        assert [seq for seq, _ in found] == list(range(bases[1], 5))
        assert read < 600_000


# --- what a later release wrote ---


def newer(path: Path, at: int) -> None:
    """Have the chunk at `at` say that it is of the next format, with a CRC that is right by that."""
    data = bytearray(path.read_bytes())
    data[at + 4] += 1
    data[at + HEAD.size :] = bytes(len(data) - at - HEAD.size)
    path.write_bytes(data)


def test_a_chunk_of_a_later_format_is_refused_by_name_and_never_cut(tmp_path: Path) -> None:
    with closing(writer(tmp_path)) as log:
        log.claim("first")
        write(log, 2)
        begin = log.size_bytes
        write(log, 3)
    path = segment_path(tmp_path, 1)
    newer(path, begin)
    kept = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    with closing(SegmentReader(tmp_path)) as reader:
        assert events(reader.read(1, 1000)) == without(2)
        with pytest.raises(UnknownFormat, match=f"{path.name}, byte {begin}: chunk format 2"):
            reader.read(3, 1000)
    for announced in (5, 2):
        head = HeadFile(tmp_path / HEAD_NAME, writable=True)
        head.durable_seq = announced
        head.close()
        with closing(writer(tmp_path)) as log, pytest.raises(UnknownFormat, match=path.name):
            log.claim("older release")
        assert path.read_bytes() == kept[path.name]
    assert {each.name for each in tmp_path.iterdir()} == kept.keys()


def test_a_damaged_format_number_is_damage(whole: Path) -> None:
    for base in list_segments(whole):
        path = segment_path(whole, base)
        for begin, _, first_seq, next_seq in chunks_of(path):
            for bits in (0x01, 0x02, 0x80):
                flip(path, begin + len(MAGIC), bits)
                gaps = [(first_seq, next_seq)] if first_seq < next_seq else []
                assert read_past(whole) == (without(100, *gaps), told(gaps))
                flip(path, begin + len(MAGIC), bits)


def test_a_head_file_of_a_later_release_is_refused_and_kept(whole: Path) -> None:
    head = whole / HEAD_NAME
    for content in (b"SPHEAD02" + bytes(56), b"SPHEAD10" + bytes(120)):
        head.write_bytes(content)
        with pytest.raises(UnknownFormat, match="head has format"):
            _ = SegmentReader(whole).durable_seq
        with closing(writer(whole)) as log, pytest.raises(UnknownFormat):
            log.claim("older release")
        assert head.read_bytes() == content


# --- the index ---


def test_an_index_lies_beside_each_sealed_segment_and_goes_with_it(whole: Path) -> None:
    assert [base for base in list_segments(whole) if index_path(whole, base).exists()] == [
        1,
        25,
        47,
    ]
    with closing(writer(whole)) as log:
        log.claim("again")
        assert log.retain(0, 1e9, TIME_US / 1e6) == 3
    assert not list(whole.glob("*.idx"))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: path.unlink(), id="missing"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: os.truncate(path, path.stat().st_size - 1), id="cut"),
        pytest.param(lambda path: path.write_bytes(bytes(path.stat().st_size)), id="zeros"),
        pytest.param(lambda path: flip(path, 30), id="a flipped bit"),
        pytest.param(lambda path: flip(path, 48), id="a flipped bit in a mark"),
        pytest.param(
            lambda path: shutil.copy(index_path(path.parent, 1), path), id="another segment's"
        ),
    ],
)
def test_without_a_sound_index_the_segment_itself_is_walked(
    whole: Path, spoil: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.segment_index.INDEX_GRAIN_BYTES", 1)
    spoil(index_path(whole, 47))
    with closing(SegmentReader(whole)) as reader:
        for seq in (79, 47, 60):
            assert reader.read(seq, 1)[0].first_seq <= seq
    assert read_past(whole) == (without(100), [])


def test_an_index_that_is_older_than_its_segment_is_not_used(tmp_path: Path) -> None:
    # A power cut may take the segment that was begun behind it; then the full one is the last again.
    with closing(writer(tmp_path)) as log:
        log.claim("first")
        write(log, 40)
        write(log, 40)
        assert list_segments(tmp_path) == [1, 41]
    segment_path(tmp_path, 41).unlink()
    head = HeadFile(tmp_path / HEAD_NAME, writable=True)
    head.durable_seq = 40
    head.close()
    with closing(writer(tmp_path)) as log:
        assert log.claim("again") == 41
        assert not index_path(tmp_path, 1).exists()
        write(log, 1)
        assert read_past(tmp_path) == (without(41), [])


def test_an_index_of_another_log_is_not_used_though_it_has_the_same_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.segment_index.INDEX_GRAIN_BYTES", 1)
    for name, groups in (("one", (3, 9, 20, 30)), ("other", (20, 3, 9, 30))):
        with closing(writer(tmp_path / name)) as log:
            log.claim("first")
            for count in groups:
                write(log, count)
    one, other = tmp_path / "one", tmp_path / "other"
    assert segment_path(one, 1).stat().st_size == segment_path(other, 1).stat().st_size
    shutil.copy(index_path(other, 1), index_path(one, 1))
    with closing(SegmentReader(one)) as reader:
        for seq in range(32, 0, -1):
            first = reader.read(seq, 1)[0]
            assert first.first_seq <= seq < first.next_seq


def test_a_seek_reads_a_grain_and_not_the_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(SegmentLog(tmp_path, segment_bytes=3 << 20, now=lambda: TIME_US / 1e6)) as log:
        log.claim("first")
        for second in range(1200):
            frames = [event(1 + second, 3000)]
            log.append(pack(frames), frames, TIME_US + second * 1_000_000)
        log.wait(1200)
    read = 0
    real = os.pread

    def pread(fd: int, length: int, offset: int) -> bytes:
        nonlocal read
        data = real(fd, length, offset)
        read += len(data)
        return data

    monkeypatch.setattr(os, "pread", pread)
    monkeypatch.setattr("common.segments._WALK_BYTES", 64 * 1024)
    with closing(SegmentReader(tmp_path)) as reader:
        assert reader.read(900, 1)[0].first_seq == 900
        assert reader.seq_at(TIME_US / 1e6 + 500) == 501
    assert read < 2 * (256 + 64 + 64) * 1024
