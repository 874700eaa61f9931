"""Is the newest state in memory, within its bound, until PostgreSQL has it?"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from common.envelope import NEVER_SEEN, AccountState
from persist.account import Accounts
from tests.persist.events import commit_over, did

STATES = [commit_over(NEVER_SEEN, number) for number in range(100)]


def test_what_was_changed_last_is_the_newest() -> None:
    accounts = Accounts()
    accounts.learn(did(1), STATES[1])
    accounts.change(did(1), STATES[2], 10)
    accounts.change(did(1), STATES[3], 11)
    assert accounts.get(did(1)) == STATES[3]
    assert accounts.get(did(2)) is None
    assert accounts.begin_flush() == [(did(1), 11, STATES[3])]


def test_a_flush_holds_what_changed_since_the_one_before() -> None:
    accounts = Accounts()
    for number in (1, 2):
        accounts.learn(did(number), NEVER_SEEN)
        accounts.change(did(number), STATES[number], number)
    assert accounts.changed == 2
    assert len(accounts.begin_flush()) == 2
    accounts.change(did(2), STATES[3], 3)
    accounts.end_flush()
    assert accounts.begin_flush() == [(did(2), 3, STATES[3])]


def test_memory_is_bounded_and_keeps_what_is_used() -> None:
    accounts = Accounts(limit=20)
    accounts.learn(did(0), STATES[0])
    for number in range(1, 100):
        accounts.learn(did(number), STATES[number])
        assert accounts.get(did(0)) == STATES[0], number
        assert len(accounts) <= 22
    assert accounts.get(did(1)) is None


def test_what_postgresql_lacks_is_never_let_go() -> None:
    accounts = Accounts(limit=20)
    accounts.learn(did(1), NEVER_SEEN)
    accounts.change(did(1), STATES[1], 1)
    flushed = accounts.begin_flush()
    accounts.learn(did(2), NEVER_SEEN)
    accounts.change(did(2), STATES[2], 2)
    for number in range(3, 100):
        accounts.learn(did(number), STATES[number])
    # One is being written, the other waits for the next flush.
    assert accounts.get(did(1)) == STATES[1]
    assert accounts.get(did(2)) == STATES[2]
    assert flushed == [(did(1), 1, STATES[1])]
    for number in range(3, 100):
        accounts.learn(did(number), STATES[number])
    accounts.end_flush()
    assert accounts.begin_flush() == [(did(2), 2, STATES[2])]
    accounts.end_flush()
    for number in range(3, 100):
        accounts.learn(did(number), STATES[number])
    assert accounts.get(did(1)) is None
    assert accounts.get(did(2)) is None


def test_a_change_outlives_the_older_state_of_its_account() -> None:
    accounts = Accounts(limit=4)
    accounts.learn(did(1), STATES[1])
    for number in (2, 3):
        accounts.learn(did(number), STATES[number])
    accounts.change(did(1), STATES[9], 9)
    for number in (4, 5):
        accounts.learn(did(number), STATES[number])
    assert accounts.get(did(1)) == STATES[9]


def stale_in_the_old_generation() -> Accounts:
    """One account is in both generations: an older state in the old one, the newest in the young."""
    accounts = Accounts(limit=4)
    accounts.learn(did(1), STATES[1])
    accounts.learn(did(2), STATES[2])
    assert accounts.get(did(1)) == STATES[1]
    # The generations have turned; it changes, and is packed again.
    accounts.change(did(1), STATES[9], 9)
    accounts.learn(did(3), STATES[3])
    return accounts


def test_the_young_generation_is_the_newer_one() -> None:
    accounts = stale_in_the_old_generation()
    assert accounts.get(did(1)) == STATES[9]


def test_what_is_kept_for_the_view_is_the_newest() -> None:
    accounts = stale_in_the_old_generation()
    accounts.learn(did(4), STATES[4])
    assert accounts.begin_flush() == [(did(1), 9, STATES[9])]
    assert accounts.get(did(1)) == STATES[9]


@settings(max_examples=300)
@given(
    limit=st.integers(4, 20),
    steps=st.lists(
        st.tuples(st.sampled_from(["ask", "ask", "change", "begin", "end"]), st.integers(0, 5)),
        max_size=200,
    ),
)
def test_what_is_found_is_the_newest_and_only_what_is_written_is_let_go(
    limit: int, steps: list[tuple[str, int]]
) -> None:
    accounts = Accounts(limit)
    newest: dict[str, AccountState] = {}
    written: dict[str, AccountState] = {}
    flushing: list[tuple[str, int, AccountState]] | None = None
    for seq, (what, number) in enumerate(steps, 1):
        name = did(number)
        if what == "begin" and flushing is None:
            flushing = accounts.begin_flush()
            assert all(newest[told] == state for told, _seq, state in flushing)
        elif what == "end" and flushing is not None:
            written |= {told: state for told, _seq, state in flushing}
            flushing = None
            accounts.end_flush()
        elif what in ("ask", "change"):
            state = accounts.get(name)
            if state is None:
                # Then PostgreSQL is asked, which must not be behind.
                state = newest.get(name, NEVER_SEEN)
                assert state == written.get(name, NEVER_SEEN)
                accounts.learn(name, state)
            assert state == newest.get(name, NEVER_SEEN)
            if what == "change":
                newest[name] = commit_over(state, seq)
                accounts.change(name, newest[name], seq)
    # In the end all of it is told.
    if flushing is not None:
        written |= {told: state for told, _seq, state in flushing}
        accounts.end_flush()
    written |= {told: state for told, _seq, state in accounts.begin_flush()}
    assert written == newest
