"""Each step of the judge has an event that only it can refuse."""

from __future__ import annotations

from typing import Any

import pytest
from coincurve import PrivateKey

from common.envelope import NEVER_SEEN, AccountState, Kind
from common.event import Event, decode
from common.frame import ACCOUNT_HEADER, IDENTITY_HEADER, SYNC_HEADER
from common.syntax import tid_text
from common.verdict import Drop, DropReason
from ingest.did_document import Broken, Identity, NotFound
from ingest.judge import (
    COMMIT_STEPS,
    REV_SKEW_S,
    SYNC_STEPS,
    Accept,
    NeedFreshIdentity,
    Source,
    judge,
    judge_early,
)
from ingest.signature import K256Key
from ingest.steps import check_same_commit
from tests.common.commits import (
    DID,
    EMPTY,
    KEY,
    NODE,
    RECORD,
    REV,
    SINCE,
    TIME,
    car,
    cid,
    commit_block,
    encode,
    frame,
    link,
)

NOW_S = 1_784_000_000.0
HOST = Source(3, "pds.example.com")
IDENTITY = Identity(DID, K256Key(KEY.public_key.format()), "pds.example.com")
STATE = AccountState(SINCE, cid(EMPTY), cid(b"commit"), True, None, 3)
NEW = tid_text(int((NOW_S + REV_SKEW_S) * 1e6) << 10)
TOO_NEW = tid_text(int((NOW_S + REV_SKEW_S + 1) * 1e6) << 10)


def event(raw: bytes) -> Event:
    found = decode(raw)
    assert isinstance(found, Event), found
    return found


def commit(block: bytes | None = None, **changed: Any) -> Event:
    block = commit_block(rev=changed.get("rev", REV)) if block is None else block
    changed = {
        "commit": link(cid(block)), "blocks": car([cid(block)], [block, NODE, RECORD]), **changed,
    }  # fmt: skip
    return event(frame(**changed))


def sync(**changed: Any) -> Event:
    block = commit_block(rev=changed.get("rev", REV))
    fields = {
        "seq": 5, "did": DID, "rev": REV, "time": TIME, "blocks": car([cid(block)], [block]),
        **changed,
    }  # fmt: skip
    return event(SYNC_HEADER + encode(fields))


def account(**changed: Any) -> Event:
    fields = {"seq": 7, "did": DID, "time": TIME, "active": False, "status": "deleted", **changed}
    return event(ACCOUNT_HEADER + encode(fields))


def identity() -> Event:
    return event(IDENTITY_HEADER + encode({"seq": 6, "did": DID, "time": TIME}))


def verdict(
    of: Event,
    identity: Any = IDENTITY,
    state: AccountState = STATE,
    source: Source = HOST,
    now_s: float = NOW_S,
) -> Any:
    """The verdict with a fresh document; and that with an old one the same, or a question."""
    fresh = judge(of, identity, state, source, now_s=now_s, fresh=True)
    old = judge(of, identity, state, source, now_s=now_s, fresh=False)
    silences = of.kind is Kind.ACCOUNT and not of.active
    if isinstance(old, NeedFreshIdentity) and (silences or state.host not in (0, source.host)):
        return fresh
    if isinstance(old, NeedFreshIdentity):
        assert isinstance(fresh, Drop)
        assert fresh.reason is old.otherwise
    else:
        assert old == fresh
    return fresh


def test_a_good_commit_moves_its_account() -> None:
    found = commit()
    assert verdict(found) == Accept(
        AccountState(REV, cid(NODE), cid(commit_block()), True, None, 3)
    )
    assert isinstance(verdict(found, state=NEVER_SEEN), Accept)


def test_a_commit_keeps_what_the_host_said_of_the_account() -> None:
    state = STATE._replace(status="throttled")
    assert verdict(commit(), state=state).after.status == "throttled"


def test_a_commit_from_the_new_host_moves_the_account_there() -> None:
    assert verdict(commit(), state=STATE._replace(host=99)).after.host == 3


ZERO_ROOT = encode({"roots": [], "version": 1})
OTHER = PrivateKey(b"\x09" * 32)


