"""Is a chunk read back exactly as written, and is every damaged one refused?"""

from __future__ import annotations

import struct
import zlib

import pytest

from common.chunk import (
    CHUNK_MAX_BYTES,
    CLOCK_SUSPECT,
    CRC,
    FLAGS_MAY_BE_IGNORED,
    FORMAT_VERSION,
    HEAD,
    MAGIC,
    ROW,
    Chain,
    Chunk,
    ChunkError,
    ChunkKind,
    Row,
    account_key,
    decode_chunk,
    encode_chunk,
    join_chunk,
    peek_head,
)
from common.envelope import Mark

FRAMES = [b"\x82\x03one", b"\x82\x05three", b"\x82\x01x"]


def rows_of(frames: list[bytes]) -> list[Row]:
    rows, offset = [], 0
    for number, frame in enumerate(frames):
        rows.append(
            Row(
                offset=offset,
                length=len(frame),
                kind=1 + number % 4,
                flags=0,
                shard=63,
                host=7,
                generation=2,
                upstream_seq=2**53 - 1,
                epoch=1_700_000_000_000,
                position=number,
                time_us=1_700_000_000_000_000 + number,
                rev=2**62,
                account=account_key("did:plc:a"),
            )
        )
        offset += len(frame)
    return rows


def group(frames: list[bytes] = FRAMES, first_seq: int = 41) -> Chunk:
    return encode_chunk(
        ChunkKind.GROUP, 3, first_seq, 0xDEADBEEF, 1_700_000_000_000_000, rows_of(frames),
        b"".join(frames),
    )  # fmt: skip


def sealed(head: tuple[object, ...], rows: bytes = b"", frames: bytes = b"") -> bytes:
    """Bytes with a right CRC, whatever their fields say."""
    body = HEAD.pack(*head) + rows + frames
    return body + CRC.pack(zlib.crc32(body))


def test_a_chunk_is_read_back_as_it_was_written() -> None:
    chunk = group()
    assert decode_chunk(chunk.raw) == chunk
    assert chunk.rows() == rows_of(FRAMES)
    assert (chunk.first_seq, chunk.count, chunk.next_seq) == (41, 3, 44)


def test_a_chunk_is_found_between_other_bytes() -> None:
    chunk = group()
    assert decode_chunk(b"abc" + chunk.raw + b"def", 3) == chunk
    assert decode_chunk(memoryview(b"abc" + chunk.raw + b"def"), 3) == chunk
    assert peek_head(b"abc" + chunk.raw, 3).length == len(chunk.raw)


def test_frames_are_served_from_any_seq() -> None:
    chunk = group()
    assert [bytes(chunk.frames_from(41 + n)) for n in range(3)] == [
        b"".join(FRAMES[n:]) for n in range(3)
    ]
    assert chunk.row(42) == rows_of(FRAMES)[1]


def test_rows_packed_beforehand_give_the_same_bytes() -> None:
    packed = [ROW.pack(*row) for row in rows_of(FRAMES)]
    joined = join_chunk(
        ChunkKind.GROUP, 3, 41, 0xDEADBEEF, 1_700_000_000_000_000, 3, packed, FRAMES
    )
    assert joined == group()


def test_a_beat_and_a_claim_are_chunks_without_events() -> None:
    beat = encode_chunk(ChunkKind.GROUP, 1, 1, 0, 5, [], b"")
    claim = encode_chunk(ChunkKind.CLAIM, 1, 1, 0, 5, [], b"pid 7")
    assert decode_chunk(beat.raw) == beat
    assert decode_chunk(claim.raw).info == b"pid 7"
    assert (beat.next_seq, bytes(beat.frames_from(1))) == (1, b"")


def test_a_chunk_cut_at_any_byte_is_refused() -> None:
    raw = group().raw
    for cut in range(len(raw)):
        with pytest.raises(ChunkError):
            decode_chunk(raw[:cut])


def test_a_flipped_bit_at_any_byte_is_refused() -> None:
    raw = group().raw
    for at in range(len(raw)):
        for bit in range(8):
            damaged = bytearray(raw)
            damaged[at] ^= 1 << bit
            with pytest.raises(ChunkError):
                decode_chunk(bytes(damaged))


GOOD = (MAGIC, FORMAT_VERSION, 1, 0, 1, 1, 0, 0, 0, 0, 0)


def with_field(index: int, value: object) -> tuple[object, ...]:
    return (*GOOD[:index], value, *GOOD[index + 1 :])


def test_the_head_the_next_cases_damage_is_good() -> None:
    assert decode_chunk(sealed(GOOD)).count == 0


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(with_field(0, b"SPLD"), id="another magic"),
        pytest.param(with_field(1, 2), id="a format of a later release"),
        pytest.param(with_field(2, 0), id="kind 0"),
        pytest.param(with_field(2, 3), id="an unknown kind"),
        pytest.param(with_field(3, 0x10), id="a flag that must not be ignored"),
        pytest.param(with_field(4, 0), id="epoch 0"),
        pytest.param(with_field(5, 0), id="seq 0"),
        pytest.param(with_field(5, 2**53 + 1), id="a seq above 2^53"),
        pytest.param(with_field(6, 1), id="more events than rows"),
        pytest.param(with_field(9, ROW.size), id="more rows than events"),
    ],
)
def test_a_right_crc_does_not_excuse_a_wrong_head(head: tuple[object, ...]) -> None:
    with pytest.raises(ChunkError):
        decode_chunk(sealed(head))


