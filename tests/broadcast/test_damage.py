"""broadcast.damage: each range once, whoever meets it, and loudly."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from prometheus_client import REGISTRY

from broadcast.damage import Damages
from common.log import Damaged


def metered() -> float:
    return REGISTRY.get_sample_value("standpipe_damaged_ranges_total") or 0.0


def test_a_range_is_told_once_wherever_it_is_entered(caplog: pytest.LogCaptureFixture) -> None:
    damages, before = Damages(), metered()
    for seq in (5, 5, 6, 7):
        damages.note(Damaged(f"1.seg, byte {seq}: wrong CRC", seq, 8), seq)
    damages.note(Damaged("1.seg, byte 99: wrong CRC", 20, None), 20)
    damages.note(Damaged("1.seg, byte 99: wrong CRC", 20, None), 20)
    assert metered() == before + 2
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    fields = caplog.records[0].__dict__["fields"]
    assert fields == {
        "where": "1.seg, byte 5: wrong CRC", "asked_seq": 5, "from_seq": 5, "until_seq": 8,
    }  # fmt: skip


def test_threads_that_meet_it_at_once_tell_it_once() -> None:
    damages, before, barrier = Damages(), metered(), Barrier(8)

    def meet(number: int) -> None:
        for until_seq in range(2, 52):
            barrier.wait(30)
            damages.note(Damaged(f"byte {number}", 1, until_seq), 1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(meet, range(8)))
    assert metered() == before + 50