@pytest.mark.parametrize(
    ("of", "changed", "reason"),
    [
        pytest.param(commit(rev=SINCE), {}, DropReason.REV_NOT_NEWER, id="a repeated rev"),
        pytest.param(
            commit(), {"state": STATE._replace(rev=NEW)}, DropReason.REV_NOT_NEWER, id="an older rev"
        ),
        pytest.param(commit(rev=TOO_NEW), {}, DropReason.REV_IN_FUTURE, id="a rev of the future"),
        pytest.param(
            commit(), {"identity": Broken("x")}, DropReason.IDENTITY_BROKEN, id="a broken identity"
        ),
        pytest.param(
            commit(), {"identity": NotFound("x")}, DropReason.IDENTITY_NOT_FOUND, id="no identity"
        ),
        pytest.param(
            commit(),
            {"source": Source(4, "other.example.com")},
            DropReason.HOST_NOT_AUTHORITATIVE,
            id="a foreign host",
        ),
        pytest.param(
            commit(),
            {"source": Source(4, "pds.example.com:8443")},
            DropReason.HOST_NOT_AUTHORITATIVE,
            id="another port",
        ),
        pytest.param(
            commit(),
            {"state": STATE._replace(active=False, status="takendown")},
            DropReason.ACCOUNT_INACTIVE,
            id="an inactive account",
        ),
        pytest.param(commit(blocks=b"x"), {}, DropReason.CAR_MALFORMED, id="no CAR"),
        pytest.param(
            commit(blocks=bytes([len(ZERO_ROOT)]) + ZERO_ROOT), {}, DropReason.CAR_NO_ROOT, id="no root"
        ),
        pytest.param(
            commit(blocks=car([cid(commit_block())], [commit_block(), NODE], [cid(commit_block()), cid(RECORD)])),
            {}, DropReason.CAR_BLOCK_MISMATCH, id="a wrong hash",
        ),
        pytest.param(
            commit(commit=link(cid(NODE))), {}, DropReason.COMMIT_MISMATCH, id="another root"
        ),
        pytest.param(
            commit(blocks=car([cid(commit_block())], [NODE])), {}, DropReason.COMMIT_MISSING, id="no commit"
        ),
        pytest.param(commit(commit_block(version=2)), {}, DropReason.COMMIT_MALFORMED, id="version 2"),
        pytest.param(commit(commit_block(rev=NEW)), {}, DropReason.COMMIT_MISMATCH, id="another rev"),
        pytest.param(
            commit(commit_block(did="did:plc:" + "a" * 24)), {}, DropReason.COMMIT_MISMATCH, id="another DID"
        ),
        pytest.param(commit(commit_block(key=OTHER)), {}, DropReason.SIGNATURE_INVALID, id="another key"),
        pytest.param(commit(commit_block(sig=bytes(64))), {}, DropReason.SIGNATURE_INVALID, id="no key"),
        pytest.param(sync(rev=SINCE), {}, DropReason.REV_NOT_NEWER, id="sync: another commit, same rev"),
        pytest.param(
            sync(), {"state": STATE._replace(rev=NEW)}, DropReason.REV_NOT_NEWER, id="sync: an older rev"
        ),
        pytest.param(sync(rev=TOO_NEW), {}, DropReason.REV_IN_FUTURE, id="sync: a future rev"),
        pytest.param(
            sync(),
            {"state": STATE._replace(active=False)},
            DropReason.ACCOUNT_INACTIVE,
            id="sync: inactive",
        ),
        pytest.param(
            sync(),
            {"source": Source(4, "other.example.com")},
            DropReason.HOST_NOT_AUTHORITATIVE,
            id="sync: a foreign host",
        ),
        pytest.param(
            sync(), {"identity": IDENTITY._replace(key=K256Key(OTHER.public_key.format()))},
            DropReason.SIGNATURE_INVALID, id="sync: another key",
        ),
        pytest.param(
            account(),
            {"source": Source(4, "other.example.com")},
            DropReason.HOST_NOT_AUTHORITATIVE,
            id="account: a foreign host",
        ),
        pytest.param(
            account(), {"identity": Broken("x")}, DropReason.IDENTITY_BROKEN, id="account: broken"
        ),
        pytest.param(
            account(), {"identity": NotFound("x")}, DropReason.IDENTITY_NOT_FOUND, id="account: none"
        ),
        pytest.param(
            identity(),
            {"identity": NotFound("x"), "state": NEVER_SEEN},
            DropReason.IDENTITY_NOT_FOUND,
            id="identity: of nobody",
        ),
    ],
)  # fmt: skip
def test_a_wrong_event_is_dropped_for_its_fault(
    of: Event, changed: dict[str, Any], reason: DropReason
) -> None:
    found = verdict(of, **changed)
    assert isinstance(found, Drop), found
    assert (found.reason, found.seq) == (reason, of.seq)


