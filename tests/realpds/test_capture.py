"""Does what real PDSes said come out of a whole relay, and only what must not is dropped?"""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from typing import Any, Final

import cbor2
import pytest
from websockets.asyncio.client import connect

from common.verdict import DropReason
from tests.realpds.replay import Replay, Said, deserved_drops, operations
from tests.relay import Relay

SETTLE_S: Final = 120.0
"""How long the relay may take for what was said since the last change of a document, seconds."""


def permitted_drops(frames: list[Said]) -> dict[tuple[int, int], str]:
    """(host, upstream seq) → why this frame must not come out."""
    drops = {}
    for operation in operations():
        if operation["op"] == "migrate":
            did, old, new = operation["did"], operation["from"], operation["to"]
            for said in frames:
                if said.did != did:
                    continue
                if (
                    said.host == new
                    and said.kind == "#sync"
                    and said.payload["rev"] == operation["rev"]
                ):
                    # The imported head is not signed again: the old host's key, an inner rev of old.
                    drops[said.host, said.seq] = "the sync after a migration"
                if said.host == old and said.kind == "#account" and not said.payload["active"]:
                    drops[said.host, said.seq] = "the old host after a migration"
    return drops


def without_seq(raw: bytes) -> tuple[str, dict[str, Any]]:
    """Header type and payload of a frame, `seq` taken out."""
    decoder = cbor2.CBORDecoder(io.BytesIO(raw))
    header, payload = decoder.decode(), decoder.decode()
    del payload["seq"]
    return header["t"], payload


async def relayed(event_loop: str) -> tuple[list[Said], list[bytes], dict[str, float]]:
    """Run the capture through a relay: what was said, what came out, ingest's numbers."""
    async with Replay() as replay:
        drops = permitted_drops(replay.frames)
        relay = Relay(
            plc_url=replay.plc_url,
            hosts=replay.host_urls,
            environ={"STANDPIPE_INGEST_PROCESSES": "1", "STANDPIPE_EVENT_LOOP": event_loop},
        )
        async with relay:
            received: list[bytes] = []
            grown = asyncio.Condition()

            async def consume() -> None:
                async with connect(f"{relay.stream_url}?cursor=0", max_size=None) as socket:
                    async for message in socket:
                        assert isinstance(message, bytes)
                        async with grown:
                            received.append(message)
                            grown.notify_all()

            async def settled(said_so_far: int) -> None:
                wanted = sum(
                    (said.host, said.seq) not in drops for said in replay.frames[:said_so_far]
                )
                async with asyncio.timeout(SETTLE_S), grown:
                    await grown.wait_for(lambda: len(received) >= wanted)

            consumer = asyncio.create_task(consume())
            try:
                await replay.play(settled)
            finally:
                consumer.cancel()
                await asyncio.gather(consumer, return_exceptions=True)
            numbers = await asyncio.to_thread(relay.metrics, "ingest-0")
        return replay.frames, received, numbers


def test_what_real_hosts_said_comes_out_unchanged(
    loop_run: Any, request: pytest.FixtureRequest
) -> None:
    frames, received, numbers = loop_run(relayed(request.node.callspec.params["loop_run"]))
    drops = permitted_drops(frames)
    assert Counter(drops.values()) == {
        "the sync after a migration": 1,
        "the old host after a migration": 2,
    }
    wanted: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for said in frames:
        if (said.host, said.seq) not in drops:
            wanted.setdefault(said.did, []).append(without_seq(said.raw))
    got: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for raw in received:
        kind, payload = without_seq(raw)
        got.setdefault(payload.get("repo") or payload["did"], []).append((kind, payload))
    assert got == wanted
    dropped = {
        reason: count
        for reason in DropReason
        if (count := numbers[f'standpipe_dropped_total{{reason="{reason}"}}'])
    }
    assert dropped == {DropReason.SYNC_NOT_RESIGNED: 1, DropReason.HOST_NOT_AUTHORITATIVE: 2}
    assert dropped == deserved_drops(operations())
