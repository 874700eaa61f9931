"""Do 100 frames of the real network come out of a whole relay as they came, but for their seq?"""

from __future__ import annotations

import copy
from typing import Any

import cbor2
import pytest

from tests.interop.vectors import needs_network, network_documents, network_frames
from tests.pipeline.house import FLOW_S, STORY_S
from tests.relay import Relay
from tests.simnet import Consumer
from tests.simnet.host import Host
from tests.simnet.plc import Directory
from tests.simnet.truth import open_frame


def with_seq(raw: bytes, seq: int) -> bytes:
    """The frame with another number, and not a byte changed beside it."""
    old = b"\x63seq" + cbor2.dumps(open_frame(raw)[1]["seq"])
    assert raw.count(old) == 1
    return raw.replace(old, b"\x63seq" + cbor2.dumps(seq))


@needs_network
def test_the_real_frames_come_out_identical_but_for_their_seq(
    loop_run: Any, request: pytest.FixtureRequest
) -> None:
    async def story() -> None:
        directory, host = Directory(), Host(0, lambda _did: None)
        await directory.start()
        await host.start()
        try:
            for did, document in network_documents().items():
                # The accounts' host is the one on loopback; their keys stay what they are.
                here = copy.deepcopy(document)
                here["service"][0]["serviceEndpoint"] = host.url
                directory.documents[did] = here
            for number, raw in enumerate(network_frames(), 1):
                host.append(with_seq(raw, number))
            relay = Relay(
                plc_url=directory.url,
                hosts=[host.url],
                environ={"STANDPIPE_EVENT_LOOP": request.node.callspec.params["loop_run"]},
            )
            async with relay, Consumer(relay.stream_url) as consumer:
                await consumer.wait_count(100, FLOW_S)
                frames = consumer.frames
        finally:
            await host.close()
            await directory.close()
        assert [open_frame(frame)[1]["seq"] for frame in frames] == list(range(1, 101))
        came = sorted(with_seq(raw, 0) for raw in network_frames())
        assert sorted(with_seq(frame, 0) for frame in frames) == came

    loop_run(story(), STORY_S)
