"""What becomes of a relay whose database, log or checkpoint was lost, or restored from a backup?

Nothing is doubled that any of the three still knows, no number returns, no host's events are taken
for another's, and whatever is lost is said.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from common.database import connect, ensure_schema
from common.envelope import NEVER_SEEN, HostCursor, Mark
from common.log import Damaged
from common.segment_files import CHECKPOINT_NAME, HEAD_NAME, list_segments, segment_path
from ingest.did_document import Identity
from ingest.judge import Accept, Source, judge
from ingest.signature import K256Key
from persist.checkpoint_file import read_checkpoint
from persist.opening import FASTEST_EVENTS_S, UNKNOWN_AGE_S, Refused, floor_over
from persist.segment_log import SKIPPED_AFTER_LOSS
from persist.store import Store, ViewWentBack
from tests.fix_net import eventually
from tests.fix_postgres import Postgres
from tests.persist.events import did
from tests.persist.running import Ingest, Persist, Relay, relay
from tests.persist.spoken import judged_over, spoken
from tests.persist.test_kill import identity
from tests.simnet.account import Account
from tests.simnet.clock import Clock
from tests.simnet.keys import Curve

HOST = 1
DAY_S = 86_400


class Scene(NamedTuple):
    """A relay, and a way to do with its database what an operator may do."""

    place: Relay
    url: str
    admin: psycopg.Connection[tuple[object, ...]]
    name: str

    def back_up(self) -> None:
        """A copy of the database as it is; whoever was connected may take a moment to be gone."""
        there = "SELECT 1 FROM pg_stat_activity WHERE datname = %s"
        eventually(lambda: not self.admin.execute(there, (self.name,)).fetchall())
        self.admin.execute(f"CREATE DATABASE {self.name}_backup TEMPLATE {self.name}".encode())

    def restore(self, *, empty: bool = False) -> None:
        """The copy in its place, or a new database; whoever is connected is cut off."""
        self.admin.execute(f"DROP DATABASE {self.name} WITH (FORCE)".encode())
        template = "template1" if empty else f"{self.name}_backup"
        self.admin.execute(f"CREATE DATABASE {self.name} TEMPLATE {template}".encode())

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def add_hosts(self, *names: str) -> None:
        with closing(connect(self.url, "test")) as connection:
            ensure_schema(connection)
        for name in names:
            self.rows(f"INSERT INTO host (hostname, account_limit) VALUES ('{name}', 9)")

    @property
    def log_dir(self) -> Path:
        return self.place.config.log_dir


@pytest.fixture
def scene(postgres_server: Postgres, postgres_url: str) -> Iterator[Scene]:
    name = postgres_url.rsplit("/", maxsplit=1)[-1].partition("?")[0]
    with (
        relay(postgres_url) as place,
        psycopg.connect(postgres_server.url, autocommit=True) as admin,
    ):
        scene = Scene(place, postgres_url, admin, name)
        scene.add_hosts("pds.test")
        try:
            yield scene
        finally:
            admin.execute(f"DROP DATABASE IF EXISTS {name}_backup WITH (FORCE)".encode())


def say(ingest: Ingest, first: int, last: int, *, cursor: int = 0, host: int = HOST) -> list[int]:
    """Identities with these numbers of a host; which of them were logged. cursor: is said then."""
    sent = []
    for number in range(first, last + 1):
        event, frame = identity(number, did(number))
        sent.append((event._replace(host=host), frame))
    reply = ingest.ask(*sent)
    assert sorted([*reply.logged, *reply.duplicate]) == list(range(first, last + 1))
    if cursor:
        ingest.send(cursors=(HostCursor(host, 1, cursor),))
        assert ingest.reply()
    return sorted(reply.logged)


def upstream(scene: Scene) -> list[int]:
    return [upstream_seq for _seq, _host, upstream_seq in scene.place.logged()]


def ends_by_itself(persist: Persist) -> BaseException:
    persist.join()
    assert persist.error is not None
    return persist.error


def cursors(scene: Scene) -> list[tuple[int, int, int]]:
    """What the checkpoint says of them."""
    checkpoint = read_checkpoint(scene.log_dir)
    return [cursor[:3] for cursor in checkpoint.cursors] if checkpoint else []


def lose_log(scene: Scene, *, but: str = "") -> None:
    for path in scene.log_dir.iterdir():
        if path.name != but:
            path.unlink()


def strict(scene: Scene) -> None:
    scene.place.config = replace(scene.place.config, strict_start=True)


# --- the database is an older backup ---


def with_an_older_part_that_left(scene: Scene) -> int:
    """The database knows of 5 events, the host's cursor is at 20, and of the log only the end is there.

    Returns the oldest seq that is left.
    """
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 1, 5, cursor=4)
    scene.back_up()
    config = scene.place.config
    scene.place.config = replace(config, replay_bytes=1, retain_every_s=0.1, checkpoint_s=0.1)
    with scene.place.persist() as persist, closing(Ingest(scene.place.config)) as ingest:
        assert persist.worker
        persist.worker._log._segment_bytes = 4096
        for number in range(6, 26):
            say(ingest, number, number, cursor=min(number, 20))
        with scene.place.reader() as reader:
            eventually(lambda: reader.oldest_seq > 10)
    # More may have left meanwhile.
    with scene.place.reader() as reader:
        oldest_seq = reader.oldest_seq
    scene.place.config = config
    scene.restore()
    assert scene.rows("SELECT cursor FROM host") == [(4,)]
    return oldest_seq


def test_over_an_old_backup_nothing_is_doubled_although_the_log_has_lost_its_older_part(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    oldest_seq = with_an_older_part_that_left(scene)
    caplog.clear()
    config = scene.place.config
    strict(scene)
    before = {path: path.read_bytes() for path in scene.log_dir.iterdir()}
    with scene.place.persist() as persist:
        assert isinstance(ends_by_itself(persist), Refused)
        assert "left the log before the database had them" in str(persist.error)
    assert {path: path.read_bytes() for path in scene.log_dir.iterdir()} == before
    scene.place.config = config
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        # From where the database's cursor stands, as ingest would read it again.
        assert say(ingest, 5, 26) == [26]
    assert f"seqs 6 to {oldest_seq - 1} left the log before the database had them" in caplog.text
    # And the database knows again where to go on.
    assert scene.rows("SELECT cursor FROM host") == [(20,)]
    assert upstream(scene) == [*range(oldest_seq, 26), 26]


def test_documents_of_a_backup_are_forgotten_and_those_of_the_same_database_are_kept(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """A host that an account has left since must not speak for it by an old document."""
    keep = (
        "INSERT INTO identity (did, outcome, host, asked_at)"
        " VALUES ('did:web:a.test', 'found', 'old.test', now())"
    )
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 1, 3)
        scene.rows(keep)
    scene.back_up()
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 4, 6)
    assert scene.rows("SELECT did FROM identity") == [("did:web:a.test",)]
    assert "older backup" not in caplog.text
    scene.restore()
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 6, 7)
    assert scene.rows("SELECT did FROM identity") == []
    assert "every DID document is looked up anew" in caplog.text


def test_hosts_that_a_backup_does_not_have_come_back_with_their_numbers(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    with scene.place.persist():
        pass
    scene.back_up()
    scene.add_hosts("second.test", "third.test")
    scene.rows("UPDATE host SET wanted = 'banned' WHERE hostname = 'third.test'")
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        assert say(ingest, 1, 9, host=2, cursor=6) == list(range(1, 10))
    scene.restore()
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        assert say(ingest, 5, 10, host=2) == [10]
        # Whoever is added now is nobody of whom the log speaks.
        scene.add_hosts("fourth.test")
    assert "has them back as the checkpoint remembers them: second.test, third.test" in caplog.text
    assert scene.rows("SELECT id, hostname, wanted, cursor FROM host ORDER BY id") == [
        (1, "pds.test", "active", None), (2, "second.test", "active", 6),
        (3, "third.test", "banned", None), (4, "fourth.test", "active", None),
    ]  # fmt: skip


def test_a_host_that_was_taken_out_while_nothing_ran_stays_out(scene: Scene) -> None:
    scene.add_hosts("second.test")
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 1, 3, host=2)
    scene.rows("DELETE FROM host WHERE id = 2")
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        assert say(ingest, 4, 4) == [4]
    assert scene.rows("SELECT hostname FROM host") == [("pds.test",)]


def test_a_host_that_got_anothers_number_is_not_taken_for_it(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    with scene.place.persist():
        pass
    scene.back_up()
    scene.add_hosts("lost.test")
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 1, 9, host=2, cursor=6)
    scene.restore()
    # Somebody was quicker than persist.
    scene.add_hosts("other.test")
    for _ in range(2):
        with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
            ingest.send()
            assert ingest.reply()
            found = scene.rows("SELECT id, hostname, generation, cursor FROM host ORDER BY id")
            assert found == [(1, "pds.test", 1, None), (2, "other.test", 2, None),
                             (3, "lost.test", 1, 6)]  # fmt: skip
            event, frame = identity(7)
            told = event._replace(host=2, generation=2, position=1)
            ingest.send((told, frame))
            reply = ingest.answers({1})
            assert [reply.logged, reply.duplicate] in ([[1], []], [[], [1]])
    assert "the numbers of 1 hosts belonged to others" in caplog.text
    assert [host for _, host, seq in scene.place.logged() if seq == 7] == [2, 2]


def test_hosts_that_need_new_numbers_do_not_get_those_of_others_that_come_back(
    scene: Scene,
) -> None:
    with scene.place.persist():
        pass
    scene.back_up()
    scene.add_hosts(*(f"lost{number}.test" for number in range(30)))
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 1, 9, host=2, cursor=6)
    scene.restore()
    scene.add_hosts("other.test")
    with scene.place.persist() as persist, closing(Ingest(scene.place.config)) as ingest:
        ingest.send()
        assert ingest.reply()
        assert persist.error is None
    assert scene.rows("SELECT id, hostname, cursor FROM host ORDER BY id") == [
        (1, "pds.test", None), (2, "other.test", None),
        *((2 + number, f"lost{number}.test", None) for number in range(1, 30)),
        (32, "lost0.test", 6),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param("NULL", 6, id="its end, where it would miss events"),
        pytest.param("0", 6, id="its beginning, where all come again"),
        pytest.param("8", 8, id="farther than was remembered"),
    ],
)
def test_a_lost_host_that_was_added_again_by_hand_goes_on_where_it_was(
    scene: Scene, caplog: pytest.LogCaptureFixture, given: str, expected: int
) -> None:
    with scene.place.persist():
        pass
    scene.back_up()
    scene.add_hosts("first.test", "lost.test")
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 1, 9, host=3, cursor=6)
    scene.restore()
    scene.add_hosts("lost.test")
    scene.rows(f"UPDATE host SET cursor = {given} WHERE hostname = 'lost.test'")
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        ingest.send()
        assert ingest.reply()
    assert scene.rows("SELECT hostname, id, cursor FROM host ORDER BY hostname") == [
        ("first.test", 4, None), ("lost.test", 2, expected), ("pds.test", 1, None)
    ]  # fmt: skip
    said = "1 hosts are there under other numbers, and go on from the cursors" in caplog.text
    assert said is (expected == 6)


# --- the database is new ---


def test_a_new_database_has_hosts_cursors_and_accounts_back(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.rows("UPDATE host SET level = 'observe', account_limit = 77, tls = false")
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 1, 9, cursor=6)
    before = scene.rows("SELECT did, host_id, active, seq FROM account ORDER BY did")
    scene.restore(empty=True)
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        assert say(ingest, 1, 10) == [10]
        assert scene.rows("SELECT did, host_id, active, seq FROM account ORDER BY did") == before
    assert (
        "the database knows nothing of the log, which has reached seq 9: it is new" in caplog.text
    )
    assert scene.rows("SELECT hostname, tls, level, account_limit, cursor FROM host") == [
        ("pds.test", False, "observe", 77, 6)
    ]


def test_with_neither_database_nor_checkpoint_no_event_is_taken_for_an_old_one(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    account = Account("did:web:alice.test", "alice.test", Curve.K256, Clock(), "alice", 0)
    born = spoken(account.commit([]))
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        sent = judged_over(born, NEVER_SEEN, 30, upstream_seq=30)
        assert say(ingest, 1, 9, cursor=6)
        assert ingest.ask(sent).logged == [30]
    scene.restore(empty=True)
    (scene.log_dir / CHECKPOINT_NAME).unlink()
    # As persist and ingest start together, a host is there before the log was read.
    scene.add_hosts("other.test")
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        assert say(ingest, 1, 3, host=HOST) == [1, 2, 3]
        # A commit is known by the state it led to, so it never leaves twice.
        again = ingest.ask(judged_over(born, NEVER_SEEN, 30, upstream_seq=30, host=HOST))
        assert [position for position, _ in again.back] == [30]
        assert again.back[0][1].rev == sent[0].after.rev
        scene.add_hosts("later.test")
        assert scene.rows("SELECT min(id) > 1000000 FROM host WHERE id <> 1") == [(True,)]
        assert scene.rows("SELECT generation FROM host WHERE id = 1") == [(2,)]
    assert "what they say again of identities and accounts comes a second time" in caplog.text


def test_a_log_that_was_put_there_without_its_head_is_seen_too(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 1, 3)
    scene.restore(empty=True)
    for name in (CHECKPOINT_NAME, HEAD_NAME):
        (scene.log_dir / name).unlink()
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        assert say(ingest, 4, 4) == [4]
    assert "the database knows nothing of the log" in caplog.text


def test_a_first_start_is_nothing_to_speak_of(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with scene.place.persist():
            pass
    assert "knows nothing of the log" not in caplog.text
    assert not (scene.log_dir / "restored").exists()


# --- the log is gone, or shorter ---


@pytest.mark.parametrize(
    ("ago_s", "skipped"),
    [
        pytest.param(0, SKIPPED_AFTER_LOSS, id="the database was told just now"),
        pytest.param(30 * DAY_S, 30 * DAY_S * FASTEST_EVENTS_S, id="it is a backup of last month"),
        pytest.param(None, UNKNOWN_AGE_S * FASTEST_EVENTS_S, id="an earlier release told it"),
    ],
)
def test_over_a_lost_log_numbers_go_on_above_any_that_can_have_been_given(
    scene: Scene, caplog: pytest.LogCaptureFixture, ago_s: int | None, skipped: float
) -> None:
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 1, 3)
    lose_log(scene)
    if ago_s is None:
        scene.rows("DELETE FROM relay WHERE name = 'applied_at'")
    else:
        scene.rows(f"UPDATE relay SET value = value - {ago_s} WHERE name = 'applied_at'")
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        assert say(ingest, 4, 4) == [4]
    ((seq, _, _),) = scene.place.logged()
    assert skipped < seq < skipped + 100 * FASTEST_EVENTS_S
    assert "the log lost what had been announced" in caplog.text


def test_segments_that_are_lost_are_missed_by_the_checkpoint_too(scene: Scene) -> None:
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 1, 3)
    lose_log(scene, but=CHECKPOINT_NAME)
    scene.restore(empty=True)
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        assert say(ingest, 4, 4) == [4]
    assert scene.place.logged()[0][0] > SKIPPED_AFTER_LOSS


def test_the_farthest_that_anybody_may_have_come_counts() -> None:
    assert floor_over([(0, 0.0), (500, 1.0), (90_000, 0.0)]) == 90_000
    assert floor_over([(500, 10.0), (90_000, 0.0)]) == 500 + 10 * FASTEST_EVENTS_S
    # A clock that was set back makes it no less.
    assert floor_over([(500, -10.0)]) == 500


# --- a strict start ---


def test_a_strict_start_refuses_a_lost_log_and_changes_nothing(scene: Scene) -> None:
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 1, 3)
    shutil.copytree(scene.log_dir, scene.log_dir.with_name("kept"))
    lose_log(scene)
    strict(scene)
    for _ in range(2):
        with scene.place.persist() as persist:
            assert isinstance(ends_by_itself(persist), Damaged)
            assert "had been announced is gone" in str(persist.error)
    # Whoever finds it again may put it back.
    shutil.rmtree(scene.log_dir)
    scene.log_dir.with_name("kept").rename(scene.log_dir)
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        assert say(ingest, 3, 4) == [4]
    assert [seq for seq, _, _ in scene.place.logged()] == [1, 2, 3, 4]


def test_a_strict_start_refuses_a_log_that_ends_before_what_was_reached(scene: Scene) -> None:
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 1, 3)
    (base,) = list_segments(scene.log_dir)
    path = segment_path(scene.log_dir, base)
    path.write_bytes(path.read_bytes()[:1_000])
    strict(scene)
    with scene.place.persist() as persist:
        assert isinstance(ends_by_itself(persist), Damaged)


def test_a_strict_start_refuses_a_new_database_and_leaves_it_empty(scene: Scene) -> None:
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 1, 3)
    scene.restore(empty=True)
    strict(scene)
    with scene.place.persist() as persist:
        assert isinstance(ends_by_itself(persist), Refused)
        assert "which has reached seq 3: it is new" in str(persist.error)
    assert scene.rows("SELECT to_regclass('host')") == [(None,)]
    assert len(list_segments(scene.log_dir)) == 1


def test_a_strict_start_over_what_is_whole_starts(scene: Scene) -> None:
    strict(scene)
    for number in (1, 2):
        with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
            assert say(ingest, 1, number) == [number]


# --- damage in the part that a start reads ---


def test_a_start_goes_on_behind_damage_and_says_what_is_missing(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    with scene.place.persist() as persist, closing(Ingest(scene.place.config)) as ingest:
        assert persist.worker
        persist.worker._log._segment_bytes = 4096
        for number in range(1, 31):
            say(ingest, number, number)
    base = list_segments(scene.log_dir)[1]
    with scene.place.reader() as reader:
        chunk = reader.read(base + 2, 1)[0]
    path = segment_path(scene.log_dir, base)
    data = path.read_bytes()
    at = data.index(chunk.raw)
    path.write_bytes(data[: at + 60] + b"\xff" * 8 + data[at + 68 :])
    (scene.log_dir / CHECKPOINT_NAME).unlink()
    scene.rows("UPDATE relay SET value = 0 WHERE name IN ('applied_seq', 'scan_seq')")
    scene.rows("DELETE FROM account")
    with scene.place.persist() as persist, closing(Ingest(scene.place.config)) as ingest:
        # Only the one that cannot be read is not known any more.
        assert say(ingest, 1, 31) == [base + 2, 31]
        assert persist.error is None
    assert "what these seqs said of accounts is lost" in caplog.text
    assert path.name in caplog.text
    assert scene.rows("SELECT count(*) FROM account") == [(31,)]


# --- a backup is restored under a running relay ---


def test_a_backup_restored_under_a_running_persist_ends_it_and_the_next_start_makes_it_whole(
    scene: Scene,
) -> None:
    scene.place.config = replace(scene.place.config, checkpoint_s=0.1)
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 1, 5, cursor=3)
    scene.back_up()
    with scene.place.persist() as persist, closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 6, 9, cursor=8)
        eventually(lambda: scene.rows("SELECT cursor FROM host") == [(8,)])
        eventually(lambda: cursors(scene) == [(HOST, 1, 8)])
        scene.restore()
        # Of an account that has to be looked up there.
        ingest.send(identity(10, did(10)))
        assert isinstance(ends_by_itself(persist), ViewWentBack)
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        assert say(ingest, 4, 11) == [10, 11]
    assert upstream(scene) == list(range(1, 12))
    assert scene.rows("SELECT cursor FROM host") == [(8,)]
    assert scene.rows("SELECT count(*), max(seq) FROM account") == [(11, 11)]


def test_a_backup_that_is_restored_table_by_table_is_noticed_before_anything_is_written(
    scene: Scene,
) -> None:
    with scene.place.persist() as persist, closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 1, 5)
        eventually(lambda: scene.rows("SELECT max(seq) FROM account") == [(5,)])
        # No connection breaks by that.
        scene.rows("UPDATE relay SET value = 2 WHERE name = 'applied_seq'; DELETE FROM account")
        say(ingest, 6, 6)
        assert isinstance(ends_by_itself(persist), ViewWentBack)
    assert scene.rows("SELECT count(*) FROM account") == [(0,)]
    with scene.place.persist():
        eventually(lambda: scene.rows("SELECT count(*) FROM account") == [(4,)])


def test_no_state_is_taken_from_a_database_that_went_back(
    scene: Scene,
) -> None:
    # One that is older than what was flushed, and newer than what was there at the start: only who
    # flushes knows that, and who looks accounts up has to be told.
    with scene.place.persist() as persist, closing(Ingest(scene.place.config)) as ingest:
        say(ingest, 1, 3)
        eventually(lambda: scene.rows("SELECT max(seq) FROM account") == [(3,)])
        assert persist.worker
        eventually(lambda: persist.worker and persist.worker._finder._confirmed_seq == 3)


# --- accounts of which events are missing ---


def test_an_account_that_missed_events_goes_on_marked_and_a_sync_heals_it() -> None:
    """What follows from a view without the events that left the log: the judge's side of it."""
    account = Account("did:web:alice.test", "alice.test", Curve.K256, Clock(), "alice", 0)
    said = [spoken(account.commit([])) for _ in range(5)]
    known = said[0].after(NEVER_SEEN, HOST, 0)
    key = Identity(account.did, K256Key(account.key.compressed), "pds.test")
    source = Source(HOST, "pds.test")

    def accept(event: object, state: object) -> Accept:
        verdict = judge(event, key, state, source, now_s=4e9, fresh=True, asked=True)  # type: ignore[arg-type]
        assert isinstance(verdict, Accept), verdict
        return verdict

    # Commits 2 to 4 are missing.
    next_one = accept(said[4].event(5), known)
    assert next_one.marks == Mark.DISCONTINUOUS
    assert (next_one.after.rev, next_one.after.desynchronized) == (said[4].event(5).rev, True)
    follower = accept(spoken(account.commit([])).event(6), next_one.after)
    assert follower.marks == 0
    healed = accept(spoken(account.sync(new_rev=True)).event(7), follower.after)
    assert not healed.after.desynchronized


