"""When a directory is suspected, and when it is a DID's own fault."""

from __future__ import annotations

from ingest.directory import WINDOW_DIDS, WINDOW_S, Answer, Directory


def answers(directory: Directory, kind: Answer, count: int, now_s: float = 0.0) -> None:
    for number in range(count):
        directory.note(f"{kind.value}-{number}", kind, now_s)


def test_one_did_that_fails_again_and_again_is_alone() -> None:
    directory = Directory()
    for second in range(50):
        directory.note("did:plc:one", Answer.FAILED, float(second))
    assert not directory.fails(50.0)
    assert not directory.is_suspect(50.0)


def test_most_dids_failing_is_the_directorys_fault() -> None:
    directory = Directory()
    answers(directory, Answer.FOUND, 5)
    answers(directory, Answer.FAILED, 5)
    assert not directory.fails(1.0)
    directory.note("another", Answer.FAILED, 1.0)
    assert directory.fails(1.0)


def test_not_found_for_most_is_suspect_but_no_failure() -> None:
    directory = Directory()
    answers(directory, Answer.NOT_FOUND, 10)
    assert directory.is_suspect(1.0)
    assert not directory.fails(1.0)


def test_what_failed_long_ago_counts_no_longer() -> None:
    directory = Directory()
    answers(directory, Answer.FAILED, 10)
    assert directory.fails(WINDOW_S)
    assert not directory.fails(WINDOW_S + 1)


def test_the_dids_last_found_are_remembered() -> None:
    directory = Directory()
    assert not directory.known_dids
    for did in "abcda":
        directory.note(did, Answer.FOUND, 0.0)
    directory.note("e", Answer.NOT_FOUND, 0.0)
    assert directory.known_dids == ("a", "d", "c")


def test_who_is_not_found_yet_when_the_directory_is_back_is_late_and_not_alone() -> None:
    directory = Directory()
    answers(directory, Answer.FAILED, 10)
    answers(directory, Answer.FOUND, 20)
    assert not directory.fails(1.0)
    assert directory.has_failed_within(5.0, 1.0)
    directory.note("late", Answer.FAILED, 4.0)
    assert directory.has_failed_within(5.0, 4.0)
    assert not directory.has_failed_within(5.0, 40.0)


def test_a_did_that_is_asked_again_is_among_the_newest_and_not_soon_let_go() -> None:
    directory = Directory()
    answers(directory, Answer.FAILED, 4)
    answers(directory, Answer.FOUND, WINDOW_DIDS - 4)
    answers(directory, Answer.FAILED, 4, 2 * WINDOW_S)
    for number in range(3):
        directory.note(f"new-{number}", Answer.FOUND, 2 * WINDOW_S)
    assert directory.fails(2 * WINDOW_S)


def test_a_directory_that_no_longer_finds_whom_it_knew_fails_until_it_finds_somebody() -> None:
    directory = Directory()
    answers(directory, Answer.FOUND, 50)
    directory.note("one", Answer.FAILED, 1.0)
    assert not directory.fails(1.0)
    directory.lost(1.0)
    assert directory.fails(1.0)
    # However long nobody asks.
    assert directory.fails(1e6)
    assert directory.has_failed_within(1.0, 1e6)
    directory.note("two", Answer.NOT_FOUND, 2.0)
    assert directory.fails(2.0)
    directory.note("three", Answer.FOUND, 3.0)
    assert not directory.fails(3.0)
    assert directory.has_failed_within(5.0, 3.0)
    assert not directory.has_failed_within(0.5, 3.0)


def test_a_directory_that_wants_to_be_left_alone_is_no_reason_to_drop_anything() -> None:
    directory = Directory()
    answers(directory, Answer.FOUND, 10)
    directory.refused(1.0)
    assert not directory.fails(1.0)
    assert directory.has_failed_within(5.0, 6.0)
    assert not directory.has_failed_within(5.0, 7.0)


def test_whom_it_found_before_this_process_began_it_has_known() -> None:
    directory = Directory()
    for did in "abcd":
        directory.knows(did)
    assert directory.known_dids == ("d", "c", "b")
    assert not directory.fails(0.0)
