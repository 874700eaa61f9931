"""Does persist say what the operator wants of accounts, and hold back those over a host's limit?

The real persist with a real database; the operator acts through common.control, as the admin API and
the command do.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from common.chunk import account_key
from common.control import ControlPlane, Limits, NewHost
from common.database import connect, ensure_schema
from common.envelope import NEVER_SEEN, AccountState, Kind, Mark, Reply
from common.event import Event, decode
from common.hidden import HIDDEN_NAME
from common.logged import message_of
from persist.hidden_file import read_hidden
from persist.store import ViewWentBack
from tests.chaos.points import Order, Point, write_orders
from tests.fix_net import eventually, free_port
from tests.persist.events import DID, commit_over, did, judged
from tests.persist.running import Ingest, Relay, relay
from tests.persist.test_kill import place_of
from tests.persist.test_restored import Scene, scene  # noqa: F401 - a fixture

ROOT = Path(__file__).parent.parent.parent


class Desk:
    """An operator and an ingest process before one persist; and what the log says."""

    def __init__(self, place: Relay, url: str) -> None:
        self.place = place
        self.url = url
        self.connection = connect(url, "test")
        ensure_schema(self.connection)
        self.operator = ControlPlane(self.connection, "test")
        self.ingest: Ingest
        self._position = 0
        self._recalls: Counter[str] = Counter()

    def host(self, name: str, limit: int) -> int:
        self.operator.add_host(NewHost(name, True, limit, False, 0, "operator"))
        found = self.connection.execute("SELECT id FROM host WHERE hostname = %s", (name,))
        row = found.fetchone()
        assert row is not None
        return int(row[0])

    def say(
        self,
        account: str,
        state: AccountState = NEVER_SEEN,
        *,
        kind: Kind = Kind.COMMIT,
        host: int = 1,
        **said: Any,
    ) -> Reply:
        """One event, judged against `state`."""
        self._position += 1
        after = commit_over(state, self._position, host) if kind is Kind.COMMIT else state
        reply = self.ingest.ask(
            judged(
                self._position, account=account, state=state, after=after._replace(**said),
                host=host, kind=kind, recall=self._recalls[account],
            )
        )  # fmt: skip
        # As an ingest process does: what comes behind one that came back knows of it.
        self._recalls[account] += len(reply.back)
        return reply

    def arrive(self, account: str, host: int = 1) -> AccountState:
        """An account's first commit, which passes; its state from there on."""
        assert self.say(account, host=host).logged == [self._position]
        return commit_over(NEVER_SEEN, self._position, host)

    def rejected(
        self, account: str, state: AccountState = NEVER_SEEN, host: int = 1
    ) -> AccountState:
        """A commit of it comes back; the state that comes with it."""
        ((_, newest),) = self.say(account, state, host=host).back
        return newest

    def events(self, account: str) -> list[tuple[int, bool, str | None]]:
        """What the relay itself has said of an account: (marks, active, status)."""
        found: list[tuple[int, bool, str | None]] = []
        with self.place.reader() as reader:
            seq = reader.oldest_seq
            while chunks := reader.read(seq, 1 << 20):
                for chunk in chunks:
                    for row in chunk.rows():
                        if row.account == account_key(account) and row.flags & Mark.LOCAL:
                            event = decode(message_of(chunk, row))
                            assert isinstance(event, Event)
                            assert event.did == account
                            found.append((row.flags & ~(Mark.LOCAL | Mark.OURS), event.active,
                                          event.status))  # fmt: skip
                seq = chunks[-1].next_seq
        return found

    def said(self, account: str, *expected: tuple[int, bool, str | None]) -> None:
        """Wait until the relay has said as much of an account, and see that it is that."""
        eventually(lambda: len(self.events(account)) >= len(expected), what=f"said of {account}")
        assert self.events(account) == list(expected)

    def row(self, account: str) -> tuple[Any, ...]:
        """(local, over_limit, active, status) in the view."""
        row = self.connection.execute(
            "SELECT local, over_limit, active, status FROM account WHERE did = %s", (account,)
        ).fetchone()
        return row or ()

    def shows(self, account: str, *row: object) -> None:
        eventually(lambda: self.row(account) == row, what=f"{row} of {account}")

    def counted(self, host: int, live: int) -> None:
        def count() -> bool:
            row = self.connection.execute("SELECT accounts FROM host WHERE id = %s", (host,))
            return row.fetchone() == (live,)

        eventually(count, what=f"{live} accounts of host {host}")

    def hidden(self) -> dict[str, int]:
        """DID → the seq it is hidden with, as broadcasters read it."""
        found = read_hidden(self.place.config.log_dir)
        assert found is not None
        assert all(key == account_key(did) for did, (_, key) in found.taken_down.items())
        return {did: seq for did, (seq, _) in found.taken_down.items()}

    def settles(self) -> None:
        """Wait until persist has looked at all that was said so far."""
        row = self.connection.execute("SELECT value FROM relay WHERE name = 'control_version'")
        version = (row.fetchone() or (0,))[0]

        def seen() -> bool:
            found = read_hidden(self.place.config.log_dir)
            return found is not None and found.version >= version

        eventually(seen, what="all wishes are fulfilled")