def test_a_rev_at_the_edge_of_the_skew_passes() -> None:
    assert isinstance(verdict(commit(rev=NEW)), Accept)


def test_a_first_rev_may_be_as_old_as_it_likes() -> None:
    assert isinstance(verdict(commit(rev="2222222222222"), state=NEVER_SEEN), Accept)


def test_a_sync_sets_a_new_state_whatever_was_before() -> None:
    assert verdict(sync()).after == AccountState(REV, cid(NODE), cid(commit_block()), True, None, 3)


def test_a_sync_of_the_very_state_passes_and_changes_nothing() -> None:
    state = STATE._replace(rev=REV, commit=cid(commit_block()), data=cid(NODE))
    assert verdict(sync(), state=state) == Accept(state)


@pytest.mark.parametrize(
    ("active", "status"), [(False, "deleted"), (True, None), (False, "x"), (True, "throttled")]
)
def test_an_account_event_sets_the_status_and_nothing_else(
    active: bool, status: str | None
) -> None:
    fields = {"active": active} if status is None else {"active": active, "status": status}
    raw = {"seq": 7, "did": DID, "time": TIME, **fields}
    found = verdict(event(ACCOUNT_HEADER + encode(raw)), state=STATE._replace(host=9, active=False))
    assert found == Accept(STATE._replace(active=active, status=status, host=3))


def test_an_identity_event_passes_from_any_host_and_changes_nothing() -> None:
    stranger = Source(4, "other.example.com")
    assert verdict(identity(), source=stranger) == Accept(STATE)
    assert verdict(identity(), Broken("x"), source=stranger) == Accept(STATE)
    assert verdict(identity(), NotFound("x")) == Accept(STATE)
    inactive = STATE._replace(active=False)
    assert verdict(identity(), state=inactive) == Accept(inactive)


@pytest.mark.parametrize(
    ("of", "changed"),
    [
        pytest.param(commit(), {"identity": Broken("x")}, id="broken"),
        pytest.param(commit(), {"identity": NotFound("x")}, id="not found"),
        pytest.param(commit(), {"source": Source(4, "new.example.com")}, id="another host"),
        pytest.param(commit(commit_block(key=OTHER)), {}, id="another key"),
        pytest.param(account(), {"source": Source(4, "new.example.com")}, id="account"),
        pytest.param(commit(), {"state": STATE._replace(host=9)}, id="another host spoke last"),
        pytest.param(account(), {"state": STATE._replace(host=9)}, id="account: another spoke"),
        pytest.param(account(), {}, id="account: a former host may say it is deactivated"),
    ],
)
def test_an_old_document_is_never_the_reason_for_a_drop(of: Event, changed: dict[str, Any]) -> None:
    given = {"identity": IDENTITY, "source": HOST, "state": STATE, **changed}
    found = judge(of, given["identity"], given["state"], given["source"], now_s=NOW_S, fresh=False)
    assert isinstance(found, NeedFreshIdentity)


def test_replays_need_no_document() -> None:
    early = judge_early(commit(), STATE._replace(rev=REV), NOW_S)
    assert early is not None
    assert early.reason is DropReason.REV_NOT_NEWER
    assert judge_early(commit(), STATE, NOW_S) is None
    assert judge_early(identity(), STATE, NOW_S) is None


def test_commits_and_syncs_share_their_steps() -> None:
    assert set(SYNC_STEPS) - set(COMMIT_STEPS) == {check_same_commit}