def test_an_account_that_missed_its_own_silence_speaks_on() -> None:
    account = Account("did:web:alice.test", "alice.test", Curve.K256, Clock(), "alice", 0)
    born = spoken(account.commit([]))
    known = born.after(NEVER_SEEN, HOST, 0)
    spoken(account.set_status("deactivated"))
    back = spoken(account.set_status(None))
    key = Identity(account.did, K256Key(account.key.compressed), "pds.test")
    verdict = judge(
        back.event(3), key, known, Source(HOST, "pds.test"), now_s=4e9, fresh=True, asked=True
    )
    assert isinstance(verdict, Accept)
    assert verdict.after.active


# --- a disk that is full before anything is written ---


def test_on_a_full_disk_a_start_makes_room_before_it_writes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with scene.place.persist() as persist, closing(Ingest(scene.place.config)) as ingest:
        assert persist.worker
        persist.worker._log._segment_bytes = 4096
        for number in range(1, 31):
            say(ingest, number, number, cursor=number - 1)
    asked: list[list[int]] = []
    size = segment_path(scene.log_dir, 1).stat().st_size
    usage = shutil.disk_usage(scene.log_dir)
    bases = list_segments(scene.log_dir)

    def nearly_full(_folder: object) -> object:
        # As it is at the first look: room for nothing, a segment below the reserve.
        asked.append(list_segments(scene.log_dir))
        return usage._replace(free=0) if len(asked) == 1 else usage

    monkeypatch.setattr("persist.opening.shutil.disk_usage", nearly_full)
    scene.place.config = replace(scene.place.config, reserve_bytes=size + 1)
    with scene.place.persist(), closing(Ingest(scene.place.config)) as ingest:
        assert say(ingest, 20, 31) == [31]
    assert asked[0] == bases
    assert list_segments(scene.log_dir)[0] == bases[2]
    assert f"seqs 1 to {bases[2] - 1} left the log before their time" in caplog.text


