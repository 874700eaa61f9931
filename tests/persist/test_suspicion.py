"""Is our clock doubted exactly as long as an ingest process that lives doubts it?"""

from __future__ import annotations

from persist.suspicion import SILENT_S, Suspicions

NOW_S = 1000.0


def test_nobody_has_said_anything() -> None:
    assert not Suspicions().any(NOW_S)


def test_the_latest_word_of_a_process_counts() -> None:
    suspicions = Suspicions()
    suspicions.hear(0, NOW_S, suspect=True)
    assert suspicions.any(NOW_S)
    suspicions.hear(0, NOW_S + 1, suspect=False)
    assert not suspicions.any(NOW_S + 1)
    suspicions.hear(0, NOW_S + 2, suspect=True)
    assert suspicions.any(NOW_S + 2)


def test_one_that_trusts_the_clock_does_not_speak_for_another() -> None:
    suspicions = Suspicions()
    suspicions.hear(0, NOW_S, suspect=True)
    suspicions.hear(1, NOW_S, suspect=False)
    assert suspicions.any(NOW_S)


def test_a_silent_process_is_forgotten() -> None:
    suspicions = Suspicions()
    suspicions.hear(0, NOW_S, suspect=True)
    suspicions.hear(1, NOW_S + 1, suspect=True)
    assert suspicions.any(NOW_S + SILENT_S)
    suspicions.hear(1, NOW_S + SILENT_S, suspect=False)
    assert suspicions.any(NOW_S + SILENT_S)
    assert not suspicions.any(NOW_S + SILENT_S + 0.1)


def test_a_process_that_repeats_itself_is_not_forgotten() -> None:
    suspicions = Suspicions()
    for second in range(20):
        suspicions.hear(0, NOW_S + second, suspect=True)
        assert suspicions.any(NOW_S + second)
