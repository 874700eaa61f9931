"""How does a small network live? Hosts, a directory, accounts, and a rate of events among them.

    async with Network(NetworkConfig(hosts=5, accounts=20)) as network:
        await network.run(rate=50, seconds=20)
        report = compare(network.truth, frames)

Changes of identity (new key, new host) give the account a rest of `settle_s` first: what was
signed with the old key or said by the old host must have been judged before the directory changes,
else no relay could tell it from a forgery. What an old host says afterwards waits as long.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from common.verdict import DropReason
from tests.simnet.account import Account, plc_did
from tests.simnet.clock import Clock
from tests.simnet.events import Event, Kind
from tests.simnet.host import Host
from tests.simnet.invalid import BAD_MESSAGES, IN_TRAFFIC, INVALID, Source
from tests.simnet.keys import Curve
from tests.simnet.plc import Directory
from tests.simnet.tls import Authority, Certificate
from tests.simnet.truth import Truth

TICK_S: Final = 0.005
"""How often `run` looks what is due, in seconds."""

DEFAULT_MIX: Final[Mapping[str, float]] = {
    "commit": 0.90,
    "batch": 0.02,
    "empty": 0.005,
    "handle": 0.02,
    "sync": 0.015,
    "deactivate": 0.01,
    "takedown": 0.005,
    "new_account": 0.01,
    "new_key": 0.005,
    "migrate": 0.005,
    "delete": 0.005,
}
"""How likely each happening is; relative weights."""

SLOW: Final = frozenset(("deactivate", "takedown", "new_key", "migrate"))
"""What keeps an account busy for a while."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """What the network is like.

    seed: fixes keys, DIDs, choices. start_us: Unix microseconds of a clock that steps evenly,
        which makes the bytes of two runs equal; None follows the machine's clock.
    hosts, accounts: how many in all. records: how many each account holds at the beginning.
    genesis_share: part of the accounts that begin with nothing, and say so.
    p256_share: part with a P-256 key. legacy_share: part with a DID document of the old form.
    web_accounts: the first account of each host is a did:web that the host itself serves.
    tls: certificate of each host in turn; None or past the end: no TLS.
    invalid_share: part of the events of `run` that are invalid; invalid: which of them.
    extra_field_share: part of the commits that carry a field no lexicon knows.
    mix: weights of what happens in `run`.
    settle_s: rest before a change of identity, in seconds. pause_s: how long an account stays
        inactive, in seconds.
    max_events, max_rate, max_seconds: bounds of the load.
    backlog_bytes: what each host keeps for cursors.
    """

    seed: int = 1
    start_us: int | None = None
    hosts: int = 2
    accounts: int = 10
    records: int = 2000
    genesis_share: float = 0.1
    p256_share: float = 0.5
    legacy_share: float = 0.1
    web_accounts: bool = False
    tls: tuple[Certificate | None, ...] = ()
    invalid_share: float = 0.0
    invalid: tuple[str, ...] = IN_TRAFFIC
    extra_field_share: float = 0.02
    mix: Mapping[str, float] = field(default_factory=lambda: DEFAULT_MIX)
    settle_s: float = 1.0
    pause_s: float = 0.5
    max_events: int = 2_000_000
    max_rate: float = 20_000.0
    max_seconds: float = 3600.0
    backlog_bytes: int = 64_000_000


class NoneFreeError(RuntimeError):
    """Every account is inactive, resting or deleted at this moment."""


class RunResult(NamedTuple):
    """What `run` did: events said (valid and not) and seconds taken."""

    events: int
    seconds: float


class Network:
    """The whole network in one event loop; an async context manager.

    plc: the directory. hosts, accounts: all of them. truth: every event said.
    ca_file: what a client must trust for wss; None without TLS.
    settled: awaited before a change of identity; by default a sleep of `settle_s`. A test that
        can see what the relay has judged puts its own here.
    """

    def __init__(self, config: NetworkConfig | None = None) -> None:
        self.config = config or NetworkConfig()
        self.rng = random.Random(self.config.seed)
        self.clock = Clock(self.config.start_us)
        self.plc = Directory()
        self.hosts: list[Host] = []
        self.accounts: list[Account] = []
        self.truth = Truth()
        self.ca_file: Path | None = None
        self.settled: Callable[[], Awaitable[None]] = self._sleep_settled
        self.prebuilt: deque[tuple[int, Event]] = deque()
        self._prebuilt_of: Counter[str] = Counter()
        self._by_did: dict[str, Account] = {}
        self._follow_ups: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._rate = 0.0

    # Start and end

    async def __aenter__(self) -> Self:
        await self.plc.start()
        self._make_hosts()
        for host in self.hosts:
            await host.start()
        for number in range(self.config.accounts):
            self._add_account(number, filled=True)
            await asyncio.sleep(0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        for task in self._follow_ups:
            task.cancel()
        await asyncio.gather(*self._follow_ups, return_exceptions=True)
        for host in self.hosts:
            await host.close()
        await self.plc.close()
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def plc_url(self) -> str:
        """The directory's address, without a trailing slash."""
        return self.plc.url

    def _make_hosts(self) -> None:
        authority: Authority | None = None
        if any(self.config.tls):
            self._folder = tempfile.TemporaryDirectory(prefix="simnet-")
            authority = Authority(Path(self._folder.name))
            self.ca_file = authority.ca_file
        for index in range(self.config.hosts):
            kind = self.config.tls[index] if index < len(self.config.tls) else None
            context = None
            if kind is not None and authority is not None:
                context = authority.server_context(kind)
            self.hosts.append(
                Host(
                    index,
                    lambda did, index=index: self._status(index, did),  # type: ignore[misc]
                    tls=context,
                    backlog_bytes=self.config.backlog_bytes,
                )
            )

    def _add_account(self, number: int, *, filled: bool) -> Account:
        """Account `number`, on its host, known to the directory."""
        config = self.config
        host = self.hosts[number % len(self.hosts)]
        seed = f"{config.seed}/account/{number}"
        did = plc_did(seed)
        if config.web_accounts and number < len(self.hosts):
            did = f"did:web:localhost%3A{host.port}"
        luck = random.Random(seed)
        curve = Curve.P256 if luck.random() < config.p256_share else Curve.K256
        account = Account(did, f"user{number}.test", curve, self.clock, seed, host.index)
        account.legacy_document = luck.random() < config.legacy_share
        if filled and luck.random() >= config.genesis_share:
            account.fill(config.records, luck)
        self.accounts.append(account)
        self._by_did[did] = account
        self.publish(account)
        return account

    def publish(self, account: Account) -> None:
        """Make the account's DID document what the account is now."""
        document = account.document(self.hosts[account.host].url)
        if account.did.startswith("did:web:"):
            port = account.did.rpartition("%3A")[2]
            next(h for h in self.hosts if str(h.port) == port).did_document = document
        else:
            self.plc.documents[account.did] = document

    def _status(self, index: int, did: str) -> dict[str, Any] | None:
        account = self._by_did.get(did)
        if account is None or account.host != index:
            return None
        answer: dict[str, Any] = {"did": did, "active": account.active}
        if account.status is not None:
            answer["status"] = account.status
        if account.active and account.repo.rev is not None:
            answer["rev"] = account.repo.rev
        return answer

    # Saying things now

    def say(self, host: int, event: Event, drop: DropReason | None = None, name: str = "") -> None:
        """Let a host say an event, and write it down."""
        seq = self.hosts[host].emit(event)
        self.truth.note(event, host, seq, drop, name)

    def _say_all(self, account: Account, events: list[Event]) -> None:
        for event in events:
            self.say(account.host, event)

    def any_account(self, *, spoken: bool = False, settled: bool = False) -> Account:
        """An account that may speak now: active, not resting; on demand one that has spoken,
        or that no former host will speak for."""
        for _ in range(1000):
            account = self.rng.choice(self.accounts)
            if not account.active or account.resting:
                continue
            if (account.spoken or not spoken) and not (settled and account.moving):
                return self._awake(account)
        raise NoneFreeError("no account may speak now")

    def _awake(self, account: Account) -> Account:
        """An account without a past introduces itself first."""
        if account.repo.rev is None:
            self._say_all(account, account.born())
        return account

    def commit(self, account: Account | None = None, writes: int = 1) -> None:
        """One `#commit` of so many ops; 0 for an empty one."""
        account = account or self.any_account()
        self._free(account)
        self.say(account.host, self._commit_event(account, writes))

    def _commit_event(self, account: Account, writes: int) -> Event:
        extra = {}
        if self.rng.random() < self.config.extra_field_share:
            extra["simnetNote"] = {"deep": [1, "kept", None]}
        return account.commit(account.choose_writes(self.rng, writes), **extra)

    def say_sync(self, account: Account | None = None) -> None:
        """A `#sync` with a new rev."""
        account = account or self.any_account()
        self._free(account)
        self.say(account.host, account.sync(new_rev=True))

    def change_handle(self, account: Account | None = None) -> None:
        """`#identity` with a new handle, after the document has it."""
        account = account or self.any_account()
        account.handle = f"user{self.clock.tick()}.test"
        self.publish(account)
        self.say(account.host, account.identity(handle=self.rng.random() < 0.5))

    def new_account(self) -> Account:
        """An account that is created now: `#identity`, `#account`, `#commit`, `#sync`."""
        account = self._add_account(len(self.accounts), filled=False)
        return self._awake(account)

    def delete(self, account: Account | None = None) -> None:
        """`#account` deleted; the account is silent from then on."""
        account = account or self.any_account()
        self._free(account)
        self.say(account.host, account.set_status("deleted"))

    def say_invalid(self, name: str, account: Account | None = None) -> DropReason:
        """An event of `INVALID`; the reason a relay must give."""
        wrong = INVALID[name]
        account = account or self.any_account(spoken=wrong.after_commit, settled=wrong.elsewhere)
        event = wrong.make(Source(account, self.rng, self.clock))
        host = account.host
        if wrong.elsewhere:
            host = (host + 1) % len(self.hosts)
        self.say(host, event, wrong.reason, name)
        return wrong.reason

    def say_bad_message(self, name: str, host: int) -> DropReason:
        """A message of `BAD_MESSAGES`, kept in the host's backlog; the reason for its drop."""
        wrong = BAD_MESSAGES[name]
        account = next(a for a in self.accounts if a.host == host)
        event = account.identity()
        seq = self.hosts[host].head_seq + 1
        self.hosts[host].append(wrong.make(event, seq))
        self.truth.note(event, host, seq, wrong.reason, name)
        return wrong.reason

    def say_regressed(self, host: int, back: int = 1) -> DropReason:
        """An honest event under a number that lies `back` before the host's newest, said once."""
        account = next(a for a in self.accounts if a.host == host)
        event = account.identity()
        seq = self.hosts[host].head_seq - back
        self.hosts[host].say_once(event.frame(seq))
        self.truth.note(event, host, seq, DropReason.SEQ_NOT_RISING, "regressed")
        return DropReason.SEQ_NOT_RISING

    # Changes that take time

    async def deactivate(self, account: Account, status: str = "deactivated") -> None:
        """`#account` inactive, a pause, active again (with what a real host says then)."""
        self._free(account)
        self.say(account.host, account.set_status(status))
        await asyncio.sleep(self.config.pause_s)
        if status == "deactivated" and account.repo.commit is not None:
            self._say_all(account, account.activated())
        else:
            self.say(account.host, account.set_status(None))

    async def new_key(self, account: Account, curve: Curve | None = None) -> None:
        """Another signing key: `#identity`, then a `#sync` or an empty `#commit`."""
        self._free(account)
        account.resting = True
        await self.settled()
        account.new_key(curve)
        self.publish(account)
        self.say(account.host, account.identity(handle=False))
        if self.rng.random() < 0.5:
            self.say(account.host, account.sync(new_rev=True))
        else:
            self.say(account.host, account.commit([]))
        account.resting = False

    async def migrate(self, account: Account, to: int) -> None:
        """Move to another host with a new key; the old host speaks once more, in vain."""
        if to == account.host:
            raise ValueError("a migration needs another host")
        self._free(account)
        account.resting = account.moving = True
        await self.settled()
        old, account.host = account.host, to
        account.new_key()
        self.publish(account)
        self._say_all(account, [account.identity(), account.account()])
        self.commit(account)
        account.resting = False
        await self.settled()
        late = account.account_as("deactivated")
        self.say(old, late, DropReason.HOST_NOT_AUTHORITATIVE, "late_old_host")
        account.moving = False

    async def _sleep_settled(self) -> None:
        await asyncio.sleep(self.config.settle_s)

    def _free(self, account: Account) -> None:
        """Refuse to touch an account whose next commits are signed already."""
        if self._prebuilt_of[account.did]:
            raise RuntimeError(f"{account.did} has prebuilt commits that are not sent yet")

    # Load

    async def prebuild(self, count: int) -> None:
        """Sign `count` commits now, to be said by the next `run`."""
        for number in range(count):
            account = self.rng.choice(self.accounts)
            if account.repo.rev is None:
                for event in account.born():
                    self._keep(account, event)
            self._keep(account, self._commit_event(account, 1))
            if number % 100 == 0:
                await asyncio.sleep(0)

    def _keep(self, account: Account, event: Event) -> None:
        self.prebuilt.append((account.host, event))
        self._prebuilt_of[account.did] += 1

    def stop(self) -> None:
        """End `run` as soon as possible."""
        self._stop.set()

    def set_rate(self, rate: float) -> None:
        """Change the rate of the present `run`, in events per second over all hosts.

        Raises:
            ValueError: past the bound of the load.
        """
        if not 0 <= rate <= self.config.max_rate:
            raise ValueError(f"rate must be between 0 and {self.config.max_rate}")
        self._rate = rate

    async def run(self, rate: float, seconds: float) -> RunResult:
        """Let things happen at `rate` events a second for so long, then let all of it finish.

        What was prebuilt goes first; without a mix that asks for more, it ends with it.

        Raises:
            ValueError: past the bounds of the load.
        """
        self.set_rate(rate)
        if not 0 <= seconds <= self.config.max_seconds:
            raise ValueError(f"seconds must be between 0 and {self.config.max_seconds}")
        self._stop.clear()
        loop = asyncio.get_running_loop()
        begun = now = loop.time()
        before = len(self.truth.entries)
        due = 0.0
        only_prebuilt = bool(self.prebuilt)
        while now < begun + seconds and not self._stop.is_set():
            await asyncio.sleep(TICK_S)
            later = loop.time()
            due, now = min(due + self._rate * (later - now), self._rate + 1), later
            while due >= 1 and before + self.config.max_events > len(self.truth.entries):
                count = len(self.truth.entries)
                if not self.prebuilt and only_prebuilt:
                    self._stop.set()
                    break
                try:
                    self._step()
                except NoneFreeError:
                    break  # at the next tick somebody may be
                due -= len(self.truth.entries) - count
        elapsed = loop.time() - begun
        while self._follow_ups:
            await asyncio.gather(*self._follow_ups)
        return RunResult(len(self.truth.entries) - before, elapsed)

    def _step(self) -> None:
        """The next happening: prebuilt, invalid, or by the mix."""
        if self.prebuilt:
            host, event = self.prebuilt.popleft()
            self._prebuilt_of[event.did] -= 1
            self.say(host, event)
            return
        if self.rng.random() < self.config.invalid_share and len(self.truth.entries):
            name = self.rng.choice(self.config.invalid)
            if not INVALID[name].after_commit or any(a.spoken for a in self.accounts):
                self.say_invalid(name)
                return
        weights = self.config.mix
        self._happen(self.rng.choices(list(weights), list(weights.values()))[0])

    def _happen(self, what: str) -> None:
        account = self.any_account()
        if what in SLOW and len(self._follow_ups) >= len(self.accounts) // 3:
            what = "commit"  # most accounts stay free to speak
        match what:
            case "commit":
                self.commit(account)
            case "batch":
                self.commit(account, self.rng.randrange(2, 12))
            case "empty":
                self.commit(account, 0)
            case "handle":
                self.change_handle(account)
            case "sync":
                self.say_sync(account)
            case "deactivate":
                self._later(self.deactivate(account))
            case "takedown":
                self._later(self.deactivate(account, "takendown"))
            case "new_account":
                self.new_account()
            case "delete":
                self._delete_one(account)
            case "new_key":
                self._later(self.new_key(account))
            case "migrate":
                shift = self.rng.randrange(1, max(2, len(self.hosts)))
                fit = account.did.startswith("did:plc:") and not account.moving
                if len(self.hosts) > 1 and fit:
                    self._later(self.migrate(account, (account.host + shift) % len(self.hosts)))
            case _:
                raise ValueError(f"nothing called {what} can happen")

    def _delete_one(self, account: Account) -> None:
        """Delete, but leave half of all accounts alive."""
        if sum(not a.deleted for a in self.accounts) > len(self.accounts) // 2 + 1:
            self.delete(account)

    def _later(self, change: Coroutine[Any, Any, None]) -> None:
        """Begin a change that takes time; `run` waits for its end."""
        task = asyncio.create_task(change)
        self._follow_ups.add(task)
        task.add_done_callback(self._follow_ups.discard)

    def caught_up(self) -> bool:
        """Whether every host has a reader that has been sent everything."""
        return all(host.caught_up() for host in self.hosts)


__all__ = ["DEFAULT_MIX", "Kind", "Network", "NetworkConfig", "RunResult"]