# --- the store's part ---


def test_numbers_of_hosts_are_kept_apart(postgres_url: str) -> None:
    connection = connect(postgres_url, "test")
    ensure_schema(connection)

    def add(name: str) -> object:
        row = connection.execute(
            "INSERT INTO host (hostname, account_limit) VALUES (%s, 1) RETURNING id", (name,)
        ).fetchone()
        assert row is not None
        return row[0]

    with closing(Store(connection)) as store:
        assert add("a") == 1
        store.part_hosts({}, 0)
        assert add("b") == 2
        store.part_hosts({2: 5, 9: 1}, 7)
        assert add("c") == 8
        store.part_hosts({2: 3}, 4)
        assert add("d") == 9
        found = connection.execute("SELECT id, generation FROM host ORDER BY id").fetchall()
        assert found == [(1, 1), (2, 6), (8, 1), (9, 1)]


def test_how_long_ago_the_database_was_told_is_read_by_its_own_clock(postgres_url: str) -> None:
    connection = connect(postgres_url, "test")
    ensure_schema(connection)
    with closing(Store(connection)) as store:
        assert store.read_reached() is None
        connection.execute("INSERT INTO relay VALUES ('applied_seq', 7)")
        assert store.read_reached() == (7, None)
        connection.execute(
            "INSERT INTO relay VALUES ('applied_at', extract(epoch FROM now())::bigint - 1000)"
        )
        reached = store.read_reached()
        assert reached is not None
        assert reached.age_s is not None
        assert 999 <= reached.age_s < 1100
