"""Is everything that the operator wants said, once, a little at a time?"""

from __future__ import annotations

from common.control import LOOK_S
from persist.checkpoint import KnownHost
from persist.local import Word
from persist.quotas import HostCount, Quotas
from persist.wishes import (
    ORDERS_A_TURN,
    RELEASE_AGAIN_S,
    RELEASED_AT_ONCE,
    Look,
    Order,
    Room,
    Wanted,
    Wishes,
)


def host(number: int, limit: int) -> KnownHost:
    return KnownHost(number, f"{number}.test", True, "active", limit, False, "enforce")


def wishes(*hosts: KnownHost, over: int = 0) -> Wishes:
    quotas = Quotas()
    quotas.begin(HostCount(each.id, over, over) for each in hosts)
    found = Wishes(quotas)
    found.know(list(hosts), [])
    return found


def test_it_looks_so_often_and_tells_what_it_knows() -> None:
    found = wishes()
    assert found.ask(0.0, 0, busy=False) == Look(None, [])
    # One question at a time.
    assert found.ask(9.0, 0, busy=False) is None
    found.heard(Wanted(7, [], [], []))
    assert found.ask(LOOK_S / 2, 0, busy=False) is None
    assert found.ask(LOOK_S, 0, busy=False) == Look(7, [])


def test_what_the_view_does_not_have_yet_is_asked_for_by_name() -> None:
    found = wishes()
    found.said(["a"], 5)
    found.said(["b"], 6)
    assert found.ask(0.0, 0, busy=False) == Look(None, ["a", "b"])
    found.heard(Wanted(7))
    found.applied(5)
    assert found.ask(1.0, 0, busy=False) == Look(7, ["b"])


def test_orders_come_a_few_at_a_time_and_no_look_begins_before_all_are_obeyed() -> None:
    found = wishes()
    assert found.ask(0.0, 0, busy=False)
    many = [(f"did:{n}", n % 2 == 0) for n in range(2 * ORDERS_A_TURN + 1)]
    found.heard(Wanted(7, [], [], many))
    taken = []
    for expected in (ORDERS_A_TURN, ORDERS_A_TURN, 1):
        assert found.waiting
        assert found.settled(busy=False) is None
        assert found.ask(9.0, 0, busy=False) is None
        taken.append(found.take())
        assert len(taken[-1]) == expected
    orders = [order for part in taken for order in part]
    assert orders == [
        Order(did, Word.TAKE_DOWN if down else Word.REVERSE) for did, down in many
    ]  # fmt: skip
    # Some wait for their account.
    assert found.settled(busy=True) is None
    assert found.ask(9.0, 0, busy=True) is None
    assert found.settled(busy=False) == 7
    assert found.settled(busy=False) is None
    assert found.ask(9.0, 0, busy=False) == Look(7, [])


def test_room_is_given_in_turn_with_the_looks_and_so_many_at_once() -> None:
    found = wishes(host(1, 3), host(2, 10**6), over=1_999)
    assert found.ask(0.0, 0, busy=False) == Look(None, [])
    found.heard(Wanted(7))
    assert found.ask(0.0, 0, busy=False) == Room([(1, 3), (2, RELEASED_AT_ONCE - 3)])
    found.found(["a", "b"])
    assert found.take() == [Order("a", Word.RELEASE), Order("b", Word.RELEASE)]
    found.released(44)
    # A look in between; and the view has to have what was said.
    assert found.ask(9.0, 43, busy=False) == Look(7, [])
    found.heard(Wanted(7))
    assert found.ask(9.0, 43, busy=False) is None
    assert isinstance(found.ask(9.0, 44, busy=False), Room)


def test_a_view_that_does_not_have_them_yet_is_asked_again_later() -> None:
    found = wishes(host(1, 3), over=1)
    assert found.ask(0.0, 0, busy=False)
    found.heard(Wanted(7))
    assert isinstance(found.ask(0.0, 0, busy=False), Room)
    found.found([])
    assert isinstance(found.ask(LOOK_S, 0, busy=False), Look)
    found.heard(Wanted(7))
    assert found.ask(LOOK_S, 0, busy=False) is None
    assert isinstance(found.ask(RELEASE_AGAIN_S, 0, busy=False), Room)