@pytest.mark.parametrize("flags", [CLOCK_SUSPECT, 0x08, FLAGS_MAY_BE_IGNORED])
def test_flags_of_a_chunk_are_kept_known_or_not(flags: int) -> None:
    assert decode_chunk(sealed(with_field(3, flags))).flags == flags
    written = encode_chunk(ChunkKind.GROUP, 1, 1, 0, 5, [], b"", flags)
    assert decode_chunk(written.raw) == written
    assert peek_head(written.raw).flags == written.flags == flags


@pytest.mark.parametrize("flags", [0, Mark.DISCONTINUOUS | Mark.OURS, 0x80, 0xFF])
def test_flags_of_a_row_are_kept_known_or_not(flags: int) -> None:
    row = rows_of([b"abc"])[0]._replace(flags=flags)
    chunk = encode_chunk(ChunkKind.GROUP, 1, 1, 0, 5, [row], b"abc")
    assert decode_chunk(chunk.raw).rows() == [row]


def test_a_length_that_would_fill_the_memory_is_refused_from_the_head_alone() -> None:
    with pytest.raises(ChunkError, match="lengths"):
        peek_head(HEAD.pack(MAGIC, FORMAT_VERSION, 2, 0, 1, 1, 0, 0, 0, 0, CHUNK_MAX_BYTES))


def test_an_empty_frame_between_others_is_refused() -> None:
    empty = group([b"abc", b"", b"def"])
    with pytest.raises(ChunkError):
        decode_chunk(empty.raw)


def test_frames_without_events_are_refused() -> None:
    with pytest.raises(ChunkError):
        decode_chunk(sealed(with_field(10, 3), frames=b"abc"))


def test_a_claim_with_events_is_refused() -> None:
    head = (MAGIC, FORMAT_VERSION, 2, 0, 1, 1, 1, 0, 0, ROW.size, 3)
    row = ROW.pack(*rows_of([b"abc"])[0])
    with pytest.raises(ChunkError):
        decode_chunk(sealed(head, row, b"abc"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("offset", 1, id="a gap before the first frame"),
        pytest.param("length", 2, id="a byte that belongs to no frame"),
        pytest.param("length", 4, id="a frame that ends behind the chunk"),
        pytest.param("kind", 0, id="kind 0"),
        pytest.param("kind", 5, id="an unknown kind"),
    ],
)
def test_a_right_crc_does_not_excuse_a_wrong_row(field: str, value: int) -> None:
    row = rows_of([b"abc"])[0]
    row = Row._make({**row._asdict(), field: value}.values())
    with pytest.raises(ChunkError):
        decode_chunk(sealed((MAGIC, FORMAT_VERSION, 1, 0, 1, 1, 1, 0, 0, ROW.size, 3),
                            ROW.pack(*row), b"abc"))  # fmt: skip


def test_the_crc_is_not_computed_where_the_bytes_come_from_memory() -> None:
    raw = bytearray(group().raw)
    raw[-CRC.size - 1] ^= 1
    assert decode_chunk(bytes(raw), check_crc=False).first_seq == 41


def test_a_chunk_larger_than_readers_accept_is_not_written() -> None:
    with pytest.raises(ChunkError):
        encode_chunk(ChunkKind.CLAIM, 1, 1, 0, 0, [], bytes(CHUNK_MAX_BYTES))


def test_the_layout_is_the_documented_one() -> None:
    # A change here is a new FORMAT_VERSION.
    assert (HEAD.size, ROW.size, CRC.size) == (48, 80, 4)
    assert struct.unpack_from("<4sBBH", group().raw) == (b"SPLC", 1, 1, 0)


def test_an_account_key_is_sixteen_bytes_and_tells_accounts_apart() -> None:
    assert len(account_key("did:plc:a")) == 16
    assert account_key("did:plc:a") != account_key("did:plc:b")


def test_a_chain_follows_groups_beats_and_claims() -> None:
    chain = Chain(41, 0xDEADBEEF, 3)
    first = group()
    chain.follow(first)
    beat = encode_chunk(ChunkKind.GROUP, 3, 44, first.crc, 0, [], b"")
    chain.follow(beat)
    chain.follow(encode_chunk(ChunkKind.CLAIM, 4, 44, beat.crc, 0, [], b""))
    assert (chain.next_seq, chain.epoch) == (44, 4)


@pytest.mark.parametrize(
    ("chain", "why"),
    [
        pytest.param(Chain(41, 1, 3), "CRC", id="a chunk of another past"),
        pytest.param(Chain(40, 0xDEADBEEF, 3), "seq", id="a seq left out"),
        pytest.param(Chain(42, 0xDEADBEEF, 3), "seq", id="a seq given twice"),
        pytest.param(Chain(41, 0xDEADBEEF, 4), "epoch", id="a writer that was outlived"),
    ],
)
def test_a_chain_refuses(chain: Chain, why: str) -> None:
    before = (chain.next_seq, chain.crc, chain.epoch)
    with pytest.raises(ChunkError, match=why):
        chain.follow(group())
    assert (chain.next_seq, chain.crc, chain.epoch) == before


def test_only_a_claim_may_leave_numbers_out_and_never_go_back() -> None:
    chain = Chain(41, None, 1)
    chain.follow(encode_chunk(ChunkKind.CLAIM, 2, 1041, 0, 0, [], b""))
    assert chain.next_seq == 1041
    with pytest.raises(ChunkError, match="seq"):
        chain.follow(encode_chunk(ChunkKind.CLAIM, 3, 1040, chain.crc or 0, 0, [], b""))


def test_a_reader_that_begins_in_the_middle_takes_the_first_crc_as_it_is() -> None:
    chain = Chain(41, None, 0)
    chain.follow(group())
    assert chain.crc == group().crc
