"""broadcast.ring: dense, bounded, and the same object for the same question."""

from __future__ import annotations

import pytest

from broadcast.hole import Cause, Hole
from broadcast.notice import websocket_frame
from broadcast.ring import Ring
from tests.broadcast.fakes import FakeLog, gap_of, message_of

LARGE = 10**9


def frames(*seqs: int, size: int = 100) -> bytes:
    return b"".join(websocket_frame(message_of(seq, size)) for seq in seqs)


def ring_of(*counts: int, limit: int = LARGE, size: int = 100) -> Ring:
    log, ring = FakeLog(), Ring(1, limit)
    for count in counts:
        ring.append(log.append(count, size))
    return ring


def test_an_empty_ring_holds_nothing_before_its_next_seq() -> None:
    ring = Ring(7, LARGE)
    assert (ring.oldest_seq, ring.next_seq) == (7, 7)


def test_whole_chunks_are_taken_up_to_the_head() -> None:
    ring = ring_of(2, 3, 1)
    part = ring.take(1, 7, LARGE)
    assert (part.data, part.next_seq, part.events) == (frames(1, 2, 3, 4, 5, 6), 7, 6)


def test_a_start_within_a_chunk_begins_at_its_row() -> None:
    part = ring_of(2, 3, 1).take(4, 7, LARGE)
    assert (part.data, part.next_seq, part.events) == (frames(4, 5, 6), 7, 3)


def test_nothing_beyond_the_end_that_was_asked_for_is_taken() -> None:
    part = ring_of(2, 3, 1).take(2, 6, LARGE)
    assert (part.data, part.next_seq) == (frames(2, 3, 4, 5), 6)


def test_a_slice_ends_at_its_bound_but_has_one_chunk() -> None:
    ring = ring_of(2, 3, 1)
    assert ring.take(1, 7, 1).next_seq == 3
    assert ring.take(1, 7, len(frames(1, 2)) + 1).next_seq == 6


def test_the_same_question_gets_the_same_object() -> None:
    ring = ring_of(2, 3)
    assert ring.take(1, 6, LARGE).data is ring.take(1, 6, LARGE).data


def test_an_append_makes_old_answers_old() -> None:
    log, ring = FakeLog(), Ring(1, LARGE)
    ring.append(log.append(2))
    first = ring.take(1, 3, LARGE)
    ring.append(log.append(1))
    assert ring.take(1, 4, LARGE).data == first.data + frames(3)


def test_the_oldest_chunks_go_at_the_bound() -> None:
    ring = ring_of(*[1] * 50, limit=10_000, size=900)
    assert ring.held_bytes <= 10_000
    assert ring.next_seq == 51
    assert ring.oldest_seq > 40
    assert ring.take(ring.oldest_seq, 51, LARGE).events == 51 - ring.oldest_seq


def test_what_was_let_go_is_refused() -> None:
    ring = ring_of(*[1] * 50, limit=10_000, size=900)
    with pytest.raises(ValueError, match="not within the ring"):
        ring.take(ring.oldest_seq - 1, 51, LARGE)


def test_tiny_chunks_are_bounded_by_what_python_keeps_for_them() -> None:
    ring = ring_of(*[1] * 3000, limit=100_000, size=1)
    assert ring.next_seq - ring.oldest_seq < 300
    assert ring.take(2995, 3001, LARGE).data == frames(*range(2995, 3001), size=1)
    assert len(ring._chunks) < 3000


def test_the_newest_chunk_stays_whatever_its_size() -> None:
    ring = ring_of(1, 1, limit=10, size=5000)
    assert (ring.oldest_seq, ring.next_seq) == (2, 3)


def test_a_hole_is_told_at_its_place() -> None:
    log, ring = FakeLog(), Ring(1, LARGE)
    ring.append(log.append(2))
    log.claim(skip=10)
    ring.append(Hole(3, 13, Cause.LEFT_OUT))
    ring.append(log.append(2))
    part = ring.take(1, 15, LARGE)
    assert part.data == frames(1, 2) + gap_of(3, 13) + frames(13, 14)
    assert (part.next_seq, part.events) == (15, 4)
    assert ring.take(3, 13, LARGE) == (gap_of(3, 13), 13, 0)
    assert ring.take(3, 15, LARGE).data == gap_of(3, 13) + frames(13, 14)
    # From within it, what is missing from there.
    assert ring.take(8, 15, LARGE) == (gap_of(8, 13) + frames(13, 14), 15, 2)
    assert ring.take(13, 15, LARGE).data == frames(13, 14)


def test_a_silent_hole_is_refused() -> None:
    log, ring = FakeLog(), Ring(1, LARGE)
    ring.append(log.append(2))
    log.claim(skip=10)
    with pytest.raises(ValueError, match="leaves out seq 3"):
        ring.append(log.append(2))


def test_a_hole_may_be_the_oldest_there_is() -> None:
    log, ring = FakeLog(), Ring(1, 3000)
    ring.append(log.append(2, 1000))
    log.claim(skip=10)
    ring.append(Hole(3, 13, Cause.LEFT_OUT))
    ring.append(log.append(1, 2000))
    assert (ring.oldest_seq, ring.next_seq) == (3, 14)
    assert ring.take(3, 14, LARGE).data == gap_of(3, 13) + frames(13, size=2000)


def test_a_chunk_without_news_is_a_fault() -> None:
    log, ring = FakeLog(), Ring(1, LARGE)
    chunk = log.append(2)
    ring.append(chunk)
    with pytest.raises(ValueError, match="lies before"):
        ring.append(chunk)
