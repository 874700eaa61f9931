"""Everything that can be true of a commit, in every combination, against the rules in plain words.

A commit here is a handful of facts; the rules say what becomes of it, written down once more with
nothing of the judge's in them. Each combination is built, rightly signed where it should be, and
judged: 69,120 of them. (S-DSY-01: no combination is dropped for what is only discontinuous.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any, Final, NamedTuple

from common.envelope import NEVER_SEEN, AccountState, Mark
from common.event import Event
from common.verdict import Drop, DropReason, Level
from ingest.did_document import Broken, NotFound
from ingest.judge import Accept, Known, NeedFreshIdentity, NeedStatus, Source, Verdict, judge
from tests.common.commits import EMPTY, KEY, NODE, REV, SINCE, cid, commit_block, link
from tests.ingest.events_by_hand import HOST, IDENTITY, NOW_S, OTHER, TOO_NEW, commit

OLDER: Final = "3mptb22222222"


class Facts(NamedTuple):
    """What is true of a commit and of what we know when it comes.

    rev: against ours. document: what it says of the host that speaks. prev_data: against what the
    operations lead back to. since: against our rev. ours: whether our tree is the one that they
    lead back to. last: who spoke for the account before.
    """

    rev: str
    document: str
    prev_data: str
    since: str
    ours: bool
    last: str
    seen: bool
    active: bool
    right_key: bool
    right_signed_rev: bool
    fresh: bool
    asked: bool
    observed: bool


def combinations(*choices: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield from product(*choices)


ALL: Final = [
    Facts(*facts)
    for facts in combinations(
        ("newer", "equal", "older", "future"),
        ("names it", "names another", "is broken", "is not there"),
        ("right", "wrong", "missing"),
        ("ours", "another", "null"),
        (True, False),
        ("itself", "another", "nobody"),
        *[(True, False)] * 7,
    )
    # What was never seen has nothing to differ from.
    if facts[6] or (facts[4] and facts[0] in ("newer", "future"))
]


def conclusively(*, fresh: bool) -> str:
    """What becomes of an event that its document speaks against."""
    return "drop" if fresh else "look up"


def of_document(document: str, *, fresh: bool) -> tuple[object, ...] | None:
    """What is said of the document alone, of whatever kind the event is; None: nothing."""
    reasons = {
        "is broken": DropReason.IDENTITY_BROKEN,
        "is not there": DropReason.IDENTITY_NOT_FOUND,
        "names another": DropReason.HOST_NOT_AUTHORITATIVE,
    }
    return (conclusively(fresh=fresh), reasons[document]) if document in reasons else None


def in_words(verdict: Verdict) -> tuple[object, ...]:
    if isinstance(verdict, Drop):
        return ("drop", verdict.reason)
    if isinstance(verdict, NeedFreshIdentity):
        return ("look up", verdict.otherwise)
    if isinstance(verdict, NeedStatus):
        return ("ask",)
    return ("pass",)


def expected(facts: Facts) -> tuple[object, ...]:
    """What the specification says of these facts, in its order."""
    if facts.seen and facts.rev in ("equal", "older"):
        return ("drop", DropReason.REV_NOT_NEWER)
    if facts.rev == "future":
        return ("drop", DropReason.REV_IN_FUTURE)
    refused = of_document(facts.document, fresh=facts.fresh)
    if refused is not None:
        return refused
    if facts.last == "another" and not facts.fresh:
        return ("look up", DropReason.HOST_NOT_AUTHORITATIVE)
    if not facts.active:
        return ("drop", DropReason.ACCOUNT_INACTIVE) if facts.asked else ("ask",)
    if not facts.right_signed_rev:
        return ("drop", DropReason.COMMIT_MISMATCH)
    if not facts.right_key:
        return (conclusively(fresh=facts.fresh), DropReason.SIGNATURE_INVALID)
    is_first = not facts.seen and facts.since == "null"
    fault = None
    if facts.prev_data == "missing" and not is_first:
        fault = DropReason.PREV_DATA_MISSING
    if facts.prev_data == "wrong":
        fault = DropReason.PREV_DATA_MISMATCH
    if fault is not None and not facts.observed:
        return ("drop", fault)
    gap = facts.seen and not follows(facts)
    return ("pass", fault, gap)


def follows(facts: Facts) -> bool:
    """Whether `since` and `prevData` both lead on from what we have."""
    same_tree = facts.ours and facts.prev_data == "right"
    if facts.since == "ours":
        return same_tree or facts.prev_data == "missing"
    return facts.since == "null" and same_tree


@cache
def event_of(
    rev: str, since: str, prev_data: str, right_key: bool, right_signed_rev: bool
) -> Event:
    """The commit of these facts; its operations lead back to the empty tree."""
    said = {"newer": REV, "equal": SINCE, "older": OLDER, "future": TOO_NEW}[rev]
    block = commit_block(
        key=KEY if right_key else OTHER, rev=said if right_signed_rev else "3mptbypzzzzzz"
    )
    return commit(
        block,
        rev=said,
        since={"ours": SINCE, "another": "3mptbwzzzzzzz", "null": None}[since],
        prevData={"right": link(cid(EMPTY)), "wrong": link(cid(NODE)), "missing": ...}[prev_data],
    )


DOCUMENTS: Final[dict[str, Known]] = {
    "names it": IDENTITY,
    "names another": IDENTITY._replace(host="other.example.com"),
    "is broken": Broken("x"),
    "is not there": NotFound("x"),
}


def state_of(facts: Facts) -> AccountState:
    """What we have of the account."""
    host = {"itself": HOST.host, "another": 9, "nobody": 0}[facts.last]
    if not facts.seen:
        return NEVER_SEEN._replace(active=facts.active, host=host)
    data = cid(EMPTY) if facts.ours else cid(b"another tree")
    return AccountState(SINCE, data, cid(b"commit"), facts.active, None, host)


def found_of(facts: Facts) -> tuple[object, ...]:
    """What the judge says of these facts."""
    state = state_of(facts)
    event = event_of(
        facts.rev, facts.since, facts.prev_data, facts.right_key, facts.right_signed_rev
    )
    verdict = judge(
        event,
        DOCUMENTS[facts.document],
        state,
        Source(HOST.host, HOST.hostname, Level.OBSERVE if facts.observed else Level.ENFORCE),
        now_s=NOW_S,
        fresh=facts.fresh,
        asked=facts.asked,
    )
    if not isinstance(verdict, Accept):
        return in_words(verdict)
    after = verdict.after
    assert (after.rev, after.data, after.commit) == (event.rev, cid(NODE), event.commit)
    assert (after.active, after.status, after.host) == (True, None, HOST.host)
    gap = bool(verdict.marks & Mark.DISCONTINUOUS)
    assert (after.desynchronized, after.discontinuities) == (gap, int(gap))
    assert bool(verdict.marks & Mark.WAIVED) is (verdict.waived is not None)
    return ("pass", verdict.waived, gap)


def test_the_judge_says_what_the_rules_say() -> None:
    differ = [facts for facts in ALL if found_of(facts) != expected(facts)]
    assert [(facts, found_of(facts), expected(facts)) for facts in differ[:5]] == []


def test_every_outcome_is_among_them() -> None:
    outcomes = {expected(facts) for facts in ALL}
    assert len(ALL) == 69_120
    assert {outcome for outcome in outcomes if outcome[0] == "pass"} == set(
        product(
            ("pass",),
            (None, DropReason.PREV_DATA_MISSING, DropReason.PREV_DATA_MISMATCH),
            (True, False),
        )
    )
    assert ("ask",) in outcomes
    assert Counter(outcome[0] for outcome in outcomes) == {
        "pass": 6, "drop": 10, "look up": 4, "ask": 1,
    }  # fmt: skip
