"""The full count: thousands of hosts on real sockets, and every event of every host exactly once.

The short form has the same story with fewer hosts and looks at what may never be wrong; the long one has
2,800 and looks at the figures, too. docs/bench.md keeps them.
"""

from __future__ import annotations

import pytest
import uvloop

from tests.fullcount.story import Figures, Size, run

SHORT = Size(
    hosts=300, accounts=600, large_hosts=10, rate=100, rush=400, steady_s=4, flap_s=1.5, away_s=1.5,
    dials=150, deadline_s=120,
)  # fmt: skip
MIB = 2**20
DIRECTORY = 48
"""Connections to the directory, and to databases, that a process may keep open once it has looked something up."""


def assert_right(figures: Figures) -> None:
    """What holds on any machine, however busy."""
    assert figures.report["ok"], figures.report
    assert figures.report["received"] == figures.events
    assert figures.health_wrong == 0
    assert figures.statuses == ["banned", "active"]
    # With nothing said yet; while a tenth flaps; when all are back; at the very end.
    idle, *flapping, back, end = figures.files
    asking = 4 * DIRECTORY
    assert max(flapping) < idle + asking + figures.hosts * 0.1, figures.files
    assert back < max(flapping) + 20, figures.files
    assert end < idle + asking + 20, figures.files


def test_three_hundred_hosts_are_read_through_everything_that_may_happen() -> None:
    figures = uvloop.run(run(SHORT))
    assert_right(figures)
    assert figures.events > 600 + SHORT.rate * SHORT.steady_s


@pytest.mark.slow
def test_two_thousand_eight_hundred_hosts_at_five_hundred_events_a_second() -> None:
    figures = uvloop.run(run(Size()))
    assert_right(figures)
    assert figures.added_s <= 90
    assert figures.connection_bytes <= 40 * 1024
    assert sum(figures.busy.values()) <= 1024 * MIB
    assert figures.health_p99_s < 1
    assert figures.ban_s <= 1
    assert figures.limit_s <= 1
    assert figures.takedown_s <= 1


@pytest.mark.slow
def test_a_connection_over_tls_has_its_bound_of_memory() -> None:
    figures = uvloop.run(run(Size(tls=True, accounts=2800, only_connect=True)))
    assert figures.connection_bytes <= 110 * 1024
