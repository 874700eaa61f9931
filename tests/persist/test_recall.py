"""Does an account flow again exactly when the event that was sent back has come?"""

from __future__ import annotations

from persist.recall import Recalls


def test_an_account_without_a_recall_passes() -> None:
    assert Recalls().passes(1, "did:web:a", 0)


def test_lower_recalls_stay_out_until_the_expected_one_has_come() -> None:
    recalls = Recalls()
    recalls.sent_back(1, "did:web:a", 3)
    assert not recalls.passes(1, "did:web:a", 3)
    assert not recalls.passes(1, "did:web:a", 0)
    assert recalls.passes(1, "did:web:a", 4)
    assert len(recalls) == 0
    assert recalls.passes(1, "did:web:a", 0)


def test_members_and_accounts_are_told_apart() -> None:
    recalls = Recalls()
    recalls.sent_back(1, "did:web:a", 0)
    assert recalls.passes(2, "did:web:a", 0)
    assert recalls.passes(1, "did:web:b", 0)
    recalls.forget(2)
    assert not recalls.passes(1, "did:web:a", 0)
    recalls.forget(1)
    assert recalls.passes(1, "did:web:a", 0)


def test_memory_is_bounded_by_forgetting_the_oldest() -> None:
    recalls = Recalls(limit=2)
    for name in "abc":
        recalls.sent_back(1, name, 0)
    assert len(recalls) == 2
    assert recalls.passes(1, "a", 0)
    assert not recalls.passes(1, "c", 0)
