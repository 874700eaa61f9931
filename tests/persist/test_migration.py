"""Both hosts of a migration speak at once: does persist arbitrate right in every interleaving?

Two ingest processes read one host each, and judge against their own copy of the account's state.
Here they judge as simply as can be; when each of them judges, and when it hears of its answers,
is tried in every order there is. What ingest does between is tests/ingest/test_interleavings.py's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import pytest

from common.account_state import state_after
from common.chunk import ROW, Row
from common.envelope import NEVER_SEEN, AccountState, Batch, Judged, Kind, Mark, base_of
from persist.account import Accounts
from persist.duplicates import Duplicates
from persist.recall import Recalls
from persist.sequencer import Sequencer
from persist.tally import Tallies
from tests.persist.events import DID, commit_over, judged

OLD: Final = 1
NEW: Final = 2
"""Numbers of the hosts; the members that read them are 0 and 1."""
STORED: Final = commit_over(NEVER_SEEN, 1, OLD)


class Said(NamedTuple):
    """One message of a host's: a commit on top of `since`, or an #account."""

    kind: Kind
    number: int
    since: int = 0


COMMIT, SYNC, ACCOUNT = Kind.COMMIT, Kind.SYNC, Kind.ACCOUNT


class Process:
    """One ingest process with one host's stream of the account."""

    def __init__(self, host: int, said: list[Said]) -> None:
        self.host = host
        self.said = said
        self.copy = STORED
        self.waiting = list(enumerate(said, 1))
        self.in_flight: dict[int, tuple[int, Said]] = {}
        self.recalled: list[tuple[int, int, Said]] = []
        self.answers: list[tuple[str, int, AccountState | None]] = []
        self.recall = 0
        self.position = 0
        self.dropped: list[Said] = []

    def judge(self) -> tuple[Judged, bytes] | None:
        """The next message, judged against our copy; None when it is dropped."""
        upstream_seq, said = self.waiting.pop(0)
        # The document names the new host: the old one is powerless once that was looked up, at
        # the latest where the new one has spoken.
        if (self.host == OLD and self.copy.host == NEW) or not self._newer(said):
            self.dropped.append(said)
            return None
        state, marks = self.copy, 0
        after = state._replace(host=self.host)
        if said.kind is ACCOUNT:
            after = after._replace(active=self.host == NEW, status=None)
        else:
            after = commit_over(state, said.number, self.host)
            follows = commit_over(NEVER_SEEN, said.since).rev == state.rev
            marks = int(Mark.DISCONTINUOUS) if said.kind is COMMIT and not follows else 0
        self.copy = state_after(state, said.kind, after, self.host, marks)
        self.position += 1
        self.in_flight[self.position] = (upstream_seq, said)
        return judged(
            self.position, state=state, after=after, host=self.host, kind=said.kind,
            upstream_seq=upstream_seq, recall=self.recall, marks=marks,
        )  # fmt: skip

    def hear(self) -> None:
        """Take the next answer in; when all are there, what came back is judged again first."""
        what, position, state = self.answers.pop(0)
        upstream_seq, said = self.in_flight.pop(position)
        if what == "back":
            assert state is not None
            self.copy = state
            self.recalled.append((position, upstream_seq, said))
        if self.recalled and not self.in_flight:
            self.recall += 1
            again = [(upstream, each) for _, upstream, each in sorted(self.recalled)]
            self.waiting, self.recalled = again + self.waiting, []

    def _newer(self, said: Said) -> bool:
        if said.kind is ACCOUNT:
            return True
        rev = commit_over(NEVER_SEEN, said.number).rev
        assert rev is not None
        return self.copy.rev is None or rev > self.copy.rev


