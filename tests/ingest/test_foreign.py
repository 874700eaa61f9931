"""ingest.foreign: a host that says what is not its own is known by it, soon, and not for ever."""

from __future__ import annotations

from ingest.foreign import FEW_EVENTS, WINDOW_EVENTS, Foreign


def said(foreign: Foreign, events: int, of_others: int) -> int:
    """A host says so many events, the first of them of others' accounts → its share."""
    for number in range(events):
        if number < of_others:
            foreign.dropped()
        foreign.ended()
    return foreign.percent


def test_of_a_few_events_nothing_is_said() -> None:
    assert said(Foreign(), FEW_EVENTS - 1, FEW_EVENTS - 1) == 0
    assert said(Foreign(), FEW_EVENTS, FEW_EVENTS) == 100


def test_the_share_is_of_the_last_events() -> None:
    host = Foreign()
    assert said(host, 1_000, 40) == 4
    # It was a host, and has become a relay; and the other way round.
    assert said(host, 10 * WINDOW_EVENTS, 10 * WINDOW_EVENTS) >= 99
    assert said(host, 10 * WINDOW_EVENTS, 0) == 0
