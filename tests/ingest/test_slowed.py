"""What is told of accounts that are slowed: each once, and its end."""

from __future__ import annotations

from ingest.slowed import LINES, WORTH_S, SlowedAccounts
from tests.ingest.test_fairness import World, commit_of, imported
from tests.ingest.test_pipeline import did_of


def test_an_account_is_told_of_when_it_is_worth_it_and_once_more_at_the_end() -> None:
    world, told = World(), SlowedAccounts()
    host = world.host()
    host.say(imported(1000))
    world.run(1.0)
    assert host.feed.slowed
    assert told.look([host.feed], world.now_s) == []
    world.run(WORTH_S)
    [begun] = told.look([host.feed], world.now_s)
    assert (begun.did, begun.hostname, begun.is_over) == (did_of(0), "pds.example.com", False)
    assert begun.seconds >= WORTH_S
    assert begun.waiting > 400
    assert begun.waiting_bytes >= host.feed.deferred_bytes > begun.waiting * 2000
    assert told.look([host.feed], world.now_s) == []
    world.run(600.0)
    [over] = told.look([host.feed], world.now_s)
    assert (over.did, over.is_over) == (did_of(0), True)
    assert over.seconds > 600.0
    assert told.look([host.feed], world.now_s) == []


def test_many_are_told_of_little_by_little_and_a_host_that_is_gone_ends_its_own() -> None:
    world, told = World(), SlowedAccounts()
    hosts = [world.host() for _ in range(LINES + 3)]
    for number, host in enumerate(hosts):
        host.feed.source = host.feed.source._replace(host=number + 1)
        host.say(commit_of(1 + n, 1 + n + 1000 * number, did_of(0)) for n in range(300))
        world.run(0.1)
    world.run(WORTH_S)
    feeds = [host.feed for host in hosts if host.feed.slowed]
    told_of = [len(told.look(feeds, world.now_s)) for _ in range(3)]
    assert told_of == [min(LINES, len(feeds)), max(0, len(feeds) - LINES), 0]
    assert sum(len(told.look([], world.now_s)) for _ in range(3)) == len(feeds)