TAKEN = (int(Mark.TAKEN_DOWN), False, "takendown")
TAKEN_TOO = (int(Mark.TAKEN_DOWN | Mark.OVER_LIMIT), False, "takendown")
OVER = (int(Mark.OVER_LIMIT), False, "throttled")
FREE = (0, True, None)


@pytest.fixture
def place(postgres_url: str) -> Iterator[Relay]:
    with relay(postgres_url) as place:
        yield place


@contextmanager
def at_work(desk: Desk) -> Iterator[Desk]:
    with desk.place.persist() as persist:
        with closing(Ingest(desk.place.config)) as desk.ingest:
            desk.ingest.send()
            assert desk.ingest.reply()
            yield desk
        assert persist.error is None


@pytest.fixture
def desk(place: Relay, postgres_url: str) -> Iterator[Desk]:
    desk = Desk(place, postgres_url)
    desk.host("pds.test", 1_000)
    with closing(desk.connection), at_work(desk):
        yield desk


# --- takedowns ---


def test_a_takedown_is_said_once_and_the_accounts_commits_come_back(desk: Desk) -> None:
    state = desk.arrive(DID)
    assert desk.operator.take_down(DID)
    desk.said(DID, TAKEN)
    newest = desk.rejected(DID, state)
    assert newest == state._replace(local="takendown")
    desk.shows(DID, "takendown", False, True, None)
    assert desk.hidden() == {DID: 2}
    # Twice is once.
    assert not desk.operator.take_down(DID)
    desk.operator.ban_domain("elsewhere.test")
    desk.settles()
    assert desk.events(DID) == [TAKEN]


def test_an_account_can_be_taken_down_before_anybody_has_seen_it(desk: Desk) -> None:
    desk.operator.take_down(DID)
    desk.said(DID, TAKEN)
    desk.shows(DID, "takendown", False, True, None)
    assert desk.rejected(DID) == NEVER_SEEN._replace(local="takendown")
    desk.operator.reverse_takedown(DID)
    desk.said(DID, TAKEN, FREE)
    desk.arrive(DID)


def test_a_reversal_lifts_the_takedown_alone_and_tells_what_the_host_said_last(desk: Desk) -> None:
    state = desk.arrive(DID)
    desk.operator.take_down(DID)
    desk.said(DID, TAKEN)
    held = state._replace(local="takendown")
    # The host's word is kept in the log, and kept from consumers.
    assert desk.say(DID, held, kind=Kind.ACCOUNT, active=False, status="deactivated").logged
    with desk.place.reader() as reader:
        (chunk,) = reader.read(3, 1)
        assert chunk.row(3).flags == Mark.HELD
    desk.operator.reverse_takedown(DID)
    desk.said(DID, TAKEN, (0, False, "deactivated"))
    assert desk.hidden() == {}
    newest = held._replace(local=None, active=False, status="deactivated")
    assert desk.rejected(DID, state) == newest
    desk.shows(DID, None, False, False, "deactivated")
    # And again, each time with an event.
    desk.operator.take_down(DID)
    desk.said(DID, TAKEN, (0, False, "deactivated"), TAKEN)
    assert desk.hidden() == {DID: 5}


