"""How many accounts may a host have, who takes room, and when is there some again?"""

from __future__ import annotations

import pytest

from common.envelope import NEVER_SEEN, AccountState
from persist.checkpoint import KnownHost
from persist.quotas import HostCount, Quotas

HERE = NEVER_SEEN._replace(host=1)
OVER = HERE._replace(local="throttled", over_limit=True)
GONE = HERE._replace(active=False, status="deleted")


def known(number: int = 1, limit: int = 2, wanted: str = "active", name: str = "") -> KnownHost:
    return KnownHost(number, name or f"pds{number}.test", True, wanted, limit, False, "enforce")


def quotas(limit: int = 2, live: int = 0, over: int = 0) -> Quotas:
    found = Quotas()
    found.begin([HostCount(1, live, over)])
    found.know([known(limit=limit), known(2)])
    return found


@pytest.mark.parametrize(
    ("limit", "live", "over", "full", "room"),
    [
        (2, 1, 0, False, 0),
        (2, 2, 0, True, 0),
        (2, 3, 1, True, 0),
        # A limit was lowered.
        (2, 5, 1, True, 0),
        (2, 4, 3, False, 1),
        (9, 4, 3, False, 3),
        (0, 0, 0, True, 0),
    ],
)
def test_those_over_the_limit_take_no_room(
    limit: int, live: int, over: int, full: bool, room: int
) -> None:
    found = quotas(limit, live, over)
    assert found.is_full(1) is full
    assert list(found.room()) == ([(1, room)] if room else [])


@pytest.mark.parametrize(
    ("before", "after", "changes", "room"),
    [
        pytest.param(NEVER_SEEN, HERE, [(1, 1)], 0, id="comes"),
        pytest.param(HERE, GONE, [(1, -1)], 1, id="is deleted"),
        pytest.param(GONE, HERE, [(1, 1)], 0, id="is back"),
        pytest.param(HERE, HERE._replace(host=2), [(1, -1), (2, 1)], 1, id="moves away"),
        pytest.param(NEVER_SEEN, OVER, [(1, 1)], 0, id="comes over the limit"),
        pytest.param(OVER, HERE, [], 0, id="is released"),
        pytest.param(OVER, OVER._replace(active=False, status="deleted"), [(1, -1)], 0,
                     id="over the limit, is deleted"),
        pytest.param(HERE, HERE._replace(local="takendown"), [], 0, id="is taken down"),
        pytest.param(HERE, HERE._replace(active=False, status="deactivated"), [], 0,
                     id="is deactivated"),
    ],
)  # fmt: skip
def test_who_comes_and_goes_is_counted(
    before: AccountState, after: AccountState, changes: list[tuple[int, int]], room: int
) -> None:
    found = quotas(limit=2, live=4, over=2)
    assert found.move(before, after) == changes
    assert list(found.room()) == ([(1, room)] if room else [])


def test_a_host_that_is_not_known_has_no_limit_and_is_asked_for() -> None:
    found = quotas()
    assert 3 not in found
    assert not found.is_full(3)
    found.know([known(3, limit=0)])
    assert 3 in found
    assert found.is_full(3)


def test_the_first_one_over_a_hosts_limit_is_one_and_a_host_without_accounts_has_none() -> None:
    found = quotas(limit=2, live=2)
    assert found.live(2) == 0
    found.move(NEVER_SEEN, OVER)
    assert list(found.room()) == []
    found.know([known(limit=9)])
    assert list(found.room()) == [(1, 1)]
