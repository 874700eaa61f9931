"""What happens next, and when? A rate of happenings in a network, prebuilt or drawn by weights."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.simnet.account import Account
from tests.simnet.config import SLOW
from tests.simnet.events import Event
from tests.simnet.invalid import INVALID

if TYPE_CHECKING:
    from tests.simnet.network import Network

TICK_S: Final = 0.005
"""How often `run` looks what is due, in seconds."""
LAST_TICKS: Final = 20
"""So often it looks once more at its end, for what was due and had to wait for a free account."""


class NoneFreeError(RuntimeError):
    """Every account is inactive, resting or deleted at this moment."""


class RunResult(NamedTuple):
    """What `run` did: events said (valid and not) and seconds taken."""

    events: int
    seconds: float


class Load:
    """The traffic of one network; one `run` at a time.

    prebuilt: (host, event) signed beforehand, the next first.
    """

    def __init__(self, network: Network) -> None:
        self.prebuilt: deque[tuple[int, Event]] = deque()
        self._prebuilt_of: Counter[str] = Counter()
        self._network = network
        self._follow_ups: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._rate = 0.0

    async def prebuild(self, count: int) -> None:
        """Sign `count` commits now, to be said by the next `run`."""
        network = self._network
        awake = [account for account in network.accounts if account.active]
        for number in range(count):
            account = network.rng.choice(awake)
            if account.repo.rev is None:
                for event in account.born():
                    self._keep(account, event)
            self._keep(account, network.commit_event(account, 1))
            if number % 100 == 0:
                await asyncio.sleep(0)

    async def prebuild_each(self) -> None:
        """Sign one commit of each account that is active now, to be said by the next `run`."""
        for number, account in enumerate(self._network.accounts):
            if account.active and not account.resting:
                if account.repo.rev is None:
                    for event in account.born():
                        self._keep(account, event)
                self._keep(account, self._network.commit_event(account, 1))
            if number % 100 == 0:
                await asyncio.sleep(0)

    def _keep(self, account: Account, event: Event) -> None:
        self.prebuilt.append((account.host, event))
        self._prebuilt_of[account.did] += 1

    def waits_for(self, did: str) -> bool:
        """Whether an account has prebuilt events that are not said yet."""
        return self._prebuilt_of[did] > 0

    def stop(self) -> None:
        """End `run` as soon as possible."""
        self._stop.set()

    async def close(self) -> None:
        """Break off everything."""
        self.stop()
        for task in self._follow_ups:
            task.cancel()
        await asyncio.gather(*self._follow_ups, return_exceptions=True)

    def set_rate(self, rate: float) -> None:
        """Change the rate, in events per second over all hosts.

        Raises:
            ValueError: past the bound of the load.
        """
        most = self._network.config.max_rate
        if not 0 <= rate <= most:
            raise ValueError(f"rate must be between 0 and {most}")
        self._rate = rate

    async def run(self, rate: float, seconds: float) -> RunResult:
        """Let things happen at `rate` for so long, then let all that was begun come to its end.

        Where something was prebuilt, that is said and nothing else.

        Raises:
            ValueError: past the bounds of the load.
        """
        network, config = self._network, self._network.config
        self.set_rate(rate)
        if not 0 <= seconds <= config.max_seconds:
            raise ValueError(f"seconds must be between 0 and {config.max_seconds}")
        self._stop.clear()
        loop = asyncio.get_running_loop()
        begun = now = loop.time()
        before = len(network.truth.entries)
        due, left_s, last_ticks = 0.0, seconds, LAST_TICKS
        step = self._say_prebuilt if self.prebuilt else self._draw
        while (left_s > 0 or (due >= 1 and last_ticks)) and not self._stop.is_set():
            await asyncio.sleep(TICK_S)
            later = loop.time()
            # What the machine did not let us say in a second is said in another one, and not at once.
            passed_s, now = min(later - now, left_s, 1.0), later
            last_ticks -= left_s <= 0
            left_s -= passed_s
            due = min(due + self._rate * passed_s, self._rate + 1)
            while due >= 1 and len(network.truth.entries) < before + config.max_events:
                count = len(network.truth.entries)
                try:
                    step()
                except NoneFreeError:
                    break  # at the next tick somebody may be
                if len(network.truth.entries) == count:
                    break  # nothing prebuilt is left, or only a rest began
                due -= len(network.truth.entries) - count
        elapsed = loop.time() - begun
        while self._follow_ups:
            await asyncio.gather(*self._follow_ups)
        return RunResult(len(network.truth.entries) - before, elapsed)

    def _say_prebuilt(self) -> None:
        """Say the next prebuilt event; at the last one, end the run."""
        if not self.prebuilt:
            self.stop()
            return
        host, event = self.prebuilt.popleft()
        self._prebuilt_of[event.did] -= 1
        self._network.say(host, event)

    def _draw(self) -> None:
        """Let something happen, drawn by the configured weights."""
        network = self._network
        if network.rng.random() < network.config.invalid_share:
            name = network.rng.choice(network.config.invalid)
            if not INVALID[name].after_commit or any(a.spoken for a in network.accounts):
                network.say_invalid(name)
                return
        mix = network.config.mix
        self._happen(network.rng.choices(list(mix), list(mix.values()))[0])

    def _happen(self, what: str) -> None:
        network = self._network
        account = network.any_account()
        if what in SLOW and len(self._follow_ups) >= len(network.accounts) // 3:
            what = "commit"  # most accounts stay free to speak
        match what:
            case "commit":
                network.commit(account)
            case "batch":
                network.commit(account, network.rng.randrange(2, 12))
            case "empty":
                network.commit(account, 0)
            case "handle":
                network.change_handle(account)
            case "sync":
                network.say_sync(account)
            case "deactivate":
                self._later(network.deactivate(account))
            case "takedown":
                self._later(network.deactivate(account, "takendown"))
            case "new_account":
                network.new_account()
            case "delete":
                if sum(not a.deleted for a in network.accounts) > len(network.accounts) // 2 + 1:
                    network.delete(account)
            case "new_key":
                self._later(network.new_key(account))
            case "silent_key":
                self._later(network.silent_key(account))
            case "migrate":
                to = (account.host - 1) % len(network.hosts)
                free = not account.moving and not account.tied
                if free and to not in (account.host, *account.shunned):
                    self._later(network.migrate(account, to))
            case _:
                raise ValueError(f"nothing called {what} can happen")

    def _later(self, change: Coroutine[Any, Any, None]) -> None:
        """Begin a change that takes time; `run` waits for its end."""
        task = asyncio.create_task(change)
        self._follow_ups.add(task)
        task.add_done_callback(self._follow_ups.discard)
