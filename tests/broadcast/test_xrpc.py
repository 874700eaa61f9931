"""broadcast.xrpc: parameters by their rules, answers by the lexicons."""

from __future__ import annotations

from typing import Any

import pytest

from broadcast.xrpc import (
    AccountRow,
    HostRow,
    Query,
    XrpcError,
    host_answer,
    hosts_answer,
    latest_commit_answer,
    parse_hostname,
    repo_location,
    repo_status_answer,
    repos_answer,
)
from common.cid import cid_of, cid_text

DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
COMMIT = cid_of(b"\xa0")
REV = "3l2gkqkqxcc2a"


def account(**changes: Any) -> AccountRow:
    row: dict[str, Any] = {
        "number": 1, "did": DID, "active": True, "status": None, "rev": REV, "commit": COMMIT,
        "host": "pds.example", "tls": True,
    }  # fmt: skip
    return AccountRow(**{**row, **changes})


# --- parameters ---


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        pytest.param([], 500, id="none is the default"),
        pytest.param([("limit", "")], 500, id="empty is the default"),
        pytest.param([("limit", "1")], 1, id="the least"),
        pytest.param([("limit", "1000")], 1000, id="the most"),
    ],
)
def test_a_limit_is_taken(given: list[tuple[str, str]], limit: int) -> None:
    assert Query(given).limit(500) == limit


@pytest.mark.parametrize(
    "given",
    [
        pytest.param([("limit", text)], id=f"limit {text!r}")
        for text in ("0", "1001", "-1", "ten", "1.0", " 5", "٥", "9" * 30)
    ]
    + [pytest.param([("limit", "5"), ("limit", "5")], id="limit given twice")],
)
def test_a_limit_out_of_range_is_invalid(given: list[tuple[str, str]]) -> None:
    with pytest.raises(XrpcError) as caught:
        Query(given).limit(500)
    assert (caught.value.status, caught.value.error) == (400, "InvalidRequest")


@pytest.mark.parametrize("text", ["x", "-1", "9223372036854775808", "1.5"])
def test_a_cursor_that_we_never_gave_is_invalid(text: str) -> None:
    with pytest.raises(XrpcError, match="cursor must be"):
        Query([("cursor", text)]).cursor()


@pytest.mark.parametrize("text", ["", "alice.example", "did:plc:short", "did:", "DID:plc:x"])
def test_what_is_no_did_is_invalid(text: str) -> None:
    with pytest.raises(XrpcError):
        Query([("did", text)]).did()
    assert Query([("did", DID)]).did() == DID


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param("pds.example", "pds.example", id="a name"),
        pytest.param("PDS.Example", "pds.example", id="upper case is lowered"),
        pytest.param("localhost:2583", "localhost:2583", id="a port is part of it"),
    ],
)
def test_a_host_name_is_taken(text: str, name: str) -> None:
    assert parse_hostname(text) == name


@pytest.mark.parametrize(
    "text", ["https://x", "a b", "a..b", "-a.example", "a" * 300, "x:port", "é.example", "u@x"]
)
def test_what_is_no_host_name_is_invalid(text: str) -> None:
    with pytest.raises(XrpcError):
        parse_hostname(text)


# --- answers ---


def test_a_page_names_a_cursor_only_when_more_follow() -> None:
    hosts = [HostRow(number, f"h{number}.example", number, "active", 0) for number in (3, 5, 9)]
    assert hosts_answer(hosts, 2)["cursor"] == "5"
    assert [host["hostname"] for host in hosts_answer(hosts, 2)["hosts"]] == [
        "h3.example", "h5.example",
    ]  # fmt: skip
    assert "cursor" not in hosts_answer(hosts, 3)
    assert hosts_answer(hosts[:1], 1) == {
        "hosts": [{"hostname": "h3.example", "seq": 3, "accountCount": 0, "status": "active"}]
    }
    assert repos_answer([account(number=4), account(number=8)], 1)["cursor"] == "4"
    assert repos_answer([], 5) == {"repos": []}


def test_a_host_without_a_cursor_has_no_seq() -> None:
    assert host_answer(HostRow(1, "pds.example", None, "banned", 12)) == {
        "hostname": "pds.example", "accountCount": 12, "status": "banned",
    }  # fmt: skip


