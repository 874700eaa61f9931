"""Is everything logged exactly once, and published as logged, however often persist is killed?

The real process, with a real database; ingest and broadcast are the test's.
"""

from __future__ import annotations

import os
import random
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from common.chunk import Chunk
from common.database import connect, ensure_schema
from common.envelope import NEVER_SEEN, HostCursor, Judged, Kind, Mark
from common.event import Event, decode
from common.paths import Paths
from persist.config import Config
from tests.fix_net import eventually, free_port
from tests.persist.events import DID, did, judged
from tests.persist.running import Broadcaster, Ingest, Relay
from tests.simnet.events import make_event

ROOT = Path(__file__).parent.parent.parent
ACCOUNTS = 20
EVENTS = 3_000
KILLS = 5
IN_FLIGHT = 200
MARKS = (0, Mark.DISCONTINUOUS, Mark.WAIVED, Mark.DISCONTINUOUS | Mark.WAIVED)
"""Of the events, in turn: what is counted of them has to survive as they do."""


@contextmanager
def process(
    data_dir: Path, database_url: str, *, within: Callable[[], None] | None = None
) -> Iterator[subprocess.Popen[str]]:
    environment = {
        "PATH": os.environ["PATH"],
        "STANDPIPE_DATA_DIR": str(data_dir),
        "STANDPIPE_BIND": f"127.0.0.1:{free_port()}",
        "STANDPIPE_METRICS_PORT": "0",
        "DATABASE_URL": database_url,
    }
    started = subprocess.Popen(
        [sys.executable, "-m", "persist"], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=within,  # noqa: PLW1509
    )  # fmt: skip
    try:
        yield started
    finally:
        started.kill()
        started.wait()
        if started.stdout is not None:
            started.stdout.close()


def place_of(data_dir: Path, database_url: str) -> Relay:
    """The addresses that a persist with this data folder has."""
    paths = Paths(data_dir)
    paths.prepare()
    place = Relay(data_dir, database_url)
    place.config = Config(
        paths.log_dir, paths.batches_endpoint, paths.chunks_endpoint, database_url, 3600.0
    )
    return place


def identity(position: int, account: str = DID) -> tuple[Judged, bytes]:
    """An #identity that can be decoded again, as a start reads what the database missed."""
    fields = {"did": account, "time": "2026-01-02T03:04:05.678Z", "handle": "a" * 300 + ".test"}
    frame = make_event("identity", fields).frame(position)
    event = decode(frame)
    assert isinstance(event, Event)
    told, _ = judged(
        position, account=account, kind=Kind.IDENTITY, after=NEVER_SEEN, marks=MARKS[position % 4]
    )
    return told._replace(seq_start=event.seq_start, seq_end=event.seq_end), frame


class Feeder:
    """An ingest process with a memory: sends, resends when persist was restarted, checks answers.

    Events are identities, whose bases never change, so that only persist's own memory of upstream
    seqs stands between a resent event and a double.
    """

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._unanswered: dict[int, tuple[Judged, bytes]] = {}
        self.epoch = 0
        self._next = 1
        self._greet_s = 0.0
        self.answered = 0

    def send(self) -> None:
        """Send as much as may be in flight."""
        while self._next <= EVENTS and len(self._unanswered) < IN_FLIGHT:
            batch = [self._event() for _ in range(10)]
            done = min(self._unanswered) - 1 if self._unanswered else 0
            self._unanswered |= {event.position: (event, frame) for event, frame in batch}
            cursors = (HostCursor(1, 1, done),) if done > 0 and done % 7 == 0 else ()
            self._ingest.send(*batch, cursors=cursors)

    def hear(self) -> None:
        """Take what answers there are."""
        if time.monotonic() > self._greet_s:
            # As ingest does each second: whoever is there answers, and so tells its epoch.
            self._greet_s = time.monotonic() + 0.1
            self._ingest.send()
        while (reply := self._ingest.reply(0.01)) is not None:
            if reply.log_epoch != self.epoch:
                if self.epoch:
                    self._ingest.send(*self._unanswered.values())
                self.epoch = reply.log_epoch
            assert not reply.back
            for position in (*reply.logged, *reply.duplicate):
                if self._unanswered.pop(position, None) is not None:
                    self.answered += 1

    def _event(self) -> tuple[Judged, bytes]:
        position, self._next = self._next, self._next + 1
        return identity(position, did(position % ACCOUNTS))

    def done(self) -> bool:
        return self._next > EVENTS and not self._unanswered


