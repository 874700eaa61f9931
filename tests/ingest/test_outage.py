"""Who goes first when the directory is back?"""

from __future__ import annotations

from ingest.outage import Outage


def test_the_oldest_go_first_however_they_came() -> None:
    outage = Outage()
    for age in (5, 1, 4, 2, 3):
        outage.hold(f"did:plc:{age}", 0, age)
    assert len(outage) == 5
    assert outage.release() == ["did:plc:1", "did:plc:2"]
    assert "did:plc:1" not in outage
    assert outage.release(3) == ["did:plc:3", "did:plc:4", "did:plc:5"]
    assert outage.release() == []
    assert len(outage) == 0


def test_who_was_tried_in_vain_comes_after_all_who_were_not() -> None:
    outage = Outage()
    outage.hold("did:plc:poison", 0, 1)
    outage.hold("did:plc:a", 0, 2)
    outage.hold("did:plc:b", 0, 3)
    assert outage.release(1) == ["did:plc:poison"]
    outage.hold("did:plc:poison", 1, 1)
    assert outage.release(3) == ["did:plc:a", "did:plc:b", "did:plc:poison"]


def test_who_is_held_twice_goes_once_and_who_is_withdrawn_not_at_all() -> None:
    outage = Outage()
    for _ in range(2):
        outage.hold("did:plc:a", 0, 1)
        outage.hold("did:plc:b", 0, 2)
    outage.forget("did:plc:a")
    outage.forget("did:plc:a")
    assert outage.release(5) == ["did:plc:b"]


def test_what_is_withdrawn_takes_no_room() -> None:
    outage = Outage()
    for number in range(10_000):
        outage.hold(f"did:plc:{number}", 0, number)
        if number >= 10:
            outage.forget(f"did:plc:{number}")
    assert len(outage) == 10
    assert len(outage._order) < 200
    assert outage.release(20) == [f"did:plc:{number}" for number in range(10)]
