"""One account's import waits, and the other accounts of its host do not: in time, in order, in bytes."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from common.envelope import Judged, Kind
from common.limits import EventLimits, event_limits
from common.rates import Rate
from common.verdict import Drop, DropReason
from ingest.account import Feed
from ingest.config import EVENT_BYTES, Limits
from ingest.did_document import Identity
from ingest.judge import Source
from ingest.pipeline import Pipeline
from ingest.signature import K256Key
from ingest.turns import Turns
from tests.ingest.balance import balance_of
from tests.ingest.test_pipeline import KEY, NO_RATES, PDS, account, commit, did_of, identity

START_S = 1_784_000_000.0
DEFAULT = event_limits(100, trusted=False)
IMPORTER = did_of(0)
COMMITS: dict[tuple[int, int, str], bytes] = {}


def commit_of(seq: int, rev: int, did: str) -> bytes:
    """A commit, signed once for all examples."""
    key = (seq, rev, did)
    if key not in COMMITS:
        COMMITS[key] = commit(*key)
    return COMMITS[key]


class Host:
    """A subscription whose messages are said at their time."""

    def __init__(self, world: World, feed: Feed) -> None:
        self.feed = feed
        self.inbox: deque[bytes] = deque()
        self.inbox_bytes = 0
        self.unread: deque[bytes] = deque()
        self.reads = True
        self._world = world

    @property
    def unfinished_bytes(self) -> int:
        return self.inbox_bytes + self.feed.unfinished_bytes - self.feed.deferred_bytes

    def say(self, raws: Iterable[bytes]) -> None:
        self.unread.extend(raws)
        self.read()

    def read(self) -> None:
        """What its socket brings, while it is read; a little at a time."""
        while self.unread and self.reads:
            was_empty = not self.inbox
            for _ in range(min(64, len(self.unread))):
                self.inbox.append(self.unread.popleft())
                self.inbox_bytes += len(self.inbox[-1])
            if self.unfinished_bytes > self._world.limits.host_high_bytes:
                self._world.turns.pause(self)  # type: ignore[arg-type]
            if was_empty:
                self._world.turns.has_messages(self)  # type: ignore[arg-type]

    def pause(self) -> None:
        self.reads = False

    def resume(self) -> None:
        if not self.reads:
            self.reads = True
            self._world.later(0.0, self.read)

    def handle_one(self, now_s: float) -> None:
        raw = self.inbox.popleft()
        self.inbox_bytes -= len(raw)
        assert self._world.pipeline.take(self.feed, raw, now_s) is None


class World:
    """A pipeline and its turns, with persist that answers at once, in a time that we let pass."""

    def __init__(self, **changed: Any) -> None:
        self.limits = replace(
            Limits(), **{"account_rates": NO_RATES, "host_rates": NO_RATES, **changed}
        )
        self.now_s = START_S
        self.sent: list[tuple[float, Judged]] = []
        self.drops: list[tuple[DropReason, int]] = []
        self._answers: list[int] = []
        self._calls: list[tuple[float, int, Any]] = []
        self._numbers = count()
        self.most_deferred = 0
        self.pipeline = Pipeline(
            self.limits,
            ask=lambda did, _host, _delay_s, _need: self.later(0.0, lambda: self._tell(did)),
            ask_status=lambda _did, _host: None,
            send=self._send,
            may_give_up=lambda _did, _now_s: False,
            wake_after=lambda after_s: self.later(after_s, self._wake),
            on_drop=lambda _feed, drop, _event, _raw: self._dropped(drop),
        )
        self.turns = Turns(
            self.pipeline,
            self.limits,
            again=lambda after_s: self.later(after_s, self.turns.take),
            done=self._answer,
            wake_after=lambda after_s: self.later(after_s, self.turns.wake),
            now_s=lambda: self.now_s,
            spent_s=lambda: self.now_s,
        )

    def host(self, limits: EventLimits = DEFAULT, source: Source = PDS) -> Host:
        host = Host(self, Feed(source, 1, 0, 0, limits=limits))
        self.turns.hosts.add(host)  # type: ignore[arg-type]
        return host

    def later(self, after_s: float, call: Any) -> None:
        heapq.heappush(self._calls, (self.now_s + after_s, next(self._numbers), call))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        ends_s = self.now_s + seconds
        while self._calls and self._calls[0][0] <= ends_s:
            at_s, _, call = heapq.heappop(self._calls)
            self.now_s = max(self.now_s, at_s)
            call()
            self._answer()
            self.most_deferred = max(self.most_deferred, self.pipeline.deferred_bytes)
        self.now_s = ends_s

    def at(self, did: str) -> list[tuple[float, int]]:
        """When which of an account's events left, since the start, by the host's numbers."""
        return [(s - START_S, j.upstream_seq) for s, j in self.sent if j.did == did]

    def _wake(self) -> None:
        self.pipeline.wake(self.now_s)
        self.turns.room()

    def _tell(self, did: str) -> None:
        found = Identity(did, K256Key(KEY.public_key.format()), "pds.example.com")
        self.pipeline.resolved(did, found, self.now_s, self.now_s)

    def _send(self, judged: Judged, _raw: bytes) -> None:
        self.sent.append((self.now_s, judged))
        self._answers.append(judged.position)

    def _answer(self) -> None:
        answers, self._answers = self._answers, []
        self.pipeline.logged(answers, self.now_s)
        self.turns.room()

    def _dropped(self, drop: Drop) -> None:
        self.drops.append((drop.reason, drop.seq))


def imported(number: int, start: int = 1) -> list[bytes]:
    """So many commits of one account, numbered from `start`."""
    return [commit_of(start + n, start + n, IMPORTER) for n in range(number)]


def test_an_import_of_thousands_delays_no_other_account_of_its_host_by_a_second() -> None:
    world = World()
    host = world.host()
    host.say(imported(3000))
    for n in range(10):
        host.say([commit_of(3001 + n, 1 + n, did_of(1))])
        world.run(2.0)
        left = world.at(did_of(1))
        assert len(left) == n + 1
        assert left[-1][0] - 2.0 * n < 0.5
    slowed = world.at(IMPORTER)
    # It had what the others left of each second, and waits in order.
    assert 600 < len(slowed) < 1100
    assert [seq for _s, seq in slowed] == list(range(1, len(slowed) + 1))
    assert len(host.feed.slowed) == 1
    assert host.feed.limited_by is None
    assert host.reads
    assert world.drops == []
    # All of it passes in the end, and what nobody else wants is its own.
    world.run(3600.0)
    assert len(world.at(IMPORTER)) == 3000
    assert host.feed.slowed == {}
    assert world.pipeline.deferred_bytes == host.feed.deferred_bytes == 0
    assert balance_of(world.pipeline).unaccounted == 0


def test_an_import_leaves_half_of_the_hour_to_the_others() -> None:
    world = World()
    host = world.host()
    host.say(imported(3000))
    world.run(300.0)
    passed = len(world.at(IMPORTER))
    # Half of 2,600, and what has come back meanwhile.
    assert 1300 <= passed <= 1300 + 300
    others = [commit_of(4000 + n, 1 + n, did_of(1 + n % 5)) for n in range(900)]
    host.say(others)
    world.run(30.0)
    assert sum(len(world.at(did_of(n))) for n in range(1, 6)) == 900
    assert host.feed.limited_by in (None, "second")


def test_raised_limits_release_an_import_at_once() -> None:
    world = World()
    host = world.host(EventLimits(50, 200, 400))
    host.say(imported(1000))
    world.run(300.0)
    assert len(world.at(IMPORTER)) < 200
    # Minutes may pass until it is looked at again by itself.
    world.turns.set_limits(host, event_limits(10_000_000, trusted=True))  # type: ignore[arg-type]
    world.run(0.05)
    assert len(world.at(IMPORTER)) == 1000
    assert host.feed.slowed == {}


def test_an_ordinary_user_is_never_slowed_on_a_busy_host() -> None:
    world = World()
    host = world.host(event_limits(1000, trusted=False))
    seq = count(1)
    for moment in range(60):
        # Seven users, half of what the host may say in a second.
        host.say(commit_of(next(seq), 1 + moment * 2, did_of(n)) for n in range(7))
        host.say(commit_of(next(seq), 2 + moment * 2, did_of(n)) for n in range(2))
        world.run(1.0)
        assert host.feed.slowed == {}
    assert len(world.sent) + len(world.drops) == 60 * 9
    assert host.feed.limited_by is None


def test_what_waits_is_bounded_in_bytes_and_beyond_that_goes_on_at_the_hosts_pace() -> None:
    size = len(commit_of(1, 1, IMPORTER)) + EVENT_BYTES
    world = World(host_deferred_bytes=64_000 + 100 * size)
    host = world.host()
    host.say(imported(3000))
    world.run(8.0)
    assert world.most_deferred <= 64_000 + 101 * size
    # A bucket of a second, and fifty a second: not half of that.
    passed = len(world.at(IMPORTER))
    assert 350 <= passed <= 50 + 8 * 50 + 10
    assert host.feed.limited_by == "second"
    world.run(3600.0)
    assert len(world.at(IMPORTER)) >= 2600
    assert world.drops == []


def test_what_waits_is_bounded_for_all_hosts_together() -> None:
    size = len(commit_of(1, 1, IMPORTER)) + EVENT_BYTES
    world = World(process_deferred_bytes=64_000 + 100 * size)
    hosts = [world.host(), world.host(source=Source(2, "pds.example.com"))]
    hosts[0].say(imported(1000))
    hosts[1].say(commit_of(1 + n, 1 + n, did_of(1)) for n in range(1000))
    world.run(10.0)
    assert world.most_deferred <= 64_000 + 101 * size
    assert min(len(world.at(IMPORTER)), len(world.at(did_of(1)))) >= 400


def test_a_strangers_commits_use_up_nothing_of_an_account() -> None:
    world = World(hopeless_s=1e9)
    own, stranger = world.host(), world.host(source=Source(2, "stranger.example"))
    stranger.say(commit_of(1 + n, 5000 + n, IMPORTER) for n in range(600))
    world.run(60.0)
    assert world.sent == []
    own.say(imported(20))
    world.run(0.5)
    assert len(world.at(IMPORTER)) == 20


def test_what_comes_back_counts_once() -> None:
    world = World()
    host = world.host()
    host.say(imported(25))
    world.run(0.01)
    used = world.pipeline._accounts.get(IMPORTER).used
    assert 24.9 < used <= 25


def test_a_host_that_goes_to_another_process_takes_along_what_waits() -> None:
    world = World()
    host = world.host()
    host.say(imported(600))
    world.run(2.0)
    assert host.feed.deferred_bytes > 0
    world.turns.forget(host)  # type: ignore[arg-type]
    world.pipeline.release({host.feed}, world.now_s)
    assert world.pipeline.deferred_bytes == host.feed.deferred_bytes == 0
    assert host.feed.unfinished_bytes == 0
    assert host.feed.slowed == {}
    sent = len(world.sent)
    world.run(100.0)
    assert len(world.sent) == sent


# --- an event that is no commit does not wait for long (spec S-ACC-19; the memory of persist) ---

ONE_IN_A_MINUTE = dict.fromkeys(Kind, Rate(burst=2, every_s=60.0))


def test_no_event_waits_for_longer_than_the_bound_and_the_newest_status_is_kept() -> None:
    world = World(rate_s=150.0, account_rates=ONE_IN_A_MINUTE)
    host = world.host()
    host.say([account(1), identity(2), *(account(seq) for seq in range(3, 12))])
    host.say([account(12, active=False, status="deactivated"), commit_of(13, 1, IMPORTER)])
    world.run(1.0)
    world.run(600.0)
    left = world.at(IMPORTER)
    dropped = [seq for reason, seq in world.drops if reason is DropReason.RATE_LIMITED]
    # Two at once, two within the bound; then the newest, and with it all that it kept waiting.
    assert [seq for _s, seq in left] == [1, 2, 3, 4, 5, 12]
    assert dropped == list(range(6, 12))
    assert left[-1][0] <= 240.5
    assert (DropReason.ACCOUNT_INACTIVE, 13) in world.drops or host.feed.held
    assert host.feed.upstream.finished_seq in (12, 13)


# --- any story ---

stories = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 40), st.sampled_from([0.0, 0.1, 1.0, 30.0, 700.0])),
    min_size=1,
    max_size=12,
)
few = st.builds(EventLimits, st.integers(2, 20), st.integers(20, 200), st.integers(40, 400))


@settings(max_examples=60, deadline=None)
@given(few, stories, st.lists(few, max_size=3))
def test_in_any_story_nothing_is_lost_nor_out_of_order_and_the_limits_hold(
    of: EventLimits, story: list[tuple[int, int, float]], changes: list[EventLimits]
) -> None:
    world = World()
    host = world.host(of)
    seq, revs = count(1), [count(1) for _ in range(4)]
    said, changed = 0, False
    for who, number, seconds in story:
        host.say(commit_of(next(seq), next(revs[who]), did_of(who)) for _ in range(number))
        said += number
        world.run(seconds)
        if changes:
            world.turns.set_limits(host, changes.pop())  # type: ignore[arg-type]
            changed = True
        passed_s = world.now_s - START_S
        if not changed:
            rates = zip(of, (1.0, 3600.0, 86_400.0), strict=True)
            assert len(world.sent) <= min(most + passed_s * most / w for most, w in rates) + 1
    for n in range(4):
        seqs = [s for _t, s in world.at(did_of(n))]
        assert seqs == sorted(seqs)
    assert world.drops == []
    assert balance_of(world.pipeline).unaccounted == 0
    # With time all of it passes.
    world.run(20 * 86_400.0)
    assert len(world.sent) == said
    assert host.feed.deferred_bytes == 0
    assert host.feed.upstream.finished_seq == said
