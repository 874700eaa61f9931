"""What becomes of a real frame with one damage? Exactly the reason that the damage deserves.

Each of 100 frames of the real network, each damaged in every one of the ways of
tests.ingest.damages. `None` passes, as it must.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson
import pytest

from common.envelope import AccountState, Mark
from common.event import Event, decode
from common.verdict import Drop
from common.verdict import DropReason as R
from ingest.did_document import Identity, parse_document
from ingest.judge import Accept, Source, judge
from tests.ingest.damages import DAMAGES, NOW_S, OTHER, Expected
from tests.ingest.dissected import Dissected, cid, real_frames
from tests.interop.vectors import needs_network, network_documents

pytestmark = needs_network

HOST: Final = 3


class Stand(NamedTuple):
    """What the relay knows when the frame comes."""

    identity: Identity
    state: AccountState
    source: Source


def stand_of(of: Dissected) -> Stand:
    """The account as the frame finds it: the state before, the right host, the right key."""
    did = of.body["repo"]
    identity = parse_document(orjson.dumps(network_documents()[did]), did, allow_insecure=False)
    assert isinstance(identity, Identity)
    before = cid(of.body["prevData"])
    state = AccountState(of.body["since"], before, OTHER, True, None, HOST)
    return Stand(identity, state, Source(HOST, identity.host))


def verdict_of(raw: bytes, stand: Stand) -> Expected:
    """Decoder and judge: the reason; or how it passes."""
    event = decode(raw)
    if isinstance(event, Drop):
        return event.reason
    assert isinstance(event, Event)
    found = judge(event, *stand, now_s=NOW_S, fresh=True, asked=True)
    if isinstance(found, Drop):
        return found.reason
    assert isinstance(found, Accept), found
    return Mark(found.marks) or None


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_to_a_real_frame_has_its_reason(name: str) -> None:
    damage = DAMAGES[name]
    damaged = 0
    for number, raw in enumerate(real_frames()):
        of = Dissected(raw)
        if not damage.applies(of):
            continue
        stand = stand_of(of)
        expected = damage.expected(of) if callable(damage.expected) else damage.expected
        damage.change(of)
        changed = of.frame()
        assert (changed == raw) is (name == "nothing"), "it changed nothing"
        assert verdict_of(changed, stand) == expected, f"frame {number}"
        damaged += 1
    assert damaged >= 1


def test_what_the_relay_knows_decides_too() -> None:
    for raw in real_frames():
        of = Dissected(raw)
        identity, state, source = stand_of(of)
        stands = {
            R.SIGNATURE_INVALID: Stand(
                identity._replace(key=key_of_another(identity.did)), state, source
            ),
            R.HOST_NOT_AUTHORITATIVE: Stand(identity, state, Source(9, "other.example.com")),
            R.ACCOUNT_INACTIVE: Stand(identity, state._replace(active=False), source),
            R.REV_NOT_NEWER: Stand(identity, state._replace(rev=of.body["rev"]), source),
            Mark.DISCONTINUOUS: Stand(identity, state._replace(data=OTHER), source),
            None: Stand(identity, state._replace(rev=None, data=None, commit=None), source),
        }
        for expected, stand in stands.items():
            assert verdict_of(raw, stand) == expected


def key_of_another(did: str) -> Any:
    other = next(name for name in network_documents() if name != did)
    document = orjson.dumps(network_documents()[other])
    identity = parse_document(document, other, allow_insecure=False)
    assert isinstance(identity, Identity)
    return identity.key


def test_there_are_as_many_kinds_as_were_asked_for() -> None:
    assert len(DAMAGES) >= 100
    frames = [Dissected(raw) for raw in real_frames()]
    of_all = [damage for damage in DAMAGES.values() if all(map(damage.applies, frames))]
    assert len(frames) == 100
    assert sum(isinstance(damage.expected, R) for damage in of_all) >= 70, "every frame has them"
    assert sum(damage.expected is None for damage in DAMAGES.values()) >= 10
