"""A did:web whose own host is dead: what does it cost the PDS that the account is on? Nothing."""

from __future__ import annotations

from random import Random
from typing import Any

from coincurve import PrivateKey

from common.verdict import DropReason
from ingest.config import EVENT_BYTES, ResolverLimits
from tests.fix_loop import LoopRun
from tests.fix_net import free_port
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import ingest, until
from tests.ingest.test_pipeline import Story, commit, did_of
from tests.simnet.account import Account
from tests.simnet.config import NetworkConfig
from tests.simnet.keys import Curve
from tests.simnet.network import Network

WEB = "did:web:dead.example.com"
SIZE = len(commit(1, 1, WEB)) + EVENT_BYTES


def test_its_oldest_go_before_its_host_is_read_no_further_and_before_anybody_knows_it_dead() -> (
    None
):
    story = Story(did_held_bytes=SIZE * 3, host_held_bytes=SIZE * 10 + 200, hopeless_s=15.0)
    story.hopeless = False
    story.take(*(commit(n, n, WEB) for n in range(1, 11)))
    assert story.drops == []
    story.take(*(commit(n, n, WEB) for n in range(11, 31)))
    assert story.reasons() == [DropReason.IDENTITY_UNRESOLVED] * 20
    assert [seq for _did, _reason, seq in story.drops] == list(range(1, 21))
    assert story.feed.unfinished_bytes <= SIZE * 10 + 200


def test_a_did_web_within_its_share_loses_nothing_for_the_others_of_its_host() -> None:
    story = Story(did_held_bytes=SIZE * 3, host_held_bytes=SIZE * 10 + 200, hopeless_s=15.0)
    story.hopeless = False
    story.take(*(commit(n, n, WEB) for n in range(1, 4)))
    story.take(*(commit(n, n, did_of(0)) for n in range(4, 30)))
    assert story.drops == []
    assert story.pipeline.held == 29


def test_a_document_that_only_failed_to_be_refreshed_is_no_reason_to_hurry_later() -> None:
    story = Story(did_held_bytes=SIZE * 2, hopeless_s=15.0, stale_s=100.0)
    story.take(commit(1, 1))
    story.resolve()
    story.now_s += 101
    story.take(commit(2, 2))
    story.pipeline.unresolved(did_of(0), story.now_s)
    assert not story.pipeline.still_wanted(did_of(0))
    story.now_s += 60
    story.take(*(commit(n, n, key=PrivateKey(b"\x08" * 32)) for n in range(3, 10)))
    assert story.drops == []


def test_the_others_of_its_host_flow_while_it_floods(loop_run: LoopRun) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=2, accounts=8, records=20, genesis_share=0)
        async with Network(config) as network, FakePersist() as persist:
            others = [account for account in network.accounts if account.host == 0]
            # Nobody listens there; every attempt fails at once, and again and again.
            did = f"did:web:localhost%3A{free_port()}"
            dead = Account(did, "dead.test", Curve.K256, network.clock, "dead", 0)
            dead.fill(20, Random(1))
            limits: dict[str, Any] = {
                "did_held_bytes": 20_000, "host_held_bytes": 60_000, "host_high_bytes": 120_000,
                "host_low_bytes": 60_000,
            }  # fmt: skip
            async with ingest(
                persist, [host.url for host in network.hosts], network.plc_url,
                resolver_limits=ResolverLimits(request_s=1.0, retry_first_s=0.05),
                **limits,
            ) as worker:  # fmt: skip
                said = 0
                for _ in range(40):
                    for _ in range(10):
                        network.commit(dead)
                    for account in others:
                        network.commit(account)
                        said += 1
                    await until(lambda: len(persist.log) == said)  # noqa: B023
                assert set(worker.reasons()) == {DropReason.IDENTITY_UNRESOLVED}
                assert {did for did, _drop in worker.drops} == {dead.did}
                feed = worker.subscriptions[1].feed
                assert feed.unfinished_bytes < limits["host_high_bytes"]
                assert worker.conserved()

    loop_run(story())
