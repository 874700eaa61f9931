"""Does the log's tail lead to the very states that ingest's judge had reached?"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from common import event as events
from common.chunk import ROW, Chunk, account_key
from common.database import connect, ensure_schema
from common.envelope import NEVER_SEEN, AccountState, HostCursor, Mark
from common.event import Event
from common.log import Damaged
from common.segments import SegmentReader
from ingest.did_document import Identity
from ingest.judge import Accept, Source, judge
from ingest.signature import K256Key
from persist.catch_up import Start, catch_up
from persist.checkpoint import Checkpoint
from persist.duplicates import Lagging
from persist.fence import Fence
from persist.outgoing import outgoing_head
from persist.replay import Logged, open_chunk, replay, state_after
from persist.segment_log import SegmentLog
from persist.store import Store
from persist.tally import HostTally
from persist.view import Changes
from tests.simnet.account import Account
from tests.simnet.clock import Clock
from tests.simnet.keys import Curve

HOST = 7
TIME_US = 1_700_000_000_000_000


keys: dict[str, Account] = {}


def story(name: str) -> list[bytes]:
    """What an account says in its life: every kind, both of active and not."""
    rng = random.Random(name)
    account = Account(f"did:web:{name}.test", f"{name}.test", Curve.K256, Clock(), name, 0)
    said = account.born()
    said += [account.commit(account.choose_writes(rng, 3)) for _ in range(3)]
    said += [account.identity(), account.set_status("deactivated"), *account.activated()]
    said += [account.commit(account.choose_writes(rng)), account.sync(new_rev=True)]
    keys[name] = account
    return [one.frame(upstream) for upstream, one in enumerate(said, 100)]


def judged_states(frames: list[bytes], name: str) -> list[AccountState]:
    """The states that the judge reaches, one after the other."""
    key = K256Key(keys[name].key.compressed)
    identity = Identity(f"did:web:{name}.test", key, "pds.test")
    state, states = NEVER_SEEN, []
    for frame in frames:
        event = events.decode(frame)
        assert isinstance(event, Event)
        verdict = judge(
            event,
            identity,
            state,
            Source(HOST, "pds.test"),
            now_s=time.time() + 1e6,
            fresh=True,
            asked=True,
        )
        assert isinstance(verdict, Accept), verdict
        state = verdict.after
        states.append(state)
    return states


def append(log: SegmentLog, frames: list[bytes], host: int = HOST, flags: int = 0) -> Chunk:
    """Log messages as the sequencer does; all with the same flags."""
    rows: list[bytes] = []
    out: list[bytes] = []
    offset = 0
    for frame in frames:
        event = events.decode(frame)
        assert isinstance(event, Event)
        head, length = outgoing_head(
            frame, event.seq_start, event.seq_end, log.next_seq + len(rows)
        )
        rows.append(
            ROW.pack(offset, length, event.kind, flags, 1, host, 1, event.seq, 1, len(rows), TIME_US, 0,
                     account_key(event.did))
        )  # fmt: skip
        out += [head, frame[event.seq_end :]]
        offset += length
    chunk = log.append(rows, out, TIME_US)
    log.wait(chunk.next_seq - 1)
    return chunk


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SegmentLog]:
    with closing(SegmentLog(tmp_path)) as log:
        log.claim("test")
        yield log


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    connection = connect(postgres_url, "test")
    ensure_schema(connection)
    with closing(Store(connection)) as store:
        yield store


def test_each_kind_leads_to_the_state_that_the_judge_reached(log: SegmentLog) -> None:
    frames = story("alice")
    expected = judged_states(frames, "alice")
    assert len(set(expected)) > 5
    state = NEVER_SEEN
    for logged, after in zip(open_chunk(append(log, frames), 0), expected, strict=True):
        state = state_after(state, logged)
        assert state == after


def test_a_chunk_is_opened_behind_a_seq(log: SegmentLog) -> None:
    chunk = append(log, story("alice"))
    assert [logged.seq for logged in open_chunk(chunk, 4)] == list(range(5, chunk.next_seq))


def test_only_the_last_state_of_each_account_counts(log: SegmentLog) -> None:
    alice, bob = story("alice"), story("bob")
    mixed = [frame for pair in zip(alice, bob, strict=True) for frame in pair]
    asked: list[list[str]] = []

    def find(dids: list[str]) -> dict[str, AccountState]:
        asked.append(dids)
        return {}

    states = replay(open_chunk(append(log, mixed), 0), find)
    assert asked == [["did:web:alice.test", "did:web:bob.test"]]
    assert states == [
        ("did:web:alice.test", len(mixed) - 1, judged_states(alice, "alice")[-1]),
        ("did:web:bob.test", len(mixed), judged_states(bob, "bob")[-1]),
    ]


def test_a_frame_that_is_not_what_its_row_says_is_damage(log: SegmentLog) -> None:
    frame = story("alice")[2]
    event = events.decode(frame)
    assert isinstance(event, Event)
    head, length = outgoing_head(frame, event.seq_start, event.seq_end, 99)
    row = ROW.pack(0, length, event.kind, 0, 1, 1, 1, 1, 1, 1, TIME_US, 0, bytes(16))
    chunk = log.append([row], [head, frame[event.seq_end :]], TIME_US)
    with pytest.raises(Damaged, match="seq 1 "):
        open_chunk(chunk, 0)


def test_a_commit_that_cannot_be_read_is_damage() -> None:
    event = events.decode(story("alice")[2])
    assert isinstance(event, Event)
    event.blocks = event.blocks[:-1]
    with pytest.raises(Damaged, match="seq 5 "):
        state_after(NEVER_SEEN, Logged(5, 1, event))


def test_a_commit_moves_its_account_to_the_host_it_came_from() -> None:
    event = events.decode(story("alice")[2])
    assert isinstance(event, Event)
    before = NEVER_SEEN._replace(host=3, status="odd")
    after = state_after(before, Logged(5, 4, event))
    assert (after.host, after.rev, after.status) == (4, event.rev, "odd")


def test_the_states_before_the_tail_are_what_it_goes_on_from() -> None:
    event = events.decode(story("alice")[0])
    assert isinstance(event, Event)
    before = NEVER_SEEN._replace(host=3, active=False, status="suspended")
    assert replay([Logged(5, 4, event)], lambda dids: {dids[0]: before}) == [
        ("did:web:alice.test", 5, before)
    ]


# --- catching up ---


def accounts(url: str) -> dict[str, tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT did, rev, data_cid, commit_cid, active, status, host_id, desynchronized, "
            "discontinuities, local, over_limit, seq FROM account"
        ).fetchall()
    return {row[0]: row[1:] for row in rows}


def caught_up(store: Store, place: Path) -> list[tuple[int, int]]:
    """Catch up; the upstream seqs that are known then, with ours."""
    with closing(SegmentReader(place)) as reader:
        found = catch_up(store, reader, lambda: False, Fence())
    assert found is not None
    duplicates, _applied_seq = found
    return sorted(duplicates.stream(HOST, 1).seqs.items())


@pytest.mark.parametrize("flushed", [0, 1, 5, 12, 13])
def test_from_any_point_behind_the_database_gets_what_the_log_has(
    log: SegmentLog, store: Store, postgres_url: str, tmp_path: Path, flushed: int
) -> None:
    frames = story("alice")
    expected = judged_states(frames, "alice")
    for frame in frames:
        append(log, [frame])
    if flushed:
        state = ("did:web:alice.test", flushed, expected[flushed - 1])
        store.flush(Changes([state], [], [], flushed, 1))
    known = caught_up(store, tmp_path)
    assert accounts(postgres_url) == {"did:web:alice.test": (*expected[-1], len(frames))}
    assert store.read_positions() == (len(frames), 1)
    assert known == [(100 + n, 1 + n) for n in range(len(frames))]


def test_rows_are_read_from_where_the_saved_cursors_say(
    log: SegmentLog, store: Store, postgres_url: str, tmp_path: Path
) -> None:
    frames = story("alice")
    for frame in frames:
        append(log, [frame])
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO host (id, hostname, account_limit) VALUES (%s, 'pds.test', 1)", (HOST,)
        )
    done = HostCursor(HOST, 1, 103)
    last = ("did:web:alice.test", len(frames), judged_states(frames, "alice")[-1])
    store.flush(Changes([last], [done], [], len(frames), 5))
    assert caught_up(store, tmp_path) == [(100 + n, 1 + n) for n in range(4, len(frames))]
    # A hint that reaches too far back costs time, not correctness.
    store.flush(Changes([], [], [], len(frames), 2))
    assert caught_up(store, tmp_path) == [(100 + n, 1 + n) for n in range(4, len(frames))]


def counted(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT discontinuous, waived FROM host").fetchall()


def test_what_the_database_has_not_counted_yet_is_counted_from_the_rows_once(
    log: SegmentLog, store: Store, postgres_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO host (id, hostname, account_limit) VALUES (%s, 'pds.test', 1)", (HOST,)
        )
    frames = story("alice")[:6]
    marks = [0, Mark.DISCONTINUOUS, Mark.WAIVED, Mark.DISCONTINUOUS, 0x80, Mark.WAIVED]
    for frame, flags in zip(frames, marks, strict=True):
        append(log, [frame], flags=flags)
    # The first two were flushed before the crash, and counted with it.
    done = Changes([], [], [], 2, 1)
    done.tallies = [HostTally(HOST, 1, 0)]
    store.flush(done)
    for _ in range(2):
        caught_up(store, tmp_path)
        assert counted(postgres_url) == [(2, 2)]
        with psycopg.connect(postgres_url) as connection:
            assert connection.execute("SELECT accounts FROM host").fetchall() == [(1,)]


def test_the_marks_of_the_rows_lead_to_the_states_they_led_to_before(
    log: SegmentLog, store: Store, tmp_path: Path
) -> None:
    frames = story("alice")[:5]
    for number, frame in enumerate(frames):
        append(log, [frame], flags=Mark.DISCONTINUOUS if number in (2, 4) else 0)
    caught_up(store, tmp_path)
    (state,) = store.find_states(["did:web:alice.test"]).values()
    assert (state.desynchronized, state.discontinuities) == (True, 2)


def test_what_we_said_ourselves_takes_no_number_of_its_host(
    log: SegmentLog, store: Store, tmp_path: Path
) -> None:
    frames = story("alice")
    append(log, frames[:2], flags=Mark.OURS)
    append(log, frames[2:4])
    with closing(SegmentReader(tmp_path)) as reader:
        found = catch_up(store, reader, lambda: False, Fence())
    assert found is not None
    duplicates, _applied_seq = found
    assert sorted(duplicates.stream(HOST, 1).seqs.items()) == [(102, 3), (103, 4)]
    assert [duplicates.has_ours(HOST, 1, at) for at in range(3)] == [True, True, False]


def test_what_was_overtaken_before_the_restart_is_overtaken_behind_it(
    log: SegmentLog, store: Store, tmp_path: Path
) -> None:
    append(log, story("alice")[3:5])
    append(log, story("bob")[6:7])
    with closing(SegmentReader(tmp_path)) as reader:
        found = catch_up(store, reader, lambda: False, Fence())
    assert found is not None
    stream = found[0].stream(HOST, 1)
    alice, bob = (account_key(f"did:web:{name}.test") for name in ("alice", "bob"))
    assert [stream.has(seq, alice) for seq in (100, 104, 105)] == [True, True, False]
    assert [stream.has(seq, bob) for seq in (105, 106, 107)] == [True, True, False]


def test_a_checkpoint_that_knows_more_than_the_database_is_believed(
    log: SegmentLog, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for frame in story("alice"):
        append(log, [frame])
    last = ("did:web:alice.test", log.durable_seq, NEVER_SEEN)
    store.flush(Changes([last], [], [], log.durable_seq, 1))
    read: list[int] = []
    reader = SegmentReader(tmp_path)
    reading = reader.read

    def watched(from_seq: int, max_bytes: int) -> list[Chunk]:
        read.append(from_seq)
        return reading(from_seq, max_bytes)

    monkeypatch.setattr(reader, "read", watched)
    lagging = Lagging(9, 1, {40: 3}, {account_key("did:web:bob.test"): 40})
    checkpoint = Checkpoint(
        1, 0, log.durable_seq, 0, 6, [HostCursor(HOST, 1, 104)], [], [], [lagging]
    )
    with closing(reader):
        found = catch_up(store, reader, lambda: False, Fence(), Start(checkpoint))
    assert found is not None
    # No more is read than what lies above both cursors …
    assert read[0] == 6
    stream = found.duplicates.stream(HOST, 1)
    assert (stream.cursor, sorted(stream.seqs)) == (104, list(range(105, 100 + log.durable_seq)))
    # … since what lies further back was written down.
    bob = account_key("did:web:bob.test")
    assert [found.duplicates.stream(9, 1).has(seq, bob) for seq in (40, 39, 41)] == [
        True, True, False,
    ]  # fmt: skip


def test_what_was_said_of_another_host_of_that_number_is_left_aside(
    log: SegmentLog, store: Store, postgres_url: str, tmp_path: Path
) -> None:
    frames = story("alice")
    append(log, frames)
    checkpoint = Checkpoint(1, 0, 0, 0, 1, [HostCursor(HOST, 1, 103)], [], [], [])
    start = Start(checkpoint, frozenset({HOST}))
    with closing(SegmentReader(tmp_path)) as reader:
        found = catch_up(store, reader, lambda: False, Fence(), start)
    assert found is not None
    stream = found.duplicates.stream(HOST, 1)
    assert not any(stream.has(seq, account_key("did:web:alice.test")) for seq in range(99, 120))
    # The account is what it was, and nobody's until a host speaks for it.
    (account,) = accounts(postgres_url).values()
    expected = judged_states(frames, "alice")[-1]
    assert account == (*expected._replace(host=0), len(frames))


def test_a_scan_position_that_is_too_high_skips_no_event(
    log: SegmentLog, store: Store, tmp_path: Path
) -> None:
    frames = story("alice")
    for frame in frames:
        append(log, [frame])
    store.flush(Changes([], [], [], 1, 10))
    caught_up(store, tmp_path)
    found = store.find_states(["did:web:alice.test"])["did:web:alice.test"]
    # Event 1 was left to the database, which was told nothing of it; all others are there.
    assert found == judged_states(frames, "alice")[-1]


def test_a_database_that_missed_what_has_left_the_log_is_told(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(SegmentLog(tmp_path)) as log:
        log.claim("test", floor_seq=50)
        append(log, story("alice"))
    caught_up(store, tmp_path)
    assert "seqs 1 to 49 left the log" in caplog.text


def test_a_stop_in_the_middle_leaves_the_database_at_a_seq_of_its_own(
    log: SegmentLog, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persist.catch_up.READ_BYTES", 1)
    for _ in range(4):
        append(log, [frame for name in ("alice", "bob") for frame in story(name)] * 3)
    asked = iter([False, False, True])
    with closing(SegmentReader(tmp_path)) as reader:
        assert catch_up(store, reader, lambda: next(asked), Fence()) is None
        applied_seq, _scan_seq = store.read_positions()
        assert 0 < applied_seq < log.durable_seq
        assert catch_up(store, reader, lambda: False, Fence()) is not None
    assert store.read_positions()[0] == log.durable_seq