def test_a_repo_is_listed_with_its_head_and_status() -> None:
    rows = [account(), account(active=False, status="takendown")]
    active, inactive = repos_answer(rows, 5)["repos"]
    assert active == {"did": DID, "head": cid_text(COMMIT), "rev": REV, "active": True}
    assert inactive["active"] is False
    assert inactive["status"] == "takendown"


def test_a_status_has_a_rev_only_while_active() -> None:
    assert repo_status_answer(account(), DID) == {"did": DID, "active": True, "rev": REV}
    assert repo_status_answer(account(rev=None, commit=None), DID) == {"did": DID, "active": True}
    gone = repo_status_answer(account(active=False, status="deleted"), DID)
    assert gone == {"did": DID, "active": False, "status": "deleted"}


@pytest.mark.parametrize(
    ("row", "status"),
    [
        pytest.param(account(), None, id="in sync"),
        pytest.param(account(desynchronized=True), "desynchronized", id="out of its chain"),
        pytest.param(
            account(active=False, status="takendown", desynchronized=True), "takendown",
            id="its host's word goes first",
        ),
        pytest.param(
            account(active=False, desynchronized=True), None, id="an inactive one without a reason"
        ),
        pytest.param(
            account(status="throttled", desynchronized=True), "throttled",
            id="its host's word of an active one",
        ),
        pytest.param(account(status="desynchronized"), "desynchronized", id="so says its host"),
        pytest.param(account(status="odd"), None, id="an unknown word of an active one"),
    ],
)  # fmt: skip
def test_what_stops_nothing_may_be_the_status_of_an_active_account(
    row: AccountRow, status: str | None
) -> None:
    for answer in (repos_answer([row], 1)["repos"][0], repo_status_answer(row, DID)):
        assert answer.get("status") == status
        assert answer["active"] is row.active
    # It still may be read.
    if row.active:
        assert latest_commit_answer(row, DID)["rev"] == REV


def test_the_latest_commit_is_named() -> None:
    assert latest_commit_answer(account(), DID) == {"cid": cid_text(COMMIT), "rev": REV}


@pytest.mark.parametrize(
    ("row", "status", "error"),
    [
        pytest.param(None, 404, "RepoNotFound", id="unknown"),
        pytest.param(
            account(active=False, status="takendown"), 403, "RepoTakendown", id="taken down"
        ),
        pytest.param(
            account(active=False, status="suspended"), 403, "RepoSuspended", id="suspended"
        ),
        pytest.param(
            account(active=False, status="deactivated"), 403, "RepoDeactivated", id="deactivated"
        ),
        pytest.param(account(active=False, status="deleted"), 404, "RepoNotFound", id="deleted"),
        pytest.param(account(active=False, status="odd"), 403, "RepoInactive", id="another status"),
        pytest.param(account(active=False), 403, "RepoInactive", id="no status"),
    ],
)
def test_what_is_not_to_be_had_is_told_by_name(
    row: AccountRow | None, status: int, error: str
) -> None:
    for ask in (
        lambda: latest_commit_answer(row, DID),
        lambda: repo_location(row, DID, "/xrpc/com.atproto.sync.getRepo", f"did={DID}"),
    ):
        with pytest.raises(XrpcError) as caught:
            ask()
        assert (caught.value.status, caught.value.error) == (status, error)


def test_no_commit_yet_and_no_host_yet_are_not_found() -> None:
    with pytest.raises(XrpcError, match="no commit"):
        latest_commit_answer(account(rev=None, commit=None), DID)
    with pytest.raises(XrpcError, match="no host"):
        repo_location(account(host=None), DID, "/p", "q")


@pytest.mark.parametrize(("tls", "scheme"), [(True, "https"), (False, "http")])
def test_a_repo_is_at_its_host_with_the_same_path_and_query(tls: bool, scheme: str) -> None:
    row = account(tls=tls, host="localhost:2583")
    location = repo_location(row, DID, "/xrpc/com.atproto.sync.getRepo", f"did={DID}&since={REV}")
    expected = f"{scheme}://localhost:2583/xrpc/com.atproto.sync.getRepo?did={DID}&since={REV}"
    assert location == expected
