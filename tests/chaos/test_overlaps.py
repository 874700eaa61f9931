"""Faults that meet one process at the same time: is each of them what its proof says? On a `sleep`."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final

import pytest

from tests.chaos.plan import Era, Fault, Plan, Way
from tests.chaos.storm import Storm, _state

VICTIM: Final = "ingest-0"
LOOKS: Final = 12
"""How many looks in a row have to find the process standing until others have what it had: looks and not
seconds, which pass by themselves where nobody comes to look."""
STOP_S: Final = 0.3
"""How long a STOP lasts, in seconds: shorter than so many looks take."""


class Sleeper(Storm):
    """A storm over one process that does nothing, with a table of leases that tells whether it does."""

    def __init__(self, *faults: Fault) -> None:
        nowhere: Any = SimpleNamespace(plc_url="http://localhost:1", hosts=[])
        super().__init__(Plan(1, (Era("broadcast-0", faults),)), nowhere, "uvloop")
        self.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        self._stood = 0

    def end(self) -> None:
        """End the process, and forget the folder."""
        self.process.kill()
        self.process.wait()
        self._relay.__exit__(None, None, None)

    async def _pid(self, name: str) -> int:
        assert name == VICTIM
        return self.process.pid

    def _leases(self, member: int) -> set[tuple[int, int]]:
        assert member == 0
        self._stood = self._stood + 1 if _state(self.process.pid) == "T" else 0
        return {(0, 1)} if self._stood < LOOKS else set()

    async def carry_out(self) -> None:
        """All of it, one fault at the heels of the other."""
        async with asyncio.timeout(60):
            for fault in self._plan.faults:
                await self._inject(fault)
            await self._wait_for_proofs()

    def shown(self) -> list[str]:
        """What shows that the faults happened; in their order, and without those that nothing shows."""
        return [self.record.proofs[number].shown for number in sorted(self.record.proofs)]


def stop(number: int, for_s: float = STOP_S) -> Fault:
    return Fault(number, 0.0, Way.STOP, VICTIM, for_s=for_s)


@contextmanager
def storm_of(*faults: Fault) -> Iterator[Sleeper]:
    storm = Sleeper(*faults)
    try:
        yield storm
    finally:
        storm.end()


def test_who_is_to_be_outlived_is_not_woken_by_the_end_of_an_earlier_stop() -> None:
    with storm_of(stop(1), Fault(2, 0.0, Way.OUTLIVE, VICTIM)) as storm:
        asyncio.run(storm.carry_out())
        stopped, outlived = storm.shown()
        assert stopped.endswith("and went on")
        assert outlived == "stood still until all its 1 leases were others'"


def test_a_stop_after_a_stop_lasts_as_long_as_it_says() -> None:
    with storm_of(stop(1), stop(2, 2 * STOP_S)) as storm:
        asyncio.run(storm.carry_out())
        assert [shown.endswith("and went on") for shown in storm.shown()] == [True, True]
        first, second = (storm.record.proofs[number] for number in (1, 2))
        assert second.proved_s - first.proved_s >= 2 * STOP_S


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGCONT])
def test_who_does_not_stand_at_the_end_of_a_stop_was_killed_or_the_stop_is_not_proved(
    sign: signal.Signals,
) -> None:
    with storm_of(stop(1)) as storm:

        async def story() -> None:
            await storm._inject(storm._plan.faults[0])
            os.kill(storm.process.pid, sign)
            if sign == signal.SIGKILL:
                # Nobody else has a turn while it is dying, and stands no more.
                storm.process.wait()
            await storm._wait_for_proofs()

        asyncio.run(story())
        killed = [shown.endswith("and was killed meanwhile") for shown in storm.shown()]
        assert killed == ([True] if sign == signal.SIGKILL else [])
