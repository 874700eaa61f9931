"""How does a relay fare with thousands of hosts? From nothing, through every calamity, to the count.

    nothing ─▶ all hosts added ─▶ connected ─▶ each account heard of ─▶ traffic, a tenth flapping
        ─▶ a ban, a limit ─▶ all dropped at once, and back ─▶ stopped, and a cold start under load
        ─▶ compared ─▶ a takedown

Times are by one steady clock. It judges nothing but that every event came out exactly once; the
bounds are the tests' own.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psycopg

from common.control import RESET, ControlPlane, Limits
from common.paths import Paths
from tests.bench.processes import cpu_s
from tests.bench.running import Simnet
from tests.fullcount.watch import (
    Prober,
    files_of,
    memory_of,
    percentile,
    until,
)
from tests.relay import Relay
from tests.simnet.consumer import Consumer
from tests.simnet.truth import Truth, compare, key_of, open_frame

FLAPPING: Final = 10
"""Each so many-th host flaps."""
LIMITED_S: Final = 4.0
"""How long a host may send nothing more, in seconds."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large the story is.

    large_hosts: have all accounts but one a host. rate: events a second, over all hosts; rush: of
    the first ones of each account.
    steady_s: of the traffic with flapping hosts. flap_s: so long a flapping host's connection stands.
    away_s: how long all hosts are gone. dials: of the whole relay, a second. only_connect: the story ends
    when all are connected. deadline_s: of each wait.
    """

    hosts: int = 2800
    accounts: int = 14_000
    large_hosts: int = 56
    processes: int = 4
    rate: float = 500.0
    rush: float = 1500.0
    steady_s: float = 60.0
    flap_s: float = 7.0
    away_s: float = 5.0
    tls: bool = False
    dials: int = 50
    only_connect: bool = False
    deadline_s: float = 300.0


@dataclass(slots=True)
class Figures:
    """What was seen. Times in seconds, memory in bytes.

    added_s: from the moment all hosts were in the table until all were connected. back_s: from the
    moment all were reachable again. cold_s: from the start of the relay. half_back_s: until half were.
    connection_bytes: what an ingest process holds for a host that has said nothing.
    late_*: from an event's time to its arrival, hosts that do not flap. first_per_s: events a second
    while each account was heard of for the first time.
    statuses: of the banned host on its page, while it was, and after it was read again.
    ban_s: until the connection was gone; limit_s: until the last event of a host came that may send no
    more; takedown_s: until consumers were told. Each from the moment before the operator said it.
    """

    hosts: int = 0
    added_s: float = 0.0
    back_s: float = 0.0
    cold_s: float = 0.0
    empty: dict[str, int] = field(default_factory=dict)
    idle: dict[str, int] = field(default_factory=dict)
    busy: dict[str, int] = field(default_factory=dict)
    connection_bytes: float = 0.0
    files: list[int] = field(default_factory=list)
    health_p99_s: float = 0.0
    health_max_s: float = 0.0
    health_wrong: int = 0
    late_p50_s: float = 0.0
    late_p99_s: float = 0.0
    late_max_s: float = 0.0
    ban_s: float = 0.0
    limit_s: float = 0.0
    takedown_s: float = 0.0
    first_per_s: float = 0.0
    cpu_us: dict[str, float] = field(default_factory=dict)
    events: int = 0
    events_per_s: float = 0.0
    statuses: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class _Arrivals:
    """The frames of the consumer, and when each came."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.at_s: list[float] = []

    @property
    def events(self) -> int:
        return len(self.frames)

    def keep(self, frame: bytes) -> None:
        self.frames.append(frame)
        self.at_s.append(time.time())


async def run(size: Size, say: Callable[[str], None] = lambda _: None) -> Figures:
    """The whole story. say: told how far it is."""
    simnet = await asyncio.to_thread(_simnet, size)
    try:
        with tempfile.TemporaryDirectory(prefix="standpipe-full-") as folder:
            Path(folder).chmod(0o755)
            return await _Story(size, simnet, Path(folder), say).tell()
    finally:
        await asyncio.to_thread(simnet.close)


