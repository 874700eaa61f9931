"""As test_judge_product.py: everything that can be true of a sync, an account or identity event."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Final, NamedTuple

from common.envelope import NEVER_SEEN, AccountState, Mark
from common.event import Event
from common.verdict import Drop, DropReason, Level
from ingest.judge import Accept, Source, judge
from tests.common.commits import EMPTY, KEY, NODE, REV, SINCE, cid, commit_block
from tests.ingest.events_by_hand import (
    HOST,
    NOW_S,
    OTHER,
    TOO_NEW,
    account,
    identity,
    sync,
)
from tests.ingest.test_judge_product import (
    DOCUMENTS,
    combinations,
    conclusively,
    in_words,
    of_document,
)

REVS: Final = {"newer": REV, "equal": SINCE, "older": "3mptb22222222", "future": TOO_NEW}
HOSTS: Final = {"itself": HOST.host, "another": 9, "nobody": 0}
BOTH: Final = (True, False)


class SyncFacts(NamedTuple):
    """rev, last: as in test_judge_product.py. same: its commit is the one we have."""

    rev: str
    document: str
    last: str
    seen: bool
    same: bool
    active: bool
    right_key: bool
    right_signed_rev: bool
    fresh: bool
    asked: bool
    observed: bool
    gap_before: bool


SYNCS: Final = [
    SyncFacts(*facts)
    for facts in combinations(tuple(REVS), tuple(DOCUMENTS), tuple(HOSTS), *[BOTH] * 9)
    if facts[3] or (facts[0] in ("newer", "future") and not facts[4])
]


def expected_of_sync(facts: SyncFacts) -> tuple[object, ...]:
    if facts.seen and facts.rev == "older":
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
        return ("drop", DropReason.SYNC_NOT_RESIGNED)
    if facts.rev == "equal" and not facts.same:
        return ("drop", DropReason.REV_NOT_NEWER)
    if not facts.right_key:
        return (conclusively(fresh=facts.fresh), DropReason.SIGNATURE_INVALID)
    return ("pass",)


@cache
def block_of(rev: str, right_key: bool, right_signed_rev: bool) -> bytes:
    said = REVS[rev] if right_signed_rev else "3mptbypzzzzzz"
    return commit_block(key=KEY if right_key else OTHER, rev=said)


@cache
def sync_of(rev: str, right_key: bool, right_signed_rev: bool) -> Event:
    return sync(block_of(rev, right_key, right_signed_rev), rev=REVS[rev])


def state_before(facts: SyncFacts) -> AccountState:
    host = HOSTS[facts.last]
    if not facts.seen:
        return NEVER_SEEN._replace(active=facts.active, host=host)
    commit = cid(b"another")
    if facts.same:
        commit = cid(block_of(facts.rev, facts.right_key, facts.right_signed_rev))
    gaps = int(facts.gap_before)
    data = cid(NODE) if facts.same else cid(EMPTY)
    return AccountState(SINCE, data, commit, facts.active, None, host, facts.gap_before, gaps)


def source_of(observed: bool) -> Source:
    return Source(HOST.host, HOST.hostname, Level.OBSERVE if observed else Level.ENFORCE)


def found_of_sync(facts: SyncFacts) -> tuple[object, ...]:
    state = state_before(facts)
    verdict = judge(
        sync_of(facts.rev, facts.right_key, facts.right_signed_rev),
        DOCUMENTS[facts.document],
        state,
        source_of(facts.observed),
        now_s=NOW_S,
        fresh=facts.fresh,
        asked=facts.asked,
    )
    if isinstance(verdict, Accept):
        after = verdict.after
        if facts.seen and facts.rev == "equal":
            assert after == state._replace(host=HOST.host)
        else:
            assert after == AccountState(
                REV, cid(NODE), after.commit, True, None, HOST.host, False, state.discontinuities
            )
        assert (verdict.marks, verdict.waived) == (Mark(0), None)
    return in_words(verdict)


def test_of_syncs_the_judge_says_what_the_rules_say() -> None:
    differ = [facts for facts in SYNCS if found_of_sync(facts) != expected_of_sync(facts)]
    assert [(facts, found_of_sync(facts)) for facts in differ[:5]] == []
    outcomes = {expected_of_sync(facts) for facts in SYNCS}
    assert Counter(outcome[0] for outcome in outcomes) == {
        "pass": 1, "drop": 8, "look up": 4, "ask": 1,
    }  # fmt: skip


class AccountFacts(NamedTuple):
    """says: what of the account's status."""

    document: str
    last: str
    says: tuple[bool, str | None]
    seen: bool
    active: bool
    fresh: bool
    observed: bool


SAYS: Final = ((True, None), (True, "throttled"), (False, None), (False, "deleted"), (False, "odd"))
ACCOUNTS: Final = [
    AccountFacts(*facts)
    for facts in combinations(tuple(DOCUMENTS), tuple(HOSTS), SAYS, *[BOTH] * 4)
]


def expected_of_account(facts: AccountFacts) -> tuple[object, ...]:
    refused = of_document(facts.document, fresh=facts.fresh)
    if refused is not None:
        return refused
    silences = not facts.says[0]
    if not facts.fresh and (silences or facts.last == "another"):
        return ("look up", DropReason.HOST_NOT_AUTHORITATIVE)
    return ("pass",)


def test_of_account_events_the_judge_says_what_the_rules_say() -> None:
    differ = []
    for facts in ACCOUNTS:
        seen = AccountState(SINCE, cid(EMPTY), cid(b"c"), True, None, 0, True, 3)
        state = (seen if facts.seen else NEVER_SEEN)._replace(
            active=facts.active, host=HOSTS[facts.last]
        )
        active, status = facts.says
        said = account(active=active, status=... if status is None else status)
        verdict = judge(
            said,
            DOCUMENTS[facts.document],
            state,
            source_of(facts.observed),
            now_s=NOW_S,
            fresh=facts.fresh,
            asked=False,
        )
        if isinstance(verdict, Accept):
            kept = state._replace(active=active, status=status, host=HOST.host)
            assert verdict == Accept(kept)
        if in_words(verdict) != expected_of_account(facts):
            differ.append((facts, verdict))
    assert differ[:5] == []


def test_an_identity_event_is_dropped_of_nobody_alone() -> None:
    for document, last, seen, active, fresh in combinations(
        tuple(DOCUMENTS), tuple(HOSTS), *[BOTH] * 3
    ):
        state = AccountState(SINCE, cid(EMPTY), cid(b"c"), True, None, 0) if seen else NEVER_SEEN
        state = state._replace(active=active, host=HOSTS[last])
        verdict = judge(
            identity(), DOCUMENTS[document], state, HOST, now_s=NOW_S, fresh=fresh, asked=False
        )
        nobody = document == "is not there" and not seen and last == "nobody"
        assert isinstance(verdict, Drop if nobody else Accept)
        assert nobody or verdict == Accept(state)
