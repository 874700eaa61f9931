"""Which chunk behind damage is the log's next one? The bytes alone; whole logs are in test_damage."""

from __future__ import annotations

from common.chunk import HEAD, Chain, Chunk, ChunkKind, join_chunk
from common.salvage import Proof, find_behind, find_next
from tests.log_contract import TIME_US, event, pack

NO_PROOF = Proof()


def chunks(*counts: int, epoch: int = 3, crc: int = 7) -> list[Chunk]:
    """Chunks of so many events, from seq 1 on, each naming the one before it."""
    found: list[Chunk] = []
    seq = 1
    for count in counts:
        frames = [event(seq + n) for n in range(count)]
        found.append(
            join_chunk(ChunkKind.GROUP, epoch, seq, crc, TIME_US, count, pack(frames), frames)
        )
        seq, crc = seq + count, found[-1].crc
    return found


def broken(chunk: Chunk, at: int = -10) -> bytes:
    raw = bytearray(chunk.raw)
    raw[at] ^= 1
    return bytes(raw)


def behind(data: bytes, chain: Chain, proof: Proof = NO_PROOF) -> int | None:
    found = find_behind(memoryview(data), chain, proof)
    return found.offset if found else None


def following(data: bytes, chain: Chain) -> int | None:
    found = find_next(memoryview(data), chain)
    return found.offset if found else None


def at_first() -> Chain:
    return Chain(1, None, 3)


def test_broken_frames_end_where_their_rows_say() -> None:
    first, second, third = chunks(2, 1, 4)
    data = broken(first) + broken(second) + third.raw
    assert behind(data, at_first()) == len(first.raw) + len(second.raw)
    assert following(data, at_first()) == len(first.raw) + len(second.raw)


def test_behind_each_of_several_broken_ones_the_log_goes_on() -> None:
    first, second, third, fourth = chunks(2, 1, 4, 1)
    # No chain of whole chunks leads to the end, so only the lengths can tell.
    data = broken(first) + second.raw + broken(third) + fourth.raw
    assert behind(data, at_first()) == len(first.raw)
    assert following(data, at_first()) == len(first.raw)


def test_where_the_head_is_broken_only_a_chain_that_is_named_leads_on() -> None:
    first, second, third = chunks(2, 1, 4)
    data = broken(first, 1) + second.raw + third.raw
    assert behind(data, at_first()) is None
    assert following(data, at_first()) is None
    for proof in (
        Proof(crcs=frozenset({third.crc})),
        Proof(crcs=frozenset({second.crc})),
        Proof(offsets=frozenset({len(first.raw) + len(second.raw)})),
    ):
        assert behind(data, at_first(), proof) == len(first.raw)


def test_a_whole_chunk_that_does_not_follow_is_passed_over() -> None:
    first, second = chunks(2, 1)
    # Its seq is the next one, but it names another one before it.
    assert behind(first.raw + second.raw, Chain(1, 8, 3)) == len(first.raw)
    # What lies before it is missing: it is what the log goes on with.
    assert behind(second.raw, Chain(1, 8, 3)) == 0


def test_a_chunk_of_a_writer_that_was_outlived_is_not_the_next_one() -> None:
    first, second = chunks(2, 1)
    (_, stale) = chunks(2, 1, epoch=2)
    (_, _, third) = chunks(2, 1, 1)
    data = broken(first) + stale.raw + third.raw
    assert behind(data, at_first()) == len(first.raw) + len(stale.raw)
    assert behind(broken(first) + second.raw, at_first()) == len(first.raw)


def test_at_an_end_that_misses_nothing_only_the_very_next_chunk_counts() -> None:
    first, second = chunks(2, 1)
    _, other = chunks(2, 1, crc=99)
    later = chunks(2, 1, 1)[2]
    assert following(broken(first) + second.raw, at_first()) == len(first.raw)
    # Its CRC itself may be what is broken.
    assert following(broken(first, -1) + second.raw, at_first()) == len(first.raw)
    assert following(broken(first) + other.raw, at_first()) is None
    assert following(broken(first) + later.raw, at_first()) is None
    assert following(broken(first), at_first()) is None
    assert following(first.raw[: HEAD.size + 5], at_first()) is None


def test_no_chunk_behind_the_last_seq_that_may_be_is_found() -> None:
    first, second = chunks(2, 1)
    view = memoryview(broken(first) + second.raw)
    assert find_behind(view, at_first(), NO_PROOF, max_seq=2) is None
    assert find_behind(view, at_first(), NO_PROOF, max_seq=3) is not None
