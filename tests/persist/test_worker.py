"""Do the parts of persist turn together: flushed, published, answered, and told to PostgreSQL?"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from common import envelope
from common.chunk import CLOCK_SUSPECT, Chunk
from common.envelope import NEVER_SEEN, HostCursor, HostObservation, Kind
from common.process import Fault
from persist.view import FLUSH_EVERY_S
from tests.fix_net import eventually
from tests.fix_postgres import Postgres
from tests.persist.disks import FullDisk, RecordingDisk
from tests.persist.events import DID, commit_over, did, judged
from tests.persist.running import Broadcaster, Ingest, Persist, Relay, open_files, relay


@pytest.fixture
def place(postgres_url: str) -> Iterator[Relay]:
    with relay(postgres_url) as place:
        yield place


def rows(place: Relay, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(place.config.database_url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def applied_seq(place: Relay) -> int:
    found = rows(place, "SELECT value FROM relay WHERE name = 'applied_seq'")
    return int(str(found[0][0])) if found else 0


def add_host(place: Relay, host: int) -> None:
    rows(
        place,
        f"INSERT INTO host (id, hostname, account_limit) VALUES ({host}, 'h{host}', 9) RETURNING id",
    )


def groups(listening: Broadcaster, events: int) -> list[Chunk]:
    """Chunks until so many events have come."""
    found: list[Chunk] = []
    while sum(chunk.count for chunk in found) < events:
        chunk = listening.chunk()
        assert chunk is not None
        found.append(chunk)
    return found


def no_more_beats(persist: Persist, listening: Broadcaster, ingest: Ingest) -> None:
    """From here on a chunk without events is sent for a reason of its own."""
    assert listening.chunk()
    assert persist.worker is not None
    persist.worker._config = replace(persist.worker._config, beat_s=3600.0)
    ingest.ask(judged(1))
    groups(listening, 1)


def test_an_event_is_on_disk_when_it_is_published_and_answered(place: Relay) -> None:
    with (
        place.persist(),
        closing(Ingest(place.config)) as ingest,
        closing(Broadcaster(place.config)) as listening,
    ):
        assert listening.chunk()
        ingest.send(judged(1), judged(2, account=did(2)))
        (chunk,) = [chunk for chunk in groups(listening, 2) if chunk.count]
        # Published, so any reader finds it, in the same bytes.
        with place.reader() as reader:
            assert reader.durable_seq >= 2
            assert reader.read(1, 1) == [chunk]
        reply = ingest.answers({1, 2})
        assert (reply.logged, reply.durable_seq, reply.log_epoch) == ([1, 2], 2, 1)


def test_many_processes_get_one_dense_order(place: Relay) -> None:
    with place.persist():
        members = [Ingest(place.config, member) for member in range(3)]
        for number in range(1, 51):
            for ingest in members:
                host = ingest.member + 1
                ingest.send(judged(number, account=did(host * 1000 + number), host=host))
        for ingest in members:
            assert sorted(ingest.answers(set(range(1, 51))).logged) == list(range(1, 51))
            ingest.close()
    logged = place.logged()
    assert [seq for seq, _, _ in logged] == list(range(1, 151))
    for host in (1, 2, 3):
        assert [upstream for _, h, upstream in logged if h == host] == list(range(1, 51))


def test_an_idle_log_beats_and_a_greeting_is_answered(place: Relay) -> None:
    with (
        place.persist(),
        closing(Broadcaster(place.config)) as listening,
        closing(Ingest(place.config)) as ingest,
    ):
        ingest.send()
        reply = ingest.reply()
        assert reply is not None
        assert (reply.log_epoch, reply.durable_seq) == (1, 0)
        first, second = listening.chunk(), listening.chunk()
        assert first is not None
        assert second is not None
        assert (first.count, second.count, second.prev_crc) == (0, 0, first.crc)


def test_a_clock_that_ingest_doubts_is_told_at_once_and_until_it_is_believed_again(
    place: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persist.suspicion.SILENT_S", 3600.0)
    with (
        place.persist() as persist,
        closing(Broadcaster(place.config)) as listening,
        closing(Ingest(place.config)) as ingest,
        closing(Ingest(place.config, member=1)) as other,
    ):
        no_more_beats(persist, listening, ingest)
        ingest.send(clock_suspect=True)
        doubted = listening.chunk()
        assert doubted is not None
        assert (doubted.count, doubted.flags) == (0, CLOCK_SUSPECT)
        # Whoever trusts the clock says nothing for the other one; groups tell it too.
        other.ask(judged(1, account=did(2), host=2))
        (group,) = groups(listening, 1)
        assert group.flags == CLOCK_SUSPECT
        ingest.send()
        believed = listening.chunk()
        assert believed is not None
        assert (believed.count, believed.flags) == (0, 0)
        # And a process that dies takes its word with it.
        ingest.send(clock_suspect=True)
        assert listening.chunk()
        monkeypatch.setattr("persist.suspicion.SILENT_S", 0.0)
        forgotten = listening.chunk()
        assert forgotten is not None
        assert forgotten.flags == 0


def test_an_outlived_process_is_not_believed_about_the_clock(place: Relay) -> None:
    with (
        place.persist() as persist,
        closing(Broadcaster(place.config)) as listening,
        closing(Ingest(place.config, epoch=5)) as newer,
        closing(Ingest(place.config, epoch=4)) as older,
    ):
        no_more_beats(persist, listening, newer)
        older.send(clock_suspect=True)
        refused = older.reply()
        assert refused is not None
        assert refused.refused
        newer.ask(judged(2, account=did(2)))
        (group,) = groups(listening, 1)
        assert group.flags == 0


def test_an_ingest_process_of_another_release_is_named_once_and_keeps_nobody_waiting(
    place: Relay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with place.persist() as persist, closing(Ingest(place.config)) as ours:
        assert ours.ask(judged(1)).logged == [1]
        with closing(Ingest(place.config, member=1)) as theirs:
            with monkeypatch.context() as patch:
                patch.setattr(envelope, "VERSION", envelope.VERSION + 1)
                messages = [envelope.encode_batch(envelope.Batch(1, 1)) for _ in range(50)]
            for message in messages:
                theirs._socket.send_multipart(message)
            # In its own tongue, behind all of them.
            assert theirs.ask(judged(1, account=did(2), host=2)).logged == [1]
        assert persist.error is None
    named = [line for line in caplog.messages if "was not understood" in line]
    assert len(named) == 1
    assert f"message version {envelope.VERSION + 1}" in named[0]


def test_a_restart_goes_on_and_knows_what_was_logged(place: Relay) -> None:
    state = commit_over(NEVER_SEEN, 1)
    sent = [
        judged(1, after=state),
        judged(2, state=state, after=state, kind=Kind.IDENTITY),
    ]
    with place.persist(), closing(Ingest(place.config)) as ingest:
        assert ingest.ask(*sent).logged == [1, 2]
    with place.persist(), closing(Ingest(place.config)) as ingest:
        reply = ingest.ask(*sent, judged(3, state=state))
        assert (reply.duplicate, reply.logged, reply.log_epoch) == ([1, 2], [3], 2)
    assert place.logged() == [(1, 1, 1), (2, 1, 2), (3, 1, 3)]


def test_after_a_restart_of_both_an_older_word_on_an_account_is_no_news(place: Relay) -> None:
    known = commit_over(NEVER_SEEN, 1)
    with place.persist(), closing(Ingest(place.config)) as ingest:
        assert ingest.ask(judged(1, after=known, upstream_seq=10)).logged == [1]
    silencing = judged(
        1, state=known, after=known._replace(active=False), kind=Kind.ACCOUNT, upstream_seq=9
    )
    with place.persist(), closing(Ingest(place.config, epoch=2)) as ingest:
        # Dropped before the crash, and so not in the log; the cursor was below it.
        assert ingest.ask(silencing).duplicate == [1]
        eventually(lambda: rows(place, "SELECT active FROM account") == [(True,)])


def test_an_ingest_that_outlives_persist_sends_again_in_order_to_the_next_one(
    place: Relay,
) -> None:
    with closing(Ingest(place.config)) as ingest:
        with place.persist():
            assert ingest.ask(judged(1)).log_epoch == 1
        # Queued while nobody is there, and perhaps behind something that was lost.
        ingest.send(judged(3, account=did(2)))
        with place.persist():
            reply = ingest.reply()
            assert reply is not None
            assert (reply.logged, reply.log_epoch) == ([], 2)
            again = [judged(number, account=did(2), kind=Kind.IDENTITY, after=NEVER_SEEN)
                     for number in (2, 3)]  # fmt: skip
            assert ingest.ask(*again).logged == [2, 3]
    assert [upstream for _, _, upstream in place.logged()] == [1, 2, 3]


def test_the_view_follows_the_log_with_states_cursors_and_observations(place: Relay) -> None:
    with place.persist(), closing(Ingest(place.config)) as ingest:
        first = judged(1)
        second = judged(2, state=first[0].after, host=1)
        assert ingest.ask(first, second, judged(3, account=did(2))).logged == [1, 2, 3]
        add_host(place, 1)
        ingest.send(
            cursors=(HostCursor(1, 1, 3),),
            observations=(HostObservation(1, "offline", "nul \0 in it"),),
        )
        eventually(lambda: applied_seq(place) == 3)
        after = second[0].after
        assert rows(
            place,
            "SELECT did, host_id, active, status, rev, commit_cid, data_cid, seq FROM account "
            "ORDER BY seq",
        ) == [
            (DID, 1, True, None, after.rev, after.commit, after.data, 2),
            (did(2), 1, True, None, judged(3)[0].after.rev, *[judged(3)[0].after.data] * 2, 3),
        ]
        eventually(lambda: rows(place, "SELECT cursor FROM host") == [(3,)])
        assert rows(place, "SELECT wanted, observed, last_error FROM host") == [
            ("active", "offline", "nul \N{REPLACEMENT CHARACTER} in it")
        ]


def test_an_account_that_memory_forgot_is_asked_of_postgresql(place: Relay) -> None:
    first = judged(1)
    with place.persist(), closing(Ingest(place.config)) as ingest:
        ingest.ask(first)
    with place.persist(), closing(Ingest(place.config)) as ingest:
        reply = ingest.ask(judged(2))
        assert reply.back == [(2, first[0].after)]
        assert ingest.ask(judged(3, state=first[0].after, recall=1)).logged == [3]


def test_sigterm_finishes_what_was_sent_and_tells_postgresql(place: Relay) -> None:
    with closing(Ingest(place.config)) as ingest, closing(Broadcaster(place.config)) as listening:
        with place.persist() as persist:
            assert listening.chunk()
            for number in range(1, 101):
                ingest.send(judged(number, account=did(number)))
            persist.stopping.set()
        assert persist.error is None
        logged = place.logged()
        published: list[int] = []
        while len(published) < len(logged):
            chunk = listening.chunk()
            assert chunk is not None
            published += [chunk.first_seq + n for n in range(chunk.count)]
        while (chunk := listening.chunk(0.2)) is not None:
            published += [chunk.first_seq + n for n in range(chunk.count)]
        assert published == [seq for seq, _, _ in logged]
        assert applied_seq(place) == len(logged)


def test_nothing_stays_open(place: Relay) -> None:
    with place.persist(), closing(Ingest(place.config)) as ingest:
        ingest.ask(judged(1))
    before = open_files()
    with place.persist():
        pass
    assert open_files() <= before


def test_postgresql_is_never_ahead_of_the_log(place: Relay) -> None:
    # A flush that takes long ends while a group is open: the next one has to wait for the disk.
    place.config = replace(place.config, group_s=2.5)
    with (
        place.persist(),
        closing(Ingest(place.config)) as ingest,
        place.reader() as reader,
        psycopg.connect(place.config.database_url) as admin,
    ):
        ingest.send()
        assert ingest.reply()
        admin.execute("LOCK TABLE account IN SHARE ROW EXCLUSIVE MODE")
        ends_s = time.monotonic() + FLUSH_EVERY_S + 0.1
        assert ingest.ask(judged(1)).logged == [1]
        ingest.send(judged(2, account=did(2)))
        eventually(lambda: time.monotonic() > ends_s)
        admin.rollback()
        ends_s = time.monotonic() + 60
        while reader.durable_seq < 2:
            assert time.monotonic() < ends_s
            # Read in this order: what is written now was durable before.
            found = rows(place, "SELECT max(seq) FROM account")
            assert found[0][0] != 2 or reader.durable_seq == 2
        eventually(lambda: applied_seq(place) == 2)


def test_times_in_the_log_do_not_go_back_with_the_clock(
    place: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.persist(), closing(Ingest(place.config)) as ingest:
        ingest.ask(judged(1))
        monkeypatch.setattr("persist.worker.time.time_ns", lambda: 10**18)
        ingest.ask(judged(2, account=did(2)))
    with place.reader() as reader:
        first, second = reader.read(1, 1 << 20)
        assert second.time_us == first.time_us > 10**15


def test_times_in_the_log_do_not_go_back_over_a_restart(
    place: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place.persist(), closing(Ingest(place.config)) as ingest:
        ingest.ask(judged(1))
    # The clock was set back in between, as after a battery has died.
    monkeypatch.setattr("persist.worker.time.time_ns", lambda: 10**18)
    monkeypatch.setattr("persist.segment_log.time.time", lambda: 10**9)
    with place.persist(), closing(Ingest(place.config)) as ingest:
        ingest.ask(judged(2, account=did(2)))
    with place.reader() as reader:
        first, second = reader.read(1, 1 << 20)
        assert second.time_us >= first.time_us > 10**15


def test_segments_that_left_the_window_go_while_it_runs(place: Relay) -> None:
    place.config = replace(place.config, replay_bytes=1, retain_every_s=0.1)
    with (
        place.persist() as persist,
        closing(Ingest(place.config)) as ingest,
        place.reader() as reader,
    ):
        assert persist.worker
        persist.worker._log._segment_bytes = 4096
        for number in range(1, 11):
            sent = judged(number, account=did(number), fill=3000)
            ingest.ask(sent, cursors=(HostCursor(1, 1, number - 1),))
        eventually(lambda: reader.oldest_seq > 5)
        assert reader.read(10, 1)[0].first_seq == 10


def test_who_looks_after_the_log_hears_that_ingest_doubts_the_clock(place: Relay) -> None:
    with place.persist() as persist, closing(Ingest(place.config)) as ingest:
        ingest.send()
        assert ingest.reply()
        assert persist.worker
        upkeep = persist.worker._upkeep
        ingest.send(clock_suspect=True)
        eventually(lambda: upkeep.clock_suspect)
        ingest.send(clock_suspect=False)
        eventually(lambda: not upkeep.clock_suspect)


# --- PostgreSQL away ---


def test_while_a_flush_takes_long_known_accounts_go_on_and_it_is_made_up_for(place: Relay) -> None:
    with (
        place.persist() as persist,
        closing(Ingest(place.config)) as ingest,
        psycopg.connect(place.config.database_url) as admin,
    ):
        sent = judged(1)
        assert ingest.ask(sent).logged == [1]
        eventually(lambda: applied_seq(place) == 1)
        admin.execute("LOCK TABLE account IN SHARE ROW EXCLUSIVE MODE")
        for number in range(2, 30):
            sent = judged(number, state=sent[0].after)
            assert ingest.ask(sent).logged == [number]
        eventually(lambda: persist.worker is not None and persist.worker._view.flushing)
        for number in range(30, 60):
            sent = judged(number, state=sent[0].after)
            assert ingest.ask(sent).logged == [number]
        assert applied_seq(place) == 1
        admin.rollback()
        eventually(lambda: applied_seq(place) == 59)
    assert rows(place, "SELECT rev, seq FROM account") == [(sent[0].after.rev, 59)]


@pytest.fixture
def outage(own_postgres: Postgres) -> Iterator[tuple[Relay, Postgres]]:
    with relay(own_postgres.url) as place:
        yield place, own_postgres


def test_without_postgresql_known_accounts_flow_and_unknown_ones_wait(
    outage: tuple[Relay, Postgres], caplog: pytest.LogCaptureFixture
) -> None:
    place, postgres = outage
    with place.persist(), closing(Ingest(place.config)) as ingest:
        first = judged(1)
        assert ingest.ask(first).logged == [1]
        postgres.stop()
        state = first[0].after
        for number in range(2, 12):
            sent = judged(number, state=state)
            state = sent[0].after
            # An unknown account waits in the middle of it.
            stranger = judged(100 + number, account=did(5 + number % 2), kind=Kind.IDENTITY,
                              after=NEVER_SEEN, host=2)  # fmt: skip
            ingest.send(sent, stranger)
            assert ingest.answers({number}).logged == [number]
        eventually(lambda: "waiting for the database" in caplog.text)
        postgres.start()
        waited = set(range(102, 112))
        assert set(ingest.answers(waited).logged) == waited
        eventually(lambda: applied_seq(place) == 21)
    assert rows(place, "SELECT seq FROM account WHERE host_id = 1") == [(11,)]
    # Each account's events in their order.
    order = [upstream for _, host, upstream in place.logged() if host == 2]
    assert sorted(order[:5]) == order[:5]
    assert sorted(order[5:]) == order[5:]


def test_a_stop_without_postgresql_ends_in_time_and_the_next_start_catches_up(
    outage: tuple[Relay, Postgres],
) -> None:
    place, postgres = outage
    with place.persist(), closing(Ingest(place.config)) as ingest:
        first = judged(1)
        ingest.ask(first)
        eventually(lambda: applied_seq(place) == 1)
        postgres.stop()
        # Only its row is looked at by the restart: the frame of a real commit is in test_replay.
        ingest.ask(judged(2, state=first[0].after, after=first[0].after, kind=Kind.IDENTITY))
    assert [seq for seq, _, _ in place.logged()] == [1, 2]


def test_a_database_that_went_back_ends_the_process(
    outage: tuple[Relay, Postgres],
) -> None:
    place, postgres = outage
    with place.persist() as persist, closing(Ingest(place.config)) as ingest:
        ingest.ask(judged(1))
        eventually(lambda: applied_seq(place) == 1)
        rows(place, "UPDATE relay SET value = 0 WHERE name = 'applied_seq' RETURNING 1")
        postgres.stop()
        postgres.start()
        ingest.send(judged(2, account=did(2)))
        persist.join()
        assert "now says 0" in str(persist.error)


# --- the disk ---


@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_disk_that_refuses_ends_the_process_and_nothing_was_said(place: Relay, call: str) -> None:
    disk = RecordingDisk()
    with (
        place.persist(disk) as persist,
        closing(Ingest(place.config)) as ingest,
        closing(Broadcaster(place.config)) as listening,
    ):
        first = judged(1)
        assert ingest.ask(first).logged == [1]
        disk.fails[call] = errno.EIO
        ingest.send(judged(2, account=did(2)))
        persist.join()
        assert isinstance(persist.error, Fault)
        assert "nothing behind seq 1 was published" in str(persist.error)
        while (reply := ingest.reply(0.2)) is not None:
            # At most a greeting's: its account was being looked up.
            assert not (reply.logged or reply.duplicate or reply.durable_seq > 1)
        while (chunk := listening.chunk(0.2)) is not None:
            assert chunk.next_seq <= 2
        with place.reader() as reader:
            assert reader.durable_seq == 1


def test_a_full_disk_ends_the_process_and_room_brings_it_back(place: Relay) -> None:
    disk = FullDisk(10**9)
    with place.persist(disk) as persist, closing(Ingest(place.config)) as ingest:
        first = judged(1)
        ingest.ask(first)
        disk.room = 60
        ingest.send(judged(2, account=did(2), fill=5000))
        persist.join()
        assert "No space left" in str(persist.error)
    with place.persist(FullDisk(10)) as persist:
        persist.join()
        assert "cannot write the log" in str(persist.error)
    with place.persist(), closing(Ingest(place.config)) as ingest:
        reply = ingest.ask(first, judged(2, account=did(2)))
        assert (reply.duplicate, reply.logged) == ([1], [2])
    assert [seq for seq, _, _ in place.logged()] == [1, 2]


def test_a_lost_log_goes_on_far_above_what_postgresql_has_seen(
    place: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    with place.persist(), closing(Ingest(place.config)) as ingest:
        ingest.ask(judged(1))
    for path in Path(place.config.log_dir).iterdir():
        path.unlink()
    with place.persist(), closing(Ingest(place.config)) as ingest:
        assert ingest.ask(judged(2, account=did(2))).durable_seq > 1_000_000
    assert "lost what had been announced" in caplog.text


# --- processes that come and go ---


def test_an_outlived_ingest_process_is_refused(place: Relay) -> None:
    with place.persist(), closing(Ingest(place.config, epoch=5)) as newer:
        newer.ask(judged(1))
        with closing(Ingest(place.config, epoch=4)) as older:
            assert older.ask(judged(2, account=did(2))).refused
        assert newer.ask(judged(3, account=did(3))).logged == [3]


def test_answers_for_a_process_that_is_gone_are_dropped(place: Relay) -> None:
    with place.persist() as persist, closing(Ingest(place.config, member=1)) as other:
        gone = Ingest(place.config)
        gone.send(judged(1))
        eventually(lambda: [seq for seq, _, _ in place.logged()] == [1])
        gone.close()
        assert other.ask(judged(1, account=did(2), host=2)).logged == [1]
        assert persist.error is None


def test_a_second_persist_on_one_log_is_fenced(place: Relay) -> None:
    with place.persist(), closing(Ingest(place.config)) as ingest:
        ingest.ask(judged(1))
        second = Persist(place.config)
        second.join()
        second.stop()
        assert "another process writes the log" in str(second.error)
        assert ingest.ask(judged(2, account=did(2))).logged == [2]
