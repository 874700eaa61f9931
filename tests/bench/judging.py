"""What does it cost to judge a commit, every check on? CPU time beside the floor of the same run.

The floor F is one K-256 verification and the SHA-256 of every block and of the unsigned commit. The
whole judge is everything from a frame's bytes to the verdict. Three ways of looking:

    without a memory     each commit as if it were the account's first
    in stream order      with a memory of sound trees that begins empty
    the worst            the dearest commits within every cap (tests.ingest.burdens)
"""

from __future__ import annotations

import asyncio
import gc
import time
from hashlib import sha256
from typing import Any, Final, NamedTuple

from common.car import Car, walk
from common.commit import SignedCommit, open_commit
from common.envelope import NEVER_SEEN, AccountState
from common.event import Event, decode
from ingest.did_document import Identity
from ingest.judge import Accept, Source, judge
from ingest.node_memory import NodeMemory
from ingest.signature import parse_multikey
from tests.ingest import burdens
from tests.interop.test_network_frames import identity_of
from tests.interop.vectors import FIXTURES, network_frames
from tests.simnet import Network, NetworkConfig

ROUNDS: Final = 7
COMMITS: Final = 3_000
ACCOUNTS: Final = 20
HOST: Final = "pds.example.com"


class Item(NamedTuple):
    """A frame, and who may have said it."""

    raw: bytes
    identity: Identity
    source: Source


async def simulated() -> list[Item]:
    """A stream of the simulated network's commits, K-256 alone; 2,000 records an account."""
    config = NetworkConfig(
        hosts=1, accounts=ACCOUNTS, p256_share=0, genesis_share=0, extra_field_share=0
    )
    async with Network(config) as network:
        await network.prebuild(COMMITS)
        known = {
            account.did: Identity(
                account.did,
                parse_multikey(account.key.verification_method(account.did)["publicKeyMultibase"]),
                HOST,
            )
            for account in network.accounts
        }
        return [
            Item(said.frame(number + 1), known[str(said.did)], Source(1, HOST))
            for number, (_, said) in enumerate(network.load.prebuilt)
        ]


def real() -> list[Item]:
    """The 100 frames of the real network; none where they are not at hand."""
    if not (FIXTURES / "network").is_dir():
        return []
    items = []
    for raw in network_frames():
        event = decode(raw)
        assert isinstance(event, Event)
        identity = identity_of(event.did)
        items.append(Item(raw, identity, Source(1, identity.host)))
    return items


def floor_us(items: list[Item]) -> float:
    """F of these commits, in microseconds."""
    checks = []
    for item in items:
        event = decode(item.raw)
        assert isinstance(event, Event)
        car = walk(event.blocks)
        assert isinstance(car, Car)
        signed = open_commit(car.blocks[car.root], event.did, event.rev or "")
        assert isinstance(signed, SignedCommit)
        blocks = [*car.blocks.values(), car.blocks[car.root]]
        checks.append((item.identity.key, signed.digest, signed.sig, blocks))
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for key, digest, sig, blocks in checks:
            key.verify(digest, sig)
            for block in blocks:
                sha256(block).digest()
        best = min(best, time.process_time() - began)
    return best / len(items) * 1e6


def judging_us(items: list[Item], *, remember: bool) -> tuple[float, NodeMemory | None]:
    """CPU time of judging each commit, and the memory of the last round."""
    now_s = time.time()
    best = float("inf")
    memory = None
    for _ in range(ROUNDS):
        memory = NodeMemory() if remember else None
        states: dict[str, AccountState] = {}
        began = time.process_time()
        for raw, identity, source in items:
            event = decode(raw)
            assert isinstance(event, Event)
            state = states.get(event.did, NEVER_SEEN)
            verdict = judge(
                event, identity, state, source,
                now_s=now_s, fresh=True, asked=False, memory=memory,
            )  # fmt: skip
            assert isinstance(verdict, Accept), verdict
            if remember:
                states[event.did] = verdict.after
        best = min(best, time.process_time() - began)
    return best / len(items) * 1e6, memory


def worst_ms() -> dict[str, float]:
    """The dearest commits within the caps, in milliseconds of CPU."""
    key = parse_multikey(burdens.KEY.verification_method(burdens.DID)["publicKeyMultibase"])
    identity = Identity(burdens.DID, key, HOST)
    found = {}
    for burden in burdens.BURDENS:
        raw = burden()
        best = float("inf")
        for _ in range(ROUNDS):
            began = time.process_time()
            event = decode(raw)
            if isinstance(event, Event):
                judge(
                    event, identity, NEVER_SEEN, Source(1, HOST),
                    now_s=time.time(), fresh=True, asked=True,
                )  # fmt: skip
            best = min(best, time.process_time() - began)
        found[burden.__name__.replace("_", " ")] = best * 1e3
    return found


def measure() -> dict[str, Any]:
    """All of it; run in a process that does nothing else."""
    streams = {"simulated": asyncio.run(simulated()), "real": real()}
    # As in the relay's processes (common.process).
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    results: dict[str, Any] = {}
    for name, items in streams.items():
        if not items:
            continue
        floor = floor_us(items)
        plain, _ = judging_us(items, remember=False)
        results[name] = {"floor_us": floor, "plain_us": plain}
        if name == "simulated":
            remembering, memory = judging_us(items, remember=True)
            assert memory is not None
            results[name]["memory_us"] = remembering
            results[name]["hits"] = memory.hits / (memory.hits + memory.misses)
    worst = worst_ms()
    name = max(worst, key=lambda name: worst[name])
    results["worst"] = {"ms": worst[name], "name": name}
    return results


def lines(results: dict[str, Any]) -> list[str]:
    """The figures for people."""
    found = ["| whole judge, every check on | µs CPU | × F | F, µs |", "| --- | --- | --- | --- |"]
    for name, part in results.items():
        for way, title in (("plain_us", "without a memory"), ("memory_us", "in stream order")):
            if way in part:
                floor = part["floor_us"]
                found.append(
                    f"| {name} commits, {title} | {part[way]:.1f} | {part[way] / floor:.2f} "
                    f"| {floor:.1f} |"
                )
    found.append("")
    found.append(f"proven by memory: {results['simulated']['hits'] * 100:.1f} % of commits")
    worst = results["worst"]
    found.append(f"the worst commit within the caps: {worst['ms']:.1f} ms ({worst['name']})")
    return found


if __name__ == "__main__":
    print("\n".join(lines(measure())))