def test_a_takedown_that_is_reversed_before_the_view_has_it_is_reversed(desk: Desk) -> None:
    """The view is a second behind the log: what differs from it is not all that differs."""
    for _ in range(3):
        desk.operator.take_down(DID)
        eventually(lambda: DID in desk.hidden(), what="it is taken down")
        desk.operator.reverse_takedown(DID)
        eventually(lambda: DID not in desk.hidden(), what="it is up again")
    desk.settles()
    assert desk.events(DID) == [TAKEN, FREE] * 3


def test_many_takedowns_at_once_are_said_once_each_while_events_flow(desk: Desk) -> None:
    many = [did(number) for number in range(1_000)]
    with desk.connection.transaction():
        for account in many:
            desk.operator.take_down(account)
    states = {n: desk.arrive(did(n)) for n in range(2_000, 2_050)}
    assert len(states) == 50
    eventually(lambda: len(desk.hidden()) == len(many), what="all are taken down")
    desk.settles()
    with desk.place.reader() as reader:
        said = [
            row.account
            for chunk in reader.read(1, 1 << 30)
            for row in chunk.rows()
            if row.flags & Mark.LOCAL
        ]
    assert sorted(said) == sorted(map(account_key, many))


# --- account limits ---


def test_an_account_over_the_limit_is_held_and_released_when_the_limit_grows(desk: Desk) -> None:
    host = desk.host("small.test", 2)
    for number in (1, 2):
        desk.arrive(did(number), host)
    late = [did(number) for number in (3, 4, 5)]
    for account in late:
        assert desk.rejected(account, host=host).local == "throttled"
        assert desk.events(account) == [OVER]
    desk.counted(host, 5)
    # Once.
    newest = desk.rejected(late[0], host=host)
    assert newest == NEVER_SEEN._replace(host=host, local="throttled", over_limit=True)
    assert desk.events(late[0]) == [OVER]
    # S-ACC-09: what its host says of it is nothing new for those who hear of it.
    assert desk.say(late[0], newest, kind=Kind.ACCOUNT, host=host, active=True).logged
    # The first that came are the first to be released, as many as there is room for.
    desk.operator.set_limits("small.test", Limits(account_limit=4))
    desk.said(late[0], OVER, FREE)
    desk.said(late[1], OVER, FREE)
    freed = newest._replace(local=None, over_limit=False)
    assert desk.say(late[0], freed, host=host).logged
    assert desk.rejected(late[2], host=host).local == "throttled"
    desk.shows(late[2], "throttled", True, True, None)
    # A limit that falls throws nobody out.
    desk.operator.set_limits("small.test", Limits(account_limit=1))
    desk.settles()
    assert desk.events(did(1)) == []
    assert desk.events(late[0]) == [OVER, FREE]
    assert desk.rejected(did(6), host=host).local == "throttled"


def test_a_deleted_account_makes_room_and_so_does_one_that_moves_away(desk: Desk) -> None:
    host = desk.host("small.test", 2)
    first, second = (desk.arrive(did(number), host) for number in (1, 2))
    for number in (3, 4, 5):
        desk.rejected(did(number), host=host)
    desk.counted(host, 5)
    gone = {"active": False, "status": "deleted"}
    assert desk.say(did(1), first, kind=Kind.ACCOUNT, host=host, **gone).logged
    desk.said(did(3), OVER, FREE)
    desk.counted(host, 4)
    # To a host that has room; and it counts there.
    moved = desk.say(did(2), second, host=1)
    assert moved.logged
    desk.said(did(4), OVER, FREE)
    desk.counted(host, 3)
    desk.counted(1, 1)
    assert desk.events(did(5)) == [OVER]


