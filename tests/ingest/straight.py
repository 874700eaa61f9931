"""How does one account's word go straight through decoder, judge and pipeline? Without sockets.

Whatever is asked is answered at once from the account's own document; what is judged is logged.
"""

from __future__ import annotations

import random
import time
from typing import Any, Final

import orjson

from common.envelope import Judged
from common.verdict import DropReason
from ingest.account import Feed
from ingest.config import Limits
from ingest.did_document import NotFound, parse_document
from ingest.judge import Source as Speaker
from ingest.pipeline import Pipeline
from tests.simnet.account import Account, plc_did
from tests.simnet.clock import Clock
from tests.simnet.events import Event
from tests.simnet.keys import Curve
from tests.simnet.source import Source

HOST: Final = Speaker(1, "pds.example.com")
STEP_S: Final = 60.0
"""How far the clock is turned at each event: nothing is ever said too often."""


def worldly(name: str, curve: Curve = Curve.K256, start_us: int | None = None) -> Source:
    """An account whose tree holds the world and a little more, and all that a liar needs.

    start_us: where its clock starts, so that two runs say the same; None is now.
    """
    clock, rng = Clock(start_us), random.Random(name)
    account = Account(plc_did(name), "liar.test", curve, clock, name, 0)
    source = Source(account, rng, clock)
    source.settle()
    return source


class Straight:
    """Ingest for one account.

    sent: what was passed on. drops: why other events were not. broken: messages that would have
    ended the connection.
    """

    def __init__(self, account: Account, *others: Account, **limits: Any) -> None:
        """Args: others: accounts of the same host that may be heard of, too."""
        self.account = account
        self._accounts = {one.did: one for one in (account, *others)}
        self.sent: list[Judged] = []
        self.drops: list[DropReason] = []
        self.broken: list[DropReason] = []
        self.feed = Feed(HOST, 1, 5, 0)
        self.seq = 0
        self.now_s = time.time()
        self._asked: list[str] = []
        self._inquired: list[tuple[str, int]] = []
        self._told = 0
        self.pipeline = Pipeline(
            Limits(**limits),
            ask=lambda did, *_: self._asked.append(did),
            ask_status=lambda did, host: self._inquired.append((did, host)),
            wake_after=lambda _seconds: None,
            send=lambda judged, _raw: self.sent.append(judged),
            may_give_up=lambda _did, _now_s: True,
            on_drop=lambda _feed, drop, *_: self.drops.append(drop.reason),
        )

    def hear(self, event: Event) -> DropReason | None:
        """One event to its end; why it was dropped, if it was."""
        self.seq += 1
        return self.hear_raw(event.frame(self.seq))

    def hear_raw(self, raw: bytes) -> DropReason | None:
        """One message to its end."""
        before = len(self.sent), len(self.drops)
        self.now_s += STEP_S
        now_s = self.now_s
        broken = self.pipeline.take(self.feed, raw, now_s)
        assert broken is None, broken
        for did in iter(lambda: self._asked.pop() if self._asked else None, None):
            self._answer(did)
        for _ in range(100):
            if self.pipeline.has_more:
                self.pipeline.judge_more(now_s)
        self.pipeline.logged([judged.position for judged in self.sent[self._told :]], now_s)
        self._told = len(self.sent)
        assert self.pipeline.held == self.pipeline.in_flight == self.pipeline.unfinished_bytes == 0
        ended = len(self.sent) - before[0], len(self.drops) - before[1]
        assert sum(ended) == 1, f"an event ended {ended} times"
        return self.drops[-1] if ended[1] else None

    def _answer(self, did: str) -> None:
        now_s = self.now_s
        known: Any = NotFound("nobody knows it")
        if did in self._accounts:
            document = self._accounts[did].document(f"https://{HOST.hostname}")
            known = parse_document(orjson.dumps(document), did, allow_insecure=False)
        self.pipeline.resolved(did, known, now_s, now_s)
