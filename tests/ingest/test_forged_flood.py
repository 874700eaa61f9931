"""A host that makes up thousands of DIDs, or forges thousands of signatures. Lesson 42."""

from __future__ import annotations

from common.rates import Rate
from common.verdict import DropReason
from ingest.config import ResolverLimits
from tests.fix_loop import LoopRun
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import ingest, until
from tests.simnet.config import NetworkConfig
from tests.simnet.network import Network
from tests.simnet.truth import compare

FORGED = 1500
SLOW_LANE = Rate(burst=50, every_s=30.0)


def test_made_up_dids_wait_alone_and_none_of_them_is_passed_on(loop_run: LoopRun) -> None:
    async def story() -> None:
        config = NetworkConfig(hosts=2, accounts=24, records=10, genesis_share=0)
        async with Network(config) as network, FakePersist() as persist:
            liar, *others = [account for account in network.accounts if account.host == 0]
            known, newcomers = others[:6], [a for a in network.accounts if a.host == 1]
            async with ingest(
                persist, [host.url for host in network.hosts], network.plc_url,
                resolver_limits=ResolverLimits(first_rate=SLOW_LANE),
            ) as worker:  # fmt: skip
                for account in known:
                    network.commit(account)
                await until(lambda: len(persist.log) == len(known))
                for _ in range(FORGED):
                    network.say_invalid("unknown_did", liar)
                await until(lambda: worker.pipeline.held > FORGED - 100)
                # Accounts of the same host that are known, and new ones of another host.
                for account in (*known, *newcomers):
                    network.commit(account)
                await until(lambda: len(persist.log) == 2 * len(known) + len(newcomers))
                assert worker.pipeline.held > FORGED - 100
                assert set(worker.reasons()) <= {DropReason.IDENTITY_NOT_FOUND}
                assert worker.conserved()
            report = compare(network.truth, persist.frames())
            assert report.ok, report.as_dict()
            assert report.expected == len(persist.log)

    loop_run(story())


def test_forged_signatures_of_many_accounts_take_a_slow_lane_of_their_host(
    loop_run: LoopRun,
) -> None:
    """Each asks for a newer document; the directory is asked for some, and the rest waits."""

    async def story() -> None:
        config = NetworkConfig(hosts=2, accounts=120, records=5, genesis_share=0)
        async with Network(config) as network, FakePersist() as persist:
            victims = [account for account in network.accounts if account.host == 0]
            others = [account for account in network.accounts if account.host == 1]
            async with ingest(
                persist, [host.url for host in network.hosts], network.plc_url,
                refresh_rate=Rate(burst=10, every_s=30.0),
            ) as worker:  # fmt: skip
                for account in network.accounts:
                    network.commit(account)
                await until(lambda: len(persist.log) == 120)
                network.plc.requests.clear()
                for account in victims:
                    network.say_invalid("bad_signature", account)
                await until(lambda: worker.pipeline.held == len(victims) - 10)
                # The others change their keys meanwhile, each of which takes a look-up too.
                for account in others[:10]:
                    account.new_key()
                    network.publish(account)
                    network.commit(account)
                await until(lambda: len(persist.log) == 130)
                assert worker.reasons() == {DropReason.SIGNATURE_INVALID: 10}
                assert network.plc.requests.total() == 20
            report = compare(network.truth, persist.frames())
            assert report.ok, report.as_dict()

    loop_run(story())
