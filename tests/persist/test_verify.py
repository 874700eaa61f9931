"""Does `persist.verify` find each kind of damage by name, and nothing where there is none?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from common.chunk import HEAD, Chunk, Row, encode_chunk, peek_head
from common.log_walk import Found, walk
from common.segment_files import CHECKPOINT_NAME, HEAD_NAME, HeadFile, list_segments, segment_path
from persist import findings, verify
from persist.checkpoint import decode_checkpoint, encode_checkpoint
from persist.verify import CURSOR_SLACK, main
from tests.fix_postgres import Postgres, drop_database
from tests.persist.running import Relay
from tests.persist.written import HOST, Written

Verified = Callable[..., tuple[int, str]]


class Viewed:
    """A log of several segments and two claims, and the view that persist made of it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.log_dir = folder / "log"
        self.written = Written(self.log_dir)
        self.written.lives("erin", commits=1)
        self.written.lives("alice", "bob", "carol")
        self.written.lives("dave", commits=3)
        relay = Relay(folder, url)
        relay.config = replace(relay.config, replay_window_s=1e10)
        with relay.persist() as persist:
            while persist.worker is None or persist.error is None:
                with psycopg.connect(url, autocommit=True) as connection:
                    if connection.execute("SELECT to_regclass('relay')").fetchone() == ("relay",):
                        rows = connection.execute("SELECT count(*) FROM account").fetchone()
                        if rows == (5,):
                            break
        assert persist.error is None
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO host (id, hostname, account_limit, cursor) VALUES (%s, 'pds.test', 1, %s)",
                (HOST, self.written.upstream_seq),
            )


@pytest.fixture(scope="module")
def viewed(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewed]:
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE verified")
    folder = tmp_path_factory.mktemp("verified")
    try:
        yield Viewed(folder, postgres_server.url.replace("/postgres?", "/verified?"))
    finally:
        drop_database(postgres_server, "verified")


@pytest.fixture
def log_dir(viewed: Viewed, tmp_path: Path) -> Path:
    """A copy of the log, to be damaged."""
    return Path(shutil.copytree(viewed.log_dir, tmp_path / "log"))


