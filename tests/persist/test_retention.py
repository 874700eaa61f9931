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
    assert (
        leaving(sealed, 9, 100, max_bytes=10_000, oldest_us=oldest_us, measure=no_measure) == count
    )


@pytest.mark.parametrize(("max_bytes", "count"), [(400, 0), (399, 1), (200, 2), (100, 3), (0, 3)])
def test_by_size(max_bytes: int, count: int) -> None:
    sealed = [segment(base, 10) for base in range(3)]
    assert leaving(sealed, 9, 100, max_bytes=max_bytes, oldest_us=0, measure=no_measure) == count


def test_a_time_that_is_not_known_is_measured_once_and_only_when_it_matters() -> None:
    asked: list[int] = []

    def measure(segment: Sealed) -> int:
        asked.append(segment.base)
        return 15

    sealed = [segment(1, None, first_us=5), segment(2, None, first_us=25)]
    for _ in range(2):
        assert leaving(sealed, 9, 100, max_bytes=10_000, oldest_us=10, measure=measure) == 0
        assert leaving(sealed, 9, 100, max_bytes=10_000, oldest_us=20, measure=measure) == 1
    assert asked == [1]


@pytest.mark.parametrize(
    ("keep_from", "count"),
    [
        pytest.param(1, 0, id="the first one holds it"),
        pytest.param(19, 0, id="so it does to its end"),
        pytest.param(20, 1, id="the second one holds it"),
        pytest.param(39, 2, id="the third one holds it"),
        pytest.param(40, 3, id="the active one holds it"),
    ],
)
@pytest.mark.parametrize("max_bytes", [0, 10_000])
def test_what_a_start_needs_stays_however_old_and_large_the_log_is(
    keep_from: int, count: int, max_bytes: int
) -> None:
    sealed = [segment(base, 10) for base in (1, 20, 30)]
    gone = leaving(
        sealed, 40, 100, max_bytes=max_bytes, oldest_us=99, keep_from=keep_from, measure=no_measure
    )
    assert gone == count


@pytest.mark.parametrize(("must_free", "count"), [(0, 0), (1, 1), (100, 1), (101, 2), (999, 3)])
def test_when_the_disk_is_full_the_oldest_go_whoever_needs_them(must_free: int, count: int) -> None:
    sealed = [segment(base, 50) for base in (1, 20, 30)]
    gone = leaving(
        sealed, 40, 100, max_bytes=10_000, oldest_us=0, keep_from=1, must_free_bytes=must_free,
        measure=no_measure,
    )  # fmt: skip
    assert gone == count


def test_a_log_of_one_segment_keeps_it() -> None:
    assert leaving([], 1, 100, max_bytes=10, oldest_us=99, measure=no_measure) == 0
