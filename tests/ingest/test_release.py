"""A host is let go with all that is unfinished of it: nothing leaks, nothing is judged, others go on."""

from __future__ import annotations

from collections import Counter
from random import Random

from common.envelope import NEVER_SEEN, AccountState, base_of
from ingest.account import Feed
from ingest.counts import KIND_LABELS
from ingest.pipeline import cursor_of
from tests.ingest.test_pipeline import NEW_PDS, PDS, Story, account, commit, did_of, identity


def balanced(story: Story) -> bool:
    """Whether everything taken has one fate, and what is held agrees with what the feeds say."""
    pipeline = story.pipeline
    balance = pipeline.counts.balance(inbox=0, held=pipeline.held, in_flight=pipeline.in_flight)
    return balance._replace(reading=None).unaccounted == 0


def test_what_is_in_flight_is_let_go_and_a_late_answer_is_nobodys() -> None:
    story = Story()
    story.take(commit(1, 1), commit(2, 2))
    story.resolve()
    assert story.pipeline.in_flight == 2
    story.pipeline.release({story.feed}, story.now_s)
    assert story.pipeline.in_flight == story.pipeline.in_flight_bytes == 0
    assert story.pipeline.unfinished_bytes == story.feed.unfinished_bytes == 0
    assert story.pipeline.unanswered() == []
    assert story.pipeline.counts.released == Counter(commit=2)
    story.log_all()
    story.pipeline.back([(1, NEVER_SEEN)], story.now_s)
    story.pipeline.duplicate([2], story.now_s)
    assert story.pipeline.counts.forwarded == Counter()
    assert story.reasons() == []
    assert cursor_of(story.feed) is None
    assert balanced(story)


def test_what_waits_is_let_go_and_an_answer_that_comes_judges_nothing_of_it() -> None:
    story = Story()
    story.take(commit(1, 1), commit(2, 1, did_of(1)), identity(3))
    assert story.pipeline.held == 3
    story.pipeline.release({story.feed}, story.now_s)
    assert story.pipeline.held == story.feed.held_bytes == 0
    assert story.pipeline.counts.released == Counter(commit=2, identity=1)
    assert not story.pipeline.still_wanted(did_of(0))
    story.resolve()
    story.resolve(did_of(1))
    while story.pipeline.has_more:
        story.pipeline.judge_more(story.now_s)
    assert story.sent == []
    assert balanced(story)


def test_what_came_back_is_let_go_while_others_of_its_account_are_under_way() -> None:
    story = Story()
    story.take(commit(1, 1))
    story.resolve()
    story.log_all()
    other = Feed(NEW_PDS, 1, 6, 0, epoch=9)
    story.take(account(2), account(3))
    story.take(account(1, active=True), feed=other)
    story.resolve(host="new.example.com")
    first, second = (judged for judged, _raw in story.sent[1:3])
    story.pipeline.back([(first.position, first.after)], story.now_s)
    assert story.pipeline.held >= 1
    story.pipeline.release({story.feed}, story.now_s)
    assert story.pipeline.counts.released.total() == 2
    story.pipeline.back([(second.position, second.after)], story.now_s)
    story.log_all()
    assert story.pipeline.held == story.pipeline.in_flight == 0
    assert story.pipeline.unfinished_bytes == 0
    assert balanced(story)


def test_the_other_hosts_of_an_account_go_on_with_the_newest_state() -> None:
    story = Story()
    story.take(commit(1, 5))
    story.resolve()
    story.log_all()
    logged = story.sent[-1][0].after
    # In flight, and it will never be in the log: whoever reads its host next says it again.
    story.take(commit(2, 6))
    story.pipeline.release({story.feed}, story.now_s)
    anew = Feed(PDS, 1, 5, 1, epoch=10)
    story.take(commit(2, 6), feed=anew)
    (again, _raw) = story.sent[-1]
    assert (again.upstream_seq, again.epoch) == (2, 10)
    assert again.base == base_of(NEVER_SEEN)
    story.pipeline.back([(again.position, logged)], story.now_s)
    (third, _raw) = story.sent[-1]
    assert third.base == base_of(logged)
    story.pipeline.logged([third.position], story.now_s)
    assert story.reasons() == []
    assert cursor_of(anew) is not None
    assert balanced(story)


def test_a_host_that_is_let_go_and_comes_back_waits_for_its_document_again() -> None:
    story = Story()
    story.take(commit(1, 1))
    story.pipeline.release({story.feed}, story.now_s)
    anew = Feed(PDS, 1, 5, 0, epoch=10)
    story.take(commit(1, 1), feed=anew)
    assert story.pipeline.held == 1
    story.resolve()
    assert story.seqs() == [1]
    assert balanced(story)


def test_random_stories_with_hosts_let_go_leak_nothing() -> None:
    for seed in range(20):
        random = Random(seed)
        story = Story()
        feeds = [story.feed, Feed(NEW_PDS, 1, 6, 0, epoch=9)]
        seqs, revs, states = [0, 0], Counter[str](), dict[str, AccountState]()
        answered = 0
        for step in range(100):
            host = random.randrange(2)
            did = did_of(random.randrange(3))
            what = random.randrange(8)
            if what < 4:
                seqs[host] += 1
                revs[did] += 1
                message = random.choice(
                    [commit(seqs[host], revs[did], did), identity(seqs[host], did)]
                )
                story.take(message, feed=feeds[host])
            elif what == 4:
                story.resolve(did, random.choice(["pds.example.com", "new.example.com"]))
            elif what == 5 and answered < len(story.sent):
                judged, _raw = story.sent[answered]
                answered += 1
                if random.random() < 0.4:
                    newest = states.get(judged.did, NEVER_SEEN)
                    story.pipeline.back([(judged.position, newest)], story.now_s)
                else:
                    states[judged.did] = judged.after
                    story.pipeline.logged([judged.position], story.now_s)
            elif what == 6 and random.random() < 0.4:
                story.pipeline.release({feeds[host]}, story.now_s)
                assert feeds[host].unfinished_bytes == feeds[host].held_bytes == 0
                assert not feeds[host].held
                seqs[host] = random.randrange(seqs[host] + 1)
                source = (PDS, NEW_PDS)[host]
                feeds[host] = Feed(source, 1, 5 + host, seqs[host], epoch=10 + step)
            assert balanced(story), (seed, step)
            bytes_of_feeds = sum(feed.unfinished_bytes for feed in feeds)
            assert story.pipeline.unfinished_bytes == bytes_of_feeds, (seed, step)
        story.pipeline.release(set(feeds), story.now_s)
        while story.pipeline.has_more:
            story.pipeline.judge_more(story.now_s)
        assert story.pipeline.held == story.pipeline.in_flight == 0
        assert story.pipeline.unfinished_bytes == story.pipeline.in_flight_bytes == 0
        assert set(story.pipeline.counts.released) <= set(KIND_LABELS.values())
        assert balanced(story)