@pytest.fixture
def verified(
    viewed: Viewed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Verified:
    """Verify → exit code, what was printed."""
    monkeypatch.setenv("STANDPIPE_DATABASE_URL", viewed.url)

    def run(log_dir: Path, *words: str) -> tuple[int, str]:
        code = main(["--log-dir", str(log_dir), *words])
        return code, capsys.readouterr().out

    return run


def chunks_of(log_dir: Path) -> list[Found]:
    return [found for found in walk(log_dir) if isinstance(found, Found)]


def middle(log_dir: Path) -> Found:
    """A chunk with events, in the midst of the second of several segments."""
    base = list_segments(log_dir)[1]
    name = segment_path(log_dir, base).name
    here = [each for each in chunks_of(log_dir) if each.file == name and each.chunk.count]
    return here[len(here) // 2]


def flip(log_dir: Path, file: str, offset: int) -> None:
    data = bytearray((log_dir / file).read_bytes())
    data[offset] ^= 0x40
    (log_dir / file).write_bytes(data)


# --- the log ---


def test_a_sound_log_and_its_view_are_sound(viewed: Viewed, verified: Verified) -> None:
    code, out = verified(viewed.log_dir, "--view")
    assert code == 0, out
    lines = out.splitlines()
    events = len(viewed.written.states) and viewed.written.upstream_seq
    size = sum(path.stat().st_size for path in viewed.log_dir.glob("*.seg"))
    assert lines[0].startswith(f"log: {events} events, {size:,} bytes, ")
    assert lines[0].endswith(" MB/s")
    assert lines[1].startswith("view: 5 accounts compared (0 of them in part), 0 have left")
    assert lines[1].endswith("; 1 cursors")
    assert lines[2:] == ["sound"]
    assert len(list_segments(viewed.log_dir)) >= 3
    assert verified(viewed.log_dir)[0] == 0


PARTS: dict[str, Callable[[Chunk], int]] = {
    "magic": lambda _chunk: 0,
    "first seq": lambda _chunk: 16,
    "chain": lambda _chunk: HEAD.size - 20,
    "time": lambda _chunk: HEAD.size - 9,
    "length of rows": lambda _chunk: HEAD.size - 8,
    "length of frames": lambda _chunk: HEAD.size - 2,
    "row": lambda chunk: chunk.rows_start + 30,
    "frame": lambda chunk: chunk.frames_start + 40,
    "crc": lambda chunk: len(chunk.raw) - 2,
}


@pytest.mark.parametrize("part", PARTS)
def test_a_flipped_bit_is_named_and_what_lies_behind_is_read(
    part: str, log_dir: Path, verified: Verified
) -> None:
    found = middle(log_dir)
    events = verified(log_dir)[1].split(" events")[0]
    flip(log_dir, found.file, found.offset + PARTS[part](found.chunk))
    for words in ([], ["--view"]):
        code, out = verified(log_dir, *words)
        assert code == 1
        (line,) = [line for line in out.splitlines() if line.startswith("damage:")]
        assert line.startswith(f"damage: {found.file}, byte {found.offset}: ")
        first, last = found.chunk.first_seq, found.chunk.next_seq - 1
        assert line.endswith(f"; seqs {first} to {last} are lost")
        assert out.splitlines()[-1] == "1 found"
        left = int(events.removeprefix("log: ")) - found.chunk.count
        assert f"log: {left} events" in out


def test_missing_cut_and_swapped_segments_are_named(
    viewed: Viewed, tmp_path: Path, verified: Verified
) -> None:
    bases = list_segments(viewed.log_dir)
    names = [segment_path(viewed.log_dir, base).name for base in bases]
    second = [each for each in chunks_of(viewed.log_dir) if each.file == names[1]]

    def damaged(how: str) -> list[str]:
        place = Path(shutil.copytree(viewed.log_dir, tmp_path / how))
        if how == "first missing":
            (place / names[0]).unlink()
        elif how == "second missing":
            (place / names[1]).unlink()
        elif how == "cut within a chunk":
            with (place / names[1]).open("r+b") as file:
                file.truncate(second[-1].offset + 9)
        elif how == "cut between chunks":
            with (place / names[1]).open("r+b") as file:
                file.truncate(second[-1].offset)
        elif how == "the last one cut":
            with (place / names[-1]).open("r+b") as file:
                file.truncate(70)
        else:
            (place / names[0]).rename(place / "spare")
            (place / names[1]).rename(place / names[0])
            (place / "spare").rename(place / names[1])
        code, out = verified(place)
        assert code == 1, how
        return [line.removeprefix("damage: ") for line in out.splitlines() if "damage: " in line]

    lost = f"seqs {bases[1]} to {bases[2] - 1} are lost"
    assert damaged("first missing") == [
        f"{names[0]}, byte 0: the segment is missing; seqs 1 to {bases[1] - 1} are lost"
    ]
    (line,) = damaged("second missing")
    assert line.startswith(f"{names[0]}, byte ")
    assert line.endswith(f"and the next segment begins at {bases[2]}; {lost}")
    tail = f"seqs {second[-1].chunk.first_seq} to {bases[2] - 1} are lost"
    (line,) = damaged("cut within a chunk")
    assert (
        line == f"{names[1]}, byte {second[-1].offset}: the bytes end within a chunk's head; {tail}"
    )
    (line,) = damaged("cut between chunks")
    assert line.startswith(f"{names[1]}, byte {second[-1].offset}: ends before seq ")
    assert line.endswith(tail)
    (line,) = damaged("the last one cut")
    assert line.startswith(f"{names[-1]}, byte ")
    assert "nothing can be read from seq" in line
    (line,) = damaged("swapped")
    assert line == (
        f"{names[0]}, byte 0: the file begins with seq {bases[1]}; seqs 1 to {bases[2] - 1} are lost"
    )


def test_a_chunk_that_was_taken_out_is_named(log_dir: Path, verified: Verified) -> None:
    """Every CRC is right; only the chain and the numbers show it."""
    found = middle(log_dir)
    data = (log_dir / found.file).read_bytes()
    end = found.offset + len(found.chunk.raw)
    (log_dir / found.file).write_bytes(data[: found.offset] + data[end:])
    code, out = verified(log_dir)
    assert code == 1
    (line,) = [line for line in out.splitlines() if line.startswith("damage:")]
    first, last = found.chunk.first_seq, found.chunk.next_seq - 1
    assert line == (
        f"damage: {found.file}, byte {found.offset}: a chunk does not name the CRC of the one before "
        f"it; seqs {first} to {last} are lost"
    )


def test_a_torn_tail_behind_what_was_announced_is_no_damage(
    log_dir: Path, verified: Verified
) -> None:
    newest = segment_path(log_dir, list_segments(log_dir)[-1])
    whole = newest.read_bytes()
    newest.write_bytes(whole + whole[:100])
    assert verified(log_dir)[0] == 0
    # Nor in a copy without the head file; there it is told.
    (log_dir / HEAD_NAME).unlink()
    code, out = verified(log_dir)
    assert code == 0
    assert f"note: {newest.name} ends within a chunk at byte {len(whole)}, which a start" in out


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("account", b"x" * 16, "names another account than its frame, did:web:"),
        ("kind", 4, "is of kind "),
        ("rev", 77, "has another rev than its frame"),
    ],
)
def test_a_row_that_says_other_than_its_frame_is_named(
    field: str, value: Any, says: str, log_dir: Path, verified: Verified
) -> None:
    found = [each for each in chunks_of(log_dir) if each.chunk.count][-1]
    replace_row(log_dir, found, lambda row: row._replace(**{field: value}))
    code, out = verified(log_dir)
    assert code == 1
    (line,) = [line for line in out.splitlines() if line.startswith("damage:")]
    at = found.offset + found.chunk.frames_start
    assert line.startswith(f"damage: {found.file}, byte {at}: the ")
    assert says in line


