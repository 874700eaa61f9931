"""Who is judged next, and who is read: a flood delays others by one turn, and fills only its own."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from ingest.config import Limits
from ingest.turns import MESSAGES_A_TURN, SMALL_SHARE_BYTES, Turns

LIMITS = Limits(
    turn_s=0.005, in_flight_bytes=1000, host_high_bytes=2_000_000, host_low_bytes=1_000_000,
    process_high_bytes=5_000_000, process_low_bytes=3_000_000,
)  # fmt: skip


class Pipeline:
    """Only its sums: bytes sent and unanswered, and bytes read and unfinished."""

    def __init__(self) -> None:
        self.in_flight_bytes = 0
        self.unfinished_bytes = 0
        self.more = 0

    @property
    def has_more(self) -> bool:
        return self.more > 0

    def judge_more(self, now_s: float) -> None:
        assert now_s == 1000.0
        self.more -= 1


class Host:
    """A subscription as `Turns` sees one; its messages are their own sizes."""

    def __init__(self, story: Story, name: str) -> None:
        self.name = name
        self.inbox: deque[int] = deque()
        self.inbox_bytes = 0
        self.held_bytes = 0
        self.reads = True
        self.pauses = 0
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
        assert now_s == 1000.0
        self.inbox_bytes -= self.inbox.popleft()
        self._story.judged.append(self.name)
        self._story.spent_s += self._story.cost_s


class Story:
    """Turns with a clock turned by hand: each message costs `cost_s` seconds."""

    def __init__(self, cost_s: float = 0.0) -> None:
        self.cost_s = cost_s
        self.spent_s = 0.0
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
            now_s=lambda: 1000.0,
            spent_s=lambda: self.spent_s,
        )

    def _done(self) -> None:
        self.done += 1

    def host(self, name: str, *sizes: int) -> Any:
        """A host that has said messages of these sizes."""
        host: Any = Host(self, name)
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
