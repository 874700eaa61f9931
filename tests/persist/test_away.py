"""Is it said at once that PostgreSQL is away, and that events wait for it?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from common.chunk import DATABASE_AWAY, EVENTS_HELD
from tests.fix_net import eventually
from tests.fix_wire import Wire
from tests.persist.events import did, judged
from tests.persist.running import Broadcaster, Ingest, Relay, relay


@pytest.fixture
def wire(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """To a database that counts as away, and is asked for, soon."""
    monkeypatch.setattr("persist.worker.DATABASE_AWAY_S", 0.2)
    monkeypatch.setattr("persist.worker.DATABASE_ASKED_S", 0.05)
    with Wire(postgres_url) as wire:
        yield wire


@pytest.fixture
def place(wire: Wire) -> Iterator[Relay]:
    with relay(wire.url) as place:
        yield place


def flags_become(broadcaster: Broadcaster, flags: int) -> None:
    def said() -> bool:
        chunk = broadcaster.chunk()
        assert chunk is not None
        return chunk.flags == flags

    eventually(said)


def test_a_database_that_goes_away_is_told_although_nobody_needs_it(
    wire: Wire, place: Relay
) -> None:
    with place.persist(), closing(Broadcaster(place.config)) as broadcaster:
        flags_become(broadcaster, 0)
        wire.shut()
        flags_become(broadcaster, DATABASE_AWAY)
        wire.open()
        flags_become(broadcaster, 0)


def test_events_that_wait_for_the_database_are_told_and_those_of_known_accounts_go_on(
    wire: Wire, place: Relay
) -> None:
    with (
        place.persist(),
        closing(Broadcaster(place.config)) as broadcaster,
        closing(Ingest(place.config)) as ingest,
    ):
        known, frame = judged(1, account=did(1))
        assert ingest.ask((known, frame)).logged == [1]
        wire.shut()
        ingest.send(judged(2, account=did(2)))
        flags_become(broadcaster, DATABASE_AWAY | EVENTS_HELD)
        following = judged(3, account=did(1), state=known.after)
        assert ingest.ask(following).logged == [3]
        # One that hangs is as good as away.
        wire.delay_s = 20.0
        wire.open()
        flags_become(broadcaster, DATABASE_AWAY | EVENTS_HELD)
        wire.shut()
        wire.delay_s = 0.0
        wire.open()
        assert ingest.answers({2}).logged == [2]
        flags_become(broadcaster, 0)
    assert [upstream_seq for _seq, _host, upstream_seq in place.logged()] == [1, 3, 2]
