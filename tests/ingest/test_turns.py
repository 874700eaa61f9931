"""Who is judged next, and who is read: a flood delays others by one turn, and fills only its own."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from common.limits import TRUSTED, EventLimits
from ingest.account import Feed
from ingest.config import Limits
from ingest.judge import Source
from ingest.limiter import CATCH_UP
from ingest.turns import MESSAGES_A_TURN, SMALL_SHARE_BYTES, Turns
from ingest.upstream import Entry

LIMITS = Limits(
    ahead_events=1000, turn_s=0.005, in_flight_bytes=1000, host_high_bytes=2_000_000, host_low_bytes=1_000_000,
    process_high_bytes=5_000_000, process_low_bytes=3_000_000,
)  # fmt: skip


class Pipeline:
    """Only its sums: bytes sent and unanswered, and bytes read and unfinished."""

    def __init__(self) -> None:
        self.in_flight_bytes = 0
        self.unfinished_bytes = 0
        self.deferred_bytes = 0
        self.more = 0
        self.hurried: list[Feed] = []

    @property
    def has_more(self) -> bool:
        return self.more > 0

    def judge_more(self, now_s: float) -> None:
        assert now_s >= 1000.0
        self.more -= 1

    def hurry(self, feed: Feed) -> None:
        self.hurried.append(feed)


class Host:
    """A subscription as `Turns` sees one; its messages are their own sizes."""

    def __init__(self, story: Story, name: str, limits: EventLimits) -> None:
        self.name = name
        self.feed = Feed(Source(1, name), 1, 0, None, limits=limits)
        self.inbox: deque[int] = deque()
        self.inbox_bytes = 0
        self.held_bytes = 0
        self.reads = True
        self.pauses = 0
        self.numbers = False
        self.first: Entry | None = None
        """With `numbers`: what it says has some, and all is finished at once but for this."""
        self._story = story

    @property
    def unfinished_bytes(self) -> int:
        return self.inbox_bytes + self.held_bytes

    def pause(self) -> None:
        self.reads = False
        self.pauses += 1

    def resume(self) -> None:
        self.reads = True

    def handle_one(self, now_s: float) -> None:
        assert now_s == self._story.now_s
        self.inbox_bytes -= self.inbox.popleft()
        if self.numbers:
            entry = self.feed.upstream.begin((self.feed.upstream.last_seq or 0) + 1)
            assert entry is not None
            if self.first is None:
                self.first = entry
            else:
                self.feed.upstream.finish(entry)
        self._story.judged.append(self.name)
        self._story.spent_s += self._story.cost_s


class Story:
    """Turns with a clock turned by hand: each message costs `cost_s` seconds."""

    def __init__(self, cost_s: float = 0.0) -> None:
        self.cost_s = cost_s
        self.spent_s = 0.0
        self.now_s = 1000.0
        self.woken: list[float] = []
        self.judged: list[str] = []
        self.again: list[float] = []
        self.done = 0
        self.pipeline = Pipeline()
        pipeline: Any = self.pipeline
        self.turns = Turns(
            pipeline,
            LIMITS,
            again=self.again.append,
            done=self._done,
            wake_after=self.woken.append,
            now_s=lambda: self.now_s,
            spent_s=lambda: self.spent_s,
        )

    def _done(self) -> None:
        self.done += 1

    def host(self, name: str, *sizes: int, limits: EventLimits = TRUSTED) -> Any:
        """A host that has said messages of these sizes."""
        host: Any = Host(self, name, limits)
        self.turns.hosts.add(host)
        host.inbox.extend(sizes)
        host.inbox_bytes = sum(sizes)
        if sizes:
            self.turns.has_messages(host)
        return host


def test_a_flood_delays_the_others_by_one_turn() -> None:
    story = Story()
    story.host("flood", *[1] * 1000)
    story.host("quiet", 1)
    story.turns.take()
    assert story.judged.index("quiet") == MESSAGES_A_TURN
    assert len(story.judged) == 1001


def test_a_turn_ends_after_its_time_and_the_loop_is_asked_for_another() -> None:
    story = Story(cost_s=2**-10)
    story.host("a", *[1] * 100)
    story.host("b", *[1] * 100)
    assert story.again == [0.0]
    story.turns.take()
    assert len(story.judged) == 6
    assert story.again == [0.0, 0.0]
    assert story.done == 1
    # The next turn begins with the other.
    story.turns.take()
    assert story.judged[6:] == ["b"] * 6


def test_what_needs_wait_no_longer_shares_the_turns_of_what_comes() -> None:
    story = Story(cost_s=0.001)
    story.pipeline.more = 3
    story.turns.room()
    assert len(story.again) == 1
    story.host("talker", *[10] * 100)
    turns = 0
    while story.again:
        story.again.clear()
        story.turns.take()
        turns += 1
        assert story.pipeline.more == max(0, 3 - turns)
    assert len(story.judged) == 100
    # It needs no host that talks, and it waits while persist is behind.
    story.pipeline.more = 2
    story.pipeline.in_flight_bytes = 1001
    story.turns.room()
    story.again.clear()
    story.turns.take()
    assert story.pipeline.more == 2
    story.pipeline.in_flight_bytes = 0
    story.turns.room()
    story.turns.take()
    assert story.pipeline.more == 0


def test_what_comes_right_after_a_turn_waits_for_the_pace() -> None:
    story = Story()
    story.host("a", 1)
    story.turns.take()
    story.spent_s += LIMITS.pace_s / 4
    story.host("b", 1)
    assert story.again == [0.0, pytest.approx(LIMITS.pace_s * 3 / 4)]


def test_nothing_is_judged_while_persist_is_behind() -> None:
    story = Story()
    story.host("a", 1, 1)
    story.pipeline.in_flight_bytes = 1001
    story.turns.take()
    assert story.judged == []
    story.turns.room()
    assert story.again == [0.0]
    story.pipeline.in_flight_bytes = 1000
    story.turns.room()
    assert story.again == [0.0, 0.0]
    story.turns.take()
    assert story.judged == ["a", "a"]


def test_a_host_that_holds_too_much_is_not_read_until_it_holds_little() -> None:
    story = Story()
    greedy, other = story.host("greedy"), story.host("other")
    for held, reads in (
        (2_000_000, True), (2_000_001, False), (1_500_000, False), (999_999, True),
    ):  # fmt: skip
        greedy.held_bytes = story.pipeline.unfinished_bytes = held
        story.turns.balance()
        assert greedy.reads is reads, held
        assert other.reads


def test_when_all_together_hold_too_much_those_with_little_are_read_on() -> None:
    story = Story()
    hosts = [story.host(str(number)) for number in range(6)]
    for host in hosts[:5]:
        host.held_bytes = 1_100_000
    hosts[5].held_bytes = SMALL_SHARE_BYTES
    story.pipeline.unfinished_bytes = sum(host.held_bytes for host in hosts)
    story.turns.balance()
    assert [host.reads for host in hosts] == [False] * 5 + [True]
    assert hosts[5].pauses == 0
    # There has to be room again for all, not only a little less of one.
    hosts[0].held_bytes = 900_000
    story.pipeline.unfinished_bytes = 4_000_000
    story.turns.balance()
    assert not hosts[0].reads
    story.pipeline.unfinished_bytes = 2_000_000
    story.turns.balance()
    assert [host.reads for host in hosts] == [True, False, False, False, False, True]


def test_hosts_that_fill_the_process_leave_the_others_their_share() -> None:
    story = Story()
    hostile = [story.host(str(number)) for number in range(8)]
    for host in hostile:
        host.held_bytes = 700_000
    honest = story.host("honest")
    # Something of its own fails too, for as long as theirs.
    honest.held_bytes = 200_000
    for inbox in (0, 120_000, 600_000, 0):
        honest.inbox_bytes = inbox
        story.pipeline.unfinished_bytes = 8 * 700_000 + honest.held_bytes
        story.turns.balance()
        assert not any(host.reads for host in hostile)
        # It may hold a ninth of the lower bound.
        assert honest.reads is (inbox < 600_000), inbox
    # With so many that a share would be next to nothing, a little is still read of each.
    story = Story()
    many = [story.host(str(number)) for number in range(30)]
    for host in many:
        host.held_bytes = SMALL_SHARE_BYTES
    story.pipeline.unfinished_bytes = 30 * SMALL_SHARE_BYTES
    story.turns.balance()
    assert all(host.reads for host in many)


def test_a_host_that_is_forgotten_is_neither_read_on_nor_counted() -> None:
    story = Story()
    gone = story.host("gone")
    gone.held_bytes = story.pipeline.unfinished_bytes = 3_000_000
    story.turns.balance()
    story.turns.forget(gone)
    gone.held_bytes = story.pipeline.unfinished_bytes = 0
    story.turns.balance()
    assert not gone.reads


# --- by rate (S-RAT-06) ---

TEN = EventLimits(10, 10_000, 100_000)


def pass_s(story: Story, seconds: float) -> None:
    """So much later, what was asked for by then has happened."""
    story.now_s += seconds
    story.turns.wake()
    story.turns.take()


def test_a_host_at_its_limit_is_not_read_and_what_it_said_stays_where_it_is() -> None:
    story = Story()
    busy = story.host("busy", *[1] * 25, limits=TEN)
    other = story.host("other", *[1] * 25)
    story.turns.take()
    assert story.judged.count("busy") == 10
    assert story.judged.count("other") == 25
    assert (busy.reads, len(busy.inbox)) == (False, 15)
    assert other.reads
    # Everybody sees it, with its end.
    assert (busy.feed.limited_by, busy.feed.limited_until_s) == ("second", 1001.0)
    assert other.feed.limited_by is None
    assert story.woken[-1] == pytest.approx(0.1)
    pass_s(story, story.woken[-1] + 0.001)
    assert story.judged.count("busy") == 11
    assert not busy.reads
    pass_s(story, 1.0)
    assert story.judged.count("busy") == 21
    pass_s(story, 1.0)
    assert story.judged.count("busy") == 25
    assert busy.reads
    # What is over is shown for a moment more, or a busy host would seem to be limited now and then.
    story.turns.balance()
    assert busy.feed.limited_by == "second"
    story.now_s += 3.0
    story.turns.balance()
    assert (busy.feed.limited_by, busy.feed.limited_until_s) == (None, 0.0)
    assert story.turns.slowing.waited_s["second"] == pytest.approx(2.1, abs=0.2)


def test_a_turn_that_ends_early_gives_back_what_it_did_not_take() -> None:
    story = Story(cost_s=0.004)
    story.host("slow work", *[1] * 10, limits=TEN)
    for _ in range(5):
        story.turns.take()
    assert len(story.judged) == 10


def test_raised_limits_let_a_host_go_on_at_once_even_if_it_waits_for_tomorrow() -> None:
    story = Story()
    busy = story.host("busy", *[1] * 400, limits=EventLimits(1000, 1000, 40))
    story.turns.take()
    assert (len(story.judged), busy.feed.limited_by) == (40, "day")
    assert busy.feed.limited_until_s - story.now_s > 1000
    story.turns.set_limits(busy, EventLimits(1000, 1000, 40))
    story.turns.take()
    assert len(story.judged) == 40
    story.turns.set_limits(busy, EventLimits(1000, 1000, 340))
    assert busy.reads
    assert not busy.feed.limited_by
    assert story.pipeline.hurried == [busy.feed]
    story.turns.take()
    # What was used stays used.
    assert (len(story.judged), busy.feed.limited_by) == (340, "day")
    # And a limit of nothing is one, too.
    story.turns.set_limits(busy, EventLimits(0, 1000, 10_000))
    pass_s(story, 3600.0)
    assert len(story.judged) == 340
    assert busy.feed.limited_by == "second"
    story.turns.set_limits(busy, TRUSTED)
    story.turns.take()
    assert len(story.judged) == 400


def test_others_may_slow_a_host_by_the_same_means_and_the_last_word_counts() -> None:
    story = Story()
    host = story.host("backlog", *[1] * 5)
    story.turns.slow(host, 1010.0, CATCH_UP)
    story.turns.take()
    assert (story.judged, host.reads, host.feed.limited_by) == ([], False, CATCH_UP)
    story.turns.slow(host, 1005.0, CATCH_UP)
    assert story.turns.slowing.counts() == {CATCH_UP: 1}
    pass_s(story, 5.0)
    assert (len(story.judged), host.reads) == (5, True)
    # Its first end says nothing any more.
    story.turns.slow(host, 1020.0, CATCH_UP)
    pass_s(story, 6.0)
    assert not host.reads


def test_a_host_that_holds_too_much_is_not_read_when_its_wait_ends_and_the_other_way_round() -> (
    None
):
    story = Story()
    host = story.host("both")
    host.held_bytes = story.pipeline.unfinished_bytes = 3_000_000
    story.turns.balance()
    story.turns.slow(host, 1010.0, CATCH_UP)
    pass_s(story, 10.0)
    assert not host.reads
    story.turns.slow(host, 1020.0, CATCH_UP)
    host.held_bytes = story.pipeline.unfinished_bytes = 0
    story.turns.balance()
    assert not host.reads
    pass_s(story, 10.0)
    assert host.reads


def test_a_new_connection_of_a_host_that_waits_is_not_read_either() -> None:
    story = Story()
    host = story.host("again")
    story.turns.slow(host, 1010.0, CATCH_UP)
    host.reads = True
    host.inbox.append(1)
    story.turns.has_messages(host)
    story.turns.take()
    assert (story.judged, host.reads) == ([], False)
    pass_s(story, 10.0)
    assert (story.judged, host.reads) == (["again"], True)


def test_a_host_that_is_forgotten_waits_for_nothing() -> None:
    story = Story()
    host = story.host("banned", *[1] * 25, limits=TEN)
    story.turns.take()
    story.turns.forget(host)
    assert host.feed.limited_by is None
    assert story.turns.slowing.counts() == {}
    pass_s(story, 100.0)
    assert len(story.judged) == 10
    assert not host.reads


# --- by number ---


def test_a_host_too_far_ahead_of_its_oldest_event_is_not_read_until_that_is_finished() -> None:
    story = Story()
    host, other = story.host("ahead", *[1] * 3000), story.host("other", *[1] * 100)
    host.numbers = True
    story.turns.take()
    assert (host.reads, other.reads, story.turns.ahead) == (False, True, 1)
    assert 1000 < host.feed.upstream.ahead <= 1000 + MESSAGES_A_TURN
    taken = story.judged.count("ahead")
    story.turns.room()
    pass_s(story, 100.0)
    assert story.judged.count("ahead") == taken
    # No bytes speak against it, and no limit: it is the number that does.
    assert host.unfinished_bytes < SMALL_SHARE_BYTES
    assert host.feed.limited_by is None
    host.feed.upstream.finish(host.first)
    story.turns.room()
    assert (host.reads, story.turns.ahead) == (True, 0)
    story.turns.take()
    assert story.judged.count("ahead") == 3000


def test_what_is_put_off_is_not_shared_out() -> None:
    story = Story()
    hosts = [story.host(str(number)) for number in range(4)]
    for host in hosts:
        host.held_bytes = 700_000
    story.pipeline.unfinished_bytes = 5_000_001
    story.turns.balance()
    assert all(host.reads for host in hosts)
    # 3 MB are to be shared, and 1.2 MB of them are taken.
    story.pipeline.deferred_bytes = 1_200_000
    story.turns.balance()
    assert not any(host.reads for host in hosts)