def test_deleted_accounts_that_come_back_are_no_way_around_the_limit(desk: Desk) -> None:
    host = desk.host("small.test", 1)
    first = desk.arrive(did(1), host)
    gone = first._replace(active=False, status="deleted")
    assert desk.say(
        did(1), first, kind=Kind.ACCOUNT, host=host, active=False, status="deleted"
    ).logged
    desk.arrive(did(2), host)
    back: dict[str, Any] = {"kind": Kind.ACCOUNT, "host": host, "active": True, "status": None}
    ((_, held),) = desk.say(did(1), gone, **back).back
    assert held == gone._replace(local="throttled", over_limit=True)
    assert desk.say(did(1), held, **back).logged
    assert desk.events(did(1)) == [OVER]
    desk.counted(host, 2)
    # One that says so again is where it was.
    there = held._replace(active=True, status=None)
    assert desk.say(did(1), there, **back).logged
    desk.operator.set_limits("small.test", Limits(account_limit=2))
    desk.said(did(1), OVER, FREE)
    # With room there it simply comes back.
    free = there._replace(local=None, over_limit=False)
    assert desk.say(
        did(1), free, kind=Kind.ACCOUNT, host=host, active=False, status="deleted"
    ).logged
    assert desk.say(did(1), free._replace(active=False, status="deleted"), **back).logged
    assert desk.events(did(1)) == [OVER, FREE]


def test_an_account_that_moves_to_a_full_host_is_not_held_there(desk: Desk) -> None:
    host = desk.host("full.test", 0)
    state = desk.arrive(DID)
    assert desk.say(DID, state, host=host).logged
    assert desk.rejected(did(2), host=host).local == "throttled"


def test_a_held_account_that_moves_to_a_host_with_room_is_released(desk: Desk) -> None:
    host = desk.host("full.test", 0)
    held = desk.rejected(DID, host=host)
    assert desk.say(DID, held, kind=Kind.ACCOUNT, host=1, active=True).logged
    desk.said(DID, OVER, FREE)
    desk.counted(1, 1)
    desk.counted(host, 0)


@pytest.mark.parametrize("first", ["takedown", "limit"])
def test_neither_reversal_nor_release_lifts_the_other(desk: Desk, first: str) -> None:
    host = desk.host("full.test", 0)
    silent = (int(Mark.TAKEN_DOWN | Mark.OVER_LIMIT | Mark.HELD), False, "takendown")
    if first == "takedown":
        desk.operator.take_down(DID)
        desk.said(DID, TAKEN)
        state = desk.rejected(DID, host=host)
        assert desk.say(DID, state, kind=Kind.ACCOUNT, host=host, active=True).back
        before = [TAKEN, silent]
    else:
        desk.rejected(DID, host=host)
        desk.operator.take_down(DID)
        before = [OVER, TAKEN_TOO]
    desk.said(DID, *before)
    desk.shows(DID, "takendown", True, True, None)
    desk.operator.reverse_takedown(DID)
    desk.said(DID, *before, OVER)
    desk.operator.take_down(DID)
    desk.said(DID, *before, OVER, TAKEN_TOO)
    desk.operator.set_limits("full.test", Limits(account_limit=1))
    # Nothing is new for consumers: it stays taken down.
    released = (int(Mark.TAKEN_DOWN | Mark.HELD), False, "takendown")
    desk.said(DID, *before, OVER, TAKEN_TOO, released)
    desk.operator.reverse_takedown(DID)
    desk.said(DID, *before, OVER, TAKEN_TOO, released, FREE)


def test_the_counts_go_on_after_a_start(place: Relay, postgres_url: str) -> None:
    desk = Desk(place, postgres_url)
    host = desk.host("small.test", 2)
    with closing(desk.connection):
        with at_work(desk):
            desk.operator.take_down(did(9))
            desk.settles()
        assert desk.events(did(9)) == [TAKEN]
        desk.connection.execute(
            "INSERT INTO account (did, host_id, active, seq, local, over_limit) VALUES "
            "('did:web:a.test', %(host)s, true, 1, NULL, false), "
            "('did:web:b.test', %(host)s, true, 1, 'throttled', true)",
            {"host": host},
        )
        desk.connection.execute("UPDATE host SET accounts = 2 WHERE id = %s", (host,))
        with at_work(desk):
            # One of the two takes no room: it was over the limit before, and has room now.
            desk.said("did:web:b.test", FREE)
            assert desk.rejected(did(3), host=host).local == "throttled"
            desk.counted(host, 3)


