"""All orders in which a migration can happen, in which of them does it go wrong? In none.

Two hosts speak of one account at once, its document changes at any moment, look-ups take their
time and may bring what has just become old, and two processes race for persist. See
tests.ingest.worlds for what is walked through, and what is not.

Source: lesson 51; S-AUT-05, S-AUT-07, S-MIG-02, S-MIG-05.
"""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from common.envelope import Kind, Mark
from common.verdict import DropReason
from ingest.did_document import Identity, parse_document
from tests.ingest.worlds import NEW, OLD, Story, World, explore
from tests.simnet.account import Account, plc_did
from tests.simnet.clock import Clock
from tests.simnet.events import Event
from tests.simnet.keys import Curve

START_US = 500_000_000
RIGHTFUL = (DropReason.HOST_NOT_AUTHORITATIVE, DropReason.REV_NOT_NEWER)
"""Why what a host said before it lost the account may be dropped once it has lost it."""


def identity_of(account: Account, host: str) -> Identity:
    document = orjson.dumps(account.document(f"https://{host}"))
    found = parse_document(document, account.did, allow_insecure=False)
    assert isinstance(found, Identity)
    return found


def numbered(events: list[tuple[Event, bool]], first: int = 1) -> list[tuple[bytes, bool]]:
    return [(event.frame(seq), late) for seq, (event, late) in enumerate(events, first)]


def migration(commits: int = 2, **changed: Any) -> Story:
    """So many commits at the old host; then at the new one, with a new key, while the old one still speaks.

    Of the account one commit more is known from before.
    """
    rng, clock = random.Random(1), Clock(START_US)
    account = Account(plc_did("mover"), "mover.test", Curve.K256, clock, "mover", 0)
    before = identity_of(account, OLD.hostname)
    said = [(account.commit(account.choose_writes(rng)), False) for _ in range(1 + commits)]
    account.new_key()
    after = identity_of(account, NEW.hostname)
    new = [account.identity(), account.account()]
    new += [account.commit(account.choose_writes(rng)) for _ in range(commits)]
    late = account.account_as("deactivated")
    known, *old = numbered([*said, (late, True)])
    story = Story(
        account.did,
        old,
        numbered([(event, True) for event in new]),
        before,
        after,
        known=[known[0]],
    )
    for name, value in changed.items():
        setattr(story, name, value)
    return story


def check_migration(world: World) -> None:
    """Nothing can happen any more: is everything as it has to be?"""
    log, story = world.log, world.story
    said = [(judged.host, judged.upstream_seq) for judged in log]
    assert len(set(said)) == len(said), "something left twice"
    commits = [judged for judged in log if judged.kind == Kind.COMMIT]
    revs = [judged.after.rev or "" for judged in commits]
    assert revs == sorted(set(revs)), "revs do not rise"
    hosts = [judged.host for judged in log if judged.kind != Kind.IDENTITY]
    assert hosts == sorted(hosts), "the old host still had a say after the new one"
    new = [seq for host, seq in said if host == NEW.host]
    assert new == list(range(1, len(story.new) + 1)), "something of the new host was lost"
    assert (world.state.active, world.state.host) == (True, NEW.host)
    for process in world.processes:
        assert process.pipeline.held == process.pipeline.in_flight == 0
        assert process.pipeline.unfinished_bytes == 0
        for host, seq, reason in process.drops:
            assert host == OLD.host
            assert reason in RIGHTFUL, (seq, reason)
    old = [seq for host, seq in said if host == OLD.host]
    assert old == sorted(old)
    last = len(story.known) + len(story.old)
    assert last not in old, "the old host silenced the account"
    assert [feed.upstream.finished_seq for feed in world.feeds] == [last, len(story.new)]
    # The chain: a commit is called discontinuous exactly if the one before it was dropped.
    before = {judged.after.commit for judged in commits}
    previous = None
    for judged in commits:
        gap = previous is not None and _number(story, judged) != _number(story, previous) + 1
        assert bool(judged.marks & Mark.DISCONTINUOUS) == gap, judged
        previous = judged
    assert len(before) == len(commits)


def _number(story: Story, judged: Any) -> int:
    """Which of the account's commits this is."""
    if judged.host == OLD.host:
        return int(judged.upstream_seq)
    return len(story.known) + len(story.old) - 1 + int(judged.upstream_seq) - 2