def replace_row(log_dir: Path, found: Found, change: Callable[[Row], Row]) -> None:
    """Write a chunk anew with its first row changed, and every CRC right; it is the log's last."""
    chunk = found.chunk
    rows = chunk.rows()
    rows[0] = change(rows[0])
    frames = chunk.raw[chunk.frames_start : chunk.frames_end]
    new = encode_chunk(
        chunk.kind, chunk.epoch, chunk.first_seq, chunk.prev_crc, chunk.time_us, rows, frames
    )
    path = log_dir / found.file
    data = bytearray(path.read_bytes())
    assert peek_head(bytes(data), found.offset).length == len(new.raw)
    data[found.offset : found.offset + len(new.raw)] = new.raw
    path.write_bytes(data)


def test_a_checkpoint_that_is_broken_or_ahead_of_the_log_is_named(
    log_dir: Path, verified: Verified
) -> None:
    path = log_dir / CHECKPOINT_NAME
    known = decode_checkpoint(path.read_bytes())
    assert known.durable_seq > 0
    path.write_bytes(encode_checkpoint(replace(known, durable_seq=known.durable_seq + 1)))
    code, out = verified(log_dir)
    assert code == 1
    assert f"mismatch: checkpoint: it says that seq {known.durable_seq + 1} had been reached" in out
    flip(log_dir, path.name, 20)
    code, out = verified(log_dir)
    assert (code, "damage: checkpoint: its CRC does not match its bytes" in out) == (1, True)
    path.unlink()
    assert verified(log_dir)[0] == 0


def test_a_hole_is_told_and_is_no_damage(tmp_path: Path, verified: Verified) -> None:
    written = Written(tmp_path / "holed")
    written.lives("alice")
    written.lives("bob", floor_seq=5000)
    code, out = verified(tmp_path / "holed")
    assert code == 0
    assert "note: a claim left out seqs 28 to 4999" in out


# --- the view ---


@pytest.fixture
def changed(viewed: Viewed) -> Iterator[Callable[[str], None]]:
    """Change the view by hand; it is put back afterwards."""
    tables = ("account", "host", "relay")
    with psycopg.connect(viewed.url, autocommit=True) as connection:
        # What PostgreSQL makes of the others by itself is not put back.
        columns = {
            table: ", ".join(
                row[0]
                for row in connection.execute(
                    "SELECT column_name FROM information_schema.columns"
                    " WHERE table_name = %s AND is_generated = 'NEVER'", (table,)
                )
            )
            for table in tables
        }  # fmt: skip
        for table in tables:
            connection.execute(f"CREATE TABLE kept_{table} AS SELECT {columns[table]} FROM {table}")
        try:
            yield lambda statement: closing(connection.execute(statement)).__exit__()
        finally:
            for table in tables:
                connection.execute(f"DELETE FROM {table}")
                connection.execute(
                    f"INSERT INTO {table} ({columns[table]}) SELECT * FROM kept_{table}"
                )
                connection.execute(f"DROP TABLE kept_{table}")


