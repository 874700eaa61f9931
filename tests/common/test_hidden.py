"""Which frames of a chunk may consumers have, and does the file come back as it was?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.chunk import Chunk, ChunkKind, Row, account_key, encode_chunk
from common.envelope import Kind, Mark
from common.hidden import (
    Hidden,
    HiddenError,
    decode_hidden,
    decode_seqs,
    encode_hidden,
    has_local,
    shown,
)

LOCAL = int(Mark.OURS | Mark.LOCAL | Mark.TAKEN_DOWN)
FIRST = 10
Told = tuple[str, Kind, int]
"""Account, kind, marks."""


def chunk_of(*told: Told) -> Chunk:
    rows, frames, offset = [], b"", 0
    for seq, (account, kind, marks) in enumerate(told, FIRST):
        frame = f"<{seq}>".encode() * (1 + seq % 3)
        rows.append(
            Row(offset, len(frame), kind, marks, 0, 1, 1, 1, 1, 1, 1, 0, account_key(account))
        )
        frames += frame
        offset += len(frame)
    return encode_chunk(ChunkKind.GROUP, 1, FIRST, 0, 0, rows, frames)


def seqs_of(pieces: list[memoryview]) -> list[int]:
    found: list[int] = []
    for part in b"".join(pieces).decode().split("<")[1:]:
        seq = int(part.rstrip(">"))
        if seq not in found:
            found.append(seq)
    return found


def test_nothing_hidden_is_one_piece_without_a_copy() -> None:
    chunk = chunk_of(("a", Kind.COMMIT, 0), ("b", Kind.SYNC, 0), ("c", Kind.ACCOUNT, 1))
    for hidden in ({}, {account_key("x"): 99}):
        pieces, events = shown(chunk, FIRST + 1, hidden)
        assert [bytes(piece) for piece in pieces] == [bytes(chunk.frames_from(FIRST + 1))]
        assert events == 2
        assert pieces[0].obj is chunk.raw


@pytest.mark.parametrize("kind", Kind)
def test_of_a_hidden_account_only_what_came_behind_and_is_no_content_is_shown(kind: Kind) -> None:
    chunk = chunk_of(("a", kind, 0), ("a", kind, 0), ("b", kind, 0))
    pieces, events = shown(chunk, FIRST, {account_key("a"): FIRST + 1})
    expected = [FIRST + 1, FIRST + 2] if kind is Kind.IDENTITY else [FIRST + 2]
    assert (seqs_of(pieces), events) == (expected, len(expected))


def test_what_the_relay_says_itself_is_always_shown_and_what_is_held_never() -> None:
    told = [("a", Kind.ACCOUNT, LOCAL), ("a", Kind.ACCOUNT, int(Mark.HELD)),
            ("b", Kind.ACCOUNT, LOCAL | int(Mark.HELD)), ("b", Kind.COMMIT, 0)]  # fmt: skip
    chunk = chunk_of(*told)
    for hidden in ({}, {account_key("a"): 99}):
        pieces, events = shown(chunk, FIRST, hidden)
        assert (seqs_of(pieces), events) == ([FIRST, FIRST + 3], 2)


stories = st.lists(
    st.tuples(
        st.sampled_from("abcd"), st.sampled_from(Kind),
        st.sampled_from([0, 1, LOCAL, int(Mark.HELD), LOCAL | int(Mark.HELD)]),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@given(stories, st.dictionaries(st.sampled_from("abcd"), st.integers(FIRST - 1, FIRST + 13)))
def test_from_every_place_the_same_events_are_left(told: list[Told], taken: dict[str, int]) -> None:
    chunk = chunk_of(*told)
    hidden = {account_key(account): seq for account, seq in taken.items()}
    expected = []
    for seq, (account, kind, marks) in enumerate(told, FIRST):
        since = taken.get(account)
        if marks & Mark.HELD:
            continue
        if marks & Mark.LOCAL or since is None or (kind is Kind.IDENTITY and seq >= since):
            expected.append(seq)
    for place in range(FIRST, chunk.next_seq):
        pieces, events = shown(chunk, place, hidden)
        assert seqs_of(pieces) == [seq for seq in expected if seq >= place]
        assert events == len(seqs_of(pieces))


@pytest.mark.parametrize("marks", range(128))
def test_a_word_of_the_relay_is_seen_among_any_marks(marks: int) -> None:
    assert has_local(chunk_of(("a", Kind.COMMIT, 0), ("b", Kind.ACCOUNT, marks))) is bool(
        marks & Mark.LOCAL
    )
    assert not has_local(chunk_of(("a", Kind.COMMIT, 0)))


TOLD = Hidden(
    7,
    {did: (seq, account_key(did)) for seq, did in enumerate(("did:web:b.test", "did:web:a.test"))},
    ["bad.test"],
    {"pds.test": "banned"},
)


@pytest.mark.parametrize("told", [TOLD, Hidden(), replace(TOLD, taken_down={})])
def test_the_file_comes_back_as_it_was(told: Hidden) -> None:
    data = encode_hidden(told)
    assert decode_hidden(data) == told
    assert decode_seqs(data) == {key: seq for seq, key in told.taken_down.values()}


def test_a_file_that_is_torn_or_damaged_anywhere_is_named() -> None:
    data = encode_hidden(TOLD)
    for at in range(len(data)):
        spoiled = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        for wrong in (data[:at], spoiled):
            with pytest.raises(HiddenError):
                decode_seqs(wrong)
