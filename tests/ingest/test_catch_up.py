"""A host with a long backlog delays nobody, and loses nothing of it."""

from __future__ import annotations

import time

from common.rates import Rate
from common.syntax import tid_text
from ingest.catch_up import IN_A_ROW, LONG_AGO_S, CatchUp
from tests.fix_loop import LoopRun
from tests.ingest.fix_persist import FakePersist
from tests.ingest.fix_worker import ingest, until
from tests.simnet.config import NetworkConfig
from tests.simnet.network import Network

WALL_S = 1_700_000_000.0


def rev(age_s: float) -> str:
    return tid_text(int((WALL_S - age_s) * 1e6) << 10)


def read(budget: CatchUp, host: int, ages_s: list[float], now_s: float = 0.0) -> list[float | None]:
    return [budget.note(host, rev(age_s), now_s, WALL_S) for age_s in ages_s]


def test_who_sends_news_is_never_slowed_however_much_it_is() -> None:
    budget = CatchUp(Rate(1, 1.0), Rate(1, 1.0))
    assert set(read(budget, 1, [LONG_AGO_S - 1] * 10_000)) == {None}
    assert not budget.is_behind(1)


def test_some_old_events_between_news_are_nobodys_backlog() -> None:
    budget = CatchUp(Rate(1, 1.0), Rate(1, 1.0))
    ages_s = ([9_999.0] * (IN_A_ROW - 1) + [0.0]) * 20
    assert set(read(budget, 1, ages_s)) == {None}


def test_who_catches_up_has_a_burst_then_its_rate_and_is_free_again_when_it_has() -> None:
    budget = CatchUp(Rate(10, 0.5), Rate(1_000, 0.001))
    waits = read(budget, 1, [9_999.0] * (IN_A_ROW + 20))
    assert set(waits[: IN_A_ROW + 9]) == {None}
    assert budget.is_behind(1)
    assert waits[IN_A_ROW + 9] == 0.5
    assert waits[-1] == 5.5
    assert set(read(budget, 2, [0.0] * 9)) == {None}, "another host"
    assert read(budget, 1, [0.0, 9_999.0]) == [None, None]
    assert not budget.is_behind(1)


def test_all_that_catch_up_share_one_budget() -> None:
    budget = CatchUp(Rate(100, 0.01), Rate(100, 0.1))
    for host in range(10):
        read(budget, host, [9_999.0] * (IN_A_ROW - 1))
    waits = [read(budget, host, [9_999.0] * 20) for host in range(10)]
    assert {wait for host in waits[:5] for wait in host} == {None}
    assert (waits[9][-1] or 0.0) > 9.0


def test_a_long_backlog_is_read_at_its_budget_while_a_live_host_is_not_delayed(
    loop_run: LoopRun,
) -> None:
    async def story() -> None:
        old_us = int((time.time() - 86_400) * 1e6)
        one = {"hosts": 1, "accounts": 2, "records": 10, "genesis_share": 0}
        async with (
            Network(NetworkConfig(**one, start_us=old_us, seed=2)) as past,  # type: ignore[arg-type]
            Network(NetworkConfig(**one, seed=3)) as now,  # type: ignore[arg-type]
            FakePersist() as persist,
        ):
            backlog = 400
            for _ in range(backlog):
                past.commit()
            now.plc.documents.update(past.plc.documents)
            async with ingest(
                persist,
                [past.hosts[0].url, now.hosts[0].url],
                now.plc_url,
                catch_up_host=Rate(100, 0.02),
                catch_up_process=Rate(100, 0.01),
            ) as worker:
                slow, live = worker.subscriptions[1].feed, worker.subscriptions[2].feed
                await until(lambda: slow.limited_by == "catch_up")
                had = len(persist.log)
                assert had < backlog / 2
                for _ in range(50):
                    now.commit()
                await until(lambda: sum(judged.host == 2 for judged, _f in persist.log) == 50)
                assert live.limited_by is None
                assert len(persist.log) - 50 < backlog, "the live host came first"
                await until(lambda: len(persist.log) == backlog + 50)
                assert worker.conserved()

    loop_run(story())