# --- across deaths and restored databases ---


@pytest.mark.parametrize(
    "point",
    [Point.HALF_WRITTEN, Point.WRITTEN, Point.SYNCED, Point.ANNOUNCED, Point.PUBLISHED],
)
def test_a_takedown_is_said_once_wherever_persist_is_killed(
    tmp_path: Path, postgres_url: str, point: Point
) -> None:
    place = place_of(tmp_path / "data", postgres_url)
    environ = {
        "PATH": os.environ["PATH"], "STANDPIPE_DATA_DIR": str(tmp_path / "data"),
        "STANDPIPE_BIND": f"127.0.0.1:{free_port()}", "STANDPIPE_METRICS_PORT": "0",
        "DATABASE_URL": postgres_url, "CHAOS_FOLDER": str(tmp_path),
    }  # fmt: skip
    desk = Desk(place, postgres_url)
    with closing(desk.connection):
        for words in (desk.operator.take_down, desk.operator.reverse_takedown):
            write_orders(tmp_path, [Order(point)])
            words(DID)
            expected = [TAKEN] if words == desk.operator.take_down else [TAKEN, FREE]
            with (tmp_path / "output").open("ab") as output:
                for life in range(2):
                    process = subprocess.Popen(
                        [sys.executable, "-m", "tests.chaos.persist"], cwd=ROOT, env=environ,
                        stdout=output, stderr=subprocess.STDOUT,
                    )  # fmt: skip
                    try:
                        if life == 0:
                            assert process.wait(60) == -signal.SIGKILL
                            # The file is ahead of the log, by this at most.
                            assert (DID in desk.hidden()) is (expected == [TAKEN])
                        else:
                            desk.said(DID, *expected)
                            desk.settles()
                            desk.said(DID, *expected)
                    finally:
                        process.kill()
                        process.wait()
            assert (DID in desk.hidden()) is (expected == [TAKEN])


def test_no_restored_database_undoes_what_the_operator_said(scene: Scene) -> None:  # noqa: F811
    up, down, kept = did(1), did(2), did(3)
    desk = Desk(scene.place, scene.url)
    with closing(desk.connection), at_work(desk):
        desk.operator.take_down(up)
        desk.operator.take_down(kept)
        desk.settles()
        desk.shows(up, "takendown", False, True, None)
    scene.back_up()
    desk = Desk(scene.place, scene.url)
    with closing(desk.connection), at_work(desk):
        desk.operator.reverse_takedown(up)
        desk.operator.take_down(down)
        desk.operator.ban_domain("bad.test")
        desk.operator.ban_host("pds.test")
        desk.settles()
    said = {account: desk.events(account) for account in (up, down, kept)}
    scene.restore()
    desk = Desk(scene.place, scene.url)
    with closing(desk.connection), at_work(desk):
        assert desk.operator.takedowns("", 9) == [down, kept]
        assert desk.operator.banned_domains() == ["bad.test"]
        assert scene.rows("SELECT wanted FROM host") == [("banned",)]
        # What comes then is above what was there, so that it is looked at.
        desk.operator.take_down(did(4))
        desk.said(did(4), TAKEN)
        assert {account: desk.events(account) for account in said} == said
        assert sorted(desk.hidden()) == [down, kept, did(4)]


