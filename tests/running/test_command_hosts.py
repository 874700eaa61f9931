"""`standpipe hosts`: what an operator types, what is answered, and what the table says then."""

from __future__ import annotations

import json
from typing import Any

import pytest

from common.command.tables import hostname_of
from tests.running.typed import Database, Typed

ONE = "one.example"


def row_of(database: Database, name: str = ONE) -> dict[str, Any]:
    cursor = database.execute("SELECT * FROM host WHERE hostname = %s", (name,))
    assert cursor.description is not None
    row = cursor.fetchone()
    assert row is not None
    return dict(zip([column.name for column in cursor.description], row, strict=True))


def audited(database: Database) -> list[tuple[object, ...]]:
    return database.execute("SELECT action, subject, was, now FROM audit ORDER BY id").fetchall()


def version(database: Database) -> object:
    row = database.execute("SELECT value FROM relay WHERE name = 'control_version'").fetchone()
    return row[0] if row else None


def changes(typed: Typed, database: Database, *words: str) -> str:
    """Say something that changes something, and then again; what was told the first time."""
    assert version(database) is None
    code, told, err = typed("hosts", *words)
    assert (code, err) == (0, "")
    assert "nothing was changed" not in told
    after = row_of(database)
    assert version(database) == 1
    code, out, _err = typed("hosts", *words)
    assert (code, "already; nothing was changed" in out) == (0, True)
    code, out, _err = typed("hosts", *words, "--json")
    assert (code, json.loads(out)["changed"]) == (0, False)
    assert row_of(database) == after
    assert version(database) == 1
    assert len(audited(database)) == 1
    return told


def test_all_hosts_are_listed_with_what_is_seen_of_them(database: Database, typed: Typed) -> None:
    database.execute(
        "UPDATE host SET level = 'observe', waived = 1234, discontinuous = 5, wanted = 'banned',"
        " waived_at = to_timestamp(1e9), accounts = 7, last_error = 'no \x1b[2J' WHERE id = 1"
    )
    code, out, _err = typed("hosts", "list")
    assert code == 0
    head, *rows = out.splitlines()
    assert head.split()[:3] == ["host", "status", "level"]
    assert [row.split()[:3] for row in rows] == [
        ["localhost:2583", "idle", "enforce"], [ONE, "banned", "observe"],
    ]  # fmt: skip
    assert rows[1].split()[3:] == ["never", "7/100", "5", "1,234", "-", "no", "\\x1b[2J"]
    _code, out, _err = typed("hosts", "list", "--json")
    shown = json.loads(out)[1]
    assert (shown["host"], shown["wanted"], shown["level"]) == (ONE, "banned", "observe")
    assert shown["waived_at"] == "2001-09-09T01:46:40.000Z"
    assert (shown["per_second"], shown["per_hour"], shown["per_day"]) == (50, 2600, 21000)
    for words, names in (
        (("--status", "banned"), [ONE]), (("--match", "LOCAL"), ["localhost:2583"]),
    ):  # fmt: skip
        _code, out, _err = typed("hosts", "list", "--json", *words)
        assert [host["host"] for host in json.loads(out)] == names
    code, _out, err = typed("hosts", "list", "--status", "asleep")
    assert (code, "asleep" in err) == (2, True)


def test_one_host_is_shown_with_all_that_is_known(database: Database, typed: Typed) -> None:
    database.execute(
        "UPDATE host SET connected = true, changed_at = to_timestamp(1e9), last_seq = 4711,"
        " last_event_at = now() - interval '90 minutes', cursor = 4710, restarts = 2, trusted = true,"
        " per_hour = 7, limited_by = 'hour', limited_until = now() + interval '10 minutes',"
        " server_did = 'did:web:one.example', alias_of = 'localhost:2583', observed = 'throttled',"
        " alerts_silenced = true, foreign_percent = 93, last_error = 'it \x07' WHERE id = 1"
    )
    database.execute(
        "INSERT INTO host_drop VALUES (1, 'bad', 3, now() - interval '2 hours'),"
        " (1, 'worse', 1200, now() - interval '1 hour'), (2, 'x', 1, now())"
    )
    code, out, _err = typed("hosts", "show", "https://ONE.example/")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[:2] == ["host one.example", "status throttled"]
    for line in (
        "connected yes, since 2001-09-09T01:46:40.000Z",
        "cursor 4,710, generation 1, its numbers began again 2 times",
        "limits 5,000 a second, 7 an hour (set), 500,000,000 a day",
        "trusted yes", "dropped 1,200 worse, last 1h00m ago", "3 bad, last 2h00m ago",
        "calls itself did:web:one.example", "alias of localhost:2583", "alerts silenced",
        "foreign 93 % of its last events were of accounts of other hosts",
        "last error it \\x07",
    ):  # fmt: skip
        assert line in lines, line
    assert any(line.startswith("last event 1h30m") and line.endswith("seq 4,711") for line in lines)
    assert any(line.startswith("limited now by the hour, for ") for line in lines)
    _code, out, _err = typed("hosts", "show", ONE, "--json")
    told = json.loads(out)
    assert [(drop["reason"], drop["count"]) for drop in told["drops"]] == [
        ("worse", 1200),
        ("bad", 3),
    ]
    assert (told["connected"], told["limited_by"], told["per_hour"]) == (True, "hour", 7)
    database.execute("UPDATE host SET connected = false, failures = 3, limited_by = NULL,"
                     " next_dial_at = now() + interval '1 hour'")  # fmt: skip
    _code, out, _err = typed("hosts", "show", ONE)
    assert "no, 3 attempts since the last progress, the next in " in out
    code, _out, err = typed("hosts", "show", "tow.example")
    assert (code, "tow.example is not known here" in err) == (1, True)


