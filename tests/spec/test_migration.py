"""S-MIG: how accounts come into being, move, and go."""

from __future__ import annotations

from itertools import permutations

import pytest

from common.verdict import DropReason
from ingest.judge import Accept, NeedFreshIdentity
from tests.simnet.events import Event
from tests.spec.scene import NEW_PDS, PDS, Scene, create, new_key

WORDS = ("identity", "account", "commit", "sync")


@pytest.mark.parametrize("order", list(permutations(WORDS)), ids=" ".join)
def test_s_mig_01_a_new_account_may_say_its_first_words_in_any_order(
    order: tuple[str, ...],
) -> None:
    scene = Scene(records=None)
    first = scene.commit([])
    words: dict[str, Event] = {
        "identity": scene.account.identity(),
        "account": scene.account.account(),
        "commit": first,
        "sync": scene.synced(scene.account.repo.commit_block),
    }
    for word in order:
        # What a #sync has told already, its commit tells no more.
        known = word == "commit" and order.index("sync") < order.index("commit")
        assert scene.fate(words[word]) is (DropReason.REV_NOT_NEWER if known else None)
    assert scene.state.rev == scene.account.repo.rev
    assert scene.state.active
    assert (scene.state.desynchronized, scene.state.discontinuities) == (False, 0)
    assert scene.marks(scene.commit([create()])) == 0


def moved(scene: Scene) -> None:
    """The account goes to another host, with a new key."""
    new_key(scene.account)
    scene.host = NEW_PDS


@pytest.mark.parametrize("commits", [True, False])
def test_s_mig_02_the_new_host_is_heard_and_the_old_one_is_not(commits: bool) -> None:
    scene = Scene()
    assert scene.fate(scene.commit([create("com.example.note/old")])) is None
    leaving = scene.account.account_as("deactivated")
    moved(scene)
    last = scene.commit([])
    words = [scene.account.identity(), scene.account.account_as(None)]
    words.append(last if commits else scene.synced(scene.account.repo.commit_block))
    for word in words:
        assert scene.fate(word) is None
        assert scene.fate(leaving, source=PDS) is DropReason.HOST_NOT_AUTHORITATIVE
    assert scene.state.active
    assert scene.state.host == NEW_PDS.host
    assert scene.marks(scene.commit([create("com.example.note/new")])) == 0


def test_s_mig_03_the_status_may_come_before_the_identity() -> None:
    scene = Scene()
    old = scene.identity()
    moved(scene)
    first = scene.account.account_as(None)
    verdict = scene.verdict(first, identity=old, fresh=False)
    assert isinstance(verdict, NeedFreshIdentity)
    assert isinstance(scene.verdict(first), Accept)
    assert scene.fate(scene.account.identity()) is None
    assert scene.fate(scene.synced(scene.account.repo.commit_block)) is DropReason.SIGNATURE_INVALID
    assert scene.marks(scene.commit([])) == 0


def test_s_mig_05_the_document_the_status_and_a_higher_rev_make_the_migration() -> None:
    """The old host may be gone, and need not have said a word."""
    scene = Scene()
    rev = scene.state.rev
    moved(scene)
    assert scene.fate(scene.account.account_as(None)) is None
    assert scene.fate(scene.commit([create()])) is None
    assert rev is not None
    assert scene.state.rev is not None
    assert scene.state.rev > rev
    assert (scene.state.host, scene.state.active) == (NEW_PDS.host, True)
    # A rev from before is of no use to the new host either.
    scene.account.repo = scene.account.repo._replace(rev=rev)
    stale = scene.said(scene.fork([create("com.example.note/b")], rev=rev))
    assert scene.fate(stale) is DropReason.REV_NOT_NEWER


def test_s_mig_05_the_sync_that_still_carries_the_old_hosts_signature_is_told_by_its_own_reason() -> (
    None
):
    """The real PDS says so after each migration; the next commit follows on what we have."""
    scene = Scene()
    imported = scene.account.repo.commit_block
    moved(scene)
    assert scene.fate(scene.account.account_as(None)) is None
    known = scene.state
    unsigned = scene.synced(imported, rev=scene.rev())
    assert scene.fate(unsigned) is DropReason.SYNC_NOT_RESIGNED
    assert scene.state == known
    assert scene.marks(scene.commit([create()])) == 0


def test_s_mig_06_a_deletion_is_told_and_what_comes_later_is_not() -> None:
    scene = Scene()
    assert scene.fate(scene.account.account_as("deleted")) is None
    assert scene.fate(scene.commit([create()])) is DropReason.ACCOUNT_INACTIVE
    assert scene.state.status == "deleted"


@pytest.mark.parametrize("commits", [True, False])
def test_s_mig_07_after_a_reactivation_an_empty_commit_or_a_sync_may_follow(commits: bool) -> None:
    scene = Scene()
    for word in (scene.account.account_as("deactivated"), scene.account.account_as(None)):
        assert scene.fate(word) is None
    last = scene.commit([]) if commits else scene.synced(scene.account.repo.commit_block)
    assert scene.marks(last) == 0
    assert scene.marks(scene.commit([create()])) == 0


@pytest.mark.parametrize("word", ["account", "commit", "sync"])
def test_s_mig_08_the_account_is_counted_at_the_host_that_speaks_for_it_now(word: str) -> None:
    scene = Scene()
    assert scene.state.host == PDS.host
    moved(scene)
    commit = scene.commit([])
    events = {
        "account": scene.account.account_as(None),
        "commit": commit,
        "sync": scene.synced(scene.account.repo.commit_block),
    }
    assert scene.fate(events[word]) is None
    assert scene.state.host == NEW_PDS.host
    assert scene.fate(scene.account.identity(), source=PDS) is None
    assert scene.state.host == NEW_PDS.host
