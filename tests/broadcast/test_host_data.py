"""broadcast.host_data: what a PDS operator wants to know; from values, and from a real database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from broadcast.host_data import (
    NOBODY,
    THROTTLED_COUNTED,
    THROTTLED_SHOWN,
    Dropped,
    HostFacts,
    Throttled,
    host_data,
    status_of,
)
from tests.broadcast.fakes import FakeLog, member_of
from tests.broadcast.test_views import DIDS, SYNC, ask, error_of, filled_url, value_of
from tests.fix_loop import LoopRun

__all__ = ["filled_url"]  # a fixture of this module, too

NOW_S = 1_790_000_000.0
NOW = "2026-09-21T14:13:20.000Z"
LATER = "2026-09-21T14:14:20.000Z"

FACTS = HostFacts(
    number=7, hostname="pds.example", wanted="active", observed="active", last_error=None,
    generation=1, cursor=90, accounts=80, account_limit=100, trusted=False, per_second=None,
    per_hour=None, per_day=9, connected=True, changed_at_s=NOW_S, failures=0, next_dial_at_s=None,
    last_event_at_s=NOW_S, last_seq=95, events=12, limited_by=None, limited_until_s=None,
    restarts=0, level="enforce", level_since_s=NOW_S, discontinuous=3, waived=2, waived_at_s=None,
    checked=1, alias_of=None, added_by="crawl", added_at_s=NOW_S,
)  # fmt: skip


def data(
    domain: str | None = None, throttled: Throttled = NOBODY, **changes: Any
) -> dict[str, Any]:
    return host_data(FACTS._replace(**changes), [], throttled, domain=domain, now_s=NOW_S)


def test_every_field_of_a_host_that_is_well() -> None:
    drops = [Dropped("rev_not_newer", 5, NOW_S), Dropped("of_another_release", 1, NOW_S)]
    throttled = Throttled(2, ["did:plc:a", "did:plc:b"])
    assert host_data(FACTS, drops, throttled, domain=None, now_s=NOW_S) == {
        "hostname": "pds.example",
        "status": "active",
        "summary": "Connected, 5 events behind.",
        "connection": {"connected": True, "failures": 0, "since": NOW},
        "stream": {
            "cursor": 90, "lastSeq": 95, "behind": 5, "lastEventAt": NOW, "events": 12,
            "generation": 1, "restarts": 0,
        },
        "limits": {"perSecond": 50, "perHour": 2600, "perDay": 9, "trusted": False},
        "accounts": {
            "count": 80, "limit": 100, "throttled": 2, "throttledDids": ["did:plc:a", "did:plc:b"],
        },
        "validation": {
            "level": "enforce", "since": NOW, "discontinuous": 3, "waived": 2, "checked": 1,
        },
        "drops": {
            "total": 6,
            "byReason": [
                {
                    "reason": "rev_not_newer", "count": 5, "lastAt": NOW,
                    "rules": ["S-VAL-09", "S-REV-03", "S-SYN-05", "S-DSY-06"],
                },
                {"reason": "of_another_release", "count": 1, "lastAt": NOW, "rules": []},
            ],
            "newest": "/rejects?host=pds.example",
        },
        "addedAt": NOW,
        "addedBy": "crawl",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "observed", "until_s", "domain_banned", "status"),
    [
        pytest.param("active", "active", None, False, "active", id="read"),
        pytest.param("active", "idle", None, False, "idle", id="not dialled yet"),
        pytest.param("active", "offline", None, False, "offline", id="away"),
        pytest.param("banned", "active", None, False, "banned", id="banned by name"),
        pytest.param("active", "active", None, True, "banned", id="its domain is banned"),
        pytest.param("active", "throttled", NOW_S + 9, False, "throttled", id="over a quota"),
        pytest.param("active", "throttled", None, False, "throttled", id="no end is known"),
        pytest.param("active", "throttled", NOW_S - 9, False, "active", id="that has ended"),
        pytest.param("active", "active", NOW_S + 9, False, "active", id="slowed for a moment"),
        pytest.param("banned", "throttled", NOW_S + 9, False, "banned", id="banned, and over"),
    ],
)  # fmt: skip
def test_the_status_is_a_word_of_the_lexicon(
    wanted: str,
    observed: str,
    until_s: float | None,
    domain_banned: bool,
    status: str,
) -> None:
    got = status_of(wanted, observed, until_s, domain_banned=domain_banned, now_s=NOW_S)
    assert got == status


@pytest.mark.parametrize(
    ("found", "says"),
    [
        pytest.param(data(cursor=95), "Connected.", id="read to its end"),
        pytest.param(data(last_seq=None), "Connected.", id="that never spoke"),
        pytest.param(
            data(wanted="banned"), "The operator of this relay has banned this host.", id="banned"
        ),
        pytest.param(
            data("example"),
            "The operator of this relay has banned the domain example, and all hosts below it.",
            id="domain banned",
        ),
        pytest.param(
            data(alias_of="other.example", connected=False),
            "This is another name of other.example, which is read under that name alone.",
            id="alias",
        ),
        pytest.param(
            data(limited_by="hour", limited_until_s=NOW_S + 60),
            f"Connected, and slowed by its limit of events an hour until {LATER}.",
            id="slowed",
        ),
        pytest.param(
            data(limited_by="hour", limited_until_s=NOW_S - 1, cursor=95),
            "Connected.",
            id="slowed no longer",
        ),
        pytest.param(
            data(limited_by="catch-up"),
            "Connected, and read at a measured pace until it has caught up.",
            id="catching up",
        ),
        pytest.param(
            data(connected=False, observed="offline", last_error="certificate refused: expired",
                 next_dial_at_s=NOW_S + 60),
            "Not connected: certificate refused: expired. It is dialled again at"
            f" {LATER}; requestCrawl does that at once.",
            id="refused",
        ),
        pytest.param(
            data(connected=False, observed="idle", next_dial_at_s=None),
            "Not connected. It is dialled again by itself.",
            id="waiting",
        ),
    ],
)  # fmt: skip
def test_one_sentence_answers_why_a_host_is_not_read(found: dict[str, Any], says: str) -> None:
    assert found["summary"] == says


def test_a_host_that_is_banned_is_neither_connected_nor_dialled() -> None:
    for found in (
        data(wanted="banned", next_dial_at_s=NOW_S),
        data("example", next_dial_at_s=NOW_S),
    ):
        assert found["connection"]["connected"] is False
        assert "nextDialAt" not in found["connection"]
    assert data(connected=False, next_dial_at_s=NOW_S)["connection"]["nextDialAt"] == NOW


def test_what_slows_a_host_has_its_end() -> None:
    limits = data(limited_by="day", limited_until_s=NOW_S + 60)["limits"]
    assert (limits["limitedBy"], limits["limitedUntil"]) == ("day", LATER)
    assert "limitedBy" not in data(limited_by="day", limited_until_s=NOW_S - 1)["limits"]
    assert "slowedAccounts" not in limits
    assert data(slowed=3)["limits"]["slowedAccounts"] == 3


def test_the_limits_of_a_trusted_host_are_its_own() -> None:
    assert data(trusted=True, per_hour=5)["limits"] == {
        "perSecond": 5_000, "perHour": 5, "perDay": 9, "trusted": True,
    }  # fmt: skip


def test_what_a_host_chose_is_one_bounded_printable_line() -> None:
    said = "a\r\nb\x1b[31m\u202e" + "x" * 5000
    found = data(connected=False, last_error=said)
    words = found["connection"]["lastError"]
    assert words.startswith("a  b [31m ")
    assert len(words) == 300
    assert words.isprintable()
    assert found["summary"].isprintable()


def test_a_host_behind_nothing_is_not_behind() -> None:
    assert data(last_seq=80)["stream"]["behind"] == 0


# --- from the database ---


def write(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as database:
        for statement in statements:
            database.execute(statement.encode())


def test_the_page_of_a_host_is_read_from_the_database(
    loop_run: LoopRun, tmp_path: Path, filled_url: str
) -> None:
    write(
        filled_url,
        "UPDATE host SET connected = true, observed = 'throttled', last_seq = 20, accounts = 3, last_error = 'reset',"
        " changed_at = to_timestamp(1790000000), limited_by = 'hour',"
        " limited_until = now() + interval '1 hour' WHERE hostname = 'one.example'",
        "INSERT INTO host_drop VALUES (1, 'rev_not_newer', 4, now()),"
        " (1, 'text_frame', 9, now()), (2, 'text_frame', 7, now())",
        f"UPDATE account SET local = 'throttled' WHERE did = '{DIDS[0]}'",
    )

    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, database_url=filled_url) as member:
            page = await value_of(member, "/hosts/One.Example")
            assert page["status"] == "throttled"
            assert page["connection"]["connected"] is True
            assert page["connection"]["since"] == NOW
            assert page["connection"]["lastError"] == "reset"
            assert page["stream"]["behind"] == 3
            assert page["accounts"] == {
                "count": 3, "limit": 100, "throttled": 1, "throttledDids": [DIDS[0]],
            }  # fmt: skip
            assert [(drop["reason"], drop["count"]) for drop in page["drops"]["byReason"]] == [
                ("text_frame", 9), ("rev_not_newer", 4),
            ]  # fmt: skip
            assert page["drops"]["total"] == 13
            listed = (await value_of(member, SYNC + "listHosts"))["hosts"][0]
            assert listed["status"] == "throttled"
            # A port is part of a name.
            assert (await value_of(member, "/hosts/localhost:2583"))["hostname"] == "localhost:2583"

    loop_run(story())


def test_a_host_with_thousands_of_throttled_accounts_names_the_first(
    loop_run: LoopRun, tmp_path: Path, filled_url: str
) -> None:
    write(
        filled_url,
        "INSERT INTO account (did, host_id, active, seq, local)"
        f" SELECT 'did:plc:' || n, 3, true, 1, 'throttled' FROM generate_series(1, {THROTTLED_COUNTED + 9}) n",
    )

    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, database_url=filled_url) as member:
            accounts = (await value_of(member, "/hosts/never.example"))["accounts"]
            assert accounts["throttled"] == THROTTLED_COUNTED
            shown = [f"did:plc:{number}" for number in range(1, THROTTLED_SHOWN + 1)]
            assert accounts["throttledDids"] == shown

    loop_run(story())


def test_who_is_banned_by_domain_or_an_alias_is_told_so(
    loop_run: LoopRun, tmp_path: Path, filled_url: str
) -> None:
    write(
        filled_url,
        "INSERT INTO domain_ban (domain) VALUES ('example'), ('other')",
        "UPDATE host SET alias_of = 'one.test' WHERE hostname = 'localhost:2583'",
    )

    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, database_url=filled_url) as member:
            page = await value_of(member, "/hosts/one.example")
            assert (page["status"], page["bannedDomain"]) == ("banned", "example")
            status = await value_of(member, SYNC + "getHostStatus?hostname=one.example")
            assert status["status"] == "banned"
            hosts = (await value_of(member, SYNC + "listHosts"))["hosts"]
            assert [host["status"] for host in hosts] == ["banned", "idle", "banned"]
            assert hosts[1]["aliasOf"] == "one.test"
            page = await value_of(member, "/hosts/localhost:2583")
            assert page["aliasOf"] == "one.test"

    loop_run(story())


def test_a_deleted_host_is_shown_to_nobody(
    loop_run: LoopRun, tmp_path: Path, filled_url: str
) -> None:
    write(
        filled_url,
        "UPDATE host SET wanted = 'deleted' WHERE hostname = 'one.example'",
        "INSERT INTO reject (host_id, at, reason, detail, did, size)"
        f" VALUES (1, now(), 'text_frame', '', '{DIDS[0]}', 1)",
    )

    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, database_url=filled_url) as member:
            not_found = 404, "HostNotFound"
            for path in (
                "/hosts/one.example",
                "/hosts/unknown.example",
                SYNC + "getHostStatus?hostname=one.example",
                "/rejects?host=one.example",
            ):
                assert await error_of(member, path) == not_found, path
            names = [h["hostname"] for h in (await value_of(member, SYNC + "listHosts"))["hosts"]]
            assert names == ["localhost:2583", "banned.example"]
            (reject,) = (await value_of(member, f"/rejects?did={DIDS[0]}"))["rejects"]
            assert "host" not in reject

    loop_run(story())


def test_what_names_no_host_is_refused(loop_run: LoopRun, tmp_path: Path, filled_url: str) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, database_url=filled_url) as member:
            for name in ("a%20b", "a%2Fb", "-", "x" * 300, "%00"):
                response = await ask(member, f"/hosts/{name}")
                assert response.status in (400, 404), name
                assert json.loads(response.body)["error"] in ("InvalidRequest", "NotFound")
            assert await error_of(member, "/hosts/one.example", method="POST") == (
                405, "MethodNotAllowed",
            )  # fmt: skip

    loop_run(story())


def test_without_the_database_the_page_is_503(loop_run: LoopRun, tmp_path: Path) -> None:
    async def story() -> None:
        async with member_of(FakeLog(), tmp_path) as member:
            assert await error_of(member, "/hosts/one.example") == (503, "ServiceUnavailable")

    loop_run(story())


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ("local = 'takendown'", "takendown", (403, "RepoTakendown")),
        ("local = 'throttled'", "throttled", (403, "RepoInactive")),
        (
            "local = 'takendown', active = false, status = 'deactivated'",
            "takendown", (403, "RepoTakendown"),
        ),
        (
            "local = 'throttled', active = false, status = 'deactivated'",
            "throttled", (403, "RepoInactive"),
        ),
    ],
)  # fmt: skip
def test_what_this_relay_says_of_an_account_goes_into_every_answer(
    loop_run: LoopRun,
    tmp_path: Path,
    filled_url: str,
    change: str,
    status: str,
    error: tuple[int, str],
) -> None:
    write(filled_url, f"UPDATE account SET {change} WHERE did = '{DIDS[0]}'")

    async def story() -> None:
        async with member_of(FakeLog(), tmp_path, database_url=filled_url) as member:
            assert await value_of(member, f"{SYNC}getRepoStatus?did={DIDS[0]}") == {
                "did": DIDS[0], "active": False, "status": status,
            }  # fmt: skip
            for method in ("getLatestCommit", "getRepo"):
                assert await error_of(member, f"{SYNC}{method}?did={DIDS[0]}") == error
            (repo,) = [
                repo
                for repo in (await value_of(member, SYNC + "listRepos"))["repos"]
                if repo["did"] == DIDS[0]
            ]
            assert (repo["active"], repo["status"]) == (False, status)

    loop_run(story())
