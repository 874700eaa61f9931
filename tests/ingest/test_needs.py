"""What is a document needed for, and what may one that was kept from before decide?"""

from __future__ import annotations

from coincurve import PrivateKey

from common.verdict import DropReason
from ingest.did_document import Broken, Identity, NotFound
from ingest.questions import Need
from ingest.signature import K256Key
from tests.ingest.test_pipeline import KEY, Story, commit, did_of, identity

OTHER = PrivateKey(b"\x08" * 32)


def remember(
    story: Story, asked_s: float, key: PrivateKey = KEY, host: str = "pds.example.com"
) -> None:
    """A kept document comes, that says it was asked for then."""
    found = Identity(did_of(0), K256Key(key.public_key.format()), host)
    story.pipeline.remembered(did_of(0), found, asked_s, story.now_s)


def test_a_kept_document_is_used_at_once_and_asks_nobody() -> None:
    story = Story()
    story.take(commit(1, 1), commit(2, 2))
    assert story.needs == [Need.FIRST]
    remember(story, story.now_s - 3600)
    assert story.seqs() == [1, 2]
    story.take(commit(3, 3))
    assert story.seqs() == [1, 2, 3]
    assert story.needs == [Need.FIRST]


def test_a_kept_document_drops_nothing_and_the_newer_one_is_asked_for_at_once() -> None:
    for told in (
        Identity(did_of(0), K256Key(OTHER.public_key.format()), "pds.example.com"),
        Identity(did_of(0), K256Key(KEY.public_key.format()), "old.example.com"),
        NotFound("404"),
        Broken("no key"),
    ):
        # Even where the clock of whoever kept it was ahead of ours.
        for age_s in (3600.0, 0.0, -3600.0):
            story = Story()
            story.take(commit(1, 1), commit(2, 2))
            story.pipeline.remembered(did_of(0), told, story.now_s - age_s, story.now_s)
            assert story.drops == [], told
            assert story.needs == [Need.FIRST, Need.NEWER]
            if age_s > 0:
                assert story.asked[-1] == (did_of(0), 0.0)
            story.resolve()
            assert story.seqs() == [1, 2]


def test_an_identity_event_never_makes_do_with_a_kept_document() -> None:
    story = Story()
    story.take(identity(1))
    assert story.needs == [Need.NEWER]
    story = Story()
    story.take(commit(1, 1), identity(2))
    remember(story, story.now_s)
    assert story.seqs() == [1]
    assert story.needs == [Need.FIRST, Need.NEWER]
    story.resolve()
    assert story.seqs() == [1, 2]


def test_an_old_kept_document_is_used_and_refreshed_behind() -> None:
    story = Story(stale_s=100.0)
    story.take(commit(1, 1), commit(2, 2))
    remember(story, story.now_s - 101)
    assert story.seqs() == [1, 2]
    assert story.needs == [Need.FIRST, Need.REFRESH]
    story.take(commit(3, 3))
    assert story.seqs() == [1, 2, 3]
    assert len(story.needs) == 2


def test_a_refresh_becomes_urgent_when_an_event_waits_for_it() -> None:
    story = Story(stale_s=100.0)
    story.take(commit(1, 1))
    remember(story, story.now_s - 101)
    story.take(commit(2, 2, key=OTHER), commit(3, 3, key=OTHER))
    assert story.needs == [Need.FIRST, Need.REFRESH, Need.NEWER]
    story.resolve(key=OTHER)
    assert story.seqs() == [1, 2, 3]


def test_a_refresh_that_fails_is_tried_again_after_a_while() -> None:
    story = Story(stale_s=86_400.0, stale_again_s=600.0)
    story.take(commit(1, 1))
    remember(story, story.now_s - 90_000)
    assert story.needs[-1] is Need.REFRESH
    story.pipeline.unresolved(did_of(0), story.now_s)
    assert not story.pipeline.still_wanted(did_of(0))
    story.needs.clear()
    story.now_s += 590
    story.take(commit(2, 2))
    assert story.needs == []
    story.now_s += 20
    story.take(commit(3, 3))
    assert story.needs == [Need.REFRESH]
    assert story.seqs() == [1, 2, 3]
    assert DropReason.IDENTITY_UNRESOLVED not in story.reasons()
