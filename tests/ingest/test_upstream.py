"""The finished prefix of a host's stream."""

from __future__ import annotations

import random

from ingest.upstream import Upstream


def test_the_cursor_never_passes_an_unfinished_event_whatever_the_order() -> None:
    rng = random.Random(2)
    for _ in range(200):
        upstream = Upstream(0)
        seqs = sorted(rng.sample(range(1, 1000), 30))
        entries = [upstream.begin(seq) for seq in seqs]
        done: set[int] = set()
        for entry in rng.sample(entries, len(entries)):
            assert entry is not None
            upstream.finish(entry)
            done.add(entry.seq)
            prefix = 0
            for seq in seqs:
                if seq not in done:
                    break
                prefix = seq
            assert upstream.finished_seq == prefix
        assert upstream.unfinished == 0


def test_numbers_have_to_rise() -> None:
    upstream = Upstream(5)
    assert upstream.begin(5) is None
    assert upstream.begin(4) is None
    assert upstream.begin(9) is not None
    assert upstream.begin(9) is None
    assert upstream.begin(6) is None
    assert upstream.last_seq == 9


def test_a_stream_read_live_has_a_cursor_below_its_first_number_at_once() -> None:
    """Or a first event that waits for long would be lost to the next owner, with all behind it."""
    upstream = Upstream(None)
    assert upstream.finished_seq is None
    entry = upstream.begin(1000)
    assert entry is not None
    assert upstream.finished_seq == 999
    later = upstream.begin(1005)
    assert later is not None
    upstream.finish(later)
    assert upstream.finished_seq == 999
    upstream.finish(entry)
    assert upstream.finished_seq == 1005


def test_no_cursor_lies_below_zero() -> None:
    upstream = Upstream(None)
    assert upstream.begin(0) is not None
    assert upstream.finished_seq is None


def test_a_number_that_stays_unfinished_has_the_later_ones_take_no_room() -> None:
    upstream = Upstream(0)
    stuck = upstream.begin(1)
    assert stuck is not None
    for seq in range(2, 1000):
        entry = upstream.begin(seq)
        assert entry is not None
        upstream.finish(entry)
        assert upstream.unfinished == 1
        assert upstream.finished_seq == 0
    upstream.finish(stuck)
    assert upstream.finished_seq == 999
