"""One whole ingest process against a simulated network: what goes in, and what comes out."""

from __future__ import annotations

from collections import Counter

from tests.fix_loop import LoopRun
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import ingest, until
from tests.simnet.config import NetworkConfig
from tests.simnet.network import Network
from tests.simnet.truth import compare


def test_a_whole_network_goes_through_without_loss_or_double(loop_run: LoopRun) -> None:
    async def story() -> None:
        config = NetworkConfig(
            hosts=3, accounts=12, records=50, invalid_share=0.2, settle_s=0.3, pause_s=0.05,
            web_accounts=True,
        )  # fmt: skip
        async with Network(config) as network, FakePersist() as persist:
            async with ingest(persist, [h.url for h in network.hosts], network.plc_url) as worker:
                await network.run(rate=150, seconds=3)
                expected = len(list(network.truth.valid))
                await until(
                    lambda: (
                        len(persist.log) >= expected
                        and worker.pipeline.held == worker.pipeline.in_flight == 0
                    ),
                    lambda: f"{len(persist.log)} of {expected} came out: {worker.reasons()}",
                )
                assert worker.conserved()
            report = compare(network.truth, persist.frames())
            assert report.ok, report
            wanted = Counter(entry.drop for entry in network.truth.invalid)
            assert wanted and worker.reasons() == wanted

    loop_run(story())
