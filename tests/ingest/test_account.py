"""Which accounts are remembered: those in use, then those used last."""

from __future__ import annotations

from ingest.account import Accounts


def test_the_account_that_was_not_used_for_longest_is_forgotten_first() -> None:
    accounts = Accounts(3)
    for did in "abc":
        accounts.get(did)
    accounts.get("a")
    accounts.get("d")
    assert accounts.find("b") is None
    assert [did for did in "acd" if accounts.find(did) is not None] == ["a", "c", "d"]


def test_one_with_something_under_way_is_never_forgotten() -> None:
    accounts = Accounts(2)
    busy = accounts.get("busy")
    busy.in_flight = 1
    for number in range(10):
        accounts.get(str(number))
        assert accounts.find("busy") is busy
        assert accounts.find(str(number)) is not None
    assert len(accounts) == 2


def test_more_than_can_be_forgotten_are_kept_until_they_can() -> None:
    accounts = Accounts(2)
    for number in range(5):
        accounts.get(str(number)).in_flight = 1
    assert len(accounts) == 5
    assert accounts.get("0") is accounts.find("0")
