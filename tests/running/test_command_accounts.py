"""`standpipe accounts`, `takedown`, `domains`, `crawling`, `audit`: typed, answered, and in the tables."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import psycopg
import pytest

from common.command.__main__ import make_parser
from common.command.takedown import PAGE
from tests.relay import ROOT
from tests.running.command_page import leaves
from tests.running.typed import DIDS, Database, Typed

ALICE, BOB = DIDS
CID = b"\x01\x71\x12\x20" + bytes(32)


@pytest.fixture
def people(database: Database) -> Database:
    """Alice at one.example, active; Bob at the other host, who was deactivated; Carol, throttled here."""
    for did, host, active, status, local in (
        (ALICE, 1, True, None, None), (BOB, 2, False, "deact\x1bivated", None),
        ("did:web:carol.example", 1, True, None, "throttled"),
    ):  # fmt: skip
        database.execute(
            "INSERT INTO account (did, host_id, active, status, local, rev, commit_cid, data_cid, seq)"
            " VALUES (%s, %s, %s, %s, %s, '3l2gkqkqxcc2a', %s, %s, 4711)",
            (did, host, active, status, local, CID, CID),
        )
    return database


@pytest.mark.usefixtures("people")
def test_an_account_is_shown_with_all_that_is_known(people: Database, typed: Typed) -> None:
    people.execute(
        "INSERT INTO identity VALUES (%s, 'found', 'K-256', '\\x00', 'one.example', NULL, to_timestamp(1e9))",
        (ALICE,),
    )
    code, out, _err = typed("accounts", "show", ALICE)
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in (
        f"account {ALICE}", "status active", "we say nothing of our own", "taken down no",
        "host one.example", "rev 3l2gkqkqxcc2a", "changed by seq 4,711", "follows yes",
        "DID document found: host one.example, key on K-256 (asked for at 2001-09-09T01:46:40.000Z)",
    ):  # fmt: skip
        assert line in lines
    code, out, _err = typed("accounts", "show", BOB, "--json")
    told = json.loads(out)
    assert (told["status"], told["active"], told["host"]) == (
        "deact\x1bivated", False, "localhost:2583",
    )  # fmt: skip
    assert told["commit"].startswith("bafyrei")
    assert told["document"] is None
    assert "\x1b" not in typed("accounts", "show", BOB)[1]


def test_an_account_that_is_not_known_is_told(people: Database, typed: Typed) -> None:
    unknown = f"did:plc:{'c' * 24}"
    code, out, err = typed("accounts", "show", unknown)
    assert (code, out) == (1, "")
    assert err.endswith("is not known here\n")
    typed("takedown", "add", unknown)
    typed("takedown", "add", ALICE)
    assert "it is taken down in advance" in typed("accounts", "show", unknown)[2]
    assert "taken down" not in typed("accounts", "show", f"did:plc:{'d' * 24}")[2]
    assert typed("accounts", "show", "alice")[0] == 2


@pytest.mark.usefixtures("people")
def test_accounts_are_listed_by_host_and_found_by_their_did(typed: Typed) -> None:
    def dids(*words: str) -> list[str]:
        code, out, _err = typed("accounts", *words, "--json")
        assert code == 0
        return [account["did"] for account in json.loads(out)]

    carol = "did:web:carol.example"
    assert dids("list", "one.example") == [ALICE, carol]
    assert dids("list", "one.example", "--limit", "1") == [ALICE]
    assert dids("list", "one.example", "--after", "1") == [carol]
    assert dids("list", "one.example", "--status", "throttled") == [carol]
    assert dids("list", "one.example", "--status", "active") == [ALICE]
    assert dids("search", "aaaa") == [ALICE]
    assert dids("search", "did:") == [ALICE, BOB, carol]
    # A text, and no pattern.
    assert dids("search", "%") == []
    assert dids("search", "did:", "--status", "throttled") == [carol]
    code, out, _err = typed("accounts", "list", "one.example")
    assert [line.split()[1] for line in out.splitlines()] == ["account", ALICE, carol]
    assert typed("accounts", "search", "zzz")[1] == "no such accounts are known\n"
    code, _out, err = typed("accounts", "list", "tow.example")
    assert (code, "tow.example is not known here" in err) == (1, True)


def test_a_takedown_is_said_listed_and_taken_back(database: Database, typed: Typed) -> None:
    assert typed("takedown", "add", ALICE)[:2] == (0, f"{ALICE} is taken down\n")
    assert "nothing was changed" in typed("takedown", "add", ALICE)[1]
    assert typed("takedown", "list")[1] == f"{ALICE}\n"
    assert json.loads(typed("takedown", "list", "--json")[1]) == [ALICE]
    assert database.execute("SELECT did FROM takedown").fetchall() == [(ALICE,)]
    code, out, _err = typed("takedown", "reverse", ALICE, "--json")
    told = {"action": "reverse_takedown", "subject": ALICE, "changed": True}
    assert (code, json.loads(out)) == (0, told)
    assert json.loads(typed("takedown", "reverse", ALICE, "--json")[1])["changed"] is False
    assert database.execute("SELECT did FROM takedown").fetchall() == []
    assert typed("takedown", "add", "alice")[0] == 2


def test_all_takedowns_are_listed_however_many(database: Database, typed: Typed) -> None:
    database.execute(
        "INSERT INTO takedown (did) SELECT 'did:web:a' || n FROM generate_series(1, %s) AS n",
        (PAGE + 1,),
    )
    assert len(typed("takedown", "list")[1].splitlines()) == PAGE + 1


def test_whoever_has_seen_enough_of_a_list_hears_no_complaint(database: Database) -> None:
    database.execute(
        "INSERT INTO takedown (did) SELECT 'did:web:' || n || repeat('a', 100)"
        " FROM generate_series(1, 3000) AS n"
    )
    command = f"set -o pipefail; {sys.executable} -m common.command takedown list | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("did:web:1")


def test_a_domain_is_banned_and_unbanned(database: Database, typed: Typed) -> None:
    assert typed("domains", "list")[1] == "none is banned\n"
    assert typed("domains", "ban", "*.Example.COM.")[:2] == (0, "example.com is banned\n")
    assert "nothing was changed" in typed("domains", "ban", "example.com")[1]
    assert typed("domains", "list")[1] == "example.com\n"
    assert json.loads(typed("domains", "list", "--json")[1]) == ["example.com"]
    assert typed("domains", "unban", "example.com")[:2] == (0, "example.com is not banned\n")
    assert json.loads(typed("domains", "unban", "example.com", "--json")[1])["changed"] is False
    assert database.execute("SELECT * FROM domain_ban").fetchall() == []
    for word in ("example..com", "a-.example", "exa mple", "", "a" * 64, "https://a.example"):
        code, _out, err = typed("domains", "ban", word)
        assert (code, "is no domain" in err) == (2, True), word


def test_crawling_is_opened_closed_and_limited(
    database: Database, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDPIPE_NEW_HOSTS_PER_DAY", "7")
    told = json.loads(typed("crawling", "show", "--json")[1])
    assert told == {"enabled": True, "limit": 7, "enabled_by": "settings", "limit_by": "settings"}
    assert typed("crawling", "off")[:2] == (0, "request_crawl is false\n")
    assert "nothing was changed" in typed("crawling", "off")[1]
    assert typed("crawling", "limit", "200")[0] == 0
    assert typed("crawling", "show")[1] == (
        "strangers may not add hosts (by operator); 200 a day (by operator)\n"
    )
    assert database.execute("SELECT name, value FROM control ORDER BY name").fetchall() == [
        ("new_hosts_per_day", "200"), ("request_crawl", "false"),
    ]  # fmt: skip
    assert typed("crawling", "on")[0] == 0
    assert json.loads(typed("crawling", "show", "--json")[1])["enabled"] is True
    assert typed("crawling", "limit", "many")[0] == 2


def test_the_audit_log_says_who_changed_what(
    database: Database, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed("audit")[1] == "nothing was changed\n"
    monkeypatch.setattr("os.getuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "alice")
    typed("hosts", "ban", "one.example")
    monkeypatch.delenv("SUDO_USER")
    typed("domains", "ban", "example.com")
    # Nobody of that number has a name.
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)
    typed("crawling", "off")
    database.execute(
        "INSERT INTO audit (who, action, subject) VALUES ('sibling@::1', 'take_down', 'a\x1bb')"
    )
    rows = json.loads(typed("audit", "--json")[1])
    assert [(row["who"], row["action"], row["subject"], row["now"]) for row in rows[::-1]] == [
        ("command:alice", "ban_host", "one.example", "banned"),
        ("command:root", "ban_domain", "example.com", None),
        (f"command:{2**31 - 7}", "set_control", "request_crawl", "false"),
        ("sibling@::1", "take_down", "a\x1bb", None),
    ]
    code, out, _err = typed("audit", "--of", "one.example")
    assert code == 0
    head, line = out.splitlines()
    assert head.split() == ["id", "when", "who", "action", "of", "was", "became"]
    assert line.split()[2:] == ["command:alice", "ban_host", "one.example", "active", "banned"]
    assert "a\\x1bb" in typed("audit")[1]
    older = json.loads(typed("audit", "--before", str(rows[0]["id"]), "--limit", "2", "--json")[1])
    assert older == rows[1:3]
    assert typed("audit", "--limit", "0")[0] == 2


@pytest.mark.usefixtures("people")
def test_what_is_printed_for_programs_has_the_keys_that_the_help_names(
    people: Database, typed: Typed
) -> None:
    typed("hosts", "ban", "one.example")
    people.execute("INSERT INTO host_drop VALUES (1, 'bad', 3, now())")
    people.execute(
        "INSERT INTO reject (host_id, at, reason, detail, kind, did, rev, seq, size)"
        " VALUES (1, now(), 'bad', 'x', 'commit', %s, 'r', 1, 3)",
        (ALICE,),
    )
    texts = {parser.prog: parser.description or "" for parser in leaves(make_parser())}
    for words in (
        ("hosts", "list"), ("hosts", "show", "one.example"), ("accounts", "show", ALICE),
        ("accounts", "list", "one.example"), ("accounts", "search", "did:"), ("crawling", "show"),
        ("audit",), ("hosts", "dial", "one.example"), ("takedown", "add", ALICE),
        ("rejects", "one.example"),
    ):  # fmt: skip
        code, out, _err = typed(*words, "--json")
        assert code == 0
        text = next(texts[" ".join(("standpipe", *words[:n]))] for n in (2, 1)
                    if " ".join(("standpipe", *words[:n])) in texts)  # fmt: skip
        value = json.loads(out)
        keys = set(value[0] if isinstance(value, list) else value)
        named = set(re.findall(r"\w+", text.partition("--json prints")[2]))
        assert keys <= named, (words, keys - named)


def test_an_action_is_all_or_nothing(postgres_url: str, database: Database, typed: Typed) -> None:
    """What cannot be noted in the audit log is not done."""
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute("DROP TABLE audit")
    code, out, err = typed("hosts", "ban", "one.example")
    assert (code, out) == (1, "")
    assert "the database is not as this release leaves it" in err
    row = database.execute("SELECT wanted FROM host WHERE hostname = 'one.example'").fetchone()
    assert row == ("active",)
