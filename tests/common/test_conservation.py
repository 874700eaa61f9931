"""Does a balance show what was forgotten, and does a scrape ever see half of it?"""

from __future__ import annotations

import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.conservation import Balance, Logged, Reading, frozen, serve
from common.telemetry import Telemetry
from common.verdict import DropReason
from tests.conserved import parse, remainder, scrape

EVEN = Balance(
    received={"commit": 10, "info": 1, "error": 1},
    originated={"account": 2},
    forwarded={"commit": 4, "account": 1},
    dropped={"duplicate": 3},
    heeded={"info": 1, "error": 1},
    released={"commit": 1},
    held=2,
    in_flight=1,
    reading=Reading(read=20, inbox=5, unread=3),
    logged=Logged(7, 5),
)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    running = Telemetry("ingest-0", tmp_path / "ingest-0.json", "127.0.0.1", 0)
    running.start()
    yield running.metrics_port
    running.close()


def scraped(port: int, query: str = "") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics{query}") as answer:
        text: str = answer.read().decode()
    return text


def test_what_has_an_end_leaves_nothing() -> None:
    assert EVEN.unaccounted == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"forwarded": {"commit": 3, "account": 1}},
        {"forwarded": {"commit": 5, "account": 1}},
        {"dropped": {}},
        {"heeded": {"info": 1}},
        {"released": {}},
        {"originated": {}},
        {"held": 1},
        {"in_flight": 2},
        {"reading": Reading(21, 5, 3)},
        {"reading": Reading(20, 4, 3)},
        {"reading": Reading(20, 5, 4)},
        # Not counted when it was taken in hand: too few of one and too many of the other.
        {"received": {"commit": 9, "info": 1, "error": 1}},
    ],
    ids=str,
)
def test_whatever_was_forgotten_or_counted_twice_shows(wrong: dict[str, Any]) -> None:
    assert EVEN._replace(**wrong).unaccounted > 0


def test_what_is_counted_later_does_not_change_a_balance() -> None:
    counts = Counter({DropReason.DUPLICATE: 1})
    taken = frozen(DropReason, counts)
    counts[DropReason.DUPLICATE] += 1
    assert taken["duplicate"] == 1
    assert len(taken) == len(DropReason)
    with pytest.raises(TypeError):
        taken["duplicate"] = 2  # type: ignore[index]


def test_a_scrape_shows_each_term_and_what_remains(port: int) -> None:
    serve(EVEN._replace(held=1))
    numbers = parse(scraped(port))
    assert {name: numbers[f"standpipe_{name}"] for name in ("held", "in_flight", "unaccounted")} == {
        "held": {"": 1}, "in_flight": {"": 1}, "unaccounted": {"": 1},
    }  # fmt: skip
    assert numbers["standpipe_received_total"] == EVEN.received
    assert numbers["standpipe_dropped_total"] == EVEN.dropped
    assert numbers["standpipe_read_total"] == {"": 20}
    assert numbers["standpipe_log_epoch_events"] == {"": 5}
    assert remainder(numbers) == 1


def test_a_scrape_by_name_shows_what_was_asked_for(port: int) -> None:
    serve(EVEN)
    text = scraped(port, "?name[]=standpipe_unaccounted&name[]=standpipe_released_total")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == ['standpipe_released_total{kind="commit"} 1.0', "standpipe_unaccounted 0.0"]


def test_no_scrape_ever_sees_half_of_a_balance(port: int) -> None:
    """The loop counts on, as fast as it can, while another thread scrapes."""
    done = threading.Event()

    def count() -> None:
        number = 0
        while not done.is_set():
            number += 1
            serve(
                EVEN._replace(
                    received={"commit": number}, forwarded={"commit": number - 2}, dropped={},
                    originated={}, heeded={}, released={}, held=1, in_flight=1,
                    reading=Reading(number, 0, 0),
                )
            )  # fmt: skip

    loop = threading.Thread(target=count)
    loop.start()
    # So that a scrape is interrupted in its midst many times.
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        seen = [scrape(port) for _ in range(20)]
    finally:
        sys.setswitchinterval(interval_s)
        done.set()
        loop.join()
    assert [remainder(numbers) for numbers in seen] == [0] * 20
    assert [numbers["standpipe_unaccounted"][""] for numbers in seen] == [0] * 20
    received = [numbers["standpipe_received_total"]["commit"] for numbers in seen]
    assert received == sorted(received)
    assert received[-1] > received[0]