def test_a_host_of_a_banned_domain_shows_as_banned(database: Database, typed: Typed) -> None:
    database.execute("INSERT INTO domain_ban (domain) VALUES ('example')")
    _code, out, _err = typed("hosts", "list", "--status", "banned", "--json")
    (host,) = json.loads(out)
    assert (host["host"], host["wanted"], host["banned_domain"]) == (ONE, "active", "example")
    _code, out, _err = typed("hosts", "show", ONE)
    assert "banned, as all of example" in out
    database.execute("UPDATE domain_ban SET domain = 'ample'")
    _code, out, _err = typed("hosts", "list", "--status", "banned", "--json")
    assert json.loads(out) == []


def test_a_level_is_set_by_a_word(database: Database, typed: Typed) -> None:
    database.execute(
        "UPDATE host SET level_since = now() - interval '1 day', checked = 7,"
        " waived_at = now() - interval '1 hour'"
    )
    told = changes(typed, database, "level", "https://ONE.example/", "observe")
    assert "one.example is judged at observe since 20" in told
    assert "when nothing was waived for 36h" in told
    assert "nothing was waived since; 0 commits have passed" in told
    assert row_of(database)["level"] == "observe"
    assert row_of(database, "localhost:2583")["level"] == "enforce"
    database.execute("UPDATE host SET waived_at = to_timestamp(60), checked = 1234")
    code, out, _err = typed("hosts", "level", ONE)
    assert code == 0
    assert "something was last waived at 1970-01-01T00:01:00.000Z; 1,234 commits" in out
    assert json.loads(typed("hosts", "level", ONE, "--json")[1])["level"] == "observe"
    code, out, err = typed("hosts", "level", ONE, "lenient")
    assert (code, out, "lenient" in err) == (2, "", True)
    assert row_of(database)["level"] == "observe"


def test_a_ban_and_its_end(database: Database, typed: Typed) -> None:
    assert changes(typed, database, "ban", ONE) == "one.example is banned\n"
    assert row_of(database)["wanted"] == "banned"
    code, out, _err = typed("hosts", "unban", ONE)
    assert (code, out) == (0, "one.example is not banned\n")
    assert row_of(database)["wanted"] == "active"
    _code, out, _err = typed("hosts", "unban", ONE)
    assert "nothing was changed" in out
    assert audited(database) == [
        ("ban_host", ONE, "active", "banned"), ("unban_host", ONE, "banned", "active"),
    ]  # fmt: skip


def test_a_banned_host_is_not_deleted_as_anybody_could_have_it_added_again(
    database: Database, typed: Typed
) -> None:
    assert typed("hosts", "ban", ONE)[0] == 0
    code, _out, err = typed("hosts", "delete", ONE)
    assert (code, "is banned" in err, row_of(database)["wanted"]) == (1, True, "banned")
    typed("hosts", "unban", ONE)
    assert typed("hosts", "delete", ONE)[:2] == (0, "one.example is deleted\n")


def test_a_deleted_host_is_shown_to_nobody_and_may_be_added_again(
    database: Database, typed: Typed
) -> None:
    assert typed("hosts", "delete", ONE)[:2] == (0, "one.example is deleted\n")
    _code, out, _err = typed("hosts", "list", "--json")
    assert [host["host"] for host in json.loads(out)] == ["localhost:2583"]
    for word in ("show", "ban", "delete"):
        code, _out, err = typed("hosts", word, ONE)
        assert (code, "is not known here" in err) == (1, True)
    number = row_of(database)["id"]
    assert typed("hosts", "add", ONE, "--no-check")[:2] == (0, "one.example is added\n")
    assert row_of(database)["id"] == number
    assert row_of(database)["wanted"] == "active"