def _simnet(size: Size) -> Simnet:
    return Simnet(
        "--hosts", str(size.hosts), "--accounts", str(size.accounts), "--large-hosts",
        str(size.large_hosts), "--records", "8", "--lean", "--commits-only", "--lifetime", "3000",
        *(("--tls", "all-good") if size.tls else ()),
    )  # fmt: skip


class _Story:
    def __init__(
        self, size: Size, simnet: Simnet, folder: Path, say: Callable[[str], None]
    ) -> None:
        self.size = size
        self.simnet = simnet
        self.folder = folder
        self.say = say
        self.figures = Figures(hosts=size.hosts)
        self.arrivals = _Arrivals()
        self.relay = self._relay()
        self._span = self._limited = (0.0, 0.0)

    def _relay(self) -> Relay:
        environ = {
            "STANDPIPE_INGEST_PROCESSES": str(self.size.processes),
            "STANDPIPE_DIALS_PER_SECOND": str(self.size.dials),
        }
        if self.simnet.ready["ca_file"] is not None:
            environ["SSL_CERT_FILE"] = self.simnet.ready["ca_file"]
        return Relay(
            plc_url=self.simnet.ready["plc_url"], hosts=[], folder=self.folder, environ=environ
        )

    async def tell(self) -> Figures:
        """The whole of it."""
        figures, size = self.figures, self.size
        consumer = Consumer(self.relay.stream_url, 0, keep=self.arrivals.keep, retry_s=0.2)
        async with self.relay as relay, consumer:
            await self._added(relay)
            if size.only_connect:
                return figures
            with Prober(relay) as prober:
                await self._heard_of(relay)
                await self._busy(relay)
                await self._told()
                await self._dropped(relay)
            self._health(prober)
        self.say("a cold start")
        self.relay = relay = self._relay_again()
        consumer = Consumer(relay.stream_url, consumer.cursor, keep=self.arrivals.keep)
        consumer.breaks = 1  # its cursor is inclusive
        began = time.monotonic()
        async with relay, consumer:
            with Prober(relay) as prober:
                await until("all hosts", self._connected, size.deadline_s)
                figures.cold_s = time.monotonic() - began
                self.say(f"all connected after {figures.cold_s:.1f} s")
                await asyncio.to_thread(self.simnet.do, "stop")
                await self._finish(relay)
            self._health(prober)
            figures.takedown_s = await asyncio.to_thread(self._take_down)
            self.say(f"a takedown took {figures.takedown_s:.2f} s")
        return figures

    def _relay_again(self) -> Relay:
        relay = self._relay()
        relay.port = self.relay.port
        relay.environ["STANDPIPE_BIND"] = f"127.0.0.1:{relay.port}"
        return relay

    # --- the parts ---

    async def _added(self, relay: Relay) -> None:
        self.say("nothing yet")
        figures, size = self.figures, self.size
        await asyncio.sleep(2.0)
        figures.empty = (await asyncio.to_thread(memory_of, relay)).by_stage
        began = time.monotonic()
        await asyncio.to_thread(self._add_hosts)
        with Prober(relay) as prober:
            await until("all hosts", self._connected, size.deadline_s)
            figures.added_s = time.monotonic() - began
        self._health(prober)
        self.say(f"all connected after {figures.added_s:.1f} s")
        figures.files.append(await asyncio.to_thread(files_of, relay))
        figures.idle = (await asyncio.to_thread(memory_of, relay)).by_stage
        grown = figures.idle["ingest"] - figures.empty["ingest"]
        figures.connection_bytes = grown / size.hosts
        self.say(f"{figures.connection_bytes / 1024:.1f} KiB a connection")

    async def _heard_of(self, relay: Relay) -> None:
        """Each account says its first word; its document is looked up for it."""
        size, figures = self.size, self.figures
        await asyncio.to_thread(self.simnet.do, "prebuild", each=True)
        began = time.monotonic()
        await asyncio.to_thread(self.simnet.do, "start", rate=size.rush, seconds=3000)
        await asyncio.to_thread(self.simnet.do, "wait")
        wanted = (await asyncio.to_thread(self._summary))["entries"]
        await until("all accounts", lambda: self.arrivals.events >= wanted, size.deadline_s)
        figures.first_per_s = wanted / (time.monotonic() - began)
        self.say(f"{wanted} accounts heard of, {figures.first_per_s:.0f} a second")

    async def _busy(self, relay: Relay) -> None:
        size, figures = self.size, self.figures
        assert relay.process is not None
        pid = relay.process.pid
        self.simnet.do("start", rate=size.rate, seconds=3000)
        self.simnet.do("flap", every=FLAPPING, reset_every_s=size.flap_s)
        await asyncio.sleep(min(5.0, size.flap_s))
        spent, count = cpu_s(pid), self.arrivals.events
        began_at_s = time.time()
        for _ in range(4):
            await asyncio.sleep(size.steady_s / 4)
            figures.files.append(await asyncio.to_thread(files_of, relay))
        after, said = cpu_s(pid), self.arrivals.events - count
        figures.cpu_us = {k: (after[k] - spent.get(k, 0.0)) / said * 1e6 for k in after}
        figures.events_per_s = said / (time.time() - began_at_s)
        figures.busy = (await asyncio.to_thread(memory_of, relay)).by_stage
        self._span = began_at_s, time.time()
        self.simnet.do("flap", every=FLAPPING, reset_every_s=None)
        # Who was lost again and again without a word is not dialled soon, unless somebody asks for it.
        await asyncio.to_thread(self._ask_for_flapping)
        await until("all hosts", self._connected, size.deadline_s)
        self.say(f"{said} events while hosts flapped, {sum(figures.cpu_us.values()):.0f} µs each")

    async def _told(self) -> None:
        """A ban, and a limit, take effect."""
        figures, size = self.figures, self.size
        figures.ban_s = await asyncio.to_thread(self._ban)
        self.say(f"a ban took {figures.ban_s:.2f} s")
        await until("all hosts", self._connected, size.deadline_s)
        await until("the page of the host to say so", self._page_is_true, size.deadline_s)
        figures.statuses.append(self._page()["status"])
        await self._limit()

    async def _dropped(self, relay: Relay) -> None:
        size, figures = self.size, self.figures
        await asyncio.to_thread(self.simnet.do, "all", what="close")
        await asyncio.sleep(size.away_s)
        await asyncio.to_thread(self.simnet.do, "all", what="open")
        figures.back_s = await until("all hosts", self._connected, size.deadline_s)
        self.say(f"all back after {figures.back_s:.1f} s")
        figures.files.append(await asyncio.to_thread(files_of, relay))

    async def _finish(self, relay: Relay) -> None:
        size, figures = self.size, self.figures
        await until("all hosts to be read", self._caught_up, size.deadline_s)
        with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
            await asyncio.to_thread(self.simnet.do, "truth", path=file.name)
            truth = await asyncio.to_thread(Truth.load, Path(file.name))
        figures.events = sum(1 for _ in truth.valid)
        with contextlib.suppress(TimeoutError):  # what is missing will be said
            await until("everything", lambda: self.arrivals.events >= figures.events, 60.0)
        figures.files.append(await asyncio.to_thread(files_of, relay))
        figures.report = (await asyncio.to_thread(compare, truth, self.arrivals.frames)).as_dict()
        await asyncio.to_thread(self._lateness, truth)

    # --- helpers ---

    def _database(self) -> str:
        return Paths(self.relay.data).embedded_database_url

    def _add_hosts(self) -> None:
        """As an operator's tool would; the large ones are trusted, as they are in life."""
        names = [host["name"] for host in self.simnet.ready["hosts"]]
        rows = [
            (name, self.size.tls, 0, 10_000_000 if at < self.size.large_hosts else 100,
             at < self.size.large_hosts)
            for at, name in enumerate(names)
        ]  # fmt: skip
        with psycopg.connect(self._database()) as connection:
            connection.cursor().executemany(
                "INSERT INTO host (hostname, tls, cursor, account_limit, trusted, added_by)"
                " VALUES (%s, %s, %s, %s, %s, 'operator')",
                rows,
            )
            connection.execute(
                "INSERT INTO relay AS known (name, value) VALUES ('control_version', 1)"
                " ON CONFLICT (name) DO UPDATE SET value = known.value + 1"
            )

    @contextlib.contextmanager
    def _plane(self) -> Iterator[ControlPlane]:
        with psycopg.connect(self._database(), autocommit=True) as connection:
            yield ControlPlane(connection, "command:bench")

    def _ask_for_flapping(self) -> None:
        with self._plane() as plane:
            for host in self.simnet.ready["hosts"][::-FLAPPING]:
                plane.dial_host(host["name"])

    def _ban(self) -> float:
        host = self.simnet.ready["hosts"][0]["name"]
        with self._plane() as plane:
            before = self._summary()["connected"]
            began = time.monotonic()
            plane.ban_host(host)
            while self._summary()["connected"] >= before:
                if time.monotonic() - began > self.size.deadline_s:
                    raise TimeoutError("the ban has no effect")
                time.sleep(0.01)
            took_s = time.monotonic() - began
            self.figures.statuses.append(self._page()["status"])
            plane.unban_host(host)
        return took_s

    async def _limit(self) -> None:
        """A large host may send nothing more, for a while. When did its last event come? See `_lateness`."""
        host = self.simnet.ready["hosts"][0]["name"]
        with self._plane() as plane:
            said_s = time.time()
            await asyncio.to_thread(plane.set_limits, host, Limits(per_hour=0))
            await asyncio.sleep(LIMITED_S)
            over_s = time.time()
            await asyncio.to_thread(plane.set_limits, host, Limits(per_hour=RESET))
        self._limited = said_s, over_s

    def _page(self) -> dict[str, Any]:
        """What the operator of the first host is told of it."""
        page: dict[str, Any] = self.relay.get(f"/hosts/{self.simnet.ready['hosts'][0]['name']}")[1]
        return page

    def _page_is_true(self) -> bool:
        size, page = self.size, self._page()
        accounts = 1 + len(range(size.hosts, size.accounts, size.large_hosts))
        return bool(
            page["status"] != "banned"
            and page["connection"]["connected"]
            and page["accounts"]["count"] == accounts
            and page["stream"].get("cursor", 0) >= accounts
        )

    def _take_down(self) -> float:
        """When does a consumer hear of it?"""
        did = next(
            open_frame(frame)[1]["repo"]
            for frame in self.arrivals.frames
            if b"#commit" in frame[:20]
        )
        seen = len(self.arrivals.frames)
        with self._plane() as plane:
            began = time.monotonic()
            plane.take_down(did)
            while True:
                for frame in self.arrivals.frames[seen:]:
                    kind, body = open_frame(frame)
                    if kind == "account" and body["did"] == did and body["status"] == "takendown":
                        return time.monotonic() - began
                if time.monotonic() - began > self.size.deadline_s:
                    raise TimeoutError("nobody is told of the takedown")
                time.sleep(0.01)

    def _summary(self) -> dict[str, Any]:
        return self.simnet.do("summary")

    def _connected(self) -> bool:
        return bool(self._summary()["connected"] == self.size.hosts)

    def _caught_up(self) -> bool:
        return bool(self._summary()["caught_up"])

    def _health(self, prober: Prober) -> None:
        took = [probe.took_s for probe in prober.probes]
        figures = self.figures
        figures.health_p99_s = max(figures.health_p99_s, percentile(took, 0.99))
        figures.health_max_s = max(figures.health_max_s, max(took, default=0.0))
        wrong = [probe for probe in prober.probes if probe.status != 200]
        figures.health_wrong += len(wrong)

    def _lateness(self, truth: Truth) -> None:
        """Of events in the steady part, of hosts that did not flap; and of the limited host."""
        flapping = set(range(self.size.hosts)[::-FLAPPING])
        (since_s, until_s), (said_s, over_s) = self._span, self._limited
        late: list[float] = []
        last_s = said_s
        for frame, at_s in zip(self.arrivals.frames, self.arrivals.at_s, strict=True):
            steady, limited = since_s <= at_s < until_s, said_s <= at_s < over_s
            if not steady and not limited:
                continue
            kind, body = open_frame(frame)
            place = None if kind == "info" else truth.place(key_of(kind, body))
            if place is None:
                continue
            host = truth.entries[place].host
            if limited and host == 0:
                last_s = max(last_s, at_s)
            if steady and host not in flapping:
                late.append(at_s - datetime.fromisoformat(body["time"]).timestamp())
        figures = self.figures
        figures.late_p50_s, figures.late_p99_s = percentile(late, 0.5), percentile(late, 0.99)
        figures.late_max_s = max(late, default=0.0)
        figures.limit_s = last_s - said_s
