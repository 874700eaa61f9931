"""Which segments go?"""

from __future__ import annotations

import pytest

from persist.retention import Sealed, leaving


def segment(base: int, last_us: int | None = None, first_us: int = 0) -> Sealed:
    return Sealed(base, 100, first_us, last_us)


def no_measure(_segment: Sealed) -> int:
    raise AssertionError("its time was known, or did not matter")


@pytest.mark.parametrize(
    ("last_us", "oldest_us", "count"),
    [
        pytest.param([10, 20, 30], 5, 0, id="all within the window"),
        pytest.param([10, 20, 30], 20, 1, id="one whose last event is exactly at the edge stays"),
        pytest.param([10, 20, 30], 21, 2, id="two have left it"),
        pytest.param([10, 20, 30], 99, 3, id="the active one is not in the list"),
        pytest.param([30, 10, 40], 20, 0, id="from the front only, whatever the clock did"),
    ],
)
def test_by_age(last_us: list[int], oldest_us: int, count: int) -> None:
    sealed = [segment(base, last) for base, last in enumerate(last_us)]
    assert leaving(sealed, 100, max_bytes=10_000, oldest_us=oldest_us, measure=no_measure) == count


@pytest.mark.parametrize(("max_bytes", "count"), [(400, 0), (399, 1), (200, 2), (100, 3), (0, 3)])
def test_by_size(max_bytes: int, count: int) -> None:
    sealed = [segment(base, 10) for base in range(3)]
    assert leaving(sealed, 100, max_bytes=max_bytes, oldest_us=0, measure=no_measure) == count


def test_a_time_that_is_not_known_is_measured_once_and_only_when_it_matters() -> None:
    asked: list[int] = []

    def measure(segment: Sealed) -> int:
        asked.append(segment.base)
        return 15

    sealed = [segment(1, None, first_us=5), segment(2, None, first_us=25)]
    for _ in range(2):
        assert leaving(sealed, 100, max_bytes=10_000, oldest_us=10, measure=measure) == 0
        assert leaving(sealed, 100, max_bytes=10_000, oldest_us=20, measure=measure) == 1
    assert asked == [1]
