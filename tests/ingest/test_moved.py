"""Hosts that come from another process are dialled before the others, and faster: they wait for us alone."""

from __future__ import annotations

from random import Random

from ingest.dials import JITTER, MOVED_FASTER, Dials, Urgency

A_SECOND = 50.0
PROCESSES = 4


def dialled(dials: Dials, hosts: int) -> tuple[list[int], float]:
    """All of them, in their order, and how long that took: who is allowed is connected at once."""
    now_s = 0.0
    order: list[int] = []
    while len(order) < hosts:
        due_s = dials.due_s()
        assert due_s is not None
        now_s = max(now_s, due_s)
        host = dials.take(now_s, PROCESSES)
        assert host is not None
        dials.leave(host)
        order.append(host)
    return order, now_s


def test_the_hosts_of_eight_shards_of_the_whole_network_are_dialled_within_two_seconds() -> None:
    dials = Dials(A_SECOND, Random(1))
    hosts = 8 * 2800 // 64
    for host in range(hosts):
        dials.ask(host, Urgency.MOVED, size=host)
    order, took_s = dialled(dials, hosts)
    assert order == list(range(hosts))[::-1], "the largest first"
    fastest_s = hosts / (A_SECOND * MOVED_FASTER)
    assert 0.9 * fastest_s < took_s < (1 + JITTER) * fastest_s < 2.5


def test_they_come_before_those_who_were_never_dialled_and_behind_those_asked_for() -> None:
    dials = Dials(A_SECOND, Random(1))
    dials.ask(1, Urgency.AGAIN)
    dials.ask(2, Urgency.FIRST, size=9)
    dials.ask(3, Urgency.MOVED, size=1)
    dials.ask(4, Urgency.ASKED)
    assert dialled(dials, 4)[0] == [4, 3, 2, 1]


def test_the_others_keep_to_the_rate_of_all_processes() -> None:
    dials = Dials(A_SECOND, Random(1))
    for host in range(100):
        dials.ask(host, Urgency.FIRST)
    assert dialled(dials, 100)[1] > 99 * PROCESSES / A_SECOND