BOB = "did:web:bob.test"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("rev = '3aaaaaaaaaaaa'", "rev is '3aaaaaaaaaaaa', and the log led to '3"),
        ("data_cid = commit_cid", "data_cid is '0171"),
        ("commit_cid = data_cid", "commit_cid is '0171"),
        ("rev = NULL", "rev is None, and the log led to '3"),
        ("active = NOT active", "active is False, and the log led to True"),
        ("status = 'suspended'", "status is 'suspended', and the log led to None"),
        ("host_id = 9", "host_id is 9, and the log led to 3"),
        ("desynchronized = true", "desynchronized is True, and the log led to False"),
        ("discontinuities = 1", "discontinuities is 1, and the log led to 0"),
        ("local = 'takendown'", "local is 'takendown', and the log led to None"),
        ("over_limit = true", "over_limit is True, and the log led to False"),
        ("seq = seq - 1", "its newest event in the log is"),
        ("seq = 1000", "its row is of seq 1000, and the view was brought to"),
        ("did = 'did:web:nobody.test'", "the view knows nothing of it"),
    ],
)
def test_a_row_that_was_changed_by_hand_is_named(
    change: str,
    says: str,
    viewed: Viewed,
    verified: Verified,
    changed: Callable[[str], None],
) -> None:
    changed(f"UPDATE account SET {change} WHERE did = '{BOB}'")
    code, out = verified(viewed.log_dir, "--view")
    assert code == 1
    told = [line for line in out.splitlines() if line.startswith(f"mismatch: {BOB}: ")]
    assert len(told) == 1, out
    assert says in told[0]


def test_positions_and_cursors_that_are_too_far_are_named(
    viewed: Viewed, verified: Verified, changed: Callable[[str], None]
) -> None:
    end = viewed.written.upstream_seq
    changed(f"UPDATE host SET cursor = {end + CURSOR_SLACK}")
    code, out = verified(viewed.log_dir, "--view")
    assert (code, "1 of them a little above what left a trace" in out) == (0, True)
    changed(f"UPDATE host SET cursor = {end + CURSOR_SLACK + 1}")
    code, out = verified(viewed.log_dir, "--view")
    assert code == 1
    assert (
        f"mismatch: pds.test: its cursor is {end + CURSOR_SLACK + 1}, and the newest of its events "
        f"that was logged or dropped is {end}"
    ) in out
    # What was dropped moves the cursor too.
    changed(
        f"INSERT INTO reject (host_id, at, reason, detail, seq, size) VALUES"
        f" ({HOST}, now(), 'x', 'x', {end + CURSOR_SLACK}, 1)"
    )
    assert verified(viewed.log_dir, "--view")[0] == 0
    changed("DELETE FROM reject")
    changed("UPDATE relay SET value = value + 5 WHERE name = 'applied_seq'")
    code, out = verified(viewed.log_dir, "--view")
    assert code == 1
    assert "mismatch: the view is ahead of the log: it was brought to seq" in out


def test_a_view_that_is_behind_is_compared_at_the_seq_it_was_brought_to(
    viewed: Viewed, verified: Verified, changed: Callable[[str], None]
) -> None:
    """Rows of the view and the log agree where the view stands, however far the log is beyond it."""
    newest = viewed.written.states["did:web:dave.test"][0]
    applied_seq = viewed.written.states[BOB][0]
    assert applied_seq < newest
    behind = [did for did, (seq, _) in viewed.written.states.items() if seq > applied_seq]
    changed(f"UPDATE relay SET value = {applied_seq} WHERE name = 'applied_seq'")
    code, out = verified(viewed.log_dir, "--view")
    assert code == 1
    for did in behind:
        assert f"mismatch: {did}: its row is of seq" in out
    changed(f"DELETE FROM account WHERE seq > {applied_seq}")
    # Here the host's numbers are ours.
    changed(f"UPDATE host SET cursor = {applied_seq}")
    code, out = verified(viewed.log_dir, "--view")
    # What these accounts had said up to there, the view would know.
    told = [line for line in out.splitlines() if line.startswith("mismatch:")]
    assert [line.split(" ")[1] for line in told] == ["did:web:carol.test:"]
    assert set(behind) == {"did:web:carol.test", "did:web:dave.test"}
    # The cursor was saved when the log ended there: what came behind cannot have been done.
    changed(f"UPDATE host SET cursor = {viewed.written.upstream_seq}")
    assert "its cursor was" in verified(viewed.log_dir, "--view")[1]