def test_kill_9_at_any_moment_loses_nothing_and_doubles_nothing(
    postgres_url: str, data_dir: Path
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    place = place_of(data_dir, postgres_url)
    published: dict[int, Chunk] = {}
    # Its cursor is saved, so that a start relies on it, and on rows of the log above it.
    with closing(connect(postgres_url, "test")) as connection:
        ensure_schema(connection)
        connection.execute("INSERT INTO host (id, hostname, account_limit) VALUES (1, 'h', 9)")
    with (
        closing(Ingest(place.config)) as ingest,
        closing(Broadcaster(place.config)) as listening,
        place.reader() as reader,
    ):
        feeder = Feeder(ingest)
        kills = 0
        while not feeder.done():
            # As many as are in flight may be answered at once: it never comes to the end too early.
            dies_at = feeder.answered + rng.randrange(EVENTS // (KILLS + 1) - IN_FLIGHT)
            with process(data_dir, postgres_url) as persist:
                ends_s = time.monotonic() + 60
                epoch = feeder.epoch
                while not feeder.done():
                    assert time.monotonic() < ends_s, "persist is there, and does not answer"
                    feeder.send()
                    if kills < KILLS and feeder.answered >= dies_at and epoch != feeder.epoch:
                        # With all of these events under way: sent, logged, or just answered.
                        select.select([], [], [], rng.uniform(0, 0.008))
                        break
                    feeder.hear()
                    while (chunk := listening.chunk(0)) is not None:
                        # Published, so it is durable, and no other chunk has its numbers.
                        assert chunk.next_seq - 1 <= reader.durable_seq
                        if chunk.count:
                            assert chunk.first_seq not in published
                            published[chunk.first_seq] = chunk
                    assert persist.poll() is None, persist.communicate()
                if not feeder.done():
                    persist.kill()
                    persist.wait()
                    kills += 1
                else:
                    persist.send_signal(signal.SIGTERM)
                    assert persist.wait(60) == 0
    assert kills == KILLS
    logged = place.logged()
    assert [seq for seq, _, _ in logged] == list(range(1, EVENTS + 1))
    assert sorted(upstream for _, _, upstream in logged) == list(range(1, EVENTS + 1))
    for account in range(ACCOUNTS):
        order = [upstream for _, _, upstream in logged if upstream % ACCOUNTS == account]
        assert order == sorted(order)
    with psycopg.connect(postgres_url) as connection:
        counted = connection.execute("SELECT discontinuous, waived FROM host").fetchall()
    assert counted == [(EVENTS // 2, EVENTS // 2)]
    with place.reader() as reader:
        for chunk in published.values():
            assert reader.read(chunk.first_seq, 1)[0] == chunk


def test_sigterm_ends_with_0_and_leaves_nothing(postgres_url: str, data_dir: Path) -> None:
    place = place_of(data_dir, postgres_url)
    with closing(Ingest(place.config)) as ingest, process(data_dir, postgres_url) as persist:
        ingest.ask(identity(1))
        persist.send_signal(signal.SIGTERM)
        assert persist.wait(60) == 0
    assert not list((data_dir / "run").glob("*.json"))


def test_a_disk_that_is_full_ends_with_1_and_a_clear_line(
    postgres_url: str, data_dir: Path
) -> None:
    place = place_of(data_dir, postgres_url)
    with closing(Ingest(place.config)) as ingest, process(data_dir, postgres_url) as persist:
        assert ingest.ask(identity(1)).logged == [1]
        # A disk that takes no more of any file than it has.
        resource.prlimit(persist.pid, resource.RLIMIT_FSIZE, (600, 600))
        ingest.send(identity(2))
        out, _ = persist.communicate(timeout=60)
        assert persist.returncode == 1
        assert "cannot write the log" in out
        assert "File too large" in out
    with closing(Ingest(place.config)) as ingest, process(data_dir, postgres_url):
        reply = ingest.ask(
            identity(1),
            identity(2),
        )
        assert (reply.duplicate, reply.logged) == ([1], [2])
    eventually(lambda: [seq for seq, _, _ in place.logged()] == [1, 2])


@pytest.mark.parametrize("version", [0, 99])
def test_a_database_of_another_release_ends_with_1_by_name(
    postgres_url: str, data_dir: Path, version: int
) -> None:
    place = place_of(data_dir, postgres_url)
    with place.persist():
        pass
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("UPDATE relay SET value = %s WHERE name = 'schema_version'", (version,))
    with process(data_dir, postgres_url) as persist:
        out, _ = persist.communicate(timeout=60)
    assert persist.returncode == 1
    assert f"schema version {version}" in out
