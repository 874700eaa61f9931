"""100 frames of the real network with their DID documents: decoded, verified, and judged."""

from __future__ import annotations

import random
from urllib.parse import urlsplit

import cbor2
import orjson

from common.commit_payload import read_fast
from common.envelope import NEVER_SEEN
from common.event import Event, decode
from common.frame import COMMIT_HEADER
from common.verdict import Drop, DropReason
from ingest.did_document import Identity, parse_document
from ingest.judge import Accept, NeedFreshIdentity, Source, judge
from tests.interop.vectors import needs_network, network_documents, network_frames

NOW_S = 1_790_000_000.0


def identity_of(did: str) -> Identity:
    known = parse_document(orjson.dumps(network_documents()[did]), did, allow_insecure=False)
    assert isinstance(known, Identity)
    return known


def judged(raw: bytes) -> object:
    event = decode(raw)
    if not isinstance(event, Event) or event.did not in network_documents():
        return event
    identity = identity_of(event.did)
    return judge(
        event, identity, NEVER_SEEN, Source(1, identity.host), now_s=NOW_S, fresh=True, asked=True
    )


@needs_network
def test_every_real_frame_takes_the_fast_way_and_is_accepted() -> None:
    assert len(network_frames()) == 100
    for raw in network_frames():
        assert read_fast(raw, len(COMMIT_HEADER)) is not None
        event = decode(raw)
        assert isinstance(event, Event)
        body = cbor2.loads(raw[len(COMMIT_HEADER) :])
        assert (event.did, event.rev, event.seq) == (body["repo"], body["rev"], body["seq"])
        assert cbor2.loads(raw[event.seq_start : event.seq_end]) == event.seq
        assert event.blocks == body["blocks"]
        verdict = judged(raw)
        assert isinstance(verdict, Accept), verdict
        assert verdict.after.rev == event.rev
        assert verdict.after.commit == event.commit


@needs_network
def test_a_documents_endpoint_is_its_host() -> None:
    for did, document in network_documents().items():
        endpoint = document["service"][0]["serviceEndpoint"]
        assert identity_of(did).host == urlsplit(endpoint).hostname


@needs_network
def test_a_flipped_bit_never_gets_through_where_it_is_signed() -> None:
    rng = random.Random(7)
    for raw in network_frames():
        event = decode(raw)
        assert isinstance(event, Event)
        start = raw.index(event.blocks)
        for _ in range(20):
            damaged = bytearray(raw)
            damaged[rng.randrange(start, start + len(event.blocks))] ^= 1 << rng.randrange(8)
            verdict = judged(bytes(damaged))
            assert isinstance(verdict, Drop), verdict


@needs_network
def test_a_flipped_bit_anywhere_gives_a_verdict_and_nothing_else() -> None:
    rng = random.Random(8)
    for raw in network_frames():
        for _ in range(20):
            damaged = bytearray(raw)
            damaged[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            verdict = judged(bytes(damaged))
            assert isinstance(verdict, Accept | Drop | Event | NeedFreshIdentity)


@needs_network
def test_anothers_key_verifies_nothing() -> None:
    frames = network_frames()
    for raw, other in zip(frames, frames[1:] + frames[:1], strict=True):
        event, stranger = decode(raw), decode(other)
        assert isinstance(event, Event)
        assert isinstance(stranger, Event)
        identity = identity_of(event.did)._replace(key=identity_of(stranger.did).key)
        source = Source(1, identity.host)
        verdict = judge(event, identity, NEVER_SEEN, source, now_s=NOW_S, fresh=True, asked=True)
        if event.did != stranger.did:
            assert isinstance(verdict, Drop)
            assert verdict.reason is DropReason.SIGNATURE_INVALID
