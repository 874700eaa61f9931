"""A takedown on a whole relay: what consumers see of it, how soon, and what of the account is left to replay."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from typing import Any, Final

import pytest

from common.control import ControlPlane
from common.database import connect
from common.paths import Paths
from common.verdict import DropReason
from tests.pipeline.house import FLOW_S, STORY_S, House, house
from tests.simnet import Consumer, NetworkConfig
from tests.simnet.account import Account
from tests.simnet.truth import open_frame

TAKEN_S: Final = 1.0
"""How soon it has to take effect, in seconds; on a machine that does nothing else."""


def act(at: House, action: str, did: str) -> bool:
    """What the admin API and the command do."""
    with closing(connect(Paths(at.relay.data).embedded_database_url, "test")) as connection:
        done: bool = getattr(ControlPlane(connection, "test"), action)(did)
        return done


def of(frames: list[bytes], account: Account) -> list[tuple[str, Any, Any]]:
    """(kind, active, status) of each event of an account."""
    opened = [open_frame(frame) for frame in frames]
    return [
        (kind, body.get("active"), body.get("status"))
        for kind, body in opened
        if account.did in (body.get("did"), body.get("repo"))
    ]


def passed(at: House, account: Account) -> bool:
    """Whether the last that came of an account is a commit."""
    return of(at.live.frames, account)[-1][0] == "commit"


async def tried(at: House, account: Account) -> None:
    """Let it say a commit, and wait for what becomes of that: what is under way might come out later."""
    before = (await asyncio.to_thread(at.drops))[DropReason.ACCOUNT_TAKEN_DOWN]
    said = at.network.commit_event(account, 1)
    at.network.say(account.host, said, DropReason.ACCOUNT_TAKEN_DOWN)

    def ended() -> bool:
        return passed(at, account) or at.drops()[DropReason.ACCOUNT_TAKEN_DOWN] > before

    await at.until("its fate", ended)


async def replayed(at: House, last: Account) -> list[list[bytes]]:
    """What a consumer gets from the beginning, of each broadcaster; up to a commit that is said now."""
    at.network.commit(last)
    await at.network.settled()
    newest = [open_frame(at.live.frames[-1])[1]["seq"]]
    found = []
    for member in range(2):
        port = (at.relay.run_file(f"broadcast-{member}") or {})["private_port"]
        url = at.relay.stream_url.replace(f":{at.relay.port}/", f":{port}/")
        async with Consumer(url, cursor=0) as consumer:
            await consumer.wait_for(
                lambda c=consumer: (
                    bool(c.frames)  # type: ignore[misc]
                    and open_frame(c.frames[-1])[1]["seq"] >= newest[0]
                ),
                FLOW_S,
            )
            found.append(list(consumer.frames))
    return found


@pytest.mark.parametrize("loop_run", ["uvloop"], indirect=True)
def test_a_takedown_is_seen_by_all_and_hides_the_account_until_it_is_reversed(
    loop_run: Any,
) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=2, accounts=4, records=5)
        async with house(config, "uvloop", STANDPIPE_BROADCAST_PROCESSES="2") as at:
            bad, good = at.network.accounts[0], at.network.accounts[1]
            for _ in range(3):
                at.network.commit(bad)
                at.network.commit(good)
            await at.network.settled()
            before = of(at.live.frames, bad)
            assert [kind for kind, _, _ in before].count("commit") >= 3
            began_s = time.monotonic()
            assert await asyncio.to_thread(act, at, "take_down", bad.did)
            taken = ("account", False, "takendown")
            await at.until("it is told", lambda: of(at.live.frames, bad)[-1] == taken)
            took_s = time.monotonic() - began_s
            print(f"a takedown was told after {took_s:.2f} s")
            commits = len(of(at.live.frames, bad))
            at.network.say(bad.host, at.network.commit_event(bad, 1), DropReason.ACCOUNT_TAKEN_DOWN)
            await at.until("it is dropped", lambda: at.drops()[DropReason.ACCOUNT_TAKEN_DOWN] == 1)
            for frames in await replayed(at, good):
                assert of(frames, bad) == [taken]
                assert len(of(frames, good)) == len(of(at.live.frames, good))
            assert len(of(at.live.frames, bad)) == commits
            assert await asyncio.to_thread(act, at, "reverse_takedown", bad.did)
            back = ("account", True, None)
            await at.until("it is told", lambda: of(at.live.frames, bad)[-1] == back)
            # Persist's word on it may be believed for half a second more: until one passes.
            while not passed(at, bad):
                await tried(at, bad)
            for frames in await replayed(at, good):
                assert of(frames, bad) == of(at.live.frames, bad)
                assert of(frames, bad)[: len(before)] == before
                assert of(frames, bad)[-1][0] == "commit"
            assert took_s < 5 * TAKEN_S

    loop_run(story(), STORY_S)
