"""What does a whole relay make of all that an account can sign? It drops each lie for its reason.

One relay hears every kind of tests.simnet.lies, each between two honest commits of the same account.
They come in rounds, all of one reason: a counter that rises by as many, and no other, tells of each.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from itertools import cycle
from typing import Any, Final

import pytest

from common.verdict import DropReason
from ingest.judge import STEPS, name_of
from tests.pipeline.house import FLOW_S, STORY_S, House, house
from tests.pipeline.test_hostile import all_ended
from tests.simnet import NetworkConfig
from tests.simnet.account import Account
from tests.simnet.lies import LIES
from tests.simnet.source import Source

PROCESSES: Final = ("persist", "ingest-0", "ingest-1", "broadcast-0")
ACCOUNTS: Final = 40
"""Enough that nobody says more than a few things of a kind, which would have to wait its turn."""


def rounds() -> list[list[str]]:
    """All lies, those of one reason together."""
    by_reason: dict[DropReason | None, list[str]] = defaultdict(list)
    for name, lie in LIES.items():
        by_reason[lie.reason].append(name)
    return list(by_reason.values())


def test_every_lie_is_dropped_for_its_reason_and_nothing_else_is_lost(
    loop_run: Any, request: pytest.FixtureRequest
) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=2, accounts=ACCOUNTS, records=0, genesis_share=0)
        async with house(config, request.node.callspec.params["loop_run"]) as at:
            liars = [Source(a, at.network.rng, at.network.clock) for a in at.network.accounts]
            for liar in liars:
                liar.settle()
                at.network.commit(liar.account)
            pids = [await asyncio.to_thread(at.relay.pid, name) for name in PROCESSES]
            wanted: Counter[DropReason] = Counter()
            turn = cycle(liars)
            for names in rounds():
                for name in names:
                    tell(at, next(turn), name, wanted)
                await at.network.settled()
                await at.until(f"the drops of {names[0]}", lambda: at.drops() == wanted)
            assert at.report().ok, at.report().as_dict()
            assert pids == [await asyncio.to_thread(at.relay.pid, name) for name in PROCESSES]
            assert [host.accepted for host in at.network.hosts] == [1, 1]
            assert {entry.name for entry in at.network.truth.entries} >= set(LIES)
            await at.until("every event to have one end", lambda: all_ended(at.status()), FLOW_S)
            await every_step_has_run(at)

    loop_run(story(), STORY_S)


async def every_step_has_run(at: House) -> None:
    """Each step of each kind has let something pass, and those that these lies concern dropped some.

    A check that is never reached is as good as none.
    """
    numbers = await at.numbers("ingest-0", "ingest-1")

    def steps(result: str) -> set[str]:
        return {
            name_of(step)
            for steps in STEPS.values()
            for step in steps
            if numbers[f'standpipe_checked_total{{result="{result}",step="{name_of(step)}"}}']
        }

    assert steps("passed") == {name_of(step) for steps in STEPS.values() for step in steps}
    assert steps("dropped") >= {
        "rev_is_newer", "identity", "car", "commit", "same_commit", "signature",
        "prev_data_is_there", "records", "inversion",
    }  # fmt: skip


def tell(at: House, liar: Source, name: str, wanted: Counter[DropReason]) -> None:
    """An honest commit, the lie, and an honest commit again."""
    lie, account = LIES[name], liar.account
    honest(at, account)
    at.network.say(account.host, lie.make(liar), lie.reason, name)
    if lie.reason is not None:
        wanted[lie.reason] += 1
    honest(at, account)


def honest(at: House, account: Account) -> None:
    """A commit that follows from the one before."""
    at.network.commit(account, writes=2)
