"""When is the disk nearly full, and how much is missing?"""

from __future__ import annotations

import pytest

from persist.reserve import is_low, missing_bytes

GIB = 1024**3


@pytest.mark.parametrize(
    ("total", "free", "reserve", "missing"),
    [
        pytest.param(100 * GIB, 2 * GIB, None, 0, id="exactly the share of a large disk"),
        pytest.param(100 * GIB, 2 * GIB - 1, None, 1, id="one byte less"),
        pytest.param(10 * GIB, GIB, None, 0, id="a small disk has the least"),
        pytest.param(10 * GIB, 0, None, GIB, id="a full one"),
        pytest.param(100 * GIB, 5, 5, 0, id="as set, whatever the disk"),
        pytest.param(100 * GIB, 5, 9, 4, id="as set, and less is there"),
        pytest.param(100 * GIB, 0, 0, 0, id="none is wanted"),
    ],
)
def test_what_is_missing(total: int, free: int, reserve: int | None, missing: int) -> None:
    assert missing_bytes(total, free, reserve) == missing


def test_the_word_does_not_change_at_each_look() -> None:
    looks = [101, 100, 99, 100, 124, 125, 101, 99]
    low, said = False, []
    for free in looks:
        low = is_low(1000, free, 100, was_low=low)
        said.append(low)
    assert said == [False, False, True, True, True, False, False, True]