def test_accounts_that_have_left_the_window_in_part_are_compared_in_part(
    viewed: Viewed, log_dir: Path, verified: Verified, changed: Callable[[str], None]
) -> None:
    bases = list_segments(log_dir)
    with closing(HeadFile(log_dir / HEAD_NAME, writable=True)) as head:
        head.oldest_seq = bases[1]
    segment_path(log_dir, bases[0]).unlink()
    code, out = verified(log_dir, "--view")
    assert code == 0, out
    assert "view: 4 accounts compared (4 of them in part), 1 have left the log" in out
    changed(f"UPDATE account SET discontinuities = 4 WHERE did = '{BOB}'")
    assert verified(log_dir, "--view")[0] == 0
    changed(f"UPDATE account SET commit_cid = data_cid WHERE did = '{BOB}'")
    code, out = verified(log_dir, "--view")
    assert (code, f"mismatch: {BOB}: commit_cid" in out) == (1, True)


def test_many_accounts_take_several_passes(
    viewed: Viewed,
    verified: Verified,
    changed: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verify, "ACCOUNTS_A_PASS", 1)
    code, out = verified(viewed.log_dir, "--view")
    assert code == 0, out
    assert "view: 5 accounts compared (0 of them in part)" in out
    changed("UPDATE account SET host_id = 9")
    code, out = verified(viewed.log_dir, "--view")
    assert code == 1
    assert out.count("host_id is 9") == 5


def test_a_database_that_is_none_of_ours_is_told(
    viewed: Viewed,
    verified: Verified,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("STANDPIPE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert main(["--log-dir", str(viewed.log_dir), "--view"]) == 1
    assert "127.0.0.1" in capsys.readouterr().err


# --- for scripts ---


def test_for_scripts_it_is_one_object_that_says_the_same(
    viewed: Viewed,
    log_dir: Path,
    tmp_path: Path,
    verified: Verified,
    changed: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, out = verified(viewed.log_dir, "--view", "--json")
    told = json.loads(out)
    size = sum(path.stat().st_size for path in viewed.log_dir.glob("*.seg"))
    assert (code, told) == (0, {
        "sound": True, "findings": 0, "damage": [], "mismatches": [], "notes": [],
        "events": viewed.written.upstream_seq, "bytes": size,
        "view": {
            "accounts": 5, "in_part": 0, "left": 0, "lost": 0, "cursors": 1, "cursors_above": 0,
        },
    })  # fmt: skip
    written = Written(tmp_path / "holed")
    written.lives("alice")
    written.lives("bob", floor_seq=5000)
    code, out = verified(tmp_path / "holed", "--json")
    told = json.loads(out)
    assert (code, told["notes"], told["view"]) == (0, ["a claim left out seqs 28 to 4999"], None)
    # Damage, and a view that has something else, each in the words in which it is printed.
    for found in (middle(log_dir), chunks_of(log_dir)[3]):
        flip(log_dir, found.file, found.offset + PARTS["crc"](found.chunk))
    changed(f"UPDATE account SET active = NOT active WHERE did = '{BOB}'")
    code, out = verified(log_dir, "--view")
    told = json.loads(verified(log_dir, "--view", "--json")[1])
    lines = [line.split(": ", 1) for line in out.splitlines() if ": " in line]
    for kind, key in (("damage", "damage"), ("mismatch", "mismatches"), ("note", "notes")):
        assert told[key] == [what for said, what in lines if said == kind]
    assert (len(told["damage"]), len(told["mismatches"])) == (2, 1)
    assert (code, told["sound"]) == (1, False)
    monkeypatch.setattr(findings, "SHOWN", 1)
    code, out = verified(log_dir, "--json")
    told = json.loads(out)
    assert (code, len(told["damage"]), told["findings"]) == (1, 1, 2)
