"""`standpipe hosts`, `level` and `rejects`: what an operator types, and what is answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from common.command.__main__ import main
from common.command.control import hostname_of
from common.command.words import (
    Host,
    changed_text,
    duration_text,
    hosts_text,
    level_text,
    rejects_text,
    table,
    visible,
)
from common.reject import RejectRow
from common.verdict import RULES, DropReason
from tests.relay import ROOT

DIDS = [f"did:plc:{letter * 24}" for letter in "ab"]
REASON = DropReason.PREV_DATA_MISMATCH
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def database(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection[Any]]:
    """Two hosts; five drops of the first one."""
    monkeypatch.setenv("STANDPIPE_DATABASE_URL", postgres_url)
    monkeypatch.setenv("STANDPIPE_OBSERVE_CLEAN_PERIOD", "36h")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute((ROOT / "common" / "schema.sql").read_text())
        for name in ("one.example", "localhost:2583"):
            connection.execute(
                "INSERT INTO host (hostname, account_limit) VALUES (%s, 100)", (name,)
            )
        for number in range(1, 6):
            connection.execute(
                "INSERT INTO reject (host_id, at, reason, detail, kind, did, rev, seq, size, frame)"
                " VALUES (1, to_timestamp(%s), %s, 'why \x1b[2J', 'commit', %s, '3l2gkqkqxcc2a', %s,"
                " 3, %s)",
                (1e9 + number, REASON, DIDS[number % 2], number, b"\0\xff%d" % number),
            )
        connection.execute("UPDATE reject SET frame = NULL WHERE id = 1")
        yield connection


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Typed:
    """Run a command → exit code, what it printed, what it complained of."""

    def run(*words: str) -> tuple[int, str, str]:
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(str(ended.code))
        out, err = capsys.readouterr()
        return code, out, err

    return run


def level_of(database: psycopg.Connection[Any], number: int = 1) -> str:
    row = database.execute("SELECT level FROM host WHERE id = %s", (number,)).fetchone()
    assert row is not None
    return str(row[0])


def test_a_level_is_set_by_a_word_and_the_answer_says_what_it_was(
    database: psycopg.Connection[Any], typed: Typed
) -> None:
    database.execute(
        "UPDATE host SET level_since = now() - interval '1 day', checked = 7,"
        " waived_at = now() - interval '1 hour'"
    )
    code, out, err = typed("level", "https://ONE.example/", "observe")
    assert (code, err) == (0, "")
    assert out.startswith("one.example was at enforce since 20")
    assert "is at observe now" in out
    assert "when nothing was waived for 36h" in out
    assert "nothing was waived since; 0 commits have passed" in out
    assert level_of(database) == "observe"
    code, out, err = typed("level", "one.example", "enforce")
    assert out.startswith("one.example was at observe since")
    assert level_of(database) == "enforce"
    assert level_of(database, 2) == "enforce"


def test_a_level_that_is_said_again_changes_nothing(
    database: psycopg.Connection[Any], typed: Typed
) -> None:
    database.execute(
        "UPDATE host SET level = 'observe', level_since = now() - interval '1 day', checked = 7,"
        " waived_at = now() - interval '2 hours'"
    )
    before = database.execute("SELECT * FROM host ORDER BY id").fetchall()
    for _ in range(2):
        code, out, _err = typed("level", "one.example", "observe")
        assert code == 0
        assert "one.example is at observe already; nothing was changed" in out
        assert "7 commits have passed" in out
    assert database.execute("SELECT * FROM host ORDER BY id").fetchall() == before


def test_a_level_is_shown_without_being_set(
    database: psycopg.Connection[Any], typed: Typed
) -> None:
    code, out, _err = typed("level", "localhost:2583")
    assert code == 0
    assert out.startswith("localhost:2583 is judged at enforce since")
    assert level_of(database, 2) == "enforce"


def test_unknown_hosts_and_words_are_refused_by_name(
    database: psycopg.Connection[Any], typed: Typed
) -> None:
    code, out, err = typed("level", "tow.example", "observe")
    assert (code, out) == (1, "")
    assert "tow.example is not known here" in err
    code, out, err = typed("level", "one.example", "lenient")
    assert (code, out) == (2, "")
    assert "'lenient' is neither enforce nor observe" in err
    code, _out, err = typed("rejects", "tow.example")
    assert (code, "tow.example is not known here" in err) == (1, True)
    code, _out, err = typed("rejects", "--did", "alice")
    assert (code, "'alice' is no DID" in err) == (1, True)
    code, _out, err = typed("rejects")
    assert (code, "name a HOST" in err) == (2, True)
    for limit in ("0", "1001", "many"):
        code, _out, err = typed("rejects", "one.example", "--limit", limit)
        assert (code, repr(limit) in err) == (2, True)
    assert level_of(database) == "enforce"


@pytest.mark.usefixtures("database")
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


@pytest.mark.usefixtures("database")
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


def test_all_hosts_are_listed_with_their_level(
    database: psycopg.Connection[Any], typed: Typed
) -> None:
    database.execute(
        "UPDATE host SET level = 'observe', waived = 1234, discontinuous = 5, wanted = 'banned',"
        " waived_at = to_timestamp(1e9) WHERE id = 1"
    )
    code, out, _err = typed("hosts")
    assert code == 0
    head, *rows = out.splitlines()
    assert head.split()[:4] == ["host", "status", "level", "since"]
    assert [row.split()[:3] for row in rows] == [
        ["localhost:2583", "idle", "enforce"], ["one.example", "banned", "observe"],
    ]  # fmt: skip
    assert rows[1].split()[4:] == ["5", "1,234"]
    _code, out, _err = typed("hosts", "--json")
    shown = json.loads(out)[1]
    assert (shown["host"], shown["wanted"], shown["level"]) == ("one.example", "banned", "observe")
    assert shown["waived_at"] == "2001-09-09T01:46:40.000Z"


def test_a_relay_that_is_not_there_is_told(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STANDPIPE_DATA_DIR", str(tmp_path / "none"))
    code, _out, err = typed("hosts")
    assert code == 1
    assert f"no relay has run in {tmp_path / 'none'}" in err
    monkeypatch.setenv("STANDPIPE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    code, _out, err = typed("rejects", "one.example")
    assert code == 1
    assert "the database does not answer; is the relay running?" in err
    assert "Traceback" not in err
    monkeypatch.setenv("STANDPIPE_OBSERVE_CLEAN_PERIOD", "soon")
    code, _out, err = typed("hosts")
    assert code == 2
    assert "STANDPIPE_OBSERVE_CLEAN_PERIOD='soon' is no duration" in err


def test_an_empty_database_is_told(
    postgres_url: str, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDPIPE_DATABASE_URL", postgres_url)
    code, _out, err = typed("hosts")
    assert code == 1
    assert "the database is not as this release leaves it" in err


# --- words ---


def test_a_terminal_gets_no_commands_from_a_host() -> None:
    assert visible("a\x1b[31mb\nc\u202ed é") == "a\\x1b[31mb\\nc\\u202ed é"


def test_columns_stand_below_each_other() -> None:
    assert table([("a", "bbb"), ("ccc", "d"), ("", "e")]) == "a    bbb\nccc  d\n     e"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(259_200.0, "72h"), (5400.0, "1h30m"), (45.0, "45s"), (3661.0, "1h1m1s"), (0.0, "0s")],
)
def test_a_duration_is_told_as_a_setting_says_it(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_what_is_not_known_of_a_message_is_told_as_such() -> None:
    row = RejectRow(1, None, 0.0, "of_the_future", "", None, None, None, None, 0)
    assert rejects_text([row]).splitlines() == [
        "1970-01-01T00:00:00.000Z  of_the_future (no rule)  from a host of old",
        "    not legible · no DID · 0 bytes",
    ]


def test_levels_are_told_in_words() -> None:
    host = Host(1, "one.example", "active", "active", "observe", 0.0, 0, 3, 60.0, 1234, None)
    told = level_text(host, 60.0)
    assert "something was last waived at 1970-01-01T00:01:00.000Z; 1,234 commits" in told
    assert "nothing was waived since; " in level_text(host._replace(waived_s=None), 60.0)
    assert "nothing was changed" in changed_text(host, host)
    assert hosts_text([]) == "no hosts are known"


@pytest.mark.parametrize("text", ["One.Example", "https://one.example", "wss://one.example/"])
def test_a_host_is_known_however_it_is_written(text: str) -> None:
    assert hostname_of(text) == "one.example"
