"""`standpipe shards` and `standpipe curve`: what they print, and with which exit code they end."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from common.command.__main__ import main
from common.command.shards import as_text, as_value, spans
from common.command.tables import Member, Shard
from common.sharding import SHARD_COUNT, shard_of
from tests.relay import ROOT

MEMBERS = [Member(0, 0.4, True), Member(1, 0.5, True), Member(5, 9000.0, False)]


def shards(**changed: Shard) -> list[Shard]:
    found = [Shard(n, n % 2, 100 + n, 5.5, 10, 1.5) for n in range(SHARD_COUNT)]
    for shard in changed.values():
        found[shard.number] = shard
    return found


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([3], "3"), ([0, 1, 2, 5, 7, 8], "0-2 5 7-8"), (list(range(64)), "0-63")],
)
def test_numbers_are_told_in_spans(numbers: list[int], text: str) -> None:
    assert spans(numbers) == text


def test_each_process_has_a_line_with_its_load_and_the_dead_have_none() -> None:
    text = as_text(shards(), MEMBERS)
    lines = [line.split() for line in text.splitlines()]
    assert lines[1][:7] == ["ingest-0", "0s", "ago", "5.5", "s", "48.0", "320"]
    assert lines[1][7:10] == ["32:", "0", "2"]
    assert "ingest-5" not in text
    assert text.endswith("every shard is read")


def test_what_nobody_reads_is_told() -> None:
    found = shards(a=Shard(3, None, 9, 0.0, 4, 0.1), b=Shard(4, 5, 9, -2.0, 4, 0.1))
    text = as_text(found, MEMBERS)
    assert text.endswith("nobody reads the shards 3-4")
    assert "ingest-5" in text, "who has shards is shown, alive or not"
    assert "run out" in text
    value = as_value(found, MEMBERS)
    assert value["unread"] == [3, 4]
    assert [each["shards"] for each in value["processes"]] == [31, 31, 1]
    assert value["processes"][0]["load"] == 46.5


def test_the_command_asks_the_relays_tables(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute((ROOT / "common" / "schema.sql").read_text())
        assert main(["shards"]) == 1
        assert "no ingest process has looked" in capsys.readouterr().out
        connection.execute(
            "INSERT INTO shard (number, owner, instance, epoch, expires_at, load, hosts)"
            " SELECT n, 0, 7, 9, now() + interval '1 hour', 0.5, 2 FROM generate_series(0, 63) n"
        )
        connection.execute(
            "INSERT INTO member VALUES"
            " (0, 7, now() + interval '1 hour'), (1, 7, now() - interval '7 s')"
        )
        connection.execute(
            "INSERT INTO host (hostname, account_limit) VALUES ('pds.example.com', 9)"
        )
        assert main(["shards", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [(each["number"], each["alive"]) for each in told["processes"]] == [
            (0, True), (1, False),
        ]  # fmt: skip
        assert (told["processes"][0]["load"], told["processes"][0]["hosts"]) == (32.0, 128)
        assert 0 < told["shards"][0]["lease_s"] <= 3600
        assert main(["shards", "--of", "pds.example.com", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert [each["number"] for each in told["shards"]] == [shard_of("pds.example.com")]
        assert main(["shards", "--of", "nobody.example.com"]) == 1
        connection.execute("UPDATE shard SET owner = NULL WHERE number = 9")
        assert main(["shards"]) == 1


def test_keys_are_made_once_and_more_machines_are_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys"
    assert main(["curve", str(keys)]) == 0
    out = capsys.readouterr().out
    assert f"STANDPIPE_CURVE_DIR={keys}/persist" in out
    assert "machine ingest" in out
    secret = (keys / "persist" / "server.key").read_bytes()
    assert main(["curve", str(keys), "second", "third"]) == 0
    assert (keys / "persist" / "server.key").read_bytes() == secret
    assert sorted(path.stem for path in (keys / "persist" / "clients").iterdir()) == [
        "ingest", "second", "third",
    ]  # fmt: skip
    assert main(["curve", str(keys), "second"]) == 1
    assert "is there already" in capsys.readouterr().err
    for bad in ("persist", "../up", "A", ""):
        with pytest.raises(SystemExit) as told:
            main(["curve", str(keys), bad])
        assert told.value.code == 2
