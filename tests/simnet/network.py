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
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from common.verdict import DropReason
from tests.simnet.account import Account, plc_did
from tests.simnet.clock import Clock
from tests.simnet.config import NetworkConfig
from tests.simnet.events import Event
from tests.simnet.host import Host
from tests.simnet.invalid import BAD_MESSAGES, INVALID
from tests.simnet.keys import Curve
from tests.simnet.lean import LeanHost
from tests.simnet.load import Load, NoneFreeError, RunResult
from tests.simnet.plc import Directory
from tests.simnet.source import Source
from tests.simnet.tls import Authority, Certificate
from tests.simnet.truth import Truth


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
        self.load = Load(self)
        self._by_did: dict[str, Account] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

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
        await self.load.close()
        for host in self.hosts:
            await host.end()
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
        contexts: dict[Certificate, ssl.SSLContext] = {}
        make = LeanHost if self.config.lean else Host
        for index in range(self.config.hosts):
            kind = self.config.tls[index] if index < len(self.config.tls) else None
            context = None
            if kind is not None and authority is not None:
                context = contexts.get(kind)
                if context is None:
                    context = contexts[kind] = authority.server_context(kind)
            self.hosts.append(
                make(
                    index,
                    lambda did, index=index: self._status(index, did),  # type: ignore[misc]
                    tls=context,
                    backlog_bytes=self.config.backlog_bytes,
                )
            )

    def _add_account(self, number: int, *, filled: bool) -> Account:
        """Account `number`, on its host, known to the directory."""
        config = self.config
        among = len(self.hosts)
        if config.large_hosts and number >= among:
            among = config.large_hosts
        host = self.hosts[number % among]
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
        self.say(account.host, self.commit_event(account, writes))

    def commit_event(self, account: Account, writes: int) -> Event:
        """A commit that the account makes now, and that the caller lets a host say."""
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
            account.shunned.add(host)
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

    async def silent_key(self, account: Account) -> None:
        """Another signing key that no `#identity` tells of: the next commit just has it."""
        self._free(account)
        account.resting = True
        await self.settled()
        account.new_key()
        self.publish(account)
        self.commit(account)
        account.resting = False

    async def migrate(self, account: Account, to: int) -> None:
        """Move to another host with a new key, as real ones do; the old host speaks on, in vain.

        What the new host says of the imported head is signed by the former key, and so it is none.
        """
        if to == account.host or account.tied:
            raise ValueError("a migration needs another host, and a did:plc account")
        self._free(account)
        account.resting = account.moving = True
        await self.settled()
        old, account.host = account.host, to
        account.shunned.add(old)
        account.new_key()
        self.publish(account)
        self._say_all(
            account, [account.identity(handle=False), account.account(), account.identity()]
        )
        self.say(to, account.imported(), DropReason.SYNC_NOT_RESIGNED, "imported_sync")
        self.commit(account)
        account.resting = False
        await self.settled()
        for status in ("deactivated", "deleted"):
            late = account.account_as(status)
            self.say(old, late, DropReason.HOST_NOT_AUTHORITATIVE, "late_old_host")
        account.moving = False

    async def _sleep_settled(self) -> None:
        await asyncio.sleep(self.config.settle_s)

    def _free(self, account: Account) -> None:
        """Refuse to touch an account whose next commits are signed already."""
        if self.load.waits_for(account.did):
            raise RuntimeError(f"{account.did} has prebuilt commits that are not sent yet")

    # Load

    async def prebuild(self, count: int) -> None:
        """Sign `count` commits now, to be said by the next `run`."""
        await self.load.prebuild(count)

    async def run(self, rate: float, seconds: float) -> RunResult:
        """Let things happen at `rate` events a second for so long (see `Load.run`)."""
        return await self.load.run(rate, seconds)

    def set_rate(self, rate: float) -> None:
        """Change the rate of the present `run`, in events per second over all hosts."""
        self.load.set_rate(rate)

    def stop(self) -> None:
        """End `run` as soon as possible."""
        self.load.stop()

    def caught_up(self) -> bool:
        """Whether every host has a reader that has been sent everything."""
        return all(host.caught_up() for host in self.hosts)