def test_no_backup_restored_under_a_running_persist_undoes_what_the_operator_said(
    scene: Scene,  # noqa: F811
) -> None:
    desk = Desk(scene.place, scene.url)
    with closing(desk.connection):
        with desk.place.persist() as persist, closing(Ingest(desk.place.config)) as desk.ingest:
            desk.ingest.send()
            assert desk.ingest.reply()
            desk.operator.ban_host("pds.test")
            desk.operator.take_down(DID)
            desk.settles()
            desk.shows(DID, "takendown", False, True, None)
            # No connection breaks by that, and nothing is written meanwhile that would tell.
            desk.connection.execute(
                "WITH a AS (DELETE FROM takedown), b AS (DELETE FROM account),"
                " c AS (UPDATE host SET wanted = 'active')"
                " UPDATE relay SET value = 0 WHERE name IN ('control_version', 'applied_seq')"
            )
            persist.join()
            assert isinstance(persist.error, ViewWentBack)
        with at_work(desk):
            assert desk.operator.takedowns("", 9) == [DID]
            assert scene.rows("SELECT wanted FROM host") == [("banned",)]
            desk.settles()
            assert desk.events(DID) == [TAKEN]


def test_no_word_said_over_a_restored_database_hides_that_it_is_older(
    scene: Scene,  # noqa: F811
) -> None:
    scene.place.config = replace(scene.place.config, checkpoint_s=0.1)
    desk = Desk(scene.place, scene.url)
    with closing(desk.connection), at_work(desk):
        desk.settles()
    scene.back_up()
    desk = Desk(scene.place, scene.url)
    with closing(desk.connection), at_work(desk):
        desk.operator.take_down(DID)
        desk.operator.ban_domain("bad.test")
        desk.operator.ban_host("pds.test")
        desk.settles()
        desk.shows(DID, "takendown", False, True, None)
    scene.restore()
    desk = Desk(scene.place, scene.url)
    with closing(desk.connection):
        # While persist is away: strangers have hosts dialled, and an operator goes on.
        for _ in range(9):
            desk.operator.dial_host("pds.test")
        with at_work(desk):
            desk.settles()
            assert desk.operator.takedowns("", 9) == [DID]
            assert desk.operator.banned_domains() == ["bad.test"]
            assert scene.rows("SELECT wanted FROM host") == [("banned",)]
            assert desk.events(DID) == [TAKEN]


def test_a_new_database_knows_who_is_taken_down(scene: Scene) -> None:  # noqa: F811
    desk = Desk(scene.place, scene.url)
    with closing(desk.connection), at_work(desk):
        desk.operator.take_down(DID)
        desk.settles()
    scene.restore(empty=True)
    with scene.place.persist(), closing(connect(scene.url, "test")) as connection:
        with closing(Ingest(scene.place.config)) as ingest:
            # It answers once it has opened everything.
            ingest.send()
            assert ingest.reply()
        assert ControlPlane(connection, "test").takedowns("", 9) == [DID]
    assert desk.events(DID) == [TAKEN]


def test_without_the_file_what_the_log_says_stays_so(place: Relay, postgres_url: str) -> None:
    desk = Desk(place, postgres_url)
    with closing(desk.connection):
        with at_work(desk):
            desk.operator.take_down(DID)
            desk.settles()
        (place.config.log_dir / HIDDEN_NAME).write_bytes(b"spoiled")
        desk.connection.execute("DELETE FROM takedown")
        with at_work(desk):
            assert desk.operator.takedowns("", 9) == [DID]
            assert list(desk.hidden()) == [DID]
            desk.operator.reverse_takedown(DID)
            desk.said(DID, TAKEN, FREE)


def test_a_log_begins_at_the_seq_that_is_set_and_a_higher_one_goes_on(
    place: Relay, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url) as connection:
        ensure_schema(connection)
    place.config = replace(place.config, initial_seq=5_000)
    desk = Desk(place, postgres_url)
    desk.host("pds.test", 1_000)
    with closing(desk.connection):
        with at_work(desk):
            desk.arrive(DID)
        place.config = replace(place.config, initial_seq=4_000)
        with at_work(desk):
            desk.operator.take_down(did(2))
            desk.said(did(2), TAKEN)
        place.config = replace(place.config, initial_seq=6_000)
        with at_work(desk):
            desk.operator.take_down(did(3))
            desk.said(did(3), TAKEN)
    assert [seq for seq, _, _ in place.logged()] == [5_000, 5_001, 6_000]