def test_a_migration_between_two_processes_in_every_order() -> None:
    worlds, ends = explore(migration(patient=False), check_migration, 100_000)
    assert worlds > 10_000
    assert ends > 10


@pytest.mark.slow
def test_a_migration_between_two_processes_in_every_order_with_questions_that_are_begun_late() -> (
    None
):
    worlds, _ends = explore(migration(), check_migration, 200_000)
    assert worlds > 20_000


def test_a_migration_within_one_process_in_every_order() -> None:
    worlds, ends = explore(migration(processes=(0, 0)), check_migration, 100_000)
    assert worlds > 1_000
    assert ends > 1


def test_a_migration_while_a_look_up_fails_in_every_order() -> None:
    # One commit less at each host, as the failure can come anywhere.
    story = migration(commits=1, failures=1, patient=False)
    worlds, ends = explore(story, check_migration, 200_000)
    assert worlds > 3_000
    assert ends > 1


def silent_key_change() -> Story:
    """A commit under the old key, then two under the new one, of which no #identity tells."""
    rng, clock = random.Random(2), Clock(START_US)
    account = Account(plc_did("silent"), "silent.test", Curve.K256, clock, "silent", 0)
    before = identity_of(account, OLD.hostname)
    said = [(account.commit(account.choose_writes(rng)), False) for _ in range(2)]
    account.new_key()
    said += [(account.commit(account.choose_writes(rng)), True) for _ in range(2)]
    known, *stream = numbered(said)
    after = identity_of(account, OLD.hostname)
    return Story(account.did, stream, [], before, after, known=[known[0]], failures=1)


def check_silent_key_change(world: World) -> None:
    process = world.reader(0)
    dropped = {seq: reason for _host, seq, reason in process.drops}
    # S-IDN-15: what was signed with the old key is nothing once the document has the new one.
    assert dropped in ({}, {2: DropReason.SIGNATURE_INVALID})
    seqs = [judged.upstream_seq for judged in world.log]
    assert seqs == [seq for seq in range(1, 5) if seq not in dropped]
    marked = [judged.upstream_seq for judged in world.log if judged.marks]
    assert marked == ([3] if dropped else [])
    assert process.pipeline.held == process.pipeline.in_flight == 0


def test_a_silent_change_of_the_key_in_every_order() -> None:
    worlds, ends = explore(silent_key_change(), check_silent_key_change, 100_000)
    assert worlds > 50
    assert ends > 1


def missed_return() -> Story:
    """An account whose `#account` of its first return is lost; it goes, and returns, once more.

    What its host says: it is gone (1), a commit (2), it is gone (3), it is back (4), a commit (5).
    """
    rng, clock = random.Random(3), Clock(START_US)
    account = Account(plc_did("missed"), "missed.test", Curve.K256, clock, "missed", 0)
    document = identity_of(account, OLD.hostname)
    gone, back = account.account_as("deactivated"), account.account_as(None)
    first, second, third = (account.commit(account.choose_writes(rng)) for _ in range(3))
    said = [first, gone, second, account.account_as("deactivated"), back, third]
    known, *stream = numbered([(event, False) for event in said])
    statuses = [True, False, True, False, True, True]
    return Story(
        account.did, stream, [], document, document, known=[known[0]], patient=False,
        statuses=statuses,
    )  # fmt: skip


def check_missed_return(world: World) -> None:
    process = world.reader(0)
    assert world.state.active
    assert process.pipeline.held == process.pipeline.in_flight == 0
    dropped = {seq: reason for _host, seq, reason in process.drops}
    # If the host was asked only when it was gone again, it said so.
    assert dropped in ({}, {3: DropReason.ACCOUNT_INACTIVE})
    said = [(judged.upstream_seq, judged.marks & Mark.OURS) for judged in world.log]
    assert [seq for seq, ours in said if not ours] == [
        seq for seq in range(1, 7) if seq not in dropped
    ]
    # What we say stands right before the commit that made us ask, and says that it is active.
    ours = [at for at, (_seq, is_ours) in enumerate(said) if is_ours]
    assert [said[at] for at in ours] == ([] if dropped else [(3, Mark.OURS)])
    for at in ours:
        assert world.log[at].after.active
        assert said[at + 1] == (3, 0)


def test_a_return_that_was_missed_in_every_order() -> None:
    story = missed_return()
    worlds, ends = explore(story, check_missed_return, 100_000)
    assert worlds > 500
    assert ends > 1
