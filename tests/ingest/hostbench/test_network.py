"""2,800 scripted hosts over days: nobody is forgotten, and there is no storm."""

from __future__ import annotations

from itertools import pairwise
from math import inf

from ingest.dials import JITTER
from ingest.fates import CALL_AGAIN_S, PROBE_S, PROBES, Fates
from ingest.lifecycle import Phase, Signal
from tests.ingest.hostbench.bench import Bench, Script

HOSTS = 2_800
DAY_S = 86_400.0


def test_a_cold_start_is_done_within_90_s_with_the_largest_first_and_at_the_rate() -> None:
    bench = Bench([Script(accounts=(n * 7919) % 100_003) for n in range(HOSTS)])
    bench.run(90.0)
    assert bench.connected == HOSTS
    assert bench.busiest_second() <= 50 + 4
    for process in bench.processes:
        ours = sorted((h for h in bench.hosts if h.process is process), key=lambda h: h.dials[0])
        sizes = [host.script.accounts for host in ours]
        assert sizes == sorted(sizes, reverse=True)
    assert len(bench.dials_s) == HOSTS


def test_a_cold_start_with_many_that_never_answer_is_bounded_and_done_for_the_others() -> None:
    scripts = [
        Script(down=((0, 9 * DAY_S),), silent=True) if n % 3 == 0 else Script()
        for n in range(HOSTS)
    ]
    bench = Bench(scripts, at_once=50)
    bench.run(180.0)
    assert bench.connected == sum(script.down == () for script in scripts)
    assert bench.most_under_way <= 50


def all_down(hosts: int, processes: int, **more: float) -> Bench:
    """All hosts are lost at once after an hour, and back a day later."""
    scripts = [Script(down=((3_600.0, 3_600.0 + DAY_S),)) for _ in range(hosts)]
    bench = Bench(scripts, processes=processes, **more)  # type: ignore[arg-type]
    bench.run(3_599.0)
    assert bench.connected == hosts
    return bench


def test_all_hosts_down_for_a_day_are_all_back_within_ten_minutes_without_a_storm() -> None:
    bench = all_down(HOSTS, 4)
    back_s = 3_600.0 + DAY_S
    bench.run(back_s)
    assert bench.connected == 0
    assert bench.states() == {"offline": HOSTS}
    asked = len(bench.dials_s)
    assert asked < 40 * HOSTS, "hosts that are away are asked seldom"
    bench.run(back_s + 600.0)
    assert bench.connected == HOSTS
    assert bench.states() == {"active": HOSTS}
    assert bench.busiest_second() <= 50 + 4
    assert len(bench.dials_s) - asked < 2 * HOSTS


def test_the_same_holds_for_a_handful_of_hosts_and_for_one() -> None:
    for hosts in (1, 5, 40):
        bench = all_down(hosts, 1)
        bench.run(3_600.0 + DAY_S + 600.0)
        assert bench.connected == hosts, hosts


