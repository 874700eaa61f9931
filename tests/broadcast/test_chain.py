"""broadcast.chain: what follows, what was had, what is missing, what must not be."""

from __future__ import annotations

import dataclasses

import pytest

from broadcast.chain import Broken, Chain, Link
from common.chunk import Chunk
from tests.broadcast.fakes import FakeLog


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


def following(*chunks: Chunk) -> Chain:
    chain = Chain(chunks[0].first_seq)
    for chunk in chunks:
        assert chain.judge(chunk) is Link.NEXT
        chain.advance(chunk)
    return chain


def test_events_and_beats_follow_each_other(log: FakeLog) -> None:
    chain = following(log.append(2), log.append(0), log.append(1), log.claim(), log.append(3))
    assert chain.next_seq == 7


def test_a_missed_chunk_is_a_gap(log: FakeLog) -> None:
    chain = following(log.append(2))
    log.append(1)
    assert chain.judge(log.append(1)) is Link.GAP


def test_a_missed_beat_before_events_is_settled_by_the_log(log: FakeLog) -> None:
    chain = following(log.append(2))
    log.append(0)
    assert chain.judge(log.append(1)) is Link.GAP


def test_a_missed_beat_before_a_beat_misses_nothing(log: FakeLog) -> None:
    chain = following(log.append(2))
    log.append(0)
    assert chain.judge(log.append(0)) is Link.NEXT


def test_a_beat_that_shows_missed_events_is_a_gap(log: FakeLog) -> None:
    chain = following(log.append(2))
    log.append(1)
    assert chain.judge(log.append(0)) is Link.GAP


def test_what_was_sent_is_not_sent_again(log: FakeLog) -> None:
    first = log.append(2)
    chain = following(first, log.append(1))
    assert chain.judge(first) is Link.SEEN


def test_an_outlived_writer_is_not_listened_to(log: FakeLog) -> None:
    chain = following(log.append(1), log.claim(), log.append(1))
    late = dataclasses.replace(log.append(1), epoch=1)
    assert chain.judge(late) is Link.SEEN


def test_a_new_writer_must_not_give_old_numbers(log: FakeLog) -> None:
    chain = following(log.append(1), log.append(2))
    again = FakeLog(epoch=9).append(2)
    with pytest.raises(Broken, match="epoch 9 goes on at seq 1"):
        chain.judge(again)


def test_after_a_start_what_came_before_is_no_contradiction(log: FakeLog) -> None:
    old = log.append(5)
    assert Chain(6).judge(old) is Link.SEEN


def test_chunks_that_overlap_are_a_contradiction(log: FakeLog) -> None:
    chain = Chain(3, None, 1)
    with pytest.raises(Broken, match="overlaps"):
        chain.judge(log.append(5))


def test_after_the_log_any_link_is_taken(log: FakeLog) -> None:
    chain = following(log.append(2))
    chain.advance_by_log(log.append(1))
    log.append(0)
    assert chain.judge(log.append(1)) is Link.NEXT


def test_the_log_must_not_go_back(log: FakeLog) -> None:
    first = log.append(2)
    chain = following(first, log.append(1))
    with pytest.raises(Broken, match="where seq 4 should be"):
        chain.advance_by_log(first)
    late = dataclasses.replace(log.append(1), epoch=0)
    with pytest.raises(Broken, match="epoch 0 after epoch 1"):
        chain.advance_by_log(late)


def test_numbers_that_the_log_left_out_are_stepped_over(log: FakeLog) -> None:
    chain = following(log.append(2))
    log.claim(skip=10)
    late = log.append(2)
    with pytest.raises(Broken, match="where seq 3 should be"):
        chain.advance_by_log(late)
    chain.skip(13)
    chain.advance_by_log(late)
    assert chain.next_seq == 15


def test_behind_a_hole_any_link_is_taken(log: FakeLog) -> None:
    chain = following(log.append(2))
    log.append(3)  # lost
    chain.skip(6)
    assert chain.judge(log.append(1)) is Link.NEXT