class World:
    """Persist, both processes, and what was logged."""

    def __init__(self, old: list[Said], new: list[Said], *, known: bool) -> None:
        self.processes = [Process(OLD, old), Process(NEW, new)]
        self.accounts = Accounts()
        self.sequencer = Sequencer(1, 1, self.accounts, Duplicates(), Recalls(), Tallies())
        self.logged: list[tuple[int, Said, Judged]] = []
        self._sent: dict[tuple[int, int], tuple[Said, Judged]] = {}
        if known:
            self.accounts.learn(DID, STORED)

    def choices(self) -> list[Callable[[], None]]:
        """Whatever may happen next."""
        found: list[Callable[[], None]] = []
        for member, process in enumerate(self.processes):
            if process.waiting and not process.recalled:
                found.append(lambda member=member: self._send(member))  # type: ignore[misc]
            if process.answers:
                found.append(process.hear)
        if self.sequencer.wanted:
            found.append(self._found)
        return found

    def _send(self, member: int) -> None:
        process = self.processes[member]
        sent = process.judge()
        if sent is None:
            return
        event, frame = sent
        self._sent[member, event.position] = (process.in_flight[event.position][1], event)
        batch = Batch(member, 1, [event], [frame], log_epoch=1)
        assert self.sequencer.admit(b"%d" % member, batch)
        list(self.sequencer.take(b"%d" % member, batch))
        self._answer()

    def _found(self) -> None:
        self.sequencer.wanted = []
        list(self.sequencer.resolve(DID, STORED))
        self._answer()

    def _answer(self) -> None:
        group = self.sequencer.cut()
        done: list[tuple[int, int, str, AccountState | None]] = []
        for route, reply in group.replies.items():
            member = int(route)
            done += [(member, position, "logged", None) for position in reply.logged]
            done += [(member, position, "back", state) for position, state in reply.back]
            assert not reply.duplicate
        for row in map(Row._make, map(ROW.unpack, group.rows)):
            said, event = self._sent[row.host - OLD, row.position]
            self.logged.append((row.host, said, event))
        for member, position, what, state in sorted(done, key=lambda each: each[1]):
            self.processes[member].answers.append((what, position, state))


def every_order(
    old: list[Said], new: list[Said], *, known: bool, check: Callable[[World], None]
) -> int:
    """Run every order of what may happen; how many there are."""
    count, path = 0, [0]
    while True:
        world = World(old, new, known=known)
        widths: list[int] = []
        while choices := world.choices():
            at = len(widths)
            if at == len(path):
                path.append(0)
            widths.append(len(choices))
            choices[path[at]]()
        check(world)
        count += 1
        path = path[: len(widths)]
        while path and path[-1] + 1 == widths[len(path) - 1]:
            path.pop()
        if not path:
            return count
        path[-1] += 1


def check(world: World) -> None:
    hosts = [host for host, _, _ in world.logged]
    # The old host is powerless from the new one's first word on.
    assert hosts == sorted(hosts)
    # All that the new host said is there, in its order, and so is what the old one said before.
    of_old, of_new = world.processes
    assert [said for host, said, _ in world.logged if host == NEW] == of_new.said
    count = hosts.count(OLD)
    assert [said for host, said, _ in world.logged if host == OLD] == of_old.said[:count]
    assert of_old.dropped == of_old.said[count:]
    # No verdict was reached against another state than the one it was logged over, the chain goes
    # on from host to host, and is marked just where it does not.
    state = STORED
    for _host, said, event in world.logged:
        assert event.base == base_of(state)
        if said.kind is COMMIT:
            assert state.active, "a commit of an inactive account"
            assert state.rev is not None
            assert (event.after.rev or "") > state.rev
            follows = commit_over(NEVER_SEEN, said.since).rev == state.rev
            assert bool(event.marks & Mark.DISCONTINUOUS) != follows
        state = state_after(state, said.kind, event.after, event.host, event.marks)
    assert world.accounts.get(DID) == state
    assert all(not process.in_flight for process in world.processes)
    assert not world.sequencer.waiting_events


LAST: Final = [Said(COMMIT, 2, 1), Said(COMMIT, 3, 2)]
STORIES: Final = {
    "the new host goes on where the old one ended": (LAST, [Said(ACCOUNT, 0), Said(COMMIT, 4, 3)]),
    "the new host begins with a sync": (LAST, [Said(SYNC, 5), Said(COMMIT, 6, 5)]),
    "the old host silences the account behind": (
        [Said(COMMIT, 2, 1), Said(ACCOUNT, 0)],
        [Said(ACCOUNT, 0), Said(COMMIT, 4, 2)],
    ),
    "the old host has much to say": (
        [Said(COMMIT, 2, 1), Said(COMMIT, 3, 2), Said(ACCOUNT, 0)],
        [Said(ACCOUNT, 0)],
    ),
    "the new host never saw the last commit": (LAST, [Said(ACCOUNT, 0), Said(COMMIT, 9, 2)]),
    "the new host has much to say": (
        [Said(COMMIT, 2, 1)],
        [Said(ACCOUNT, 0), Said(COMMIT, 4, 2), Said(SYNC, 5)],
    ),
}


@pytest.mark.parametrize("known", [True, False], ids=["in memory", "to be looked up"])
@pytest.mark.parametrize("story", STORIES)
def test_every_interleaving_of_a_migration_keeps_order_chain_and_authority(
    story: str, known: bool
) -> None:
    old, new = STORIES[story]
    assert every_order(old, new, known=known, check=check) > 100
