"""Is every event that comes to persist in exactly one place, at every moment?"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from common import conservation
from common.chunk import Chunk
from common.conservation import Balance
from common.envelope import NEVER_SEEN, Batch, Judged, Kind
from common.telemetry import Telemetry
from persist import worker
from persist.outlet import Outlet
from persist.sequencer import GROUP_BYTES
from tests.conserved import Numbers, balance_errors, fallen, scrape
from tests.persist.events import DID, did, judged
from tests.persist.running import Ingest, Relay, relay
from tests.persist.test_sequencer import LOG_EPOCH, Desk

Sent = tuple[Judged, bytes]


def said(position: int, *, account: str = DID, fill: int = 40, epoch: int = 7) -> Sent:
    return judged(
        position, account=account, kind=Kind.IDENTITY, after=NEVER_SEEN, epoch=epoch, fill=fill
    )


def test_a_group_that_is_written_in_the_midst_of_a_batch_leaves_nothing_unaccounted_for() -> None:
    desk = Desk(DID)
    half = GROUP_BYTES // 2
    # `send` and `answer` look before and after each group.
    desk.send(*(said(number, fill=half) for number in range(1, 8)), said(8, account=did(2)))
    assert len(desk.groups) == 4
    assert desk.sequencer.balance().held == 1
    desk.send(*(said(number, account=did(3), fill=half) for number in range(9, 14)))
    assert desk.sequencer.balance().held == 6
    desk.answer(did(3))
    assert len(desk.groups) == 8
    assert desk.sequencer.balance().held == 1


def any_batch(rng: Random, position: int, newest: int) -> Batch:
    """Repeated, outdated, of an owner or of a process that was outlived, or meant for another.

    Args: newest: epoch of the newest ingest processes.
    """
    sent = []
    for number in range(rng.randrange(5)):
        made = rng.choice([
            said(position + number, account=did(rng.randrange(200))),
            said(max(1, position - rng.randrange(9)), account=did(rng.randrange(200))),
            said(position + number, epoch=rng.choice([6, 7])),
            judged(position + number, state=judged(99)[0].after),
            said(position + number, fill=GROUP_BYTES // 3),
        ])  # fmt: skip
        sent.append(made)
    log_epoch = rng.choice([LOG_EPOCH] * 9 + [LOG_EPOCH - 1])
    events, frames = [event for event, _ in sent], [frame for _, frame in sent]
    epoch = newest - (rng.random() < 0.1)
    return Batch(rng.randrange(2), epoch, events, frames, log_epoch=log_epoch)


def test_after_every_step_of_any_story_every_event_is_in_one_place() -> None:
    dropped: Counter[str] = Counter()
    for seed in range(20):
        dropped.update(tell(Random(seed)).dropped)
    assert all(dropped.values()), dropped


def tell(rng: Random) -> Balance:
    """A random story → how it ended; looked at after each step."""
    desk = Desk(DID)
    came = 0
    for step in range(150):
        batch = any_batch(rng, 4 * step + 1, 2 + step // 10)
        came += len(batch.events)
        desk.send(
            *zip(batch.events, batch.frames, strict=True),
            member=batch.member, epoch=batch.epoch, log_epoch=batch.log_epoch,
        )  # fmt: skip
        wanted = desk.sequencer.wanted
        while wanted and rng.random() < 0.3:
            desk.answer(wanted.pop(rng.randrange(len(wanted))))
        balance = desk.sequencer.balance()
        assert sum(balance.received.values()) == came
        assert balance.unaccounted == 0
        assert balance.held == desk.sequencer.waiting_events
    written = sum(len(group.rows) for group in desk.groups)
    assert balance.logged == (LOG_EPOCH, written)
    assert sum(balance.forwarded.values()) == written
    return balance


# --- in the process ---


@pytest.fixture
def place(postgres_url: str) -> Iterator[Relay]:
    with relay(postgres_url) as place:
        yield place


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    running = Telemetry("persist", tmp_path / "persist.json", "127.0.0.1", 0)
    running.start()
    yield running.metrics_port
    running.close()


def test_every_scrape_of_a_persist_at_work_has_its_remainder_at_0(place: Relay, port: int) -> None:
    seen: list[Numbers] = []
    done = threading.Event()

    def scrape_on() -> None:
        while not done.is_set() or len(seen) < 200:
            seen.append(scrape(port))

    with place.persist(), closing(Ingest(place.config)) as ingest:
        assert ingest.ask(said(1, account=did(0))).logged == [1]
        scraping = threading.Thread(target=scrape_on)
        scraping.start()
        try:
            for first in range(2, 602, 20):
                # New accounts each time, so that they wait, and some that were said before.
                batch = [said(n, account=did(first + n % 7)) for n in range(first, first + 20)]
                assert ingest.ask(*batch, said(1, account=did(0))).duplicate == [1]
                # What an ingest process has heard of is never more than persist shows.
                assert scrape(port)["standpipe_log_epoch_events"][""] >= first + 19
        finally:
            done.set()
            scraping.join()
    assert [error for numbers in seen for error in balance_errors(numbers)] == []
    falls = [list(fallen(before, after)) for before, after in pairwise(seen)]
    assert falls == [[]] * len(falls)
    assert len({numbers["standpipe_received_total"]["event"] for numbers in seen}) > 5


def test_what_is_published_or_answered_is_counted_as_written_before(
    place: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So whoever heard of it, and is scraped first, never knows of more than persist shows."""
    shown: list[tuple[int, int]] = []

    def balance() -> Balance:
        assert conservation._served.balance is not None
        return conservation._served.balance

    class WatchedOutlet(Outlet):
        def publish(self, chunk: Chunk) -> None:
            if chunk.count:
                logged = balance().logged
                assert logged is not None
                shown.append((chunk.next_seq - 1, logged.events))
            super().publish(chunk)

    monkeypatch.setattr(worker, "Outlet", WatchedOutlet)
    with place.persist(), closing(Ingest(place.config)) as ingest:
        for number in range(1, 6):
            ingest.ask(said(number))
    assert shown == [(number, number) for number in range(1, 6)]