def test_each_ask_for_a_dial_is_a_new_one(database: Database, typed: Typed) -> None:
    for number in (1, 2):
        assert typed("hosts", "dial", ONE)[0] == 0
        assert row_of(database)["dial_asked"] == number


def test_limits_are_set_and_taken_back_to_the_formula(database: Database, typed: Typed) -> None:
    told = changes(typed, database, "limits", ONE, "--accounts", "5000", "--per-second", "9")
    assert "may have 5,000 accounts, and send 9 a second (set), 7,500 an hour, 70,000 a day" in told
    row = row_of(database)
    assert (row["account_limit"], row["per_second"], row["per_hour"]) == (5000, 9, None)
    code, out, _err = typed("hosts", "limits", ONE)
    assert (code, out) == (0, told)
    assert json.loads(typed("hosts", "limits", ONE, "--json")[1])["per_second"] == 9
    code, out, _err = typed("hosts", "limits", ONE, "--per-second", "formula", "--json")
    assert json.loads(out) == {"action": "set_limits", "subject": ONE, "changed": True}
    assert row_of(database)["per_second"] is None
    code, _out, err = typed("hosts", "limits", ONE, "--per-day", "lots")
    assert (code, "'lots' is no whole number" in err) == (2, True)


def test_trust_and_alerts_are_said(database: Database, typed: Typed) -> None:
    assert changes(typed, database, "trust", ONE, "yes") == "one.example is trusted\n"
    assert row_of(database)["trusted"] is True
    assert typed("hosts", "alerts", ONE, "off")[:2] == (0, "one.example is not warned of\n")
    assert row_of(database)["alerts_silenced"] is True
    assert typed("hosts", "trust", ONE, "perhaps")[0] == 2


def test_a_cursor_is_set_and_begins_a_generation(database: Database, typed: Typed) -> None:
    told = changes(typed, database, "cursor", ONE, "4711")
    assert told == "one.example is read from behind 4711\n"
    row = row_of(database)
    assert (row["cursor"], row["generation"]) == (4711, 2)
    assert typed("hosts", "cursor", ONE, "start")[0] == 0
    assert row_of(database)["cursor"] == 0
    assert typed("hosts", "cursor", ONE, "live")[0] == 0
    assert row_of(database)["cursor"] is None
    assert typed("hosts", "cursor", ONE, "-1")[0] == 2
    assert typed("hosts", "cursor", ONE, "soon")[0] == 2


def test_a_host_is_added_as_its_operator_says(
    database: Database, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDPIPE_DEFAULT_ACCOUNT_LIMIT", "55")
    code, out, _err = typed("hosts", "add", "two.example", "--no-check")
    assert (code, out) == (0, "two.example is added\n")
    row = row_of(database, "two.example")
    assert (row["cursor"], row["account_limit"], row["added_by"]) == (0, 55, "operator")
    assert typed("hosts", "add", "a.host.bsky.network", "--no-check", "--live")[0] == 0
    row = row_of(database, "a.host.bsky.network")
    assert (row["cursor"], row["account_limit"], row["trusted"]) == (None, 10_000_000, True)
    words = ("add", "three.example", "--no-check", "--cursor", "9", "--accounts", "1", "--trusted")
    assert typed("hosts", *words)[0] == 0
    row = row_of(database, "three.example")
    assert (row["cursor"], row["account_limit"], row["trusted"]) == (9, 1, True)
    # What is there is not asked anything, and stays as it is.
    code, out, _err = typed("hosts", "add", ONE, "--accounts", "1")
    assert (code, out) == (0, "one.example is there already; nothing was changed\n")
    assert row_of(database)["account_limit"] == 100


@pytest.mark.usefixtures("database")
def test_a_host_that_may_not_be_added_is_refused_by_name(typed: Typed) -> None:
    typed("domains", "ban", "example.org")
    for name, why in (
        ("pds.example.org", "example.org is banned"),
        ("192.0.2.1", "no name of the public internet"),
        ("two.example/path", "more than a host"),
        # Nobody answers there.
        ("https://localhost:1", "was not added"),
    ):
        code, out, err = typed("hosts", "add", name)
        assert (code, out) == (1, ""), name
        assert why in err


@pytest.mark.parametrize("text", ["One.Example", "https://one.example", "wss://one.example/"])
def test_a_host_is_known_however_it_is_written(text: str) -> None:
    assert hostname_of(text) == ONE
