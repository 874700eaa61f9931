"""Which hosts does a database lack, and which of its numbers meant somebody else?"""

from __future__ import annotations

import pytest

from persist.checkpoint import KnownHost
from persist.host_numbers import Reconciled, reconcile


def host(number: int, name: str) -> KnownHost:
    return KnownHost(number, name, True, "active", 100, False, "enforce")


A, B, C = host(1, "a"), host(2, "b"), host(3, "c")


@pytest.mark.parametrize(
    ("remembered", "found", "expected"),
    [
        pytest.param(
            [A, B], [A, B, C], Reconciled([], [], set(), {}), id="as it was, and one more"
        ),
        pytest.param([A, B], [], Reconciled([A, B], [], set(), {}), id="a new database"),
        pytest.param([A, B, C], [A], Reconciled([B, C], [], set(), {}), id="an older backup"),
        pytest.param(
            [A], [host(1, "x")], Reconciled([], [A], {1}, {}), id="another has its number"
        ),
        pytest.param(
            [A, B],
            [host(1, "b"), host(2, "a")],
            Reconciled([], [], {1, 2}, {2: A, 1: B}),
            id="both are there under each other's number",
        ),
        pytest.param(
            [A], [host(7, "a")], Reconciled([], [], set(), {7: A}), id="it has another number now"
        ),
        pytest.param(
            [A, B],
            [host(2, "a")],
            Reconciled([], [B], {2}, {2: A}),
            id="one came back under another's number",
        ),
        pytest.param([], [A], Reconciled([], [], set(), {}), id="nothing is remembered"),
    ],
)
def test_numbers_are_held_against_names(
    remembered: list[KnownHost], found: list[KnownHost], expected: Reconciled
) -> None:
    assert reconcile(remembered, found) == expected


def test_what_an_operator_wants_of_a_host_is_no_other_host() -> None:
    assert reconcile([A], [A._replace(wanted="banned", level="observe")]) == ([], [], set(), {})
