"""What becomes of the events when one persist is killed at point after point? A real one, told where.

    feeder ── batches ──▶ python -m tests.chaos.persist ── chunks ──▶ listener
       ▲                    │            │
       └───── replies ──────┘            └── log ──▶ reader, beside it all the time

The database is real, and so are the events: whole lives of simulated accounts. Ingest and broadcast are
the test's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psycopg

from common.database import connect, ensure_schema
from common.envelope import NEVER_SEEN, HostCursor, Judged
from common.paths import Paths
from common.segment_files import LOCK_NAME
from common.segments import SegmentReader
from persist.config import Config
from tests.chaos.numbers import Numbers
from tests.chaos.order import Rules, check, read_trace
from tests.chaos.points import TRACE, Order, Point, read_orders, write_orders
from tests.fix_net import eventually, free_port
from tests.persist.running import Broadcaster, Ingest
from tests.persist.spoken import judged_over, life
from tests.relay import ROOT

WITHIN_S: Final = 120.0
"""How long the next thing may take, in seconds: a start and a catch-up on a busy machine."""
IN_FLIGHT: Final = 60
"""Events that are unanswered, at most."""
BATCH: Final = 5
HOST: Final = 1


def events() -> Iterator[tuple[Judged, bytes]]:
    """What three accounts at a time say in their lives, in turns; without an end.

    Position and upstream seq are the same number, and rise by one.
    """
    position = count(1)
    for generation in count():
        lives = [(life(f"a{generation}x{each}"), NEVER_SEEN) for each in range(3)]
        for step in range(max(len(said) for said, _ in lives)):
            for each, (said, state) in enumerate(lives):
                if step < len(said):
                    event, frame = judged_over(said[step], state, next(position), host=HOST)
                    lives[each] = (said, said[step].after(state, HOST, 0))
                    yield event, frame


class Feeder:
    """An ingest process: sends, remembers, resends to a new persist, says how far the host is done.

    It dies too: then its successor reads the host again from the cursor that the database has.
    """

    def __init__(self, config: Config) -> None:
        self.sent = 0
        self._config = config
        self._life = 1
        self._ingest = Ingest(config, epoch=self._life)
        self._events = events()
        self._said: list[tuple[Judged, bytes]] = []
        self._unanswered: dict[int, tuple[Judged, bytes]] = {}
        self._log_epoch = 0
        self._greet_s = 0.0
        self._done = 0

    def turn(self, *, more: bool) -> None:
        """Send what may be sent, take what was answered."""
        # Nothing before the first answer to a greeting, which tells whom it is meant for.
        while more and self._log_epoch and len(self._unanswered) <= IN_FLIGHT - BATCH:
            batch = [next(self._events) for _ in range(BATCH)]
            self._said += batch
            self.sent += len(batch)
            self._unanswered |= {event.position: (event, frame) for event, frame in batch}
            self._ingest.send(*batch)
        done = min(self._unanswered, default=self.sent + 1) - 1
        if time.monotonic() > self._greet_s or done >= self._done + 10:
            self._greet_s = time.monotonic() + 0.1
            self._done = done
            # Everything up to it was answered: this is what a cursor promises.
            self._ingest.send(cursors=(HostCursor(HOST, 1, done),) if done else ())
        while (reply := self._ingest.reply(0.005)) is not None:
            if reply.log_epoch != self._log_epoch:
                self._log_epoch = reply.log_epoch
                if self._unanswered:
                    self._ingest.send(*self._unanswered.values())
            assert not reply.back, reply
            assert not reply.refused
            for position in (*reply.logged, *reply.duplicate):
                self._unanswered.pop(position, None)

    def die(self, cursor: int) -> None:
        """End, and let a successor read the host from `cursor` on."""
        self._ingest.close()
        self._life += 1
        self._ingest = Ingest(self._config, epoch=self._life)
        self._log_epoch = 0
        self._done = cursor
        self._unanswered = {event.position: (event, frame) for event, frame in self._said[cursor:]}

    def close(self) -> None:
        """Let go of the socket."""
        self._ingest.close()

    @property
    def settled(self) -> bool:
        """Whether everything that was sent is answered."""
        return not self._unanswered


class Story:
    """One data folder with its persist and those who talk to it. A context manager."""

    def __init__(self, data_dir: Path, database_url: str, **environ: str) -> None:
        """environ: more for the process, such as CHAOS_SEGMENT_BYTES."""
        paths = self._paths = Paths(data_dir)
        paths.prepare()
        self.folder = data_dir / "chaos"
        self.folder.mkdir()
        self.numbers = Numbers()
        self.database_url = database_url
        self.log_dir = paths.log_dir
        self._config = Config(
            paths.log_dir, paths.batches_endpoint, paths.chunks_endpoint, database_url, 3600.0
        )
        self._environ = {
            "PATH": os.environ["PATH"],
            "STANDPIPE_DATA_DIR": str(data_dir),
            "STANDPIPE_BIND": f"127.0.0.1:{free_port()}",
            "STANDPIPE_METRICS_PORT": "0",
            "DATABASE_URL": database_url,
            "CHAOS_FOLDER": str(self.folder),
            **environ,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._output = data_dir / "chaos" / "output"
        self._read_seq = 1
        self.published: Counter[int] = Counter()

    def __enter__(self) -> Self:
        with closing(connect(self.database_url, "test")) as connection:
            ensure_schema(connection)
            connection.execute(
                # Three accounts come after three others, without an end.
                "INSERT INTO host (id, hostname, account_limit) VALUES (%s, 'h', 1000000)",
                (HOST,),
            )
        self._listener = Broadcaster(self._config)
        self._reader = SegmentReader(self.log_dir)
        self._feeder = Feeder(self._config)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._reader.close()
        self._listener.close()
        self._feeder.close()
        if error is not None:
            print(self._output.read_text()[-4000:])

    def die_at(self, *orders: Order) -> None:
        """Have persist die at one point after the other, each time under load; every second time
        ingest dies with it."""
        write_orders(self.folder, list(orders))
        for number, order in enumerate(orders):
            before = self.deaths
            self._until_dead(order.point)
            assert self.deaths == [*before, order.point]
            if number % 2:
                self._feeder.die(self._cursor())

    def stand_at(self, order: Order) -> int:
        """Have persist stand still at a point, under load; its process id."""
        write_orders(self.folder, [order._replace(sign=signal.SIGSTOP)])
        ends_s = time.monotonic() + WITHIN_S
        while read_orders(self.folder) or not self._stands():
            assert time.monotonic() < ends_s, f"persist never came to: {order.point}"
            self._turn(more=True)
            assert self._alive(), self._output.read_text()[-4000:]
        assert self._process is not None
        return self._process.pid

    def by_hand(self, **environ: str) -> subprocess.Popen[bytes]:
        """Start another persist on the same folder as somebody does who thinks that none is there:
        not under the same supervisor. What it does is not in the trace."""
        command = [sys.executable, "-m", "persist"]
        between = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
        return subprocess.Popen(
            [sys.executable, "-c", between, *command], cwd=ROOT, env={**self._environ, **environ},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def go_on(self) -> None:
        """Let the persist that stands still go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def outlive(self) -> int:
        """Start a successor of the persist that stands still, past all locks: somebody has removed
        them. Then let it go on; its exit code."""
        assert self._process is not None
        old, self._process = self._process, None
        for lock in (self._paths.lock_file, self.log_dir / LOCK_NAME):
            lock.unlink()
        self._environ["STANDPIPE_BIND"] = f"127.0.0.1:{free_port()}"
        before = self.log_epoch
        self._start()
        eventually(lambda: self.log_epoch > before, WITHIN_S, "the successor claims the log")
        old.send_signal(signal.SIGCONT)
        return old.wait(WITHIN_S)

    @property
    def output(self) -> str:
        """What every persist so far printed."""
        return self._output.read_text()

    def flow(self, events: int) -> None:
        """Wait until so many more events are logged."""
        until = self.numbers.last + events
        ends_s = time.monotonic() + WITHIN_S
        while self.numbers.last < until:
            assert time.monotonic() < ends_s, "nothing flows"
            self._turn(more=True)

    def finish(self) -> None:
        """Let persist live until everything was answered and told, and end it as SIGTERM does."""
        assert not read_orders(self.folder)
        ends_s = time.monotonic() + WITHIN_S
        while not self._feeder.settled or self.numbers.last < self._feeder.sent:
            assert time.monotonic() < ends_s, "persist does not come to an end"
            self._turn(more=False)
            assert self._alive(), self._output.read_text()[-4000:]
        if self._process is None:
            # The last one died when all was answered and told.
            before = self.log_epoch
            self._start()
            eventually(lambda: self.log_epoch > before, WITHIN_S, "the last one claims the log")
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(WITHIN_S) == 0

    @property
    def log_epoch(self) -> int:
        """Of the newest claim."""
        return self._reader.epoch

    @property
    def deaths(self) -> list[str]:
        """The points at which persist died so far, as it wrote them down itself."""
        return [line[1] for line in read_trace(self.folder / TRACE) if line[0] == "died"]

    def rules(self) -> Rules:
        """What the whole trace says of the order in which things were done."""
        rules = check(read_trace(self.folder / TRACE))
        steps = (
            "life",
            "write",
            "sync",
            "announce",
            "publish",
            "reply",
            "flush",
            "folder",
            "epoch",
        )
        assert [step for step in steps if not rules.counted[step]] == []
        return rules

    def assert_whole(self, *, retained: bool = True) -> None:
        """Every event once, in order, under a number of its own; nobody saw anything else.

        retained: nothing has left the log.
        """
        assert self.numbers.given_twice == []
        sent = self._feeder.sent
        logged: list[tuple[int, int]] = []
        last: dict[bytes, int] = {}
        commits: Counter[tuple[bytes, int]] = Counter()
        seq = self._reader.oldest_seq
        assert not retained or seq == 1
        first = seq
        while chunks := self._reader.read(seq, 1 << 20):
            for chunk in chunks:
                assert chunk.first_seq == seq, "the log left numbers out"
                self.numbers.see_chunk(chunk, "the log at the end")
                for at, row in enumerate(chunk.rows(), chunk.first_seq):
                    logged.append((at, row.upstream_seq))
                    assert row.upstream_seq > last.get(row.account, 0), "an account out of order"
                    last[row.account] = row.upstream_seq
                    if row.kind == 1:
                        commits[row.account, row.rev] += 1
                seq = chunk.next_seq
        assert self.numbers.given_twice == []
        assert [at for at, _ in logged] == list(range(first, sent + 1))
        assert not commits or max(commits.values()) == 1
        upstream = [number for _, number in logged]
        assert len(set(upstream)) == len(upstream)
        if retained:
            assert sorted(upstream) == list(range(1, sent + 1))
        # What the reader beside it saw, with what has left the log since.
        assert self.numbers.gaps() == []
        assert self.numbers.last == sent
        assert max(self.published.values()) == 1, "a number was published twice"
        assert self._cursor() <= sent
        with psycopg.connect(self.database_url) as connection:
            reached: dict[str, int] = dict(
                connection.execute("SELECT name, value FROM relay").fetchall()
            )
        assert reached["applied_seq"] == sent

    # --- one step ---

    def _cursor(self) -> int:
        """The host's cursor that the database has."""
        with psycopg.connect(self.database_url) as connection:
            found = connection.execute("SELECT cursor FROM host").fetchone()
        assert found is not None
        return int(found[0] or 0)

    def _until_dead(self, point: Point) -> None:
        ends_s = time.monotonic() + WITHIN_S
        while True:
            assert time.monotonic() < ends_s, f"persist never came to: {point}"
            self._turn(more=True)
            if not self._alive():
                break
        assert self._process is not None
        code = self._process.returncode
        self._process = None
        assert code == -signal.SIGKILL, (point, code, self._output.read_text()[-4000:])

    def _turn(self, *, more: bool) -> None:
        if self._process is None:
            self._start()
        self._feeder.turn(more=more)
        self._look()

    def _start(self) -> None:
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.persist"], cwd=ROOT,
                env=self._environ, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def _look(self) -> None:
        while (chunk := self._listener.chunk(0)) is not None:
            self.numbers.see_chunk(chunk, "a broadcaster")
            self.published.update(range(chunk.first_seq, chunk.next_seq))
            # Whoever hears of it finds it, at once.
            assert chunk.next_seq - 1 <= self._reader.durable_seq
        self._read_seq = max(self._read_seq, self._reader.oldest_seq)
        while chunks := self._reader.read(self._read_seq, 1 << 20):
            for each in chunks:
                self.numbers.see_chunk(each, "a reader of the log")
            self._read_seq = chunks[-1].next_seq

    def _stands(self) -> bool:
        assert self._process is not None
        stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None


def one_each(*points: Point) -> list[Order]:
    """Die at each of these points, in turn."""
    return [Order(point) for point in points]
