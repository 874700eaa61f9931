"""broadcast.crowd: nobody has more places than one may have, and nobody is remembered without one."""

from __future__ import annotations

from random import Random

from broadcast.crowd import Crowd


def test_one_has_so_many_places_and_others_have_theirs() -> None:
    crowd = Crowd(2)
    assert [crowd.enter("a") for _ in range(3)] == [True, True, False]
    assert crowd.enter("b")
    crowd.leave("a")
    assert [crowd.enter("a") for _ in range(2)] == [True, False]


def test_nobody_in_particular_always_has_room() -> None:
    crowd = Crowd(1)
    assert all(crowd.enter(None) for _ in range(9))
    crowd.leave(None)
    assert not crowd


def test_who_has_gone_is_forgotten() -> None:
    random, crowd, held = Random(1), Crowd(3), list[str]()
    for _ in range(10_000):
        who = str(random.randrange(50))
        if random.random() < 0.5 and crowd.enter(who):
            held.append(who)
        elif held:
            crowd.leave(held.pop(random.randrange(len(held))))
        assert max(map(held.count, held), default=0) <= 3
    for who in held:
        crowd.leave(who)
    assert not crowd
