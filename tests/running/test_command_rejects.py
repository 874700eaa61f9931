"""`standpipe rejects`: what an operator types, and what is answered. And how things look on a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.command.rejects import rejects_text
from common.command.words import age_text, duration_text, pairs, table, visible
from common.reject import RejectRow
from common.verdict import RULES, DropReason
from tests.running.typed import DIDS, Database, Typed

REASON = DropReason.PREV_DATA_MISMATCH


@pytest.fixture
def drops(database: Database) -> Database:
    """Five drops of the first host."""
    for number in range(1, 6):
        database.execute(
            "INSERT INTO reject (host_id, at, reason, detail, kind, did, rev, seq, size, frame)"
            " VALUES (1, to_timestamp(%s), %s, 'why \x1b[2J', 'commit', %s, '3l2gkqkqxcc2a', %s,"
            " 3, %s)",
            (1e9 + number, REASON, DIDS[number % 2], number, b"\0\xff%d" % number),
        )
    database.execute("UPDATE reject SET frame = NULL WHERE id = 1")
    return database


@pytest.mark.usefixtures("drops")
def test_what_was_dropped_is_shown_newest_first_with_reason_and_rules(typed: Typed) -> None:
    code, out, err = typed("rejects", "one.example")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 15
    rules = ", ".join(RULES[REASON])
    assert lines[:3] == [
        f"2001-09-09T01:46:45.000Z  prev_data_mismatch ({rules})  from one.example",
        f"    #commit · seq 5 · rev 3l2gkqkqxcc2a · {DIDS[1]} · 3 bytes",
        "    why \\x1b[2J",
    ]
    _code, out, _err = typed("rejects", "one.example", "--limit", "2")
    assert [line for line in out.splitlines() if "seq" in line] == [lines[1], lines[4]]
    _code, out, _err = typed("rejects", "--did", DIDS[0])
    assert [line.split(" · ")[1] for line in out.splitlines() if "seq" in line] == [
        "seq 4",
        "seq 2",
    ]
    _code, out, _err = typed("rejects", "one.example", "--did", DIDS[0], "--limit", "1", "--json")
    assert [row["seq"] for row in json.loads(out)] == [4]
    _code, out, _err = typed("rejects", "localhost:2583")
    assert out == "nothing that was dropped is kept\n"


@pytest.mark.usefixtures("drops")
def test_unknown_hosts_and_words_are_refused_by_name(typed: Typed) -> None:
    code, _out, err = typed("rejects", "tow.example")
    assert (code, "tow.example is not known here" in err) == (1, True)
    code, _out, err = typed("rejects", "--did", "alice")
    assert (code, "'alice' is no DID" in err) == (2, True)
    code, _out, err = typed("rejects")
    assert (code, "name a HOST" in err) == (2, True)
    for limit in ("0", "1001", "many"):
        code, _out, err = typed("rejects", "one.example", "--limit", limit)
        assert (code, repr(limit) in err) == (2, True)


@pytest.mark.usefixtures("drops")
def test_frames_are_written_as_the_host_sent_them(typed: Typed, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "frames"
    code, out, err = typed("rejects", "one.example", "--frames", str(folder))
    assert code == 0
    assert f"4 of 5 frames written to {folder}" in err
    assert "frames written" not in out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        f"{number}-prev_data_mismatch.frame": b"\0\xff%d" % number for number in (2, 3, 4, 5)
    }
    (tmp_path / "file").write_text("")
    code, _out, err = typed("rejects", "one.example", "--frames", str(tmp_path / "file"))
    assert code == 1
    assert "file" in err


def test_a_relay_that_is_not_there_is_told(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STANDPIPE_DATA_DIR", str(tmp_path / "none"))
    code, _out, err = typed("hosts", "list")
    assert code == 1
    assert f"no relay has run in {tmp_path / 'none'}" in err
    monkeypatch.setenv("STANDPIPE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    code, _out, err = typed("rejects", "one.example")
    assert code == 1
    assert "the database does not answer; is the relay running?" in err
    assert "Traceback" not in err
    monkeypatch.setenv("STANDPIPE_OBSERVE_CLEAN_PERIOD", "soon")
    code, _out, err = typed("hosts", "list")
    assert code == 2
    assert "STANDPIPE_OBSERVE_CLEAN_PERIOD='soon' is no duration" in err


def test_an_empty_database_is_told(
    postgres_url: str, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDPIPE_DATABASE_URL", postgres_url)
    code, _out, err = typed("hosts", "list")
    assert code == 1
    assert "the database is not as this release leaves it" in err


# --- words ---


def test_a_terminal_gets_no_commands_from_a_host() -> None:
    assert visible("a\x1b[31mb\nc\u202ed é") == "a\\x1b[31mb\\nc\\u202ed é"


def test_columns_stand_below_each_other() -> None:
    assert table([("a", "bbb"), ("ccc", "d"), ("", "e")]) == "a    bbb\nccc  d\n     e"
    assert pairs([("a", "one\ntwo"), ("bcd", "")]) == "a    one\n     two\nbcd"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(259_200.0, "72h"), (5400.0, "1h30m"), (45.0, "45s"), (3661.0, "1h1m1s"), (0.0, "0s")],
)
def test_a_duration_is_told_as_a_setting_says_it(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1.0, "0s"), (59.9, "59s"), (69.0, "1m09s"), (7500.0, "2h05m"), (273_600.0, "3d04h")],
)
def test_an_age_is_told_in_two_units(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


def test_what_is_not_known_of_a_message_is_told_as_such() -> None:
    row = RejectRow(1, None, 0.0, "of_the_future", "", None, None, None, None, 0)
    assert rejects_text([row]).splitlines() == [
        "1970-01-01T00:00:00.000Z  of_the_future (no rule)  from a host of old",
        "    not legible · no DID · 0 bytes",
    ]