def test_a_relay_that_is_started_while_all_are_away_knows_from_the_table_who_was_alive() -> None:
    bench = Bench([Script(down=((0.0, DAY_S),)) for _ in range(HOSTS // 4)], processes=1)
    for host in bench.hosts:
        host.process.fates.know(host.number, -3_600.0)
    bench.run(DAY_S)
    assert bench.states() == {"offline": HOSTS // 4}
    bench.run(DAY_S + 600.0)
    assert bench.connected == HOSTS // 4


def test_hosts_of_one_company_down_for_a_day_bring_each_other_back() -> None:
    """No outage of ours: most others are up. The first that answers calls those lost together with it."""
    down = ((3_600.0, 3_600.0 + DAY_S),)
    scripts = [Script(down=down if n % 5 == 0 else ()) for n in range(HOSTS)]
    bench = Bench(scripts)
    back_s = 3_600.0 + DAY_S
    bench.run(back_s)
    assert bench.connected == HOSTS - HOSTS // 5
    bench.run(back_s + 900.0)
    assert bench.connected == HOSTS
    assert bench.busiest_second(back_s) <= 50 + 4


def test_a_host_that_is_gone_for_good_is_asked_for_ever_every_few_hours() -> None:
    scripts = [Script(down=((3_600.0, 1e9),)), *[Script() for _ in range(20)]]
    bench = Bench(scripts)
    bench.run(30 * DAY_S)
    gone = bench.hosts[0]
    lately = [at_s for at_s in gone.dials if at_s > 3 * DAY_S]
    pauses = [after - before for before, after in pairwise(lately)]
    assert max(pauses) <= 6 * 3600 + 60
    assert min(pauses) >= 3 * 3600 - 60
    assert gone.life.observed == "offline"
    assert gone.life.next_dial_s < 30 * DAY_S + 6 * 3600


def test_a_crawl_request_brings_a_host_back_at_once() -> None:
    scripts = [Script(down=((60.0, 2 * DAY_S),)), *[Script() for _ in range(20)]]
    bench = Bench(scripts)
    bench.run(2 * DAY_S + 1)
    host = bench.hosts[0]
    assert not host.life.connected
    bench.tell(host, Signal.ASKED)
    bench.run(bench.now_s + 2.0)
    assert host.life.connected


def test_who_accepts_and_closes_is_asked_less_and_less_often() -> None:
    scripts = [Script(holds_s=0.1, speaks=False), *[Script() for _ in range(20)]]
    bench = Bench(scripts)
    bench.run(DAY_S)
    flapping = bench.hosts[0]
    assert flapping.life.failures == len(flapping.dials) - (
        flapping.life.phase is not Phase.WAITING
    )
    assert len(flapping.dials) < 25
    assert flapping.life.observed == "offline"


def test_who_has_nothing_to_say_and_is_cut_now_and_then_stays_active() -> None:
    bench = Bench([Script(holds_s=7_200.0, speaks=False)])
    bench.run(30 * DAY_S)
    host = bench.hosts[0]
    assert host.life.observed == "active"
    gaps = [d - o - 7_200.0 for o, d in zip(host.opened_s, host.dials[1:], strict=False)]
    assert max(gaps) < 5.0


def test_flapping_hosts_do_not_keep_the_others_from_their_turn() -> None:
    scripts = [Script(holds_s=1.0) if n % 10 == 0 else Script() for n in range(HOSTS)]
    bench = Bench(scripts)
    bench.run(90.0)
    assert all(host.life.connected for n, host in enumerate(bench.hosts) if n % 10)
    bench.run(600.0)
    assert bench.busiest_second() <= 50 + 4
    # Each comes back as often as its turn allows: none is starved by another.
    turns = [len(host.dials) for n, host in enumerate(bench.hosts) if n % 10 == 0]
    assert min(turns) > max(turns) / 2


def test_a_host_that_is_a_relay_or_refuses_costs_one_dial_in_minutes() -> None:
    for says in (Signal.IS_RELAY, Signal.ERROR_FRAME):
        bench = Bench([Script(says=says), *[Script() for _ in range(20)]])
        bench.run(DAY_S)
        assert len(bench.hosts[0].dials) <= DAY_S / 300
        assert not bench.hosts[0].life.connected


def test_a_poisonous_frame_at_the_same_place_is_met_less_and_less_often() -> None:
    bench = Bench([Script(says=Signal.BAD_FRAME), *[Script() for _ in range(20)]])
    bench.run(DAY_S)
    assert len(bench.hosts[0].dials) < 25


def test_a_restored_host_is_looked_at_three_times_over_minutes_before_it_is_believed() -> None:
    bench = Bench([Script(says=Signal.NUMBERS), *[Script() for _ in range(20)]])
    bench.run(600.0, stop=lambda: bench.hosts[0].restarts > 0)
    assert len(bench.hosts[0].dials) == 3
    assert 120.0 < bench.now_s < 245.0


def test_the_rate_is_shared_by_the_processes_and_jittered() -> None:
    for processes in (1, 4):
        bench = Bench([Script() for _ in range(400)], processes=processes)
        bench.run(60.0)
        took_s = bench.dials_s[-1] - bench.dials_s[0]
        assert 399 / 50 * 0.98 <= took_s <= 400 / 50 * (1 + JITTER) * 1.05
        pauses = {round(b - a, 6) for a, b in pairwise(bench.dials_s)}
        assert len(pauses) > 100


def test_a_ban_ends_a_host_wherever_it_is_and_its_return_is_dialled_at_once() -> None:
    """As one that has become another name of a host: ingest.fleet forbids either."""
    bench = Bench([Script(down=((30.0 * n, 30.0 * n + 20.0),)) for n in range(200)])
    bench.run(1.0)
    for host in bench.hosts:
        bench.tell(host, Signal.FORBIDDEN)
    bench.run(7_200.0)
    assert bench.states() == {"banned": 200}
    assert bench.connected == 0
    before = len(bench.dials_s)
    assert before <= 60, "banned hosts were dialled"
    assert all(process.dials.under_way == 0 for process in bench.processes)
    for host in bench.hosts:
        bench.begin_again(host)
    bench.run(7_200.0 + 10.0)
    assert bench.connected == 200


def test_in_an_outage_a_few_ask_for_all_and_hosts_gone_for_good_do_not_make_one() -> None:
    fates = Fates()
    for host in range(100):
        fates.know(host, 0.0)
    for host in range(100, 400):
        assert fates.lost(host, 50.0) > 1e9, "never heard of: says nothing"
    often = [host for host in range(49) if fates.lost(host, 100.0 + host) <= 120.0]
    assert often == [], "less than half, by the last count"
    often = [host for host in range(100) if fates.lost(host, 300.0 + host) <= 120.0]
    assert len(often) == PROBES
    called = fates.back(often[0], 5_000.0)
    assert set(range(100)) - {often[0]} <= set(called)
    assert fates.back(often[1], 5_000.0 + CALL_AGAIN_S / 2) == [], "called for a moment ago"


def test_a_host_that_was_never_heard_of_asks_for_nobody_in_an_outage() -> None:
    fates = Fates()
    for host in range(4):
        fates.know(host, 0.0)
        fates.lost(host, 0.0)
    assert fates.lost(99, 20.0) == inf
    assert fates.lost(0, 20.0) == PROBE_S
