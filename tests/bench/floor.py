"""What can no relay save, and what does ours add? CPU time of each step of judging a commit.

The floor F is one K-256 verification and the SHA-256 of every block and of the unsigned commit.
Measured on the simulated network's own commits (2,000 records an account), best of several rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256
from typing import Final, NamedTuple

from common.car import Car, walk
from common.commit import SignedCommit, open_commit
from common.envelope import NEVER_SEEN
from common.event import Event, decode
from ingest.did_document import Identity
from ingest.judge import Accept, Source, judge
from ingest.signature import parse_multikey
from tests.simnet import Network, NetworkConfig

ROUNDS: Final = 9
COMMITS: Final = 300
HOST: Final = "pds.example.com"


class Step(NamedTuple):
    """What a part of the work costs, in microseconds of CPU a commit."""

    name: str
    cost_us: float


class _Prepared(NamedTuple):
    raw: bytes
    event: Event
    car: Car
    signed: SignedCommit
    identity: Identity


def best_us(work: Callable[[], None], count: int) -> float:
    """CPU time of `work` for each of `count` things, in microseconds; the best round."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best / count * 1e6


async def prepared() -> list[_Prepared]:
    """Signed commits of a simulated network, K-256 alone, with all that judging needs."""
    found = []
    config = NetworkConfig(hosts=1, accounts=5, p256_share=0, genesis_share=0, extra_field_share=0)
    async with Network(config) as network:
        await network.prebuild(COMMITS)
        keys = {
            account.did: parse_multikey(
                account.key.verification_method(account.did)["publicKeyMultibase"]
            )
            for account in network.accounts
        }
        for number, (_, said) in enumerate(network.load.prebuilt):
            event = decode(raw := said.frame(number + 1))
            assert isinstance(event, Event)
            assert event.rev is not None
            car = walk(event.blocks)
            assert isinstance(car, Car)
            signed = open_commit(car.blocks[car.root], event.did, event.rev)
            assert isinstance(signed, SignedCommit)
            identity = Identity(event.did, keys[event.did], HOST)
            found.append(_Prepared(raw, event, car, signed, identity))
    return found


def measure(items: list[_Prepared]) -> tuple[float, list[Step]]:
    """The floor in microseconds, and every step beside it."""
    source = Source(1, HOST)
    now_s = time.time()

    def verify() -> None:
        for item in items:
            assert item.identity.key.verify(item.signed.digest, item.signed.sig)

    def hashing() -> None:
        for item in items:
            sha256(item.signed.digest)
            for block in item.car.blocks.values():
                sha256(block).digest()

    def decoding() -> None:
        for item in items:
            decode(item.raw)

    def walking() -> None:
        for item in items:
            walk(item.event.blocks)

    def opening() -> None:
        for item in items:
            open_commit(item.car.blocks[item.car.root], item.event.did, item.event.rev or "")

    def judging() -> None:
        for item in items:
            verdict = judge(
                item.event, item.identity, NEVER_SEEN, source, now_s=now_s, fresh=False, asked=True
            )
            assert isinstance(verdict, Accept)

    count = len(items)
    costs = {
        "verify K-256": best_us(verify, count),
        "SHA-256 of the blocks": best_us(hashing, count),
        "decode, strictly": best_us(decoding, count),
        "CAR walk with SHA-256": best_us(walking, count),
        "open the commit": best_us(opening, count),
        "whole judge, without decode": best_us(judging, count),
    }
    floor = costs["verify K-256"] + costs["SHA-256 of the blocks"]
    return floor, [Step(name, cost) for name, cost in costs.items()]
