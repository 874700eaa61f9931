"""broadcast.health: never healthy while nothing can be delivered."""

from __future__ import annotations

import pytest

from broadcast.health import Pulse, Reason, Unhealthy, why_degraded, why_unhealthy

NOW_S = 1000.0
WELL = {"opened": True, "heard_s": NOW_S - 1, "level_s": NOW_S - 1}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param({}, None, id="heard from and level is healthy"),
        pytest.param({"opened": False}, (Reason.NO_LOG, "the log is not there yet"), id="no log"),
        pytest.param(
            {"heard_s": None},
            (Reason.SILENT, "nothing has come from persist yet"),
            id="never heard",
        ),
        pytest.param(
            {"heard_s": NOW_S - 6},
            (Reason.SILENT, "nothing has come from persist for 6 s"),
            id="silent persist",
        ),
        pytest.param({"heard_s": NOW_S - 4.9}, None, id="a beat or two may be late"),
        pytest.param(
            {"level_s": NOW_S - 11}, (Reason.BEHIND, "this member is behind the log"), id="behind"
        ),
        pytest.param(
            {"level_s": None}, (Reason.BEHIND, "this member is behind the log"), id="never level"
        ),
        pytest.param({"draining": True}, (Reason.ENDING, "this member is ending"), id="ending"),
        pytest.param(
            {"clock_suspect": True},
            (
                Reason.CLOCK,
                "most hosts write revs from the future: is the clock of this machine right?",
            ),
            id="a clock that is doubted",
        ),
        pytest.param(
            {"clock_suspect": True, "heard_s": NOW_S - 6},
            (Reason.SILENT, "nothing has come from persist for 6 s"),
            id="what persist said before it fell silent does not count",
        ),
        pytest.param({"database_away": True}, None, id="accounts in memory go on"),
        pytest.param(
            {"database_away": True, "events_held": True},
            (Reason.DATABASE, "events wait for PostgreSQL, which does not answer"),
            id="events that wait for the database",
        ),
    ],
)
def test_health_tells_whether_events_are_delivered(
    change: dict[str, bool | float | None], why: tuple[Reason, str] | None
) -> None:
    pulse = Pulse(**{**WELL, **change})  # type: ignore[arg-type]
    assert why_unhealthy(pulse, NOW_S) == (why and Unhealthy(*why))


def test_without_the_database_delivery_is_degraded() -> None:
    degraded = why_degraded(Pulse(**WELL, database_away=True), NOW_S)  # type: ignore[arg-type]
    assert degraded is not None
    assert degraded.reason is Reason.DATABASE
    assert why_degraded(Pulse(**WELL), NOW_S) is None  # type: ignore[arg-type]


def test_a_database_that_this_member_cannot_ask_is_degraded_too() -> None:
    def why(database_s: float | None) -> Unhealthy | None:
        return why_degraded(Pulse(**WELL, database_s=database_s), NOW_S)  # type: ignore[arg-type]

    assert why(None) is None
    assert why(NOW_S - 9) is None
    words = "PostgreSQL has not answered this member for 11 s: events go on"
    assert why(NOW_S - 11) == (Reason.DATABASE, words)


def test_a_disk_that_is_nearly_full_is_degraded_and_delivers() -> None:
    pulse = Pulse(**WELL, disk_low=True)  # type: ignore[arg-type]
    assert why_unhealthy(pulse, NOW_S) is None
    degraded = why_degraded(pulse, NOW_S)
    assert degraded is not None
    assert degraded.reason is Reason.DISK


def test_the_words_for_programs_never_change() -> None:
    assert {str(reason) for reason in Reason} == {
        "ending", "no_log", "silent", "behind", "clock", "database", "disk",
    }  # fmt: skip
