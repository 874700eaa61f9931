"""`standpipe log info`, `dump`, `tail`, `verify` and `standpipe pg`: what is typed, and what is answered."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from common.chunk import Row
from common.command.__main__ import main
from common.command.log_words import event_line, event_value
from common.log_walk import Found, walk
from common.segment_files import HEAD_NAME, HeadFile, list_segments, segment_path
from tests.fix_net import eventually
from tests.fix_postgres import Postgres
from tests.persist.written import HOST, Written
from tests.relay import ROOT
from tests.running.typed import Typed
from tests.simnet.truth import open_frame


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Several segments, two claims, numbers left out between them."""
    written = Written(tmp_path / "log", segment_bytes=10_000)
    written.lives("alice", "bob", commits=4)
    written.lives("carol", commits=2, floor_seq=5000)
    return written


def files_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def seqs(out: str) -> list[int]:
    return [int(line.split()[0]) for line in out.splitlines()]


def all_seqs(log_dir: Path) -> list[int]:
    chunks = [found.chunk for found in walk(log_dir) if isinstance(found, Found)]
    return [seq for chunk in chunks for seq in range(chunk.first_seq, chunk.next_seq)]


def test_info_tells_what_the_log_is_made_of(written: Written, typed: Typed) -> None:
    code, out, err = typed("log", "info", "--log-dir", str(written.log_dir), "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    last = max(seq for seq, _ in written.states.values())
    assert told["formats"] == [1]
    assert told["segments"] == len(list_segments(written.log_dir)) >= 3
    assert told["bytes"] == sum(path.stat().st_size for path in written.log_dir.glob("*.seg"))
    assert (told["oldest_seq"], told["durable_seq"], told["epoch"]) == (1, last, 2)
    assert told["oldest_at"].startswith("2023-11-14T22:13:2")
    assert told["durable_at"] > told["oldest_at"]
    assert [(claim["epoch"], claim["seq"], claim["info"]) for claim in told["claims"]] == [
        (1, 1, "a writer"), (2, 5000, "a writer"),
    ]  # fmt: skip
    (hole,) = told["holes"]
    assert hole["until_seq"] == 5000
    assert hole["from_seq"] == all_seqs(written.log_dir).index(5000) + 1
    assert (told["checkpoint_age_s"], told["damage"]) == (None, [])
    (written.log_dir / "checkpoint").touch()
    code, out, _err = typed("log", "info", "--log-dir", str(written.log_dir))
    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["hole"].startswith(f"seqs {hole['from_seq']} to 4999 were never given")
    assert lines["checkpoint"].endswith("s old")


def test_dump_prints_each_event_once_and_writes_frames_as_consumers_get_them(
    written: Written, typed: Typed, tmp_path: Path
) -> None:
    place = ("--log-dir", str(written.log_dir))
    expected = all_seqs(written.log_dir)
    code, out, _err = typed("log", "dump", *place)
    assert (code, seqs(out)) == (0, expected)
    fields = out.splitlines()[0].split()
    assert fields[2:] == ["identity", "did:web:alice.test", "-", f"{HOST}.1", "1", "-"]
    for first, last in ((1, 3), (7, 20), (5000, 5002), (expected[-1], expected[-1])):
        _code, out, _err = typed("log", "dump", *place, "--from", str(first), "--to", str(last))
        assert seqs(out) == [seq for seq in expected if first <= seq <= last]
    _code, out, _err = typed("log", "dump", *place, "--from", "4", "--limit", "2")
    assert seqs(out) == [4, 5]
    # From within the numbers that were left out it goes on behind them.
    _code, out, _err = typed("log", "dump", *place, "--from", "4000", "--limit", "1", "--json")
    assert json.loads(out)["seq"] == 5000
    folder = tmp_path / "frames"
    code, out, err = typed("log", "dump", *place, "--limit", "9", "--frames", str(folder))
    assert (code, f"9 frames written to {folder}" in err) == (0, True)
    frames = sorted(folder.iterdir(), key=lambda path: int(path.name.split("-")[0]))
    assert [path.name.partition("-")[2] for path in frames][:2] == ["identity.frame"] * 2
    for seq, path in enumerate(frames, 1):
        kind, body = open_frame(path.read_bytes())
        assert body["seq"] == seq
        assert path.name == f"{seq}-{kind.lstrip('#')}.frame"


def test_tail_prints_the_last_ones(written: Written, typed: Typed) -> None:
    expected = all_seqs(written.log_dir)
    code, out, _err = typed("log", "tail", "--log-dir", str(written.log_dir), "-n", "3")
    assert (code, seqs(out)) == (0, expected[-3:])
    _code, out, _err = typed("log", "tail", "--log-dir", str(written.log_dir))
    assert seqs(out) == expected[-10:]


def test_nothing_is_told_that_is_not_durable(written: Written, typed: Typed) -> None:
    expected = all_seqs(written.log_dir)
    with closing(HeadFile(written.log_dir / HEAD_NAME, writable=True)) as head:
        head.durable_seq = expected[-3]
    for words, count in ((("dump",), len(expected)), (("tail", "-n", "5"), 5)):
        code, out, _err = typed("log", *words, "--log-dir", str(written.log_dir))
        assert (code, seqs(out)) == (0, expected[:-2][-count:])


def test_tail_follows_what_becomes_durable(written: Written) -> None:
    command = [sys.executable, "-m", "common.command", "log", "tail", "-f", "-n", "1", "--log-dir"]
    with subprocess.Popen(
        [*command, str(written.log_dir)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        reading = threading.Thread(target=lambda: lines.extend(process.stdout or []))
        reading.start()
        try:
            eventually(lambda: len(lines) == 1, 60, "the last event")
            durable_seq = all_seqs(written.log_dir)[-1]
            written.lives("dave", commits=3)
            after = [seq for seq in all_seqs(written.log_dir) if seq > durable_seq]
            assert len(after) > 5
            eventually(lambda: len(lines) == 1 + len(after), 60, "what came")
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
        reading.join(60)
    assert seqs("".join(lines)) == [durable_seq, *after]


def test_a_reader_that_has_seen_enough_is_no_fault(written: Written) -> None:
    command = f"{sys.executable} -m common.command log dump --log-dir {written.log_dir}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | head -n 1"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("tool", ["info", "dump", "tail", "verify"])
def test_damage_is_named_and_what_lies_behind_is_told(
    tool: str, written: Written, typed: Typed
) -> None:
    place = written.log_dir
    chunks = [each for each in walk(place) if isinstance(each, Found)]
    # Before the hole all that is known of the damage's end is who comes behind the hole.
    dense = [
        each
        for each, after in pairwise(chunks)
        if each.chunk.count
        and (after.file, after.chunk.first_seq) == (each.file, each.chunk.next_seq)
    ]
    hurt = dense[-1 if tool == "tail" else 1]
    path = place / hurt.file
    data = bytearray(path.read_bytes())
    data[hurt.offset] ^= 1
    path.write_bytes(data)
    words = ("-n", "100000") if tool == "tail" else ()
    code, out, err = typed("log", tool, "--log-dir", str(place), *words)
    assert code == 1
    said = out if tool in ("info", "verify") else err
    assert f"{path.name}, byte {hurt.offset}: " in said
    if tool in ("dump", "tail"):
        lost = range(hurt.chunk.first_seq, hurt.chunk.next_seq)
        assert seqs(out) == all_seqs(place)
        assert not {*lost} & {*seqs(out)}
        assert f"seqs {lost[0]} to {lost[-1]} are lost" in err


def test_what_verify_finds_is_there_for_scripts(written: Written, typed: Typed) -> None:
    words = ("log", "verify", "--log-dir", str(written.log_dir), "--json")
    code, out, _err = typed(*words)
    told = json.loads(out)
    assert (code, told["sound"], told["damage"]) == (0, True, [])
    # Every key that is there is told by --help.
    named = set(
        re.findall(r"\w+", typed("log", "verify", "--help")[1].partition("--json prints")[2])
    )
    assert {*told, "accounts", "cursors_above"} <= named
    path = segment_path(written.log_dir, 1)
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    code, out, _err = typed(*words)
    told = json.loads(out)
    assert (code, told["sound"], told["findings"]) == (1, False, len(told["damage"]))
    assert told["damage"][0].startswith(f"{path.name}, byte ")


def test_nothing_is_written_and_no_lock_is_taken(written: Written, typed: Typed) -> None:
    place = written.log_dir
    before = files_of(place)
    for tool in ("info", "dump", "tail", "verify"):
        assert typed("log", tool, "--log-dir", str(place))[0] == 0
    assert files_of(place) == before
    # A copy of the segments is enough.
    for path in place.iterdir():
        if path.suffix != ".seg":
            path.unlink()
    before = files_of(place)
    expected = all_seqs(place)
    assert seqs(typed("log", "dump", "--log-dir", str(place))[1]) == expected
    told = json.loads(typed("log", "info", "--log-dir", str(place), "--json")[1])
    assert (told["head"], told["durable_seq"]) == (False, expected[-1])
    for tool in ("tail", "verify"):
        assert typed("log", tool, "--log-dir", str(place))[0] == 0
    assert files_of(place) == before


def test_a_place_without_a_log_and_wrong_words_are_told(typed: Typed, tmp_path: Path) -> None:
    for tool in ("info", "dump", "tail", "verify"):
        code, _out, err = typed("log", tool, "--log-dir", str(tmp_path / "none"))
        assert (code, f"there is no log in {tmp_path / 'none'}" in err) == (1, True)
    assert not (tmp_path / "none").exists()
    assert typed("log", "dump", "--from", "0")[0] == 2
    assert typed("log")[0] == 2
    assert typed("pg")[0] == 2


def test_a_relay_that_does_not_run_cannot_be_stopped(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDPIPE_DATA_DIR", str(tmp_path / "none"))
    code, _out, err = typed("stop")
    assert (code, f"no relay runs on {tmp_path / 'none'}" in err) == (1, True)


def test_a_frame_that_does_not_decode_is_told_by_its_row() -> None:
    row = Row(0, 9, 1, 6, 5, 3, 1, 77, 1, 2, 1_000_000, 0, b"x" * 16)
    assert event_line(4, row, None) == (
        "4  1970-01-01T00:00:01.000Z  commit    ?  ?  3.1  77  waived,ours"
    )
    assert event_value(4, row, None)["did"] is None


# --- the database ---


def test_a_program_of_postgresql_runs_on_the_database_of_a_relay_that_is_stopped(
    data_dir: Path,
) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "STANDPIPE_DATA_DIR": str(data_dir),
        "STANDPIPE_METRICS_PORT": "0",
    }

    def pg(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "common.command", "pg", *words],
            cwd=ROOT, env=environ, capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = pg("psql", "-tAc", "SELECT 6 * 7")
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    # It was started for that alone.
    assert not list(data_dir.rglob("postmaster.pid"))
    assert pg("psql", "-c", "SELECT nonsense").returncode == 1
    done = pg("rm", "-rf", "x")
    assert (done.returncode, "is none of PostgreSQL's programs" in done.stderr) == (2, True)


def test_a_program_runs_on_the_database_that_answers(
    own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STANDPIPE_DATA_DIR", str(own_postgres.paths.data_dir))
    assert main(["pg", "psql", "-tAc", "SELECT current_database()"]) == 0
    assert capfd.readouterr().out == "postgres\n"
    monkeypatch.setenv("STANDPIPE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert main(["pg", "psql", "-c", "SELECT 1"]) == 1
    assert "the database does not answer" in capfd.readouterr().err
