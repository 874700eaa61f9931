"""What becomes of a relay under load when a plan of faults is carried out on it? Everything, once.

    simulated network ═▶ relay (real supervisord, real PostgreSQL) ═▶ stayed     private port, spared
            ▲                        ▲                                cut        public port, cut often
            └─ truth                 └─ the plan's faults             replayed   from 0, at the end

Besides them somebody listens on the hop between persist and the broadcasters, and somebody reads the
log along: whatever one of all these saw under a number, the others have to see under it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import psycopg

from common.paths import Paths
from common.segments import SegmentReader
from persist.config import Config
from tests.chaos.numbers import Numbers
from tests.chaos.order import check, read_trace
from tests.chaos.plan import SUPERVISORD, Fault, Plan, Record, Way
from tests.chaos.points import TRACE, read_orders, write_orders
from tests.chaos.reader import Reader
from tests.conserved import Conserved
from tests.persist.running import Broadcaster
from tests.relay import ROOT, Relay, alive, children_of, wait_for
from tests.simnet import Network, NetworkConfig, compare
from tests.simnet.config import DEFAULT_MIX

T = TypeVar("T")

PROCESSES: Final = ("persist", "ingest-0", "ingest-1", "broadcast-0", "broadcast-1", "postgres")
RATE: Final = 60.0
"""Events a second over all hosts."""
LOAD_S: Final = 3600.0
"""The load ends when the plan does; this only bounds it."""
FLOW_S: Final = 120.0
"""How long anything may take that has to happen, in seconds: a machine may be slow and busy."""
SEGMENT_BYTES: Final = 400_000
"""So that segments are rolled all the time."""
GONE: Final = ("X", "Z")
"""The states of a process that has ended."""
MIX: Final = {**DEFAULT_MIX, "sync": 0.03, "deactivate": 0.02, "new_key": 0.01, "migrate": 0.02}


@dataclass(slots=True)
class Outcome:
    """What was seen of one storm. problems: all that is wrong, in words; none when it is whole.

    kinds: how many valid events of each kind were said, and invalid ones. replayed: frames.
    """

    record: Record
    problems: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    cuts: int = 0
    replayed: int = 0
    seconds: float = 0.0

    def told(self) -> str:
        """The run in lines, for whoever wants to know what it did."""
        return "\n".join(
            (
                f"seed {self.record.plan.seed}, {self.seconds:.0f} s, {self.cuts} reconnects",
                f"{sum(self.deaths.values())} deaths: {dict(self.deaths)}",
                f"{self.replayed} events: {dict(self.kinds)}",
                *self.record.lines(),
                *self.problems,
            )
        )


async def until(what: str, condition: Callable[[], T | None], within_s: float = FLOW_S) -> T:
    """Ask `condition` until it gives something true; that.

    Raises:
        AssertionError: not within so many seconds.
    """
    ends_s = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < ends_s, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(0.05)
    return found


class Storm:
    """One plan, carried out on one relay."""

    def __init__(self, plan: Plan, network: Network, event_loop: str) -> None:
        self.record = Record(plan)
        self.numbers = Numbers()
        self._plan = plan
        self._network = network
        self._rng = random.Random(plan.seed)
        self._problems: list[str] = []
        self._began_s = time.monotonic()
        self._proofs: set[asyncio.Task[None]] = set()
        self._stops: set[asyncio.Task[None]] = set()
        self._spared: str | None = None
        self._relay = Relay(
            plc_url=network.plc_url,
            hosts=[host.url for host in network.hosts],
            environ={
                "STANDPIPE_EVENT_LOOP": event_loop,
                "STANDPIPE_INGEST_PROCESSES": "2",
                "STANDPIPE_BROADCAST_PROCESSES": "2",
                "CHAOS_SEGMENT_BYTES": str(SEGMENT_BYTES),
            },
            command=("tests.chaos.run",),
        )
        self._folder = self._relay.folder / "chaos"
        self._folder.mkdir()
        self._relay.environ["CHAOS_FOLDER"] = str(self._folder)

    async def run(self) -> Outcome:
        """Carry it out; whatever is wrong is in the outcome."""
        relay, network = self._relay, self._network
        outcome = Outcome(self.record, self._problems)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(relay)
            stack.callback(self._keep)
            self._spared = self._plan.eras[0].spared
            stayed = await stack.enter_async_context(Reader("stayed", self._url_of_spared))
            cut = await stack.enter_async_context(Reader("cut", self._url_of_all))
            watching = asyncio.create_task(self._watch())
            stack.push_async_callback(_end, watching)
            balance = Conserved(relay)
            balance.__enter__()
            # What it found is among the problems at the end, and not raised in their place.
            stack.push_async_callback(asyncio.to_thread, balance.__exit__, None, KeyError(), None)

            async def settled() -> None:
                await stayed.wait_for("what was said", stayed.delivered.everything(network), FLOW_S)

            network.settled = settled
            load = asyncio.create_task(network.run(RATE, LOAD_S))
            stack.push_async_callback(_end, load)
            try:
                flows = lambda: len(cut.frames) > RATE and network.caught_up()  # noqa: E731
                await cut.wait_for("the load", flows, FLOW_S)
            except AssertionError as error:
                raise AssertionError(f"{error}\n{relay.tail(5)}") from None
            await self._carry_out(stayed, cut)
            await self._verify_log("under load")
            network.stop()
            for reader in (stayed, cut):
                try:
                    await asyncio.wait_for(load, FLOW_S)
                    everything = reader.delivered.everything(network)
                    await reader.wait_for("all that was said", everything, FLOW_S)
                except (AssertionError, TimeoutError) as error:
                    self._problems.append(f"{error}\n{relay.tail(15)}")
            await self._compare(stayed, cut, outcome)
            await self._verify_log("at the end")
            if watching.done():
                self._problems.append(f"nobody looked on to the end: {watching.exception()!r}")
            self._problems += balance.errors
            self._problems += [
                f"{line['process']}: {line.get('error')}"
                for line in relay.log_lines()
                if line["msg"] == "uncaught exception"
            ][:3]
            for name in PROCESSES:
                if name != "postgres" and len(balance.lives.get(name, ())) < 2:
                    self._problems.append(f"the balance of {name} was not seen in two lives")
        outcome.seconds = self._now_s()
        return outcome

    def _keep(self) -> None:
        """Copy what tells of the run to the folder that CHAOS_KEEP names, if it names one."""
        if folder := os.environ.get("CHAOS_KEEP"):
            shutil.copytree(self._folder, folder, dirs_exist_ok=True)
            shutil.copy(self._relay.output, folder)
            self._network.truth.dump(Path(folder) / "truth.jsonl")

    # --- the plan ---

    async def _carry_out(self, stayed: Reader, cut: Reader) -> None:
        self._began_s = time.monotonic()
        for number, era in enumerate(self._plan.eras):
            self._spared = era.spared
            await until("the one that stays", lambda n=number: len(stayed.connections) > n)  # type: ignore[misc]
            for fault in era.faults:
                await asyncio.sleep(fault.after_s)
                if fault == era.faults[-1]:
                    self._check_stayed(stayed, number)
                await self._inject(fault)
                if self._rng.random() < 0.5:
                    cut.cut()
        await self._wait_for_proofs()
        self._check_stayed(stayed, len(self._plan.eras) - 1)

    def _check_stayed(self, stayed: Reader, era: int) -> None:
        if len(stayed.connections) != era + 1:
            self._problems.append(
                f"era {era}: the consumer of {self._spared}, which nothing happened to, was cut"
            )

    def _now_s(self) -> float:
        return time.monotonic() - self._began_s

    def _proved(self, fault: Fault, pid: int, shown: str) -> None:
        self.record.prove(fault, self._now_s(), pid, shown)
        print(f"{self._now_s():6.1f} s: {fault}: {shown}", flush=True)

    async def _inject(self, fault: Fault) -> None:
        self.record.begin(fault, self._now_s())
        if fault.way is Way.KILL and fault.victim == SUPERVISORD:
            await self._kill_supervisord(fault)
        elif fault.way is Way.KILL:
            await self._kill(fault)
        elif fault.way is Way.STOP:
            await self._stop(fault)
        elif fault.way is Way.OUTLIVE:
            await self._outlive(fault)
        else:
            await self._die_at_points(fault)

    async def _kill(self, fault: Fault) -> None:
        while True:
            pid = await self._pid(fault.victim)
            epoch = self._log_epoch()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                break
            # It was dying already.
        # Nobody else has a turn meanwhile: to the end of a STOP, who is dying neither stands nor is gone.
        wait_for(f"the end of {fault.victim}", lambda: not alive(pid), FLOW_S)

        async def successor() -> None:
            found = await until(f"a successor for {fault}", lambda: self._other(fault.victim, pid))
            shown = f"ended; {found} took its place"
            if fault.victim == "persist":
                await until("a new claim", lambda: self._log_epoch() > epoch)
                shown += f", epoch {epoch} → {self._log_epoch()}"
            self._proved(fault, pid, shown)

        self._prove(successor())

    async def _stop(self, fault: Fault) -> None:
        """Have a process stand still; the plan goes on meanwhile, and may kill it."""
        pids = await self._freeze(fault.victim)
        pid = pids[0]

        async def go_on() -> None:
            began_s = time.monotonic()
            await asyncio.sleep(fault.for_s)
            state = _state(pid)
            _signal(pids, signal.SIGCONT)
            stood_s = time.monotonic() - began_s
            await until(f"{fault.victim} to go on", lambda: _state(pid) != "T")
            # Who is neither was woken by somebody else, and nothing shows how long it stood.
            if end := {"T": "went on", **dict.fromkeys(GONE, "was killed meanwhile")}.get(state):
                self._proved(fault, pid, f"stood still, for {stood_s:.1f} s at most, and {end}")

        self._stops.add(asyncio.create_task(go_on(), name=fault.victim))

    async def _outlive(self, fault: Fault) -> None:
        """Have an ingest process stand still until others read its hosts, and wake it up then."""
        member = int(fault.victim.partition("-")[2])
        await until(f"leases of {fault.victim}", lambda: self._leases(member))
        (pid,) = await self._freeze(fault.victim)
        had = self._leases(member)
        await until(
            f"others to take what {fault.victim} had", lambda: not self._leases(member) & had
        )
        stood = _state(pid) == "T"
        _signal([pid], signal.SIGCONT)
        if had and stood:
            self._proved(fault, pid, f"stood still until all its {len(had)} leases were others'")

    async def _freeze(self, name: str) -> list[int]:
        """Stop a process, PostgreSQL with all its own; their ids, its own first.

        The end of an earlier stop would wake it, so that one comes first.
        """
        if earlier := [task for task in self._stops if task.get_name() == name]:
            await asyncio.wait(earlier)
        while True:
            pid = await self._pid(name)
            pids = [pid, *children_of(pid)] if name == "postgres" else [pid]
            _signal(pids, signal.SIGSTOP)
            if await until(f"{name} to stand", partial(_settled_state, pid)) == "T":
                return pids
            # It was dying already.

    def _leases(self, member: int) -> set[tuple[int, int]]:
        """(shard, epoch) of the leases that an ingest process has by the table; none while that is
        away."""
        url = Paths(self._relay.data).embedded_database_url
        try:
            with closing(psycopg.connect(url, connect_timeout=2)) as connection:
                query = "SELECT number, epoch FROM shard WHERE owner = %s"
                return set(connection.execute(query, (member,)).fetchall())
        except psycopg.Error:
            return set()

    async def _die_at_points(self, fault: Fault) -> None:
        await until("earlier orders to be obeyed", lambda: not read_orders(self._folder))
        before = len(self._deaths_at_points())
        pid = await self._pid("persist")
        write_orders(self._folder, list(fault.orders))
        await until(f"{fault}", lambda: len(self._deaths_at_points()) >= before + len(fault.orders))
        died = self._deaths_at_points()[before:]
        if died == [str(order.point) for order in fault.orders]:
            self._proved(fault, pid, "it wrote down itself that it died there")

    async def _kill_supervisord(self, fault: Fault) -> None:
        relay = self._relay
        await asyncio.gather(*self._stops)
        self._stops.clear()
        assert relay.process is not None
        old = relay.process
        children = children_of(old.pid)
        self._spared = None
        old.kill()
        old.wait()
        # Nobody helps them: they end because their supervisor did.
        try:
            await until("the children to end", lambda: not any(map(alive, children)))
        except AssertionError as error:
            left = [each for each in children if alive(each)]
            raise AssertionError(f"{error}: {list(map(_described, left))}") from None
        relay.spawn()
        await asyncio.to_thread(relay.wait_healthy, FLOW_S)
        assert relay.process.pid != old.pid
        self._proved(
            fault, old.pid, f"ended, its {len(children)} processes after it; a new one started"
        )

    def _prove(self, proof: Coroutine[object, object, None]) -> None:
        self._proofs.add(asyncio.create_task(proof))

    async def _wait_for_proofs(self) -> None:
        for task in (*self._stops, *self._proofs):
            try:
                await task
            except AssertionError as error:
                self._problems.append(str(error))

    async def _pid(self, name: str) -> int:
        if name == SUPERVISORD:
            assert self._relay.process is not None
            return self._relay.process.pid
        found = await until(f"{name} to run", lambda: self._relay.run_file(name))
        return int(found["pid"])

    def _other(self, name: str, pid: int) -> int | None:
        """The process of this name, once it is another one."""
        found = self._relay.run_file(name)
        return int(found["pid"]) if found and found["pid"] != pid else None

    def _deaths_at_points(self) -> list[str]:
        return [line[1] for line in read_trace(self._folder / TRACE) if line[0] == "died"]

    def _log_epoch(self) -> int:
        with closing(SegmentReader(self._relay.data / "log")) as reader:
            return reader.epoch

    # --- who looks on ---

    async def _verify_log(self, when: str) -> None:
        """What `standpipe log verify` says of the log, and of the database as its view."""
        asked = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "common.command", "log", "verify",
            cwd=ROOT, env=self._relay.environ,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        told, _ = await asked.communicate()
        if asked.returncode:
            self._problems.append(f"log verify, {when}: {told.decode()}")

    async def _url_of_spared(self) -> str | None:
        return None if self._spared is None else self._private_url(self._spared)

    async def _url_of_all(self) -> str | None:
        return self._relay.stream_url

    def _private_url(self, name: str) -> str | None:
        told = self._relay.run_file(name)
        if told is None or "private_port" not in told:
            return None
        public, private = f":{self._relay.port}/", f":{told['private_port']}/"
        return self._relay.stream_url.replace(public, private)

    async def _watch(self) -> None:
        """Listen between persist and the broadcasters, and read the log, until cancelled."""
        paths = Paths(self._relay.data)
        config = Config(paths.log_dir, paths.batches_endpoint, paths.chunks_endpoint, "", 1.0)
        read_seq = 1
        with closing(Broadcaster(config)) as hop, closing(SegmentReader(paths.log_dir)) as reader:
            while True:
                while (chunk := hop.chunk(0)) is not None:
                    self.numbers.see_chunk(chunk, "the hop to the broadcasters")
                    if chunk.next_seq - 1 > reader.durable_seq:
                        self._problems.append(
                            f"published beyond what is durable: {chunk.first_seq}"
                        )
                while chunks := reader.read(read_seq, 1 << 20):
                    for each in chunks:
                        self.numbers.see_chunk(each, "a reader of the log")
                    read_seq = chunks[-1].next_seq
                await asyncio.sleep(0.02)

    # --- the end ---

    async def _compare(self, stayed: Reader, cut: Reader, outcome: Outcome) -> None:
        problems = self._problems
        problems += self.record.missing()
        readers = [stayed, cut]
        for name in ("broadcast-0", "broadcast-1"):
            readers.append(await self._replay(name, len(stayed.frames)))
        for reader in readers:
            problems += reader.broken()
            if reader.frames != stayed.frames:
                problems.append(f"{reader.name}: other frames than the consumer that stayed")
            for connection in reader.connections:
                for seq, message in connection.frames:
                    self.numbers.see(seq, message, reader.name)
        report = compare(self._network.truth, stayed.frames)
        if not report.ok:
            problems.append(str(report.as_dict()))
        problems += self.numbers.given_twice
        trace = read_trace(self._folder / TRACE)
        rules = check(trace, alone=False)
        problems += rules.broken
        if len(cut.connections) < 2:
            problems.append("the consumer that was to be cut never was")
        outcome.cuts = len(cut.connections) - 1
        outcome.replayed = report.received
        for entry in self._network.truth.entries:
            outcome.kinds[entry.kind if entry.drop is None else "invalid"] += 1
            if entry.name == "late_old_host":
                outcome.kinds["after a migration"] += 1
        for kind in ("commit", "sync", "identity", "account", "invalid", "after a migration"):
            if not outcome.kinds[kind]:
                problems.append(f"the load had no event of this kind: {kind}")
        for fault in self._plan.faults:
            if fault.number in self.record.proofs and fault.deaths:
                outcome.deaths[fault.victim] += fault.deaths

    async def _replay(self, name: str, count: int) -> Reader:
        """Everything that one broadcaster has, from the beginning on, at its own address."""

        async def url() -> str | None:
            return self._private_url(name)

        async with Reader(f"replayed by {name}", url) as reader:
            try:
                await reader.wait_for("a replay", lambda: len(reader.frames) >= count, FLOW_S)
            except AssertionError as error:
                self._problems.append(str(error))
        return reader


async def _end(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _signal(pids: list[int], sign: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)


def _state(pid: int) -> str:
    """The state of a process as /proc has it: T stands still; one of GONE, also when it is away."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def _described(pid: int) -> str:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        status = Path(f"/proc/{pid}/status").read_text().split("\n")
        told = [line for line in status if line.startswith(("State", "PPid", "Sig"))]
        return f"{pid}: {b' '.join(words).decode()} {told}"
    return f"{pid}: gone"


def _settled_state(pid: int) -> str | None:
    """T or dead; None while it is neither."""
    state = _state(pid)
    return state if state in ("T", *GONE) else None


async def storm(plan: Plan, event_loop: str = "uvloop") -> Outcome:
    """Carry a plan out on a relay of its own, under the load of a network of its own."""
    config = NetworkConfig(
        seed=plan.seed % 2**31, hosts=8, accounts=32, records=100, invalid_share=0.03, mix=MIX
    )
    async with Network(config) as network:
        return await Storm(plan, network, event_loop).run()
