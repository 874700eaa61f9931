"""Does the relay's judge say of each event what the ledger expects? Both written apart.

No sockets: what each host says goes straight through the decoder and the judge, at the moment
at which it is said, with the DID document of that moment.
"""

from __future__ import annotations

import json
import time

import pytest

from common.envelope import NEVER_SEEN, AccountState
from common.event import Event as ReadEvent
from common.event import decode
from common.verdict import Drop, DropReason
from ingest.did_document import Broken, Identity, NotFound, parse_document
from ingest.judge import Accept, Source, judge
from tests.fix_loop import LoopRun
from tests.simnet import Network, NetworkConfig
from tests.simnet.config import DEFAULT_MIX
from tests.simnet.events import Event
from tests.simnet.invalid import BAD_MESSAGES, INVALID


class Judged(Network):
    """A network whose events are judged as they are said."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.disagreements: list[tuple[str, DropReason | None, DropReason | None]] = []
        self._states: dict[str, AccountState] = {}

    def say(self, host: int, event: Event, drop: DropReason | None = None, name: str = "") -> None:
        """Say it, and hold the verdict against the expectation."""
        super().say(host, event, drop, name)
        verdict = self._verdict(host, event)
        if verdict != drop:
            self.disagreements.append((name or event.kind, drop, verdict))

    def _verdict(self, host: int, event: Event) -> DropReason | None:
        decoded = decode(event.frame(self.hosts[host].head_seq))
        if isinstance(decoded, Drop):
            return decoded.reason
        assert isinstance(decoded, ReadEvent)
        verdict = judge(
            decoded,
            self._identity(decoded.did),
            self._states.get(decoded.did, NEVER_SEEN),
            Source(host + 1, self.hosts[host].name),
            now_s=time.time(),
            fresh=True,
            asked=True,
        )
        if isinstance(verdict, Accept):
            self._states[decoded.did] = verdict.after
            return None
        assert isinstance(verdict, Drop)
        return verdict.reason

    def _identity(self, did: str) -> Identity | Broken | NotFound:
        document = self.plc.documents.get(did)
        for host in self.hosts:
            if did.endswith(f"%3A{host.port}"):
                document = host.did_document
        if document is None:
            return NotFound("nobody knows it")
        known = parse_document(json.dumps(document).encode(), did, allow_insecure=True)
        assert known is not None
        return known


def test_judge_and_ledger_agree_on_every_event(loop_run: LoopRun) -> None:
    async def story() -> None:
        config = NetworkConfig(
            hosts=3,
            accounts=20,
            records=50,
            settle_s=0.02,
            pause_s=0.02,
            web_accounts=True,
            legacy_share=0.3,
            invalid_share=0.4,
            invalid=tuple(INVALID),
            mix=dict.fromkeys(DEFAULT_MIX, 1.0),
        )
        async with Judged(config) as network:
            await network.run(400, 2)
            # A slow machine says less in that time.
            for name in INVALID:
                network.say_invalid(name)
            assert network.disagreements == []
            assert {entry.name for entry in network.truth.invalid} >= set(INVALID)
            assert sum(1 for _ in network.truth.valid) > 100

    loop_run(story())


@pytest.mark.parametrize("name", [name for name in BAD_MESSAGES if name != "text_frame"])
def test_decoder_drops_each_bad_message_for_its_reason(name: str, loop_run: LoopRun) -> None:
    async def story() -> None:
        async with Network(NetworkConfig(hosts=1, accounts=1, records=5)) as network:
            reason = network.say_bad_message(name, 0)
            message = network.hosts[0].messages[-1]
            assert isinstance(message, bytes)
            decoded = decode(message)
            assert isinstance(decoded, Drop)
            assert decoded.reason is reason

    loop_run(story())
